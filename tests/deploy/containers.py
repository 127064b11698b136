"""Images and containers without a Docker engine: buildah builds, podman runs, each with a storage of this run's own.

    mmdebstrap ──► base.tar (kept in the user's cache) ──► localhost/base ──buildah bud──► localhost/hakuna-processor

Owned by the session fixtures in `conftest.py`. Needs root and what TOOLS lists, from apt; `Unavailable`
says what is missing. Containers share the host's network: a machine of CI need not be able to make another.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.children import REPOSITORY, ChildProcess, Unavailable, own_directory, wait_until
from tests.support.jars import cached

TOOLS = ("buildah", "podman", "runc", "catatonit", "mmdebstrap")
BASE = "localhost/base"
IMAGE = "localhost/hakuna-processor"
PACKAGES = ("python3-minimal", "python3-venv", "python3-pip", "ca-certificates", "openjdk-17-jre-headless")
"""Of a Debian that can make the environment: what `python:3.11-slim-bookworm` has too. Java is for Kafka's image
(`kafka_image.py`): one base for both is fetched once, and the other image counts what it has beyond its base."""
NETWORK_TOOLS = ("/usr/lib/cni/bridge", "/usr/sbin/iptables")
"""What gives a container an address of its own and a port on the host."""
CERTIFICATES = "/etc/ssl/certs"

COMMAND_SECONDS_MAX = 120.0
BUILD_SECONDS_MAX = 400.0  # a base is some 250 MB to fetch and unpack; half a minute on an idle machine

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""


class Engine:
    """`with engine() as it:` and then `it.podman(…)`, `it.buildah(…)`; all of it is gone afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "containers.conf").write_text(CONTAINERS_CONF)
        # vfs copies the whole image for each container: some seconds and 350 MB each, where overlay takes neither.
        driver = "overlay" if _overlay_mounts(directory) else "vfs"
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
        )
        self._env = os.environ | {
            "CONTAINERS_CONF": str(directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        }

    def podman(self, *arguments: str, timeout_s: float = COMMAND_SECONDS_MAX) -> str:
        return self._run(["podman", *arguments], timeout_s)

    def buildah(self, *arguments: str, timeout_s: float = COMMAND_SECONDS_MAX) -> str:
        return self._run(["buildah", *arguments], timeout_s)

    def _run(self, command: Sequence[str], timeout_s: float) -> str:
        """Standard output; raises AssertionError with all that was said where the command fails."""
        done = subprocess.run(
            command,
            env=self._env,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, (
            f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout.strip()

    def imported(self, tar: Path, name: str) -> None:
        """An image of one layer from an archive of a root file system."""
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(tar), timeout_s=BUILD_SECONDS_MAX)
        self.buildah("commit", "--quiet", container, name, timeout_s=BUILD_SECONDS_MAX)
        self.buildah("rm", container)

    def built(self, dockerfile: Path, name: str, arguments: Mapping[str, str], context: Path = REPOSITORY) -> None:
        given = [part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")]
        # The machine's own certificates: its way to a package index may need them.
        volume = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        self.buildah(
            "bud",
            "--isolation=chroot",
            "--pull=never",
            "--layers=false",
            *given,
            *volume,
            "-f",
            str(dockerfile),
            "-t",
            name,
            str(context),
            timeout_s=BUILD_SECONDS_MAX,
        )

    @contextmanager
    def container(self, name: str, *arguments: str) -> Iterator[str]:
        """A container that runs in the background for as long as the context lasts; its name."""
        self.podman("run", "--detach", "--name", name, "--network=host", *arguments)
        try:
            yield name
        finally:
            self.podman("rm", "--force", "--time=1", name)

    @contextmanager
    def docker_socket(self) -> Iterator[str]:
        """Docker's own API on a Unix socket, for Docker's clients; its URL. Raises Unavailable."""
        missing = [tool for tool in NETWORK_TOOLS if not Path(tool).exists()]
        if missing:
            raise Unavailable(f"no {', '.join(missing)}: apt install containernetworking-plugins iptables")
        url = f"unix://{self.directory}/docker.sock"
        child = ChildProcess(
            ["podman", "system", "service", "--time=0", url], log=self.directory / "service.log", env=self._env
        )
        try:
            wait_until((self.directory / "docker.sock").exists, what="podman's Docker API", timeout_s=30, child=child)
            yield url
        finally:
            child.kill()

    def logs(self, name: str) -> str:
        """All that the container has said, on either stream."""
        done = subprocess.run(
            ["podman", "logs", name], env=self._env, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout + done.stderr


@contextmanager
def engine() -> Iterator[Engine]:
    """Raises Unavailable where this machine cannot run containers."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise Unavailable(f"no {', '.join(missing)}: apt install {' '.join(TOOLS)}")
    if os.geteuid() != 0:
        raise Unavailable("containers are made by root here; another user would need subordinate IDs")
    with own_directory("containers") as directory:
        it = Engine(directory)
        try:
            yield it
        finally:
            it.podman("pod", "rm", "--all", "--force", "--time=1")
            it.podman("rm", "--all", "--force", "--time=1")
            it.podman("rmi", "--all", "--force")


def base_tar() -> Path:
    """A Debian with Python, as an archive; fetched once. Raises Unavailable."""
    wanted = ",".join(PACKAGES)

    def fetch(into: Path) -> None:
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={wanted}", "bookworm", str(into / "base.tar")],
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_SECONDS_MAX,
        )
        if done.returncode != 0:
            raise Unavailable(f"no Debian to be had: {done.stderr[-500:]}")

    return cached(f"debian-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}", fetch) / "base.tar"


def _overlay_mounts(directory: Path) -> bool:
    """Whether this kernel and file system let an overlay be mounted."""
    parts = {name: directory / "probe" / name for name in ("lower", "upper", "work", "mount")}
    for part in parts.values():
        part.mkdir(parents=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["mount"])]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return False
    subprocess.run(["umount", str(parts["mount"])], capture_output=True, check=True)
    return True

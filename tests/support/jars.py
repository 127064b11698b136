"""The jars of Kafka and of the schema registry, fetched once by Maven and kept in the user's cache directory.

Invariants: a directory that has its final name is whole (it is filled under another name and then renamed),
and only one process fetches at a time (a file lock), so that runs side by side share one download.
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.support.children import Unavailable

JAVA_VERSION_MIN = 17
FETCH_SECONDS_MAX = 600  # a stalled download must not eat CI's whole budget

REGISTRY_ARTIFACT = "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"  # 3.3 needs Java 21
KAFKA_VERSION = "4.3.1"
KAFKA_POM = Path(__file__).parent.parent / "kafka-pom" / "pom.xml"


def java() -> str:
    """The path of a Java that is new enough. Raises Unavailable."""
    return _java()[0]


def java_version() -> str:
    """What that Java says of itself. Raises Unavailable."""
    return _java()[1]


@functools.cache
def _java() -> tuple[str, str]:
    path = shutil.which("java")
    if path is None:
        raise Unavailable(f"no Java: install a JRE, version {JAVA_VERSION_MIN} or later")
    answer = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', answer)
    if version is None or int(version[1]) < JAVA_VERSION_MIN:
        raise Unavailable(f"Java {JAVA_VERSION_MIN} or later is needed, {path} says: {answer.strip()}")
    return path, answer


def kafka_class_path(version: str = KAFKA_VERSION) -> str:
    """What `java -cp` takes to run Kafka. Raises Unavailable."""
    described = KAFKA_POM.read_text()
    assert described.count(KAFKA_VERSION) == 1, "the version that stands in the pom"
    return _class_path("kafka", described.replace(KAFKA_VERSION, version))


def class_path(name: str, described: Path) -> str:
    """What `java -cp` takes for the jars that a pom names. Raises Unavailable."""
    return _class_path(name, described.read_text())


def _class_path(name: str, described: str) -> str:
    digest = hashlib.sha256(described.encode()).hexdigest()[:12]

    def fetch(into: Path) -> None:
        # Maven writes beside its pom, so it gets a copy: a checkout may be read-only or shared.
        pom = into / "pom.xml"
        pom.write_text(described)
        _maven(["-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={into}", "-DincludeScope=runtime"])

    return f"{cached(f'{name}-{digest}', fetch)}/*"


def registry_home() -> Path:
    """The directory of the unpacked Apicurio registry. Raises Unavailable."""

    def fetch(into: Path) -> None:
        _maven(["dependency:copy", f"-Dartifact={REGISTRY_ARTIFACT}", f"-DoutputDirectory={into}"])
        (archive,) = into.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # a 3.11 of before June 2023 has no filters
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(into)
        archive.unlink()

    return cached("apicurio-" + REGISTRY_ARTIFACT.split(":")[2], fetch)


def cached(name: str, fetch: Callable[[Path], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hakuna-processor-tests"
    final = cache / name
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            partial = cache / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # what an earlier run that was cut short has left
            partial.mkdir()
            fetch(partial)
            partial.rename(final)
    return final


def _maven(arguments: list[str]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("no Maven to fetch jars with: install maven, or start a container engine")
    try:
        done = subprocess.run(
            [maven, "-B", "-q", *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=FETCH_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as slow:
        raise Unavailable(f"Maven took more than {FETCH_SECONDS_MAX} s for {arguments[-2:]}") from slow
    if done.returncode != 0:
        raise Unavailable("Maven failed: " + " | ".join((done.stdout + done.stderr).strip().splitlines()[-5:]))

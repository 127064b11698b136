"""The image is small and bare, and works: transform by `podman run`, send from the base by `podman play kube`."""

import json
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from tests.deploy.conftest import REVISION
from tests.deploy.containers import BASE, IMAGE, Engine
from tests.deploy.manifests import built, of_kind
from tests.deploy.tools import DEPLOY
from tests.support.children import REPOSITORY, free_ports, wait_until
from tests.support.installation import Installation
from tests.support.loopback import LOOPBACK
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.image, pytest.mark.slow]

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
BEYOND_BASE_BYTES_MAX = 200_000_000
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
READY_SECONDS_MAX = 60.0
POD = "send-pod-0-processor"


def inspected(containers: Engine, name: str) -> dict[str, Any]:
    (found,) = json.loads(containers.podman("image", "inspect", name))
    return dict(found)


def ready(port: int) -> bool:
    try:
        return LOOPBACK.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def test_the_image_is_small_and_says_what_it_is(containers: Engine) -> None:
    image, base = inspected(containers, IMAGE), inspected(containers, BASE)
    assert image["Size"] - base["Size"] < BEYOND_BASE_BYTES_MAX
    assert image["Config"]["User"] == "20002:20002"
    assert image["Config"]["Entrypoint"] == ["hakuna-processor"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    assert labels.items() >= {"revision": REVISION, "title": "hakuna-processor", "version": VERSION}.items()
    assert {"description", "created"} <= labels.keys()


def test_no_compiler_installer_or_cache_of_ours_is_left_inside(containers: Engine) -> None:
    look = "ls /opt; ls /build /root/.cache 2>/dev/null; command -v gcc cc ld; ls /opt/*/bin | grep -x pip; id -u"
    said = containers.podman("run", "--rm", "--network=host", *HARDENED, "--entrypoint=sh", IMAGE, "-c", look)
    assert said.splitlines() == ["hakuna-processor", "20002"]


def test_a_pod_without_settings_says_all_that_is_missing_and_ends_with_78(containers: Engine) -> None:
    with containers.container("bare", *HARDENED, IMAGE, "run", "--role", "send") as bare:
        assert containers.podman("wait", bare) == "78"
        said = containers.logs(bare)
    assert "KAFKA_BOOTSTRAP_SERVERS: not set" in said
    assert "HAKUNA_API_KEY_FILE" in said


@contextmanager
def played(containers: Engine, directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """The base's Deployment of send and its ConfigMap, as they stand there but for what this podman (4.3) cannot:
    ports beside the host's network, and a secret volume that may be missing (it would never be mounted)."""
    base = built(DEPLOY / "kubernetes/base")
    (settings,) = (dict(one) for name, one in of_kind(base, "ConfigMap").items() if name.startswith("settings"))
    settings["data"] = settings["data"] | environment
    deployment: dict[str, Any] = json.loads(json.dumps(of_kind(base, "Deployment")["send"]))
    pod = deployment["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    (container,) = pod["containers"]
    container["image"] = IMAGE
    del container["ports"]
    for volume in pod["volumes"]:
        if "secret" in volume:
            volume["secret"]["optional"] = False
    # It takes a secret's data as it stands, where Kubernetes decodes it.
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hakuna-api-key"}}
    file = directory / "secret.yaml"
    file.write_text(yaml.safe_dump(secret | {"data": {"api-key": SANDBOX_KEY}}))
    containers.podman("secret", "create", "hakuna-api-key", str(file))
    manifest = directory / "play.yaml"
    manifest.write_text(yaml.safe_dump_all([settings, deployment]))
    containers.podman("play", "kube", str(manifest))
    try:
        yield
    finally:
        containers.podman("pod", "rm", "--all", "--force", "--time=1")
        containers.podman("volume", "rm", "--all", "--force")
        containers.podman("secret", "rm", "hakuna-api-key")


@pytest.mark.timeout(240)
def test_an_order_goes_through_two_containers_to_the_api_and_both_drain(
    containers: Engine, topic_space: TopicSpace, schema_registry: str, tmp_path: Path
) -> None:
    """Non-root, read-only, without a capability; the state in a volume, the key in a file of a secret."""
    installation = Installation(topic_space, schema_registry, partitions=2)
    hakuna = StandIn(HakunaApi())
    transform_port, send_port = map(str, free_ports(2))
    with Loopback(hakuna) as api:
        settings = {**installation.environment, "PROCESSOR_METRICS_PORT": transform_port}
        given = [f"--env={name}={value}" for name, value in settings.items()]
        volume = "--volume=state:/var/lib/hakuna-processor"
        send_settings = {**installation.environment, "HAKUNA_BASE_URL": api.url, "PROCESSOR_METRICS_PORT": send_port}
        with (
            containers.container(
                "transform", *HARDENED, volume, *given, IMAGE, "run", "--role", "transform"
            ) as transform,
            played(containers, tmp_path, send_settings),
        ):
            started_s = time.monotonic()
            for port in (transform_port, send_port):
                wait_until(lambda port=port: ready(int(port)), what=f"port {port}", timeout_s=READY_SECONDS_MAX)  # type: ignore[misc]
            print(f"ready after {time.monotonic() - started_s:.1f} s")  # noqa: T201
            start_ms = round(time.time() * 1000) - 60_000
            installation.play(shop(Shop(orders=20, rate=10, bad_share=0, seed=3, start_ms=start_ms)))
            wait_until(lambda: len(hakuna.record.subjects()) == 20, what="20 orders at the API", timeout_s=60)
            build = LOOPBACK.get(f"http://127.0.0.1:{send_port}/metrics").text
            assert f'processor_build_info{{revision="{REVISION}"' in build
            play = json.loads(containers.podman("inspect", POD))[0]
            assert play["HostConfig"]["ReadonlyRootfs"]
            assert not play["EffectiveCaps"]
            for name in (transform, POD):
                containers.podman("stop", "--time=40", name)
                assert json.loads(containers.podman("inspect", name))[0]["State"]["ExitCode"] == 0, containers.logs(
                    name
                )
    assert hakuna.record.mistakes() == []

"""A real schema registry for tests: Apicurio from Maven Central, in memory, through its
Confluent-compatible API.

It knows no GUIDs and no basic auth; a test that needs those, or an outage, brings a registry of its own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.children import ChildProcess, Unavailable, free_ports, own_directory, wait_until
from tests.support.jars import java, registry_home
from tests.support.loopback import LOOPBACK

URL_VARIABLE = "TEST_SCHEMA_REGISTRY_URL"  # a registry that is there already: used as it is
START_SECONDS_MAX = 90.0  # 4 to 7 s on an idle machine


@contextmanager
def schema_registry_url() -> Iterator[str]:
    """The URL to give to a Confluent client. Default compatibility is BACKWARD, as Confluent's own registry
    has it (Apicurio's is NONE). Raises Unavailable if this machine cannot have one."""
    named = os.environ.get(URL_VARIABLE)
    if named:
        if not _answers(f"{named}/subjects"):
            raise Unavailable(f"{URL_VARIABLE}={named} does not answer")
        yield named
        return
    home = registry_home()
    (runner,) = home.glob("apicurio-registry-app-*-runner.jar")
    (port,) = free_ports(1)
    origin = f"http://127.0.0.1:{port}"
    with own_directory("registry") as directory:
        child = ChildProcess(
            [
                java(),
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dquarkus.http.host=127.0.0.1",
                f"-Dquarkus.http.port={port}",
                f"-Djava.io.tmpdir={directory}",
                "-cp",
                f"{runner}:{home}/lib/*",
                "io.quarkus.runner.GeneratedMain",
            ],
            log=directory / "registry.log",
            cwd=directory,
        )
        try:
            wait_until(
                lambda: _answers(f"{origin}/health/ready"),
                what="Schema registry",
                timeout_s=START_SECONDS_MAX,
                child=child,
            )
            url = f"{origin}/apis/ccompat/v7"
            LOOPBACK.put(f"{url}/config", json={"compatibility": "BACKWARD"}, timeout=10).raise_for_status()
            yield url
        finally:
            child.kill()


def _answers(url: str) -> bool:
    try:
        return LOOPBACK.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False

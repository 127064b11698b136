"""The endpoints of a worker answer what its roles publish, whatever else goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from processor.edges.health import HealthServer
from processor.errors import Unusable
from tests.support.children import wait_until
from tests.support.loopback import LOOPBACK


class Published:
    """A role that publishes what a test says."""

    def __init__(self) -> None:
        self.why_stuck: str | None = None
        self.why_unready: list[str] = []

    def stuck(self) -> str | None:
        return self.why_stuck

    def unready(self) -> list[str]:
        return self.why_unready

    def status(self) -> dict[str, Any]:
        return {"role": "transform", "partitions": [], "destinations": []}


@pytest.fixture
def role() -> Published:
    return Published()


@pytest.fixture
def url(role: Published) -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("orders", "Orders", registry=registry).inc(3)
    server = HealthServer(0, [role], registry)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def test_a_role_that_works_is_live_and_ready(url: str) -> None:
    assert LOOPBACK.get(f"{url}/livez").status_code == 200
    assert LOOPBACK.get(f"{url}/readyz").json() == {"ok": True, "reasons": []}


def test_a_role_that_is_not_ready_says_every_reason(url: str, role: Published) -> None:
    role.why_unready = ["no broker answers", "restoring 2 partitions"]
    answer = LOOPBACK.get(f"{url}/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == role.why_unready
    assert LOOPBACK.get(f"{url}/livez").status_code == 200, "waiting is alive"


def test_a_loop_that_stands_still_is_not_live(url: str, role: Published) -> None:
    role.why_stuck = "transform: its loop has not come round for 61 s"
    answer = LOOPBACK.get(f"{url}/livez")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [role.why_stuck]


def test_the_status_of_one_role_is_its_object(url: str) -> None:
    assert LOOPBACK.get(f"{url}/status").json()["role"] == "transform"


def test_the_status_of_several_roles_is_all_of_them_and_each(role: Published) -> None:
    send = Published()
    send.status = lambda: {"role": "send", "partitions": [{"topic": "o"}], "destinations": [{"name": "h"}]}  # type: ignore[method-assign]  # another role's
    server = HealthServer(0, [role, send], CollectorRegistry())
    try:
        said = LOOPBACK.get(f"http://127.0.0.1:{server.port}/status").json()
    finally:
        server.close()
    assert (said["role"], said["partitions"], said["destinations"]) == ("all", [{"topic": "o"}], [{"name": "h"}])
    assert [one["role"] for one in said["roles"]] == ["transform", "send"]


def test_metrics_speak_prometheus_and_openmetrics(url: str) -> None:
    assert "orders_total 3.0" in LOOPBACK.get(f"{url}/metrics").text
    answer = LOOPBACK.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_any_other_path_names_those_there_are(url: str) -> None:
    answer = LOOPBACK.get(f"{url}/health")
    assert answer.status_code == 404
    assert "/readyz" in answer.text


def test_a_port_that_is_taken_is_unusable(url: str) -> None:
    with pytest.raises(Unusable, match="PROCESSOR_METRICS_PORT"):
        HealthServer(int(url.rpartition(":")[2]), [])


def test_metrics_are_gzipped_for_a_scraper_that_takes_it(url: str) -> None:
    asked = LOOPBACK.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"})
    assert asked.headers["Content-Encoding"] == "gzip"
    assert "orders_total 3.0" in asked.text
    plain = LOOPBACK.get(f"{url}/metrics", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.text == asked.text


def test_connections_that_say_nothing_take_no_thread_beyond_a_bound_and_give_them_back(url: str) -> None:
    place = ("127.0.0.1", int(url.rpartition(":")[2]))
    before = threading.active_count()
    with ExitStack() as scan:
        silent = [scan.enter_context(socket.create_connection(place, timeout=5)) for _ in range(200)]
        for one in silent[64:]:
            assert one.recv(1) == b"", "closed at once"
        assert threading.active_count() - before <= 64
    wait_until(lambda: threading.active_count() == before, what="the threads' end", timeout_s=15)
    assert LOOPBACK.get(f"{url}/livez").status_code == 200

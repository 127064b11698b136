"""`hakuna-processor simulate` as its user runs it: a process that answers, writes, and ends with a summary."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from confluent_kafka import KafkaException

from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import ORDER_TOPICS, STOCK_TOPICS, Topic
from tests.support.children import REPOSITORY, ChildProcess, free_ports, wait_until
from tests.support.json_output import printed
from tests.support.processes import OWN_PREFIXES
from tests.support.topics import TopicSpace
from tests.unit.sandbox.apis.reference import HEADERS, PLACED

Simulate = Callable[..., ChildProcess]


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Simulate]:
    """Starts `simulate`; it is killed if it still runs at the end."""
    with ExitStack() as running:

        def start(*arguments: str, environment: Mapping[str, str] | None = None) -> ChildProcess:
            outer = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
            child = ChildProcess(
                [sys.executable, "-m", "processor", "simulate", *arguments],
                log=tmp_path / "simulate.log",
                env=outer | {"PYTHONPATH": str(REPOSITORY)} | dict(environment or {}),
                cwd=tmp_path,
            )
            running.callback(child.kill)
            return child

        yield start


def environment(child: ChildProcess) -> dict[str, str]:
    """What the simulation tells a worker to export, once it answers."""
    wait_until(lambda: "Ctrl-C ends them." in child.log_tail(), what="simulate", timeout_s=30, child=child)
    lines = [line.strip().removeprefix("export ") for line in child.log_tail().splitlines() if "export " in line]
    return dict(line.split("=", 1) for line in lines)


def summary(child: ChildProcess) -> dict[str, Any]:
    """The JSON that it ends with."""
    answer: dict[str, Any] = printed("simulate", child.log_tail().splitlines()[-1])
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_as_it_was_told_to_until_it_is_stopped(simulate: Simulate, number: signal.Signals) -> None:
    child = simulate(
        *("--hakuna-port", "0", "--hako-port", "0", "--latency", "0ms", "--key", "sk_other"),
        *("--refuse-country", "DE", "--hako-quota", "1/60s", "--output", "json"),
    )
    found = environment(child)
    assert found["HAKUNA_API_KEY"] == found["HAKO_API_KEY"] == "sk_other"
    with httpx.Client(verify=False) as client:
        refused = client.post(
            f"{found['HAKUNA_BASE_URL']}/events",
            content=orjson.dumps(PLACED),
            headers=HEADERS | {"authorization": "Bearer sk_other"},
        )
        assert refused.json()["error"]["error_code"] == "location_unsupported"
        items = [{"sku": "hk-001"}]
        statuses = [
            client.post(f"{found['HAKO_BASE_URL']}/items", json=items, auth=("sk_other", "")).status_code
            for _ in range(2)
        ]
        assert statuses == [200, 429]
    child.signal(number)
    assert child.wait(10) == 0
    seen = summary(child)
    assert seen["apis"]["hakuna"]["error_codes"] == {"location_unsupported": 1}
    assert seen["apis"]["hako"]["statuses"] == {"200": 1, "429": 1}
    assert seen["records"] == {"written": 0, "expected": {}}


def test_a_shop_writes_to_the_source_topics(simulate: Simulate, topic_space: TopicSpace) -> None:
    topic_space.create(*ORDER_TOPICS, partitions=2)
    with Loopback(StandIn(RegistryApi())) as registry:
        child = simulate(
            *("--hakuna-port", "0", "--hako-port", "0", "--output", "json"),
            *("--orders", "40", "--rate", "40", "--bad-share", "0.5", "--seed", "3"),
            environment=topic_space.environment | {"SCHEMA_REGISTRY_URL": registry.url},
        )
        wait_until(lambda: "The shop wrote" in child.log_tail(), what="the shop", timeout_s=60, child=child)
        assert child.terminate(10) == 0
    written = summary(child)["records"]["written"]
    assert written > 100
    assert sum(len(topic_space.records(topic)) for topic in ORDER_TOPICS) == written


def test_a_stock_changes_until_it_is_stopped(simulate: Simulate, topic_space: TopicSpace) -> None:
    topic_space.create(*STOCK_TOPICS, partitions=2)
    with Loopback(StandIn(RegistryApi())) as registry:
        child = simulate(
            *("--hakuna-port", "0", "--hako-port", "0", "--output", "json", "--changes", "200"),
            environment=topic_space.environment | {"SCHEMA_REGISTRY_URL": registry.url},
        )

        def written() -> bool:
            try:
                return sum(topic_space.end_offsets(Topic.LEVELS).values()) > 50
            except KafkaException:  # the leader of a topic that was just made is still taking it over
                return False

        wait_until(written, what="levels", timeout_s=60, child=child)
        assert child.terminate(10) == 0
    assert summary(child)["records"]["written"] == sum(len(topic_space.records(topic)) for topic in STOCK_TOPICS)


def test_a_shop_that_cannot_write_says_why_and_ends_with_1(simulate: Simulate, topic_space: TopicSpace) -> None:
    (port,) = free_ports(1)
    child = simulate(
        *("--hakuna-port", "0", "--hako-port", "0", "--orders", "1"),
        environment=topic_space.environment | {"SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port}"},
    )
    assert child.wait(30) == 1
    assert "The shop cannot write: the schema registry took no schema" in child.log_tail()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--orders", "1"), 78, "KAFKA_BOOTSTRAP_SERVERS: not set"),
        (("--fault", "418=0.1"), 1, "a share of faults such as 503=0.02"),
        (("--fault", "503=0.6", "--fault", "500=0.6"), 1, "add up to more than 1"),
        (("--outage", "soon"), 1, "an outage such as 30s:10s"),
        (("--quota", "many"), 1, "a quota such as 120/60s"),
        (("--latency", "-1"), 1, "a duration such as 500ms"),
    ],
)
def test_what_makes_no_sense_is_named(simulate: Simulate, arguments: tuple[str, ...], code: int, says: str) -> None:
    child = simulate(*arguments)
    assert child.wait(30) == code
    assert says in " ".join(child.log_tail().split())


def test_a_port_that_is_taken_is_named(simulate: Simulate) -> None:
    with Loopback(StandIn(RegistryApi())) as taken:
        child = simulate("--hakuna-port", "0", "--hako-port", str(taken.port))
        assert child.wait(30) == 1
        assert "in use" in child.log_tail()

"""A real Prometheus and Alertmanager watch real workers under load: every query of every dashboard has an answer, and a
real outage rings.

The rules run with every duration a twentieth of what it is (`SPEED`), so that five minutes of an outage are fifteen
seconds; thresholds and expressions are what they are.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from processor.sandbox.script import SANDBOX_KEY
from tests.conftest import StartWorker
from tests.deploy.test_grafana import DASHBOARDS, loaded, queries
from tests.deploy.test_prometheus import PROMETHEUS, RULE_FILES
from tests.deploy.tools import tool
from tests.support.children import ChildProcess, free_ports, wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

SPEED = 20
SCRAPE_S = 1
LOADED_SECONDS_MAX = 90.0
RINGS_SECONDS_MAX = 90.0
UNITS_S = {"s": 1, "m": 60, "h": 3600}


def hastened(text: str) -> str:
    """Rules with every duration divided by SPEED, none below two scrapes."""

    def shorter(match: re.Match[str]) -> str:
        return f"{max(2 * SCRAPE_S, round(int(match[1]) * UNITS_S[match[2]] / SPEED))}s"

    return re.sub(r"(?<=[\[ ])(\d+)([smh])(?=[\]\n )])", shorter, text)


class Watched(NamedTuple):
    """An installation under load, and where its watchers listen."""

    prometheus: str
    alertmanager: str
    workers: Mapping[str, Worker]
    simulate: tuple[str, ...]
    environment: Mapping[str, str]
    began: float


def asked(watched: Watched, path: str, **parameters: Any) -> Any:
    answer = httpx.get(f"{watched.prometheus}/api/v1/{path}", params=parameters, timeout=20).json()
    assert answer["status"] == "success", answer
    return answer["data"]


@pytest.fixture
def watched(kafka: str, schema_registry: str, start_worker: StartWorker, tmp_path: Path) -> Iterator[Watched]:
    """transform, two workers of send (the second joins later: a rebalance), a shop with some bad orders, an API with
    faults and refusals, and a quota that is too small for all of it."""
    space = TopicSpace(kafka)
    installation = Installation(space, schema_registry, partitions=4)
    hakuna, hako, *ports = free_ports(8)
    environment = {
        **installation.environment,
        "HAKUNA_BASE_URL": f"http://127.0.0.1:{hakuna}",
        "HAKUNA_API_KEY": SANDBOX_KEY,
        "HAKUNA_QUOTA": "200/5s",
    }
    stand_ins = ("simulate", "--hakuna-port", str(hakuna), "--hako-port", str(hako), "--refuse-country", "li")
    shop = ("--fault", "503=0.05", "--orders", "100000", "--rate", "25", "--bad-share", "0.3")
    workers: dict[str, Worker] = {}

    def start(name: str, *arguments: str, port: int, ready: bool = True) -> None:
        given = environment | {"PROCESSOR_METRICS_PORT": str(port)}
        workers[name] = start_worker(*arguments, environment=given, name=name, await_ready=ready)

    start("simulate", *stand_ins, *shop, port=ports[0], ready=False)
    with ExitStack() as running:
        prometheus, alertmanager = watchers(running, tmp_path, ports[1:4], ports[4:6])
        began = time.time()
        start("transform", "run", "--role", "transform", port=ports[1])
        start("send-0", "run", "--role", "send", port=ports[2])
        time.sleep(10)  # some load on one worker before the second joins
        start("send-1", "run", "--role", "send", port=ports[3])
        yield Watched(prometheus, alertmanager, workers, stand_ins, environment, began)
    space.delete()


def watchers(
    running: ExitStack, directory: Path, targets: tuple[int, ...] | list[int], ports: tuple[int, ...] | list[int]
) -> tuple[str, str]:
    """Prometheus with our rules and scrape job, Alertmanager with our routes; their addresses."""
    scraper = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    scraper["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    scraper["rule_files"] = [str(directory / "*.rules.yaml")]
    (job,) = scraper["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets]}]
    (manager,) = scraper["alerting"]["alertmanagers"]
    manager["static_configs"] = [{"targets": [f"127.0.0.1:{ports[1]}"]}]
    (directory / "prometheus.yaml").write_text(json.dumps(scraper))
    for path in RULE_FILES:
        (directory / path.name).write_text(hastened(path.read_text()))
    addresses = tuple(f"127.0.0.1:{port}" for port in ports)
    commands = {
        "prometheus": [
            tool("prometheus", "apt install prometheus"),
            f"--config.file={directory}/prometheus.yaml",
            f"--storage.tsdb.path={directory}/tsdb",
            f"--web.listen-address={addresses[0]}",
        ],
        "alertmanager": [
            tool("prometheus-alertmanager", "apt install prometheus-alertmanager"),
            f"--config.file={PROMETHEUS}/alertmanager.yaml",
            f"--storage.path={directory}/alerts",
            f"--web.listen-address={addresses[1]}",
            "--cluster.listen-address=",
        ],
    }
    for (name, command), address in zip(commands.items(), addresses, strict=True):
        child = ChildProcess(command, log=directory / f"{name}.log")
        running.callback(child.kill)
        wait_until(lambda address=address: answers(address), what=name, timeout_s=30, child=child)  # type: ignore[misc]
    return f"http://{addresses[0]}", f"http://{addresses[1]}"


def answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=2).is_success
    except httpx.TransportError:
        return False


def silent(watched: Watched) -> list[str]:
    """The queries of all dashboards that have not had an answer at any time since the beginning."""
    span = {"start": watched.began, "end": time.time(), "step": 2}
    return [
        f"{path.stem}: {name}: {query}"
        for path in DASHBOARDS
        for name, query in queries(loaded(path))
        if not any(
            sample[1] != "NaN"
            for series in asked(watched, "query_range", query=hastened_range(query), **span)["result"]
            for sample in series["values"]
        )
    ]


def hastened_range(query: str) -> str:
    """The run lasts a minute; a rate over a minute would see all of it, or nothing."""
    return query.replace("[1m]", "[10s]")


def firing(watched: Watched) -> set[str]:
    alerts = httpx.get(f"{watched.alertmanager}/api/v2/alerts", timeout=10).json()
    return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["state"] == "active"}


@pytest.mark.timeout(420)
def test_every_query_has_an_answer_under_load_and_an_outage_rings_and_ends(
    watched: Watched, start_worker: StartWorker
) -> None:
    deadline_s = time.monotonic() + LOADED_SECONDS_MAX
    while missing := silent(watched):
        assert time.monotonic() < deadline_s, "without an answer:\n" + "\n".join(missing)
        time.sleep(5)
    health = asked(watched, "rules")["groups"]
    assert [rule["name"] for group in health for rule in group["rules"] if rule["health"] != "ok"] == []
    assert "ProcessorDestinationDown" not in firing(watched)

    watched.workers["simulate"].kill()  # the API is gone: nobody listens any more
    wait_until(lambda: "ProcessorDestinationDown" in firing(watched), what="The alert", timeout_s=RINGS_SECONDS_MAX)
    for name in ("send-0", "send-1"):
        assert watched.workers[name].running
    start_worker(*watched.simulate, environment=watched.environment, name="simulate-again", await_ready=False)
    wait_until(
        lambda: (
            not any(
                alert["labels"]["alertname"] == "ProcessorDestinationDown"
                for alert in asked(watched, "alerts")["alerts"]
            )
        ),
        what="The end of the alert",
        timeout_s=RINGS_SECONDS_MAX,
    )

"""An installation under load and its watchers: real workers of all roles on a real Kafka, a real Prometheus that
scrapes them, a real Alertmanager that it tells.

    shop ──┬─► orders.* ──► transform-0 ──► outbox ──► send-0, send-1 ──► stand-in for Hakuna
           └─► catalogue, levels ───────────────────► hako-0 ───────────► stand-in for Hako

Owned by whoever enters `watched`: the test of the dashboards' queries, and the pictures of the dashboards. Every kind
of trouble that a panel shows is in the load: bad orders, refused ones, faults of the APIs, levels of an item that
nobody has told of, stale ones, quotas that are too small, a second worker that joins later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.shop.stock import REFUSED_SKU
from tests.conftest import StartWorker
from tests.deploy.tools import DEPLOY, tool
from tests.support.children import ChildProcess, free_ports, wait_until
from tests.support.installation import Installation
from tests.support.loopback import LOOPBACK
from tests.support.processes import Worker

PROMETHEUS = DEPLOY / "prometheus"
WORKERS = {
    "transform-0": ("run", "--role", "transform"),
    "send-0": ("run", "--role", "send"),
    "hako-0": ("run", "--role", "hako"),
    "send-1": ("run", "--role", "send"),
}
"""The last joins later: a rebalance."""


class Load(NamedTuple):
    """What the shop and the stock do; quotas are the workers', and less than what comes in needs."""

    orders_a_second: float = 25.0
    bad_share: float = 0.3
    faults: tuple[str, ...] = ("503=0.05",)
    hakuna_quota: str = "200/5s"
    hako_quota: str = "20/5s"
    changes_a_second: float = 40.0
    joins_after_s: float = 10.0


class Watched(NamedTuple):
    """Where the watchers listen, and what can be done to what they watch."""

    prometheus: str
    alertmanager: str
    workers: Mapping[str, Worker]
    apis: Apis
    began: float

    def asked(self, path: str, **parameters: Any) -> Any:
        """What Prometheus answers."""
        answer = LOOPBACK.get(f"{self.prometheus}/api/v1/{path}", params=parameters, timeout=20).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def told(self) -> set[tuple[str, str]]:
        """The alerts that Alertmanager has been told of and that still fire, each with its destination or role."""
        alerts = LOOPBACK.get(f"{self.alertmanager}/api/v2/alerts", timeout=10).json()
        firing = [alert["labels"] for alert in alerts if alert["status"]["state"] == "active"]
        return {(labels["alertname"], labels.get("destination", labels.get("role", ""))) for labels in firing}


class Apis:
    """The stand-ins for both APIs. `down` and `up` are an outage: nobody listens, then somebody does again."""

    def __init__(self, start: StartWorker, load: Load) -> None:
        hakuna, hako = free_ports(2)
        self.settings = {
            "HAKUNA_BASE_URL": f"http://127.0.0.1:{hakuna}",
            "HAKUNA_API_KEY": SANDBOX_KEY,
            "HAKUNA_QUOTA": load.hakuna_quota,
            "HAKO_BASE_URL": f"http://127.0.0.1:{hako}/v0",
            "HAKO_API_KEY": SANDBOX_KEY,
            "HAKO_QUOTA": load.hako_quota,
        }
        self._start = start
        self._command = (
            *("simulate", "--hakuna-port", str(hakuna), "--hako-port", str(hako), "--hako-quota", load.hako_quota),
            *("--refuse-country", "li", "--refuse-sku", REFUSED_SKU, "--latency", "40ms", "--latency-p99", "300ms"),
            *(word for fault in load.faults for word in ("--fault", fault)),
        )
        self.up()

    def up(self) -> None:
        self._stand_ins = self._start(*self._command, environment={}, name="apis", await_ready=False)

    def down(self) -> None:
        self._stand_ins.kill()


@contextmanager
def watched(
    installation: Installation, start: StartWorker, directory: Path, load: Load, rules: Mapping[str, str], scrape_s: int
) -> Iterator[Watched]:
    """All of it at work. `rules` are the rule files by name, as Prometheus shall have them."""
    ports = dict(zip(WORKERS, free_ports(len(WORKERS)), strict=True))
    with ExitStack() as running:
        prometheus, alertmanager = _watchers(running, directory, ports, rules, scrape_s)
        began = time.time()
        apis = Apis(start, load)
        # A process of its own, which an outage leaves alone; nobody asks the stand-ins that are in it too.
        shop = ("simulate", "--hakuna-port", "0", "--hako-port", "0", "--refuse-country", "li", "--orders", "1000000")
        rates = ("--rate", str(load.orders_a_second), "--changes", str(load.changes_a_second))
        bad = ("--bad-share", str(load.bad_share))
        start(*shop, *rates, *bad, environment=installation.environment, name="shop", await_ready=False)
        workers: dict[str, Worker] = {}

        def run(name: str) -> None:
            settings = {**installation.environment, **apis.settings, "PROCESSOR_METRICS_PORT": str(ports[name])}
            workers[name] = start(*WORKERS[name], environment=settings, name=name, await_ready=False)

        *first, last = WORKERS
        for name in first:
            run(name)
        for name in first:
            workers[name].wait_ready()
        time.sleep(load.joins_after_s)  # some load on one worker before the second joins
        run(last)
        workers[last].wait_ready()
        yield Watched(prometheus, alertmanager, workers, apis, began)


def _watchers(
    running: ExitStack, directory: Path, targets: Mapping[str, int], rules: Mapping[str, str], scrape_s: int
) -> tuple[str, str]:
    """Prometheus with our rules and scrape job, Alertmanager with our routes; their addresses."""
    ports = free_ports(2)
    scraper = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    scraper["global"] = {"scrape_interval": f"{scrape_s}s", "evaluation_interval": f"{scrape_s}s"}
    scraper["rule_files"] = [str(directory / "*.rules.yaml")]
    (job,) = scraper["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()
    ]
    (manager,) = scraper["alerting"]["alertmanagers"]
    manager["static_configs"] = [{"targets": [f"127.0.0.1:{ports[1]}"]}]
    (directory / "prometheus.yaml").write_text(json.dumps(scraper))
    for name, text in rules.items():
        (directory / name).write_text(text)
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
        wait_until(lambda address=address: _answers(address), what=name, timeout_s=30, child=child)  # type: ignore[misc]
    return f"http://{addresses[0]}", f"http://{addresses[1]}"


def _answers(address: str) -> bool:
    try:
        return LOOPBACK.get(f"http://{address}/-/ready", timeout=2).is_success
    except httpx.TransportError:
        return False

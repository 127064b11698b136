"""Three brokers, three replicas, a shop that goes on writing: a rolling restart, then the sudden death of a broker.

Nothing is lost, doubled or out of order, no worker needs help, and nothing stands still for longer than is promised.
`--log-cli-level=info` shows for how long nothing came, which is the figure in tests/README.md."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from processor.edges.kafka.admin import KafkaAdmin
from processor.errors import BrokerOutage
from processor.records import TopicPartition
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.integration.test_whole_path import by_source, lag
from tests.soak.cluster import NODES, Cluster
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.kafka import short_lived_jvm
from tests.support.topics import TopicSpace

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]

PARTITIONS = 4
EVENTS_A_SECOND = 40
RESTART_S_MAX = 15.0
DEATH_S_MAX = 60.0
"""The brokers' own: nine seconds until a dead one is taken for dead; then partitions, groups and transactions
have to be taken over, on a machine with more to run than cores."""
IN_SYNC_S_MAX = 120.0
STOP_S_MAX = 60.0
DONE_S_MAX = 90.0
CONNECTIONS_A_SECOND_MAX = 1_000.0
"""Of all processes here: a client that waits between its tries makes ten a second."""
REPEATS_MAX = 200
"""Partitions that a sender loses when it cannot hear its group: what it had answered and not committed goes again."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(short_lived_jvm) as running:
        yield running


def refused_connections() -> int:
    """Returns how many connections this machine was refused so far."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("AttemptFails")])


class Shop:
    """Places orders and fulfils them, evenly, in a thread of its own. Mutable: `orders`, how many were written."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.orders = 0

    def __enter__(self) -> Shop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._installation.flush()

    def _run(self) -> None:
        line = dict.fromkeys(("product_id", "product_title", "product_brand"), "x")
        next_s = time.monotonic()
        while not self._over.is_set():
            order = {"event_id": f"p{self.orders}", "order_id": f"order-{self.orders}"}
            placed = {
                "placed_at": 1_700_000_000_000,
                "currency": "EUR",
                "customer": dict.fromkeys(("first_name", "last_name", "email", "phone")),
                "billing_address": {"country": "DE"},
                "line_items": [{**line, "id": "l", "quantity": 1, "price_amount": 1, "protection": None}],
            }
            items = [{"line_item_id": "l", "quantity": 1, "fulfilled_at": 1_700_000_000_000}]
            self._installation.event(Topic.PLACED, order | placed)
            self._installation.event(Topic.FULFILLED, order | {"event_id": f"f{self.orders}", "items": items})
            self._installation.poll()
            self.orders += 1
            next_s += 2 / EVENTS_A_SECOND
            self._over.wait(max(0.0, next_s - time.monotonic()))


def test_three_replicas_wait_for_two_and_check_names_a_topic_where_one_suffices(cluster: Cluster) -> None:
    space = TopicSpace(cluster.bootstrap_servers, replication=3)
    environment = space.environment | {"HAKUNA_BASE_URL": "http://127.0.0.1:9", "HAKUNA_API_KEY": SANDBOX_KEY}
    admin = KafkaAdmin({"bootstrap.servers": cluster.bootstrap_servers}, client_id="test")
    outbox = space.name(Topic.OUTBOX)

    def wrong() -> dict[str, str]:
        said = ask("check", "--role", "send", "--output", "json", environment=environment)
        return {one["subject"]: one["what"] for one in json.loads(said.out)["findings"] if one["verdict"] == "problem"}

    made = ask("topics", "create", "--partitions", "2", "--replication-factor", "3", environment=environment)
    assert made.code == 0, made.err
    state = admin.describe([outbox])[outbox]
    assert state is not None
    assert (state.replicas, state.config["min.insync.replicas"]) == (3, "2")
    assert outbox not in wrong()
    space.configure(Topic.OUTBOX, config={"min.insync.replicas": "1"})
    assert "a write needs only one: with its broker it is gone" in wrong()[outbox]


def test_a_question_for_a_broker_that_is_gone_is_no_storm_of_connections(cluster: Cluster) -> None:
    space = TopicSpace(cluster.bootstrap_servers)
    space.create("one", partitions=NODES)
    admin = KafkaAdmin({"bootstrap.servers": cluster.bootstrap_servers}, client_id="test")
    lost = next(
        TopicPartition(space.name("one"), number)
        for number, partition in space.admin.list_topics(timeout=10).topics[space.name("one")].partitions.items()
        if partition.leader == NODES
    )
    assert admin.stable_ends([lost]) == {lost: 0}
    cluster.child(NODES - 1).kill()
    before, began_s = refused_connections(), time.monotonic()
    with pytest.raises(BrokerOutage):
        admin.stable_ends([lost])
    a_second = (refused_connections() - before) / (time.monotonic() - began_s)
    log.info("%.0f connections a second", a_second)
    assert a_second < CONNECTIONS_A_SECOND_MAX
    cluster.start(NODES - 1)
    wait_until(cluster.whole, what="the broker back, and in sync", timeout_s=IN_SYNC_S_MAX)


def test_a_rolling_restart_and_the_death_of_a_broker_lose_double_and_stall_nothing(
    cluster: Cluster, start_worker: StartWorker, tmp_path: Path
) -> None:
    space = TopicSpace(cluster.bootstrap_servers, replication=3)
    hakuna = StandIn(HakunaApi())
    silences: dict[str, float] = {}
    with Loopback(StandIn(RegistryApi())) as registry, Loopback(hakuna) as api:
        installation = Installation(space, registry.url, partitions=PARTITIONS)
        keys = {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        workers = [
            start_worker("run", "--role", role, environment=installation.environment | keys, name=f"{role}-{number}")
            for role in ("transform", "send")
            for number in range(2)
        ]
        with Shop(installation) as shop:
            time.sleep(5)
            for node in range(NODES):
                with _silence(hakuna, silences, f"restart of broker {node}"):
                    cluster.child(node).terminate(STOP_S_MAX)
                    cluster.start(node)
                    wait_until(cluster.whole, what="all replicas", timeout_s=IN_SYNC_S_MAX)
            with _silence(hakuna, silences, "death of a broker"):
                cluster.child(1).kill()
                time.sleep(2)  # what was on its way
                before = hakuna.record.requests
                wait_until(lambda: hakuna.record.requests > before + 20, what="requests", timeout_s=DEATH_S_MAX)
            cluster.start(1)
            time.sleep(3)
        wait_until(
            lambda: hakuna.record.requests >= 2 * shop.orders and not sum(map(lag, workers)),
            what=f"the requests of {shop.orders} orders",
            timeout_s=DONE_S_MAX,
        )
        log.info("nothing came for %s s; %d orders, %d repeats", silences, shop.orders, hakuna.record.repeats)
        assert [worker.terminate() for worker in workers] == [0, 0, 0, 0]

    entries: dict[str, list[bytes | None]] = defaultdict(list)
    for message in by_source(space.records(Topic.OUTBOX), "entry-id").values():
        entries[(message.key() or b"").decode()].append(message.value())
    assert {order: len(bodies) for order, bodies in entries.items()} == {
        f"order-{number}": 2 for number in range(shop.orders)
    }
    record = hakuna.record
    accepted: dict[str, list[Any]] = {o: [one.body for one in record.history(o)] for o in record.subjects()}
    assert accepted == entries, "each order's requests are its entries, in their order"
    assert record.overlap_count == 0
    assert record.key_conflicts == 0
    assert space.records(Topic.ORDER_DEAD_LETTERS) == []
    assert space.records(Topic.HAKUNA_DEAD_LETTERS) == []
    assert record.repeats <= REPEATS_MAX
    assert all(seconds < RESTART_S_MAX for what, seconds in silences.items() if "restart" in what), silences


@contextmanager
def _silence(hakuna: StandIn, silences: dict[str, float], what: str) -> Iterator[None]:
    """Notes for how many seconds no request came while this was done."""
    begin = time.monotonic()
    seen = [begin]
    over = threading.Event()

    def watch() -> None:
        last = hakuna.record.requests
        while not over.wait(0.05):
            if hakuna.record.requests != last:
                last = hakuna.record.requests
                seen.append(time.monotonic())

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        silences[what] = round(max(after - before for before, after in pairwise([*seen, time.monotonic()])), 1)

"""`order` and `status`, asked of an installation at work: real Kafka, real registry, a worker with both roles."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from processor.edges.kafka.consumer import ENDS_AGE_S_MAX
from processor.edges.kafka.scan import KafkaScan, Window
from processor.operate.order import windows
from processor.records import Headers, Record
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sources.placements import by_murmur2
from processor.topics import Topic
from tests.benchmarks import order as million
from tests.support.children import REPOSITORY, free_ports, wait_until
from tests.support.commands import Said, ask, command, run, run_on_terminal
from tests.support.installation import Installation
from tests.support.json_output import printed
from tests.support.login_page import login_page
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

PARTITIONS = 3
NOW = 1_790_000_000_000
ODD = "o'\"/ü ☃\x1b[31m"
PERSONAL = ("Ada", "Lovelace", "ada@example.com", "Musterstr", "50667")


@dataclass(frozen=True)
class AtWork:
    """An installation whose worker has done all that there was."""

    installation: Installation
    worker: Worker

    @property
    def environment(self) -> Mapping[str, str]:
        return self.installation.environment

    def order(self, *arguments: str, stdin: bytes = b"") -> Said:
        return ask("order", *arguments, environment=self.environment, stdin=stdin)

    def timeline(self, order_id: str, *arguments: str) -> list[dict[str, Any]]:
        said = self.order(order_id, "--output", "json", *arguments)
        assert said.code == 0, said.err
        told = printed("order", said.out)
        assert told["order_id"] == order_id
        timeline: list[dict[str, Any]] = told["timeline"]
        return timeline


def placed(order_id: str, country: str = "DE") -> dict[str, Any]:
    line = {"product_id": "p", "product_title": "Kettle", "product_brand": "Frutta", "protection": None}
    return {
        "event_id": f"{order_id}-placed",
        "order_id": order_id,
        "placed_at": NOW,
        "currency": "EUR",
        "customer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "phone": None},
        "billing_address": {
            "address_line_1": "Musterstr 1",
            "address_line_2": None,
            "city": "Ulm",
            "zip": "50667",
            "country": country,
        },
        "line_items": [{"id": "l1", "quantity": 5, "price_amount": 100, **line}],
    }


def moved(order_id: str, name: str, what: str, quantity: int, at_ms: int) -> dict[str, Any]:
    return {
        "event_id": f"{order_id}-{name}",
        "order_id": order_id,
        "items": [{"line_item_id": "l1", "quantity": quantity, what: at_ms}],
    }


def write(installation: Installation) -> None:
    """`ord-all` has every kind of event in it; the others are odd in one way each. All of an order's records are there
    before the worker starts, so that it takes them in time."""
    for order_id, country in (("ord-all", "DE"), ("ord-held", "LI"), (ODD, "DE")):
        fulfilment = moved(order_id, "f", "fulfilled_at", 1, NOW + 1)
        events = [
            (Topic.FULFILLED, moved(order_id, "early", "fulfilled_at", 1, NOW), -5),
            (Topic.PLACED, placed(order_id, country), 0),
            (Topic.FULFILLED, fulfilment, 1),
            (Topic.FULFILLED, fulfilment, 2),
            (Topic.REFUNDED, moved(order_id, "r", "refunded_at", 1, NOW + 3), 3),
            (Topic.REFUNDED, moved(order_id, "bad", "refunded_at", 9, NOW + 4), 4),
            (Topic.LINE_ITEMS_CANCELLED, moved(order_id, "l", "cancelled_at", 1, NOW + 5), 5),
            (Topic.CANCELLED, {"event_id": f"{order_id}-c", "order_id": order_id, "cancelled_at": NOW + 6}, 6),
            (Topic.REFUNDED, moved(order_id, "late", "refunded_at", 1, NOW + 7), 7),
        ]
        for topic, event, after_ms in events:
            installation.event(topic, event, timestamp_ms=NOW + after_ms)
    installation.event(Topic.FULFILLED, moved("ord-parked", "f", "fulfilled_at", 1, NOW), timestamp_ms=NOW)
    installation.event(Topic.PLACED, placed("ord-erased"), timestamp_ms=NOW)
    installation.write(Topic.PLACED, b"ord-erased", None, timestamp_ms=NOW + 1)
    installation.write(Topic.PLACED, b"ord-garbage", b"\x00garbage", timestamp_ms=NOW)
    installation.write(Topic.PLACED, b"\xff\xfe", None, timestamp_ms=NOW)
    elsewhere = (by_murmur2(b"ord-elsewhere", PARTITIONS) + 1) % PARTITIONS
    installation.write(
        Topic.PLACED,
        b"ord-elsewhere",
        installation.encode(Topic.PLACED, placed("ord-elsewhere")),
        timestamp_ms=NOW,
        partition=elsewhere,
    )
    installation.flush()


@pytest.fixture(scope="module")
def at_work(kafka: str, schema_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    space = TopicSpace(kafka)
    installation = Installation(space, schema_registry, partitions=PARTITIONS)
    write(installation)
    script = Script(refused_countries=frozenset({"li"}))
    with Loopback(StandIn(HakunaApi(), script)) as hakuna:
        environment = installation.environment | {"HAKUNA_BASE_URL": hakuna.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        with Worker("run", environment=environment, directory=tmp_path_factory.mktemp("worker")) as worker:
            wait_until(settled(worker), what="the worker's work", timeout_s=60, child=worker.child)
            yield AtWork(installation, worker)
    space.delete()


def lag(worker: Worker) -> int:
    """-1 until each role has a partition and has looked."""
    partitions = [one for role in worker.get("/status").json()["roles"] for one in role["partitions"]]
    done = len(partitions) == PARTITIONS * 6 and all(
        one["committed"] is not None or one["lag"] == 0 for one in partitions
    )
    read = {one["topic"]: one["position"] for one in partitions if one["topic"].endswith("outbox")}
    return sum(one["lag"] for one in partitions) if done and any(read.values()) else -1


def settled(worker: Worker) -> Callable[[], bool]:
    """Whether nothing has been behind for longer than the ends can be old that a lag is counted from."""
    behind_s = time.monotonic()

    def look() -> bool:
        nonlocal behind_s
        if lag(worker) != 0:
            behind_s = time.monotonic()
        return time.monotonic() - behind_s > ENDS_AGE_S_MAX + 1.0

    return look


def kinds(timeline: list[dict[str, Any]]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for one in timeline:
        counted[one["kind"]] = counted.get(one["kind"], 0) + 1
    return counted


@pytest.mark.parametrize("order_id", ["ord-all", ODD])
def test_an_order_with_every_kind_of_event_in_it(at_work: AtWork, order_id: str) -> None:
    timeline = at_work.timeline(order_id)
    events = [
        (one["event"], one["became"], (one["why"] or "").partition(":")[0])
        for one in timeline
        if one["kind"] == "event"
    ]
    assert [(event, became) for event, became, _ in events] == [
        ("line_items_fulfilled", "transformed"),
        ("order_placed", "transformed"),
        ("line_items_fulfilled", "transformed"),
        ("line_items_fulfilled", "duplicate"),
        ("line_items_refunded", "transformed"),
        ("line_items_refunded", "dead_lettered"),
        ("line_items_cancelled", "transformed"),
        ("order_cancelled", "transformed"),
        ("line_items_refunded", "ignored"),
    ]
    assert (events[5][2], events[8][2]) == ("quantity_exceeded", "order_cancelled")
    assert kinds(timeline) == {"event": 9, "entry": 6, "delivery": 6, "dead_letter": 1, "state": 1}
    assert {one["became"] for one in timeline if one["kind"] == "entry"} == {"delivered"}
    times = [one["at"] for one in timeline]
    assert times == sorted(times)
    (state,) = [one for one in timeline if one["kind"] == "state"]
    assert (
        state["line_items"][0] | {"id": "l1", "fulfilled": 2, "refunded": 1, "cancelled": 1} == state["line_items"][0]
    )


def test_an_order_that_is_held_says_behind_what(at_work: AtWork) -> None:
    timeline = at_work.timeline("ord-held")
    (hold,) = [one for one in timeline if one["kind"] == "hold"]
    assert hold["reason"] == "location_unsupported"
    letters = [one for one in timeline if one["kind"] == "dead_letter" and one["stage"] == "send"]
    assert [one["reason"] for one in letters].count("held") == len(letters) - 1
    assert {one["resolution"] for one in letters} == {"open"}
    assert hold["entry_id"] == next(
        one["entry_id"] for one in timeline if one["kind"] == "entry" and one["why"] != "held"
    )


@pytest.mark.parametrize(
    ("order_id", "became"),
    [("ord-parked", ["parked"]), ("ord-erased", ["transformed", "erased"]), ("ord-garbage", ["dead_lettered"])],
)
def test_what_becomes_of_odd_records(at_work: AtWork, order_id: str, became: list[str]) -> None:
    timeline = at_work.timeline(order_id)
    assert [one["became"] for one in timeline if one["kind"] == "event"] == became


def test_customer_data_is_hidden_unless_it_is_asked_for(at_work: AtWork) -> None:
    for output in ("json", "table"):
        said = at_work.order("ord-all", "--output", output)
        assert not [text for text in PERSONAL if text in said.out + said.err]
        shown = at_work.order("ord-all", "--output", output, "--show-personal-data")
        assert not [text for text in PERSONAL if text not in shown.out]


def test_an_order_that_nobody_knows_is_exit_1_and_an_empty_timeline(at_work: AtWork) -> None:
    said = at_work.order("nobody", "--output", "json")
    assert (said.code, printed("order", said.out)) == (1, {"order_id": "nobody", "timeline": []})
    assert "nothing is known of order nobody" in said.err


def test_an_order_in_a_partition_where_no_partitioner_puts_it_is_found(at_work: AtWork) -> None:
    said = at_work.order("ord-elsewhere", "--output", "json")
    assert said.code == 0
    assert kinds(json.loads(said.out)["timeline"])["event"] == 1
    assert "the producers of these topics partition in another way" in said.err


def test_a_key_may_be_a_megabyte_or_no_text_at_all(at_work: AtWork) -> None:
    said = at_work.order("-", "--output", "json", stdin=b"x" * 1_000_000)
    assert said.code == 1
    assert len(said.err) < 1000
    said = at_work.order(os.fsdecode(b"\xff\xfe"), "--output", "json")
    assert said.code == 0
    event, letter = json.loads(said.out)["timeline"]
    assert (event["event"], event["became"]) == ("erasure", "dead_lettered"), "whose data it erases nobody can tell"
    assert (letter["kind"], letter["reason"], letter["resolution"]) == ("dead_letter", "key_mismatch", "open")


def test_of_long_topics_little_is_read_wherever_the_order_lies_in_them(
    topic_space: TopicSpace, schema_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is kept of an order is found, and of the topics in time no more read than a second allows. How long it
    takes on a million records: `python -m tests.benchmarks order`."""
    records, at_most = 12_000, 2_000
    installation = Installation(topic_space, schema_registry)
    million.fill(installation, records, round(time.time() * 1000))
    monkeypatch.setattr(windows, "RECORDS_MAX", at_most)
    read: list[int] = []
    find = KafkaScan.find

    def counted(scan: KafkaScan, chosen: Sequence[Window], keys: AbstractSet[bytes] | None) -> list[Record]:
        if not any(window.topic.endswith(Topic.CHANGELOG) for window in chosen):
            read.append(sum(window.end - window.start for window in chosen))
        return find(scan, chosen, keys)

    monkeypatch.setattr(KafkaScan, "find", counted)
    for number in (0, records // 2, records - 1):
        said = ask("order", million.order_id(number), "--output", "json", environment=installation.environment)
        assert kinds(json.loads(said.out)["timeline"]) == {"event": 1, "entry": 1, "delivery": 1, "state": 1}, said.err
        assert "only the time around what is known was searched" in said.err
    assert len(read) == 3
    assert max(read) <= at_most

    nobody = ask("order", "ord-nobody", environment=installation.environment)
    assert nobody.code == 1
    assert "it has no state: its dead letters and what transform has not taken yet were searched" in nobody.err
    assert read.pop() == 0
    ask("order", "ord-nobody", "--full", environment=installation.environment)
    assert read.pop() == 3 * records


def test_an_order_without_a_state_is_found_where_it_must_be(
    topic_space: TopicSpace, schema_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transform has not taken yet, and what it has refused; the topics are too long to be read for either."""
    installation = Installation(topic_space, schema_registry)
    million.fill(installation, 200, round(time.time() * 1000))
    monkeypatch.setattr(windows, "RECORDS_MAX", 20)
    installation.event(Topic.PLACED, placed("ord-waiting"))
    refused: Headers = [("__dlq.errors.reason", b"undecodable"), ("__dlq.errors.stage", b"decode")]
    installation.write(Topic.ORDER_DEAD_LETTERS, b"ord-refused", b"\x00garbage", headers=refused)
    installation.flush()
    for order_id, kind, became in (("ord-waiting", "event", "waiting"), ("ord-refused", "dead_letter", None)):
        said = ask("order", order_id, "--output", "json", environment=installation.environment)
        (told,) = printed("order", said.out)["timeline"]
        assert (said.code, told["kind"], told.get("became")) == (0, kind, became)
        assert "it has no state" in said.err


def test_times_bound_what_is_read(at_work: AtWork) -> None:
    old = at_work.timeline("ord-all", "--until", "2026-09-22T00:00:00Z")
    assert {"event", "state"} <= set(kinds(old))
    assert "entry" not in kinds(old), "entries were written when the worker ran"
    assert "event" not in kinds(at_work.timeline("ord-all", "--since", "1h"))
    assert at_work.order("ord-all", "--since", "yesterday").code == 1


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("arguments", [("order", ODD), ("status", "--all"), ("topics", "plan"), ("schemas", "check")])
def test_a_table_on_a_terminal_keeps_to_its_width(at_work: AtWork, arguments: tuple[str, ...], columns: int) -> None:
    screen = run_on_terminal(*arguments, columns=columns, environment=at_work.environment)
    assert screen.code == 0
    assert "\x1b[31m" not in screen.text, "the ID's own escape sequence"
    widths = [len(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line).rstrip()) for line in screen.text.split("\r\n")]
    assert 40 < max(widths) <= columns


def test_no_colour_is_shown_where_none_is_wanted(at_work: AtWork) -> None:
    asked = ("status", "--all", "--workers", f"http://127.0.0.1:{at_work.worker.port}")
    for given, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        screen = run_on_terminal(*asked, columns=120, environment={**at_work.environment, **given})
        assert ("\x1b[32m" in screen.text) == coloured


@pytest.mark.parametrize("arguments", [("order", "ord-all"), ("status", "--all"), ("topics", "plan")])
def test_a_pipe_that_closes_is_no_traceback(at_work: AtWork, arguments: tuple[str, ...]) -> None:
    environment = {**os.environ, **at_work.environment}
    with subprocess.Popen(
        command(*arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()


@pytest.mark.parametrize(("arguments", "code"), [(("order", "ord-all"), 78), (("sku", "hk-1"), 78), (("status",), 1)])
def test_a_prefix_that_matches_nothing_is_said_to(at_work: AtWork, arguments: tuple[str, ...], code: int) -> None:
    """`status` has the workers to show all the same."""
    said = ask(*arguments, environment={**at_work.environment, "PROCESSOR_TOPIC_PREFIX": "nothing."})
    assert said.code == code
    assert "PROCESSOR_TOPIC_PREFIX" in said.err + said.out
    assert "none of Hako's topics" in said.err or "no topic of ours begins with 'nothing.'" in said.err + said.out


def test_a_registry_that_answers_something_else_costs_the_values_alone(at_work: AtWork) -> None:
    """JSON that is no registry's, and a page for people."""
    with login_page() as page:
        for url in (f"http://127.0.0.1:{at_work.worker.port}/status", page):
            environment = {**at_work.environment, "SCHEMA_REGISTRY_URL": url}
            said = ask("order", "ord-all", "--output", "json", environment=environment)
            assert said.code == 0
            assert "what the source records say cannot be shown" in said.err
            assert kinds(json.loads(said.out)["timeline"])["event"] == 9


def test_workers_and_brokers_in_one_picture(at_work: AtWork) -> None:
    (gone,) = free_ports(1)
    url = f"http://127.0.0.1:{at_work.worker.port}"
    said = ask(
        "status", "--workers", f"{url},http://127.0.0.1:{gone}", "--output", "json", environment=at_work.environment
    )
    told = printed("status", said.out)
    assert (said.code, told["well"], told["brokers"]) == (1, False, "answer")
    answering, silent = told["workers"]
    assert answering["ready"], answering["unready"]
    assert [role["role"] for role in answering["roles"]] == ["transform", "send"]
    assert answering["destinations"][0]["circuit"] == "closed"
    assert (answering["held_orders"], answering["parked_events"]) == (1, 1)
    assert silent["silent"].startswith("does not answer")
    assert {one["worker"] for one in told["partitions"]} == {url}
    assert {one["lag"] for one in told["partitions"]} == {0}
    assert len(told["partitions"]) == PARTITIONS * 6


def test_a_live_page_ends_with_ctrl_c(at_work: AtWork) -> None:
    screen = run_on_terminal(
        "status", "--watch", "--interval", "200ms", "--all",
        columns=120, environment=at_work.environment, interrupt_at="hakuna.outbox",
    )  # fmt: skip
    assert screen.code == 130
    assert screen.seconds < 5
    assert screen.text.rstrip().endswith("\x1b[?1049l"), "the page is left, and the cursor is back"
    assert "Traceback" not in screen.text


def test_into_a_pipe_each_look_is_printed_below_the_last(at_work: AtWork) -> None:
    given = {**os.environ, **at_work.environment, "PYTHONPATH": str(REPOSITORY)}
    line = command("status", "--watch", "--interval", "200ms", "--all")
    with subprocess.Popen(line, env=given, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        heads = 0
        for shown in watching.stdout:
            assert "\x1b" not in shown
            heads += shown.startswith("role")
            if heads == 3:
                break
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.wait(30) == 130


def test_lag_is_told_where_no_worker_is(at_work: AtWork) -> None:
    """Records that nobody takes: another group prefix is another installation on the same topics."""
    environment = {**at_work.environment, "PROCESSOR_GROUP_PREFIX": at_work.installation.space.prefix + "other."}
    said = ask("status", "--output", "json", environment=environment)
    told = printed("status", said.out)["partitions"]
    assert said.code == 0, "nobody was asked who does not answer"
    assert {one["worker"] for one in told} == {None}
    behind = [one for one in told if one["lag"]]
    assert behind
    assert all(one["lag_seconds"] > 0 for one in behind)


@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "ord-1"),
        ("sku", "hk-1"),
        ("status",),
        ("simulate", "--orders", "1", "--hakuna-port", "0", "--hako-port", "0"),
    ],
)
def test_a_broker_that_is_gone_is_named_within_seconds(arguments: tuple[str, ...]) -> None:
    (port,) = free_ports(1)
    environment = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
    said = run(*arguments, environment=environment)
    assert said.code == 1
    assert f"127.0.0.1:{port} cannot be connected to: Connection refused; start the broker" in said.err + said.out


def test_without_brokers_a_command_says_what_is_not_set() -> None:
    for arguments in (("order", "ord-1"), ("status",)):
        said = ask(*arguments)
        assert said.code == 78
        assert "KAFKA_BOOTSTRAP_SERVERS: not set" in said.err


@pytest.mark.parametrize(
    "arguments",
    [("order", "ord-1"), ("sku", "hk-1"), ("status",), ("topics", "create"), ("check", "--role", "transform")],
)
def test_ctrl_c_ends_a_command_that_waits_for_brokers(arguments: tuple[str, ...]) -> None:
    """One that greets as a broker does and then says nothing: librdkafka waits for it in C."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        child = subprocess.Popen(
            command(*arguments),
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with child:
            greeted, _ = silent.accept()
            with greeted:
                question = greeted.recv(1024)
                greeted.sendall(struct.pack(">i", 14) + question[8:12])
            waited_for, _ = silent.accept()
            with waited_for:
                child.send_signal(signal.SIGINT)
                _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"Traceback" not in err


def test_worker_directory_is_not_needed(tmp_path: Path) -> None:
    """An env file is enough, wherever it stands; the environment wins over it."""
    (port,) = free_ports(1)
    file = tmp_path / "worker.env"
    file.write_text(f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}\n")
    assert f"127.0.0.1:{port}" in ask("order", "x", "--env-file", str(file)).err

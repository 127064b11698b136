"""`hakuna-processor dead-letters` on a real Kafka, with real workers and a stand-in for Hakuna."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from processor.edges.clock import SystemClock
from processor.edges.kafka.reader import KafkaReader
from processor.letters.letter import DELIVERY_COUNT, Refusal, letter_headers
from processor.operate.replay.listing import Tally
from processor.operate.replay.reading import read
from processor.operate.replay.selection import EVERYTHING
from processor.records import HeaderName, Headers, Record, Stage, TopicPartition
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.json_output import printed
from tests.support.refused_shop import PLACED_MS, REFUSED, Shop, fulfilled_at
from tests.support.topics import TopicSpace, produce

pytestmark = pytest.mark.timeout(300)
"""Each starts several processes one after the other: on a machine that others use too, that takes minutes."""


def header_names(message: ck.Message) -> list[str]:
    headers = message.headers() or []
    assert isinstance(headers, list)
    return [header[0] for header in headers]


MakeShop = Callable[..., Shop]


@pytest.fixture
def shop(topic_space: TopicSpace) -> Iterator[MakeShop]:
    hakuna = StandIn(HakunaApi(), Script(refused_countries=frozenset({REFUSED})))
    with Loopback(hakuna) as api, Loopback(StandIn(RegistryApi())) as registry:
        yield lambda partitions=1: Shop(topic_space, hakuna, api.url, registry.url, partitions)


def test_two_hundred_refused_orders_with_followers_are_delivered_once_in_order_though_the_command_is_killed(
    shop: MakeShop, start_worker: StartWorker
) -> None:
    """And with live traffic for the same orders all the while."""
    with_shop = shop(partitions=2)
    start_worker("run", environment=with_shop.environment)
    orders = [f"ord-{number}" for number in range(200)]
    for order_id in orders:
        with_shop.place(order_id)
        with_shop.fulfil(order_id, 1)
    with_shop.installation.flush()
    wait_until(lambda: with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 400, what="letters", timeout_s=60)
    with_shop.script(refused_countries=frozenset())

    replay = ("replay", "--reason", "location_unsupported", "--rate", "150", "--output", "json")
    killed = with_shop.start(*replay)
    wait_until(lambda: len(with_shop.space.records(Topic.RESOLUTIONS)) > 100, what="half of it", timeout_s=60)
    killed.kill()
    killed.communicate()
    second = with_shop.start(*replay)
    for order_id in orders[::10]:
        with_shop.fulfil(order_id, 2)
    with_shop.installation.flush()
    for order_id in orders[::10]:
        with_shop.fulfil(order_id, 3)
        time.sleep(0.05)
    with_shop.installation.flush()
    out, err = second.communicate(timeout=100)
    assert second.returncode == 0, err
    report = json.loads(out)[0]
    assert report["left"] == 0, json.dumps(report)
    assert not report["returned"]
    wait_until(lambda: with_shop.hakuna.record.summary(1)["accepted"] == 440, what="delivered", timeout_s=60)
    for number, order_id in enumerate(orders):
        live = [fulfilled_at(2), fulfilled_at(3)] if number % 10 == 0 else []
        assert with_shop.told(order_id) == ["order_placed", fulfilled_at(1), *live], order_id
    assert with_shop.hakuna.record.repeats == 0
    assert with_shop.hakuna.record.overlap_count == 0
    assert not with_shop.held()
    assert with_shop.command("list", "--output", "json")["letters"] == 0

    one = f"{with_shop.space.name(Topic.HAKUNA_DEAD_LETTERS)}/0/0"
    assert f"{one} was replayed by" in with_shop.command("replay", one, code=1)


def test_a_letter_that_is_refused_five_times_has_one_set_of_headers_and_is_kept_exactly(
    shop: MakeShop, start_worker: StartWorker
) -> None:
    with_shop = shop()
    start_worker("run", environment=with_shop.environment)
    with_shop.place("ord-1")
    with_shop.fulfil("ord-1", 1)
    with_shop.installation.flush()
    wait_until(lambda: with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 2, what="letters", timeout_s=60)
    messages = with_shop.letters()
    first, follower = messages[0], messages[1]
    for number in range(1, 4):
        told = with_shop.command("replay", "--everything", "--output", "json", code=1)
        assert "too many came back" in told
        assert with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 2 + 2 * number
    assert "it was replayed as often as --max-replays allows" in with_shop.command(
        "replay", "--everything", "--dry-run"
    )
    for _ in range(2):
        with_shop.command("replay", "--everything", "--max-replays", "9", "--output", "json", code=1)

    messages = with_shop.letters()
    last, last_follower = messages[-2], messages[-1]
    for before, after in ((first, last), (follower, last_follower)):
        assert (after.key(), after.value(), after.timestamp()) == (before.key(), before.value(), before.timestamp())
        names = header_names(after)
        assert len(names) == len(set(names))
        old, new = dict(before.headers() or []), dict(after.headers() or [])
        assert new.pop("replay-count") == b"5"
        assert new.pop("replay-id")
        assert new.pop("replay-of")
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        assert changed <= {"__dlq.errors.delivery.count", "__dlq.errors.last.failed.at"}
        assert [name for name in names if name in old] == header_names(before)
    assert dict(last.headers() or [])[DELIVERY_COUNT] == b"6"
    assert with_shop.told("ord-1") == []
    assert with_shop.held() == {b"ord-1"}

    with_shop.script(refused_countries=frozenset())
    with_shop.command("replay", "--everything", "--max-replays", "9")
    assert with_shop.told("ord-1") == ["order_placed", fulfilled_at(1)]
    with_shop.place("ord-2", country="de")
    with_shop.fulfil("ord-1", 2)
    with_shop.installation.flush()
    wait_until(lambda: len(with_shop.told("ord-1")) == 3, what="the released order", timeout_s=60)


def test_letters_of_a_source_go_back_through_transform_edited_and_held_orders_stay_in_order(
    shop: MakeShop, start_worker: StartWorker, tmp_path: Path
) -> None:
    with_shop = shop()
    start_worker("run", environment=with_shop.environment)
    with_shop.place("ord-1", country="de")
    with_shop.place("ord-2")
    with_shop.installation.flush()
    with_shop.fulfil("ord-1", 1, "li-none")
    with_shop.fulfil("ord-2", 1, "li-none")
    with_shop.installation.write(Topic.PLACED, b"ord-3", b"no Avro")
    with_shop.installation.flush()
    wait_until(lambda: with_shop.count(Topic.ORDER_DEAD_LETTERS) == 3, what="letters", timeout_s=60)
    unfit = tmp_path / "unfit.json"
    unfit.write_text('{"items": [{"line_item_id": "li-1", "quantity": "one", "fulfilled_at": 1}]}')
    typo = tmp_path / "typo.json"
    typo.write_text('{"itms": []}')
    fit = tmp_path / "fit.json"
    fit.write_text(json.dumps({"items": [{"line_item_id": "li-1", "quantity": 1, "fulfilled_at": PLACED_MS + 1_000}]}))

    filters = ("--topic", "orders.fulfilled", "--reason", "line_item_unknown")
    said = with_shop.command("replay", *filters, "--edit", str(unfit), code=1)
    assert "the patch does not fit 2 of the letters, and none was sent" in said
    assert said.count("quantity must be of type int") == 1, "each reason once, with an example"
    assert f"(2, such as {with_shop.space.name(Topic.ORDER_DEAD_LETTERS)}/" in said
    assert not with_shop.space.records(Topic.RESOLUTIONS)
    typing = with_shop.start("replay", *filters, "--edit", str(typo), "--dry-run")

    report = with_shop.command("replay", *filters, "--edit", str(fit), "--output", "json")[0]
    assert report["accepted"] == 2
    assert "a field that its schema does not have" in typing.communicate(timeout=60)[1]
    wait_until(lambda: len(with_shop.told("ord-1")) == 2, what="the edited event", timeout_s=60)
    assert with_shop.told("ord-1") == ["order_placed", fulfilled_at(1)]
    # The other order is held: what came back through transform is held like anything else.
    wait_until(lambda: with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 2, what="the held entry", timeout_s=60)
    assert with_shop.told("ord-2") == []
    resolution = json.loads(with_shop.space.records(Topic.RESOLUTIONS)[-2].value() or b"")
    assert resolution["how"] == "replayed"
    assert resolution["edit"] == json.loads(fit.read_text())
    # The original is kept, and shown with what is known of its order.
    letters = {letter.key(): letter.offset() for letter in with_shop.space.records(Topic.ORDER_DEAD_LETTERS)}
    shown, masked, listed = with_shop.side_by_side(
        ("show", f"{with_shop.space.name(Topic.ORDER_DEAD_LETTERS)}/0/{letters[b'ord-1']}", "--output", "json"),
        ("show", "--order-id", "ord-2", "--topic", "hakuna.dead-letters", "--output", "json"),
        ("list", "--output", "json"),
    )
    assert shown["status"] == "replayed"
    assert shown["value"]["content"]["items"][0]["line_item_id"] == "li-none"
    assert {"event", "entry", "delivery", "dead_letter"} <= {moment["kind"] for moment in shown["timeline"]}
    assert "max@example.com" not in json.dumps(masked)
    assert {one["reason"]: one["letters"] for one in listed["counts"]} == {
        "undecodable": 1, "location_unsupported": 1, "held": 1
    }  # fmt: skip

    named, none, none_json, screen, wide = (
        ask("dead-letters", *words, environment=with_shop.environment_of_command())
        for words in (
            ("list", "--output", "ndjson"),
            ("list", "--reason", "location_unsuported"),
            ("list", "--reason", "location_unsuported", "--output", "json"),
            ("list",),
            ("list", "--wide"),
        )
    )
    each = [printed("dead-letters.each", line) for line in named.out.splitlines()]
    assert sorted((one["order_id"], one["reason"]) for one in each) == [
        ("ord-2", "held"), ("ord-2", "location_unsupported"), ("ord-3", "undecodable")
    ]  # fmt: skip
    assert [one["letter"] for one in masked["letters"]] == [one["letter"] for one in each if one["order_id"] == "ord-2"]
    assert "no open letter has the reason location_unsuported; letters have " in none.err
    assert "location_unsupported (1)" in none.err
    assert none_json.err == none.err
    assert printed("dead-letters.list", none_json.out)["counts"] == []
    assert max(map(len, screen.out.splitlines())) <= 80, screen.out
    assert "oldest" not in screen.out
    head, *rows = wide.out.splitlines()
    assert {"letters", "age", "reason", "code", "from", "topic", "oldest", "newest"} == set(head.split())
    assert all(re.search(r"20\d\d-\d\d-\d\dT[\d:.]+Z +20\d\d-", row) for row in rows), wide.out

    with_shop.command(
        "discard", "--letter-reason", "undecodable", "--reason", "a test's", "--by", "ada", "--output", "json"
    )
    noted = [json.loads(one.value() or b"{}") for one in with_shop.space.records(Topic.RESOLUTIONS)]
    discarded = [(one["by"], one["reason"]) for one in noted if one.get("how") == "discarded"]
    assert discarded == [("ada", "a test's")]
    young = with_shop.command("purge", "--older-than", "1h", "--dry-run", "--output", "json")["partitions"]
    assert {(one["deleted"], one["because"]) for one in young if one["stays"] == 3} == {(0, "younger")}
    cuts = with_shop.command("purge", "--older-than", "0s", "--output", "json")["partitions"]
    by_topic = {one["topic"].removeprefix(with_shop.space.prefix): one for one in cuts}
    assert by_topic["orders.dead-letters"]["deleted"] == 3
    assert by_topic["hakuna.dead-letters"]["deleted"] == 0
    assert by_topic["hakuna.dead-letters"]["because"] == "open: location_unsupported"
    assert with_shop.count(Topic.ORDER_DEAD_LETTERS) == 0


def test_an_erased_order_is_not_sent_again_and_its_letters_go_where_that_is_asked_for(
    shop: MakeShop, start_worker: StartWorker
) -> None:
    with_shop = shop(partitions=2)
    start_worker("run", environment=with_shop.environment)
    for order_id in ("ord-1", "ord-2"):
        with_shop.place(order_id)
        with_shop.fulfil(order_id, 1)
    with_shop.installation.flush()
    wait_until(lambda: with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 4, what="letters", timeout_s=60)
    with_shop.script(refused_countries=frozenset())
    placed = with_shop.space.records(Topic.PLACED)
    written = with_shop.space.end_offsets(Topic.PLACED)

    def erase(*arguments: str) -> dict[str, Any]:
        said = ask("erase", "ord-1", *arguments, "--output", "json", environment=with_shop.environment_of_command())
        assert said.code == 0, said
        told: dict[str, Any] = printed("erase", said.out)
        return told

    planned = erase("--dry-run", "--letters")
    assert planned["erasure"] is None
    assert with_shop.space.end_offsets(Topic.PLACED) == written
    assert {one["topic"].removeprefix(with_shop.space.prefix): one["records"] for one in planned["left"]} == {
        "orders.placed": 1, "orders.fulfilled": 1, "hakuna.outbox": 2, "hakuna.dead-letters": 2
    }  # fmt: skip
    kept = {one["topic"].removeprefix(with_shop.space.prefix): one["kept_until"] for one in planned["left"]}
    assert kept["hakuna.dead-letters"] is None
    assert kept["hakuna.outbox"] > time.time() * 1_000

    erased = erase()
    ((null, place),) = [
        (one, f"{one.topic()}/{one.partition()}/{one.offset()}")
        for one in with_shop.space.records(Topic.PLACED)
        if one.value() is None
    ]
    assert (null.key(), place) == (b"ord-1", erased["erasure"])
    assert null.partition() == next(one.partition() for one in placed if one.key() == b"ord-1")
    (told,) = with_shop.command(
        "replay", "--everything", "--topic", "hakuna.dead-letters", "--as-sent", "--output", "json"
    )
    assert (told["accepted"], sum(told["stays"].values())) == (2, 2)
    assert all("--erased sends it all the same" in why for why in told["stays"])
    assert with_shop.told("ord-1") == []

    gone = erase("--letters", "--by", "ada")
    assert len(gone["letters"]["found"]) == 2
    assert gone["letters"]["stay"] == []
    assert not [letter for letter in with_shop.letters() if letter.key() == b"ord-1"]
    assert not with_shop.held()


def test_a_terminal_shows_a_bar_and_ctrl_c_stops_where_the_same_command_goes_on(
    shop: MakeShop, start_worker: StartWorker
) -> None:
    with_shop = shop()
    start_worker("run", environment=with_shop.environment)
    for number in range(40):
        with_shop.place(f"ord-{number}")
    with_shop.installation.flush()
    wait_until(lambda: with_shop.count(Topic.HAKUNA_DEAD_LETTERS) == 40, what="letters", timeout_s=60)
    with_shop.script(refused_countries=frozenset())
    arguments = ["replay", "--topic", "hakuna.dead-letters", "--rate", "2", "--canary", "3"]
    others: list[str] = []

    def meanwhile() -> None:
        others.append(with_shop.command("discard", "--everything", "--reason", "all of it", code=1))

    screen, code = on_terminal(with_shop, arguments, b"replay ", meanwhile)
    assert "another command is at work: dead-letters-" in others[0]
    assert code == 1
    assert b"40 letters of 40 orders will be sent again" in screen
    assert b"came back" in screen
    assert b"/40" in screen
    assert b"stopping on SIGINT: the same command goes on from here" in screen
    done = len(with_shop.space.records(Topic.RESOLUTIONS)) - 1
    assert 3 <= done < 40
    report = with_shop.command(*arguments[:-4], "--rate", "1000", "--output", "json")[0]
    assert report["sent"] == 40
    assert with_shop.hakuna.record.repeats == 0
    assert not with_shop.held()


def on_terminal(
    with_shop: Shop, arguments: Sequence[str], until: bytes, meanwhile: Callable[[], None]
) -> tuple[bytes, int]:
    """What a person sees; once `until` is on the screen something else is done, and then Ctrl-C typed."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**with_shop.environment_of_command(), "TERM": "xterm-256color", "COLUMNS": "120"}
        os.execve(sys.executable, [sys.executable, "-m", "processor", "dead-letters", *arguments], environment)
    screen = b""
    asked = False
    deadline = time.monotonic() + 90
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(terminal, 65_536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            screen += part
            if not asked and until in screen:
                asked = True
                meanwhile()
                os.write(terminal, b"\x03")
        return screen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)


def write_letters(space: TopicSpace, topic: str, count: int, headers: Callable[[int], Headers]) -> None:
    producer = ck.Producer({"bootstrap.servers": space.bootstrap_servers, "compression.type": "lz4", "linger.ms": 20})
    for number in range(count):
        value, given = b'{"type":"order_placed"}' * 20, headers(number)
        produce(producer, space.name(topic), value, f"ord-{number}", headers=given, timestamp=PLACED_MS)
    assert producer.flush(60) == 0


def test_a_hundred_thousand_letters_are_listed_at_no_less_than_half_the_speed_of_consuming_them(shop: MakeShop) -> None:
    with_shop = shop()
    record = Record("orders.placed", 0, 1, PLACED_MS, b"k", b"v", [("entry-id", b"e"), ("traceparent", b"00-1-2-01")])
    refusal = Refusal(
        stage=Stage.SEND, reason="location_unsupported", message="Hakuna refused it: HTTP 422", group="g",
        failed_ms=PLACED_MS, http_status=422, error_code="location_unsupported", validation_errors=("country",),
    )  # fmt: skip
    headers = letter_headers(record, refusal)
    write_letters(with_shop.space, Topic.HAKUNA_DEAD_LETTERS, 100_000, lambda _number: headers)
    space = with_shop.space
    raw_s = min(consume_all(space, Topic.HAKUNA_DEAD_LETTERS) for _ in range(2))
    counted_s = min(count_all(space, Topic.HAKUNA_DEAD_LETTERS) for _ in range(2))
    started = time.monotonic()
    listed = with_shop.command("list", "--output", "json")
    whole_s = time.monotonic() - started
    print(f"CPU: raw consume {raw_s:.2f} s, count {counted_s:.2f} s; the command took {whole_s:.2f} s")  # noqa: T201
    assert listed["letters"] == 100_000
    assert listed["counts"][0]["error_code"] == "location_unsupported"
    assert counted_s < 2 * raw_s


def count_all(space: TopicSpace, topic: str) -> float:
    """Seconds of CPU to count a topic's letters as `list` does: CPU, since a neighbour's load is no figure of ours."""
    reader = KafkaReader({"bootstrap.servers": space.bootstrap_servers}, group="count", client_id="count")
    where = TopicPartition(space.name(topic), 0)
    tally = Tally(EVERYTHING)
    started = time.process_time()
    for records in read(reader, SystemClock(), where, 0, reader.ends([where])[where], lambda _records: None):
        tally.take(records, {}, all_letters=False)
    taken_s = time.process_time() - started
    reader.close()
    assert tally.letters == 100_000
    return taken_s


def consume_all(space: TopicSpace, topic: str) -> float:
    """Seconds of CPU to consume every record of a topic, and to look at nothing of it but its headers."""
    consumer = ck.Consumer(
        {
            "bootstrap.servers": space.bootstrap_servers,
            "group.id": "raw",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
        }
    )
    started = time.process_time()
    consumer.assign([ck.TopicPartition(space.name(topic), 0, 0)])
    while True:
        for message in consumer.consume(5_000, 0.05):
            if message.error() is not None:
                taken_s = time.process_time() - started
                consumer.close()
                return taken_s
            message.headers()


def test_letters_of_other_tools_are_listed_and_go_back_where_they_came_from(shop: MakeShop) -> None:
    with_shop = shop()
    with_shop.space.create("connect.dlq", "payments")
    payments = with_shop.space.name("payments").encode()
    families: Mapping[int, Headers] = {
        0: [
            ("__connect.errors.topic", payments), ("__connect.errors.partition", b"0"),
            ("__connect.errors.offset", b"7"), ("__connect.errors.exception.class.name", b"org.x.DataException"),
        ],
        1: [
            ("kafka_dlt-original-topic", payments), ("kafka_dlt-original-partition", b"\0\0\0\0"),
            ("kafka_dlt-original-offset", b"\0\0\0\0\0\0\0\x08"), ("kafka_dlt-exception-fqcn", b"org.y.ListenerFailed"),
        ],
        2: [
            ("__streams.errors.topic", payments), ("__streams.errors.partition", b"0"),
            ("__streams.errors.offset", b"9"), ("__streams.errors.exception", b"org.z.StreamsException: no"),
        ],
        3: [("shop", b"s")],
        4: [
            ("__dlq.errors.topic", payments), ("__dlq.errors.partition", b"0"), ("__dlq.errors.offset", b"10"),
            ("__dlq.errors.group", b"share-1"), ("__dlq.errors.delivery.count", b"5"),
            ("__dlq.errors.message", b"rejected"),
        ],
    }  # fmt: skip
    source = ck.Producer({"bootstrap.servers": with_shop.space.bootstrap_servers})
    source.produce(payments.decode(), b"paid", b"ord-6", headers=[("shop", b"s")], timestamp=PLACED_MS)
    write_letters(with_shop.space, "connect.dlq", 5, lambda number: families[number])
    name = with_shop.space.name("connect.dlq")
    for offset in (b"0", b"99"):  # KIP-1191 without a copy: the source record is there, and it is not
        bare = [(header, offset if header.endswith(".offset") else value) for header, value in families[4]]
        source.produce(name, headers=list[Any](bare))
    assert source.flush(60) == 0
    counts = with_shop.command("list", "--topic", name, "--output", "json")["counts"]
    assert {one["reason"] for one in counts} == {"DataException", "ListenerFailed", "StreamsException", "unknown"}
    shown = with_shop.side_by_side(
        *(("show", f"{name}/0/{number}", "--no-timeline", "--output", "json") for number in families)
    )
    assert [(one["family"], one["from"]) for one in shown] == [
        ("connect", f"{payments.decode()}/0/7"), ("spring", f"{payments.decode()}/0/8"),
        ("streams", f"{payments.decode()}/0/9"), ("unknown", None), ("share-group", f"{payments.decode()}/0/10"),
    ]  # fmt: skip
    report = with_shop.command("replay", "--topic", name, "--canary", "0", "--output", "json")[0]
    assert report["sent"] == 5
    assert report["stays"] == {
        "it does not say where it came from, or that topic is gone": 1,
        "it has no value, and its source record is gone": 1,
    }
    _, *returned, completed = with_shop.space.records("payments")
    assert len(returned) == 4
    assert (completed.key(), completed.value(), completed.timestamp()[1]) == (b"ord-6", b"paid", PLACED_MS)
    assert header_names(completed)[:1] == ["shop"]
    for record in returned:
        assert header_names(record) == [
            HeaderName.REPLAY_ID, HeaderName.REPLAY_COUNT, HeaderName.REPLAY_OF
        ]  # fmt: skip


def test_a_plan_names_every_order_and_says_that_nobody_reads_what_will_be_sent(shop: MakeShop) -> None:
    with_shop = shop()
    record = Record("hakuna.outbox", 0, 1, PLACED_MS, b"k", b"v", [])
    refusal = Refusal(stage=Stage.SEND, reason="http_400", message="", group="g", failed_ms=PLACED_MS)
    headers = letter_headers(record, refusal)
    write_letters(
        with_shop.space, Topic.HAKUNA_DEAD_LETTERS, 30, lambda number: [*headers, ("entry-id", b"%d" % number)]
    )
    plan = ("replay", "--everything", "--topic", "hakuna.dead-letters", "--as-sent", "--dry-run")
    (told,) = with_shop.command(*plan, "--output", "json")
    assert sorted(told["order_ids"]) == sorted(f"ord-{number}" for number in range(30))
    assert told["unread"] == [with_shop.space.name(Topic.OUTBOX)]
    out, _ = with_shop.start(*plan).communicate(timeout=60)
    assert "30 letters of 30 orders will be sent again" in out
    assert f"nobody reads {with_shop.space.name(Topic.OUTBOX)}" in out


def test_what_cannot_be_done_is_said_in_one_sentence_and_nothing_is_half_done(shop: MakeShop) -> None:
    with_shop = shop()
    name = with_shop.space.name(Topic.HAKUNA_DEAD_LETTERS)
    no_topic, no_letter = with_shop.side_by_side(("list", "--topic", "nowhere"), ("show", f"{name}/0/3"), code=1)
    assert f"there is no topic nowhere; ours for dead letters are {with_shop.space.prefix}orders" in no_topic
    assert f"there is no letter {name}/0/3" in no_letter
    no_rate, no_time, no_filter = with_shop.side_by_side(
        ("replay", "--everything", "--rate", "0"), ("list", "--since", "noon"), ("discard", "--reason", "x"), code=1
    )
    assert "at 0 letters a second nothing would be sent" in no_rate
    assert "is not a time such as" in no_time
    assert "name letters or a filter" in no_filter
    empty, nothing = with_shop.side_by_side(("list",), ("replay", "--reason", "no_such"))
    assert "no open letter fits, of 0 in" in empty
    assert "no open letter fits that could be sent again" in nothing

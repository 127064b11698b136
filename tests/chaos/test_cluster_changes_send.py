"""What operators do to topics and groups under real send and hako workers: all that was never sent is sent, nothing
that was is sent again, and the worker says what it found.

One broker and one installation of send's through all of its rows, one of hako's through its own.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Partition

from processor.config import Role
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.send.kafka_thread.beginnings import Book, decode_book
from processor.topics import CONFIG, NEEDED, Topic
from tests.conftest import StartWorker
from tests.integration.test_hako import stocked
from tests.integration.test_whole_path import lag
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.small_server import posts, serving
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]

PARTITIONS = 2
DONE_S_MAX = 60.0


class Shop:
    """Writes entries of its own straight to the outbox, and is the API that they are sent to. Mutable: `asked` counts
    requests by idempotency key; `refused` are orders that are answered 422, `broken` those that are answered 500."""

    def __init__(self, space: TopicSpace, *, transactional: bool = False) -> None:
        """`transactional`: each entry in a transaction of its own, whose marker takes an offset."""
        self.space = space
        self.broken: set[str] = set()
        self._transactional = transactional
        self.asked: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.written: list[str] = []
        self.look_again()
        self._lock = threading.Lock()

    def look_again(self) -> None:
        """A producer that knows of the partitions that there are now."""
        settings = {"bootstrap.servers": self.space.bootstrap_servers}
        if self._transactional:
            settings["transactional.id"] = self.space.name("shop")
        self._producer = Producer(settings)
        if self._transactional:
            self._producer.init_transactions(30)

    def write(
        self, count: int, *, order: str | None = None, partition: int | None = None, padding: str = ""
    ) -> list[str]:
        """That many entries, each of an order of its own. Returns their keys."""
        keys = []
        for _ in range(count):
            number = len(self.written)
            keys.append(f"e{number}")
            self.written.append(keys[-1])
            order_id = f"order-{number}" if order is None else order
            if self._transactional:
                self._producer.begin_transaction()
            self._producer.produce(
                self.space.name(Topic.OUTBOX),
                json.dumps({"type": "order_placed", "payload": {"order_id": order_id}, "padding": padding}).encode(),
                order_id.encode(),
                number % PARTITIONS if partition is None else partition,
                headers=[
                    ("entry-id", keys[-1].encode()),
                    ("entry-type", b"order_placed"),
                    ("source", b"orders.placed/0/1"),
                    ("occurred-at", b"%d" % round(time.time() * 1000)),
                ],
            )
            if self._transactional:
                self._producer.commit_transaction(30)
        assert self._producer.flush(30) == 0
        return keys

    def answer(self, key: str, body: bytes) -> tuple[int, dict[str, Any]]:
        order_id = json.loads(body)["payload"]["order_id"]
        with self._lock:
            self.asked[key] += 1
        if order_id in self.broken:
            self.asked[key] = 0
            return 500, {"message": "broken"}
        if order_id in self.refused:
            return 422, {"error_code": "product_unsupported", "message": "no", "validation_errors": ["no"]}
        return 200, {"event_id": f"evt-{key}"}

    def api(self) -> AbstractContextManager[str]:
        return serving(posts(lambda headers, body: self.answer(headers["Idempotency-Key"].strip('"'), body)))

    def sent(self, keys: list[str]) -> None:
        """Until all of them have been asked for; none more than once."""
        wait_until(lambda: set(keys) <= set(self.asked), what=f"{len(keys)} entries", timeout_s=DONE_S_MAX)
        assert {key: self.asked[key] for key in keys if self.asked[key] != 1} == {}


def made_again(space: TopicSpace, topic: Topic, partitions: int = PARTITIONS) -> None:
    """Deleted, and made under the same name a moment later."""
    name = space.name(topic)
    space.admin.delete_topics([name])[name].result(timeout=30)
    time.sleep(0.3)
    deadline_s = time.monotonic() + 30
    while True:
        try:
            space.create(topic, partitions=partitions, config=CONFIG[topic])
        except Exception:  # it is still being deleted
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        else:
            return


def metric(worker: Worker, name: str, **labels: str) -> float:
    lines = [line for line in worker.get("/metrics").text.splitlines() if line.startswith(name + "{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(f'{k}="{v}"' in line for k, v in labels.items()))


def began(worker: Worker) -> set[str]:
    return {cause for one in worker.get("/status").json()["partitions"] for cause in one["began"]}


def shop_at(space: TopicSpace) -> Shop:
    """A shop, and the topics that send needs."""
    for topic in (*NEEDED[Role.SEND], Topic.RESOLUTIONS):
        space.create(topic, partitions=PARTITIONS, config=CONFIG[topic])
    return Shop(space)


def books(space: TopicSpace) -> dict[int, Book]:
    """The newest of each partition."""
    found = {}
    for record in space.records(Topic.SEND_OFFSETS):
        book = decode_book(record.value() or b"")
        assert book is not None
        found[int(record.key() or b"")] = book
    return found


def until_committed(space: TopicSpace, role: Role, topic: Topic) -> None:
    ends = {partition: end for partition, end in space.end_offsets(topic).items() if end}

    def done() -> bool:
        committed = space.committed(f"hakuna-processor.{role.value}", topic)
        return ends == {where[1]: one.offset for where, one in committed.items() if one.offset}

    wait_until(done, what=f"commits of {ends}", timeout_s=DONE_S_MAX)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_sender_sends_each_entry_once_whatever_an_operator_does_to_its_topics_and_its_group(
    topic_space: TopicSpace, start_worker: StartWorker, protocol: str
) -> None:
    space, shop = topic_space, shop_at(topic_space)
    with shop.api() as url:
        settings = {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY, "KAFKA_GROUP_PROTOCOL": protocol}

        def start(name: str, **more: str) -> Worker:
            environment = space.environment | settings | more
            return start_worker("run", "--role", "send", environment=environment, name=name, await_ready=False)

        worker = start("first")
        shop.sent(shop.write(60))

        # The outbox, made again while the worker works: shorter than the old position.
        made_again(space, Topic.OUTBOX)
        shop.sent(shop.write(20))
        if protocol == "classic":  # KIP-848's broker gives the partitions anew, which the group says
            said = "processor_offsets_lost_total"
            wait_until(lambda: metric(worker, said, cause="made_again") > 0, what="a word about it", timeout_s=20)
        until_committed(space, Role.SEND, Topic.OUTBOX)

        # The holds, made again: who follows a refused entry stays held.
        shop.refused.add("bad")
        (refused,) = shop.write(1, order="bad", partition=0)
        shop.sent([refused])
        until_committed(space, Role.SEND, Topic.OUTBOX)
        made_again(space, Topic.HOLDS)
        wait_until(lambda: bool(space.records(Topic.HOLDS)), what="the hold, made anew", timeout_s=30)
        shop.refused.clear()
        (held,) = shop.write(1, order="bad", partition=0)
        shop.sent(shop.write(4))
        until_committed(space, Role.SEND, Topic.OUTBOX)
        assert shop.asked[held] == 0
        assert worker.terminate() == 0

        # The group, gone while nobody works.
        space.delete_offsets("hakuna-processor.send")
        fresh = shop.write(10)
        worker = start("second")
        shop.sent(fresh)
        until_committed(space, Role.SEND, Topic.OUTBOX)
        assert sum(shop.asked.values()) == len(shop.written) - 1, "nothing was asked for twice"
        assert began(worker) == {"offsets_gone"}
        assert worker.terminate() == 0

        # Another group: as good as none.
        fresh = shop.write(4)
        worker = start("third", PROCESSOR_GROUP_PREFIX=f"{space.prefix}other.")
        shop.sent(fresh)
        assert sum(shop.asked.values()) == len(shop.written) - 1
        assert worker.terminate() == 0

        # Retention, faster than a worker that is down.
        lost = shop.write(12, partition=1)
        end = space.end_offsets(Topic.OUTBOX)[1]
        cut = [Partition(space.name(Topic.OUTBOX), 1, end - 2)]
        for answer in space.admin.delete_records(cut).values():
            answer.result(timeout=30)
        worker = start("fourth", PROCESSOR_GROUP_PREFIX=f"{space.prefix}other.")
        shop.sent(lost[-2:])
        wait_until(lambda: metric(worker, "processor_records_missed_total") == 10, what="10 missed", timeout_s=20)
        assert began(worker) == {"overtaken"}

        # Grown: the outbox alone, then all the others.
        space.grow(Topic.OUTBOX, PARTITIONS + 1)
        wait_until(
            lambda: "make them equal" in worker.get("/readyz").text or "as many" in worker.get("/readyz").text,
            what="the topics, named",
            timeout_s=60,
        )
        shop.sent(shop.write(4))
        shop.look_again()
        fresh = shop.write(2, partition=PARTITIONS)
        for topic in (*NEEDED[Role.SEND][1:], Topic.RESOLUTIONS):
            space.grow(topic, PARTITIONS + 1)
        assert worker.wait(60) == 1, "to be started again"
        worker = start("fifth", PROCESSOR_GROUP_PREFIX=f"{space.prefix}other.")
        shop.sent(fresh)
        assert worker.terminate() == 0
        repeated = {key: count for key, count in shop.asked.items() if count > 1}
        assert repeated == {}
        assert set(shop.written) - set(shop.asked) == {held, *lost[:-2]}

        # Set back by hand, and the group gone again: its book was set back as well.
        other = space.environment | settings | {"PROCESSOR_GROUP_PREFIX": f"{space.prefix}other."}
        knew = books(space)
        assert ask("rewind", "--role", "send", "--to", "earliest", environment=other).code == 0
        set_back = books(space)
        assert {number: (book.past, book.gap) for number, book in set_back.items()} == {
            number: (book.past, book.gap) for number, book in knew.items()
        }
        assert knew[0].past is not None
        assert knew[1].gap is not None
        assert set_back[0].next_offset == 0 < (knew[0].next_offset or 0)
        space.delete_offsets("other.hakuna-processor.send")
        worker = start("sixth", PROCESSOR_GROUP_PREFIX=f"{space.prefix}other.")
        wait_until(lambda: shop.asked[fresh[-1]] == 2 and shop.asked[lost[-1]] == 2, what="all of it", timeout_s=60)
        assert began(worker) == {"offsets_gone"}
        assert worker.terminate() == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_books_made_again_and_an_outbox_with_fewer_partitions_cost_no_entry(
    topic_space: TopicSpace, start_worker: StartWorker, protocol: str
) -> None:
    space, shop = topic_space, shop_at(topic_space)
    with shop.api() as url:
        settings = {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY, "KAFKA_GROUP_PROTOCOL": protocol}

        def start(name: str) -> Worker:
            return start_worker(
                "run", "--role", "send", environment=space.environment | settings, name=name, await_ready=False
            )

        # The books, made again under a worker that is then killed; and the group is gone.
        worker = start("first")
        shop.sent(shop.write(40))
        until_committed(space, Role.SEND, Topic.OUTBOX)
        made_again(space, Topic.SEND_OFFSETS)
        wait_until(
            lambda: len({record.key() for record in space.records(Topic.SEND_OFFSETS)}) == PARTITIONS,
            what="the books, written again",
            timeout_s=30,
        )
        worker.kill()
        deadline_s = time.monotonic() + DONE_S_MAX
        while True:
            try:
                space.delete_offsets("hakuna-processor.send")
            except Exception:  # the killed member is still in it
                assert time.monotonic() < deadline_s
                time.sleep(0.5)
            else:
                break
        fresh = shop.write(6)
        worker = start("second")
        shop.sent(fresh)
        assert began(worker) == {"offsets_gone"}
        assert {key: count for key, count in shop.asked.items() if count > 1} == {}

        # What was accepted, and what was refused: nothing needs them, and letters come again.
        until_committed(space, Role.SEND, Topic.OUTBOX)  # its receipts are in the topic of before
        made_again(space, Topic.DELIVERIES)
        made_again(space, Topic.HAKUNA_DEAD_LETTERS)
        shop.refused.add("bad")
        (refused,) = shop.write(1, order="bad", partition=1)
        fresh = shop.write(6)
        shop.sent([refused, *fresh])
        until_committed(space, Role.SEND, Topic.OUTBOX)
        assert len(space.records(Topic.HAKUNA_DEAD_LETTERS)) == 1
        assert len(space.records(Topic.DELIVERIES)) == 6

        # The outbox, made again with one partition less.
        made_again(space, Topic.OUTBOX, partitions=1)
        shop.look_again()
        fresh = [key for _ in range(8) for key in shop.write(1, partition=0)]
        shop.sent(fresh)
        wait_until(
            lambda: "has 1 partitions" in worker.get("/readyz").text, what="the topics, named", timeout_s=DONE_S_MAX
        )
        assert worker.terminate() == 0
        worker = start("third")
        fresh = shop.write(2, partition=0)
        shop.sent(fresh)
        assert worker.terminate() == 0
        assert {key: count for key, count in shop.asked.items() if count > 1} == {}
        assert set(shop.written) == set(shop.asked)


@pytest.mark.timeout(200)
def test_a_limit_of_the_letters_lowered_at_work_costs_one_its_value_and_one_of_the_users_own_is_refused_at_the_start(
    topic_space: TopicSpace, start_worker: StartWorker
) -> None:
    space, shop = topic_space, shop_at(topic_space)
    with shop.api() as url:
        environment = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY}
        worker = start_worker("run", "--role", "send", environment=environment, name="first")
        shop.sent(shop.write(4))
        space.configure(Topic.HAKUNA_DEAD_LETTERS, config={"max.message.bytes": "20000"})
        shop.refused |= {"large", "small"}
        # No codec makes it small.
        refused = shop.write(1, order="large", partition=0, padding=secrets.token_urlsafe(60_000))
        refused += shop.write(1, order="small", partition=0)
        unready = 0
        for _ in range(10):
            shop.sent(shop.write(20))
            unready += not worker.ready()
        shop.sent(refused)
        until_committed(space, Role.SEND, Topic.OUTBOX)
        assert unready == 0
        letters = {record.key(): record for record in space.records(Topic.HAKUNA_DEAD_LETTERS)}
        assert letters.keys() == {b"large", b"small"}
        reasons = {key: dict(letter.headers() or [])["__dlq.errors.reason"] for key, letter in letters.items()}
        assert reasons == {b"large": b"too_large", b"small": b"product_unsupported"}
        assert letters[b"large"].value() is None
        assert letters[b"small"].value() is not None
        assert worker.terminate() == 0

        own = environment | {"KAFKA_MESSAGE_MAX_BYTES": "30000"}
        worker = start_worker("run", "--role", "send", environment=own, name="second", await_ready=False)
        assert worker.wait(60) == 78
        assert "KAFKA_MESSAGE_MAX_BYTES" in worker.log_tail()


@pytest.mark.timeout(300)
def test_levels_made_again_and_a_group_that_is_gone_leave_hako_with_the_last_value_of_each(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    installation = Installation(topic_space, schema_registry, partitions=2)
    stock = stocked(installation, 20)
    hako = StandIn(HakoApi())
    with Loopback(hako) as api:
        environment = installation.environment | {
            "HAKO_BASE_URL": api.url,
            "HAKO_API_KEY": SANDBOX_KEY,
            "HAKO_QUOTA": "20/1s",
        }

        def start(name: str) -> Worker:
            return start_worker("run", "--role", "hako", environment=environment, name=name)

        def told() -> bool:
            return hako.api.contents() == stock.tables

        worker = start("first")
        wait_until(told, what="the first levels", timeout_s=DONE_S_MAX)

        # Items too: what is newest of them is told by offset, and a new log begins at 0.
        made_again(topic_space, Topic.LEVELS)
        made_again(topic_space, Topic.ITEMS)
        for number in range(12):
            stock.level("w", f"sku-{number}", 100 + number)
            stock.item(f"sku-{number}", f"Renamed {number}", number)
        installation.flush()
        wait_until(told, what="the new levels", timeout_s=DONE_S_MAX)
        assert worker.terminate() == 0
        for number in range(5):
            stock.level("w", f"sku-{number}", 200 + number)
        installation.flush()
        worker = start("second")
        wait_until(told, what="levels after a restart", timeout_s=DONE_S_MAX)
        assert worker.terminate() == 0

        topic_space.delete_offsets("hakuna-processor.hako")
        requests = hako.record.requests
        stock.level("w", "sku-1", 300)
        installation.flush()
        worker = start("third")
        wait_until(told, what="the one level", timeout_s=DONE_S_MAX)
        wait_until(lambda: lag(worker) == 0, what="the rest", timeout_s=DONE_S_MAX)
        assert "offsets_gone" in began(worker)
        assert hako.record.requests == requests + 1
        assert worker.terminate() == 0

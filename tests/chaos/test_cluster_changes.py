"""What operators do to topics, groups and limits under transform: nothing lost, doubled or skipped without a word.

Real workers on a real broker, at default settings of both. Each test is one life of an installation, in which
several things happen one after the other, so that a worker's start is paid for once."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition as Where

from processor.edges.kafka.changes import OffsetsOfGroup
from processor.letters.letter import letter_head
from processor.records import Position
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sources.placements import by_murmur2
from processor.topics import TOPICS, Topic
from tests.support.commands import ask, command, run
from tests.support.processes import Worker
from tests.support.transform_site import GROUP, Site

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(300)]

EXIT_S_MAX = 60.0


@pytest.fixture
def site(kafka: str, schema_registry: str, tmp_path: Path) -> Iterator[Site]:
    with Site(kafka, schema_registry, tmp_path, partitions=2) as made:
        yield made


class Shop:
    """Writes orders and what happens to them where murmur2 puts them, in topics of so many partitions."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._events = 0
        self.partitions = site.partitions

    def place(self, *orders: str, bad: bool = False) -> None:
        for order in orders:
            if bad:
                self._write(Topic.PLACED, order, b"\x00\x00\x00\x00\x00no order")
            else:
                self._site.place(order, self._home(order))
        self._site.installation.flush()

    def fulfil(self, *orders: str) -> None:
        for order in orders:
            self._events += 1
            items = [{"line_item_id": "l", "quantity": 1, "fulfilled_at": 1_700_000_000_000}]
            event = {"event_id": f"f{self._events}", "order_id": order, "items": items}
            self._write(Topic.FULFILLED, order, self._site.installation.encode(Topic.FULFILLED, event))
        self._site.installation.flush()

    def _write(self, topic: Topic, order: str, value: bytes) -> None:
        self._site.installation.write(topic, order.encode(), value, partition=self._home(order))

    def _home(self, order: str) -> int:
        return by_murmur2(order.encode(), self.partitions)


def told(site: Site) -> dict[str, int]:
    """How many entries each order has."""
    return {order: len(entries) for order, entries in site.entries().items()}


def notices(worker: Worker) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = worker.get("/status").json()["notices"]
    return found


def metric(worker: Worker, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", worker.get("/metrics").text, re.M))


def refused(site: Site, worker: Worker | None = None) -> str:
    """What a worker ends with, at once: 78, and what it says."""
    worker = worker or site.worker(await_ready=False)
    assert worker.wait(EXIT_S_MAX) == 78
    return "\n".join(line for line in site.logs() if '"unusable"' in line)


def all_sent(site: Site) -> None:
    """As if send had worked, and stopped."""
    ends = site.space.end_offsets(Topic.OUTBOX)
    name = site.space.name(Topic.OUTBOX)
    group = OffsetsOfGroup(
        {"bootstrap.servers": site.space.bootstrap_servers}, site.space.name("hakuna-processor.send"), client_id="test"
    )
    group.set([Position(name, number, end) for number, end in ends.items()])


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def test_topics_that_grow_are_refused_until_the_state_is_where_its_keys_are(site: Site) -> None:
    shop = Shop(site)
    orders = names("a", 30)
    worker = site.worker()
    shop.place(*orders)
    site.wait_done()
    assert worker.terminate() == 0
    refusal = ask("topics", "grow", "--partitions", "3", environment=site.installation.environment)
    assert (refusal.code, "send has" in refusal.err) == (1, True)
    all_sent(site)

    # By the command: from 2 to 3 partitions, with nothing left to read.
    grown = ask("topics", "grow", "--partitions", "3", environment=site.installation.environment)
    assert grown.code == 0, grown.err
    shop.partitions = 3
    worker = site.worker()
    site.installation.look_again()
    shop.fulfil(*orders[:15])
    site.wait_done()
    assert told(site) == dict.fromkeys(orders, 1) | dict.fromkeys(orders[:15], 2)
    assert metric(worker, "processor_parked_events") == 0

    # By hand, all topics at once, under a worker at work; what producers write then goes to the new places.
    for plan in TOPICS:
        site.space.grow(plan.topic, 5)
    time.sleep(1.0)
    site.installation.look_again()
    shop.partitions = 5
    shop.fulfil(*orders[15:])
    shop.place(*names("b", 20))
    for _ in range(2):
        assert "topics grow --partitions 5" in refused(site, worker)
        worker = site.worker(await_ready=False)
    worker.kill()
    all_sent(site)
    check = ask("check", "--role", "transform", environment=site.installation.environment)
    assert check.code == 78
    assert "topics grow --partitions 5" in check.out
    time.sleep(0.5)
    grown = ask("topics", "grow", "--partitions", "5", environment=site.installation.environment)
    assert grown.code == 0, grown.err
    worker = site.worker()
    shop.fulfil(*names("b", 20))
    site.wait_done()
    assert told(site) == dict.fromkeys(orders, 2) | dict.fromkeys(names("b", 20), 2)
    assert site.letters() == []
    assert metric(worker, "processor_parked_events") == 0


@pytest.mark.timeout(600)
def test_a_growth_that_is_killed_at_each_of_its_steps_moves_states_holds_and_letters(site: Site) -> None:
    """Hakuna refuses every order, so that each has a hold and a letter, and a follower that is held; the topics grow,
    the command killed at six of its steps; then it accepts, and all is replayed."""
    shop = Shop(site)
    orders = names("a", 30)
    hakuna = StandIn(HakunaApi(), Script(refused_countries=frozenset({"de"})))
    with Loopback(hakuna) as api:
        keys = {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        environment = site.installation.environment | keys

        def both() -> list[Worker]:
            return [site.worker(), site.worker("send", keys, role="send")]

        def letters() -> list[str]:
            heads = [letter_head(record) for record in site.records(Topic.HAKUNA_DEAD_LETTERS)]
            return [head.reason for head in heads if head is not None]

        workers = both()
        shop.place(*orders)
        site.until(lambda: len(letters()) == 30)
        shop.fulfil(*orders[:10])
        site.until(lambda: Counter(letters()) == {"location_unsupported": 30, "held": 10})
        site.wait_done()
        assert [worker.terminate() for worker in workers] == [0, 0]

        for step in ("from 2 to 5", "hakuna.outbox: 2", "hakuna.holds: 2", "orders moved", "holds and", "holds and"):
            assert _killed_when_it_says(step, environment) != 0
        grown = run("topics", "grow", "--partitions", "5", environment=environment)
        assert grown.code == 0, grown.err
        assert site.space.end_offsets(Topic.HOLDS).keys() == set(range(5))

        hakuna.script = Script()
        shop.partitions = 5
        workers = both()
        site.installation.look_again()
        shop.fulfil(*orders[10:20])  # held too, wherever their orders are now
        site.until(lambda: Counter(letters())["held"] >= 20)
        done = run("dead-letters", "replay", "--everything", "--rate", "50", environment=environment)
        assert done.code == 0, done.err
        assert hakuna.record.repeats == 0
        wanted = {order: ["order_placed", "order_fulfillment_added"] for order in orders[:20]}
        wanted |= {order: ["order_placed"] for order in orders[20:]}
        accepted = {
            order: [json.loads(one.body)["type"] for one in hakuna.record.history(order)]
            for order in hakuna.record.subjects()
        }
        assert accepted == wanted
        assert [worker.terminate() for worker in workers] == [0, 0]


def _killed_when_it_says(step: str, environment: Mapping[str, str]) -> int:
    """What `topics grow` ends with when it is killed as soon as it says this."""
    with subprocess.Popen(
        command("topics", "grow", "--partitions", "5"),
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as growing:
        assert growing.stderr is not None
        said = ""
        for line in growing.stderr:
            said += line
            if step in line:
                growing.kill()
                break
        assert step in said, said
        return growing.wait(30)


def test_a_topic_made_again_a_group_forgotten_and_records_overtaken_are_seen_and_gone_on_from(site: Site) -> None:
    shop = Shop(site)
    shop.place(*names("old", 12))
    shop.place("broken", bad=True)
    worker = site.worker()
    site.wait_done()
    assert len(site.letters()) == 1

    # The source is another topic of its name, longer than the old one was, under a worker at work.
    site.space.make_again(Topic.PLACED, partitions=2)
    shop.place(*names("new", 40))
    site.until(lambda: set(told(site)) >= {*names("old", 12), *names("new", 40)}, 60)
    site.until(lambda: bool(notices(worker)), 30)
    assert {one["why"] for one in notices(worker)} == {"made_again"}
    assert worker.running
    site.wait_done()
    assert set(told(site).values()) == {1}

    # The group's offsets are gone.
    assert worker.terminate() == 0
    site.space.delete_offsets(GROUP)
    shop.place("after")
    worker = site.worker()
    site.until(lambda: "after" in told(site))
    assert {one["why"] for one in notices(worker)} == {"offsets_gone"}
    assert set(told(site).values()) == {1}, "no entry a second time"
    assert len(site.letters()) == 1, "no dead letter a second time"
    assert metric(worker, "processor_offsets_lost_total") == 10

    # Retention overtakes it while it is stopped.
    assert worker.terminate() == 0
    shop.place(*names("missed", 10))
    ends = site.space.end_offsets(Topic.PLACED)
    committed = site.space.committed(GROUP)
    cut = [Where(site.space.name(Topic.PLACED), number, end - 1) for number, end in ends.items()]
    for answer in site.space.admin.delete_records(cut).values():
        answer.result(timeout=30)
    missed = sum(end - 1 - committed[Topic.PLACED.value, number].offset for number, end in ends.items())

    def told_by_order() -> str:
        return ask("order", "missed-0", environment=site.installation.environment).err

    home = by_murmur2(b"missed-0", 2)
    before = f"records of {site.space.name(Topic.PLACED)}/{home} before offset {ends[home] - 1} were deleted"
    assert f"{before}, and nobody has taken them" in told_by_order()
    worker = site.worker()
    site.wait_done()
    assert missed == 8
    assert metric(worker, "processor_records_missed_total") == missed
    assert sum(one["missed"] for one in notices(worker)) == missed
    assert len([line for line in site.logs() if "records are gone that were never taken" in line]) == 2
    assert f"{before} before they were taken (seen 20" in told_by_order()


def test_a_changelog_that_has_less_than_the_stores_is_refused_and_written_again_from_them(site: Site) -> None:
    shop = Shop(site)
    orders = names("a", 20)
    shop.place(*orders)
    worker = site.worker()
    site.wait_done()
    compacted = {"cleanup.policy": "compact"}

    # Made again under a worker at work: nothing is wiped, now or at the next start.
    site.space.make_again(Topic.CHANGELOG, partitions=2, config=compacted)
    shop.fulfil(*orders[:5])
    for _ in range(2):
        assert "rebuild-changelog" in refused(site, worker)
        worker = site.worker(await_ready=False)
    worker.kill()
    environment = {**site.installation.environment, "PROCESSOR_STATE_DIR": str(site.directory / "worker" / "state")}
    time.sleep(0.5)
    written = ask("rebuild-changelog", environment=environment)
    assert written.code == 0, written.err
    shutil.rmtree(site.directory / "worker" / "state")  # what is in the changelog now is all there is
    worker = site.worker()
    shop.fulfil(*orders[5:])
    site.wait_done()
    assert {order: len({body for _, body in entries}) for order, entries in site.entries().items()} == dict.fromkeys(
        orders, 2
    )
    site.until(lambda: metric(worker, "processor_state_orders") == 20, 5)  # looked at once a second

    # Cut by delete-records, with an empty volume beside it; the policy of the topic is said while at work.
    site.space.configure(Topic.CHANGELOG, config={"cleanup.policy": "delete"})
    site.until(lambda: "cleanup.policy=delete" in worker.get("/readyz").text, 30)
    assert worker.running
    assert worker.terminate() == 0
    ends = site.space.end_offsets(Topic.CHANGELOG)
    cut = [Where(site.space.name(Topic.CHANGELOG), number, end - 3) for number, end in ends.items()]
    for answer in site.space.admin.delete_records(cut).values():
        answer.result(timeout=30)
    site.space.configure(Topic.CHANGELOG, config=compacted)
    state = site.directory / "worker" / "state"
    shutil.move(state, site.directory / "kept")
    assert "begins at offset" in refused(site)
    shutil.rmtree(state, ignore_errors=True)
    shutil.move(site.directory / "kept", state)
    check = ask("check", "--role", "transform", environment=site.installation.environment)
    assert "begins at offset" in check.out
    time.sleep(0.5)
    assert ask("rebuild-changelog", environment=environment).code == 0
    shutil.rmtree(state)
    worker = site.worker()
    shop.fulfil(*orders)
    site.wait_done()
    assert metric(worker, "processor_parked_events") == 0
    site.until(lambda: metric(worker, "processor_state_orders") == 20, 5)  # looked at once a second


@pytest.mark.parametrize("topic", [Topic.OUTBOX, Topic.CHANGELOG])
def test_a_limit_lowered_at_work_costs_only_what_is_too_large(site: Site, topic: Topic) -> None:
    worker = site.worker()
    site.space.configure(topic, config={"max.message.bytes": "20000"})
    site.place("large" + secrets.token_urlsafe(60_000), 0)  # no codec makes it small
    for number in range(2_000):
        site.place(f"small-{number}", number % 2)
    site.installation.flush()
    unready = 0
    deadline_s = time.monotonic() + 60
    while site.left():
        unready += not worker.ready()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert unready == 0
    assert len(told(site)) == 2_000
    ((head, _),) = site.letters()
    assert head.reason == "too_large"
    assert "takes 20000" in head.message
    assert metric(worker, "processor_dead_letters_total") == 1


def test_a_letter_larger_than_its_topic_takes_by_now_goes_without_its_value_and_a_replay_takes_it_from_the_source(
    site: Site,
) -> None:
    worker = site.worker()
    site.space.configure(Topic.ORDER_DEAD_LETTERS, config={"max.message.bytes": "20000"})
    bad = b"\x00\x00\x00\x00\x00" + secrets.token_bytes(40_000)
    site.installation.write(Topic.PLACED, b"large", bad, partition=0)
    for number in range(200):
        site.place(f"small-{number}", number % 2)
    site.installation.flush()
    site.wait_done()
    assert worker.running
    assert len(told(site)) == 200
    ((head, letter),) = site.letters()
    assert (head.reason, letter.key, letter.value) == ("too_large", b"large", None)
    assert "max.message.bytes is 20000" in head.message
    assert worker.terminate() == 0

    site.space.configure(Topic.ORDER_DEAD_LETTERS, config={"max.message.bytes": "200000"})
    site.worker()
    done = ask("dead-letters", "replay", "--reason", "too_large", environment=site.installation.environment)
    assert done.code == 1, "it comes back: it is as bad as before"
    ((_, _), (head, letter)) = site.letters()
    assert (head.reason, letter.value) == ("undecodable", bad)


def test_the_topics_that_only_letters_need_hold_up_no_order(site: Site) -> None:
    site.space.grow(Topic.ORDER_DEAD_LETTERS, 3)
    worker = site.worker(await_ready=False)
    Shop(site).place(*names("a", 10))
    site.until(lambda: site.answers(worker))
    site.wait_done()
    assert len(told(site)) == 10
    site.until(lambda: "orders.dead-letters has 3 partitions" in worker.get("/readyz").text, 15)  # at its next look

"""The Kafka thread: what is taken, what is written before an offset is finished, and what moves leave behind."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from processor.config import Quota
from processor.errors import BrokerOutage, Unusable
from processor.interfaces import Committed
from processor.letters.holds import decode_hold
from processor.letters.resolutions import decode_resolution
from processor.records import Headers, Reason
from processor.send.event_loop.lanes import READY_MIN, READY_ROUNDS
from processor.send.event_loop.pace import ON_THE_WAY_S_MAX
from processor.send.handover import Paced
from processor.send.kafka_thread.offsets import Note, write_note
from tests.chaos.send_api import Script, Spell
from tests.chaos.send_world import GROUP, RESOLUTIONS, TOPICS, Worker, World, entry_id
from tests.unit.send.kafka_thread.conftest import P0, Worlds, accepted, committed, fill, joined, letters, unready

NOTE = "v2 in=cluster-1/topic-1 past=cluster-1/topic-4"
BEGIN_S = 1_000.0  # where a FakeClock begins


def test_a_delivery_leaves_a_receipt_and_a_finished_offset(worlds: Any) -> None:
    world = worlds("a")
    joined(world)
    (record,) = world.broker.records(TOPICS.receipts)
    receipt = msgspec.json.decode(record.value)
    assert record.key == b"a"
    assert receipt.pop("delivered_at") > 0
    assert receipt.pop("latency_ms") >= 0
    assert receipt == {
        "order_id": "a",
        "entry_id": entry_id(0),
        "entry_type": "order_placed",
        "event_id": "evt-1",
        "status": 200,
        "attempts": 1,
    }
    assert world.is_done()


def test_a_refusal_leaves_its_letter_and_its_hold_and_what_follows_is_held(worlds: Any) -> None:
    world = worlds("a", "a", "b", refused=[0])
    joined(world)
    refused, held = letters(world)
    assert (refused.stage, refused.reason, refused.error_code) == ("send", "product_unsupported", "product_unsupported")
    assert (refused.http_status, refused.validation_errors, refused.delivery_count) == (422, ("no",), 1)
    assert (refused.origin.topic, refused.origin.offset, refused.group) == ("hakuna.outbox", 0, GROUP)
    assert (held.reason, held.delivery_count, held.http_status) == (Reason.HELD, 0, None)
    (record,) = world.broker.records(TOPICS.holds or "")
    hold = decode_hold(record.value)
    assert hold is not None
    assert (record.key, hold.entry_id, hold.reason) == (b"a", entry_id(0), "product_unsupported")
    assert accepted(world) == [entry_id(2)]
    assert world.is_done()
    assert world.workers[0].meter.ended == {"dead_lettered": 1, "held": 1, "delivered": 1}


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"no json", None),
        (b"[1]", None),
        (None, None),
        (b"{}", []),
        (b"{}", [("entry-id", b"e")]),
        (b"{}", [("entry-id", b"e"), ("entry-type", b"nonsense"), ("occurred-at", b"1")]),
        (b"{}", [("entry-id", b"e\n"), ("entry-type", b"order_placed"), ("occurred-at", b"1")]),
        (b"{}", [("entry-id", b"\xff"), ("entry-type", b"order_placed"), ("occurred-at", b"1")]),
        (b"{}", [("entry-id", b"e"), ("entry-type", b"order_placed"), ("occurred-at", b"now")]),
    ],
)
def test_a_record_that_is_no_entry_is_a_letter_and_the_next_goes_on(
    worlds: Any, value: bytes | None, headers: Headers | None
) -> None:
    world = worlds()
    good: Headers = [("entry-id", b"e"), ("entry-type", b"order_placed"), ("occurred-at", b"1")]
    world.broker.append(TOPICS.sources[0], 0, b"a", value, good if headers is None else headers)
    joined(world, "a")
    (letter,) = letters(world)
    assert (letter.stage, letter.reason, letter.delivery_count) == ("send", Reason.UNDECODABLE, 0)
    assert world.broker.records(TOPICS.dead_letters)[0].value == value
    assert accepted(world) == [entry_id(0)]
    assert world.is_done()


def test_entries_of_the_other_api_are_refused_and_nothing_of_them_is_sent(worlds: Any) -> None:
    world = worlds("a")
    world.plan.feed = True
    world.join()
    with pytest.raises(Unusable, match="drain it with workers of the old kind"):
        world.pass_time(3.0)
    assert world.api.calls == []


def test_an_offset_is_not_finished_before_its_receipt_is_written(worlds: Any) -> None:
    world = worlds("a", "b")
    worker = world.join()
    world.broker.denied.add(TOPICS.receipts)
    world.pass_time(5.0)
    assert len(accepted(world)) == 2
    assert committed(world).next_offset == 0
    assert unready(worker, "hakuna.deliveries cannot be written")
    world.broker.denied.clear()
    world.pass_time(3.0)
    assert len(accepted(world)) == 2
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])


def test_a_held_entry_is_not_finished_before_the_hold_that_it_waits_behind(worlds: Any) -> None:
    """Else a crash between the two would let the next entry of the order overtake it."""
    world = worlds("a", "a", refused=[0])
    world.join()
    world.broker.denied.add(TOPICS.holds or "")
    world.pass_time(4.0)
    assert [letter.reason for letter in letters(world)] == ["product_unsupported", Reason.HELD]
    assert committed(world).next_offset == 0
    assert world.workers[0].role._assignments.entries == 2
    world.broker.denied.clear()
    world.pass_time(3.0)
    assert world.is_done()


def flooded(worlds: Worlds, extra: Headers | None = None) -> World:
    """1,500 orders, all of which are refused, where half of them would be too many."""
    plan: dict[str, Any] = {"dead_letter_share_max": 0.5, "entries_max": 5_000, "refused": range(2_000)}
    orders = [f"o{number}" for number in range(1_500)]
    return worlds(*orders, extra=extra, script=Script(latency_s=(0.001, 0.002)), **plan)


def test_a_flood_of_dead_letters_stops_the_role_before_it_is_written(worlds: Any) -> None:
    world = flooded(worlds)
    worker = joined(world, then_s=20.0)
    assert len(letters(world)) < 1_000
    assert unready(worker, "flood guard")
    calls = len(world.api.calls)
    world.pass_time(5.0)
    assert len(world.api.calls) == calls
    assert not world.is_done()
    assert worker.role.standing.progress()[1]


def superseded(world: World) -> list[tuple[bytes | None, str]]:
    found = []
    for record in world.broker.records(RESOLUTIONS):
        resolution = decode_resolution(record.value or b"")
        assert resolution is not None
        found.append((record.key, resolution.how.value))
    return found


def test_a_refused_snapshots_letter_is_superseded_once_a_newer_one_is_accepted(worlds: Any) -> None:
    world = worlds("a", "b", feed=True, refused=[0])
    joined(world)
    assert [letter.reason for letter in letters(world)] == ["product_unsupported"]
    assert superseded(world) == []
    fill(world, "b", "a", then_s=3.0)
    assert superseded(world) == [(b"hakuna.dead-letters/0/0", "superseded")]
    fill(world, "a", then_s=3.0)
    assert len(superseded(world)) == 1
    assert world.is_done()


def test_a_letter_that_kafka_acknowledges_after_the_newer_snapshot_went_is_superseded_too(worlds: Any) -> None:
    world = worlds("a", feed=True, refused=[0])
    world.join()
    world.broker.denied.add(TOPICS.dead_letters)
    world.pass_time(3.0)
    fill(world, "a", then_s=3.0)
    assert accepted(world) == [entry_id(1)]
    assert superseded(world) == []
    world.broker.denied.clear()
    world.pass_time(3.0)
    assert superseded(world) == [(b"hakuna.dead-letters/0/0", "superseded")]
    assert world.is_done()


def test_a_letter_that_went_with_its_topic_is_not_marked_for_another_stands_at_its_place(worlds: Any) -> None:
    world = worlds("a", feed=True, refused=[0, 1])
    joined(world)
    world.broker.make_again(TOPICS.dead_letters)
    world.pass_time(3.0)
    fill(world, "b", then_s=3.0)  # its letter has the offset that the other had
    fill(world, "a", then_s=3.0)
    assert accepted(world) == [entry_id(2)]
    assert [record.key for record in world.broker.records(TOPICS.dead_letters)] == [b"b"]
    assert superseded(world) == []


def test_what_a_replay_delivers_marks_no_letter_which_the_replay_itself_has_done(worlds: Any) -> None:
    world = worlds("a", feed=True, refused=[0])
    joined(world)
    fill(world, "a", extra=[("replay-id", b"r1")], then_s=3.0)
    assert len(accepted(world)) == 1
    assert superseded(world) == []
    assert world.is_done()


@pytest.mark.parametrize("header", ["replay-id", "replay-of"])
def test_a_replay_that_is_refused_whole_is_no_flood(worlds: Any, header: str) -> None:
    """Straight from the dead letters (`replay-id`), or through transform (`replay-of`)."""
    world = flooded(worlds, extra=[(header, b"1")])
    worker = joined(world, then_s=30.0)
    assert not unready(worker, "flood guard")
    assert len(letters(world)) == 1_500
    assert worker.meter.replayed == {"dead_lettered": 1_500}


def test_holds_are_known_before_anything_is_sent_and_a_release_works_at_once(worlds: Any) -> None:
    world = worlds("a", refused=[0])
    world.kill(joined(world, then_s=5.0))
    joined(world, "a", "b", then_s=20.0)
    assert accepted(world) == [entry_id(2)]
    assert world.workers[-1].meter.lags[0].held_orders == 1
    world.broker.append(TOPICS.holds or "", 0, b"a", None)
    world.pass_time(0.5)
    fill(world, "a", then_s=2.0)
    assert accepted(world) == [entry_id(2), entry_id(3)]
    assert world.is_done()


@pytest.fixture
def stuck(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Orders of which a third is never accepted, in no pattern that would deflate into the commit."""
    monkeypatch.setattr("processor.send.kafka_thread.offsets.METADATA_CHARS_MAX", len(NOTE) + 26)
    random = Random(7)
    orders = [f"o{number}" for number in range(100)]
    poisonous = frozenset(order for order in orders if random.random() < 0.35)
    script = Script(latency_s=(0.001, 0.01), poisonous=poisonous)
    return worlds(*orders, script=script, entries_max=500)


def test_finished_offsets_that_outgrow_the_commit_go_to_their_topic_and_are_not_sent_again(stuck: Any) -> None:
    worker = joined(stuck, then_s=6.0)
    assert committed(stuck).metadata == f"{NOTE} done=topic"
    before = accepted(stuck)
    assert len(before) > 50
    stuck.kill(worker)
    stuck.broker.compact(TOPICS.offsets)
    assert len(stuck.broker.records(TOPICS.offsets)) == 1
    joined(stuck, then_s=20.0)
    assert not set(before) & set(accepted(stuck)[len(before) :])
    stuck.plan.script.poisonous = frozenset()
    stuck.pass_time(20.0)
    assert stuck.is_done()
    assert sorted(accepted(stuck)) == sorted(entry_id(number) for number in range(100))
    assert committed(stuck).metadata == NOTE


def test_a_partition_that_leaves_with_its_map_in_the_topic_leaves_nothing_to_be_sent_again(stuck: Any) -> None:
    stuck.stop(joined(stuck, then_s=0.6))
    before = accepted(stuck)
    assert committed(stuck).metadata.endswith("done=topic")
    joined(stuck, then_s=15.0)
    assert not set(before) & set(accepted(stuck)[len(before) :])


def test_metadata_of_another_tool_is_an_empty_map(worlds: Any) -> None:
    world = worlds("a", "b")
    world.broker.group(GROUP).committed[P0] = Committed(0, "somebody else's")
    joined(world)
    assert len(accepted(world)) == 2


def paced(worker: Worker) -> list[Paced]:
    return [message for message in worker.handover._messages if isinstance(message, Paced)]


def opened(world: World) -> Worker:
    """A worker that has taken over, with its messages still in the hand-over."""
    worker = world.join()
    for _ in range(4):
        worker.role.turn()
    return worker


def test_a_partition_that_was_never_committed_was_never_sent_from(worlds: Any) -> None:
    world = worlds("a", quota=Quota(10, 60.0))
    worker = opened(world)
    assert [(one.used, one.partition) for one in paced(worker)] == [(0, 0)]
    assert committed(world).next_offset == 0
    world.pass_time(2.0)
    assert len(accepted(world)) == 1


def test_a_mark_is_overwritten_before_its_slots_are_used(worlds: Any) -> None:
    """Else a crash would leave it for the next owner, who would not know of what was sent since."""
    world = worlds("a", quota=Quota(10, 60.0))
    world.broker.group(GROUP).committed[P0] = Committed(0, write_note(Note(7, [])) or "")
    world.broker.points.fail("consumer.commit", BrokerOutage("commit: no broker answers"))
    worker = opened(world)
    assert paced(worker) == []
    assert committed(world).metadata == "v2 used=7"
    world.clock.advance(1.5)
    for _ in range(3):  # the book is there before the commit
        worker.role.turn()
    assert [one.used for one in paced(worker)] == [7]
    assert "used" not in committed(world).metadata


def test_without_a_mark_all_slots_count_for_one_window(worlds: Any) -> None:
    world = worlds("a", quota=Quota(10, 20.0))
    world.broker.group(GROUP).committed[P0] = Committed(0, "v1")
    joined(world, then_s=19.5)
    assert world.api.calls == []
    world.pass_time(1.5 + ON_THE_WAY_S_MAX)
    assert len(accepted(world)) == 1


def test_a_drain_leaves_the_slots_in_use_and_the_next_worker_uses_the_rest(worlds: Any) -> None:
    world = worlds(*"abc", quota=Quota(10, 60.0))
    world.stop(joined(world))
    assert committed(world).metadata == f"{NOTE} used=3"
    joined(world, *[f"o{number}" for number in range(9)], then_s=5.0)
    assert len(accepted(world)) == 10


def test_a_partition_that_is_full_is_paused_and_goes_on_when_it_is_half_empty(worlds: Any) -> None:
    down = [Spell(BEGIN_S, BEGIN_S + 10.0, 503)]
    world = worlds(*[f"o{number}" for number in range(300)], script=Script(spells=down), entries_max=40)
    worker = joined(world, then_s=8.0)
    assert 40 <= worker.role._assignments.entries <= 60
    world.pass_time(60.0)
    assert world.is_done()
    assert world.entries_seen_max <= 60


def test_no_more_is_read_than_keeps_requests_going(worlds: Any) -> None:
    down = [Spell(BEGIN_S, BEGIN_S + 10.0, 503)]
    world = worlds(*[f"o{number}" for number in range(2_500)], script=Script(spells=down), entries_max=20_000)
    worker = joined(world, then_s=8.0)
    limit = worker.sender.standing.status().limit
    assert READY_MIN + READY_ROUNDS * limit <= worker.role._assignments.entries <= 1_200
    world.pass_time(60.0)
    assert world.is_done()


def test_status_names_the_entry_that_holds_the_commit_and_why_and_since_when(worlds: Any) -> None:
    world = worlds("a", "b", script=Script(poisonous=frozenset({"a"})))
    worker = world.join()
    since_ms = world.clock.now_ms()
    world.pass_time(10.0)
    (status,) = worker.role.standing.status
    assert (status.topic, status.partition, status.committed, status.lag) == ("hakuna.outbox", 0, 0, 1)
    assert status.blocked_by is not None
    assert status.blocked_by.startswith(f"{entry_id(0)}: ")
    assert status.blocked_since is not None
    assert since_ms <= status.blocked_since <= since_ms + 1_000
    assert worker.meter.lags[0].seconds > 8.0
    work, excused = worker.role.standing.progress()
    assert work[0].lag == 0, "what waits for its retry is no stall"
    assert not excused


def test_how_long_the_oldest_entry_will_be_there_is_known_while_one_waits(worlds: Any) -> None:
    world = worlds(script=Script(poisonous=frozenset({"a"})))
    world.broker.config[P0.topic]["retention.ms"] = "3600000"
    worker = world.join()
    fill(world, "b", then_s=3.0)
    assert [lag.retention_left_s for lag in worker.meter.lags] == [None]
    fill(world, "a", then_s=600.0)
    (left,) = [lag.retention_left_s for lag in worker.meter.lags]
    assert 2980 < left < 3005


def test_lag_is_0_when_all_is_done_and_transaction_markers_are_none(worlds: Any) -> None:
    world = worlds("a")
    world.broker.take_over("t")
    world.broker.open_transaction("t", 60.0).touched.add(P0)
    world.broker.take_over("t")
    worker = joined(world, then_s=4.0)
    assert [lag.records for lag in worker.meter.lags] == [0]
    assert committed(world).next_offset == world.broker.logs[P0].high_watermark


def test_a_worker_without_partitions_is_ready(worlds: Any) -> None:
    world = worlds()
    first, second = world.join(), world.join()
    assert first.role.standing.unready() == ["no assignment yet"]
    world.pass_time(3.0)
    assert first.role.standing.unready() == second.role.standing.unready() == []


def test_a_drain_finishes_what_is_in_flight_and_takes_nothing_more(worlds: Any) -> None:
    world = worlds(*"abcdef", script=Script(latency_s=(1.0, 1.0)), in_flight_max=2)
    worker = joined(world, then_s=0.5)
    in_flight = [call.entry_ids[0] for call in world.api.calls]
    world.stop(worker)
    assert accepted(world) == in_flight
    assert len(world.broker.records(TOPICS.receipts)) == len(in_flight)
    joined(world, then_s=10.0)
    assert sorted(accepted(world)) == sorted(entry_id(number) for number in range(6))


def test_what_stays_is_committed_while_what_leaves_is_drained(worlds: Any) -> None:
    world = worlds("stays", partitions=2, eager=False, script=Script(latency_s=(1.9, 1.9)))
    joined(world, then_s=1.7)
    fill(world, "leaves", partition=1, then_s=0.1)
    seen: list[tuple[float, int | None]] = []
    world.loop.call_later(1.0, lambda: seen.append((world.now_s(), committed(world).next_offset)))
    joined(world, then_s=4.0)
    ((seen_s, next_offset),), ((_, began_s, ended_s),) = seen, world.stood
    assert began_s < seen_s < ended_s, "it was looked at in the drain"
    assert next_offset == world.broker.logs[P0].high_watermark


def test_a_broker_that_is_away_for_a_while_needs_no_help(worlds: Any) -> None:
    world = worlds("a")
    worker = joined(world, then_s=2.0)
    world.broker.down = True
    fill(world, "b", "c", then_s=5.0)
    assert unready(worker, "no broker answers")
    world.broker.down = False
    world.pass_time(5.0)
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])

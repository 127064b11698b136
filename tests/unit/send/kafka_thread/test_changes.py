"""A cluster that changes under a sender: topics made again, grown or cut, a group without offsets, another cluster.

Each says what it found, and sends all that was never sent and nothing that was.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from processor.config import Quota
from processor.errors import Fatal
from processor.interfaces import Committed
from processor.letters.letter import VALUE_LEFT_OUT, letter_head
from processor.letters.resolutions import How, Resolution, encode_resolution
from processor.records import Reason
from processor.send.kafka_thread.assignments import Phase
from processor.send.kafka_thread.beginnings import decode_book, encode_book
from processor.send.kafka_thread.offsets import Note, Range, read_note, write_note
from tests.chaos.send_api import Script
from tests.chaos.send_checks import quota
from tests.chaos.send_world import GROUP, RESOLUTIONS, TOPICS, Worker, World, entry_id
from tests.unit.send.kafka_thread.conftest import P0, Worlds, accepted, committed, fill, joined, letters, unready

OUTBOX = TOPICS.sources[0]


@pytest.fixture
def worlds(worlds: Worlds) -> Worlds:
    """Without transactions' markers: an entry's number is its offset."""
    return partial(worlds, markers=0.0)


def sent(world: World) -> list[int]:
    return [int(entry.rpartition("/")[2]) for entry in accepted(world)]


def began(worker: Worker) -> tuple[str, ...]:
    return worker.role.standing.status[0].began


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("more", [2, 9])
def test_an_outbox_made_again_while_a_sender_works_is_sent_whole(worlds: Any, eager: bool, more: int) -> None:
    """The new one shorter than the old position, or longer already when somebody looks."""
    world = worlds(*"abcde", eager=eager)
    worker = joined(world)
    assert sent(world) == [0, 1, 2, 3, 4]
    world.broker.make_again(OUTBOX)
    fill(world, *[f"n{number}" for number in range(more)], then_s=6.0)
    assert set(sent(world)[5:]) == set(range(5, 5 + more))
    assert (began(worker), worker.meter.causes) == (("made_again",), {"made_again": 1})
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])
    world.stop(worker)
    world.join()
    fill(world, "z", then_s=3.0)
    assert sent(world)[-1] == 5 + more, "and nothing twice"


@pytest.mark.parametrize(
    ("stale", "more"), [(True, "fghijkl"), (False, "fgh")], ids=["a stale commit stands there", "none does"]
)
def test_an_outbox_made_again_while_no_sender_works_is_sent_whole(worlds: Any, stale: bool, more: str) -> None:
    """And without a commit told from a group that lost its offsets."""
    world = worlds(*"abcde")
    world.stop(joined(world))
    commit = committed(world)
    world.broker.make_again(OUTBOX)
    if stale:
        world.broker.group(GROUP).committed[P0] = commit
    worker = joined(world, *more)
    assert (sent(world), began(worker)) == (list(range(5 + len(more))), ("made_again",))


def test_a_group_without_offsets_goes_on_from_its_book_and_says_so(worlds: Any) -> None:
    world = worlds(*"abcde")
    world.stop(joined(world))
    world.broker.group(GROUP).committed.clear()
    worker = joined(world, *"fg")
    assert (sent(world), began(worker)) == (list(range(7)), ("offsets_gone",))
    assert worker.meter.causes == {"offsets_gone": 1}
    assert world.is_done()


def test_a_new_installation_begins_at_the_beginning_and_has_nothing_to_say(worlds: Any) -> None:
    world = worlds(*"ab")
    worker = joined(world)
    assert (sent(world), began(worker)) == ([0, 1], ())
    assert worker.meter.causes == {}


def test_the_book_knows_what_is_finished_beyond_an_order_that_is_stuck(worlds: Any) -> None:
    world = worlds("stuck", *"abcde", script=Script(poisonous=frozenset({"stuck"})), poison_after_s=1000.0)
    world.kill(joined(world, then_s=5.0))
    world.broker.group(GROUP).committed.clear()
    world.plan.script.poisonous = frozenset()
    joined(world, then_s=15.0)
    assert sorted(sent(world)) == [0, 1, 2, 3, 4, 5]
    assert world.is_done()


def test_the_book_is_there_before_the_commit(worlds: Any) -> None:
    world = worlds(*"ab")
    worker = world.join()
    world.broker.denied.add(TOPICS.offsets)
    world.pass_time(4.0)
    assert sent(world) == [0, 1]
    assert P0 not in world.broker.group(GROUP).committed
    assert unready(worker, "hakuna.send-offsets")
    world.broker.denied.clear()
    world.pass_time(3.0)
    assert world.is_done()
    record = world.broker.records(TOPICS.offsets)[-1]
    book = decode_book(record.value or b"")
    assert book is not None
    assert (record.key, book.next_offset, book.place) == (b"0", 2, "cluster-1/topic-1")


def test_a_commit_that_waited_for_its_book_does_not_put_off_the_next(worlds: Any) -> None:
    world = worlds()
    worker = world.join()
    for number in range(100):
        fill(world, f"o{number}")
        world.turn(worker)
        world.loop.run_for(0.3)
    assert len(world.broker.records(TOPICS.offsets)) >= 24, "one in four turns, which is a second, in thirty"


@pytest.mark.parametrize("offset", [0, 1])
def test_offsets_that_somebody_set_back_by_hand_are_obeyed(worlds: Any, offset: int) -> None:
    world = worlds(*"abc")
    world.stop(joined(world))
    world.broker.group(GROUP).committed[P0] = Committed(offset, "")
    worker = joined(world)
    assert (sent(world), began(worker)) == ([0, 1, 2, *range(offset, 3)], ())


def test_the_maps_of_another_cluster_are_not_believed_and_its_translated_offset_is(worlds: Any) -> None:
    """What MirrorMaker does: the offset translated, the metadata word for word."""
    world = worlds(*[f"o{number}" for number in range(13)])
    note = write_note(Note(4, [Range(2, 26)], "elsewhere/topic-1", "elsewhere/topic-4"))
    world.broker.group(GROUP).committed[P0] = Committed(1, note or "")
    worker = joined(world)
    assert (sent(world), began(worker)) == (list(range(1, 13)), ("other_cluster",))
    left = read_note(committed(world).metadata)
    assert left is not None
    assert left.place == "cluster-1/topic-1"


def test_an_older_versions_map_is_believed_where_it_fits_and_not_where_it_reaches_beyond_the_log(worlds: Any) -> None:
    """After an upgrade nothing is sent twice; a mirrored one loses nothing."""
    for ranges, expected in ((Range(2, 5), [0, 1, 5]), (Range(2, 26), [0, 1, 2, 3, 4, 5])):
        world = worlds(*"abcdef")
        note = (write_note(Note(None, [ranges])) or "").replace("v2", "v1")
        world.broker.group(GROUP).committed[P0] = Committed(0, note)
        joined(world)
        assert sent(world) == expected


@pytest.mark.parametrize("working", [True, False])
def test_what_retention_took_before_it_was_sent_is_counted(worlds: Any, working: bool) -> None:
    world = worlds(*"ab")
    worker = joined(world)
    if working:
        world.api.script.spells.clear()
        worker.role._consumer.pause([P0])  # as one that is full is
    else:
        world.stop(worker)
    fill(world, *"cdefgh")
    world.broker.delete_before(OUTBOX, 0, 6)
    if working:
        worker.role._consumer.resume([P0])
    else:
        worker = world.join()
    world.pass_time(3.0)
    assert sent(world) == [0, 1, 6, 7]
    assert worker.meter.missed == 4
    assert began(worker) == ("overtaken",)
    assert worker.role.standing.status[0].missed == 4
    assert world.is_done()

    # The partition goes and comes back, and this time nothing is missing.
    world.broker.expel(worker.name)
    world.pass_time(5.0)
    assert [assignment.began.missed for assignment in worker.role._assignments] == [0]
    assert (worker.role.standing.status[0].missed, worker.meter.missed) == (4, 4)
    assert began(worker) == ("overtaken",)

    # It is on record for whoever asks later, also once another worker has taken over.
    world.stop(worker)
    joined(world, "i")
    assert world.is_done()
    book = decode_book(world.broker.records(TOPICS.offsets)[-1].value or b"")
    assert book is not None
    assert book.next_offset == 9
    assert book.gap is not None
    assert (book.gap.missed, book.gap.next_offset) == (4, 6)


def _overtaken(world: World) -> Worker:
    """A worker that has just found that retention took four records, and has not looked at how it stands since."""
    before = joined(world, *"ab")
    worker = world.join()
    world.turn(worker)  # it looks now, and not again for a second
    world.stop(before)
    fill(world, *"cdefgh")
    world.broker.delete_before(OUTBOX, 0, 6)
    while not any(assignment.phase is Phase.OPEN for assignment in worker.role._assignments):
        world.turn(worker)
        world.loop.run_for(0.01)
    return worker


def test_what_retention_took_stays_in_the_status_though_its_partition_goes_before_the_next_look(worlds: Any) -> None:
    world = worlds(eager=False)
    worker = _overtaken(world)
    assert not worker.role.standing.status, "it has not looked yet"
    world.broker.rebalance(GROUP, {worker.name: []})
    world.pass_time(3.0)
    world.broker.rebalance(GROUP, {worker.name: [P0]})
    world.pass_time(3.0)
    assert [assignment.began.missed for assignment in worker.role._assignments] == [0]
    assert worker.role.standing.status[0].missed == 4
    assert began(worker) == ("overtaken",)


def test_what_retention_took_is_counted_though_the_worker_that_found_it_stops_at_once(worlds: Any) -> None:
    """Before it looks at how it stands: its heir reads on from what it has committed, and finds nothing missing."""
    world = worlds(eager=False)
    worker = _overtaken(world)
    world.stop(worker)
    assert worker.role.standing.status == (), "it has not looked yet"
    assert (worker.meter.missed, worker.meter.causes) == (4, {"overtaken": 1})
    heir = joined(world)
    assert world.is_done()
    assert (heir.meter.missed, began(heir)) == (0, ())


def test_the_end_that_a_log_lost_is_not_sent_again_and_what_comes_after_it_is_sent(worlds: Any) -> None:
    world = worlds(*"abcde")
    world.stop(joined(world))
    log = world.broker.logs[P0]
    del log.entries[3:]
    log.high_watermark = log.settled = 3
    worker = joined(world, then_s=1.0)
    fill(world, "f", then_s=3.0)
    assert (sent(world), began(worker)) == ([0, 1, 2, 3, 4, 5], ("cut_off",))


# ---- holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("working", [True, False])
def test_holds_made_again_are_made_anew_from_the_open_letters_and_followers_stay_held(
    worlds: Any, working: bool
) -> None:
    refused = {entry_id(0): "product_unsupported", entry_id(1): "product_unsupported", entry_id(2): "cancel_decline"}
    world = worlds(*"abc", script=Script(refused=refused))
    worker = joined(world)
    assert len(letters(world)) == 3
    # The second letter is resolved: replayed, say, and its order released.
    letter = next(record for record in world.broker.records(TOPICS.dead_letters) if record.key == b"b")
    resolution = encode_resolution(Resolution(how=How.REPLAYED, at_ms=world.clock.now_ms(), by="x"))
    world.broker.append(RESOLUTIONS, 0, str(letter.position).encode(), resolution)
    if not working:
        world.stop(worker)
    world.broker.make_again(TOPICS.holds)
    if not working:
        worker = world.join()
    world.pass_time(6.0)
    fill(world, *"abcd", then_s=3.0)
    assert sent(world) == [4, 5, 6]
    assert [letter.reason for letter in letters(world)][3:] == [Reason.HELD]
    assert [record.key for record in world.broker.records(TOPICS.holds)] == [b"a"]
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])
    # From then on they are known from there, and a release is one.
    world.stop(worker)
    world.broker.append(TOPICS.holds, 0, b"a", None)
    joined(world)
    fill(world, "a", then_s=3.0)
    assert sent(world) == [4, 5, 6, 7]


@pytest.mark.parametrize("again", [True, False])
def test_a_hold_that_was_not_written_is_made_from_its_letter_though_its_entry_is_gone(worlds: Any, again: bool) -> None:
    """A worker is killed between a letter and its hold. The entry would be refused once more, and held, but its outbox
    was made again, or retention has taken it."""
    world = worlds("a", refused=[0])
    world.broker.read_only.add(TOPICS.holds)
    worker = joined(world, "b")
    assert [letter.reason for letter in letters(world)] == ["product_unsupported"]
    world.kill(worker)
    if again:
        world.broker.make_again(TOPICS.sources[0])
    else:
        world.broker.delete_before(OUTBOX, 0, 2)
    worker = joined(world, then_s=15.0)
    assert unready(worker, "hakuna.holds cannot be written")
    world.kill(worker)  # and again: what its first commit says must not hide that the hold is not written yet
    world.broker.read_only.clear()
    worker = joined(world, then_s=15.0)
    fill(world, *"ab", then_s=3.0)
    assert [record.key for record in world.broker.records(TOPICS.holds)] == [b"a"]
    assert [letter.reason for letter in letters(world)][1:] == [Reason.HELD]
    assert sent(world) == [1, 3]
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])


@pytest.mark.parametrize("by_hand", [False, True])
def test_holds_that_are_not_written_yet_are_made_anew_once_more_after_a_crash(worlds: Any, by_hand: bool) -> None:
    """They are known by the book where the commit says nothing of them: somebody has set the group's offsets by hand,
    and the topic was made again meanwhile."""
    world = worlds("a", refused=[0])
    world.stop(joined(world))
    world.broker.make_again(TOPICS.holds)
    if by_hand:
        world.broker.group(GROUP).committed[P0] = Committed(1, "")
    world.broker.read_only.add(TOPICS.holds)
    worker = joined(world)
    fill(world, "b", then_s=3.0)
    assert world.is_done()
    world.kill(worker)
    world.broker.read_only.clear()
    joined(world, then_s=15.0)
    fill(world, "a", then_s=3.0)
    assert [record.key for record in world.broker.records(TOPICS.holds)] == [b"a"]
    assert sent(world) == [1]


@pytest.mark.parametrize("topic", [TOPICS.holds, TOPICS.offsets])
def test_a_topic_that_is_made_again_while_a_partition_is_restored_from_it_holds_nothing_up(
    worlds: Any, topic: str
) -> None:
    """Its end of then never comes: the partition is taken over anew, and the holds come from the letters."""
    world = worlds("a", refused=[0])
    world.stop(joined(world))
    world.broker.denied.add(topic)  # nothing of it comes for a while
    worker = joined(world)
    assert [one.phase for one in worker.role._assignments] == [Phase.RESTORING]
    world.broker.make_again(topic)
    world.broker.denied.clear()
    world.pass_time(6.0)
    fill(world, "a", "b", then_s=3.0)
    assert worker.role.standing.unready() == []
    assert [record.key for record in world.broker.records(TOPICS.holds)] == [b"a"]
    assert sent(world) == [2]
    assert world.is_done()


def test_books_made_again_are_written_again_for_whoever_finds_the_group_without_offsets(worlds: Any) -> None:
    world = worlds(*"abc")
    worker = joined(world)
    world.broker.make_again(TOPICS.offsets)
    world.pass_time(6.0)
    world.kill(worker)
    world.broker.forget(GROUP)
    worker = joined(world, then_s=15.0)
    assert (sent(world), began(worker)) == ([0, 1, 2], ("offsets_gone",))


# ---- partitions --------------------------------------------------------------------------------------------


def test_a_book_that_arrives_after_its_heirs_is_not_the_book(worlds: Any) -> None:
    """A worker that is stopped with its book in its producer's queue, for longer than a session: it goes on, the book
    is written after those of its heir, and then the group's offsets are gone."""
    world = worlds()
    stopped = world.join()
    while (book := next((one.booked for one in stopped.role._assignments), None)) is None or book.durable:
        world.turn(stopped)
        world.loop.run_for(0.05)
    world.broker.freeze(stopped.name)
    stopped.frozen_until_s = world.now_s() + 15.0
    heir = joined(world, *"abcde", then_s=14.0)
    assert (sent(world), world.is_done()) == ([0, 1, 2, 3, 4], True)
    world.loop.run_for(1.0)
    world.turn(stopped)
    assert world.broker.records(TOPICS.offsets)[-1].value == book.value, "the older one came last"
    world.kill(stopped)
    world.kill(heir)
    world.broker.forget(GROUP)
    joined(world, "f", then_s=12.0)
    assert sent(world) == [0, 1, 2, 3, 4, 5]


def grow(world: World, partitions: int, more: int = 0) -> None:
    """All topics; then `more` orders are written to the new partitions of the outbox."""
    for topic in world.broker.config:
        world.broker.grow(topic, partitions)
    for number in range(more):
        fill(world, f"n{number}", partition=1 + number % 3)


def test_an_outbox_that_grew_alone_is_named_and_its_other_partitions_go_on(worlds: Any) -> None:
    world = worlds(*"ab", partitions=2)
    worker = joined(world)
    world.broker.grow(OUTBOX, 4)
    world.broker.rebalance(GROUP)
    world.pass_time(8.0)
    fill(world, *"cd", then_s=3.0)
    assert sent(world) == [0, 1, 2, 3]
    (why,) = [reason for reason in worker.role.standing.unready() if "had 2 when this worker started" in reason]
    assert "hakuna.holds" in why
    assert unready(worker, "make them equal")


def test_a_quota_is_not_shared_out_to_partitions_that_were_not_there(worlds: Any) -> None:
    """Pace knows of as many as there were: the new ones wait, and there is no assertion."""
    world = worlds(*"ab", partitions=2, quota=Quota(10, 1.0))
    joined(world)
    grow(world, 4)
    world.broker.rebalance(GROUP)
    world.pass_time(8.0)
    assert [worker.how for worker in world.workers] == ["grown", ""]


def turned(world: World, worker: Worker, times: int) -> None:
    for _ in range(times):
        worker.role.turn()
        world.loop.run_for(0.2)


def test_where_all_topics_have_grown_the_worker_is_started_again(worlds: Any) -> None:
    world = worlds()
    worker = joined(world)
    grow(world, 2)
    with pytest.raises(Fatal, match=r"hakuna\.outbox has 2 partitions and had 1 .* to be started again"):
        turned(world, worker, 40)


def test_what_is_in_flight_when_the_topics_have_grown_ends_and_is_not_sent_again(worlds: Any) -> None:
    world = worlds(script=Script(latency_s=(1.5, 1.5)))
    joined(world)
    grow(world, 2)
    for number in range(200):
        fill(world, f"o{number}", then_s=0.05)
    world.pass_time(20.0)
    assert [worker.how for worker in world.workers] == ["grown", ""]
    assert world.is_done()
    assert sorted(sent(world)) == list(range(200))


def test_new_partitions_wait_with_the_quota_until_those_who_had_it_are_through(worlds: Any) -> None:
    """Their slots were the others' before, who may not have seen yet that the topics have grown."""
    world = worlds(*[f"o{number}" for number in range(60)], quota=Quota(10, 5.0))
    joined(world, then_s=1.0)
    grow(world, 4, more=40)
    heir = joined(world, then_s=120.0)
    assert world.is_done()
    assert quota(world) == []
    assert heir.meter.ended["delivered"] > 0


def test_new_partitions_wait_with_the_quota_though_the_groups_offsets_are_gone_too(worlds: Any) -> None:
    """That somebody has just used their slots is known from the books of the others alone."""
    world = worlds(*[f"o{number}" for number in range(30)], quota=Quota(10, 5.0))
    world.stop(joined(world, then_s=1.0))
    grow(world, 4, more=40)
    world.broker.forget(GROUP)
    joined(world, then_s=120.0)
    assert world.is_done()
    assert quota(world) == []


def test_partitions_that_nobody_has_ever_sent_from_send_at_once(worlds: Any) -> None:
    world = worlds(*"abc", partitions=2, quota=Quota(10, 5.0))
    joined(world, then_s=2.0)
    assert sorted(sent(world)) == [0, 1, 2]


@pytest.mark.parametrize(("shared_by", "sent_soon"), [(1, 5), (None, 5), (4, 0)])
def test_a_mark_of_slots_that_were_shared_out_otherwise_is_not_believed(
    worlds: Any, shared_by: int | None, sent_soon: int
) -> None:
    """Of a fourth of the quota all may have been in use, and of the whole more."""
    world = worlds(quota=Quota(10, 5.0))
    place = world.broker.seen([OUTBOX])[OUTBOX].place
    world.broker.append(TOPICS.offsets, 0, b"0", encode_book(place, None, 0, [], None, shared_by))
    world.broker.group(GROUP).committed[P0] = Committed(0, write_note(Note(2, [], place)) or "")
    joined(world, *"abcde", then_s=2.0)
    assert len(sent(world)) == sent_soon
    world.pass_time(8.0)
    assert len(sent(world)) == 5


def test_an_outbox_made_again_with_fewer_partitions_is_named_and_what_there_is_of_it_is_sent(worlds: Any) -> None:
    world = worlds(partitions=2)
    for number, order in enumerate("abcd"):
        fill(world, order, partition=number % 2)
    worker = joined(world)
    assert sorted(sent(world)) == [0, 1, 2, 3]
    world.broker.make_again(OUTBOX, 1)
    world.pass_time(6.0)
    fill(world, "e", "f", then_s=3.0)
    assert sorted(sent(world)) == [0, 1, 2, 3, 4, 5]
    assert unready(worker, "hakuna.outbox has 1 partitions and had 2")


def test_a_topic_that_is_gone_is_named_and_waited_for(worlds: Any) -> None:
    world = worlds("a")
    config = world.broker.config.pop(TOPICS.holds)
    worker = joined(world)
    assert unready(worker, "topics are missing: hakuna.holds")
    world.broker.config[TOPICS.holds] = config
    world.pass_time(3.0)
    assert sent(world) == [0]


# ---- a role that fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop_lives", [True, False])
def test_a_role_that_fails_commits_what_was_answered_and_leaves_its_group(worlds: Any, loop_lives: bool) -> None:
    """A full volume ends the event loop in the middle of things: what was accepted is not sent again."""
    world = worlds(*[f"o{number}" for number in range(40)], in_flight_max=4)
    worker = joined(world, then_s=1.0)
    worker.role._commit_at_s = worker.role._claim_at_s = 1e9  # the last commit was a while ago
    while len(accepted(world)) < 30:
        world.pass_time(0.05)
    if not loop_lives:
        worker.task.cancel()
        world.loop.run_for(0.0)
    in_flight = worker.sender.standing.in_flight
    before_s = world.now_s()
    worker.role.fail()
    world.loop.run_for(0.5)
    assert world.now_s() - before_s < 5.0
    worker.ended_s, worker.how = world.now_s(), "fail"
    assert world.broker.members(GROUP) == []
    joined(world, then_s=5.0)
    assert set(sent(world)) == set(range(40))
    assert len(sent(world)) <= 40 + in_flight
    assert world.is_done()


# ---- limits that are lowered at work -----------------------------------------------------------------------


def test_a_letter_that_its_topic_does_not_take_goes_without_its_value_and_the_rest_flows(worlds: Any) -> None:
    world = worlds(refused=[0, 2])
    worker = joined(world, then_s=2.0)
    world.broker.config[TOPICS.dead_letters] = {"max.message.bytes": "3000"}
    fill(world, "a", padding=20_000)
    fill(world, *"abcd", then_s=6.0)
    assert sorted(sent(world)) == [3, 4]
    found = world.broker.records(TOPICS.dead_letters)
    large, held, small = sorted(found, key=lambda one: dict(one.headers)["entry-id"])
    assert (large.key, large.value) == (b"a", None)
    head = letter_head(large)
    assert head is not None
    assert (head.reason, head.exception, head.error_code) == ("too_large", VALUE_LEFT_OUT, "product_unsupported")
    assert "product_unsupported" in head.message
    assert "max.message.bytes is 3000" in head.message
    assert head.origin.topic == OUTBOX
    assert world.broker.logs[P0].entries[head.origin.offset].record.value is not None
    assert held.value is not None
    assert small.value is not None
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])
    assert worker.meter.ended["dead_lettered"] == 2


def test_many_letters_in_a_topic_of_small_batches_keep_their_values(worlds: Any) -> None:
    world = worlds(refused=range(40))
    world.broker.config[TOPICS.dead_letters] = {"max.message.bytes": "4000"}
    worker: Any = joined(world, *[f"o{number}" for number in range(40)], then_s=10.0)
    assert len(letters(world)) == 40
    assert all(letter.value is not None for letter in world.broker.records(TOPICS.dead_letters))
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])
    assert worker.role._producer.batch_bytes_max == 4000, "by batches that fit, not a record at a time"


def test_a_book_that_kafka_refuses_is_said_until_the_next_one_is_taken(worlds: Any) -> None:
    world = worlds()
    worker = joined(world)
    world.broker.read_only.add(TOPICS.offsets)
    fill(world, *"abc", then_s=5.0)
    assert unready(worker, "hakuna.send-offsets cannot be written")
    world.broker.read_only.clear()
    world.pass_time(5.0)
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])


def test_holds_made_anew_reach_a_topic_of_small_batches(worlds: Any) -> None:
    world = worlds(refused=range(20))
    world.stop(joined(world, *[f"o{number}" for number in range(20)], then_s=6.0))
    world.broker.make_again(TOPICS.holds)
    world.broker.config[TOPICS.holds] = {"max.message.bytes": "1000"}
    worker = joined(world, then_s=6.0)
    assert {record.key for record in world.broker.records(TOPICS.holds)} == {b"o%d" % number for number in range(20)}
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])


def test_dead_letters_are_one_line_a_minute_with_an_example(worlds: Any) -> None:
    world = worlds(refused=range(0, 60, 2))
    with capture_logs() as logs:
        joined(world, "first")
        fill(world, *[f"o{number}" for number in range(1, 60)], then_s=90.0)
        fill(world, "last")
        world.api.script.refused[entry_id(60)] = "product_unsupported"
        world.pass_time(5.0)
    said = [(one["count"], one["reason"]) for one in logs if "dead letters were written" in one["event"]]
    assert said == [(1, "product_unsupported"), (30, "product_unsupported")]
    (example, *_) = [one["record"] for one in logs if "dead letters were written" in one["event"]]
    assert example == "hakuna.outbox/0/0"


def test_what_kafka_does_not_take_is_said_for_as_long_as_that_is_so_and_others_flow_on(worlds: Any) -> None:
    """Readiness does not flip with each record that is finished."""
    world = worlds("a", refused=[0])
    worker = world.join()
    world.broker.read_only.add(TOPICS.dead_letters)
    world.pass_time(3.0)
    said = []
    for number in range(40):
        fill(world, f"o{number}", then_s=0.3)
        said.append(unready(worker, "hakuna.dead-letters cannot be written"))
    assert all(said)
    assert len(sent(world)) >= 30
    world.broker.read_only.clear()
    world.pass_time(3.0)
    assert (world.is_done(), worker.role.standing.unready()) == (True, [])

"""Which entries wait behind a refused one, as far as a worker knows."""

from __future__ import annotations

from processor.letters.holds import Hold, Holds, decode_hold, encode_hold
from processor.records import EntryId, OrderId
from tests.fakes.stores import DictStore

ORDER = OrderId("ord-1")


def hold(entry: str = "e1", replay_id: str | None = None) -> Hold:
    return Hold(ORDER, EntryId(entry), "http_422", 1_000, replay_id)


def holds() -> Holds:
    made = Holds(DictStore({}))
    made.open(1)
    return made


def test_the_refused_entry_does_not_wait_behind_itself() -> None:
    """After a crash it is read again, and must be sent again."""
    assert not hold("e1").stops("e1", None)
    assert hold("e1").stops("e2", None)


def test_a_replay_passes_unless_this_very_replay_was_refused() -> None:
    assert not hold("e1").stops("e2", "r1")
    assert hold("e1", "r1").stops("e2", "r1")
    assert not hold("e1", "r1").stops("e2", "r2")
    assert hold("e1", "r1").stops("e2", None)


def test_a_hold_survives_its_record() -> None:
    assert decode_hold(encode_hold(hold("e1", "r1"))) == hold("e1", "r1")
    assert decode_hold(b"[]") is None
    assert decode_hold(b"\xff") is None


def test_a_hold_read_from_the_topic_is_known_and_a_tombstone_ends_it() -> None:
    known = holds()
    known.read(1, ORDER, hold())
    assert known.of(1, ORDER) == hold()
    assert (known.count(1), known.total) == (1, 1)
    known.read(1, ORDER, None)
    assert known.of(1, ORDER) is None
    assert (known.count(1), known.total) == (0, 0)


def test_a_tombstone_older_than_our_own_refusal_is_not_believed() -> None:
    """The topic tells of the past until our own record comes back: T was written before H2."""
    known = holds()
    known.read(1, ORDER, hold("e1"))
    known.refused(1, hold("e2", "r1"))
    known.read(1, ORDER, None)
    assert known.of(1, ORDER) == hold("e2", "r1")
    known.read(1, ORDER, hold("e2", "r1"))
    known.read(1, ORDER, None)
    assert known.of(1, ORDER) is None


def test_what_one_assignment_knew_is_unknown_to_the_next() -> None:
    known = holds()
    known.refused(1, hold())
    known.close(1)
    known.open(2)
    assert known.of(2, ORDER) is None
    assert known.total == 0
    known.read(2, ORDER, None)
    assert known.count(2) == 0


def test_leftovers_are_swept_little_by_little_and_nothing_else() -> None:
    store = DictStore({})
    known = Holds(store)
    known.open(1)
    known.open(2)
    for number in range(2_500):
        order_id = OrderId(f"ord-{number}")
        known.read(1, order_id, Hold(order_id, EntryId("e"), "held", 1))
    known.read(2, ORDER, hold())
    known.close(1)
    sweeps = 0
    while len(store.contents) > 1:
        known.sweep()
        sweeps += 1
    assert sweeps == 3
    known.sweep()
    assert known.of(2, ORDER) == hold()

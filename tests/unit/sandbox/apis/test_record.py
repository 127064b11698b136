"""The record counts what a stand-in saw."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processor.sandbox.apis.conduct import Claim, Ledger
from processor.sandbox.apis.record import Accepted, Presence, Recent, Record


@given(st.lists(st.floats(0, 100, allow_nan=False), max_size=60), st.floats(0.1, 50))
def test_most_in_a_window_is_what_a_count_of_every_window_says(times_s: list[float], window_s: float) -> None:
    times_s.sort()
    record = Record()
    for at_s in times_s:
        record.arrived(at_s)
    counted = [sum(1 for at_s in times_s if 0 <= at_s - start_s < window_s) for start_s in times_s]
    assert record.most_in(window_s) == max(counted, default=0)


def test_what_was_accepted_of_an_order_is_kept_in_order() -> None:
    record = Record()
    for number in range(3):
        record.accepted("ord-1", Accepted(float(number), "POST /events", b"%d" % number, None))
    record.accepted("ord-2", Accepted(9.0, "POST /events", b"9", None))
    assert [one.body for one in record.history("ord-1")] == [b"0", b"1", b"2"]
    assert record.subjects() == ["ord-1", "ord-2"]
    assert record.history("ord-3") == []


def test_a_second_request_about_an_order_meets_the_first_until_that_has_left() -> None:
    record = Record()
    first, second = Presence(("a", "b")), Presence(("b", "c"))
    assert record.entered(first) == []
    assert record.entered(second) == [("b", first)]
    record.left(first)
    assert record.entered(Presence(("b",))) == [("b", second)]
    record.left(second)
    assert record.entered(Presence(("a", "c"))) == []


def test_a_memory_forgets_what_it_was_told_first() -> None:
    memory: Recent[int] = Recent(size_max=2)
    for number, name in enumerate(("a", "b", "a", "c")):
        memory[name] = number
    assert list(memory) == ["b", "c"]
    assert (len(memory), memory.forgotten, memory.get("a")) == (2, 1, None)


def test_a_key_gives_its_answer_again_for_the_same_body_only() -> None:
    ledger: Ledger[str] = Ledger()
    assert ledger.claim("k", b"body") is Claim.NEW
    assert ledger.claim("k", b"body") is Claim.BUSY
    ledger.settle("k", b"body", "done")
    assert ledger.claim("k", b"body") == "done"
    assert ledger.claim("k", b"other") is Claim.REUSED


def test_a_key_that_was_withdrawn_is_new_again() -> None:
    ledger: Ledger[str] = Ledger()
    assert ledger.claim("k", b"body") is Claim.NEW
    ledger.withdraw("k")
    assert ledger.claim("k", b"other") is Claim.NEW

"""Which letters of an order go, and which stay: nothing overtakes what stays, and what waits goes along."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from processor.operate.replay.arrange import (
    BEHIND,
    NEWER,
    NOWHERE,
    TOO_OFTEN,
    TWICE,
    Fate,
    Kind,
    Planned,
    Status,
    arrange,
)


def letter(
    offset: int,
    kind: Kind = Kind.REFUSED,
    *,
    selected: bool = True,
    replays: int = 0,
    same_as: str = "",
    snapshot: bool = False,
    obstacle: str = "",
) -> Planned:
    return Planned(offset, kind, selected, replays, same_as or f"entry-{offset}", snapshot, obstacle)


def fates(letters: Sequence[Planned], **more: bool) -> list[Fate]:
    return arrange(letters, replays_max=3, **more)


GO = Fate(Status.GO)
OPEN = Fate(Status.OPEN)


def test_an_order_of_which_nothing_is_selected_is_left_alone() -> None:
    assert fates([letter(1, selected=False), letter(2, Kind.HELD, selected=False)]) == [OPEN, OPEN]


def test_what_is_held_goes_along_with_the_letter_that_it_waits_for() -> None:
    assert fates([letter(1), letter(2, Kind.HELD, selected=False), letter(3, Kind.HELD, selected=False)]) == [GO] * 3


def test_what_is_held_stays_when_the_letter_that_it_waits_for_is_not_selected() -> None:
    assert fates([letter(1, selected=False), letter(2, Kind.HELD)]) == [OPEN, Fate(Status.STAYS, BEHIND)]


def test_what_is_held_goes_alone_when_nothing_stands_before_it() -> None:
    assert fates([letter(2, Kind.HELD), letter(3, Kind.HELD, selected=False)]) == [GO, GO]


def test_a_letter_that_was_replayed_often_enough_stays_with_all_behind_it() -> None:
    letters = [letter(1, replays=3), letter(2, Kind.HELD, selected=False), letter(3, Kind.HELD)]
    assert fates(letters) == [Fate(Status.STAYS, TOO_OFTEN), OPEN, Fate(Status.STAYS, BEHIND)]


def test_an_answered_letter_stands_in_nobodys_way() -> None:
    assert fates([letter(1, Kind.ANSWERED, selected=False), letter(2)]) == [OPEN, GO]


def test_the_second_letter_of_one_entry_is_superseded() -> None:
    twice = [letter(1, same_as="e"), letter(2, same_as="e"), letter(3, Kind.HELD)]
    assert fates(twice) == [GO, Fate(Status.STALE, TWICE), GO]


def test_of_snapshots_only_the_newest_goes() -> None:
    letters = [letter(1, Kind.ANSWERED, snapshot=True), letter(2, Kind.ANSWERED, snapshot=True, selected=False)]
    assert fates(letters) == [Fate(Status.STALE, NEWER), GO]


def test_a_letter_without_an_origin_stays() -> None:
    assert fates([letter(1, Kind.LONE, obstacle=NOWHERE), letter(2, Kind.LONE)]) == [Fate(Status.STAYS, NOWHERE), GO]


def test_a_run_that_is_gone_on_with_takes_what_waits_along() -> None:
    assert fates([letter(2, Kind.HELD, selected=False)], begun=True) == [GO]


def test_what_is_put_aside_is_what_was_selected_and_nothing_else() -> None:
    assert fates([letter(1, replays=9), letter(2, Kind.HELD, selected=False)], sends=False) == [GO, OPEN]


letters_of_an_order = st.lists(
    st.tuples(st.sampled_from([Kind.REFUSED, Kind.HELD, Kind.ANSWERED]), st.booleans(), st.integers(0, 4)), max_size=8
)


@given(letters_of_an_order, st.booleans())
def test_nothing_that_waits_goes_before_something_that_stays(drawn: list[tuple[Kind, bool, int]], begun: bool) -> None:
    letters = [letter(place, kind, selected=sel, replays=n) for place, (kind, sel, n) in enumerate(drawn)]
    found = arrange(letters, replays_max=3, begun=begun)
    assert len(found) == len(letters)
    in_lane = [(one, fate) for one, fate in zip(letters, found, strict=True) if one.kind is not Kind.ANSWERED]
    stayed = False
    for one, fate in in_lane:
        assert not (stayed and fate.status is Status.GO)
        assert one.replays < 3 or fate.status is not Status.GO
        stayed |= fate.status is not Status.GO

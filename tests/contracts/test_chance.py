"""What a simulation draws quickly is what the standard library draws: a seed stays the same history."""

from __future__ import annotations

import random

from tests.fakes.chance import below, shuffled


def test_numbers_are_those_of_the_standard_library_and_leave_its_state() -> None:
    ours, theirs = random.Random(7), random.Random(7)
    for end in (1, 2, 3, 8, 9, 500, 501, 1 << 40, *range(1, 300)):
        assert below(ours, end) == theirs.randrange(end)
        assert below(ours, end) == theirs.randint(0, end - 1)
    assert ours.getstate() == theirs.getstate()


def test_what_is_shuffled_lies_as_the_standard_library_leaves_it() -> None:
    ours, theirs = random.Random(7), random.Random(7)
    for count in range(40):
        these, wanted = list(range(count)), list(range(count))
        theirs.shuffle(wanted)
        assert shuffled(ours, these) == wanted
        assert these == list(range(count))
    assert ours.getstate() == theirs.getstate()

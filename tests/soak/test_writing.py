"""What a seed writes is the same each time, in the order of its moments, with events late, twice, bad and giant."""

from __future__ import annotations

import itertools
from collections import Counter

from processor.records import Outcome
from tests.soak.writing import GIANT_LINES, planned

START_MS = 1_800_000_000_000


def test_a_seed_writes_the_same_and_everything_odd_comes_to_pass() -> None:
    first, again = (list(itertools.islice(planned(5, 10.0, START_MS), 4_000)) for _ in range(2))
    assert first == again
    assert [one.due_s for one in first] == sorted(one.due_s for one in first)
    kinds = Counter(one.kind for one in first)
    assert min(kinds[kind] for kind in ("late", "twice", "giant")) > 2
    late = [one for one in first if one.kind in ("late", "twice")]
    assert all(one.due_s > (one.step.timestamp_ms - START_MS) / 1000 for one in late)
    for one in first:
        if one.kind == "giant":
            assert isinstance(one.step.value, dict)
            assert len(one.step.value["line_items"]) > GIANT_LINES
    assert any(one.step.expected.outcome is Outcome.DEAD_LETTERED for one in first)
    assert {one.step.key for one in first if one.kind == "twice"} <= {one.step.key for one in first}

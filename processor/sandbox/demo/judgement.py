"""Checks at the end of the demo that every record has the outcome of the rules, and that every request was right.

Pure. The expectation comes from the shop; the facts come from the dead-letter topics and the stand-in's record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from processor.letters.letter import letter_head
from processor.records import HeaderName, Outcome, Position, Record
from processor.sandbox.apis.record import Record as Seen
from processor.sandbox.shop.history import Step
from processor.sandbox.shop.writer import NUMBERED

DIFFERENCES_MAX = 10
"""Differences of one kind that are listed; the rest is counted."""


def dead_letters(records: Iterable[Record]) -> dict[str, str]:
    """Returns the reasons by the position of the source record. An entry's letter names its source in a header. If the
    shop has numbered its records, the number replaces the position."""
    found: dict[str, str] = {}
    for record in records:
        head = letter_head(record)
        assert head is not None, f"{record.position} is no dead letter of ours"
        source = record.header_text(NUMBERED) or record.header_text(HeaderName.SOURCE) or str(head.origin)
        found[source] = head.reason
    return found


def expected_letters(written: Mapping[Position, Step]) -> dict[str, str]:
    """Returns what `dead_letters` should return."""
    expected = {}
    for position, step in written.items():
        if step.expected.outcome is Outcome.DEAD_LETTERED:
            assert step.expected.reason is not None
            expected[str(position)] = step.expected.reason.value
        elif step.expected.answer is not None:
            expected[str(position)] = step.expected.answer.value
    return expected


def expected_deliveries(written: Mapping[Position, Step]) -> Counter[str]:
    """Returns, by order, the number of requests that should have been accepted."""
    return Counter(
        step.key.decode()
        for step in written.values()
        if step.expected.outcome is Outcome.TRANSFORMED and step.expected.answer is None
    )


def differences(written: Mapping[Position, Step], letters: Mapping[str, str], seen: Seen) -> list[str]:
    """Returns every difference between outcome and expectation, as sentences; empty if there is none."""
    wrong: list[str] = []
    expected = expected_letters(written)
    wrong += _cut(
        f"{source}: dead letter {letters.get(source)}, should be {expected.get(source)}"
        for source in sorted(expected.keys() | letters.keys())
        if letters.get(source) != expected.get(source)
    )
    deliveries = expected_deliveries(written)
    accepted = Counter({order_id: len(seen.history(order_id)) for order_id in seen.subjects()})
    wrong += _cut(
        f"{order_id}: {accepted[order_id]} requests accepted, should be {deliveries[order_id]}"
        for order_id in sorted(deliveries.keys() | accepted.keys())
        if accepted[order_id] != deliveries[order_id]
    )
    wrong += _cut(f"a request that the reference does not allow: {mistake}" for mistake in seen.mistakes())
    wrong += _cut(f"{order_id}: two requests in flight at once" for order_id in seen.overlaps())
    if seen.key_conflicts:
        wrong.append(f"{seen.key_conflicts} times one Idempotency-Key for two bodies")
    return wrong


def _cut(problems: Iterable[str]) -> list[str]:
    found = list(problems)
    if len(found) <= DIFFERENCES_MAX:
        return found
    return [*found[:DIFFERENCES_MAX], f"… and {len(found) - DIFFERENCES_MAX} more like that"]

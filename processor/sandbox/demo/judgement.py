"""What the demo checks at its end: whether every record became what the rules say, and every request was
right.

Pure. The expectation comes from the shop, the facts from the dead-letter topics and from the stand-in's
record.
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
"""Of one kind, that are told one by one."""


def dead_letters(records: Iterable[Record]) -> dict[str, str]:
    """Reasons by the position of the source record. An entry's letter names its source in a header; where the shop has
    numbered its records, that goes before both."""
    found: dict[str, str] = {}
    for record in records:
        head = letter_head(record)
        assert head is not None, f"{record.position} is no dead letter of ours"
        source = record.header_text(NUMBERED) or record.header_text(HeaderName.SOURCE) or str(head.origin)
        found[source] = head.reason
    return found


def expected_letters(written: Mapping[Position, Step]) -> dict[str, str]:
    """What `dead_letters` should find."""
    expected = {}
    for position, step in written.items():
        if step.expected.outcome is Outcome.DEAD_LETTERED:
            assert step.expected.reason is not None
            expected[str(position)] = step.expected.reason.value
        elif step.expected.answer is not None:
            expected[str(position)] = step.expected.answer.value
    return expected


def expected_deliveries(written: Mapping[Position, Step]) -> Counter[str]:
    """How many requests of each order should have been accepted."""
    return Counter(
        step.key.decode()
        for step in written.values()
        if step.expected.outcome is Outcome.TRANSFORMED and step.expected.answer is None
    )


def differences(written: Mapping[Position, Step], letters: Mapping[str, str], seen: Seen) -> list[str]:
    """Every way in which it came otherwise than it should have; empty when all is well."""
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

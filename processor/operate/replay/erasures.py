"""Erasures: which of a plan's orders were erased after what their letters hold was written. Their letters stay.

    an order whose state is gone, though it had one when the letter was refused   ─┐  erased, or past its retention:
    a null value of its key in a topic that transform reads, as late as the letter ┴─ not sent again by itself

A dead letter keeps the refused record byte for byte, with the customer in it, and so outlives the erasure. The
changelog remembers an erasure for `delete.retention.ms`, a source topic for its retention; after that the state that is
not there any more is what tells. A letter of an order without a state (never placed, or that was refused) is told by
the null alone.

Owned by one command, one thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from processor.interfaces import Clock, Reader
from processor.operate.replay.database import OrderKey
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Offsets, Step, read
from processor.operate.replay.survey import Field, Route
from processor.records import TopicPartition

ERASED: Final = "its order was erased; --erased sends it all the same"
STATELESS: Final = (
    "nothing is known of its order any more: it was erased, or is older than PROCESSOR_ORDER_RETENTION; --erased sends "
    "it all the same"
)


def keep_back(plan: Plan, field: Field, reader: Reader, offsets: Offsets, clock: Clock, step: Step) -> None:
    """Lets the letters of erased orders stay. The plan has the state of its orders already. Raises `BrokerOutage`."""
    earliest_ms = plan.overview.earliest_ms()
    if field.route is Route.FOREIGN or earliest_ms is None:
        return
    for where in _partitions(field.ranks, {*plan.overview.partitions(), *plan.overview.homes()}, offsets):
        start = offsets.since([where], earliest_ms)[where]
        for records in read(reader, clock, where, start, offsets.ends([where])[where], step):
            for record in records:
                if record.value is None and record.key is not None:
                    order = OrderKey(record.partition, record.key)
                    if plan.has(order):
                        plan.keep_back(order, record.timestamp_ms, ERASED)
                    plan.keep_back_home(order, record.timestamp_ms, ERASED)
    for order in plan.known.stateless():
        plan.keep_back(order, None, STATELESS)


def _partitions(topics: Collection[str], numbers: Collection[int], offsets: Offsets) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number)
        for topic in topics
        for number in numbers
        if number < (offsets.partitions(topic) or 0)
    ]

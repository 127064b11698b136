"""rewind: from where a group reads again. Pure.

Only ever back: a group that is set forward leaves records untaken, which nothing here does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from processor.interfaces import Committed
from processor.records import TopicPartition


class Move(NamedTuple):
    """One partition's next offset, as it is (None: nothing was committed) and as it will be. `again` is how many
    offsets lie between the two."""

    topic: str
    partition: int
    was: int | None
    to: int
    again: int


def moves(
    partitions: Sequence[TopicPartition],
    committed: Mapping[TopicPartition, Committed],
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    targets: Mapping[TopicPartition, int | None],
) -> list[Move]:
    """`targets` are the offsets wanted, None for the end of the log. What is committed beyond the end (the topic was
    made anew) counts as nothing committed."""
    found = []
    for where in partitions:
        was = committed[where].next_offset
        target = targets[where]
        to = min(max(beginnings[where], ends[where] if target is None else target), ends[where])
        if was is not None and was <= ends[where]:
            to = min(to, max(was, beginnings[where]))
        found.append(Move(where.topic, where.partition, was, to, 0 if was is None else max(was - to, 0)))
    return found

"""starts: where a source is read from, by what is on record of it and what stands in the cluster today. Pure.

Shared by transform, whose book has the record (`processor/transform/book.py`), and rekey, whose commits have it
(`processor/rekey/beginnings.py`): offsets are numbers, and a topic made again has the same ones for other records.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far one source was finished. `topic_id` differs if the topic was made again under its name."""

    topic_id: str
    next_offset: int


class Correction(StrEnum):
    """Why a source is not simply read on from where its group left off (`processor_offsets_lost_total`)."""

    OFFSETS_GONE = "offsets_gone"
    MADE_AGAIN = "made_again"
    OVERTAKEN = "overtaken"
    CUT_OFF = "cut_off"
    SET_BACK = "set_back"
    SET_FORWARD = "set_forward"
    OTHER_CLUSTER = "other_cluster"


class Start(NamedTuple):
    """Where a source is read from, how many offsets before it are gone unread, and what was out of the ordinary."""

    offset: int
    missed: int
    corrections: tuple[Correction, ...]


def start_of(
    mark: Mark | None, committed: int | None, topic_id: str, beginning: int, end: int, *, same_cluster: bool
) -> Start:
    """Returns where a source begins. `mark` is None without a book: the installation is new, or older than its first
    book. Events that are read again are known by their IDs; records that were deleted unread are counted."""
    corrections: list[Correction] = []
    missed = 0
    if mark is None and committed is None:
        return Start(beginning, 0, ())
    if mark is None or not same_cluster:
        offset = beginning if committed is None else committed
        if mark is not None:
            corrections.append(Correction.OTHER_CLUSTER)
    elif mark.topic_id != topic_id:
        corrections.append(Correction.MADE_AGAIN)
        offset = 0
    elif committed is None:
        corrections.append(Correction.OFFSETS_GONE)
        offset = mark.next_offset
    else:
        offset = committed
        if offset < mark.next_offset:
            corrections.append(Correction.SET_BACK)
        elif offset > mark.next_offset:
            corrections.append(Correction.SET_FORWARD)
            missed = offset - mark.next_offset
    if offset > end:
        # Where it was cut is not known: what came since may stand anywhere.
        corrections.append(Correction.CUT_OFF)
        offset = beginning
    if offset < beginning:
        corrections.append(Correction.OVERTAKEN)
        missed += beginning - offset
        offset = beginning
    return Start(offset, missed, tuple(corrections))

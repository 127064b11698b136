"""What the commands write into the changelog's books. Pure.

A person has decided what the state is to be: `decided_ms` says when, and lets stores of another changelog go.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from processor.records import TopicPartition
from processor.sources.starts import Mark
from processor.transform.book import Book, Here, new_book


def at(
    known: Book | None,
    here: Here,
    number: int,
    offsets: Mapping[TopicPartition, int],
    identities: Mapping[str, str],
    *,
    decided_ms: int,
    whole_from: int,
) -> Book:
    """The book of one partition number, read from these offsets on: the state is from now on what the changelog holds
    from `whole_from` on."""
    base = new_book(here) if known is None else known
    marks = {
        **base.marks,
        **{
            where.topic: Mark(identities[where.topic], offset)
            for where, offset in offsets.items()
            if where.partition == number
        },
    }
    return msgspec.structs.replace(
        base,
        cluster=here.cluster,
        # What a worker wrote into another changelog stays known as that until somebody decides.
        changelog=here.changelog if known is None or decided_ms != known.decided_ms else known.changelog,
        partitions=here.partitions,
        whole_from=whole_from,
        decided_ms=decided_ms,
        marks=marks,
        orders=-1,
    )

"""book: how far transform has finished each source, and the layout that its state was made with.

    changelog/3:  … state, state, book │ state, book │ …     one book a transaction and partition, under a key that no
                                                             order ID can have; compaction keeps the newest

It is written in the same transaction as the state, so it is never ahead of the state or behind it, and a restore brings
both back. It answers four questions that the group's offsets cannot answer. Are the offsets gone, or is the
installation new? Is a topic still the one that was read? Is the number of partitions the one that the state was made
with? Does the changelog have everything that a store has?

Its bytes begin as an order's state does (`order_state.py`). So a worker of an older version, which may have the
partition during an upgrade, keeps it as the state of an order that no event names.

Pure. Not chosen: the commit metadata (lost with the offsets), a file (lost with the volume), one more topic.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence, Set
from typing import Final, NamedTuple

import msgspec

from processor.errors import Problem, StateCorrupt
from processor.sources.starts import Mark

BOOK_KEY: Final = b"\xffbook"
"""No UTF-8 text begins with this byte, so no order ID does."""
_FORMAT: Final = 1
_PREFIX: Final = struct.Struct(">Bqq").pack(1, 2**63 - 1, 0)
"""The head of an order's state that was last touched at the end of time and has nothing parked."""


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records that were deleted before transform took them: `missed` before `next_offset`, found at `at_ms`."""

    at_ms: int
    missed: int
    next_offset: int


class Book(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition's book. `cluster` and `changelog` are the IDs of both when it was written; `partitions` is the
    partition count of each topic when the state was made. The changelog's log may begin at `whole_from` at the latest:
    every state is at that offset or after it. `decided_ms` is when a person last decided what the state is (`rewind`,
    `rebuild-changelog`, `topics grow`): older stores of another changelog may be wiped. `marks` and `gaps` (the newest)
    are by whole topic name. `orders` is the number of orders in the state (-1: not counted)."""

    format: int
    cluster: str
    changelog: str
    partitions: int
    whole_from: int
    decided_ms: int
    marks: dict[str, Mark]
    orders: int = -1
    gaps: dict[str, Gap] = {}


_DECODER: Final = msgspec.msgpack.Decoder(Book)


def encode_book(book: Book) -> bytes:
    return _PREFIX + msgspec.msgpack.encode(book)


def decode_book(value: bytes) -> Book:
    """Raises `StateCorrupt`."""
    try:
        book = _DECODER.decode(value.removeprefix(_PREFIX))
    except msgspec.MsgspecError as broken:
        raise StateCorrupt(f"the book cannot be read: {broken}") from broken
    if book.format != _FORMAT:
        raise StateCorrupt(f"the book has format {book.format}, and this version reads {_FORMAT}")
    return book


class Here(NamedTuple):
    """The installation as it is now: IDs of its cluster and changelog, and its topics' partition count."""

    cluster: str
    changelog: str
    partitions: int


def new_book(here: Here) -> Book:
    return Book(_FORMAT, here.cluster, here.changelog, here.partitions, whole_from=0, decided_ms=0, marks={})


REBUILD: Final = (
    "stop transform; `hakuna-processor rebuild-changelog` writes it again from the stores (deploy/RUNBOOK.md, The "
    "changelog is lost)"
)


def problems_at_start(
    changelog: str,
    here: Here,
    books: Mapping[int, Book],
    beginnings: Mapping[int, int],
    ends: Mapping[int, int],
    *,
    taken: Set[int],
) -> list[Problem]:
    """Returns what keeps transform from starting. `taken` are the numbers of which the group has finished records."""
    others = sorted({book.partitions for book in books.values()} - {here.partitions})
    if others:
        return [layout_problem(changelog, others[0], here.partitions)]
    found: list[Problem] = []
    empty = sorted(number for number, end in ends.items() if end == 0 and number in taken)
    if empty and (books or not any(ends.values())):
        what = f"is empty in {_numbers(empty)}, of which the group has taken records: it was deleted and made again"
        found.append(Problem(changelog, what, REBUILD))
    for number, book in sorted(books.items()):
        if book.changelog != here.changelog and book.cluster == here.cluster:
            what = "was deleted and made again while workers ran: it has only what came since"
            found.append(Problem(f"{changelog}/{number}", what, REBUILD))
    for number, beginning in sorted(beginnings.items()):
        known = books.get(number)
        if beginning > (known.whole_from if known is not None else 0):
            found.append(cut_off(changelog, number, beginning))
    return found


def cut_off(changelog: str, number: int, beginning: int) -> Problem:
    what = f"begins at offset {beginning}: its records before that were deleted, and with them the state of orders"
    return Problem(f"{changelog}/{number}", what, REBUILD)


def _numbers(numbers: Sequence[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def layout_problem(changelog: str, made_with: int, now: int) -> Problem:
    what = (
        f"the state was made with {made_with} partitions, and the topics have {now} now: keys have moved to other "
        "partitions, away from their orders' state"
    )
    remedy = (
        f"stop transform and send, then `hakuna-processor topics grow --partitions {max(made_with, now)}` moves the "
        "state to where its keys are"
    )
    return Problem(changelog, what, remedy)


def may_go(of_store: Book | None, of_changelog: Book | None) -> bool:
    """True if a store of another changelog may be wiped: a person has decided what the state is since it was written.
    The marks of both prove nothing: a changelog that was made again goes on from the same marks without orders."""
    decided_ms = 0 if of_store is None else of_store.decided_ms
    return of_changelog is not None and of_changelog.decided_ms > decided_ms

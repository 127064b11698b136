"""The outbox's intake: an entry is what its record says, and an operator's replay is known as one."""

from __future__ import annotations

import msgspec
import pytest

from processor.errors import BadRecord
from processor.records import EntryType, Headers, Record
from processor.send.kafka_thread.intake import OutboxIntake

ENTRY: Headers = [("entry-id", b"e1"), ("entry-type", b"order_placed"), ("occurred-at", b"7")]


@pytest.mark.parametrize(
    ("more", "replay_id", "replayed"),
    [
        ([], None, False),
        ([("replay-id", b"r1"), ("replay-of", b"hakuna.dead-letters/0/1")], "r1", True),
        ([("replay-of", b"orders.dead-letters/0/1")], None, True),  # what came back through transform has no ID
    ],
)
def test_a_replayed_entry_is_known_as_one_straight_or_through_transform(
    more: Headers, replay_id: str | None, replayed: bool
) -> None:
    record = Record("hakuna.outbox", 0, 1, 0, b"a", b"{}", [*ENTRY, *more])
    pending = OutboxIntake(list(EntryType)).pending(record, 1, 0)
    assert not isinstance(pending, BadRecord)
    assert (pending.replay_id, pending.replayed) == (replay_id, replayed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"entry-id": b"e-1\r\nX-Evil: 1"}, "not printable"),
        ({"entry-id": b"e-1\x00"}, "not printable"),
        ({"entry-id": "e-1\u2028".encode()}, "not ASCII"),
        ({"entry-id": b"e" * 100_000}, "too long"),
        ({"occurred-at": b"9" * 5_000}, "no time"),
        ({"occurred-at": b"1e400"}, "no time"),
        ({"entry-type": b"order_placed\r\n"}, "unknown"),
    ],
)
def test_what_somebody_else_writes_to_the_outbox_becomes_no_header_and_no_number_of_ours(
    changed: dict[str, bytes], why: str
) -> None:
    intake = OutboxIntake(list(EntryType))
    whole = Record("hakuna.outbox", 0, 0, 0, b"ord-1", b"{}", ENTRY)
    assert not isinstance(intake.pending(whole, 1, 0), BadRecord)
    refused = intake.pending(msgspec.structs.replace(whole, headers=list((dict(ENTRY) | changed).items())), 1, 0)
    assert isinstance(refused, BadRecord)
    assert why in str(refused)

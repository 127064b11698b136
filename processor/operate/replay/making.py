"""The records that a replay writes for one letter: its copy and its resolution.

    letter ─► whole (its source's value, where the letter has none) ─► content (its own, rebuilt or edited) ─► copy
                  │                                                       │
                  └───────────── `Unsendable`: it stays, and says why ────┘

`Terms` are what a run of a replay is to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from processor.hakuna import entry_ids
from processor.interfaces import Clock
from processor.letters.families import letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import How, Resolution, encode_resolution, resolution_key
from processor.operate.replay.copies import copy_of, replays_of
from processor.operate.replay.database import Going, OrderKey
from processor.operate.replay.place import Ledger
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Offsets
from processor.operate.replay.selection import order_of
from processor.operate.replay.survey import Field, Survey, home
from processor.records import HeaderName, NewRecord, Position, Record, TopicPartition

GONE: Final = "it is not in its topic any more"
TOO_LARGE: Final = "its copy is larger than what can be written"


class Content(Protocol):
    """What of a letter is sent: its own value, a rebuilt or an edited one."""

    def __call__(self, letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a run is told. `sends` False: the letters are put aside and nothing is sent (`resolution.how` says how).
    `follow_from` are the next offsets of the topics that tell, `group_of` the group that finishes a target topic."""

    field: Field
    replay_id: str
    resolution: Resolution
    sends: bool
    rate_s: float
    canary: int
    share_max: float
    outstanding_max: int
    silence_s_max: float
    tells: str | None
    follow_from: dict[TopicPartition, int]
    groups: dict[str, str]


class Making:
    """Reads the cluster's retention and limits; holds nothing itself."""

    def __init__(
        self, terms: Terms, plan: Plan, survey: Survey, ledger: Ledger, offsets: Offsets, clock: Clock, content: Content
    ) -> None:
        self._terms = terms
        self._plan = plan
        self._survey = survey
        self._ledger = ledger
        self._offsets = offsets
        self._clock = clock
        self._content = content

    def of(
        self, letter: Record | None, going: Going
    ) -> tuple[TopicPartition | None, str, list[NewRecord]] | Unsendable:
        """Where a letter goes, its copy's entry ID, and the records to be written for it."""
        if letter is None:
            return Unsendable(GONE)
        terms = self._terms
        facts = letter_facts(letter)
        whole = self._survey.sendable(letter, facts)
        if not terms.sends:
            of = order_of(letter if isinstance(whole, Unsendable) else whole)
            return None, "", [self.resolved(letter.position, msgspec.structs.replace(terms.resolution, order_id=of))]
        if isinstance(whole, Unsendable):
            return whole
        letter = whole
        value = self._content(letter, going, self._plan)
        if isinstance(value, Unsendable):
            return value
        target, key = self._survey.destination(letter, facts, selected=going.selected)
        assert target is not None, "a letter without a target was let go"
        if isinstance(key, Unsendable):
            return key
        retention_ms = self._offsets.retention_ms(target.topic)
        # Kafka deletes by a record's own time, within minutes once it is past: half of it is left for the sender.
        too_old_ms = None if retention_ms is None else self._clock.now_ms() - retention_ms // 2
        copy = copy_of(letter, facts, target, terms.replay_id, value, too_old_ms)._replace(key=key)
        if not self._ledger.fits(copy):
            return Unsendable(TOO_LARGE)
        entry_id = letter.header_text(HeaderName.ENTRY_ID) or ""
        if entry_id and value != letter.value and value is not None:
            entry_id = entry_ids.of_bytes(entry_id, value)
        resolution = msgspec.structs.replace(
            terms.resolution,
            replay_count=replays_of(letter) + 1,
            order_id=order_of(letter),
            entry_id=entry_id,
            sent_to=target.topic,
            sent_partition=None if target.partition == letter.partition else target.partition,
            edit=terms.resolution.edit if going.selected else None,
        )
        return target, entry_id, [copy, self.resolved(letter.position, resolution)]

    def resolved(self, letter: Position, resolution: Resolution) -> NewRecord:
        topic = self._terms.field.resolutions
        number = home(letter.partition, self._offsets.partitions(topic) or 1)
        value = encode_resolution(msgspec.structs.replace(resolution, at_ms=self._clock.now_ms()))
        return NewRecord(topic, number, resolution_key(letter), value, [])

    def superseded(self, order: OrderKey, offset: int, why: str) -> NewRecord:
        letter = Position(self._terms.field.letters, order.partition, offset)
        by = self._terms.resolution.by
        return self.resolved(letter, Resolution(how=How.SUPERSEDED, at_ms=0, by=by, reason=why))

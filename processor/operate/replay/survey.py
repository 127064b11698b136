"""Reads what a command has to know before it does anything, partition by partition, and makes the plan from it.

    resolutions ─► which letters are open          letters ─► one row each        arranged ─► what goes, what stays
                   and what an unfinished run                                       │
                   has sent                                                        ├─ holds of those orders
                                                                                   ├─ their state, for a rebuild
                                                                                   └─ later deliveries of a snapshot

Used by one command in one thread. Memory: one poll's records, one partition's resolved offsets, and the plan's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from processor.interfaces import Clock, Reader
from processor.letters.families import LetterFacts, letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import NEWER_DELIVERED, decode_resolution, letter_of
from processor.operate.replay.arrange import NOWHERE, Kind, Planned
from processor.operate.replay.copies import replays_of
from processor.operate.replay.database import NewLetter, OrderKey, SentLetter
from processor.operate.replay.noted import Resolved
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Offsets, Step, begun_ms, read
from processor.operate.replay.rekeying import Rekey
from processor.operate.replay.selection import Selection
from processor.operate.replay.sources import Sources, completed
from processor.records import EntryType, HeaderName, Reason, Record, TopicPartition

UNKEYED: Final = b"\x00unkeyed\x00"
"""Begins what stands for the order of a letter without a key: it belongs to none."""
HAD_A_STATE: Final = frozenset(
    {
        Reason.LINE_ITEM_UNKNOWN.value,
        Reason.QUANTITY_EXCEEDED.value,
        Reason.ORDER_CANCELLED.value,
        Reason.ORDER_EXISTS.value,
    }
)
"""What transform refuses of an order that it knows, and of no other."""
_HOLDS_NOBODY: Final = frozenset({Reason.CANCEL_DECLINE.value, Reason.UNDECODABLE.value})


class Route(Enum):
    """Where the letters of a topic go, and who tells what became of them."""

    OUTBOX = "outbox"
    """To the outbox; a receipt or a dead letter tells."""
    SOURCE = "source"
    """To the source topic, through transform; an outbox record or a dead letter tells."""
    FOREIGN = "foreign"
    """To where another tool took it from; only its dead letters tell."""


class Field(NamedTuple):
    """The topics of a survey, whole names. `ranks` is the order in which transform takes equal timestamps."""

    letters: str
    resolutions: str
    holds: str
    deliveries: str
    changelog: str
    outbox: str
    route: Route
    ranks: Mapping[str, int]


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What of a delivery's receipt matters here."""

    entry_id: str = ""
    entry_type: str = ""
    delivered_at: int = 0


_RECEIPT: Final = msgspec.json.Decoder(Receipt)


def read_receipt(record: Record) -> Receipt | None:
    try:
        return _RECEIPT.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Survey:
    """Reads. Holds nothing but its clients and what it looks for."""

    def __init__(
        self,
        field: Field,
        selection: Selection,
        reader: Reader,
        offsets: Offsets,
        clock: Clock,
        step: Step,
        sources: Sources,
        rekey: Rekey | None = None,
    ) -> None:
        self._field = field
        self._rekey = rekey
        self._sources = sources
        self._selection = selection
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._step = step

    def letters(self, plan: Plan, replay_id: str | None) -> dict[TopicPartition, int]:
        """Puts every open letter into the plan, and what the unfinished run `replay_id` has sent. Returns where the
        reading of each partition ended."""
        topic = self._field.letters
        count = self._offsets.partitions(topic)
        assert count is not None, f"{topic} is gone"
        partitions = [TopicPartition(topic, number) for number in range(count)]
        # The ends before the resolutions: a letter that is resolved meanwhile must not be taken for open.
        beginnings, ends = self._offsets.beginnings(partitions), self._offsets.ends(partitions)
        by_home: dict[int, list[TopicPartition]] = {}
        for where in partitions:
            by_home.setdefault(home(where.partition, self._resolution_partitions()), []).append(where)
        begun = begun_ms(self._reader, self._clock, beginnings, ends)
        for number, wheres in by_home.items():
            resolved = self._resolved(number, plan, replay_id, begun)
            for where in wheres:
                closed = [offsets for offsets in resolved.of(where).values() if len(offsets)]
                for records in read(self._reader, self._clock, where, beginnings[where], ends[where], self._step):
                    plan.add(
                        self.letter(record, replay_id)
                        for record in records
                        if not any(record.offset in offsets for offsets in closed)
                    )
        return dict(ends)

    def holds(self, plan: Plan) -> dict[TopicPartition, int]:
        """What is held of the plan's orders. Returns where the reading ended."""
        ends: dict[TopicPartition, int] = {}
        for where, end, records in self._whole(self._field.holds, plan.overview.partitions()):
            ends[where] = end
            for record in records:
                take_hold(plan, record)
        return ends

    def states(self, plan: Plan, *, whole: bool) -> None:
        """The keyed state of the plan's orders, as the changelog has it now; not `whole`: that there is one."""
        for where, _, records in self._whole(self._field.changelog, plan.overview.partitions()):
            if records:
                plan.known.has_states(where.partition)
            for record in records:
                order = OrderKey(record.partition, record.key or b"")
                if plan.has(order):
                    plan.known.keep_state(order, record.value if whole or record.value is None else b"")

    def deliveries(self, plan: Plan) -> None:
        """Snapshots that were delivered after a letter of their order was refused."""
        for _, _, records in self._whole(self._field.deliveries, plan.overview.partitions()):
            for record in records:
                receipt = read_receipt(record)
                if receipt is not None and receipt.entry_type == EntryType.ORDER:
                    order = OrderKey(record.partition, record.key or b"")
                    plan.delivered(order, receipt.delivered_at, NEWER_DELIVERED)

    def letter(self, record: Record, replay_id: str | None, *, selects: bool = True) -> NewLetter:
        """A letter as the plan takes it."""
        field = self._field
        facts = letter_facts(record)
        whole = self.sendable(record, facts)
        obstacle = whole.why if isinstance(whole, Unsendable) else ""
        record = record if isinstance(whole, Unsendable) else whole
        entry_type = record.header_text(HeaderName.ENTRY_TYPE)
        entry_id = record.header_text(HeaderName.ENTRY_ID) or ""
        came_back = replay_id is not None and record.header_text(HeaderName.REPLAY_ID) == replay_id
        snapshot = field.route is Route.OUTBOX and entry_type == EntryType.ORDER
        selected = selects and not came_back and self._selection.takes(record, facts)
        target, key = self.destination(record, facts, selected=selected)
        if isinstance(key, Unsendable):
            obstacle = obstacle or key.why
        return NewLetter(
            partition=record.partition,
            order_id=UNKEYED + b"%d" % record.offset if record.key is None else record.key,
            sequence=sequence(record, facts, self._field),
            topic="" if target is None else target.topic,
            reason=facts.reason,
            failed_ms=facts.last_failed_ms,
            planned=Planned(
                offset=record.offset,
                kind=Kind.REFUSED if came_back else self._kind(facts, snapshot),
                selected=selected,
                replays=replays_of(record),
                same_as=entry_id if field.route is Route.OUTBOX else "",
                snapshot=snapshot and not came_back,
                obstacle=obstacle if target is not None else NOWHERE,
            ),
            event_ms=None if record.value is None else _event_ms(record),
            stateful=field.route is Route.OUTBOX or facts.reason in HAD_A_STATE,
            home=None if target is None else target.partition,
            home_id=None if isinstance(key, Unsendable) else key,
        )

    def destination(
        self, record: Record, facts: LetterFacts, *, selected: bool
    ) -> tuple[TopicPartition | None, bytes | Unsendable | None]:
        """Where a letter goes, and under which key: its own, or where its order lives. Raises `RegistryOutage`."""
        target = target_of(record, facts, self._field, self._offsets)
        if self._rekey is None or not selected or target is None or self._field.route is not Route.SOURCE:
            return target, record.key
        home = self._rekey.home(record, facts)
        if isinstance(home, Unsendable):
            return target, home
        if home is None:
            return target, record.key
        return TopicPartition(target.topic, home.partition), home.key

    def sendable(self, letter: Record, facts: LetterFacts) -> Record | Unsendable:
        """The letter as it can be sent, or why it cannot. Raises `BrokerOutage`."""
        return completed(letter, facts, self._sources, self._field.outbox)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _resolved(
        self, number: int, plan: Plan, replay_id: str | None, begun: Mapping[TopicPartition, int]
    ) -> Resolved:
        resolved = Resolved(begun)
        for _, _, records in self._whole(self._field.resolutions, [number]):
            resolved.take(records)
            if replay_id is not None:
                plan.add_sent(self._sent(records, replay_id))
        return resolved

    def _sent(self, records: Sequence[Record], replay_id: str) -> Iterator[SentLetter]:
        marks: dict[TopicPartition, int] = {}
        for record in records:
            letter = letter_of(record.key)
            resolution = None if record.value is None else decode_resolution(record.value)
            if letter is None or letter.topic != self._field.letters or resolution is None:
                continue
            if resolution.replay_id == replay_id:
                home = letter.partition if resolution.sent_partition is None else resolution.sent_partition
                target = TopicPartition(resolution.sent_to, home)
                if target not in marks:
                    marks.update(self._offsets.ends([target]) if resolution.sent_to else {target: 0})
                order_id = resolution.order_id.encode()
                yield SentLetter(
                    letter.partition,
                    letter.offset,
                    order_id,
                    resolution.sent_to,
                    resolution.entry_id,
                    marks[target],
                    target.partition,
                )

    def _resolution_partitions(self) -> int:
        return self._offsets.partitions(self._field.resolutions) or 1

    def _whole(self, topic: str, numbers: Sequence[int]) -> Iterator[tuple[TopicPartition, int, Sequence[Record]]]:
        """Every record of these partitions, with the partition's end; an empty one comes once, without any."""
        count = self._offsets.partitions(topic) or 0
        wheres = [TopicPartition(topic, number) for number in numbers if number < count]
        beginnings, ends = self._offsets.beginnings(wheres), self._offsets.ends(wheres)
        for where in wheres:
            yield where, ends[where], ()
            for records in read(self._reader, self._clock, where, beginnings[where], ends[where], self._step):
                yield where, ends[where], records

    def _kind(self, facts: LetterFacts, snapshot: bool) -> Kind:
        if self._field.route is not Route.OUTBOX:
            return Kind.LONE
        if facts.reason == Reason.HELD:
            return Kind.HELD
        return Kind.ANSWERED if snapshot or facts.reason in _HOLDS_NOBODY else Kind.REFUSED


def sequence(record: Record, facts: LetterFacts, field: Field) -> tuple[int, int, int]:
    """Where a letter stands among those of its order. One that `topics grow` has moved was refused before any of the
    partition in which it stands now; its offset in the old one says nothing there."""
    match field.route:
        case Route.OUTBOX if facts.origin is not None and facts.origin.topic == field.outbox:
            if facts.origin.partition != record.partition:
                return 0, facts.first_failed_ms, facts.origin.offset
            return 1, facts.origin.offset, 0
        case Route.SOURCE if facts.origin is not None:
            rank = field.ranks.get(facts.origin.topic, len(field.ranks))
            return record.timestamp_ms, rank, facts.origin.offset
        case _:
            return record.offset, 0, 0


def _event_ms(record: Record) -> int:
    """When the shop wrote it: of an entry its source record's time."""
    occurred = record.header_text(HeaderName.OCCURRED_AT) or ""
    return int(occurred) if occurred.isdecimal() and len(occurred) < 19 else record.timestamp_ms


def home(partition: int, resolution_partitions: int) -> int:
    """Which partition of the resolutions speaks of letters of this partition. Another tool's topic may have more."""
    return partition % resolution_partitions


def target_of(record: Record, facts: LetterFacts, field: Field, offsets: Offsets) -> TopicPartition | None:
    """Where a letter goes; None where that cannot be known, or is not there any more."""
    if field.route is Route.OUTBOX:
        return TopicPartition(field.outbox, record.partition)
    if facts.origin is None:
        return None
    count = offsets.partitions(facts.origin.topic)
    if count is None or not 0 <= facts.origin.partition < count:
        return None
    return TopicPartition(facts.origin.topic, facts.origin.partition)


def take_hold(plan: Plan, record: Record) -> None:
    """A record of the topic of holds, if it is of an order in the plan."""
    order = OrderKey(record.partition, record.key or b"")
    if plan.has(order):
        plan.known.hold(order, record.value)

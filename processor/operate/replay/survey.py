"""What a command is to do (`Task`), and all that it reads before it does anything; makes the plan from it.

    resolutions ─► which letters are open          letters ─► one row each        arranged ─► what goes, what stays
                   and what an unfinished run                                       │
                   has sent                                                        ├─ holds of those orders
                                                                                   ├─ their states: for a rebuild, and
                                                                                   │  to know which were erased
                                                                                   └─ later deliveries of a snapshot

Letters of an order that was erased after their event was written stay. A dead letter keeps the refused record byte for
byte, with the customer in it, and so outlives the erasure. Two things show an erasure:

    the order has no state, and had one when the letter was refused            erased, or past its retention
    a null value of its key in a topic that transform reads, after the event   erased

The changelog keeps a null for `delete.retention.ms`, a source topic for its retention; after that, only the missing
state shows it. If an order never had a state (it was not placed, or was refused), only the null does.

Used by one command in one thread. Memory: one poll's records, one partition's resolved offsets, and the plan's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from processor.letters.families import LetterFacts, letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import NEWER_DELIVERED, decode_resolution, letter_of
from processor.moments import meant_ms
from processor.operate.replay.arrange import NOWHERE, Kind, Planned
from processor.operate.replay.copies import replays_of
from processor.operate.replay.database import NewLetter, OrderKey, SentLetter
from processor.operate.replay.noted import how_of, with_resolved
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Offsets, Reading
from processor.operate.replay.rekeying import Rekey
from processor.operate.replay.selection import Selection
from processor.operate.replay.sources import Sources, completed
from processor.records import EntryType, HeaderName, Reason, Record, TopicPartition

UNKEYED: Final = b"\x00unkeyed\x00"
"""Begins what stands for the order of a letter without a key: it belongs to no order."""
HAD_A_STATE: Final = frozenset(
    {Reason.LINE_ITEM_UNKNOWN, Reason.QUANTITY_EXCEEDED, Reason.ORDER_CANCELLED, Reason.ORDER_EXISTS}
)
"""The reasons for which transform refuses an event only if it has a state of the order."""
_HOLDS_NOBODY: Final = frozenset({Reason.CANCEL_DECLINE.value, Reason.UNDECODABLE.value})
UNPACED_S: Final = 1e6
"""Letters a second if nothing is sent: a resolution alone needs no pace."""
ERASED: Final = "its order was erased; --erased sends it all the same"
STATELESS: Final = (
    "nothing is known of its order any more: it was erased, or is older than PROCESSOR_ORDER_RETENTION; --erased sends "
    "it all the same"
)


class Route(Enum):
    """Where the letters of a topic go, and what shows what became of them."""

    OUTBOX = "outbox"
    """To the outbox; a receipt or a dead letter shows it."""
    SOURCE = "source"
    """To the source topic, through transform; an outbox record or a dead letter shows it."""
    FOREIGN = "foreign"
    """To the topic from which another tool took it; only that tool's dead letters show something."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One replay or discard of one topic's letters, as the command line asks for it. `given` are its words that select.
    `tells` is the topic that shows which letters were accepted, `groups` has the group that finishes each topic that
    letters go to. `discard` is the reason of a discard (None: letters are sent), `erased` true if letters of erased
    orders are sent too, `rate_s` letters a second, `paced_by` where the rate comes from."""

    field: Field
    given: str
    selection: Selection
    by: str
    tells: str | None
    groups: Mapping[str, str]
    discard: str | None = None
    rebuild: bool = False
    edit: dict[str, Any] | None = None
    erased: bool = False
    rekey: Rekey | None = None
    replays_max: int = 3
    canary: int = 0
    share_max: float = 1.0
    rate_s: float = UNPACED_S
    paced_by: str = ""
    silence_s_max: float = 900.0

    @property
    def sends(self) -> bool:
        return self.discard is None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The fields of a delivery's receipt that a replay needs."""

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
    """Reads for the task. Holds nothing but its clients and what it looks for; `selection` is that of the run, which
    may have begun earlier than this command."""

    def __init__(self, task: Task, selection: Selection, reading: Reading, sources: Sources) -> None:
        self._task = task
        self._field = task.field
        self._selection = selection
        self._reading = reading
        self._sources = sources

    def letters(self, plan: Plan, replay_id: str | None) -> dict[TopicPartition, int]:
        """Puts every open letter into the plan, and what the unfinished run `replay_id` has sent. Returns the end of
        the reading by partition."""
        partitions = self._reading.partitions(self._field.letters)
        assert partitions, f"{self._field.letters} is gone"
        beginnings, ends = self._reading.offsets.beginnings(partitions), self._reading.offsets.ends(partitions)

        def hear(records: Sequence[Record]) -> None:
            if replay_id is not None:
                plan.add_sent(self._sent(records, replay_id))

        for where, resolved in with_resolved(self._reading, self._field.resolutions, beginnings, ends, hear):
            for records in self._reading.part(where, beginnings[where], ends[where]):
                left = (record for record in records if how_of(resolved, record.offset) is None)
                plan.add(self.letter(record, replay_id) for record in left)
        return dict(ends)

    def holds(self, plan: Plan) -> dict[TopicPartition, int]:
        """Reads the holds of the plan's orders. Returns the end of the reading by partition."""
        ends: dict[TopicPartition, int] = {}
        for where, end, records in self._whole(self._field.holds, plan.overview.partitions()):
            ends[where] = end
            for record in records:
                take_hold(plan, record)
        return ends

    def states(self, plan: Plan, *, whole: bool) -> None:
        """Reads the keyed states of the plan's orders from the changelog; if not `whole`, only which orders have
        one."""
        for where, _, records in self._whole(self._field.changelog, plan.overview.partitions()):
            if records:
                plan.known.has_states(where.partition)
            for record in records:
                order = OrderKey(record.partition, record.key or b"")
                if plan.has(order):
                    plan.known.keep_state(order, record.value if whole or record.value is None else b"")

    def erasures(self, plan: Plan) -> None:
        """Lets the letters of erased orders stay; `states` must have been read. Raises `BrokerOutage`."""
        earliest_ms, offsets = plan.overview.earliest_ms(), self._reading.offsets
        if earliest_ms is None:
            return
        numbers = {*plan.overview.partitions(), *plan.overview.homes()}
        for where in (one for topic in self._field.ranks for one in self._reading.partitions(topic)):
            if where.partition not in numbers:
                continue
            start, end = offsets.since([where], earliest_ms)[where], offsets.ends([where])[where]
            if start >= end:  # of that time it has nothing, unless it is stamped in seconds
                start = offsets.since([where], earliest_ms // 1000)[where]
            for record in (one for records in self._reading.part(where, start, end) for one in records):
                if record.value is None and record.key is not None:
                    order, at_ms = OrderKey(record.partition, record.key), meant_ms(record.timestamp_ms)
                    if plan.has(order):
                        plan.keep_back(order, at_ms, ERASED)
                    plan.keep_back_home(order, at_ms, ERASED)
        for order in plan.known.stateless():
            plan.keep_back(order, None, STATELESS)

    def deliveries(self, plan: Plan) -> None:
        """Reads which snapshots were delivered after a letter of their order was refused."""
        for _, _, records in self._whole(self._field.deliveries, plan.overview.partitions()):
            for record in records:
                receipt = read_receipt(record)
                if receipt is not None and receipt.entry_type == EntryType.ORDER:
                    order = OrderKey(record.partition, record.key or b"")
                    plan.delivered(order, receipt.delivered_at, NEWER_DELIVERED)

    def letter(self, record: Record, replay_id: str | None, *, selects: bool = True) -> NewLetter:
        """Returns a letter as the plan takes it."""
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
        """Returns where a letter goes, and under which key: its own, or the one that its order has where it lives.
        Raises `RegistryOutage`."""
        target, rekey = target_of(record, facts, self._field, self._reading.offsets), self._task.rekey
        if rekey is None or not selected or target is None or self._field.route is not Route.SOURCE:
            return target, record.key
        home = rekey.home(record, facts)
        if home is None or isinstance(home, Unsendable):
            return target, home or record.key
        return TopicPartition(target.topic, home.partition), home.key

    def sendable(self, letter: Record, facts: LetterFacts) -> Record | Unsendable:
        """Returns the letter as it can be sent, or why it cannot. Raises `BrokerOutage`."""
        return completed(letter, facts, self._sources, self._field.outbox)

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
                    is_finished_by_a_group = resolution.sent_to in self._task.groups
                    marks.update(self._reading.offsets.ends([target]) if is_finished_by_a_group else {target: 0})
                order_id, entry_id = resolution.order_id.encode(), resolution.entry_id
                yield SentLetter(*letter[1:], order_id, target.topic, entry_id, marks[target], target.partition)

    def _whole(self, topic: str, numbers: Sequence[int]) -> Iterator[tuple[TopicPartition, int, Sequence[Record]]]:
        """Yields every record of these partitions, with the partition's end; an empty partition once, without any."""
        wheres = [where for where in self._reading.partitions(topic) if where.partition in numbers]
        beginnings, ends = self._reading.offsets.beginnings(wheres), self._reading.offsets.ends(wheres)
        for where in wheres:
            yield where, ends[where], ()
            for records in self._reading.part(where, beginnings[where], ends[where]):
                yield where, ends[where], records

    def _kind(self, facts: LetterFacts, snapshot: bool) -> Kind:
        if self._field.route is not Route.OUTBOX:
            return Kind.LONE
        if facts.reason == Reason.HELD:
            return Kind.HELD
        return Kind.ANSWERED if snapshot or facts.reason in _HOLDS_NOBODY else Kind.REFUSED


def sequence(record: Record, facts: LetterFacts, field: Field) -> tuple[int, int, int]:
    """Returns the place of a letter among those of its order. A letter that `topics grow` has moved was refused before
    any of its present partition; its offset in the old partition says nothing here."""
    match field.route:
        case Route.OUTBOX if facts.origin is not None and facts.origin.topic == field.outbox:
            if facts.origin.partition != record.partition:
                return 0, facts.first_failed_ms, facts.origin.offset
            return 1, facts.origin.offset, 0
        case Route.SOURCE if facts.origin is not None:
            rank = field.ranks.get(facts.origin.topic, len(field.ranks))
            return meant_ms(record.timestamp_ms), rank, facts.origin.offset
        case _:
            return record.offset, 0, 0


def _event_ms(record: Record) -> int:
    """When the shop wrote the event, as it means its stamp; for an entry, the time of its source record."""
    occurred = record.header_text(HeaderName.OCCURRED_AT) or ""
    return meant_ms(int(occurred) if occurred.isdecimal() and len(occurred) < 19 else record.timestamp_ms)


def target_of(record: Record, facts: LetterFacts, field: Field, offsets: Offsets) -> TopicPartition | None:
    """Returns where a letter goes; None if that is unknown or does not exist any more."""
    if field.route is Route.OUTBOX:
        return TopicPartition(field.outbox, record.partition)
    if facts.origin is None:
        return None
    count = offsets.partitions(facts.origin.topic)
    if count is None or not 0 <= facts.origin.partition < count:
        return None
    return TopicPartition(facts.origin.topic, facts.origin.partition)


def take_hold(plan: Plan, record: Record) -> None:
    """Takes in a record of the topic of holds if its order is in the plan."""
    order = OrderKey(record.partition, record.key or b"")
    if plan.has(order):
        plan.known.hold(order, record.value)

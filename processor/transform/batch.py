"""batch: what one transaction will write, decided record by record before anything is written.

    record ─ decode ─ key ─ apply ─┬─ Applied ──► outbox record      ┐
                                   ├─ Refused ──► dead letter        ├─ one Batch ─► one transaction
                                   ├─ Ignored ──► a count            │
                                   └─ Parked  ──► state alone        ┘

Owned by the transform thread. A batch that is thrown away leaves no trace: its changed states are only staged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from processor.errors import BadRecord
from processor.letters.letter import Refusal, fitting_letter
from processor.records import (
    RECORD_OVERHEAD_BYTES,
    IgnoredReason,
    NewRecord,
    OrderEvent,
    OrderId,
    Outcome,
    Position,
    Reason,
    Record,
    Stage,
    TopicPartition,
    record_bytes,
)
from processor.sources.keys import KeyKind, mismatch, read_key, unreadable, utf_8
from processor.sources.standing import Written
from processor.transform import order_state, rules
from processor.transform.keyed_state import KeyedState
from processor.transform.order_state import OrderState
from processor.transform.outbox import entries
from processor.transform.transitions import Applied, Ignored, Parked, Refused, Retold, Rules, Taken, Transition
from processor.transform.units import of_no_unit

_SMALL_BYTES: Final = 16 * 1024
"""An event of fewer bytes, of an order that is not large, cannot make anything too large, and is not measured."""
_LARGE_BYTES: Final = 256 * 1024
"""A state that is larger is measured after each event: 10,000 of them, or a few with IDs of some KB."""
_GROWTH_MAX: Final = 20
"""How many times larger than its Avro an event's JSON can be: nine bytes become ninety, twice with pairing."""

_TOLD: Final = (Applied, Retold)  # a tuple: a union would be made, and walked, for each event
_TRANSFORMED: Final = Outcome.TRANSFORMED  # in Python 3.11 each mention of an enum's member costs 0.1 µs or more

Decode = Callable[[Record], OrderEvent]
"""Raises `BadRecord`, or `RegistryOutage`: then nothing is decided, and the record is taken again later."""

Elsewhere = Callable[[bytes | None, int], bool]
"""Returns true if the order of this key is known to be in another partition than this number."""

_NEVER_MET: Final = frozenset({Reason.ORDER_UNKNOWN, Reason.PARKED_TOO_MANY})
"""Handles events in another partition than their order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of deciding, which never change while a worker runs. Topic names are whole, with their prefix."""

    group: str
    outbox: str
    dead_letters: str
    rules: Rules
    decoders: Mapping[str, Decode]
    entry_bytes_max: int
    """The largest outbox record that the broker and the producer take; a larger one is a dead letter `too_large`."""
    state_bytes_max: int
    """The same for a record of the changelog."""
    letter_bytes_max: int
    """The same for a dead letter, which cannot be refused in turn."""


@dataclass(slots=True)
class Batch:
    """One transaction in the making. Mutable until it is written: it only grows.

    `now_ms` is the wall clock when it began, `records` are the source records in the order in which they were taken,
    `consumed` the next offset by topic and partition, `written` how records ended, `dead` which of these became dead
    letters (for the flood guard), `touched` the partitions whose state changed, `astray` erasures whose order lives in
    another partition, `unfound` erasures that found no order, `bytes` roughly what was read and will be written.
    """

    now_ms: int
    records: list[Record] = field(default_factory=list)
    outgoing: list[NewRecord] = field(default_factory=list)
    consumed: dict[tuple[str, int], int] = field(default_factory=dict)
    dead: list[bool] = field(default_factory=list)
    touched: dict[int, KeyedState] = field(default_factory=dict)
    written: Written = field(default_factory=Written)
    astray: list[Position] = field(default_factory=list)
    unfound: list[Record] = field(default_factory=list)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.records or self.outgoing or self.touched)

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """The offsets to commit with these records. (Not one named tuple a record: making one is expensive.)"""
        return {TopicPartition(*source): next_offset for source, next_offset in self.consumed.items()}

    def roll_back(self) -> None:
        """Forgets what was staged in the states."""
        for state in self.touched.values():
            state.rollback()


class Decider:
    """Decides what each record becomes, into the batch that it is given."""

    def __init__(self, plan: Plan, elsewhere: Elsewhere = lambda key, number: False) -> None:
        self._plan = plan
        self._elsewhere = elsewhere
        self._outgoing = entries(plan.rules.api, plan.outbox)
        self._large_bytes = min(_LARGE_BYTES, plan.state_bytes_max // 4, plan.entry_bytes_max // _GROWTH_MAX)
        self._small_bytes = min(_SMALL_BYTES, plan.entry_bytes_max // _GROWTH_MAX)

    def take(self, record: Record, state: KeyedState, batch: Batch) -> None:
        """Decides one source record. Raises `RegistryOutage` and `StateCorrupt`, both before anything is decided."""
        bytes_in = _bytes_in(record)
        if record.value is None:
            self._erase(record, state, batch)
        else:
            try:
                event = self._decoded(record)
            except BadRecord as bad:
                cause = type(bad.__cause__ or bad).__name__
                self._refuse(record, state.partition, bad.stage, bad.reason, str(bad), batch, cause)
            else:
                self._apply(Taken(event, record), bytes_in, state, batch)
        batch.bytes += bytes_in
        batch.records.append(record)
        batch.consumed[record.topic, record.partition] = record.offset + 1

    def expire(self, order_id: OrderId, state: KeyedState, batch: Batch) -> None:
        """Refuses the events of an order that have been parked for too long."""
        known = state.get(order_id)
        if known is None:
            return  # a record of this very batch has removed the order; the index does not have that yet
        transition = rules.expire_parked(known, self._plan.rules, batch.now_ms)
        self._stage(order_id, known, transition, [], state, batch)

    def forget(self, order_id: OrderId, state: KeyedState, batch: Batch) -> None:
        """Removes an order whose retention is over."""
        state.stage(order_id, None)
        batch.touched[state.partition] = state

    def _decoded(self, record: Record) -> OrderEvent:
        event = self._plan.decoders[record.topic](record)
        if not event.event_id:
            raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "event_id is empty: nothing tells this event from others")
        if not event.order_id:
            raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "order_id is empty: it names no order")
        if record.key != event.order_id.encode():
            raise BadRecord(Stage.TRANSFORM, Reason.KEY_MISMATCH, mismatch(record.key, event.order_id, record.headers))
        return event

    def _erase(self, record: Record, state: KeyedState, batch: Batch) -> None:
        """Forgets the order of a record without a value; nothing is sent. A key that does not name an order as it
        should is refused and never counted as an erasure, because a person's data would stay."""
        # Bytes that are not UTF-8 name no order: with replacements they might name another one.
        text = None if record.key is None else utf_8(record.key)
        order_id = None if text is None else OrderId(text)
        known = None if order_id is None else state.get(order_id)
        if known is None and (read := read_key(record.key, record.headers)).kind is not KeyKind.PLAIN:
            why = unreadable(read)
            self._refuse(record, state.partition, Stage.TRANSFORM, Reason.KEY_MISMATCH, why, batch)
            return
        reason = IgnoredReason.ERASURE_UNKNOWN
        if order_id is not None and known is not None:
            reason = IgnoredReason.ERASED
            for effect in rules.erase(known).effects:
                assert isinstance(effect, Ignored), "an erasure sends nothing"
                self._ignore(effect.taken.origin, effect.reason, batch)
            state.erase(order_id)
            batch.touched[state.partition] = state
        if (known is None or known.parked) and self._elsewhere(record.key, record.partition):
            # Events that were parked here, in vain, may be gone; the order is where it was.
            reason = IgnoredReason.ERASURE_UNKNOWN
            batch.astray.append(record.position)
            batch.written.astray[record.topic] += 1
        elif known is None:
            batch.unfound.append(record)
        self._ignore(record, reason, batch)

    def _apply(self, taken: Taken, bytes_in: int, state: KeyedState, batch: Batch) -> None:
        order_id = taken.event.order_id
        known = state.get(order_id)
        transition = rules.apply(known, taken, self._plan.rules, batch.now_ms)
        produced: list[NewRecord] = []
        for effect in transition.effects:
            if isinstance(effect, _TOLD):
                entry = self._outgoing(effect)
                if entry.partition != state.partition:  # it was parked where its order was before the topics grew
                    entry = entry._replace(partition=state.partition)
                produced.append(entry)  # a comprehension is a function in 3.11
        is_large = state.grow(order_id, bytes_in) >= self._large_bytes
        if is_large or bytes_in >= self._small_bytes or len(transition.effects) > 1:
            message = self._too_large(bytes_in, transition, produced)
            if message is not None:
                transition = Transition(known, (Refused(taken, Reason.TOO_LARGE, message),))
                produced = []
        self._stage(order_id, known, transition, produced, state, batch)

    def _too_large(self, bytes_in: int, transition: Transition, produced: list[NewRecord]) -> str | None:
        """Returns why a transition cannot be written, or None. It would abort each of its transactions, for ever."""
        plan = self._plan
        size = max((record_bytes(one.key, one.value, one.headers) for one in produced), default=0)
        if size > plan.entry_bytes_max:
            return f"its entry needs {size} bytes, and {plan.outbox} takes {plan.entry_bytes_max}"
        if isinstance(transition.effects[-1], Parked) and bytes_in * _GROWTH_MAX > plan.entry_bytes_max:
            # Refuse the event now, while it is alone: later it would take the order that it waits for with it.
            return f"its entry could need more than the {plan.entry_bytes_max} bytes that {plan.outbox} takes"
        if transition.state is not None:
            size = len(order_state.encode(transition.state)) + RECORD_OVERHEAD_BYTES
            if size > plan.state_bytes_max:
                return f"its order's state would need {size} bytes, and the changelog takes {plan.state_bytes_max}"
        return None

    def _stage(
        self,
        order_id: OrderId,
        known: OrderState | None,
        transition: Transition,
        produced: list[NewRecord],
        state: KeyedState,
        batch: Batch,
    ) -> None:
        if transition.state is not known:
            state.stage(order_id, transition.state)
            batch.touched[state.partition] = state
        for one in produced:
            batch.outgoing.append(one)
            batch.bytes += len(one.value or b"")
        for effect in transition.effects:
            origin = effect.taken.origin
            match effect:
                case Applied():
                    batch.written.records[origin.topic, _TRANSFORMED] += 1
                    if nothing := of_no_unit(effect.taken.event):
                        batch.written.left_out[origin.topic] += nothing
                    batch.dead.append(False)
                case Ignored(reason=reason):
                    self._ignore(origin, reason, batch)
                case Refused(reason=reason, message=message):
                    self._refuse(origin, state.partition, Stage.TRANSFORM, reason, message, batch)
                case Parked() | Retold():
                    pass  # one counts when it leaves, the other was counted when it came
                case _:
                    assert_never(effect)

    def _ignore(self, record: Record, reason: IgnoredReason, batch: Batch) -> None:
        outcome = Outcome.DUPLICATE if reason is IgnoredReason.DUPLICATE else Outcome.IGNORED
        batch.written.records[record.topic, outcome] += 1
        batch.written.ignored[record.topic, reason] += 1
        batch.dead.append(False)

    def _refuse(
        self, record: Record, number: int, stage: Stage, reason: Reason, message: str, batch: Batch, exception: str = ""
    ) -> None:
        plan = self._plan
        refusal = Refusal(
            stage=stage, reason=reason, message=message, group=plan.group, failed_ms=batch.now_ms, exception=exception
        )
        letter, size = fitting_letter(record, refusal, plan.dead_letters, number, plan.letter_bytes_max)
        batch.outgoing.append(letter)
        batch.bytes += size
        replayed = batch.written.dead_letter(record, letter.value, stage, reason)
        # A misplaced event is no fault of the others: a flood of them alone must not stop good orders.
        if not (replayed or (reason in _NEVER_MET and self._elsewhere(record.key, record.partition))):
            batch.dead.append(True)


def _bytes_in(record: Record) -> int:
    """Returns the size of a record: its headers are written again as they are, and may be larger than its value."""
    size = len(record.value or b"")
    if record.headers:
        size += sum(len(name) + len(content or b"") for name, content in record.headers)
    return size

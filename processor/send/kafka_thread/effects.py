"""effects: the records that the endings of entries write to Kafka, and the offsets that are finished by them.

    ending ─► its records (`written.py`)    ─► produce ─► acknowledged ─► finish
                                                 ▲            │
                                                 └── refused ─┘  (again, after a second)

    delivered     a receipt
    refused       its letter, and the hold that it puts on its order
    held          its letter; finished when the letter and the hold that it waits behind are acknowledged
    superseded    nothing: the newer entry stands in the outbox
    ignored       nothing
    unreadable    its letter

Owned by the Kafka thread. Invariants: an offset is finished once, when the last of its records is acknowledged; a
record that Kafka refuses is written again until Kafka accepts it, for as long as that takes; a dead letter that would
be one of a flood is not written at all.

A topic's limit holds for a whole batch. So after a refusal for its size the producer's batches are fitted to the topic,
and the record is written again. A letter that is larger than its topic's limit by itself is written without its value,
which stays in the outbox; all other records go on meanwhile.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from functools import partial
from itertools import repeat
from typing import Any, Final, Generic, assert_never

import msgspec
import structlog

from processor.api.verdicts import Delivered, Rejected
from processor.errors import BadRecord
from processor.interfaces import Clock, Producer, Seen, Topics
from processor.letters.flood import FloodGuard
from processor.letters.holds import Hold, encode_hold
from processor.letters.letter import without_value
from processor.letters.seldom import Seldom
from processor.records import (
    IgnoredReason,
    NewRecord,
    Outcome,
    Position,
    Reason,
    Record,
    Stage,
    TopicPartition,
    record_bytes,
)
from processor.send.destination import EntryT
from processor.send.kafka_thread import written
from processor.send.kafka_thread.assignments import Assignment, Assignments
from processor.send.kafka_thread.intake import Intake
from processor.send.meter import Endings
from processor.send.pending import Ended, Held, Ignored, Pending, Superseded
from processor.send.settings import SendSettings

log = structlog.get_logger(__name__)

LETTERS_MAX: Final = 100_000
"""Lanes whose letters are remembered: a flood that was let through must not fill memory."""
RETRY_S: Final = 1.0
"""The wait after a record that Kafka refused."""
TOO_LARGE: Final = "MSG_SIZE_TOO_LARGE"
REFUSALS_MAX: Final = 3
"""Refusals of one record for its size, after which it is too large by itself: by then it was alone in its batch."""
LIMIT_AGE_S_MAX: Final = 10.0
"""A topic's settings are asked for at most so often: each asking may wait for a broker."""


_SEND: Final = Stage.SEND
_DELIVERED: Final = Outcome.DELIVERED
"""A member of an enum is hashed in Python, 0.3 µs, and there is one an entry."""


class OpenLetter(msgspec.Struct, gc=False):
    """The letter of a refused snapshot or value. `mark` is its rank in its lane (`intake.py`). Mutable: `offset` is set
    when Kafka acknowledges the letter, `superseded_ms` when a newer one of the lane was accepted; either may come
    first."""

    partition: int
    order_id: str
    mark: Any
    offset: int | None = None
    superseded_ms: int | None = None


class Finishing(msgspec.Struct, gc=False):
    """A record on its way to being finished. Mutable: `awaited` counts the acknowledgements that are still out."""

    record: Record
    epoch: int
    size: int
    outcome: Outcome
    reason: str | None
    stage: Stage = Stage.SEND
    replayed: bool = False
    awaited: int = 0
    letter: OpenLetter | None = None


class Anew(msgspec.Struct, gc=False):
    """A hold that is written once more, of an assignment that waits for it to be there."""

    epoch: int


class Effects(Generic[EntryT]):
    """Mutable. `_refusals` is, by identity of a write that Kafka refused and has not taken since, its answer and the
    number of refusals; `_limits` is each topic's limit and when it was asked for. `_writes` is what is to be produced,
    in order, each with what it finishes (a book or a resolution: nothing); `_unheld` is, by order ID, what waits for
    that order's hold; `_letters` is, by lane, the letters that a newer accepted entry supersedes, if they were written
    since the start (a replay finds the older ones itself), `_letters_in` the place of their topic; `_records`,
    `_delivered`, `_replayed` and `_dead_letters` count since the last telling; `flooded` is for good."""

    def __init__(
        self,
        settings: SendSettings,
        producer: Producer,
        clock: Clock,
        assignments: Assignments[EntryT],
        intake: Intake[EntryT],
        cluster: Topics,
    ) -> None:
        self._intake = intake
        self._cluster = cluster
        self._refusals: dict[int, tuple[str, int]] = {}
        self._limits: dict[str, tuple[int | None, float]] = {}
        self._topics = settings.topics
        self._group = settings.group
        self._producer = producer
        self._clock = clock
        self._assignments = assignments
        self._guard = FloodGuard(settings.dead_letter_share_max)
        self._letters_said = Seldom(log, "refused: dead letters were written, such as that of this record")
        self._writes: deque[tuple[NewRecord, Finishing | Anew | None]] = deque()
        self._unheld: dict[str, list[Finishing]] = {}
        self._letters: dict[str, list[OpenLetter]] = {}
        self._letters_in: str | None = None
        self._not_before_s = 0.0
        self._records: Counter[tuple[str, Outcome]] = Counter()
        self._delivered: defaultdict[str, int] = defaultdict(int)
        self._dead_letters: Counter[tuple[str, Stage, str]] = Counter()
        self._ignored: Counter[tuple[str, IgnoredReason]] = Counter()
        self._replayed: Counter[tuple[str, Outcome]] = Counter()
        self.flooded = False
        self.booked = False
        """Returns true if a book has become durable since the last call: its commit may follow at once."""
        self.finished = 0
        """Records finished since the start; a watch sees progress by it."""

    def settle(self, endings: list[Ended[EntryT]]) -> None:
        delivered = 0
        receipt, topic, append = self._intake.receipt, self._topics.receipts, self._writes.append
        for ended in endings:
            pending, ending = ended.pending, ended.ending
            assignment = self._assignments.of(pending.epoch)
            if assignment is None:
                continue  # of an assignment that is over
            if isinstance(ending, Delivered):
                delivered += 1
                if self._letters:
                    self._supersede(pending, ended.at_ms)
                finishing = _finishing(pending, _DELIVERED, None)
                finishing.awaited = 1
                append((receipt(ended, ending, topic, assignment.place), finishing))
            else:
                self._settle(ended, ending)
        if delivered:
            self._guard.written(repeat(False, delivered))

    def _settle(self, ended: Ended[EntryT], ending: Rejected | Held | Superseded | Ignored) -> None:
        topics = self._topics
        pending = ended.pending
        match ending:
            case Superseded():
                self._finish(_finishing(pending, Outcome.SUPERSEDED, None))
            case Ignored(reason):
                self._ignored[pending.record.topic, reason] += 1
                self._finish(_finishing(pending, Outcome.IGNORED, None))
            case Held():
                finishing = _finishing(pending, Outcome.HELD, Reason.HELD)
                if pending.order_id in self._unheld:
                    finishing.awaited += 1
                    self._unheld[pending.order_id].append(finishing)
                self._write(written.held_letter(ended, topics.dead_letters, self._group), finishing)
            case Rejected() as rejected:
                finishing = _finishing(pending, Outcome.DEAD_LETTERED, rejected.reason)
                # An operator's replay is not a flood.
                if not finishing.replayed and self._floods():
                    return
                finishing.letter = self._open_letter(pending.record, pending.entry)
                self._write(written.refused_letter(ended, rejected, topics.dead_letters, self._group), finishing)
                if topics.holds is not None and ended.hold is not None:
                    self._unheld.setdefault(pending.order_id, [])
                    self._write(written.hold(pending.record, ended.hold, topics.holds), finishing)
            case _:
                assert_never(ending)

    def unreadable(self, record: Record, bad: BadRecord, epoch: int, size: int) -> None:
        """A record is not an entry. It holds no order, because the order would be a guess."""
        if self._floods():
            return
        finishing = Finishing(record, epoch, size, Outcome.DEAD_LETTERED, bad.reason, bad.stage)
        finishing.letter = self._open_letter(record, None)
        at_ms = self._clock.now_ms()
        self._write(written.unreadable_letter(record, bad, at_ms, self._topics.dead_letters, self._group), finishing)

    def book(self, assignment: Assignment[EntryT], value: bytes) -> None:
        """Writes a book. It has the time of its making, because a standstill may come before it is produced."""
        assert self._topics.offsets is not None, "a book where none is kept"
        partition, made_ms = assignment.where.partition, self._clock.now_ms()
        self._writes.append((NewRecord(self._topics.offsets, partition, b"%d" % partition, value, [], made_ms), None))

    def hold_anew(self, assignment: Assignment[EntryT], holds: list[Hold]) -> None:
        """Writes holds whose topic was lost. Commits name the new topic as soon as these are acknowledged."""
        assert self._topics.holds is not None, "a hold where nothing is held"
        assignment.unwritten += len(holds)
        for hold in holds:
            key = hold.order_id.encode()
            write = NewRecord(self._topics.holds, assignment.where.partition, key, encode_hold(hold), [])
            self._writes.append((write, Anew(assignment.epoch)))

    def look(self, seen: Mapping[str, Seen]) -> None:
        """Forgets letters whose topic was made again: their offsets have other letters now."""
        there = seen.get(self._topics.dead_letters)
        if there is not None:
            if self._letters_in not in (None, there.place):
                self._letters.clear()
            self._letters_in = there.place

    def _open_letter(self, record: Record, entry: EntryT | None) -> OpenLetter | None:
        lane = None if self._topics.resolutions is None else self._intake.mark(record, entry)
        if lane is None:
            return None
        order_id, mark = lane
        letter = OpenLetter(record.partition, order_id, mark)
        if order_id not in self._letters and len(self._letters) >= LETTERS_MAX:
            del self._letters[next(iter(self._letters))]
        self._letters.setdefault(order_id, []).append(letter)
        return letter

    def _supersede(self, pending: Pending[EntryT], at_ms: int) -> None:
        """Called when an entry of this lane was accepted. A replay itself resolves the letters that it sent."""
        letters = self._letters.pop(pending.order_id, None)
        if letters is None:
            return
        replaces = self._intake.replaces
        kept = [letter for letter in letters if not replaces(pending.entry, letter.mark)]
        if kept:
            self._letters[pending.order_id] = kept
        if pending.replay_id is None:
            for letter in letters:
                if letter not in kept:
                    letter.superseded_ms = at_ms
                    self._mark(letter)

    def _mark(self, letter: OpenLetter) -> None:
        resolutions = self._topics.resolutions
        if resolutions is None or letter.offset is None or letter.superseded_ms is None:
            return
        where = Position(self._topics.dead_letters, letter.partition, letter.offset)
        partition = letter.partition
        if self._topics.resolution_partitions is not None:
            partition %= self._topics.resolution_partitions
        resolution = self._intake.superseded(letter.order_id, letter.superseded_ms)
        self._writes.append((written.resolved(where, resolution, resolutions, partition), None))

    def _floods(self) -> bool:
        if not self.flooded:
            share = self._guard.flooded_by([True])
            if share is None:
                self._guard.written([True])
                return False
            self.flooded = True
            log.error(
                "stopped by the flood guard: most of the last records would be dead letters, so a fault of ours or of "
                "a producer; nothing is taken until a restart",
                share=round(share, 3),
            )
        return True

    def _write(self, write: NewRecord, finishing: Finishing) -> None:
        finishing.awaited += 1
        self._writes.append((write, finishing))

    def produce(self) -> None:
        """Produces as many records as the client has room for, in order, and handles acknowledgements."""
        writes = self._writes
        if writes and self._clock.monotonic_s() >= self._not_before_s:
            produce = self._producer.produce
            for _ in range(len(writes)):
                write, finishing = writes[0]
                if not produce(write, partial(self._acknowledged, write, finishing)):
                    break
                writes.popleft()
        self._producer.poll()

    @property
    def waiting(self) -> bool:
        """True if there is a record that the client has not taken yet."""
        return bool(self._writes)

    def flush(self, timeout_s: float) -> bool:
        """Waits for acknowledgements. Returns true if all have arrived and no record waits to be written."""
        self.produce()
        return self._producer.flush(timeout_s) == 0 and not self._writes

    def _acknowledged(
        self, write: NewRecord, finishing: Finishing | Anew | None, error: str | None, offset: int
    ) -> None:
        if error is None and self._refusals:
            self._refusals.pop(id(write), None)
        if error is None and type(finishing) is Finishing and finishing.awaited == 1 and finishing.letter is None:
            finishing.awaited = 0  # most often a receipt: in the fewest steps
            self._finish(finishing)
            if self._unheld:
                self._held_now(write)
        elif isinstance(finishing, Anew):
            assignment = self._assignments.of(finishing.epoch)
            if error is not None:
                self._refused(write, error)
                self._writes.append((write, finishing))
            elif assignment is not None:
                assignment.unwritten -= 1
                assignment.dirty = True
        elif finishing is None:
            if write.topic == self._topics.offsets:
                self._book_answered(write, error)
            elif error is not None:  # nothing is lost: the next replay finds out and marks it
                log.warning("a letter could not be marked superseded", letter=write.key, error=error)
        elif error is not None:
            self._refused(write, error)
            is_letter = write.topic == self._topics.dead_letters and write.value is not None
            if TOO_LARGE in error and is_letter and self._is_too_large(write):
                fitting = self._fitting(write, finishing)
                self._refusals[id(fitting)] = self._refusals.pop(id(write))
                write = fitting
            self._writes.append((write, finishing))
        else:
            if finishing.letter is not None:
                finishing.letter.offset = offset
                self._mark(finishing.letter)
            self._arrived(finishing)
            if self._unheld:
                self._held_now(write)

    def _held_now(self, write: NewRecord) -> None:
        """If it is a hold, finishes the letters that waited for it."""
        if write.topic == self._topics.holds and write.key is not None:
            for waiting in self._unheld.pop(write.key.decode(), ()):
                self._arrived(waiting)

    def _arrived(self, finishing: Finishing) -> None:
        assert finishing.awaited > 0, "acknowledged twice"
        finishing.awaited -= 1
        if finishing.awaited == 0:
            self._finish(finishing)

    @property
    def trouble(self) -> str | None:
        """Returns what Kafka refuses now, in words; a size that batches are being fitted to is no trouble."""
        refusals = list(self._refusals.values())
        return next((text for text, times in refusals if TOO_LARGE not in text or times >= REFUSALS_MAX), None)

    def _is_too_large(self, write: NewRecord) -> bool:
        times = self._refusals[id(write)][1]
        return times >= REFUSALS_MAX or (times > 1 and self._is_larger(write))

    def _is_larger(self, write: NewRecord) -> bool:
        limit = self._limit(write.topic)
        return limit is not None and record_bytes(write.key, write.value, write.headers) > limit

    def _fitting(self, write: NewRecord, finishing: Finishing) -> NewRecord:
        """Returns the letter that is written in place of one that was too large even by itself."""
        limit = self._limit(write.topic)
        log.error(
            "a dead letter does not fit its topic and goes without its value, which stays in its source: raise "
            "max.message.bytes there, and replay it",
            topic=write.topic,
            partition=write.partition,
            value_bytes=len(write.value or b""),
            max_message_bytes=limit,
        )
        finishing.reason = Reason.TOO_LARGE
        headers = without_value(write.headers, write.value, write.topic, limit)
        return write._replace(value=None, headers=headers)

    def _limit(self, topic: str) -> int | None:
        now_s = self._clock.monotonic_s()
        limit, asked_s = self._limits.get(topic, (None, -LIMIT_AGE_S_MAX))
        if now_s - asked_s >= LIMIT_AGE_S_MAX:
            limit = self._cluster.bytes_max(topic)
            self._limits[topic] = (limit, now_s)
        return limit

    def _refused(self, write: NewRecord, error: str, key: int | None = None) -> None:
        key = id(write) if key is None else key
        times = self._refusals.get(key, ("", 0))[1] + 1
        self._refusals[key] = f"{write.topic} cannot be written: {error}", times
        if TOO_LARGE in error:  # no other record waits for it
            if times == 1:
                self._producer.fit(self._limit(write.topic) or 1)
            elif not self._is_larger(write):
                self._producer.fit(1)  # a batch for each record, because the limit is not the one that we know
            return
        now_s = self._clock.monotonic_s()
        if now_s >= self._not_before_s:
            log.error("Kafka refused a record: again", topic=write.topic, partition=write.partition, error=error)
        self._not_before_s = now_s + RETRY_S

    def _book_answered(self, write: NewRecord, error: str | None) -> None:
        assignment = self._assignments.at(TopicPartition(self._topics.sources[0], write.partition))
        if assignment is None or assignment.booked is None or assignment.booked.value is not write.value:
            return  # of an assignment that is over
        if error is None:
            self._refusals.pop(~write.partition, None)
            assignment.booked.durable = True
            self.booked = True
        else:
            self._refused(write, error, ~write.partition)  # the next try is another record: known by its partition
            assignment.booked = None
            assignment.dirty = True

    def _finish(self, finishing: Finishing) -> None:
        assignment = self._assignments.of(finishing.epoch)
        if assignment is None:
            return
        assignment.finish(finishing.record.offset, finishing.size)
        topic, outcome = finishing.record.topic, finishing.outcome
        if outcome is _DELIVERED:
            self._delivered[topic] += 1
        else:
            self._records[topic, outcome] += 1
        if finishing.replayed:
            self._replayed[topic, outcome] += 1
        if finishing.reason is not None:
            self._dead_letters[topic, finishing.stage, finishing.reason] += 1
            if finishing.outcome is Outcome.DEAD_LETTERED:
                self._say_letter(finishing)
        self.finished += 1

    def _say_letter(self, finishing: Finishing) -> None:
        now_s = self._clock.monotonic_s()
        if self._letters_said.happened(1, now_s):
            record, to = str(finishing.record.position), self._topics.dead_letters
            self._letters_said.say(now_s, {"record": record, "reason": finishing.reason, "to": to})

    def tell(self) -> Endings:
        """Returns what has ended since the last call."""
        for topic, count in self._delivered.items():
            self._records[topic, _DELIVERED] += count
        self._delivered = defaultdict(int)
        told = Endings(self._records, self._dead_letters, self._ignored, self._replayed)
        self._records = Counter()
        self._ignored, self._replayed, self._dead_letters = Counter(), Counter(), Counter()
        return told


def _finishing(pending: Pending[Any], outcome: Outcome, reason: str | None) -> Finishing:
    replayed = pending.replayed or pending.replay_id is not None
    return Finishing(pending.record, pending.epoch, pending.size, outcome, reason, _SEND, replayed)

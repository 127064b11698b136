"""Replay: sends letters again, order by order, and hears what becomes of each.

    turn:  keep the place ─► hear ─► settle ─► release ─► judge ─► send ─► (wait)
                              │                  │                  │
           dead letters, receipts or outbox      │       copies and their resolutions, one transaction
           records, holds: read as they come     └─ tombstones on the holds, one transaction

    CANARY ──all of it settled, few enough came back──► MAIN ──nothing is left──► DONE
       │                                                 │
       └───────────── too many came back ────────────────┴──► what is under way settles ──► STOPPED

Owned by one command, one thread. What is not in the plan (`plan.py`, this process's) stands in Kafka, so that a kill at
any moment loses nothing: the same command reads it and goes on.

How an order keeps its sequence, against live traffic too:
- its letters go into one partition in its sequence, and the sender keeps one lane an order;
- its hold stays while they go: what comes live meanwhile is held, becomes a letter, and goes behind them in this run;
- letters for several source topics go topic by topic, each when the one before is finished: two topics keep no order;
- it is released when all its letters were accepted and no other one stands in its dead letters (`release.py`).

Not chosen: a run that keeps its plan in Kafka (all of it can be read again from what is there).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from processor.errors import StateCorrupt
from processor.hakuna import entry_ids
from processor.interfaces import Clock, Reader
from processor.letters.families import letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import NEWER_DELIVERED, How, Resolution, encode_resolution, resolution_key
from processor.operate.replay.copies import copy_of, replay_of, replays_of
from processor.operate.replay.place import Ledger
from processor.operate.replay.plan import Going, Kind, OrderKey, OrderState, Plan, Status
from processor.operate.replay.reading import Offsets, read_offsets
from processor.operate.replay.release import POLL_S, Barrier, Release, Tallied
from processor.operate.replay.selection import order_of
from processor.operate.replay.survey import Field, Route, Survey, home, read_receipt, take_hold
from processor.records import EntryType, HeaderName, NewRecord, Position, Record, TopicPartition
from processor.transform import order_state

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 500
"""Letters of one transaction, which has 4 s and must fit into the client's queue."""
BATCH_S: Final = 0.05
"""What the pace gathers before it sends: a transaction a letter would cost more than the letters."""
ORDERS_AT_ONCE: Final = 200
LOOK_S: Final = 0.5
"""How often the groups' commits are asked for, to hear of what leaves no trace."""
JUDGED_FROM: Final = 10
"""Letters that have to be settled before a share of them says anything, where there is no canary."""
FOREIGN_S: Final = 5.0
"""How long another tool has to refuse a letter again. Nobody tells that it was taken."""

GONE: Final = "it is not in its topic any more"
MEANWHILE: Final = "an entry of its order was refused meanwhile"
TOO_LARGE: Final = "its copy is larger than what can be written"


class Ending(Enum):
    """How a run ended."""

    DONE = "done"
    TOO_MANY_BACK = "too many came back"
    BY_HAND = "stopped by hand"
    SILENT = "nothing was heard for too long"


class Phase(Enum):
    """What a run does, for whoever watches."""

    CANARY = "canary"
    MAIN = "replay"
    STOPPING = "waiting for what is under way"


class Progress(NamedTuple):
    """Letters, for whoever watches."""

    phase: Phase
    total: int
    sent: int
    settled: int
    returned: int


class Content(Protocol):
    """What of a letter is sent: its own value, a rebuilt or an edited one."""

    def __call__(self, letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
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


@dataclass(slots=True)
class _Fence:
    """What has to be read before silence means something. Mutable once: `ends` when it is known."""

    committed: int
    ends: dict[TopicPartition, int]


class Replay:
    """One run. Mutable: `_fences` by target; `_parked` letters of ours that wait in a state; `_tokens` of the pace as
    of `_paced_s`; `_heard_s` when something was last settled; `_stopping` why nothing more is sent."""

    def __init__(
        self,
        orders: Orders,
        plan: Plan,
        survey: Survey,
        ledger: Ledger,
        reader: Reader,
        follower: Reader,
        offsets: Offsets,
        clock: Clock,
        content: Content,
        barrier: Barrier,
        keep: Callable[[], None],
    ) -> None:
        self._orders = orders
        self._plan = plan
        self._survey = survey
        self._ledger = ledger
        self._reader = reader
        self._follower = follower
        self._offsets = offsets
        self._clock = clock
        self._content = content
        self._keep = keep
        self.tallied = Tallied()
        self._followed = tuple(orders.follow_from)
        group = orders.groups.get(orders.field.outbox, "")
        self._release = Release(orders.field, group, plan, ledger, offsets, clock, barrier, self, self.tallied)
        self._fences: dict[TopicPartition, _Fence] = {}
        self._parked: dict[OrderKey, set[Position]] = {}
        self._look_at_s = 0.0
        self._tokens = 0.0
        self._paced_s = clock.monotonic_s()
        self._heard_s = clock.monotonic_s()
        self._stopping: Ending | None = None

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self, watch: Callable[[Progress], None], stopped: Callable[[], bool]) -> Ending:
        """Until nothing is left, or something speaks against going on. Raises `Fatal`, `BrokerOutage`."""
        self._follower.assign(Position(*where, offset) for where, offset in self._orders.follow_from.items())
        if not self._orders.sends:
            self._settle_put_aside()
        idle = False
        while True:
            self._keep()
            self.hear(POLL_S if idle else 0.0)
            self._settle_silent()
            self._release.turn(self._stopping is not None)
            self._judge(stopped())
            idle = not self._send()
            watch(self.progress())
            if self._is_over():
                return self._stopping or Ending.DONE
            if self._is_silent():
                return Ending.SILENT

    def progress(self) -> Progress:
        counts = self._plan.counts
        settled = counts[Status.ACCEPTED] + counts[Status.ABSORBED] + counts[Status.RETURNED]
        phase = Phase.STOPPING if self._stopping else Phase.CANARY if self._in_canary() else Phase.MAIN
        total = settled + counts[Status.SENT] + counts[Status.GO]
        return Progress(phase, total, settled + counts[Status.SENT], settled, counts[Status.RETURNED])

    def _is_over(self) -> bool:
        counts = self._plan.counts
        if self._stopping is Ending.BY_HAND:
            return True
        if counts[Status.SENT] or self._release.has_work:
            return False
        return self._stopping is not None or not (counts[Status.GO] or counts[Status.STALE])

    def _is_silent(self) -> bool:
        now_s = self._clock.monotonic_s()
        if not self._plan.counts[Status.SENT]:
            self._heard_s = now_s
        return now_s - self._heard_s > self._orders.silence_s_max

    def _judge(self, by_hand: bool) -> None:
        """Whether to go on."""
        if by_hand and self._stopping is None:
            self._stopping = Ending.BY_HAND
        if self._stopping is not None:
            return
        progress = self.progress()
        enough = progress.settled >= min(self._orders.canary or JUDGED_FROM, progress.total)
        if progress.settled and enough and progress.returned / progress.settled > self._orders.share_max:
            log.warning("too many came back", returned=progress.returned, settled=progress.settled)
            self._stopping = Ending.TOO_MANY_BACK

    def _in_canary(self) -> bool:
        """Whether the canary is not over: all of it is sent first, and then heard of."""
        counts = self._plan.counts
        settled = counts[Status.ACCEPTED] + counts[Status.ABSORBED] + counts[Status.RETURNED]
        return self._orders.canary > 0 and settled < self._orders.canary

    # ---- send -------------------------------------------------------------------------------------------------------

    def _send(self) -> bool:
        """The next letters, as many as may go. False where none did."""
        room = self._room()
        if room < 1 or self._stopping is not None:
            return False
        batch: list[tuple[OrderKey, list[Going]]] = []
        taken = 0
        for order in self._plan.next_orders(ORDERS_AT_ONCE):
            letters = self._plan.next_letters(order, BATCH_MAX)
            if batch and taken + len(letters) > room:
                break
            batch.append((order, letters))
            taken += len(letters)
        if not batch:
            return False
        self._write(batch)
        self._tokens -= taken
        return True

    def _room(self) -> int:
        orders = self._orders
        now_s = self._clock.monotonic_s()
        burst = max(orders.rate_s * BATCH_S * 4, 1.0)
        self._tokens = min(self._tokens + (now_s - self._paced_s) * orders.rate_s, burst)
        self._paced_s = now_s
        outstanding = self._plan.counts[Status.SENT]
        if self._tokens < max(1.0, min(orders.rate_s * BATCH_S, BATCH_MAX)):
            return 0
        if self._in_canary():
            return min(BATCH_MAX, int(self._tokens), orders.canary - self.progress().sent)
        return min(BATCH_MAX, int(self._tokens), orders.outstanding_max - outstanding)

    def _write(self, batch: Sequence[tuple[OrderKey, list[Going]]]) -> None:
        """Copies and resolutions of these orders, in one transaction."""
        letters = self._read([going for _, goings in batch for going in goings])
        writes: list[NewRecord] = []
        sent: list[tuple[Going, str, TopicPartition | None]] = []
        dropped: list[tuple[int, int]] = []
        under_way: list[OrderKey] = []
        for order, goings in batch:
            for offset, why in self._plan.stale_letters(order):
                writes.append(self._superseded(order, offset, why))
                dropped.append((order.partition, offset))
            before = len(sent)
            for going in goings:
                made = self._made(letters.get((going.partition, going.offset)), going)
                if isinstance(made, Unsendable):
                    self._plan.stop(order, made.why)
                    break
                target, entry_id, records = made
                writes += records
                sent.append((going, entry_id, target))
            if len(sent) > before or not goings:
                under_way.append(order)
        if writes:
            self._ledger.write(writes)
        targets = {target for _, _, target in sent if target is not None}
        ends = self._offsets.ends(sorted(targets)) if targets else {}
        self._plan.sent(
            [(going.partition, going.offset, entry_id, self._mark(target, ends)) for going, entry_id, target in sent],
            dropped,
        )
        for order in under_way:
            if self._plan.state(order) is OrderState.PENDING:
                self._plan.set_state(order, OrderState.UNDER_WAY)
            if not self._plan.under_way(order):
                self._moved(order)
        if not self._orders.sends:
            for going, _, _ in sent:
                self._moved(self._plan.settled(going.partition, going.offset, Status.ACCEPTED))

    def _mark(self, target: TopicPartition | None, ends: Mapping[TopicPartition, int]) -> int:
        """What has to be passed before a silence about a copy says something: an end, or a time."""
        if self._orders.field.route is Route.FOREIGN or target is None:
            return round(self._clock.monotonic_s() * 1000)
        return ends[target]

    def _read(self, goings: Sequence[Going]) -> dict[tuple[int, int], Record]:
        by_partition: dict[int, list[int]] = {}
        for going in goings:
            by_partition.setdefault(going.partition, []).append(going.offset)
        found: dict[tuple[int, int], Record] = {}
        for number, offsets in by_partition.items():
            where = TopicPartition(self._orders.field.letters, number)
            for record in read_offsets(self._reader, self._clock, where, offsets, lambda _count: self._keep()):
                found[number, record.offset] = record
        return found

    def _made(
        self, letter: Record | None, going: Going
    ) -> tuple[TopicPartition | None, str, list[NewRecord]] | Unsendable:
        """Where a letter goes, its copy's entry ID, and the records to be written for it."""
        if letter is None:
            return Unsendable(GONE)
        orders = self._orders
        facts = letter_facts(letter)
        whole = self._survey.sendable(letter, facts)
        if not orders.sends:
            of = order_of(letter if isinstance(whole, Unsendable) else whole)
            return None, "", [self._resolved(letter.position, msgspec.structs.replace(orders.resolution, order_id=of))]
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
        copy = copy_of(letter, facts, target, orders.replay_id, value, too_old_ms)._replace(key=key)
        if not self._ledger.fits(copy):
            return Unsendable(TOO_LARGE)
        entry_id = letter.header_text(HeaderName.ENTRY_ID) or ""
        if entry_id and value != letter.value and value is not None:
            entry_id = entry_ids.of_bytes(entry_id, value)
        resolution = msgspec.structs.replace(
            orders.resolution,
            replay_count=replays_of(letter) + 1,
            order_id=order_of(letter),
            entry_id=entry_id,
            sent_to=target.topic,
            sent_partition=None if target.partition == letter.partition else target.partition,
            edit=orders.resolution.edit if going.selected else None,
        )
        return target, entry_id, [copy, self._resolved(letter.position, resolution)]

    def _resolved(self, letter: Position, resolution: Resolution) -> NewRecord:
        topic = self._orders.field.resolutions
        number = home(letter.partition, self._offsets.partitions(topic) or 1)
        value = encode_resolution(msgspec.structs.replace(resolution, at_ms=self._clock.now_ms()))
        return NewRecord(topic, number, resolution_key(letter), value, [])

    def _superseded(self, order: OrderKey, offset: int, why: str) -> NewRecord:
        letter = Position(self._orders.field.letters, order.partition, offset)
        by = self._orders.resolution.by
        return self._resolved(letter, Resolution(how=How.SUPERSEDED, at_ms=0, by=by, reason=why))

    # ---- hear what becomes of them ----------------------------------------------------------------------------------

    def hear(self, timeout_s: float) -> None:
        """Takes in what has come, or what comes within that time."""
        field = self._orders.field
        for record in self._follower.poll(2_000, timeout_s).records:
            if record.topic == field.letters:
                self._hear_letter(record)
            elif record.topic == self._orders.tells:
                self._hear_taken(record)
            elif record.topic == field.holds:
                take_hold(self._plan, record)
            elif record.topic == field.changelog:
                self._hear_state(record)

    def _hear_letter(self, record: Record) -> None:
        orders = self._orders
        of = replay_of(record)
        if of is not None and record.header_text(HeaderName.REPLAY_ID) == orders.replay_id:
            if of.topic == orders.field.letters:
                order = self._plan.settled(of.partition, of.offset, Status.RETURNED)
                if order is not None:
                    self.tallied.returned[letter_facts(record).reason] += 1
                    self._moved(order)
            return
        if orders.field.route is not Route.OUTBOX:
            return
        letter = self._survey.letter(record, None, selects=False)
        order = OrderKey(letter.partition, letter.order_id)
        if not self._plan.has(order):
            return
        if letter.planned.kind is Kind.REFUSED:
            self._plan.follow(letter)
            self._plan.stop(order, MEANWHILE)
            self._release.refused(order)
        elif self._plan.follow(letter):
            self.tallied.followed += 1
            self._release.followed(order)

    def _hear_taken(self, record: Record) -> None:
        if self._orders.field.route is Route.OUTBOX:
            receipt = read_receipt(record)
            if receipt is not None and receipt.entry_id:
                order = self._plan.accepted(record.partition, receipt.entry_id)
                self._moved(order)
                if order is None and receipt.entry_type == EntryType.ORDER:
                    # A live snapshot: what the letters of its order say is older by now.
                    order = OrderKey(record.partition, record.key or b"")
                    self._plan.delivered(order, receipt.delivered_at, NEWER_DELIVERED)
        else:
            of = replay_of(record)
            if of is not None and of.topic == self._orders.field.letters:
                self._moved(self._plan.settled(of.partition, of.offset, Status.ACCEPTED))

    def _hear_state(self, record: Record) -> None:
        """What is parked was taken, and is not done: it waits for an order that is not here."""
        order = OrderKey(record.partition, record.key or b"")
        waiting: set[Position] = set()
        try:
            if record.value is not None and order_state.peek(record.value)[1]:
                for parked in order_state.decode(record.value).parked:
                    of = replay_of(parked.origin)
                    if of is not None and parked.origin.header_text(HeaderName.REPLAY_ID) == self._orders.replay_id:
                        waiting.add(of)
        except StateCorrupt:
            return  # transform says so itself
        if waiting:
            self._parked[order] = waiting
        else:
            self._parked.pop(order, None)
        self.tallied.parked = sum(len(one) for one in self._parked.values())

    def _settle_silent(self) -> None:
        """Letters that are finished and of which nobody has spoken: superseded, ignored, parked; or another tool's."""
        now_s = self._clock.monotonic_s()
        if now_s < self._look_at_s or not self._plan.counts[Status.SENT]:
            return
        self._look_at_s = now_s + LOOK_S
        marks = self._plan.marks()
        if self._orders.field.route is Route.FOREIGN:
            for partition, topic in marks:
                for of, offset in self._plan.unheard(partition, topic, round((now_s - FOREIGN_S) * 1000)):
                    self._moved(self._plan.settled(of, offset, Status.ABSORBED))
            return
        for (partition, topic), mark in marks.items():
            target = TopicPartition(topic, partition)
            fence = self._fences.get(target)
            if fence is not None and self.has_read(fence.ends):
                del self._fences[target]
                for of, offset in self._plan.unheard(partition, topic, fence.committed):
                    self._moved(self._plan.settled(of, offset, Status.ABSORBED))
            elif fence is None:
                committed = self._offsets.committed(self._orders.groups[topic], [target])[target].next_offset
                if committed is not None and self._is_finished(target, committed, mark):
                    # What the group wrote about it was there before it committed: it is below these ends.
                    self._fences[target] = _Fence(max(committed, mark), self.ends_now([partition]))

    def _is_finished(self, target: TopicPartition, committed: int, mark: int) -> bool:
        """Whether the group has passed a mark. The last thing before it may be the marker of our own transaction, of
        which no group takes notice until more records come."""
        return committed >= mark or (committed == mark - 1 and self._offsets.stable_ends([target])[target] == mark)

    def _settle_put_aside(self) -> None:
        """What an earlier run has put aside is settled by that."""
        for partition, topic in self._plan.marks():
            for of, offset in self._plan.unheard(partition, topic, 0):
                self._moved(self._plan.settled(of, offset, Status.ACCEPTED))

    def ends_now(self, numbers: Sequence[int]) -> dict[TopicPartition, int]:
        """The ends of what is listened to, of these partitions."""
        wanted = [where for where in self._followed if where.partition in numbers]
        return dict(self._offsets.ends(wanted))

    def has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether all up to there was heard."""
        return all(self._follower.position(where) >= end for where, end in ends.items())

    def _moved(self, order: OrderKey | None) -> None:
        """Something of this order was settled."""
        if order is None:
            return
        self._heard_s = self._clock.monotonic_s()
        if self._plan.state(order) is not OrderState.UNDER_WAY or self._plan.under_way(order):
            return
        if self._plan.waiting(order):
            self._plan.set_state(order, OrderState.PENDING)
        else:
            self._plan.set_state(order, OrderState.SETTLED)
            self._release.settled(order)

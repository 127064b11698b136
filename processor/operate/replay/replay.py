"""Replay: sends letters again, order by order, and reads what becomes of each.

    turn:  keep the place ─► hear ─► settle ─► release ─► judge ─► send ─► (wait)
                              │                  │                  │
           dead letters, receipts or outbox      │       copies and their resolutions, one transaction
           records, holds: read as they come     └─ tombstones on the holds, one transaction

    CANARY ──all of it settled, few enough came back──► MAIN ──nothing is left──► DONE
       │                                                 │
       └───────────── too many came back ────────────────┴──► what is under way settles ──► STOPPED

Owned by one command in one thread. Everything except the plan (`plan.py`) is in Kafka, so that a kill loses nothing:
the same command reads it and goes on.

How an order keeps its sequence, also against live traffic:
- its letters go into one partition in its sequence, and the sender keeps one lane an order;
- its hold stays while they go: its live entries are held, become letters, and go after them in this run;
- letters for several source topics go topic by topic, each when the one before is finished: two topics keep no order;
- it is released when all its letters were accepted and no other one is in its dead letters (`release.py`).

Not chosen: a run that keeps its plan in Kafka (all of it can be read again from the topics).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import structlog

from processor.errors import StateCorrupt
from processor.letters.families import letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import NEWER_DELIVERED, Resolution
from processor.operate.replay.arrange import Kind, Status
from processor.operate.replay.copies import replay_of
from processor.operate.replay.database import Going, OrderKey
from processor.operate.replay.making import Content, Making
from processor.operate.replay.place import Clients
from processor.operate.replay.plan import OrderState, Plan
from processor.operate.replay.release import POLL_S, Release, Tallied
from processor.operate.replay.survey import Route, Survey, Task, read_receipt, take_hold
from processor.records import EntryType, HeaderName, NewRecord, Position, Record, TopicPartition
from processor.transform import order_state

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 500
"""Letters of one transaction, which has 4 s and must fit into the client's queue."""
BATCH_S: Final = 0.05
"""The pace gathers letters for this long: a transaction for each would cost more than the letters."""
ORDERS_AT_ONCE: Final = 200
LOOK_S: Final = 0.5
"""How often the groups' commits are asked for, to find letters that leave no trace."""
JUDGED_FROM: Final = 10
"""Letters that must be settled before a share of them says anything, if there is no canary."""
FOREIGN_S: Final = 5.0
"""How long another tool has to refuse a letter again. Nothing shows that it was accepted."""
HELD_UP_S: Final = 30.0
"""The same for hako, while its group's commit stands behind something else: a level that waits for its item."""
_ANY_MARK: Final = 1 << 62

MEANWHILE: Final = "an entry of its order was refused meanwhile"


class Ending(Enum):
    """How a run ended."""

    DONE = "done"
    TOO_MANY_BACK = "too many came back"
    BY_HAND = "stopped by hand"
    SILENT = "nothing was heard for too long"


class Phase(Enum):
    """The phase of a run, for the operator who watches."""

    CANARY = "canary"
    MAIN = "replay"
    STOPPING = "waiting for what is under way"


class Progress(NamedTuple):
    """Numbers of letters, for the operator who watches."""

    phase: Phase
    total: int
    sent: int
    settled: int
    returned: int


@dataclass(slots=True)
class _Fence:
    """What must be read before silence means something: `ends` by partition. `committed` is what the group has."""

    committed: int
    ends: dict[TopicPartition, int]


class Replay:
    """One run. `resolution` is what is written of each letter; its replay ID is that of the run. `follow_from` are the
    next offsets of the topics that show what became of the letters.

    Mutable: `_fences` by target; `_parked` letters of ours that wait in a state; `_tokens` of the pace as of
    `_paced_s`; `_heard_s` when something was last settled; `_stopping` why nothing more is sent."""

    def __init__(
        self,
        task: Task,
        resolution: Resolution,
        follow_from: Mapping[TopicPartition, int],
        plan: Plan,
        survey: Survey,
        clients: Clients,
        content: Content,
    ) -> None:
        self._task = task
        self._replay_id = resolution.replay_id
        self._follow_from = follow_from
        self._plan = plan
        self._survey = survey
        self._clients = clients
        self._offsets = clients.reading.offsets
        self._clock = clock = clients.reading.clock
        self._making = Making(task, resolution, plan, survey, clients, content)
        self.tallied = Tallied()
        self._release = Release(task, plan, clients, self, self.tallied)
        self._fences: dict[TopicPartition, _Fence] = {}
        self._parked: dict[OrderKey, set[Position]] = {}
        self._look_at_s = 0.0
        self._tokens = 0.0
        self._paced_s = clock.monotonic_s()
        self._heard_s = clock.monotonic_s()
        self._stopping: Ending | None = None

    def run(self, watch: Callable[[Progress], None], stopped: Callable[[], bool]) -> Ending:
        """Runs until nothing is left, or something speaks against going on. Raises `Fatal`, `BrokerOutage`."""
        self._clients.follower.assign(Position(*where, offset) for where, offset in self._follow_from.items())
        if not self._task.sends:
            self._settle_put_aside()
        idle = False
        while True:
            self._clients.keep()
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
        return now_s - self._heard_s > self._task.silence_s_max

    def _judge(self, by_hand: bool) -> None:
        """Decides whether to go on."""
        if by_hand and self._stopping is None:
            self._stopping = Ending.BY_HAND
        if self._stopping is not None:
            return
        progress = self.progress()
        enough = progress.settled >= min(self._task.canary or JUDGED_FROM, progress.total)
        if progress.settled and enough and progress.returned / progress.settled > self._task.share_max:
            log.warning("too many came back", returned=progress.returned, settled=progress.settled)
            self._stopping = Ending.TOO_MANY_BACK

    def _in_canary(self) -> bool:
        """Returns true until the whole canary is sent and settled."""
        counts = self._plan.counts
        settled = counts[Status.ACCEPTED] + counts[Status.ABSORBED] + counts[Status.RETURNED]
        return self._task.canary > 0 and settled < self._task.canary

    def _send(self) -> bool:
        """Sends the next letters, as many as may go. Returns false if there were none."""
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
        task = self._task
        now_s = self._clock.monotonic_s()
        burst = max(task.rate_s * BATCH_S * 4, 1.0)
        self._tokens = min(self._tokens + (now_s - self._paced_s) * task.rate_s, burst)
        self._paced_s = now_s
        outstanding = self._plan.counts[Status.SENT]
        if self._tokens < max(1.0, min(task.rate_s * BATCH_S, BATCH_MAX)):
            return 0
        if self._in_canary():
            return min(BATCH_MAX, int(self._tokens), task.canary - self.progress().sent)
        return min(BATCH_MAX, int(self._tokens), max(task.canary, round(2 * task.rate_s), 1) - outstanding)

    def _write(self, batch: Sequence[tuple[OrderKey, list[Going]]]) -> None:
        """Writes copies and resolutions of these orders in one transaction."""
        letters = self._read([going for _, goings in batch for going in goings])
        writes: list[NewRecord] = []
        sent: list[tuple[Going, str, TopicPartition | None]] = []
        dropped: list[tuple[int, int]] = []
        under_way: list[OrderKey] = []
        for order, goings in batch:
            for offset, why in self._plan.stale_letters(order):
                writes.append(self._making.superseded(order, offset, why))
                dropped.append((order.partition, offset))
            before = len(sent)
            for going in goings:
                made = self._making.of(letters.get((going.partition, going.offset)), going)
                if isinstance(made, Unsendable):
                    self._plan.stop(order, made.why)
                    break
                target, entry_id, records = made
                writes += records
                sent.append((going, entry_id, target))
            if len(sent) > before or not goings:
                under_way.append(order)
        if writes:
            self._clients.ledger.write(writes)
        targets = {target for _, _, target in sent if target is not None}
        ends = self._offsets.ends(sorted(targets)) if targets else {}
        marked = [(one.partition, one.offset, entry_id, self._mark(target, ends)) for one, entry_id, target in sent]
        self._plan.sent(marked, dropped)
        for order in under_way:
            if self._plan.state(order) is OrderState.PENDING:
                self._plan.set_state(order, OrderState.UNDER_WAY)
            if not self._plan.letters_of(order, Status.SENT):
                self._moved(order)
        if not self._task.sends:
            for going, _, _ in sent:
                self._moved(self._plan.settled(going.partition, going.offset, Status.ACCEPTED))

    def _mark(self, target: TopicPartition | None, ends: Mapping[TopicPartition, int]) -> int:
        """Returns what must be passed before a silence about a copy says something: an end, or a time in ms."""
        if target is None or target.topic not in self._task.groups:
            return round(self._clock.monotonic_s() * 1000)
        return ends[target]

    def _read(self, goings: Sequence[Going]) -> dict[tuple[int, int], Record]:
        by_partition: dict[int, list[int]] = {}
        for going in goings:
            by_partition.setdefault(going.partition, []).append(going.offset)
        found: dict[tuple[int, int], Record] = {}
        for number, offsets in by_partition.items():
            where = TopicPartition(self._task.field.letters, number)
            for record in self._clients.reading.at(where, offsets):
                found[number, record.offset] = record
        return found

    def hear(self, timeout_s: float) -> None:
        """Takes in what has come; waits this long if nothing has."""
        field = self._task.field
        for record in self._clients.follower.poll(2_000, timeout_s).records:
            if record.topic == field.letters:
                self._hear_letter(record)
            elif record.topic == self._task.tells:
                self._hear_taken(record)
            elif record.topic == field.holds:
                take_hold(self._plan, record)
            elif record.topic == field.changelog:
                self._hear_state(record)

    def _hear_letter(self, record: Record) -> None:
        field = self._task.field
        of = replay_of(record)
        if of is not None and record.header_text(HeaderName.REPLAY_ID) == self._replay_id:
            if of.topic == field.letters:
                order = self._plan.settled(of.partition, of.offset, Status.RETURNED)
                if order is not None:
                    self.tallied.returned[letter_facts(record).reason] += 1
                    self._moved(order)
            return
        if field.route is not Route.OUTBOX:
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
        if self._task.field.route is Route.OUTBOX:
            receipt = read_receipt(record)
            if receipt is not None and receipt.entry_id:
                order = self._plan.accepted(record.partition, receipt.entry_id)
                self._moved(order)
                if order is None and receipt.entry_type == EntryType.ORDER:
                    # A live snapshot: the letters of its order are older now.
                    order = OrderKey(record.partition, record.key or b"")
                    self._plan.delivered(order, receipt.delivered_at, NEWER_DELIVERED)
        else:
            of = replay_of(record)
            if of is not None and of.topic == self._task.field.letters:
                self._moved(self._plan.settled(of.partition, of.offset, Status.ACCEPTED))

    def _hear_state(self, record: Record) -> None:
        """A parked event was taken and is not done: it waits for its order to be placed."""
        order = OrderKey(record.partition, record.key or b"")
        waiting: set[Position] = set()
        try:
            if record.value is not None and order_state.peek(record.value)[1]:
                for parked in order_state.decode(record.value).parked:
                    of = replay_of(parked.origin)
                    if of is not None and parked.origin.header_text(HeaderName.REPLAY_ID) == self._replay_id:
                        waiting.add(of)
        except StateCorrupt:
            return  # transform reports it
        if waiting:
            self._parked[order] = waiting
        else:
            self._parked.pop(order, None)
        self.tallied.parked = sum(len(one) for one in self._parked.values())

    def _settle_silent(self) -> None:
        """Settles letters that are finished without a trace: superseded, ignored or parked ones, and foreign ones."""
        now_s = self._clock.monotonic_s()
        if now_s < self._look_at_s or not self._plan.counts[Status.SENT]:
            return
        self._look_at_s = now_s + LOOK_S
        held_up = self._task.field.route is Route.FOREIGN and now_s - self._heard_s >= HELD_UP_S
        for (partition, topic), mark in self._plan.marks().items():
            target = TopicPartition(topic, partition)
            fence = self._fences.get(target)
            if topic not in self._task.groups:
                self._absorbed(target, round((now_s - FOREIGN_S) * 1000))
            elif held_up:
                self._absorbed(target, _ANY_MARK)
            elif fence is not None and self.has_read(fence.ends):
                del self._fences[target]
                self._absorbed(target, fence.committed)
            elif fence is None:
                committed = self._offsets.committed(self._task.groups[topic], [target])[target].next_offset
                if committed is not None and self._is_finished(target, committed, mark):
                    # The group writes about a letter before it commits, so that is before these ends.
                    self._fences[target] = _Fence(max(committed, mark), self.ends_now([partition]))

    def _absorbed(self, target: TopicPartition, mark: int) -> None:
        """Settles the copies in this partition up to a mark of which nothing was heard."""
        for partition, offset in self._plan.unheard(target.partition, target.topic, mark):
            self._moved(self._plan.settled(partition, offset, Status.ABSORBED))

    def _is_finished(self, target: TopicPartition, committed: int, mark: int) -> bool:
        """Returns true if the group has passed a mark. The last offset before it may be the marker of our transaction,
        which no group passes until more records come."""
        return committed >= mark or (committed == mark - 1 and self._offsets.stable_ends([target])[target] == mark)

    def _settle_put_aside(self) -> None:
        """Settles what an earlier run has discarded."""
        for partition, topic in self._plan.marks():
            for of, offset in self._plan.unheard(partition, topic, 0):
                self._moved(self._plan.settled(of, offset, Status.ACCEPTED))

    def ends_now(self, numbers: Sequence[int]) -> dict[TopicPartition, int]:
        """Returns the ends of the followed topics in these partitions."""
        wanted = [where for where in self._follow_from if where.partition in numbers]
        return dict(self._offsets.ends(wanted))

    def has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Returns true if everything before these ends was read."""
        return all(self._clients.follower.position(where) >= end for where, end in ends.items())

    def _moved(self, order: OrderKey | None) -> None:
        """A letter of this order was settled."""
        if order is None:
            return
        self._heard_s = self._clock.monotonic_s()
        if self._plan.state(order) is not OrderState.UNDER_WAY or self._plan.letters_of(order, Status.SENT):
            return
        if self._plan.letters_of(order, Status.GO):
            self._plan.set_state(order, OrderState.PENDING)
        else:
            self._plan.set_state(order, OrderState.SETTLED)
            self._release.settled(order)

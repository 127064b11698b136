"""partitions: the partition numbers of this worker, and how each restores its state before records are taken.

    (gathering) ──all five topics are here──► RESTORING ──position ≥ end of the changelog──► RUNNING
         ▲                                        ▲                                             │
         │                                        └──── resync: a transaction's fate unknown ───┤
         └────────────────────────── revoked or lost ◄──────────────────────────────────────────┘

Owned by the transform thread. `assigned` and `unassigned` are called inside a poll and only record facts; `take_over`
acts on them afterwards. No transaction is open inside a poll, so a revoke has nothing left to finish.

Invariants:
- records of a number are taken only while it is RUNNING, and it is RUNNING only after its store has reached the end
  that the changelog had when the restore began;
- a new assignment begins a new restore, whatever the store had before;
- a store that is older than the changelog's tombstones is restored from the beginning, and wiped if it stays idle;
- no store is wiped if the changelog has less than it (`Unusable`: the store may be the last copy of the state).

A store stays open over a revoke until the next assignment gives its number to another worker. The eager protocol
revokes and assigns everything at each rebalance, and a store that comes back needs only the tail of its changelog.

Not chosen: a thread for restores. A slice a turn needs no lock, is as fast (half the work is in librdkafka's and
RocksDB's own threads), and the poll in between keeps the membership alive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from processor.errors import Fatal, StateCorrupt, Unusable
from processor.interfaces import Clock, Reader, Store, Stores
from processor.records import Position, TopicPartition
from processor.transform.book import REBUILD, Book, Here, cut_off, layout_problem, may_go
from processor.transform.keyed_state import ForeignStore, KeyedState, read_meta

log = structlog.get_logger(__name__)

RESTORE_RECORDS_MAX: Final = 10_000
"""Changelog records of one slice: some 60 ms, so that the group is polled often enough during a restore."""
BULK_RECORDS_MIN: Final = 10_000
"""A shorter restore writes as always: the first commit waits until loaded records are on disk."""
_TIDY_S: Final = 3600.0
_PURGE_S: Final = 1.0
"""The least time between two erased orders that leave the disk."""
WIPES_MAX: Final = 3
"""The most wipes of one partition without a committed batch. After that the store is not the problem but the changelog,
or a version of this program that cannot read it, and wiping would go on for ever in silence."""


class Phase(StrEnum):
    """The life of a partition number here; drawn above."""

    RESTORING = "restoring"
    RUNNING = "running"


@dataclass(slots=True)
class Held:
    """A number of this worker. Mutable: `phase` and the restore's bounds. After a crash `bulk` is restored again."""

    state: KeyedState
    phase: Phase
    restore_start: int
    restore_end: int
    bulk: bool

    @property
    def restore_position(self) -> int:
        """Where the restore goes on."""
        return max(self.restore_start, self.state.next_offset)

    @property
    def restore_remaining(self) -> int:
        return max(0, self.restore_end - self.restore_position) if self.phase is Phase.RESTORING else 0


@dataclass(eq=False)
class Partitions:
    """The assignment, as facts and as stores. `_here` identifies the changelog, which keeps a tombstone for
    `_tombstones_ms` (`delete.retention.ms`). `_newest_book` returns a partition's book in the changelog, for a store of
    another changelog, and raises `BrokerOutage`.

    Mutable: `whole` has the numbers of which all topics are assigned, `held` those whose stores are open, `_assigned`
    the source partitions that the group gave us, `_kept` the stores of numbers that were taken away and may come back,
    `_wipes` how often each number was wiped since it last committed a batch; `_purge_at_s` is when the next erased
    order may leave the disk, `_tidy_at_s` when idle stores are looked at; `epoch` counts assignments, `restored`
    changelog offsets that were passed.
    """

    _topics: Sequence[str]
    _changelog: str
    _here: Here
    _tombstones_ms: int
    _stores: Stores
    _reader: Reader
    _clock: Clock
    _newest_book: Callable[[int], Book | None]
    held: dict[int, Held] = field(default_factory=dict)
    restored: int = 0
    epoch: int = 0
    whole: frozenset[int] = frozenset()
    _assigned: set[TopicPartition] = field(default_factory=set)
    _kept: dict[int, KeyedState] = field(default_factory=dict)
    _wipes: dict[int, int] = field(default_factory=dict)
    _purge_at_s: float = 0.0

    def __post_init__(self) -> None:
        self._identity = f"{self._changelog}/{self._here.changelog}"
        self._age_ms_max = self._tombstones_ms // 2
        self._tidy_at_s = self._clock.monotonic_s() + _TIDY_S

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned.update(partitions)
        self.whole = self._all_here()
        self.epoch += 1

    def unassigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Takes revoked or lost partitions: nothing of their numbers may be written any more."""
        self._assigned.difference_update(partitions)
        self.whole = self._all_here()
        for number in {partition.partition for partition in partitions} & self.held.keys():
            held = self.held.pop(number)
            held.state.rollback()
            if held.phase is Phase.RUNNING:
                held.state.as_of_ms = self._clock.now_ms()  # until now nobody else has written to the changelog
            self._kept[number] = held.state
            self._reader.unassign([self._changelog_partition(number)])

    def _all_here(self) -> frozenset[int]:
        numbers = {partition.partition for partition in self._assigned}
        return frozenset(number for number in numbers if self._assigned.issuperset(self.sources(number)))

    def sources(self, number: int) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in self._topics]

    @property
    def incomplete(self) -> list[TopicPartition]:
        """Assigned partitions whose number is not whole (a cooperative rebalance brings the rest later)."""
        return [partition for partition in self._assigned if partition.partition not in self.whole]

    @property
    def gathering(self) -> list[int]:
        """Numbers of which only some topics are assigned."""
        return sorted({partition.partition for partition in self._assigned} - self.whole)

    @property
    def gained(self) -> list[int]:
        """Whole numbers that are not held yet."""
        return sorted(self.whole - self.held.keys())

    def take_over(self, gained: Sequence[int]) -> None:
        """Opens the stores and begins their restore; closes idle ones. Raises `BrokerOutage`: nothing was done."""
        if gained:
            self.begin_restore(gained)
        if self._assigned:
            for number in self._kept.keys() - self.held.keys():
                self._kept.pop(number).close()

    def begin_restore(self, numbers: Sequence[int]) -> None:
        """Reads their changelog from where the stores stand. Raises `BrokerOutage`, `Unusable` if a store has more."""
        of = [self._changelog_partition(number) for number in numbers]
        beginnings = self._reader.beginnings(of)
        ends = self._reader.ends(of)
        starts = []
        for number, partition in zip(numbers, of, strict=True):
            beginning, end = beginnings[partition], ends[partition]
            state = self._opened(number)
            age_ms = abs(self._clock.now_ms() - state.as_of_ms)  # absolute: a clock that was ahead proves nothing
            if state.next_offset == 0:
                pass  # an empty store begins at the beginning as it is
            elif state.next_offset > end:
                raise Unusable([self._has_less(number, state.next_offset, f"ends at {end}")])
            elif state.next_offset < beginning:
                self._keep_the_last(number, state, beginning)
                why = f"the store reflects {state.next_offset}, the changelog begins at {beginning}"
                state = self._anew(number, state, why)
            elif number not in self.held and age_ms > self._age_ms_max:
                self._keep_the_last(number, state, beginning)
                why = (
                    f"the store was last written {age_ms // 1000} s ago, and the changelog keeps the tombstone of an "
                    f"erased order for {2 * self._age_ms_max // 1000} s"
                )
                state = self._anew(number, state, why)
            bulk = end - max(beginning, state.next_offset) >= BULK_RECORDS_MIN
            self.held[number] = held = Held(state, Phase.RESTORING, beginning, end, bulk)
            at = held.restore_position
            starts.append(Position(*partition, at))
            log.info("restore begins", partition=number, from_offset=at, to_offset=end, epoch=self.epoch)
        self._reader.assign(starts)

    def restore(self) -> list[int]:
        """Restores one slice of each number. Returns the numbers that run from now on. Raises `StateCorrupt`."""
        restoring = {n: held for n, held in self.held.items() if held.phase is Phase.RESTORING}
        if not restoring:
            return []
        try:
            return self._restore_slice(restoring)
        except StateCorrupt:
            # The other records of the same poll are lost with it: all read on from where their stores stand.
            self._reader.assign(
                Position(*self._changelog_partition(number), held.restore_position)
                for number, held in restoring.items()
            )
            raise

    def _restore_slice(self, restoring: Mapping[int, Held]) -> list[int]:
        newest = self._reader.newest(RESTORE_RECORDS_MAX, 0.02)
        done = []
        for number, held in restoring.items():
            partition = self._changelog_partition(number)
            position = self._reader.position(partition)
            is_at_end = position >= held.restore_end
            try:
                if position > held.state.next_offset:
                    self.restored += position - held.restore_position
                    told = newest.get(partition, {})
                    held.state.restore(told, position, self._clock.now_ms(), bulk=held.bulk)
                if is_at_end:
                    self._whole(number, held)
                    held.state.restored()
            except StateCorrupt as corrupt:
                raise StateCorrupt(str(corrupt), partition) from corrupt
            if is_at_end:
                held.phase = Phase.RUNNING
                self._reader.unassign([partition])
                done.append(number)
                log.info("restore done", partition=number, next_offset=position, orders=held.state.orders)
        return done

    def _whole(self, number: int, held: Held) -> None:
        """Raises `Unusable` if the changelog has lost records that were not restored, or has another layout."""
        book = held.state.book
        if book is not None and book.partitions != self._here.partitions:
            raise Unusable([layout_problem(self._changelog, book.partitions, self._here.partitions)])
        if held.restore_start > (0 if book is None else book.whole_from):
            raise Unusable([cut_off(self._changelog, number, held.restore_start)])

    def _keep_the_last(self, number: int, state: KeyedState, beginning: int) -> None:
        """Raises `Unusable` if the beginning of the changelog is gone: the store may be the last copy of it."""
        if beginning > 0:
            book = self._newest_book(number)
            if beginning > (0 if book is None else book.whole_from):
                raise Unusable([self._has_less(number, state.next_offset, f"begins at {beginning}")])

    def _has_less(self, number: int, next_offset: int, why: str) -> str:
        return (
            f"{self._changelog}/{number} {why}, and the store in this worker's volume reflects {next_offset} records: "
            f"the changelog has lost what the store still has, which is left as it is; {REBUILD}"
        )

    def wipe(self, number: int, cause: StateCorrupt) -> None:
        """Wipes a broken store and restores it. Raises `BrokerOutage`; `Fatal` if in vain; `Unusable` if it has
        more."""
        of = self._changelog_partition(number)
        end = self._reader.ends([of])[of]
        if self.held[number].state.next_offset > end:
            raise Unusable([self._has_less(number, self.held[number].state.next_offset, f"ends at {end}")])
        self._wipes[number] = self._wipes.get(number, 0) + 1
        if self._wipes[number] > WIPES_MAX:
            raise Fatal(
                f"{self._changelog}/{number} was restored {WIPES_MAX} times in a row and cannot be read: {cause}; a "
                "newer version may have written it (then run that one), or somebody else"
            )
        held = self.held.pop(number)
        self._reader.unassign([of])
        self._kept[number] = self._anew(number, held.state, str(cause))
        self.begin_restore([number])

    def purge(self) -> None:
        """Removes one erased order from the disk; the role stands still, so the next waits 99 times as long. Raises
        `StateCorrupt`; once an hour, when it checks idle stores, `BrokerOutage`."""
        self._tidy()
        began_s = self._clock.monotonic_s()
        if began_s < self._purge_at_s:
            return
        for number in self.running:
            state = self.held[number].state
            if state.erased:
                try:
                    state.purge()
                except StateCorrupt as corrupt:
                    raise StateCorrupt(str(corrupt), self._changelog_partition(number)) from corrupt
                now_s = self._clock.monotonic_s()
                self._purge_at_s = now_s + max(_PURGE_S, 99 * (now_s - began_s))
                return

    def _tidy(self) -> None:
        """Wipes old idle stores once an hour: another worker may have erased orders that they still have. A store that
        has more than the changelog stays. Raises `BrokerOutage`."""
        if self._clock.monotonic_s() < self._tidy_at_s:
            return
        idle = [number for number in self._stores.numbers() if number < self._here.partitions]
        idle = [number for number in idle if number not in self.held and number not in self._kept]
        if idle:
            of = [self._changelog_partition(number) for number in idle]
            beginnings, ends = self._reader.beginnings(of), self._reader.ends(of)
            for number, partition in zip(idle, of, strict=True):
                if beginnings[partition] == 0 and self._is_of_no_use(number, ends[partition]):
                    log.info("a store of another worker's partition is wiped: it is too old", partition=number)
                    self._stores.wipe(number)
        self._tidy_at_s = self._clock.monotonic_s() + _TIDY_S

    def _is_of_no_use(self, number: int, end: int) -> bool:
        """Returns true if an idle store is old, and the changelog has all of it."""
        with suppress(StateCorrupt):
            store = self._stores.open(number)
            try:
                meta = read_meta(store)
            finally:
                store.close()
            if meta is not None and meta.identity == f"{self._identity}/{number}" and meta.next_offset <= end:
                return abs(self._clock.now_ms() - meta.as_of_ms) > self._age_ms_max
        return False

    def proven(self, number: int) -> None:
        """Forgets the wipes of a number: a batch of it was committed, so its state can be read and written."""
        self._wipes.pop(number, None)

    @property
    def running(self) -> list[int]:
        return [number for number, held in self.held.items() if held.phase is Phase.RUNNING]

    @property
    def restoring(self) -> list[int]:
        return [number for number, held in self.held.items() if held.phase is Phase.RESTORING]

    def close(self) -> None:
        for state in [*self._kept.values(), *(held.state for held in self.held.values())]:
            # The next life finds a store that cannot be written, and reads the whole changelog then.
            with suppress(StateCorrupt):
                state.vouch(state.as_of_ms)
            state.close()
        self._kept.clear()
        self.held.clear()

    def _opened(self, number: int) -> KeyedState:
        if number in self.held:
            return self.held[number].state
        if number in self._kept:
            return self._kept.pop(number)
        store: Store | None = None
        try:
            store = self._stores.open(number)
            return KeyedState(number, store, self._identity)
        except ForeignStore as foreign:
            assert store is not None, "a store without a store"
            # A store of another partition of this changelog was put here by mistake: its own partition has all of it.
            misplaced = foreign.meta.identity.rpartition("/")[0] == self._identity
            if foreign.meta.orders and not misplaced and not may_go(foreign.book, self._newest_book(number)):
                store.close()
                why = self._has_less(number, foreign.meta.next_offset, "was deleted and made again")
                raise Unusable([why]) from foreign
            return self._anew(number, store, str(foreign))
        except StateCorrupt as corrupt:
            return self._anew(number, store, str(corrupt))

    def _anew(self, number: int, broken: KeyedState | Store | None, why: str) -> KeyedState:
        log.warning("state wiped, it comes back from the changelog", partition=number, why=why)
        if broken is not None:
            broken.close()
        self._stores.wipe(number)
        try:
            return KeyedState(number, self._stores.open(number), self._identity)
        except StateCorrupt as corrupt:
            raise Fatal(f"an empty store of partition {number} cannot be used: {corrupt}") from corrupt

    def _changelog_partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._changelog, number)

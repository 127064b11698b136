"""observing: what others see of the loop, made anew once a second: lag, state, progress and what each source waits for.

Owned by the transform thread. What other threads read (`status`, `work`) is replaced whole, never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from processor.letters.letter import OFFSET, PARTITION, REASON, TOPIC
from processor.letters.seldom import Seldom
from processor.records import Position, TopicPartition
from processor.sources.merge import Merge
from processor.sources.standing import SourceLag, SourceStatus, Standing, Written
from processor.sources.standstill import Standstill, Standstills
from processor.transform.batch import Batch
from processor.transform.partitions import Partitions
from processor.transform.plan import StateSize, TransformEdges, TransformPlan
from processor.transform.whereabouts import Whereabouts
from processor.watch import Work

log = structlog.get_logger(__name__)

_SHOWN_MAX: Final = 10
"""Places in one line of the log."""
_SAY_AGAIN_S: Final = 10.0


@dataclass(eq=False)
class Observer:
    """What others see of the loop. `_committed` has the group's next offsets, and is kept by the loop.

    Mutable: `work` by partition number, the records to do and the records done (a watch sees progress by it),
    `throttled_s` for how long brokers have made us wait by their quota, `_gone_without` the numbers for which the log
    says already that a topic is given up, `_throttle_said_s` when the log last said that brokers throttle us.
    """

    _plan: TransformPlan
    _edges: TransformEdges
    _partitions: Partitions
    _merge: Merge
    _standstills: Standstills
    _committed: Mapping[TopicPartition, int]
    _whereabouts: Whereabouts
    work: Mapping[int, Work] = field(default_factory=dict)
    throttled_s: float = 0.0
    _gone_without: set[int] = field(default_factory=set)
    _throttle_said_s: float = -_SAY_AGAIN_S

    def __post_init__(self) -> None:
        edges, committed = self._edges, self._committed
        self._standing = Standing(
            self._merge, edges.consumer, committed, edges.topology, self._standstills, edges.clock, self._waits_for
        )
        self.is_due = self._standing.is_due
        self._letters_said = Seldom(log, "refused: dead letters were written, such as that of this record")

    @property
    def status(self) -> tuple[SourceStatus, ...]:
        return self._standing.status

    def observe(self) -> None:
        """Measures and shows lag, state and status, as of now."""
        self._say_what_is_missing()
        now_ms, meter = self._edges.clock.now_ms(), self._edges.meter
        lags = self._standing.look()
        meter.lag(lags)
        meter.state(
            [
                StateSize(number, one.state.orders, events, one.restore_remaining, parked_s)
                for number, one in self._partitions.held.items()
                for events, parked_s in [one.state.parked_summary(now_ms)]
            ]
        )
        meter.misplaced(self._whereabouts.judge(self._edges.clock.monotonic_s()))
        if astray := self._whereabouts.astray():
            meter.written(Written(astray=Counter(one.topic for one in astray)))
            self.say_astray(astray)
        self.work = {number: self._work(number, lags) for number in self._merge.numbers}

    def unread(self, source: TopicPartition) -> int:
        """Returns how many unread records of a source were known at the last look."""
        return next((one.lag for one in self.status if (one.topic, one.partition) == source), 0)

    def throttled(self) -> float:
        """Returns for how many seconds brokers have just throttled us; logs it at most every ten seconds."""
        held_s = self._edges.transaction.throttled()
        if held_s:
            self._edges.meter.throttled(held_s)
            self.throttled_s += held_s
            now_s = self._edges.clock.monotonic_s()
            if now_s >= self._throttle_said_s + _SAY_AGAIN_S:
                self._throttle_said_s = now_s
                log.warning("the brokers throttle our producer, by their quota", seconds=round(held_s, 1))
        return held_s

    def say_letters(self, batch: Batch) -> None:
        now_s = self._edges.clock.monotonic_s()
        count = batch.written.dead_letters.total()
        if count and self._letters_said.happened(count, now_s):
            letters = self._plan.decide.dead_letters
            said = next(dict(one.headers) for one in batch.outgoing if one.topic == letters)
            place = "/".join((said[part] or b"").decode() for part in (TOPIC, PARTITION, OFFSET))
            self._letters_said.say(now_s, {"record": place, "reason": (said[REASON] or b"").decode(), "to": letters})

    def say_astray(self, erasures: Sequence[Position]) -> None:
        if erasures:
            places = [str(one) for one in erasures[:_SHOWN_MAX]]
            log.error("erasures found no order where their keys put it", erasures=len(erasures), records=places)

    def _say_what_is_missing(self) -> None:
        """Logs the numbers that are not whole and those that go on without a topic: neither shows by itself."""
        gathering = self._partitions.gathering
        if gathering:
            self._standstills.stand(Standstill.GATHERING, f"partitions {gathering}")
        else:
            self._standstills.go_on(Standstill.GATHERING)
        for number in self._merge.given_up - self._gone_without:
            topics = [partition.topic for partition in self._merge.lagging(number)[0]]
            log.warning("going on without a topic that has more at the broker", partition=number, topics=topics)
        self._gone_without = set(self._merge.given_up)

    def _work(self, number: int, lags: Sequence[SourceLag]) -> Work:
        held = self._partitions.held.get(number)
        done = sum(self._committed.get(source, 0) for source in self._partitions.sources(number))
        return Work(
            lag=sum(lag.records for lag in lags if lag.partition == number),
            done=done + (held.restore_position if held is not None else 0),
        )

    def _waits_for(self, number: int) -> str | None:
        if number not in self._partitions.restoring:
            return None
        return f"restore: {self._partitions.held[number].restore_remaining} changelog records to go"

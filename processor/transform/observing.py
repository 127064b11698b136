"""observing: what others see of the loop, made anew once a second: lag, state, progress and what each source waits for.

Owned by the transform thread. What other threads read (`status`, `work`) is replaced whole, never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from processor.letters.letter import OFFSET, PARTITION, REASON, TOPIC
from processor.letters.seldom import Seldom
from processor.records import Position, TopicPartition
from processor.sources.merge import Input, Merge
from processor.sources.standing import SourceLag, SourceStatus, Written, source_lag, source_status
from processor.sources.standstill import Standstills
from processor.transform.batch import Batch
from processor.transform.meter import StateSize
from processor.transform.partitions import Partitions
from processor.transform.plan import Standstill, TransformEdges, TransformPlan
from processor.transform.whereabouts import Whereabouts
from processor.watch import Work

log = structlog.get_logger(__name__)

_OBSERVE_S: Final = 1.0
_SHOWN_MAX: Final = 10
"""Places in one line of the log."""
_SAY_AGAIN_S: Final = 10.0


class Observer:
    """What is known of the loop's standing.

    Mutable: `status` each source, `work` by partition number what is to be done and what was (a watch sees progress by
    it), `throttled_s` for how long brokers have made us wait by their quota, `_gone_without` the numbers of which
    it was said that a topic is given up, and when is to be looked or said again.
    """

    def __init__(
        self,
        plan: TransformPlan,
        edges: TransformEdges,
        partitions: Partitions,
        merge: Merge,
        standstills: Standstills[Standstill],
        committed: Mapping[TopicPartition, int],
        whereabouts: Whereabouts,
    ) -> None:
        """`committed` has the group's next offsets, and is kept by the loop."""
        self._plan = plan
        self._edges = edges
        self._partitions = partitions
        self._merge = merge
        self._standstills = standstills
        self._committed = committed
        self._whereabouts = whereabouts
        self._gone_without: set[int] = set()
        self._observe_at_s = 0.0
        self._throttle_said_s = -_SAY_AGAIN_S
        self._letters_said = Seldom(log, "refused: dead letters were written, such as that of this record")
        self.status: tuple[SourceStatus, ...] = ()
        self.work: dict[int, Work] = {}
        self.throttled_s = 0.0

    def is_due(self) -> bool:
        """True once a second."""
        now_s = self._edges.clock.monotonic_s()
        if now_s < self._observe_at_s:
            return False
        self._observe_at_s = now_s + _OBSERVE_S
        return True

    def observe(self) -> None:
        """Lag, state and status, as of now."""
        self._say_what_is_missing()
        now_s = self._edges.clock.monotonic_s()
        now_ms = self._edges.clock.now_ms()
        kept_s = self._edges.topology.kept_s
        inputs = [one for number in self._merge.numbers for one in self._merge.inputs(number)]
        behind = [one.partition for one in inputs if not one.at_end]
        ends = self._edges.consumer.ends(behind) if behind else {}
        lags = [source_lag(one, self._committed, ends, now_ms, kept_s(one.partition.topic)) for one in inputs]
        self._edges.meter.lag(lags)
        self._edges.meter.state(
            [
                StateSize(number, one.state.orders, events, one.restore_remaining, parked_s)
                for number, one in self._partitions.held.items()
                for events, parked_s in [one.state.parked_summary(now_ms)]
            ]
        )
        self._edges.meter.misplaced(self._whereabouts.judge(now_s))
        if astray := self._whereabouts.astray():
            self._edges.meter.written(Written({}, {}, {}, {}, Counter(one.topic for one in astray)))
            self.say_astray(astray)
        self.work = {number: self._work(number, lags) for number in self._merge.numbers}
        self.status = tuple(
            source_status(one, lag, self._committed, self._blocked(one, lag, now_s, now_ms))
            for one, lag in zip(inputs, lags, strict=True)
        )

    def unread(self, source: TopicPartition) -> int:
        """How many records of a source were known to be there."""
        return next((one.lag for one in self.status if (one.topic, one.partition) == source), 0)

    def throttled(self) -> float:
        """For how long brokers have just made us wait, by their quota; said at most every ten seconds."""
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
        if batch.dead_letters and self._letters_said.happened(batch.dead_letters.total(), now_s):
            letters = self._plan.decide.dead_letters
            said = next(dict(one.headers) for one in batch.outgoing if one.topic == letters)
            place = "/".join((said[part] or b"").decode() for part in (TOPIC, PARTITION, OFFSET))
            self._letters_said.say(now_s, {"record": place, "reason": (said[REASON] or b"").decode(), "to": letters})

    def say_astray(self, erasures: Sequence[Position]) -> None:
        if erasures:
            places = [str(one) for one in erasures[:_SHOWN_MAX]]
            log.error("erasures found no order where their keys put it", erasures=len(erasures), records=places)

    def _say_what_is_missing(self) -> None:
        """Numbers that are not whole, and numbers that go on without a topic: neither shows by itself."""
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

    def _blocked(self, one: Input, lag: SourceLag, now_s: float, now_ms: int) -> tuple[str | None, int | None]:
        """What this partition waits for, and since when (epoch ms)."""
        if not lag.records:
            return None, None
        if self._standstills.shown:
            return self._standstills.first
        number = one.partition.partition
        if number in self._partitions.restoring:
            return f"restore: {self._partitions.held[number].restore_remaining} changelog records to go", None
        lagging, since_s = self._merge.lagging(number)
        if lagging:
            topics = ", ".join(partition.topic for partition in lagging)
            return f"merge: {topics} has more at the broker", now_ms - round((now_s - since_s) * 1000)
        return None, None

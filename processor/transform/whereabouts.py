"""whereabouts: the partition in which the producers put an order, judged from a sample of their records.

    records of a batch ──some a second──► newest keys a topic ──every 5 s──► compare ──► verdicts, misplaced records
    survey (another thread, all partitions) ──────────────────────────────────┘

An event in another partition than its order's is parked, and after a day it is a dead letter. It has no fault of its
own, so no other part of transform notices.

Owned by the transform thread, except for `learn`, which a survey calls. The reference is the first topic,
orders.placed: an order lives where that topic has it. This worker's own sample is newer than a survey and wins; a
survey also has keys of two topics, in partitions of several workers.

Costs 0.2 % of a core at most: 50 keys of a topic are kept a second, and 500 are looked at every 5 s, 10 µs each.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from processor.records import Position, Record
from processor.sources.placements import Compared, Placed, Placement, Sample, compare

log = structlog.get_logger(__name__)

KEYS_KEPT: Final = 100
"""The newest keys of each topic: enough to tell a family, and soon replaced when a producer changes its client."""
SAMPLED_MAX: Final = 50
"""Records of one topic in one second."""
_LOOKED_AT_MAX: Final = 200
"""Records of one batch that are looked at, roughly."""
_UNFOUND_MAX: Final = 1_000
"""Erasures that are kept until the placement of orders is known."""
_SAMPLE_S: Final = 1.0
_JUDGE_S: Final = 5.0


class Whereabouts:
    """Mutable: `_left` is how many records of each topic may still be sampled in this second, `_kept` the newest keys
    by topic, `_keyless` the counts without a key, `_new` the sampled records and `_unfound` the erasures to be judged,
    `_surveyed` a survey's verdicts, `_placed` how the reference places keys; `verdicts` may be read by any thread."""

    def __init__(self, topics: Sequence[str], partitions: int) -> None:
        """`topics` are whole names; the first says where an order lives."""
        self._topics = tuple(topics)
        self._partitions = partitions
        self._kept: dict[str, deque[Placed]] = {topic: deque(maxlen=KEYS_KEPT) for topic in topics}
        self._keyless: Counter[str] = Counter()
        self._new: deque[tuple[str, bytes, int]] = deque(maxlen=len(self._topics) * KEYS_KEPT)
        self._unfound: deque[tuple[Position, bytes | None]] = deque(maxlen=_UNFOUND_MAX)
        self._surveyed: Mapping[str, Compared] = {}
        self._placed: Placement | None = None
        self._sample_at_s = self._judge_at_s = 0.0
        self._left = dict.fromkeys(self._topics, SAMPLED_MAX)
        self._stale = False
        self.verdicts: Mapping[str, Compared] = {}

    def learn(self, samples: Mapping[str, Sample]) -> None:
        """Takes samples of all partitions of the topics. May be called by any thread."""
        self._surveyed = compare(samples)
        self._stale = True

    def sample(self, records: Sequence[Record], now_s: float) -> None:
        """Keeps some records of a batch, so many of each topic: one that comes late in a burst is sampled too."""
        if now_s >= self._sample_at_s:
            self._sample_at_s = now_s + _SAMPLE_S
            self._left = dict.fromkeys(self._topics, SAMPLED_MAX)
        left = self._left
        if not records or not any(left.values()):
            return
        for record in records[:: 1 + len(records) // _LOOKED_AT_MAX]:
            if not left[record.topic]:
                continue
            left[record.topic] -= 1
            if record.key:
                self._kept[record.topic].append((record.key, record.partition))
                self._new.append((record.topic, record.key, record.partition))
            else:
                self._keyless[record.topic] += 1
        self._stale = True

    def unfound(self, erasures: Sequence[Record]) -> None:
        """Keeps erasures that found no order while it is not known where orders live."""
        if self._placed is None or not self._placed.told:
            self._unfound += [(record.position, record.key) for record in erasures]

    def astray(self) -> list[Position]:
        """Returns the kept erasures that came to another partition than their order's, once that is known."""
        if not self._unfound or self._placed is None or not self._placed.told:
            return []
        found = [position for position, key in self._unfound if self.elsewhere(key, position.partition)]
        self._unfound.clear()
        return found

    def judge(self, now_s: float) -> Mapping[str, int]:
        """Judges the sample every few seconds. Returns its records in another partition than their order, by topic."""
        if not self._stale or now_s < self._judge_at_s:
            return {}
        self._judge_at_s = now_s + _JUDGE_S
        self._stale = False
        own = compare(
            {topic: Sample(self._partitions, tuple(kept), self._keyless[topic]) for topic, kept in self._kept.items()}
        )
        before, surveyed = self.verdicts, self._surveyed
        self.verdicts = {topic: self._newest(own[topic], surveyed.get(topic)) for topic in self._topics}
        self._placed = self.verdicts[self._topics[0]].placement
        self._say(before)
        if not self._placed.told:
            return {}  # they are judged once an order has been placed
        misplaced: Counter[str] = Counter()
        while self._new:
            topic, key, number = self._new.popleft()
            misplaced[topic] += self.elsewhere(key, number, topic)
        return misplaced

    def elsewhere(self, key: bytes | None, number: int, topic: str | None = None) -> bool:
        """Returns true if the order of this key is known to live in another partition than `number`. If no known family
        places the orders, it may, unless `topic` (None: any) agrees with the reference."""
        placed = self._placed
        if placed is None or not placed.told or not key:
            return False
        if placed.family is not None:
            return placed.family.of(key, self._partitions) != number
        if placed.mixed:
            return all(family.of(key, self._partitions) != number for family, _ in placed.mixed)
        return any(not one.agrees for name, one in self.verdicts.items() if topic in (None, name))

    def _newest(self, own: Compared, surveyed: Compared | None) -> Compared:
        if surveyed is None or own.share is not None or (own.topic == self._topics[0] and own.placement.told):
            return own
        return surveyed

    def _say(self, before: Mapping[str, Compared]) -> None:
        for topic, one in self.verdicts.items():
            was = before.get(topic)
            if not one.agrees and (was is None or was.agrees):
                facts = {"topic": topic, "placement": str(one.placement), "share": one.share, "mend": one.mend}
                other = {"reference": one.reference, "reference_placement": str(self.verdicts[one.reference].placement)}
                log.error(
                    "the producers of two topics place keys differently: their orders cannot meet", **facts, **other
                )
            elif one.agrees and was is not None and not was.agrees:
                log.info("the producers of these topics agree again", topic=topic, reference=one.reference)

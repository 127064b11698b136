"""What may happen to the workers of a simulation at any call of any client, in the same words for transform and rekey.

    point ─► nothing, most often
          ─► the process dies there
          ─► something happens elsewhere meanwhile (the world's to say)
          ─► the call fails, with or without effect

Trouble seldom comes alone: after one strike the next are likelier for some seconds, so that what is in order after the
first must be so after the second, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, StateCorrupt, TransactionAborted
from processor.records import TopicPartition
from tests.fakes.broker import FakeBroker
from tests.fakes.crash_points import Crash, Point

OFTEN: Mapping[str, float] = {
    "store.read": 0.2,
    "store.write": 2.0,
    "consumer.poll": 0.3,
    "consumer.committed": 6.0,
    "transaction.commit": 6.0,
}
"""Calls that come by the thousand are struck more seldom, those on which a batch turns more often."""


class Strikes:
    """`share` of the calls are struck. Mutable: `burst_until_s`, until when more of them are."""

    def __init__(
        self, chance: random.Random, broker: FakeBroker, share: float, meanwhile: Callable[[Point], None]
    ) -> None:
        self._chance = chance
        self._clock = broker.clock
        self._share = share
        self._meanwhile = meanwhile
        self.burst_until_s = 0.0

    def __call__(self, point: Point) -> BaseException | None:
        chance = self._chance
        now_s = self._clock.at_s
        share = 0.1 if now_s < self.burst_until_s else self._share
        if chance.random() >= share * OFTEN.get(point.call, 1.0):
            return None
        if now_s >= self.burst_until_s and chance.random() < 0.3:
            self.burst_until_s = now_s + 3.0
        if chance.random() < 0.15:
            return Crash(str(point))
        if chance.random() < 0.4:
            self._meanwhile(point)
            return None
        return self._failure(point)

    def weather(self) -> bool:
        """Whether something happens between two turns."""
        burst = self._clock.at_s < self.burst_until_s
        return self._chance.random() < (0.2 if burst else self._share * 4)

    def _failure(self, point: Point) -> BaseException | None:
        choice = self._chance.choice
        match point.call, point.done:
            case (("transaction.open" | "transaction.begin"), False):
                return choice((BrokerOutage("struck"), Fenced("struck")))
            case (("transaction.produce" | "transaction.produce_keyed"), False):
                return choice((TransactionAborted("struck"), Fenced("struck")))
            case "transaction.commit", False:
                return choice((TransactionAborted("struck"), Fenced("struck"), OutcomeUnknown("struck")))
            case "transaction.commit", True:
                return OutcomeUnknown("struck")
            case "consumer.committed", False:
                return BrokerOutage("struck")
            case (("store.read" | "store.write"), False):
                return StateCorrupt("struck") if self._chance.random() < 0.3 else None
        return None


def move(
    chance: random.Random,
    broker: FakeBroker,
    group: str,
    owners: Callable[[Sequence[str]], Mapping[TopicPartition, str]],
) -> None:
    """The group moves: someone is thrown out, or partitions go elsewhere, as `owners` says of these members."""
    members = sorted(broker.group(group).members)
    if not members or broker.down:
        return
    if chance.random() < 0.4:
        broker.expel(chance.choice(members))
        return
    targets: dict[str, set[TopicPartition]] = {client_id: set() for client_id in members}
    for where, owner in owners(members).items():
        targets[owner].add(where)
    broker.rebalance(group, targets)


def left(broker: FakeBroker, group: str, topics: Sequence[str]) -> list[TopicPartition]:
    """Partitions of which the group has not committed the end."""
    ends = broker.ends([where for topic in topics for where in broker.partitions(topic)])
    committed = broker.committed(group, list(ends))
    return [where for where, end in ends.items() if (committed[where].next_offset or 0) != end]

"""What dead workers left open is ended by those who take their partitions over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from processor.edges.kafka.admin import Member
from processor.edges.kafka.predecessors import KafkaPredecessors
from processor.errors import BrokerOutage
from processor.interfaces import Committed
from processor.records import TopicPartition

ME, OTHER, THIRD = "0" * 16, "a" * 16, "b" * 16
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Group:
    """What the group has committed, who is in it, and whom we ended."""

    def __init__(self, offsets: dict[TopicPartition, Committed], *alive: str) -> None:
        self.offsets = offsets
        self.alive = set(alive)
        self.ended: list[str] = []
        self.refuse = False
        self.predecessors = KafkaPredecessors(self, "g", ME, self._end)

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        assert group == "g"
        return {where: self.offsets.get(where, Committed(None, "")) for where in partitions}

    def members(self, group: str) -> Sequence[Member]:
        return [Member(f"hakuna-processor-transform-{worker}", frozenset()) for worker in self.alive]

    def _end(self, worker: str) -> None:
        if self.refuse:
            raise BrokerOutage("no broker answers")
        self.ended.append(worker)

    def takes_over(self, *partitions: TopicPartition) -> list[str]:
        self.ended.clear()
        self.predecessors.end_transactions(partitions)
        return self.ended


def test_the_dead_among_the_last_owners_are_ended_once() -> None:
    group = Group({P0: Committed(5, OTHER), P1: Committed(9, OTHER)}, ME)
    assert group.takes_over(P0, P1) == [OTHER]
    assert group.takes_over(P0, P1) == []


def test_what_a_worker_adds_to_its_name_is_no_part_of_it() -> None:
    group = Group({P0: Committed(5, f"{OTHER} cluster topic"), P1: Committed(9, f"{ME} cluster topic")}, ME)
    assert group.takes_over(P0, P1) == [OTHER]
    assert group.takes_over(P0, P1) == []


def test_the_living_and_oneself_are_left_alone() -> None:
    group = Group({P0: Committed(5, OTHER), P1: Committed(9, ME)}, ME, OTHER)
    assert group.takes_over(P0, P1) == []
    group.alive.discard(OTHER)
    assert group.takes_over(P0, P1) == [OTHER]


@pytest.mark.parametrize("metadata", ["", "v1 done=abc", "A" * 16, "a" * 17, "a" * 15])
def test_what_others_write_into_the_metadata_is_no_worker(metadata: str) -> None:
    assert Group({P0: Committed(5, metadata)}).takes_over(P0) == []


def test_who_came_back_and_died_again_is_ended_again() -> None:
    group = Group({P0: Committed(5, OTHER)})
    group.takes_over(P0)
    group.offsets[P0] = Committed(6, OTHER)
    assert group.takes_over(P0) == [OTHER]


def test_an_outage_leaves_the_rest_to_the_next_call() -> None:
    group = Group({P0: Committed(5, OTHER), P1: Committed(5, THIRD)})
    group.refuse = True
    with pytest.raises(BrokerOutage):
        group.takes_over(P0, P1)
    group.refuse = False
    assert group.takes_over(P0, P1) == [OTHER, THIRD]

"""What `topics create` will do, as a planner says it: create, change, leave or refuse, and why.

Pure: from what the cluster has to a list of steps. A plan never deletes, never lowers a retention or a size, never
changes a partition count (keys would move to other partitions, away from their state): such things are refused with
what to do instead. What is there already and good enough is left, whatever else is set on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from processor.config import Role
from processor.topics import NEEDED, ORDER_TOPICS, STOCK_TOPICS, TOPICS, Topic, TopicAsItIs, TopicPlan

_AT_LEAST: Final = frozenset({"retention.ms", "max.message.bytes"})
"""Settings of which more is good enough."""
_UNLIMITED: Final = "-1"


class Action(StrEnum):
    """What is done about a topic."""

    CREATE = "create"
    CHANGE = "change"
    LEAVE = "leave"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """One topic's part of a plan. `config` is what is set, empty where nothing is."""

    topic: str
    action: Action
    partitions: int
    config: Mapping[str, str]
    why: str


def plan(
    described: Mapping[str, TopicAsItIs | None],
    prefix: str,
    *,
    partitions: int,
    retention_ms: int | None = None,
    only: Iterable[TopicPlan] = TOPICS,
) -> list[Step]:
    """`partitions` counts where no source topic is there yet; others follow the sources that are: orders and stock each
    by themselves. `retention_ms` overrides that of the topics that are deleted by age, dead letters excepted."""

    def count(sources: Iterable[Topic]) -> int:
        there = (described.get(prefix + topic) for topic in sources)
        return max((state.partitions for state in there if state is not None), default=partitions)

    of_orders, of_stock = count(ORDER_TOPICS), count(STOCK_TOPICS)
    return [
        _step(
            one,
            prefix,
            described.get(prefix + one.topic),
            of_stock if one.topic in NEEDED[Role.HAKO] else of_orders,
            retention_ms,
        )
        for one in only
    ]


def _step(wanted: TopicPlan, prefix: str, there: TopicAsItIs | None, partitions: int, retention_ms: int | None) -> Step:
    name = prefix + wanted.topic
    config = dict(wanted.config)
    if retention_ms is not None and config.get("retention.ms", _UNLIMITED) != _UNLIMITED:
        config["retention.ms"] = str(retention_ms)
    if there is None:
        return Step(name, Action.CREATE, partitions, config, wanted.why)
    if there.partitions != partitions:
        return Step(
            name,
            Action.REFUSE,
            there.partitions,
            {},
            f"has {there.partitions} partitions where {partitions} are needed, and a partition count cannot be mended: "
            "make the topic anew, or make all of them equal",
        )
    changes = {key: value for key, value in config.items() if not _good_enough(key, value, there.config.get(key))}
    if not changes:
        return Step(name, Action.LEAVE, there.partitions, {}, "as it should be")
    why = ", ".join(f"{key} is {there.config.get(key, 'not set')}" for key in changes)
    return Step(name, Action.CHANGE, there.partitions, changes, why)


def _good_enough(key: str, wanted: str, there: str | None) -> bool:
    if there == wanted:
        return True
    if there is None:
        return False
    if key == "cleanup.policy":
        # `compact,delete` would let go of what is held; `compact` where `delete` is wanted keeps too much to hurt.
        return wanted == "delete"
    if key in _AT_LEAST:
        return there == _UNLIMITED or (wanted != _UNLIMITED and int(there) >= int(wanted))
    return False

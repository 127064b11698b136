"""TOPICS: every topic that the processor reads or writes, and the settings that each must have.

Used by `topics plan|create`, by `check` and by the roles at their start; deploy/README.md mirrors the table. Names here
are without the installation's prefix. A topic of ours has as many partitions as the source topics: partition N of each
belongs to partition N of the sources, so a worker has the same numbers of all topics.

`plan` compares the cluster's topics with the needed ones. It returns steps: create, change, leave or refuse, each with
a reason. It never deletes a topic, never lowers a retention or a size, and never changes a partition count, because
keys would move away from their state: it says what to do instead. Other settings of a topic are left as they are.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, assert_never

from processor.config import Role
from processor.errors import Problem

DAY_MS: Final = 86_400_000
KEEP: Final = "-1"
"""No limit of age."""

RECORD_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest record that we write. Above any source record that a default broker takes (1 MB) and a generous one
(5-10 MB): a bad record must fit into its dead letter, or it would stop its partition for ever."""


class Topic(StrEnum):
    """Topic names without prefix."""

    PLACED = "orders.placed"
    FULFILLED = "orders.fulfilled"
    REFUNDED = "orders.refunded"
    LINE_ITEMS_CANCELLED = "orders.line-items-cancelled"
    CANCELLED = "orders.cancelled"
    CHANGELOG = "hakuna.orders-changelog"
    OUTBOX = "hakuna.outbox"
    ORDER_DEAD_LETTERS = "orders.dead-letters"
    DELIVERIES = "hakuna.deliveries"
    HAKUNA_DEAD_LETTERS = "hakuna.dead-letters"
    HOLDS = "hakuna.holds"
    SEND_OFFSETS = "hakuna.send-offsets"
    RESOLUTIONS = "hakuna.dead-letter-resolutions"
    ITEMS = "catalog.items"
    WAREHOUSES = "catalog.warehouses"
    LEVELS = "inventory.levels"
    HAKO_SENT = "hako.sent"
    HAKO_DEAD_LETTERS = "hako.dead-letters"
    REKEYED_PLACED = "hakuna.rekeyed.orders.placed"
    REKEYED_FULFILLED = "hakuna.rekeyed.orders.fulfilled"
    REKEYED_REFUNDED = "hakuna.rekeyed.orders.refunded"
    REKEYED_LINE_ITEMS_CANCELLED = "hakuna.rekeyed.orders.line-items-cancelled"
    REKEYED_CANCELLED = "hakuna.rekeyed.orders.cancelled"
    REKEYED_EVENTS = "hakuna.rekeyed-events"


ORDER_TOPICS: Final = (Topic.PLACED, Topic.FULFILLED, Topic.REFUNDED, Topic.LINE_ITEMS_CANCELLED, Topic.CANCELLED)
"""The topics that the shops write. Transform takes records with equal timestamps in this order."""

REKEYED: Final[Mapping[Topic, Topic]] = {
    Topic.PLACED: Topic.REKEYED_PLACED,
    Topic.FULFILLED: Topic.REKEYED_FULFILLED,
    Topic.REFUNDED: Topic.REKEYED_REFUNDED,
    Topic.LINE_ITEMS_CANCELLED: Topic.REKEYED_LINE_ITEMS_CANCELLED,
    Topic.CANCELLED: Topic.REKEYED_CANCELLED,
}
"""Where rekey writes what it reads, in the same order (`PROCESSOR_REKEY=on`)."""


def transform_sources(*, rekey: bool) -> Mapping[Topic, Topic]:
    """Returns the topics that transform reads, in order, each with the shop's topic that has its schema."""
    return {REKEYED[topic] if rekey else topic: topic for topic in ORDER_TOPICS}


def sources_of(role: Role, *, rekey: bool) -> tuple[Topic, ...]:
    """Returns the topics that a role consumes."""
    match role:
        case Role.TRANSFORM:
            return tuple(transform_sources(rekey=rekey))
        case Role.REKEY:
            return ORDER_TOPICS
        case Role.SEND:
            return (Topic.OUTBOX,)
        case Role.HAKO:
            return STOCK_TOPICS
    assert_never(role)


STOCK_TOPICS: Final = (Topic.LEVELS, Topic.ITEMS, Topic.WAREHOUSES)
"""The topics that hako consumes. The partitions of the first share the quota out."""

DEAD_LETTER_TOPICS: Final = (Topic.ORDER_DEAD_LETTERS, Topic.HAKUNA_DEAD_LETTERS, Topic.HAKO_DEAD_LETTERS)


class TopicPlan(NamedTuple):
    """The settings that a topic must have, beside the broker's defaults (`config`), and its purpose (`why`)."""

    topic: Topic
    config: Mapping[str, str]
    why: str


_LARGE: Final = {"max.message.bytes": str(RECORD_BYTES_MAX)}
_COMPACTED: Final = {"cleanup.policy": "compact"} | _LARGE
_MONTH: Final = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}
_STATE: Final = _COMPACTED | {
    # The latest time at which erased bytes leave the log. Without it brokers compact by the share of new records alone,
    # and a topic with few new records never.
    "max.compaction.lag.ms": str(7 * DAY_MS)
}
_DEAD_LETTERS: Final = {
    "cleanup.policy": "delete",
    "retention.ms": KEEP,
    "max.message.bytes": str(RECORD_BYTES_MAX),
    # A letter has its record's timestamp, which may lie in the future if the shop's topic allowed it. If this topic
    # refused it, its partition would stop for ever.
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "message.timestamp.type": "CreateTime",
}

_SNAPSHOTS: Final = {"cleanup.policy": "compact"}
"""How these topics are made. A shop's own topic may delete by age if it repeats every object before that."""

TOPICS: Final = (
    TopicPlan(Topic.PLACED, {"retention.ms": str(7 * DAY_MS)}, "source: an order as it was placed"),
    TopicPlan(Topic.FULFILLED, {"retention.ms": str(7 * DAY_MS)}, "source: line items shipped"),
    TopicPlan(Topic.REFUNDED, {"retention.ms": str(7 * DAY_MS)}, "source: line items refunded"),
    TopicPlan(Topic.LINE_ITEMS_CANCELLED, {"retention.ms": str(7 * DAY_MS)}, "source: line items cancelled"),
    TopicPlan(Topic.CANCELLED, {"retention.ms": str(7 * DAY_MS)}, "source: whole orders cancelled"),
    TopicPlan(Topic.CHANGELOG, _STATE, "the state of each order, newest value per key"),
    TopicPlan(Topic.OUTBOX, _MONTH | _LARGE, "what is to be sent; outlives an outage of a month"),
    TopicPlan(Topic.DELIVERIES, _MONTH, "what was accepted, for the order's timeline"),
    TopicPlan(Topic.ORDER_DEAD_LETTERS, _DEAD_LETTERS, "source records refused; timestamps are the originals"),
    TopicPlan(Topic.HAKUNA_DEAD_LETTERS, _DEAD_LETTERS, "entries refused; timestamps are the originals"),
    TopicPlan(Topic.HOLDS, _COMPACTED, "orders that wait behind a refusal"),
    TopicPlan(Topic.SEND_OFFSETS, _COMPACTED, "finished offsets that outgrow the commit metadata"),
    TopicPlan(Topic.RESOLUTIONS, _COMPACTED, "which dead letters are replayed, discarded or superseded"),
    TopicPlan(Topic.ITEMS, _SNAPSHOTS, "source: items as they are"),
    TopicPlan(Topic.WAREHOUSES, _SNAPSHOTS, "source: warehouses as they are"),
    TopicPlan(Topic.LEVELS, _SNAPSHOTS, "source: how many of an item are in a warehouse"),
    TopicPlan(Topic.HAKO_SENT, _COMPACTED, "what Hako has accepted of each object"),
    TopicPlan(Topic.HAKO_DEAD_LETTERS, _DEAD_LETTERS, "objects refused; timestamps are the originals"),
)

_REKEYED: Final = {
    "cleanup.policy": "delete",
    # Never by age: records keep the times of their events, and a backlog would be deleted before anybody reads it.
    # transform deletes what it has taken (`edges/kafka/trim.py`); small segments let the disk follow.
    "retention.ms": KEEP,
    "segment.ms": "600000",
    "segment.bytes": str(50 * 1024 * 1024),
    "max.message.bytes": str(RECORD_BYTES_MAX),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}

REKEY_TOPICS: Final = (
    *(
        TopicPlan(rekeyed, _REKEYED, f"{source} under the order ID; deleted once taken")
        for source, rekeyed in REKEYED.items()
    ),
    TopicPlan(
        Topic.REKEYED_EVENTS,
        {
            "cleanup.policy": "delete",
            # By size alone: where the group's offsets are gone after a week's pause, this says how far they were.
            "retention.ms": KEEP,
            "retention.bytes": str(4 * 1024 * 1024),
            "segment.bytes": str(1024 * 1024),
        },
        "which events rekey has written, as digests: a repeat is refused",
    ),
)
"""The topics that `PROCESSOR_REKEY=on` adds."""


def plans(*, rekey: bool) -> tuple[TopicPlan, ...]:
    """Returns every topic of an installation."""
    return (*TOPICS, *REKEY_TOPICS) if rekey else TOPICS


CLOCK_TOPICS: Final[Mapping[Role, Topic]] = {
    Role.TRANSFORM: Topic.CHANGELOG,
    Role.SEND: Topic.DELIVERIES,
    Role.HAKO: Topic.HAKO_SENT,
    Role.REKEY: Topic.REKEYED_EVENTS,
}
"""A topic that each role writes with its own timestamps, by which it compares its clock with the brokers'."""

NEEDED: Final[Mapping[Role, tuple[Topic, ...]]] = {
    Role.TRANSFORM: (*ORDER_TOPICS, Topic.CHANGELOG, Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS),
    Role.SEND: (Topic.OUTBOX, Topic.DELIVERIES, Topic.HAKUNA_DEAD_LETTERS, Topic.HOLDS, Topic.SEND_OFFSETS),
    Role.HAKO: (*STOCK_TOPICS, Topic.HAKO_SENT, Topic.HAKO_DEAD_LETTERS),
    Role.REKEY: (*REKEYED.values(), Topic.ORDER_DEAD_LETTERS, Topic.REKEYED_EVENTS),
}
"""The topics that a role needs with the partition count of the first; the sources of rekey may have any."""


def alike(role: Role, *, rekey: bool) -> tuple[Topic, ...]:
    """Returns `NEEDED` of a role, with the rekeyed topics if transform reads those."""
    if role is Role.TRANSFORM and rekey:
        return tuple(REKEYED.get(topic, topic) for topic in NEEDED[role])
    return NEEDED[role]


def needed(role: Role, *, rekey: bool) -> tuple[Topic, ...]:
    """Returns all topics that a role needs."""
    return tuple(dict.fromkeys((*alike(role, rekey=rekey), *sources_of(role, rekey=rekey))))


BOOKS: Final = frozenset({Topic.SEND_OFFSETS, Topic.RESOLUTIONS, Topic.HAKO_SENT, Topic.REKEYED_EVENTS})
"""Topics that only workers read and write. A worker that finds one missing makes it, like a topic that it has."""

CONFIG: Final[Mapping[Topic, Mapping[str, str]]] = {plan.topic: plan.config for plan in (*TOPICS, *REKEY_TOPICS)}

_KEYED: Final = frozenset({*ORDER_TOPICS, *REKEYED.values(), *STOCK_TOPICS, Topic.CHANGELOG, Topic.HAKO_SENT})
"""Topics whose partition count decides where a key is."""
_SOURCES: Final = frozenset({*ORDER_TOPICS, *STOCK_TOPICS})
"""The topics that belong to the shops."""
_DEFAULT_BYTES: Final = 1_048_588
"""A broker's own `message.max.bytes`."""
_LETTER_BYTES: Final = 16 * 1024
"""The most that a dead letter's headers add to its record."""
_COMPACTED_TOPICS: Final = frozenset(plan.topic for plan in TOPICS if plan.config in (_COMPACTED, _STATE))


class TopicAsItIs(Protocol):
    """A topic as the cluster describes it."""

    @property
    def partitions(self) -> int: ...

    @property
    def replicas(self) -> int: ...

    @property
    def config(self) -> Mapping[str, str]: ...


def missing(role: Role, described: Mapping[str, TopicAsItIs | None], prefix: str, *, rekey: bool = False) -> list[str]:
    """Returns the whole names of the role's topics that the cluster does not have."""
    return [prefix + topic for topic in needed(role, rekey=rekey) if described[prefix + topic] is None]


def problems(role: Role, described: Mapping[str, TopicAsItIs], prefix: str, *, rekey: bool = False) -> list[Problem]:
    """Returns the faults of existing topics that only a person can mend, each with what to do."""
    found: list[Problem] = []
    first, *others = alike(role, rekey=rekey)
    partitions = described[prefix + first].partitions
    for topic in others:
        count = described[prefix + topic].partitions
        if count < partitions or (count != partitions and topic in _KEYED):
            what = (
                f"has {count} partitions and {prefix + first} has {partitions}: partition N of the one belongs to "
                "partition N of the other"
            )
            found.append(Problem(prefix + topic, what, _grow(max(count, partitions))))
    for topic in (first, *others):
        policy = described[prefix + topic].config.get("cleanup.policy", "delete")
        if topic in _COMPACTED_TOPICS and "compact" not in policy:
            what = f"has cleanup.policy={policy} and must be compacted: what it holds would be deleted by age"
            found.append(Problem(prefix + topic, what, "set cleanup.policy=compact"))
    return found


def compacted(described: Mapping[str, TopicAsItIs | None], prefix: str) -> dict[str, str]:
    """Returns the topics that must not be compacted and are, by whole name, each with the reason."""
    return {
        name: f"has cleanup.policy={policy}: its key is the order or the object, so of two records of one of them the "
        "brokers keep the newer alone"
        for topic, config in CONFIG.items()
        if config.get("cleanup.policy", "delete") == "delete"
        and (state := described.get(name := prefix + topic)) is not None
        and "compact" in (policy := state.config.get("cleanup.policy", "delete"))
    }


def oddities(role: Role, described: Mapping[str, TopicAsItIs], prefix: str, *, rekey: bool = False) -> list[Problem]:
    """Returns what a person should mend although workers go on: topics with more partitions than are used."""
    first, *others = alike(role, rekey=rekey)
    partitions = described[prefix + first].partitions
    found: list[Problem] = []
    for topic in others:
        count = described[prefix + topic].partitions
        if topic not in _KEYED and count > partitions:
            what = f"has {count} partitions and {prefix + first} has {partitions}: those beyond are not used"
            found.append(Problem(prefix + topic, what, _grow(count)))
    return found


def _grow(partitions: int) -> str:
    return f"`hakuna-processor topics grow --partitions {partitions}` makes all of them equal and moves the state"


def producer_problems(
    role: Role, described: Mapping[str, TopicAsItIs], kafka: Mapping[str, str], prefix: str
) -> list[Problem]:
    """Returns the user's settings (librdkafka's names) with which the producer could not write a dead letter."""
    given = kafka.get("message.max.bytes", "")
    if not given.isdigit():
        return []
    sizes = (
        (int(state.config.get("max.message.bytes", "0")), prefix + topic)
        for topic in NEEDED.get(role, ())
        if (state := described.get(prefix + topic)) is not None and topic in _SOURCES | {Topic.OUTBOX}
    )
    # An entry is seldom larger than an event, and a default broker takes an event of 1 MB at most.
    largest = max(((min(size, _DEFAULT_BYTES) if Topic.OUTBOX in name else size, name) for size, name in sizes))
    needed = min(largest[0] + _LETTER_BYTES, RECORD_BYTES_MAX)
    if int(given) >= needed:
        return []
    what = f"{given} is less than the {needed} bytes that the dead letter of a record of {largest[1]} may need"
    return [Problem("KAFKA_MESSAGE_MAX_BYTES", what, f"leave it out, or set it to {RECORD_BYTES_MAX}")]


def none_there(prefix: str) -> str:
    """Returns the message for a cluster without a single topic of ours."""
    unseen = "on these brokers (or this user may not see them)"
    if prefix:
        return f"PROCESSOR_TOPIC_PREFIX: no topic of ours begins with {prefix!r} {unseen}"
    return f"KAFKA_BOOTSTRAP_SERVERS: no topic of ours is {unseen}; if names have a prefix, set PROCESSOR_TOPIC_PREFIX"


_REPLICAS_SAFE: Final = 3
"""From this count on, a write waits for two replicas: with one, an acknowledged record may be lost with its broker."""
_AT_LEAST: Final = frozenset({"retention.ms", "max.message.bytes", "min.insync.replicas"})
"""Settings that may be larger than asked for."""
_AT_MOST: Final = frozenset({"max.compaction.lag.ms"})
"""Settings that may be smaller than asked for."""


class Action(StrEnum):
    """What is done about a topic."""

    CREATE = "create"
    CHANGE = "change"
    LEAVE = "leave"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """One topic's part of a plan. `config` holds the settings to be set."""

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
    replicas: int = -1,
    message_bytes_max: int = RECORD_BYTES_MAX,
    only: Iterable[TopicPlan] = TOPICS,
    rekey: bool = False,
) -> list[Step]:
    """Returns one step for each topic of `only`.

    `partitions` is used if no source topic exists yet; otherwise topics of orders follow the sources of orders, and
    topics of stock those of stock. With `rekey` the sources of orders may have any counts, and the others follow the
    changelog. `retention_ms` replaces the retention of topics that are deleted by age, except of dead letters.
    `replicas` is for new topics (-1: the cluster's default); `message_bytes_max` limits every `max.message.bytes`."""

    def count(sources: Iterable[Topic]) -> int:
        there = (described.get(prefix + topic) for topic in sources)
        return max((state.partitions for state in there if state is not None), default=partitions)

    changelog = described.get(prefix + Topic.CHANGELOG)
    of_orders = count(ORDER_TOPICS) if changelog is None or not rekey else changelog.partitions
    of_stock = count(STOCK_TOPICS)

    def wanted(topic: Topic) -> int:
        there = described.get(prefix + topic)
        if rekey and topic in ORDER_TOPICS and there is not None:
            return there.partitions
        return of_stock if topic in NEEDED[Role.HAKO] else of_orders

    def config(one: TopicPlan) -> dict[str, str]:
        config, there = dict(one.config), described.get(prefix + one.topic)
        if retention_ms is not None and config.get("retention.ms", KEEP) != KEEP:
            config["retention.ms"] = str(retention_ms)
        if "max.message.bytes" in config:
            config["max.message.bytes"] = str(min(int(config["max.message.bytes"]), message_bytes_max))
        is_ours = there is None or one.topic not in _SOURCES
        if is_ours and (replicas if there is None else there.replicas) >= _REPLICAS_SAFE:
            config["min.insync.replicas"] = "2"
        return config

    return [_step(one, prefix, described.get(prefix + one.topic), wanted(one.topic), config(one)) for one in only]


def _step(
    wanted: TopicPlan, prefix: str, there: TopicAsItIs | None, partitions: int, config: Mapping[str, str]
) -> Step:
    name = prefix + wanted.topic
    if there is None:
        return Step(name, Action.CREATE, partitions, config, wanted.why)
    if there.partitions != partitions:
        what = (
            f"has {there.partitions} partitions and needs {partitions}; the partition of each key depends on the count"
        )
        return Step(name, Action.REFUSE, there.partitions, {}, f"{what}: {_grow(max(there.partitions, partitions))}")
    if why := compacted({name: there}, prefix).get(name):
        by_hand = "set cleanup.policy=delete by hand, which deletes what is older than its retention.ms"
        return Step(name, Action.REFUSE, there.partitions, {}, f"{why}; {by_hand}")
    changes = {key: value for key, value in config.items() if not _good_enough(key, value, there.config.get(key))}
    if not changes:
        return Step(name, Action.LEAVE, there.partitions, {}, "as it should be")
    why = ", ".join(f"{key} is {there.config.get(key, 'not set')}" for key in changes)
    return Step(name, Action.CHANGE, there.partitions, changes, why)


def _good_enough(key: str, wanted: str, there: str | None) -> bool:
    if there is None or there == wanted:
        return there == wanted
    if key == "cleanup.policy":
        # `compact,delete` would delete state by age. Where `delete` is wanted, `compacted` has refused before.
        return wanted == "delete"
    if key in _AT_LEAST:
        return there == KEEP or (wanted != KEEP and int(there) >= int(wanted))
    return key in _AT_MOST and int(there) <= int(wanted)

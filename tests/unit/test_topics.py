"""TOPICS, what is wrong with those that are there, and the plan that makes them right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from processor.config import Role
from processor.topics import (
    CONFIG,
    DEAD_LETTER_TOPICS,
    NEEDED,
    ORDER_TOPICS,
    REKEYED,
    TOPICS,
    Action,
    Step,
    Topic,
    alike,
    compacted,
    missing,
    oddities,
    plan,
    plans,
    problems,
    producer_problems,
)


class There(NamedTuple):
    """A topic that a cluster has."""

    partitions: int
    config: Mapping[str, str]
    replicas: int = 1


PREFIX = "shop."
SOUND: dict[str, There] = {PREFIX + one.topic: There(6, one.config) for one in TOPICS}
WITH_REKEY: dict[str, There] = {PREFIX + one.topic: There(6, one.config) for one in plans(rekey=True)}
NOTHING: dict[str, There | None] = dict.fromkeys(SOUND)


def steps(
    there: Mapping[str, There | None], partitions: int = 6, *, rekey: bool = False, **more: int
) -> dict[str, Step]:
    """The plan, by topic."""
    made = plan(there, PREFIX, partitions=partitions, only=plans(rekey=rekey), rekey=rekey, **more)
    return {step.topic: step for step in made}


@pytest.mark.parametrize("role", NEEDED)
def test_topics_as_they_are_planned_have_no_problem(role: Role) -> None:
    assert missing(role, WITH_REKEY, PREFIX) == []
    assert problems(role, WITH_REKEY, PREFIX) == []
    assert missing(role, WITH_REKEY, PREFIX, rekey=True) == []
    assert problems(role, WITH_REKEY, PREFIX, rekey=True) == []


@pytest.mark.parametrize("role", NEEDED)
def test_a_topic_with_another_partition_count_is_named(role: Role) -> None:
    for topic in NEEDED[role][1:]:
        wrong = WITH_REKEY | {PREFIX + topic: WITH_REKEY[PREFIX + topic]._replace(partitions=5)}
        (problem,) = problems(role, wrong, PREFIX)
        assert str(problem).startswith(f"{PREFIX}{topic} has 5 partitions")


def test_a_changelog_that_is_not_compacted_is_named() -> None:
    wrong = SOUND | {PREFIX + Topic.CHANGELOG: There(6, {"cleanup.policy": "delete"})}
    (problem,) = problems(Role.TRANSFORM, wrong, PREFIX)
    assert str(problem).startswith(f"{PREFIX}{Topic.CHANGELOG} has cleanup.policy=delete")


@pytest.mark.parametrize(
    "topic",
    [*ORDER_TOPICS, Topic.OUTBOX, Topic.DELIVERIES, *DEAD_LETTER_TOPICS, *REKEYED.values(), Topic.REKEYED_EVENTS],
)
@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_of_events_is_named_and_left_to_a_person(topic: Topic, policy: str) -> None:
    """Two refunds of one order would become one, before they are read, told or replayed; and deleting by age what was
    kept for ever is no plan's to do."""
    there = WITH_REKEY | {PREFIX + topic: There(6, {**WITH_REKEY[PREFIX + topic].config, "cleanup.policy": policy})}
    assert list(compacted(there, PREFIX)) == [PREFIX + topic]
    step = steps(there, rekey=True)[PREFIX + topic]
    assert (step.action, step.config) == (Action.REFUSE, {})
    assert f"cleanup.policy={policy}" in step.why
    assert compacted(SOUND, PREFIX) == {}


@pytest.mark.parametrize("topic", DEAD_LETTER_TOPICS)
def test_dead_letters_keep_the_original_timestamp(topic: Topic) -> None:
    config = {**SOUND[PREFIX + topic].config, "message.timestamp.type": "LogAppendTime"}
    there = SOUND | {PREFIX + topic: There(6, config)}
    step = steps(there)[PREFIX + topic]
    assert (step.action, step.config) == (Action.CHANGE, {"message.timestamp.type": "CreateTime"})
    assert step.why == "message.timestamp.type is LogAppendTime"


def test_missing_topics_are_named() -> None:
    assert missing(Role.SEND, SOUND | {PREFIX + Topic.HOLDS: None}, PREFIX) == [PREFIX + Topic.HOLDS]


def test_the_plan_for_nothing_creates_everything() -> None:
    made = plan(NOTHING, PREFIX, partitions=4)
    assert {(step.action, step.partitions) for step in made} == {(Action.CREATE, 4)}
    assert [step.topic for step in made] == list(SOUND)


def test_the_plan_for_what_it_made_changes_nothing() -> None:
    assert {step.action for step in steps(SOUND, 99).values()} == {Action.LEAVE}


def test_new_topics_follow_the_sources_that_are_there() -> None:
    there = NOTHING | {PREFIX + Topic.PLACED: There(7, {"retention.ms": "-1"})}
    made = steps(there, 4)
    assert made[PREFIX + Topic.OUTBOX].partitions == 7
    assert made[PREFIX + Topic.PLACED].action is Action.LEAVE, "more retention than planned is good enough"


def test_a_partition_count_is_never_changed() -> None:
    there = SOUND | {PREFIX + Topic.OUTBOX: There(3, {})}
    step = steps(there)[PREFIX + Topic.OUTBOX]
    assert (step.action, step.config) == (Action.REFUSE, {})


def test_what_is_lower_is_raised_and_what_is_higher_stays() -> None:
    config = {"cleanup.policy": "delete", "retention.ms": "1000", "max.message.bytes": "99999999"}
    there = SOUND | {PREFIX + Topic.OUTBOX: There(6, config)}
    step = steps(there)[PREFIX + Topic.OUTBOX]
    assert (step.action, set(step.config)) == (Action.CHANGE, {"retention.ms"})


def test_what_an_erasure_leaves_in_the_changelog_is_compacted_within_a_week_or_sooner() -> None:
    week = str(7 * 86_400_000)
    for there, wanted in ((str(2**63 - 1), {"max.compaction.lag.ms": week}), (None, None), ("1000", {}), (week, {})):
        config = dict(CONFIG[Topic.CHANGELOG])
        config.pop("max.compaction.lag.ms")
        if there is not None:
            config["max.compaction.lag.ms"] = there
        step = steps({PREFIX + Topic.CHANGELOG: There(3, config)}, 3)[PREFIX + Topic.CHANGELOG]
        assert step.config == ({"max.compaction.lag.ms": week} if wanted is None else wanted)


def test_retention_is_a_wish_for_what_is_deleted_by_age_and_never_for_dead_letters() -> None:
    made = steps(NOTHING, 1, retention_ms=60_000)
    assert made[PREFIX + Topic.OUTBOX].config["retention.ms"] == "60000"
    assert made[PREFIX + Topic.ORDER_DEAD_LETTERS].config["retention.ms"] == "-1"
    assert made[PREFIX + Topic.HAKUNA_DEAD_LETTERS].config["retention.ms"] == "-1"


def test_with_rekey_the_sources_may_have_any_counts_and_transform_s_own_may_not() -> None:
    names = [PREFIX + topic for topic in ORDER_TOPICS]
    apart = WITH_REKEY | {name: WITH_REKEY[name]._replace(partitions=n + 1) for n, name in enumerate(names)}
    assert len(problems(Role.TRANSFORM, apart, PREFIX)) == len(ORDER_TOPICS) - 1 + 1, "and the changelog"
    for role in (Role.TRANSFORM, Role.REKEY):
        assert problems(role, apart, PREFIX, rekey=True) == []
        (problem,) = problems(role, apart | {PREFIX + Topic.REKEYED_CANCELLED: There(5, {})}, PREFIX, rekey=True)
        assert str(problem).startswith(f"{PREFIX}{Topic.REKEYED_CANCELLED} has 5 partitions")
    assert {step.action for step in steps(apart, 99, rekey=True).values()} == {Action.LEAVE}


def test_rekeyed_topics_follow_the_changelog_and_are_never_deleted_by_age() -> None:
    there: dict[str, There | None] = dict.fromkeys(WITH_REKEY)
    there |= {PREFIX + Topic.CHANGELOG: There(4, {}), PREFIX + Topic.PLACED: There(9, {})}
    made = steps(there, 1, retention_ms=1000, rekey=True)
    for topic in (*REKEYED.values(), Topic.REKEYED_EVENTS):
        assert made[PREFIX + topic].partitions == 4
        assert made[PREFIX + topic].config["retention.ms"] == "-1"


def test_without_rekey_nothing_of_it_is_wanted() -> None:
    for role in set(Role) - {Role.REKEY}:
        assert not {*REKEYED.values(), Topic.REKEYED_EVENTS} & set(alike(role, rekey=False))
    assert plans(rekey=False) == TOPICS


def test_a_topic_that_is_only_written_to_may_have_more_partitions_and_is_named() -> None:
    """Nothing of an order's is misplaced by it: no order waits because of a topic for letters."""
    letters = PREFIX + Topic.ORDER_DEAD_LETTERS
    more = SOUND | {letters: SOUND[letters]._replace(partitions=8)}
    assert problems(Role.TRANSFORM, more, PREFIX) == []
    (odd,) = oddities(Role.TRANSFORM, more, PREFIX)
    assert str(odd).startswith(f"{letters} has 8 partitions")
    assert "topics grow --partitions 8" in odd.remedy


def test_three_replicas_are_made_to_wait_for_two_and_a_shops_own_topic_is_left() -> None:
    made = steps(NOTHING, replicas=3).values()
    assert {step.config.get("min.insync.replicas") for step in made} == {"2"}
    assert not any("min.insync.replicas" in step.config for step in steps(NOTHING, replicas=2).values())
    there = {name: one._replace(replicas=3) for name, one in SOUND.items()}
    mended = {topic: step.config for topic, step in steps(there).items() if step.config}
    assert PREFIX + Topic.OUTBOX in mended
    assert PREFIX + Topic.PLACED not in mended
    assert set(map(str, mended.values())) == {"{'min.insync.replicas': '2'}"}


def test_a_cluster_that_allows_smaller_messages_is_asked_for_no_more() -> None:
    made = steps(NOTHING, message_bytes_max=8_388_608).values()
    sizes = {step.config["max.message.bytes"] for step in made if "max.message.bytes" in step.config}
    assert sizes == {"8388608"}


@pytest.mark.parametrize(("given", "refused"), [("30000", True), ("16777216", False), ("", False)])
def test_a_producer_that_cannot_write_what_it_has_to_is_refused_by_the_settings_name(given: str, refused: bool) -> None:
    sizes = {name: There(6, {**one.config, "max.message.bytes": "1048588"}) for name, one in SOUND.items()}
    kafka = {"message.max.bytes": given} if given else {}
    for role in (Role.TRANSFORM, Role.SEND, Role.HAKO):
        found = producer_problems(role, sizes, kafka, PREFIX)
        assert bool(found) is refused
        assert all(str(one).startswith("KAFKA_MESSAGE_MAX_BYTES: 30000 is less than") for one in found)

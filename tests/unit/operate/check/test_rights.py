"""What each role needs to be allowed covers its topics, and nothing else."""

from __future__ import annotations

import pytest

from processor.config import Role
from processor.hakuna import Api
from processor.operate.check.rights import DELETE, DESCRIBE_CONFIGS, READ, WRITE, missing, needed
from processor.topics import NEEDED, ORDER_TOPICS, REKEYED, Topic
from processor.topics import needed as needed_topics


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("role", NEEDED)
@pytest.mark.parametrize("rekey", [False, True])
def test_every_topic_of_a_role_is_read_or_written(role: Role, api: Api, rekey: bool) -> None:
    wanted = needed(role, api, rekey=rekey)
    assert set(wanted) - {Topic.RESOLUTIONS} == set(needed_topics(role, rekey=rekey))
    assert all({READ, WRITE} & operations for operations in wanted.values())


def test_who_marks_letters_superseded_may_write_the_resolutions() -> None:
    """On the feed a newer snapshot does, at Hako a newer value; the Events API knows no such thing."""
    marking = {(role, api) for role in NEEDED for api in Api if WRITE in needed(role, api).get(Topic.RESOLUTIONS, ())}
    assert marking == {(Role.SEND, Api.FEED), (Role.HAKO, Api.EVENTS), (Role.HAKO, Api.FEED)}
    assert needed(Role.SEND, Api.FEED)[Topic.RESOLUTIONS] == {WRITE, DESCRIBE_CONFIGS}


def test_sources_are_never_written() -> None:
    for topic in ORDER_TOPICS:
        assert needed(Role.TRANSFORM, Api.EVENTS)[topic] == {READ, DESCRIBE_CONFIGS}
    assert WRITE not in needed(Role.SEND, Api.EVENTS)[Topic.OUTBOX]


def test_transform_deletes_what_it_takes_of_rekeyed_topics_and_nothing_else() -> None:
    for rekey in (False, True):
        deleted = {
            topic
            for topic, operations in needed(Role.TRANSFORM, Api.EVENTS, rekey=rekey).items()
            if DELETE in operations
        }
        assert deleted == (set(REKEYED.values()) if rekey else set())
    assert not [
        role
        for role in NEEDED
        if role is not Role.TRANSFORM
        and any(DELETE in operations for operations in needed(role, Api.FEED, rekey=True).values())
    ]


def test_what_is_missing_is_named_as_acl_commands_spell_it() -> None:
    assert missing(frozenset({READ, DESCRIBE_CONFIGS}), frozenset({"DESCRIBE"})) == ["DescribeConfigs", "Read"]
    assert missing(frozenset({READ}), frozenset({READ, WRITE})) == []
    assert missing(frozenset({READ}), None) == [], "a broker that does not say is not held against the user"

"""What each role needs to be allowed covers its topics, and nothing else."""

from __future__ import annotations

import pytest

from processor.preflight.rights import DESCRIBE_CONFIGS, READ, WRITE, missing, needed
from processor.topics import NEEDED, ORDER_TOPICS, Topic


@pytest.mark.parametrize("role", NEEDED)
def test_every_topic_of_a_role_is_read_or_written(role: object) -> None:
    from processor.config import Role

    assert isinstance(role, Role)
    wanted = needed(role)
    marks = {Topic.RESOLUTIONS} if role is Role.HAKO else set()
    assert set(wanted) == {*NEEDED[role], *marks}
    assert all({READ, WRITE} & operations for operations in wanted.values())


def test_sources_are_never_written() -> None:
    from processor.config import Role

    for topic in ORDER_TOPICS:
        assert needed(Role.TRANSFORM)[topic] == {READ, DESCRIBE_CONFIGS}
    assert WRITE not in needed(Role.SEND)[Topic.OUTBOX]


def test_what_is_missing_is_named_as_acl_commands_spell_it() -> None:
    assert missing(frozenset({READ, DESCRIBE_CONFIGS}), frozenset({"DESCRIBE"})) == ["DescribeConfigs", "Read"]
    assert missing(frozenset({READ}), frozenset({READ, WRITE})) == []
    assert missing(frozenset({READ}), None) == [], "a broker that does not say is not held against the user"

"""How fast a replay goes: a part of the quota, never more than its share."""

from __future__ import annotations

import pytest

from processor.cli.dead_letters.desk import RATE_S, letters_s
from processor.config import Role, Settings, load
from processor.operate.replay.survey import Route


def settings(**more: str) -> Settings:
    return load({"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "HAKUNA_API_KEY": "sk_test", **more}, (Role.SEND,))


@pytest.mark.parametrize(
    ("more", "given", "rate_s", "why"),
    [
        ({"HAKUNA_QUOTA": "120/60s"}, None, 0.4, "20% of the quota 120/60s, live traffic goes first"),
        ({"HAKUNA_QUOTA": "120/60s"}, 0.7, 0.7, "as given, of the quota 120/60s"),
        ({"HAKUNA_QUOTA": "120/60s"}, 9.0, 1.0, "not 9: 50% of the quota 120/60s is a replay's at most"),
        ({"HAKUNA_QUOTA": "120/60s", "PROCESSOR_REPLAY_SHARE_MAX": "0.1"}, None, 0.2, "10% of the quota 120/60s"),
        # One request of the feed has many orders.
        ({"HAKUNA_QUOTA": "120/60s", "HAKUNA_API": "feed"}, None, 40.0, "20% of the quota 120/60s"),
        ({}, None, RATE_S, "no quota to go by"),
        ({}, 7.0, 7.0, "as given"),
    ],
)
def test_the_rate_follows_from_the_quota_and_never_passes_the_share(
    more: dict[str, str], given: float | None, rate_s: float, why: str
) -> None:
    for route in (Route.OUTBOX, Route.SOURCE):
        found_s, said = letters_s(settings(**more), given, route)
        assert found_s == pytest.approx(rate_s)
        assert said.startswith(why)


def test_letters_that_hakuna_never_sees_know_no_quota_of_hers() -> None:
    assert letters_s(settings(HAKUNA_QUOTA="120/60s"), 200.0, Route.FOREIGN) == (200.0, "as given")

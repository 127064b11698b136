"""Every problem with the settings is told, and what is left of them is used."""

from __future__ import annotations

from processor.config import Role
from processor.operate.check.check import usable
from processor.operate.check.findings import LINES_MAX, Heard, problems
from processor.sources.survey import Weight

GOOD = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:8081",
    "HAKUNA_API_KEY": "sk_test_1",
}


def subjects(environment: dict[str, str], *roles: Role) -> list[str]:
    return sorted(finding.subject for finding in problems(usable(environment, roles or None)[1]))


def test_sound_settings_are_one_finding() -> None:
    settings, found = usable(GOOD, None)
    assert settings.configured_roles() == (Role.TRANSFORM, Role.SEND)
    assert [finding.verdict for finding in found] == [Weight.SOUND]


def test_what_is_wrong_is_left_out_and_the_rest_is_used() -> None:
    wrong = GOOD | {"HAKUNA_API": "soap", "PROCESSOR_PARKFOR": "1h", "KAFKA_GROUP_ID": "mine", "HAKO_QUOTA": "many"}
    settings, _ = usable(wrong, None)
    assert settings.bootstrap_servers == GOOD["KAFKA_BOOTSTRAP_SERVERS"]
    assert subjects(wrong) == ["HAKO_QUOTA", "HAKUNA_API", "KAFKA_GROUP_ID", "PROCESSOR_PARKFOR"]


def test_a_relation_is_told_of_defaults_too() -> None:
    assert subjects(GOOD | {"PROCESSOR_ORDER_RETENTION": "1h"}) == ["PROCESSOR_PARK_FOR"]


def test_what_a_role_needs_is_asked_of_what_is_left() -> None:
    assert subjects({"HAKUNA_API": "soap"}, Role.SEND) == ["HAKUNA_API", "HAKUNA_API_KEY", "KAFKA_BOOTSTRAP_SERVERS"]


def test_a_setting_that_is_wrong_is_not_missing_as_well() -> None:
    assert subjects(GOOD | {"SCHEMA_REGISTRY_URL": "nowhere"}, Role.TRANSFORM) == ["SCHEMA_REGISTRY_URL"]


def test_every_setting_that_librdkafka_refuses_is_told() -> None:
    wrong = GOOD | {"KAFKA_SOCKET_TIMEOUT_MSS": "1", "KAFKA_SOCKET_TIMEOUT_MS": "soon", "HAKUNA_APIS": "feed"}
    settings, found = usable(wrong, None)
    assert settings.librdkafka == {"bootstrap.servers": "127.0.0.1:9092"}
    assert [one.subject for one in found] == ["KAFKA_SOCKET_TIMEOUT_MS", "KAFKA_SOCKET_TIMEOUT_MSS", "HAKUNA_APIS"]
    assert [one.verdict for one in found] == [Weight.PROBLEM] * 3
    assert "the nearest is KAFKA_SOCKET_TIMEOUT_MS" in found[1].what + found[1].remedy


def test_what_does_not_go_together_is_told_too() -> None:
    assert subjects(GOOD | {"KAFKA_SECURITY_PROTOCOL": "sasl_plaintext", "KAFKA_SASL_MECHANISM": "no"}) == ["KAFKA_*"]


def test_what_is_heard_is_kept_and_bounded() -> None:
    heard = Heard()
    heard.warning("kafka.library", detail="SSL handshake failed")
    for number in range(LINES_MAX - 1):
        heard.info("kafka.error", detail=f"line {number}")
    assert heard.about("ssl") == "SSL handshake failed"
    heard.debug("one more")
    assert heard.about("ssl") is None

"""Settings: everything wrong is named at once, and what is right is typed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.config import KAFKA_OWNED, PREFIXES, Quota, Role, declarations, duration_s, load, quota
from processor.edges.kafka import properties
from processor.errors import Unusable
from processor.hakuna import Api

BROKERS = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
TRANSFORM = BROKERS | {"SCHEMA_REGISTRY_URL": "http://127.0.0.1:8081/"}
SEND = BROKERS | {"HAKUNA_API_KEY": "sk_test_1"}


def problems(environment: Mapping[str, str], *roles: Role) -> tuple[str, ...]:
    with pytest.raises(Unusable) as refused:
        load(environment, roles)
    return tuple(map(str, refused.value.problems))


def test_the_least_that_each_role_needs_is_enough() -> None:
    assert load(TRANSFORM, (Role.TRANSFORM,)).registry_url == "http://127.0.0.1:8081"
    settings = load(SEND, (Role.SEND,))
    assert settings.hakuna_url == "https://api.hellohakuna.com/sandbox"
    assert settings.hakuna_key is not None


def test_every_problem_is_named_at_once() -> None:
    wrong = {
        "HAKUNA_API": "soap", "HAKUNA_QUOTA": "many", "PROCESSOR_PARKFOR": "1h", "PROCESSOR_METRICS_PORT": "70000",
        "KAFKA_GROUP_ID": "mine", "PROCESSOR_DEAD_LETTER_SHARE_MAX": "2",
    }  # fmt: skip
    missing = {"KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "HAKUNA_API_KEY"}
    named = {problem.partition(":")[0] for problem in problems(wrong, Role.TRANSFORM, Role.SEND)}
    assert named == {*wrong} | missing


def test_a_misspelt_setting_names_the_nearest() -> None:
    assert problems(TRANSFORM | {"PROCESSOR_TOPIC_PREFX": "a."}, Role.TRANSFORM) == (
        "PROCESSOR_TOPIC_PREFX: no such setting; the nearest is PROCESSOR_TOPIC_PREFIX",
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PROCESSOR_QUOTA", "HAKUNA_QUOTA (or HAKO_QUOTA)"),
        ("HAKUNA_LOG_LEVEL", "PROCESSOR_LOG_LEVEL"),
        ("HAKUNA_API_KEYFILE", "HAKUNA_API_KEY_FILE"),
        ("PROCESSOR_BASE_URL", "HAKUNA_BASE_URL (or HAKO_BASE_URL)"),
    ],
)
def test_a_prefix_that_was_taken_for_another_is_told_by_what_follows_it(name: str, nearest: str) -> None:
    assert problems(SEND | {name: "1"}, Role.SEND) == (f"{name}: no such setting; the nearest is {nearest}",)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("hakuna_quota", "settings are in upper case with underscores, such as HAKUNA_QUOTA"),
        ("HAKUNA-QUOTA", "settings are in upper case with underscores, such as HAKUNA_QUOTA"),
        ("PROCESOR_PARK_FOR", "the nearest is PROCESSOR_PARK_FOR"),
        ("KAKFA_BOOTSTRAP_SERVERS", "the nearest is KAFKA_BOOTSTRAP_SERVERS"),
        ("SCHEMAREGISTRY_URL", "the nearest is SCHEMA_REGISTRY_URL"),
        ("HAKUAN_QUOTA", "the nearest is HAKUNA_QUOTA"),
    ],
)
def test_a_name_that_was_meant_for_a_setting_and_begins_otherwise_is_named(name: str, remedy: str) -> None:
    assert problems(SEND | {name: "1h"}, Role.SEND) == (f"{name}: no such setting; {remedy}",)


def test_names_of_others_are_nobodys_business() -> None:
    others = ("MY_HAKUNA_API_KEY", "TEST_KAFKA_BOOTSTRAP_SERVERS", "JAKO_API_KEY", "OTEL_EXPORTER_URL", "LOG_LEVEL")
    load(SEND | dict.fromkeys((*others, "SSL_CERT_FILE", "http_proxy", "API_KEY_FILE"), "1"), (Role.SEND,))


@pytest.mark.parametrize(
    "url", ["http://x:abc", "http://x:99999", "http://x:0", "http://[::1", "https://[::1]:x/v1", "http://1.2.3.999"]
)
@pytest.mark.parametrize("name", ["HAKUNA_BASE_URL", "SCHEMA_REGISTRY_URL"])
def test_a_url_without_a_host_or_port_that_can_be_one_is_refused(name: str, url: str) -> None:
    (said,) = problems(SEND | {name: url}, Role.SEND)
    assert said.startswith(f"{name}: '{url}' is not a URL whose host and port")


@pytest.mark.parametrize("name", ["PROCESSOR_PARK_FOR", "PROCESSOR_REQUEST_TIMEOUT"])
def test_a_duration_of_nothing_is_refused_where_nothing_could_come_of_it(name: str) -> None:
    assert problems(SEND | {name: "0s"}, Role.SEND) == (f"{name}: '0s' is not a duration of 1ms or more",)


def refused(environment: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(Unusable) as raised:
        load(environment, (Role.SEND,), properties.refused)
    return tuple(map(str, raised.value.problems))


def test_a_misspelt_setting_of_kafkas_names_the_nearest_together_with_the_others() -> None:
    wrong = {
        "KAFKA_BOOTSTRAP_SERVER": "127.0.0.1:9092", "KAFKA_SASL_PASWORD": "x", "KAFKA_SECURITY_PROTOCOL": "tls",
        "HAKUNA_API": "soap", "HAKUNA_API_KEY": "k", "KAFKA_OPTS": "-Xmx1g",
    }  # fmt: skip
    said = refused(wrong)
    named = {problem.partition(":")[0] for problem in said}
    assert named == set(wrong) - {"HAKUNA_API_KEY"} | {"KAFKA_BOOTSTRAP_SERVERS"}
    assert "KAFKA_BOOTSTRAP_SERVER: no such setting; the nearest is KAFKA_BOOTSTRAP_SERVERS" in said
    assert "KAFKA_SASL_PASWORD: no such setting; the nearest is KAFKA_SASL_PASSWORD" in said
    assert "KAFKA_OPTS: it belongs to Kafka's own scripts and is not a setting here; unset it" in said


@pytest.mark.parametrize("name", properties.NAMES)
def test_each_name_that_is_offered_is_one_of_librdkafkas(name: str) -> None:
    """Whatever it says of the value."""
    assert not [said for said in properties.refused({name: "1"}) if "no such setting" in said]


LINKS = {
    "KAFKA_PORT": "tcp://10.0.0.1:9092", "KAFKA_SERVICE_HOST": "10.0.0.1", "KAFKA_SERVICE_PORT": "9092",
    "KAFKA_SERVICE_PORT_PLAIN": "9092", "KAFKA_PORT_9092_TCP": "tcp://10.0.0.1:9092",
    "KAFKA_PORT_9092_TCP_PROTO": "tcp", "KAFKA_PORT_9092_TCP_PORT": "9092", "KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
}  # fmt: skip


def test_what_kubernetes_sets_for_a_service_is_named_as_that() -> None:
    (said,) = refused(SEND | LINKS)
    assert said.startswith(f"{', '.join(sorted(LINKS))}: Kubernetes sets these for the Service named kafka, ")
    assert said.endswith("set enableServiceLinks: false in the pod's spec")


def test_a_service_whose_name_makes_a_setting_of_ours_is_named_too() -> None:
    """A Service named processor-metrics, and one named schema-registry."""
    own = {"PROCESSOR_METRICS_PORT": "tcp://10.0.0.1:9400", "SCHEMA_REGISTRY_SERVICE_HOST": "10.0.0.2"}
    said = refused(SEND | own)
    assert [problem.partition(":")[0] for problem in said] == list(own)
    assert "the Service named processor-metrics" in said[0]
    assert "the Service named schema-registry" in said[1]
    assert load(SEND | {"PROCESSOR_METRICS_PORT": "9401"}, (Role.SEND,)).metrics_port == 9401


def test_other_kafka_names_become_librdkafka_settings() -> None:
    given = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_GROUP_PROTOCOL": "consumer"}
    settings = load(TRANSFORM | given, (Role.TRANSFORM,))
    assert settings.librdkafka["security.protocol"] == "SSL"
    assert settings.librdkafka["group.protocol"] == "consumer"


@pytest.mark.parametrize("owned", sorted(KAFKA_OWNED))
def test_what_a_guarantee_rests_on_cannot_be_set(owned: str) -> None:
    name = "KAFKA_" + owned.upper().replace(".", "_")
    assert problems(TRANSFORM | {name: "1"}, Role.TRANSFORM)[0].startswith(f"{name}: {owned} belongs to the processor")


@pytest.mark.parametrize("key", ["with space", "new\nline", "tab\t", "ümlaut"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    (problem,) = problems(BROKERS | {"HAKUNA_API_KEY": key}, Role.SEND)
    assert problem.startswith("HAKUNA_API_KEY")
    assert key not in problem


def test_a_key_and_a_key_file_exclude_each_other() -> None:
    (problem,) = problems(SEND | {"HAKUNA_API_KEY_FILE": "/run/key"}, Role.SEND)
    assert "not both" in problem


@pytest.mark.parametrize("name", ["SCHEMA_REGISTRY_URL", "HAKUNA_BASE_URL", "HAKO_BASE_URL"])
def test_a_password_in_a_url_is_refused_and_not_shown(name: str) -> None:
    (problem,) = problems(TRANSFORM | {name: "https://max:hunter2@example.com/v1"}, Role.TRANSFORM)
    assert problem.startswith(f"{name}: the value given is not a URL")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "inward",
    [
        *("169.254.169.254", "169.254.170.2:80", "[fe80::1]", "[::ffff:169.254.169.254]"),
        *("[fd00:ec2::254]", "100.100.100.200", "[fd00::1]", "10.0.0.7"),
    ],
)
def test_no_base_url_points_to_a_clouds_metadata(inward: str) -> None:
    """A private address may be a gateway's."""
    given = SEND | {"HAKUNA_BASE_URL": f"http://{inward}/latest"}
    if inward in ("[fd00::1]", "10.0.0.7"):
        assert load(given, (Role.SEND,)).hakuna_url == f"http://{inward}/latest"
    else:
        (problem,) = problems(given, Role.SEND)
        assert "link-local" in problem


@pytest.mark.parametrize(
    "form", ["2852039166", "0xa9fea9fe", "0XA9.254.169.254", "169.254.43518", "0251.0376.0251.0376"]
)
def test_an_address_that_only_a_resolver_knows_for_one_is_none(form: str) -> None:
    """Each is 169.254.169.254 to it."""
    (problem,) = problems(SEND | {"HAKUNA_BASE_URL": f"http://{form}/latest"}, Role.SEND)
    assert "whose host and port are ones" in problem


@pytest.mark.parametrize("name", ["7.example.com", "0xa9.example.com", "1-2-3", "a1"])
def test_a_name_may_have_numbers(name: str) -> None:
    assert load(SEND | {"HAKUNA_BASE_URL": f"http://{name}/v1"}, (Role.SEND,)).hakuna_url == f"http://{name}/v1"


@pytest.mark.parametrize("name", ["KAFKA_SASL_JAAS_CONFIG", "KAFKA_SASL_PASWORD", "KAFKA_SSL_KEY_PEM"])
def test_what_librdkafka_refuses_is_not_shown_where_it_may_be_a_secret(name: str) -> None:
    with contextlib.suppress(Unusable):
        load(SEND | {name: "hunter2"}, (Role.SEND,), properties.refused)
        return
    assert not [problem for problem in refused(SEND | {name: "hunter2"}) if "hunter2" in problem]


def test_a_key_never_shows_in_a_repr() -> None:
    settings = load(SEND, (Role.SEND,))
    assert "sk_test_1" not in repr(settings.hakuna_key)
    assert "sk_test_1" not in repr(settings)


def test_events_wait_for_less_long_than_orders_are_kept() -> None:
    (problem,) = problems(TRANSFORM | {"PROCESSOR_ORDER_RETENTION": "1h"}, Role.TRANSFORM)
    assert problem.startswith("PROCESSOR_PARK_FOR: must be shorter")


def test_an_empty_value_counts_as_not_set() -> None:
    assert load(TRANSFORM | {"HAKUNA_API": ""}, (Role.TRANSFORM,)).hakuna_api is Api.EVENTS


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("5s", 5), ("5m", 300), ("24h", 86_400), ("400d", 34_560_000), ("1.5s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


def test_a_quota_is_requests_in_a_window() -> None:
    assert quota("120/60s") == Quota(120, 60.0)
    assert str(Quota(120, 60.0)) == "120/60s"


@given(st.text(max_size=20))
def test_no_text_breaks_a_parser(text: str) -> None:
    """Whatever stands in a setting, it is a value or a ValueError that says what was expected."""
    for declared in declarations():
        with contextlib.suppress(ValueError):
            declared.kind.parse(text)


def test_names_are_unique_and_carry_our_prefixes() -> None:
    names = [declared.name for declared in declarations()]
    assert len(set(names)) == len(names)
    assert all(name.startswith(PREFIXES) for name in names)


def test_defaults_pass_their_own_parsers() -> None:
    for declared in declarations():
        if declared.default:
            declared.kind.parse(declared.default)

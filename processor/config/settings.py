"""Every setting: its name, kind, default and meaning.

Names are environment variables with the prefixes `KAFKA_`, `SCHEMA_REGISTRY_`, `HAKUNA_`, `HAKO_` and `PROCESSOR_`.
`KAFKA_A_B` is librdkafka's `a.b`, except those that the processor owns (`KAFKA_OWNED`). The table in deploy/SETTINGS.md
says the same; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, assert_never

from processor.api.credentials import AuthHeader, auth_header
from processor.config.parsers import (
    BOOLEAN,
    DURATION,
    KEY,
    PATH,
    PREFIX,
    QUOTA,
    SHARE,
    SOME_DURATION,
    SOME_SHARE,
    URL,
    KeySource,
    Kind,
    Quota,
    boolean,
    host_port,
    one_line,
    one_of,
    seconds,
    urls,
    whole,
)
from processor.hakuna import Api, Orders

KAFKA_OWNED: Final = frozenset((
    # who we are: one worker, one member, one transactional ID
    "client.id", "group.id", "group.instance.id", "transactional.id",
    # an offset is finished when its effect is durable, and only we know when
    "auto.commit.enable", "auto.commit.interval.ms", "auto.offset.reset", "enable.auto.commit",
    "enable.auto.offset.store",
    # what is read is committed, and its end is known
    "enable.partition.eof", "isolation.level",
    # what is written is written once, in order, everywhere
    "acks", "delivery.report.only.error", "enable.gapless.guarantee", "enable.idempotence", "max.in.flight",
    "max.in.flight.requests.per.connection", "message.send.max.retries", "request.required.acks", "retries",
    # no topic by accident, no partition apart from its siblings
    "allow.auto.create.topics", "group.remote.assignor", "partition.assignment.strategy",
    # how long a dead worker's open transaction may hold readers up
    "transaction.timeout.ms",
))  # fmt: skip
"""librdkafka settings that a guarantee rests on; a user's value would break it without an error."""


class Role(StrEnum):
    """The kinds of worker; each is one consumer group."""

    TRANSFORM = "transform"
    SEND = "send"
    HAKO = "hako"
    REKEY = "rekey"


class HakunaEnvironment(StrEnum):
    """Which of Hakuna's hosts is spoken to (`HAKUNA_ENVIRONMENT`)."""

    SANDBOX = "sandbox"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    """How log lines look (`PROCESSOR_LOG_FORMAT`)."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least level that is logged (`PROCESSOR_LOG_LEVEL`)."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class HttpTransport(StrEnum):
    """Which HTTP client sends (`PROCESSOR_HTTP_TRANSPORT`)."""

    LEAN = "lean"
    HTTPX = "httpx"


class Traces(StrEnum):
    """Where spans go (`PROCESSOR_TRACES`)."""

    OFF = "off"
    OTLP = "otlp"


_SECRETS: Final = ("_API_KEY", "_USER_INFO")
"""How the names of settings end that are never shown."""


def setting(name: str, kind: Kind, default: str, meaning: str) -> Any:
    """Declares one setting: its environment variable, kind, default as a user would write it, and meaning."""
    declared = {"name": name, "kind": kind, "default": default, "meaning": meaning}
    return field(metadata=declared, repr=not name.endswith(_SECRETS))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a process. `setting` declares each field; a test compares them with the table in
    deploy/SETTINGS.md."""

    bootstrap_servers: str = setting(
        "KAFKA_BOOTSTRAP_SERVERS", Kind(host_port, "host:port,…"), "", "The Kafka brokers to ask first"
    )
    registry_url: str = setting("SCHEMA_REGISTRY_URL", Kind(urls, "URL"), "", "The schema registry (Confluent's API)")
    registry_auth: str = setting(
        "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", Kind(str, "user:password"), "", "Basic auth for the registry"
    )

    hakuna_api: Api = setting("HAKUNA_API", one_of(Api), "events", "Which of Hakuna's APIs is spoken")
    hakuna_environment: HakunaEnvironment = setting(
        "HAKUNA_ENVIRONMENT", one_of(HakunaEnvironment), "sandbox", "Which base URL is used"
    )
    hakuna_base_url: str = setting("HAKUNA_BASE_URL", URL, "", "Overrides the environment's base URL")
    hakuna_key_value: str = setting("HAKUNA_API_KEY", KEY, "", "Hakuna's API key")
    hakuna_key_file: str = setting(
        "HAKUNA_API_KEY_FILE", PATH, "", "A file with Hakuna's API key, read again when it changes"
    )
    hakuna_auth_header: AuthHeader = setting(
        "HAKUNA_AUTH_HEADER",
        Kind(auth_header("Bearer"), "header[: scheme]"),
        "Authorization",
        "The header that the key is sent in, and the scheme before it: `Authorization` alone means `Bearer`",
    )
    hakuna_ca_file: str = setting(
        "HAKUNA_CA_FILE", PATH, "", "Authorities that Hakuna's certificate is trusted by, and no others; PEM"
    )
    hakuna_client_cert_file: str = setting(
        "HAKUNA_CLIENT_CERT_FILE", PATH, "", "A client certificate for Hakuna, PEM; read again when it changes"
    )
    hakuna_client_key_file: str = setting(
        "HAKUNA_CLIENT_KEY_FILE", PATH, "", "Its key, where it is not in the same file"
    )
    hakuna_version: str = setting("HAKUNA_VERSION", KEY, "v1.2", "The `Hakuna-Version` header")
    hakuna_orders: Orders = setting(
        "HAKUNA_ORDERS", one_of(Orders), "all", "Whether orders without protection are sent"
    )
    hakuna_quota: Quota | None = setting(
        "HAKUNA_QUOTA", QUOTA, "", "Never more requests in any window; without it: adaptive"
    )
    hakuna_fulfil_protection: bool = setting(
        "HAKUNA_FULFIL_PROTECTION", BOOLEAN, "true", "Events API: fulfil protection with its product"
    )

    hako_base_url: str = setting("HAKO_BASE_URL", URL, "https://api.withhako.com/v0", "Hako's base URL")
    hako_key_value: str = setting("HAKO_API_KEY", KEY, "", "Hako's API key")
    hako_key_file: str = setting(
        "HAKO_API_KEY_FILE", PATH, "", "A file with Hako's API key, read again when it changes"
    )
    hako_auth_header: AuthHeader = setting(
        "HAKO_AUTH_HEADER",
        Kind(auth_header("Basic"), "header[: scheme]"),
        "Authorization",
        "As for Hakuna; `Authorization` alone means `Basic`, the key as user name",
    )
    hako_ca_file: str = setting("HAKO_CA_FILE", PATH, "", "As for Hakuna")
    hako_client_cert_file: str = setting("HAKO_CLIENT_CERT_FILE", PATH, "", "As for Hakuna")
    hako_client_key_file: str = setting("HAKO_CLIENT_KEY_FILE", PATH, "", "As for Hakuna")
    hako_quota: Quota | None = setting("HAKO_QUOTA", QUOTA, "120/60s", "Never more requests to Hako in any window")

    state_dir: str = setting("PROCESSOR_STATE_DIR", PATH, "/var/lib/hakuna-processor", "Where the keyed state is kept")
    state_cache_bytes: int = setting(
        "PROCESSOR_STATE_CACHE_BYTES",
        whole(1 << 20, 1 << 36, "bytes"),
        "67108864",
        "RocksDB's block cache, shared by all partitions of a worker",
    )
    state_write_buffer_bytes: int = setting(
        "PROCESSOR_STATE_WRITE_BUFFER_BYTES",
        whole(1 << 16, 1 << 32, "bytes"),
        "4194304",
        "RocksDB's write buffer, one a partition (two at most in memory)",
    )
    metrics_port: int = setting(
        "PROCESSOR_METRICS_PORT",
        whole(0, 65535, "port"),
        "9400",
        "/metrics, /livez, /readyz, /status; 0: any free port",
    )
    log_format: LogFormat = setting("PROCESSOR_LOG_FORMAT", one_of(LogFormat), "json", "How logs look")
    log_level: LogLevel = setting("PROCESSOR_LOG_LEVEL", one_of(LogLevel), "INFO", "The least level logged")
    drain_s: float = setting(
        "PROCESSOR_DRAIN_SECONDS", seconds(1, 600), "25", "How long SIGTERM may take to finish what is in flight"
    )
    topic_prefix: str = setting("PROCESSOR_TOPIC_PREFIX", PREFIX, "", "Goes before every topic name")
    group_prefix: str = setting(
        "PROCESSOR_GROUP_PREFIX", PREFIX, "", "Goes before every consumer group and transactional ID"
    )
    batch_records_max: int = setting(
        "PROCESSOR_BATCH_RECORDS_MAX", whole(1, 100_000, "records"), "5000", "The most records of one transaction"
    )
    merge_wait_s: float = setting(
        "PROCESSOR_MERGE_WAIT",
        DURATION,
        "30s",
        "The longest that a partition waits for a topic that has more at the broker but does not deliver it",
    )
    park_for_s: float = setting(
        "PROCESSOR_PARK_FOR",
        SOME_DURATION,
        "24h",
        "How long an event waits for its order to be placed, and a level for its item and warehouse",
    )
    order_retention_s: float = setting(
        "PROCESSOR_ORDER_RETENTION", DURATION, "400d", "How long an order is kept after its last event"
    )
    in_flight_max: int = setting(
        "PROCESSOR_IN_FLIGHT_MAX", whole(1, 16_384, "requests"), "1024", "The most requests in flight per destination"
    )
    request_timeout_s: float = setting(
        "PROCESSOR_REQUEST_TIMEOUT", SOME_DURATION, "30s", "The longest that one request may take"
    )
    feed_batch_max: int = setting(
        "PROCESSOR_FEED_BATCH_MAX", whole(1, 1000, "orders"), "100", "The most orders in one request of the feed"
    )
    feed_batch_bytes_max: int = setting(
        "PROCESSOR_FEED_BATCH_BYTES_MAX", whole(1024, 1 << 27, "bytes"), "1000000", "The most bytes of one request"
    )
    feed_linger_ms: int = setting(
        "PROCESSOR_FEED_LINGER_MS", whole(0, 60_000, "ms"), "200", "How long a quiet feed waits to fill a request"
    )
    hako_batch_max: int = setting(
        "PROCESSOR_HAKO_BATCH_MAX", whole(1, 10_000, "objects"), "500", "The most objects in one request to Hako"
    )
    hako_batch_bytes_max: int = setting(
        "PROCESSOR_HAKO_BATCH_BYTES_MAX", whole(1024, 1 << 27, "bytes"), "90000", "The most bytes of one request"
    )
    hako_keys_max: int = setting(
        "PROCESSOR_HAKO_KEYS_MAX",
        whole(1000, 100_000_000, "objects"),
        "1000000",
        "The most objects that wait to be sent to Hako, 2.5 kB each; beyond it the topics are read as they are sent",
    )
    hako_catch_up_s: float = setting(
        "PROCESSOR_HAKO_CATCH_UP",
        DURATION,
        "10m",
        "How long hako may read its topics to their ends after an assignment, before it sends anything",
    )
    poison_after_s: float = setting(
        "PROCESSOR_POISON_AFTER",
        DURATION,
        "5m",
        "How long one entry must be answered 5xx, while others pass, before it becomes a dead letter",
    )
    replay_share_max: float = setting(
        "PROCESSOR_REPLAY_SHARE_MAX",
        SOME_SHARE,
        "0.5",
        "What replays of dead letters may take of the quota; live traffic goes first even so",
    )
    dead_letter_share_max: float = setting(
        "PROCESSOR_DEAD_LETTER_SHARE_MAX",
        SHARE,
        "0.5",
        "More dead letters than this among the last 1,000 records stop the role",
    )
    operator: str = setting(
        "PROCESSOR_OPERATOR",
        Kind(one_line, "text"),
        "",
        "The name that a command writes on record if `--by` is not given; if this is empty too, the user and host",
    )
    rekey: bool = setting(
        "PROCESSOR_REKEY",
        Kind(boolean, "off | on"),
        "off",
        "Whether rekey brings orders of any key, partitioner and partition count to where transform reads them",
    )
    http_transport: HttpTransport = setting(
        "PROCESSOR_HTTP_TRANSPORT",
        one_of(HttpTransport),
        "lean",
        "Which HTTP client sends: our own, which is a hundred times cheaper, or httpx's",
    )
    traces: Traces = setting(
        "PROCESSOR_TRACES",
        one_of(Traces),
        "off",
        "OpenTelemetry spans over OTLP, as the `OTEL_*` variables say; needs the extra `otel`",
    )
    kafka: Mapping[str, str] = field(default_factory=dict, metadata={}, repr=False)
    """librdkafka's settings by its own names; may hold a password."""
    proxies: Mapping[str, str] = field(default_factory=dict, metadata={}, repr=False)
    """`HTTPS_PROXY`, `NO_PROXY` and their like, by what stands before `_PROXY`, in lower case; may hold a password."""

    @property
    def hakuna_url(self) -> str:
        if self.hakuna_base_url:
            return self.hakuna_base_url
        match self.hakuna_environment:
            case HakunaEnvironment.SANDBOX:
                return "https://api.hellohakuna.com/sandbox"
            case HakunaEnvironment.PRODUCTION:
                return "https://api.hellohakuna.com"
        assert_never(self.hakuna_environment)

    @property
    def hakuna_key(self) -> KeySource | None:
        return _key_source(self.hakuna_key_value, self.hakuna_key_file)

    @property
    def hako_key(self) -> KeySource | None:
        return _key_source(self.hako_key_value, self.hako_key_file)

    @property
    def librdkafka(self) -> dict[str, str]:
        """The settings of every Kafka client, under librdkafka's names."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.kafka}

    def topic(self, name: str) -> str:
        return self.topic_prefix + name

    def group(self, role: Role) -> str:
        return f"{self.group_prefix}hakuna-processor.{role}"

    def configured_roles(self) -> tuple[Role, ...]:
        """The roles that `run` without `--role` starts: those whose settings are set."""
        roles = []
        if self.registry_url:
            roles.append(Role.TRANSFORM)
        if self.registry_url and self.rekey:
            roles.append(Role.REKEY)
        if self.hakuna_key is not None:
            roles.append(Role.SEND)
        if self.hako_key is not None:
            roles.append(Role.HAKO)
        return tuple(roles)


def _key_source(value: str, file: str) -> KeySource | None:
    if file:
        return KeySource(file=Path(file))
    return KeySource(value=value) if value else None


@dataclass(frozen=True, slots=True)
class Declaration:
    """One row of the settings table."""

    field: str
    name: str
    kind: Kind
    default: str
    meaning: str

    @property
    def unit(self) -> str:
        return self.kind.unit

    @property
    def secret(self) -> bool:
        return self.name.endswith(_SECRETS)


_DECLARATIONS: Final = tuple(Declaration(field=one.name, **one.metadata) for one in fields(Settings) if one.metadata)


def declarations() -> tuple[Declaration, ...]:
    """Every setting, in the order of the table."""
    return _DECLARATIONS

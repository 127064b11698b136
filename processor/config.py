"""Settings: every name, default, unit, range and relation, read from the environment once and checked together.

Owned by the composition root (`processor/run/process.py`) and `check`. `load` either returns a frozen `Settings` or
raises `Unusable` with every problem at once: a deployment that learns of one mistake a restart takes an evening.

Names are environment variables with the prefixes `KAFKA_`, `SCHEMA_REGISTRY_`, `HAKUNA_`, `HAKO_` and `PROCESSOR_`;
an unknown one is an error that names the nearest known one, because a misspelt setting that is silently ignored is
found at night. `KAFKA_A_B` is librdkafka's `a.b`, except those the processor owns.

Not chosen: pydantic-settings (it cannot refuse unknown environment variables, and costs 0.2 s of every start).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, TypeVar, assert_never
from urllib.parse import urlsplit

from processor.api.credentials import AuthHeader, auth_header
from processor.errors import Unusable
from processor.hakuna import Api, Orders

PREFIXES: Final = ("KAFKA_", "SCHEMA_REGISTRY_", "HAKUNA_", "HAKO_", "PROCESSOR_")

KAFKA_OWNED: Final = frozenset(
    {
        # who we are: one worker, one member, one transactional ID
        "client.id",
        "group.id",
        "group.instance.id",
        "transactional.id",
        # an offset is finished when its effect is durable, and only we know when
        "auto.commit.enable",
        "auto.commit.interval.ms",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        # what is read is committed, and its end is known
        "enable.partition.eof",
        "isolation.level",
        # what is written is written once, in order, everywhere
        "acks",
        "delivery.report.only.error",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "request.required.acks",
        "retries",
        # no topic by accident, no partition apart from its siblings
        "allow.auto.create.topics",
        "group.remote.assignor",
        "partition.assignment.strategy",
        # how long a dead worker's open transaction may hold readers up
        "transaction.timeout.ms",
    }
)
"""librdkafka settings that carry a guarantee of ours; a user's value would break it without a word."""


class Role(StrEnum):
    """The kinds of worker, each a consumer group of its own."""

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
    """What stands behind httpx's transport interface (`PROCESSOR_HTTP_TRANSPORT`)."""

    LEAN = "lean"
    HTTPX = "httpx"


class Traces(StrEnum):
    """Where spans go (`PROCESSOR_TRACES`)."""

    OFF = "off"
    OTLP = "otlp"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `requests` in any window of `window_s` seconds; written `120/60s`."""

    requests: int
    window_s: float

    def __str__(self) -> str:
        return f"{self.requests}/{self.window_s:g}s"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where an API key comes from: its value, or a file that is read again when it changes. Never printed."""

    value: str = field(default="", repr=False)
    file: Path | None = None


# ---- parsers: text → value, or ValueError with what was expected ---------------------------------------------------

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)\Z")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """`500ms`, `5s`, `5m`, `24h`, `400d` in seconds."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError("a duration such as 500ms, 5s, 5m, 24h or 400d")
    return float(match[1]) * _SECONDS[match[2]]


def quota(text: str) -> Quota:
    count, _, window = text.partition("/")
    try:
        parsed = Quota(int(count), duration_s(window))
    except ValueError:
        raise ValueError("a quota such as 120/60s: requests, a slash, a window") from None
    if parsed.requests < 1 or parsed.window_s <= 0:
        raise ValueError("a quota of at least one request in a window longer than nothing")
    return parsed


def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"true", "1", "yes", "on"}:
        return True
    if lowered in {"false", "0", "no", "off"}:
        return False
    raise ValueError("true or false")


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a share from 0 to 1") from None
    if not 0 <= value <= 1:
        raise ValueError("a share from 0 to 1")
    return value


def some_share(text: str) -> float:
    value = share(text)
    if value == 0:
        raise ValueError("a share above 0, up to 1")
    return value


def seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"seconds from {low:g} to {high:g}") from None
        if not low <= value <= high:
            raise ValueError(f"seconds from {low:g} to {high:g}")
        return value

    return parse


def url(text: str) -> str:
    if not re.match(r"https?://[^/\s?#@]+(/[^\s?#]*)?\Z", text):
        raise ValueError("a URL that starts with http:// or https:// and has neither a query nor a user and password")
    if _is_link_local(text):
        raise ValueError("a URL of an API: a link-local address is a cloud's metadata, which would be told the key")
    return text.rstrip("/")


def _is_link_local(text: str) -> bool:
    try:
        address = ip_address(urlsplit(text).hostname or "")
    except ValueError:
        return False  # a name, which the network's policy is for
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_link_local


def urls(text: str) -> str:
    """One or more registry URLs, separated by commas, as confluent's client takes them."""
    return ",".join(url(part.strip()) for part in text.split(","))


def api_key(text: str) -> str:
    """An API key as a header can carry it. A newline would let its bytes become headers of their own."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("an API key: printable ASCII without spaces or newlines")
    return text


def prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", text):
        raise ValueError("at most 100 of letters, digits, dot, underscore and hyphen")
    return text


def one_line(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("at most 200 printable characters")
    return text


def host_port(text: str) -> str:
    if not all(part.strip() for part in text.split(",")):
        raise ValueError("brokers such as kafka-1:9092,kafka-2:9092")
    return text


_Choice = TypeVar("_Choice", bound=StrEnum)


def one_of(kind: type[_Choice]) -> Callable[[str], _Choice]:
    def parse(text: str) -> _Choice:
        try:
            return kind(text)
        except ValueError:
            raise ValueError("one of " + ", ".join(kind)) from None

    return parse


_SECRETS: Final = ("_API_KEY", "_USER_INFO")
"""How the names of settings end that are never shown."""


def setting(name: str, parse: Callable[[str], Any], default: str | None, unit: str, meaning: str) -> Any:
    """Declares one setting: its environment variable, parser, default as a user would write it, unit and meaning."""
    declared = {"name": name, "parse": parse, "default": default, "unit": unit, "meaning": meaning}
    return field(metadata=declared, repr=not name.endswith(_SECRETS))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a process is told. Fields are declared by `setting`; the table in deploy/SETTINGS.md says the same."""

    bootstrap_servers: str = setting(
        "KAFKA_BOOTSTRAP_SERVERS", host_port, "", "host:port,…", "The Kafka brokers to ask first"
    )
    registry_url: str = setting("SCHEMA_REGISTRY_URL", urls, "", "URL", "The schema registry (Confluent's API)")
    registry_auth: str = setting(
        "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", str, "", "user:password", "Basic auth for the registry"
    )

    hakuna_api: Api = setting("HAKUNA_API", one_of(Api), "events", "events | feed", "Which of Hakuna's APIs is spoken")
    hakuna_environment: HakunaEnvironment = setting(
        "HAKUNA_ENVIRONMENT",
        one_of(HakunaEnvironment),
        "sandbox",
        "sandbox | production",
        "Which base URL is used",
    )
    hakuna_base_url: str = setting("HAKUNA_BASE_URL", url, "", "URL", "Overrides the environment's base URL")
    hakuna_key_value: str = setting("HAKUNA_API_KEY", api_key, "", "text", "Hakuna's API key")
    hakuna_key_file: str = setting(
        "HAKUNA_API_KEY_FILE", str, "", "path", "A file with Hakuna's API key, read again when it changes"
    )
    hakuna_auth_header: AuthHeader = setting(
        "HAKUNA_AUTH_HEADER",
        auth_header("Bearer"),
        "Authorization",
        "header[: scheme]",
        "The header that the key is sent in, and the scheme before it: `Authorization` alone means `Bearer`",
    )
    hakuna_ca_file: str = setting(
        "HAKUNA_CA_FILE", str, "", "path", "Authorities that Hakuna's certificate is trusted by, and no others; PEM"
    )
    hakuna_client_cert_file: str = setting(
        "HAKUNA_CLIENT_CERT_FILE", str, "", "path", "A client certificate for Hakuna, PEM; read again when it changes"
    )
    hakuna_client_key_file: str = setting(
        "HAKUNA_CLIENT_KEY_FILE", str, "", "path", "Its key, where it is not in the same file"
    )
    hakuna_version: str = setting("HAKUNA_VERSION", api_key, "v1.2", "text", "The `Hakuna-Version` header")
    hakuna_orders: Orders = setting(
        "HAKUNA_ORDERS",
        one_of(Orders),
        "all",
        "all | protected",
        "Whether orders without protection are sent",
    )
    hakuna_quota: Quota | None = setting(
        "HAKUNA_QUOTA",
        quota,
        "",
        "requests/window",
        "Never more requests in any window; without it: adaptive",
    )
    hakuna_fulfil_protection: bool = setting(
        "HAKUNA_FULFIL_PROTECTION",
        boolean,
        "true",
        "true | false",
        "Events API: fulfil protection with its product",
    )

    hako_base_url: str = setting("HAKO_BASE_URL", url, "https://api.withhako.com/v0", "URL", "Hako's base URL")
    hako_key_value: str = setting("HAKO_API_KEY", api_key, "", "text", "Hako's API key")
    hako_key_file: str = setting(
        "HAKO_API_KEY_FILE", str, "", "path", "A file with Hako's API key, read again when it changes"
    )
    hako_auth_header: AuthHeader = setting(
        "HAKO_AUTH_HEADER",
        auth_header("Basic"),
        "Authorization",
        "header[: scheme]",
        "As for Hakuna; `Authorization` alone means `Basic`, the key as user name",
    )
    hako_ca_file: str = setting("HAKO_CA_FILE", str, "", "path", "As for Hakuna")
    hako_client_cert_file: str = setting("HAKO_CLIENT_CERT_FILE", str, "", "path", "As for Hakuna")
    hako_client_key_file: str = setting("HAKO_CLIENT_KEY_FILE", str, "", "path", "As for Hakuna")
    hako_quota: Quota | None = setting(
        "HAKO_QUOTA", quota, "120/60s", "requests/window", "Never more requests to Hako in any window"
    )

    state_dir: str = setting(
        "PROCESSOR_STATE_DIR", str, "/var/lib/hakuna-processor", "path", "Where the keyed state is kept"
    )
    state_cache_bytes: int = setting(
        "PROCESSOR_STATE_CACHE_BYTES",
        whole(1 << 20, 1 << 36),
        "67108864",
        "bytes",
        "RocksDB's block cache, shared by all partitions of a worker",
    )
    state_write_buffer_bytes: int = setting(
        "PROCESSOR_STATE_WRITE_BUFFER_BYTES",
        whole(1 << 16, 1 << 32),
        "4194304",
        "bytes",
        "RocksDB's write buffer, one a partition (two at most in memory)",
    )
    metrics_port: int = setting(
        "PROCESSOR_METRICS_PORT",
        whole(0, 65535),
        "9400",
        "port",
        "/metrics, /livez, /readyz, /status; 0: any free port",
    )
    log_format: LogFormat = setting(
        "PROCESSOR_LOG_FORMAT", one_of(LogFormat), "json", "json | console", "How logs look"
    )
    log_level: LogLevel = setting(
        "PROCESSOR_LOG_LEVEL",
        one_of(LogLevel),
        "INFO",
        "DEBUG | INFO | WARNING | ERROR",
        "The least level logged",
    )
    drain_s: float = setting(
        "PROCESSOR_DRAIN_SECONDS",
        seconds(1, 600),
        "25",
        "s",
        "How long SIGTERM may take to finish what is in flight",
    )
    topic_prefix: str = setting("PROCESSOR_TOPIC_PREFIX", prefix, "", "text", "Goes before every topic name")
    group_prefix: str = setting(
        "PROCESSOR_GROUP_PREFIX", prefix, "", "text", "Goes before every consumer group and transactional ID"
    )
    batch_records_max: int = setting(
        "PROCESSOR_BATCH_RECORDS_MAX",
        whole(1, 100_000),
        "5000",
        "records",
        "The most records of one transaction",
    )
    merge_wait_s: float = setting(
        "PROCESSOR_MERGE_WAIT",
        duration_s,
        "30s",
        "duration",
        "The longest that a partition waits for a topic that has more at the broker but does not deliver it",
    )
    park_for_s: float = setting(
        "PROCESSOR_PARK_FOR",
        duration_s,
        "24h",
        "duration",
        "How long an event waits for its order to be placed, and a level for its item and warehouse",
    )
    order_retention_s: float = setting(
        "PROCESSOR_ORDER_RETENTION",
        duration_s,
        "400d",
        "duration",
        "How long an order is kept after its last event",
    )
    in_flight_max: int = setting(
        "PROCESSOR_IN_FLIGHT_MAX",
        whole(1, 16_384),
        "1024",
        "requests",
        "The most requests in flight per destination",
    )
    request_timeout_s: float = setting(
        "PROCESSOR_REQUEST_TIMEOUT", duration_s, "30s", "duration", "The longest that one request may take"
    )
    feed_batch_max: int = setting(
        "PROCESSOR_FEED_BATCH_MAX",
        whole(1, 1000),
        "100",
        "orders",
        "The most orders in one request of the feed",
    )
    feed_batch_bytes_max: int = setting(
        "PROCESSOR_FEED_BATCH_BYTES_MAX",
        whole(1024, 1 << 27),
        "1000000",
        "bytes",
        "The most bytes of such a request",
    )
    feed_linger_ms: int = setting(
        "PROCESSOR_FEED_LINGER_MS",
        whole(0, 60_000),
        "200",
        "ms",
        "How long a quiet feed waits to fill a request",
    )
    hako_batch_max: int = setting(
        "PROCESSOR_HAKO_BATCH_MAX",
        whole(1, 10_000),
        "500",
        "objects",
        "The most objects in one request to Hako",
    )
    hako_batch_bytes_max: int = setting(
        "PROCESSOR_HAKO_BATCH_BYTES_MAX",
        whole(1024, 1 << 27),
        "90000",
        "bytes",
        "The most bytes of such a request",
    )
    hako_keys_max: int = setting(
        "PROCESSOR_HAKO_KEYS_MAX",
        whole(1000, 100_000_000),
        "1000000",
        "objects",
        "The most objects that wait to be told to Hako, 2.5 kB each; beyond it the topics are read as they are sent",
    )
    hako_catch_up_s: float = setting(
        "PROCESSOR_HAKO_CATCH_UP",
        duration_s,
        "10m",
        "duration",
        "How long hako may read its topics to their ends after an assignment, before it sends anything",
    )
    poison_after_s: float = setting(
        "PROCESSOR_POISON_AFTER",
        duration_s,
        "5m",
        "duration",
        "How long one entry must be answered 5xx, while others pass, to be a dead letter",
    )
    replay_share_max: float = setting(
        "PROCESSOR_REPLAY_SHARE_MAX",
        some_share,
        "0.5",
        "share",
        "What replays of dead letters may take of the quota; live traffic goes first even so",
    )
    dead_letter_share_max: float = setting(
        "PROCESSOR_DEAD_LETTER_SHARE_MAX",
        share,
        "0.5",
        "share",
        "More dead letters than this among the last 1,000 records stop the role",
    )
    operator: str = setting(
        "PROCESSOR_OPERATOR",
        one_line,
        "",
        "text",
        "Who it was, on record, where a command is not given `--by`; the user and host without it",
    )
    rekey: bool = setting(
        "PROCESSOR_REKEY",
        boolean,
        "off",
        "off | on",
        "Whether rekey brings orders of any key, partitioner and partition count to where transform reads them",
    )
    http_transport: HttpTransport = setting(
        "PROCESSOR_HTTP_TRANSPORT",
        one_of(HttpTransport),
        "lean",
        "lean | httpx",
        "Which HTTP client sends: our own, which is a hundred times cheaper, or httpx's",
    )
    traces: Traces = setting(
        "PROCESSOR_TRACES",
        one_of(Traces),
        "off",
        "off | otlp",
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
        """What every Kafka client is given, under librdkafka's names."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.kafka}

    def topic(self, name: str) -> str:
        return self.topic_prefix + name

    def group(self, role: Role) -> str:
        return f"{self.group_prefix}hakuna-processor.{role}"

    def configured_roles(self) -> tuple[Role, ...]:
        """The roles that `run` without `--role` starts: those whose own settings are there."""
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


def load(
    environment: Mapping[str, str],
    roles: tuple[Role, ...] | None = None,
    refused: Callable[[Mapping[str, str]], list[str]] = lambda _kafka: [],
) -> Settings:
    """Reads settings; `roles` are those that shall run (None: nobody runs, only the syntax is checked), `refused` says
    what librdkafka has against its own.

    Raises `Unusable` with every problem at once. An empty value counts as not set, as in most orchestrators.
    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIXES) and value != ""}
    problems = _service_links(given)
    values: dict[str, Any] = {}
    for declared in declarations():
        text = given.pop(declared.name, declared.default)
        if not text:
            values[declared.field] = None if declared.parse is quota else ""
            continue
        try:
            values[declared.field] = declared.parse(text)
        except ValueError as wrong:
            shown = "the value given" if declared.secret or "@" in text else repr(text)
            problems.append(f"{declared.name}: {shown} is not {wrong}")
            values[declared.field] = None
    values["kafka"] = _librdkafka(given, problems)
    problems.extend(refused(values["kafka"]))
    values["proxies"] = _proxies(environment)
    problems.extend(_unknown(name) for name in sorted(given))
    settings = Settings(**values)
    problems.extend(_relations(settings, roles, {problem.partition(":")[0] for problem in problems}))
    if problems:
        raise Unusable(problems)
    return settings


def _librdkafka(given: dict[str, str], problems: list[str]) -> dict[str, str]:
    """Takes what is left of `KAFKA_*` as librdkafka settings."""
    passed: dict[str, str] = {}
    for name in [name for name in given if name.startswith("KAFKA_")]:
        value = given.pop(name)
        key = name.removeprefix("KAFKA_").lower().replace("_", ".")
        if key in KAFKA_OWNED:
            problems.append(f"{name}: {key} belongs to the processor, since a guarantee rests on it; leave it out")
        else:
            passed[key] = value
    return passed


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Names in lower case win, as curl and Python have it. Which of them is used depends on the URL."""
    named = {kind: (f"{kind}_proxy", f"{kind.upper()}_PROXY") for kind in ("https", "http", "all", "no")}
    found = {kind: environment.get(lower) or environment.get(upper) or "" for kind, (lower, upper) in named.items()}
    return {kind: value for kind, value in found.items() if value}


def _unknown(name: str) -> str:
    """People take one prefix for another, and the whole of two names is alike by their prefix alone."""
    prefix, tail = _parted(name)

    def likeness(known: str) -> float:
        its_prefix, its_tail = _parted(known)
        return difflib.SequenceMatcher(None, tail, its_tail).ratio() + _SAME_PREFIX * (prefix == its_prefix)

    nearest, *others = sorted((one.name for one in declarations()), key=likeness, reverse=True)
    alike = [other for other in others if _parted(other)[1] == _parted(nearest)[1] == tail]
    return f"{name}: no such setting; the nearest is {nearest}" + (f" (or {', '.join(alike)})" if alike else "")


_SAME_PREFIX: Final = 0.2


def _parted(name: str) -> tuple[str, str]:
    prefix = next(one for one in PREFIXES if name.startswith(one))
    return prefix, name.removeprefix(prefix)


_LINK: Final = re.compile(
    r"(?P<service>\w+?)_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(?P<port>_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z"
)
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def _service_links(given: dict[str, str]) -> list[str]:
    """Takes away what Kubernetes sets in every pod for a Service whose name begins as our settings do."""
    links: dict[str, list[str]] = {}
    for name, value in given.items():
        link = _LINK.match(name)
        if link is not None and ("_SERVICE_" in name or link["port"] or _ADDRESS.match(value)):
            links.setdefault(link["service"].lower().replace("_", "-"), []).append(name)
    for names in links.values():
        for name in names:
            del given[name]
    return [
        f"{', '.join(sorted(names))}: Kubernetes sets {'these' if len(names) > 1 else 'this'} for the Service named "
        f"{service}, and nobody meant a setting; set enableServiceLinks: false in the pod's spec"
        for service, names in sorted(links.items())
    ]


def _relations(settings: Settings, roles: tuple[Role, ...] | None, broken: set[str]) -> list[str]:
    """What must hold between settings. `broken` names those already complained of, which are not judged again."""
    problems: list[str] = []

    def need(holds: bool, name: str, message: str) -> None:
        if not holds and name not in broken:
            problems.append(f"{name}: {message}")

    for name, value, file in (
        ("HAKUNA_API_KEY", settings.hakuna_key_value, settings.hakuna_key_file),
        ("HAKO_API_KEY", settings.hako_key_value, settings.hako_key_file),
    ):
        need(not (value and file), name, f"set either {name} or {name}_FILE, not both")
    if not broken & {"PROCESSOR_PARK_FOR", "PROCESSOR_ORDER_RETENTION"}:
        need(
            settings.park_for_s < settings.order_retention_s,
            "PROCESSOR_PARK_FOR",
            "must be shorter than PROCESSOR_ORDER_RETENTION, or an order would be forgotten while events wait for it",
        )
    if roles is None:
        return problems
    need(
        bool(settings.bootstrap_servers),
        "KAFKA_BOOTSTRAP_SERVERS",
        "not set; such as kafka-1:9092,kafka-2:9092",
    )
    if not roles:
        problems.append("SCHEMA_REGISTRY_URL, HAKUNA_API_KEY, HAKO_API_KEY: none is set, so no role is configured")
    readers = [role for role in (Role.TRANSFORM, Role.REKEY, Role.HAKO) if role in roles]
    if readers:
        need(
            bool(settings.registry_url),
            "SCHEMA_REGISTRY_URL",
            f"not set; {readers[0]} needs the writers' schemas",
        )
    if Role.REKEY in roles:
        need(
            settings.rekey,
            "PROCESSOR_REKEY",
            "off, so transform would not read what rekey writes; set it to on for both, or leave rekey out",
        )
    if Role.SEND in roles:
        need(
            settings.hakuna_key is not None,
            "HAKUNA_API_KEY",
            "not set; send needs it, or HAKUNA_API_KEY_FILE with the path of a file that holds it",
        )
    if Role.HAKO in roles:
        need(
            settings.hako_key is not None,
            "HAKO_API_KEY",
            "not set; hako needs it, or HAKO_API_KEY_FILE with the path of a file that holds it",
        )
        need(settings.hako_quota is not None, "HAKO_QUOTA", "a quota such as 120/60s is needed: Hako allows no more")
    return problems


@dataclass(frozen=True, slots=True)
class Declaration:
    """One row of the settings table."""

    field: str
    name: str
    parse: Callable[[str], Any]
    default: str
    unit: str
    meaning: str

    @property
    def secret(self) -> bool:
        return self.name.endswith(_SECRETS)


def declarations() -> tuple[Declaration, ...]:
    """Every setting, in the order of the table."""
    return _DECLARATIONS


def _declared(of: Field[Any]) -> Declaration:
    return Declaration(field=of.name, **of.metadata)


_DECLARATIONS: Final = tuple(_declared(of) for of in fields(Settings) if of.metadata)

"""The composition root: the only place that builds edges, wires roles and handles signals.

    settings ─► edges ─► one RoleThread a role ─► SIGTERM or SIGINT ─► drain ─► exit code

Reading order: `run` (a process's life), then `_transform`, `_send` and `_hako` (what each role is made of).
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Generic, assert_never

import httpx
import structlog
import uvloop

from processor.config import Role, Settings, Traces
from processor.dead_letters.holds import Holds
from processor.edges.avro import AvroDecoder, Schemas, reader_schema
from processor.edges.avro_compat import unreadable
from processor.edges.clock import SystemClock
from processor.edges.health import HealthServer
from processor.edges.http_choice import Implementation, transport_for
from processor.edges.http_connection import HttpLimits
from processor.edges.http_request import RequestTemplate
from processor.edges.kafka_admin import KafkaAdmin, TopicState
from processor.edges.kafka_client import KafkaSettings
from processor.edges.kafka_consumer import Assignment, KafkaConsumer
from processor.edges.kafka_groups import KafkaGroups
from processor.edges.kafka_predecessors import Predecessors
from processor.edges.kafka_producer import KafkaProducer
from processor.edges.kafka_reader import KafkaReader
from processor.edges.kafka_topology import KafkaTopology
from processor.edges.kafka_transaction import KafkaTransaction, abort_left_behind
from processor.edges.keys import key_of
from processor.edges.metrics import BUILD_INFO, USEFUL_REPLICAS, PrometheusSendMeter, PrometheusTransformMeter, Restores
from processor.edges.rocks import StateDirectory
from processor.edges.traces import Tracing
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.hako.changes import Change, Table
from processor.hako.destination import Hako
from processor.hakuna import Api
from processor.hakuna.destination import HakunaEvents, HakunaFeed
from processor.records import OrderEvent, OutboxEntry, Record
from processor.roles import Loop, RoleThread
from processor.send.destination import EntryT
from processor.send.endpoint import Endpoint
from processor.send.handover import Handover
from processor.send.intake import OutboxIntake
from processor.send.pace import quota_problem, useful_replicas
from processor.send.role import SendEdges, SendRole
from processor.send.sender import Sender
from processor.send.settings import SenderSettings, SendSettings, SendTopics
from processor.send.takeover import HoldsPast
from processor.stock.gathering import Gathering
from processor.stock.intake import Decode as Fields
from processor.stock.intake import Intake
from processor.stock.sent import SentObjects, SentPast
from processor.topics import BOOKS, NEEDED, ORDER_TOPICS, STOCK_TOPICS, Topic, make_book, missing, problems
from processor.transform.batch import Decode, Plan
from processor.transform.decode import ORDER_EVENT
from processor.transform.rules import Rules
from processor.transform.transformer import TransformEdges, Transformer, TransformPlan
from processor.watch import Work

if TYPE_CHECKING:
    from processor.edges.registry import Registry

log = structlog.get_logger(__name__)

HOLDS_STORE: Final = 0
"""The one store of a send worker; it holds the holds of all its partitions."""
FILES_MAX: Final = 65_536
HAKO_IN_FLIGHT_MAX: Final = 8
"""Requests to Hako at once: two a second are allowed, and none of them takes long."""
HAKO_LINGER_S_MAX: Final = 5.0
"""How long a change waits for others to fill its array where the quota is small."""
HAKO_BYTES_MAX: Final = 512 * 1024 * 1024
"""What will be sent of the changes that wait: a million names of a kilobyte each would be a gigabyte."""
TABLES: Final = {
    Topic.LEVELS: Table.INVENTORY,
    Topic.ITEMS: Table.ITEMS,
    Topic.WAREHOUSES: Table.WAREHOUSES,
}
_AFTER_DRAIN_S: Final = 2.0
"""What a role may take beyond its drain to close its clients."""


def run(settings: Settings, roles: tuple[Role, ...]) -> int:
    """Runs these roles until a signal or a failure. Returns the exit code: 0 after a drain, 78, or 1."""
    clock = SystemClock()
    over = threading.Event()
    restores = Restores()
    try:
        tracing = _tracing(settings, roles)
    except Unusable as unusable:
        return _unusable(unusable)
    builders = {Role.TRANSFORM: _transform, Role.SEND: _send, Role.HAKO: _hako}
    threads = [
        RoleThread(role, partial(builders[role], settings, clock, restores, tracing), clock, over.set) for role in roles
    ]
    BUILD_INFO.labels(*_build()).set(1)
    _open_files()
    _tune()
    try:
        health = HealthServer(settings.metrics_port, list(threads))
    except Unusable as unusable:
        return _unusable(unusable)
    log.info("serving health", port=health.port)
    _stop_on_signals(over)
    for thread in threads:
        thread.start()
    over.wait()
    for thread in threads:
        thread.stop()
    deadline_s = clock.monotonic_s() + settings.drain_s + _AFTER_DRAIN_S
    late = [thread for thread in threads if not thread.join(max(0.0, deadline_s - clock.monotonic_s()))]
    health.close()
    if tracing is not None:
        tracing.close()
    return _exit_code(threads, late)


def _tracing(settings: Settings, roles: tuple[Role, ...]) -> Tracing | None:
    """Spans, where they are asked for. Raises `Unusable` where they cannot be had."""
    match settings.traces:
        case Traces.OFF:
            return None
        case Traces.OTLP:
            return Tracing("-".join(["hakuna-processor", *roles]), _build()[0])
        case _:
            assert_never(settings.traces)


def _tune() -> None:
    """CPython for a process that makes millions of small objects and has two busy threads.

    Both by figure: the collector at its own threshold looks at every connection far too often (a sender 72 → 49 µs an
    entry), and a thread that waits 5 ms for the interpreter makes the other one idle (16,000 → 19,000 a second).
    """
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.0005)


def _open_files() -> None:
    """As many files as we may have: a thousand requests in flight meet the usual soft limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_on_signals(over: threading.Event) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        if over.is_set():
            os._exit(1)  # whoever asks a second time does not want to wait for the drain
        log.info("signal", signal=signal.Signals(number).name)
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _exit_code(threads: list[RoleThread], late: list[RoleThread]) -> int:
    for thread in late:
        log.error("the drain took too long; what is unfinished is taken again by the next worker", role=thread.role)
    code = 1 if late else 0
    for thread in threads:
        if isinstance(thread.failure, Unusable):
            code = max(code, _unusable(thread.failure))
        elif thread.failure is not None:
            log.error("role failed", role=thread.role.value, why=str(thread.failure))
            traceback.print_exception(thread.failure, file=sys.stderr)
            code = max(code, thread.exit_code())
    return code


def _unusable(unusable: Unusable) -> int:
    for problem in unusable.problems:
        log.error("unusable", problem=problem)
    return 78


# ---- transform -----------------------------------------------------------------------------------------------------


def _transform(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The transform role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    from processor.edges.registry import Registry as Client  # takes 0.7 s to import, and only transform needs it

    kafka = settings.librdkafka
    group = settings.group(Role.TRANSFORM)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-transform-start")
    described = _topics(settings, Role.TRANSFORM, admin)
    registry = Client.at(settings)
    _readable(settings, registry)
    changelog = settings.topic(Topic.CHANGELOG)
    USEFUL_REPLICAS.labels(Role.TRANSFORM).set(described[changelog].partitions)  # a partition has one worker
    # From here on nothing is waited for: a directory that was claimed stays claimed until the process ends.
    stores = StateDirectory(Path(settings.state_dir), settings.state_cache_bytes, settings.state_write_buffer_bytes)
    client_id = f"hakuna-processor-transform-{stores.worker}"
    consumer = KafkaConsumer(kafka, group=group, assignment=Assignment.RANGE, client_id=client_id)
    transaction = KafkaTransaction(
        kafka, transactional_id=f"{group}.{stores.worker}", consumer=consumer, client_id=client_id
    )

    def limit(topic: Topic) -> int:
        state = described[settings.topic(topic)]
        return min(transaction.record_bytes_max, int(state.config["max.message.bytes"]))

    meter = PrometheusTransformMeter(restores)
    edges = TransformEdges(
        consumer=consumer,
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        transaction=transaction,
        predecessors=Predecessors(
            KafkaGroups(kafka, client_id=client_id),
            group,
            stores.worker,
            lambda worker: abort_left_behind(kafka, f"{group}.{worker}", client_id=client_id),
        ),
        topology=KafkaTopology(
            admin, {settings.topic(topic): described[settings.topic(topic)] for topic in NEEDED[Role.TRANSFORM]}, clock
        ),
        stores=stores,
        clock=clock,
        meter=meter if tracing is None else tracing.meter(meter),
    )
    plan = TransformPlan(
        topics=tuple(settings.topic(topic) for topic in ORDER_TOPICS),
        changelog=changelog,
        changelog_identity=f"{changelog}/{described[changelog].topic_id}",
        changelog_tombstones_ms=int(described[changelog].config["delete.retention.ms"]),
        worker=stores.worker,
        batch_records_max=settings.batch_records_max,
        merge_wait_s=settings.merge_wait_s,
        retention_ms=round(settings.order_retention_s * 1000),
        dead_letter_share_max=settings.dead_letter_share_max,
        decide=Plan(
            group=group,
            outbox=settings.topic(Topic.OUTBOX),
            dead_letters=settings.topic(Topic.ORDER_DEAD_LETTERS),
            rules=Rules(
                api=settings.hakuna_api,
                orders=settings.hakuna_orders,
                fulfil_protection=settings.hakuna_fulfil_protection,
                park_for_ms=round(settings.park_for_s * 1000),
            ),
            decoders=decoders(settings, registry),
            entry_bytes_max=limit(Topic.OUTBOX),
            state_bytes_max=limit(Topic.CHANGELOG),
            letter_bytes_max=limit(Topic.ORDER_DEAD_LETTERS),
        ),
    )
    transformer = Transformer(plan, edges)
    transformer.start()
    return _TransformLoop(transformer)


class _TransformLoop:
    """The transformer, as its thread and the endpoints see it."""

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer

    def turn(self) -> None:
        self._transformer.turn()

    def stop(self) -> None:
        self._transformer.stop()

    def unready(self) -> list[str]:
        return self._transformer.unready()

    def status(self) -> dict[str, Any]:
        return {"partitions": [asdict(source) for source in self._transformer.status]}

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        return self._transformer.progress()


def decoders(settings: Settings, registry: Schemas) -> Mapping[str, Decode]:
    """For each source topic, whole name, from a record to an order event."""
    return {settings.topic(topic): _decoder(topic, registry) for topic in ORDER_TOPICS}


def _decoder(topic: Topic, registry: Schemas) -> Decode:
    avro = AvroDecoder(reader_schema(topic), registry)
    event = ORDER_EVENT[topic]

    def decode(record: Record) -> OrderEvent:
        return event(avro.decode(record))

    return decode


def _readable(settings: Settings, registry: Registry, topics: Iterable[Topic] = ORDER_TOPICS) -> None:
    """Raises `Unusable` where a topic's newest schema cannot be read with ours, `RegistryOutage` without an answer."""
    wrong: list[str] = []
    for topic in topics:
        subject = f"{settings.topic(topic)}-value"
        latest = registry.latest(subject)
        why = None if latest is None else unreadable(reader_schema(topic), latest)
        if why is not None:
            wrong.append(
                f"{subject}: its latest schema cannot be read with this version's: {why}; "
                "deploy a version that can, or take the schema back"
            )
    if wrong:
        raise Unusable(wrong)


# ---- send ----------------------------------------------------------------------------------------------------------


def _send(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The send role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    kafka = settings.librdkafka
    group = settings.group(Role.SEND)
    described = _topics(settings, Role.SEND, KafkaAdmin(kafka, client_id="hakuna-processor-send-start"))
    outbox = settings.topic(Topic.OUTBOX)
    partitions = described[outbox].partitions
    if settings.hakuna_quota is not None:
        problem = quota_problem(settings.hakuna_quota, partitions, "HAKUNA_QUOTA")
        if problem is not None:
            raise Unusable([problem])
    USEFUL_REPLICAS.labels(Role.SEND).set(useful_replicas(settings.hakuna_quota, partitions, settings.in_flight_max))
    assert settings.hakuna_key is not None, "send was started without a key"
    key = key_of(settings.hakuna_key, "HAKUNA_API_KEY_FILE")
    stores = StateDirectory(
        Path(settings.state_dir) / Role.SEND, settings.state_cache_bytes, settings.state_write_buffer_bytes
    )
    stores.wipe(HOLDS_STORE)  # holds belong to assignments, and those end with the process
    client_id = f"hakuna-processor-send-{stores.worker}"
    destination = _hakuna(settings)
    meter = PrometheusSendMeter(Role.SEND, restores)
    handover: Handover[OutboxEntry] = Handover()
    url = httpx.URL(settings.hakuna_url)
    transport = transport_for(
        url,
        Implementation(settings.http_transport),
        HttpLimits(connections_max=settings.in_flight_max, total_s_max=settings.request_timeout_s),
    )
    if tracing is not None:
        transport = tracing.transport(transport)
    sender = Sender(
        SenderSettings(
            base_url=settings.hakuna_url,
            quota=settings.hakuna_quota,
            partitions_total=partitions,
            in_flight_max=settings.in_flight_max,
            request_s_max=settings.request_timeout_s,
            poison_after_s=settings.poison_after_s,
            replay_share_max=settings.replay_share_max,
        ),
        destination,
        Endpoint(transport, RequestTemplate, settings.hakuna_url, settings.request_timeout_s, clock),
        key,
        Holds(stores.open(HOLDS_STORE)),
        handover,
        clock,
        Random(),
        meter,
    )
    holds = settings.topic(Topic.HOLDS) if settings.hakuna_api is Api.EVENTS else None
    role = SendRole(
        SendSettings(
            topics=SendTopics(
                sources=(outbox,),
                receipts=settings.topic(Topic.DELIVERIES),
                dead_letters=settings.topic(Topic.HAKUNA_DEAD_LETTERS),
                holds=holds,
                offsets=settings.topic(Topic.SEND_OFFSETS),
                resolutions=settings.topic(Topic.RESOLUTIONS) if settings.hakuna_api is Api.FEED else None,
            ),
            group=group,
            dead_letter_share_max=settings.dead_letter_share_max,
            drain_s_max=settings.drain_s,
        ),
        _send_edges(kafka, group, Assignment.COOPERATIVE, client_id, clock, meter),
        handover,
        sender,
        OutboxIntake(destination.entry_types),
        None if holds is None else HoldsPast(holds),
    )
    return SendLoop(role, sender, transport)


def _hakuna(settings: Settings) -> HakunaEvents | HakunaFeed:
    user_agent = f"hakuna-processor/{_build()[0]}"
    match settings.hakuna_api:
        case Api.EVENTS:
            return HakunaEvents(settings.hakuna_version, user_agent)
        case Api.FEED:
            return HakunaFeed(
                settings.hakuna_version,
                user_agent,
                settings.feed_batch_max,
                settings.feed_batch_bytes_max,
                settings.feed_linger_ms / 1000,
            )
        case _:
            assert_never(settings.hakuna_api)


# ---- hako ----------------------------------------------------------------------------------------------------------


def _hako(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The hako role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    from processor.edges.registry import Registry as Client

    kafka = settings.librdkafka
    group = settings.group(Role.HAKO)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-hako-start")
    described = _topics(settings, Role.HAKO, admin)
    resolutions = _resolutions(settings, admin)
    sources = tuple(settings.topic(topic) for topic in STOCK_TOPICS)
    partitions = described[sources[0]].partitions
    quota = settings.hako_quota
    assert quota is not None, "hako was started without a quota"
    assert settings.hako_key is not None, "hako was started without a key"
    problem = quota_problem(quota, partitions, "HAKO_QUOTA")
    if problem is not None:
        raise Unusable([problem])
    USEFUL_REPLICAS.labels(Role.HAKO).set(useful_replicas(quota, partitions, HAKO_IN_FLIGHT_MAX))
    key = key_of(settings.hako_key, "HAKO_API_KEY_FILE")
    registry = Client.at(settings)
    _readable(settings, registry, STOCK_TOPICS)
    stores = StateDirectory(
        Path(settings.state_dir) / Role.HAKO, settings.state_cache_bytes, settings.state_write_buffer_bytes
    )
    stores.wipe(HOLDS_STORE)  # what was sent is read again, for the partitions that are ours then
    client_id = f"hakuna-processor-hako-{stores.worker}"
    destination = Hako(
        user_agent=f"hakuna-processor/{_build()[0]}",
        parcel_entries_max=settings.hako_batch_max,
        parcel_bytes_max=settings.hako_batch_bytes_max,
        linger_s=min(HAKO_LINGER_S_MAX, 2 * quota.window_s / quota.requests),
        park_for_ms=round(settings.park_for_s * 1000),
    )
    meter = PrometheusSendMeter(Role.HAKO, restores)
    handover: Handover[Change] = Handover()
    transport = transport_for(
        httpx.URL(settings.hako_base_url),
        Implementation(settings.http_transport),
        HttpLimits(connections_max=HAKO_IN_FLIGHT_MAX, total_s_max=settings.request_timeout_s),
    )
    if tracing is not None:
        transport = tracing.transport(transport)
    memory = SentObjects(stores.open(HOLDS_STORE))
    sender = Sender(
        SenderSettings(
            base_url=settings.hako_base_url,
            quota=quota,
            partitions_total=partitions,
            in_flight_max=min(HAKO_IN_FLIGHT_MAX, settings.in_flight_max),
            request_s_max=settings.request_timeout_s,
            poison_after_s=settings.poison_after_s,
        ),
        destination,
        Endpoint(transport, RequestTemplate, settings.hako_base_url, settings.request_timeout_s, clock),
        key,
        memory,
        handover,
        clock,
        Random(),
        meter,
        Gathering(memory, destination.parcel_entries_max, destination.parcel_bytes_max, destination.linger_s),
    )
    sent = settings.topic(Topic.HAKO_SENT)
    role = SendRole(
        SendSettings(
            topics=SendTopics(
                sources=sources,
                receipts=sent,
                dead_letters=settings.topic(Topic.HAKO_DEAD_LETTERS),
                holds=None,
                offsets=None,
                resolutions=None if resolutions is None else settings.topic(Topic.RESOLUTIONS),
                resolution_partitions=resolutions,
            ),
            group=group,
            dead_letter_share_max=settings.dead_letter_share_max,
            entries_max=settings.hako_keys_max,
            bytes_max=HAKO_BYTES_MAX,
            catch_up_s_max=settings.hako_catch_up_s,
            partition_share=1,  # what is slow holds its own key and one change of it
            drain_s_max=settings.drain_s,
        ),
        # Range: partition N of the three belongs to one worker, as the quota's shares and `hako.sent` have it.
        _send_edges(kafka, group, Assignment.RANGE, client_id, clock, meter),
        handover,
        sender,
        Intake({settings.topic(topic): (table, _fields(topic, registry)) for topic, table in TABLES.items()}),
        SentPast(sent, {table.value: settings.topic(topic) for topic, table in TABLES.items()}),
    )
    return SendLoop(role, sender, transport)


def _resolutions(settings: Settings, admin: KafkaAdmin) -> int | None:
    """How many partitions the topic of resolutions has; None where it cannot be used, which hako works without."""
    topic = settings.topic(Topic.RESOLUTIONS)
    try:
        described = admin.describe([topic])[topic]
    except Fatal as refused:
        log.warning("letters are not marked superseded", topic=topic, why=str(refused))
        return None
    if described is None:
        log.warning("letters are not marked superseded", topic=topic, why="there is no such topic: `topics create`")
        return None
    return described.partitions


def _fields(topic: Topic, registry: Schemas) -> Fields:
    return AvroDecoder(reader_schema(topic), registry).decode


# ---- what sends, as its thread sees it -----------------------------------------------------------------------------


def _send_edges(
    kafka: KafkaSettings,
    group: str,
    assignment: Assignment,
    client_id: str,
    clock: SystemClock,
    meter: PrometheusSendMeter,
) -> SendEdges:
    return SendEdges(
        consumer=KafkaConsumer(kafka, group=group, assignment=assignment, client_id=client_id),
        producer=KafkaProducer(kafka, client_id=client_id),
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        clock=clock,
        meter=meter,
    )


class SendLoop(Generic[EntryT]):
    """A sending role's two threads as one: its own thread turns the Kafka side, another runs the event loop.

    Mutable: `_failure` is what ended the event loop before it was told to.
    """

    def __init__(self, role: SendRole[EntryT], sender: Sender[EntryT], transport: httpx.AsyncBaseTransport) -> None:
        self._role = role
        self._sender = sender
        self._transport = transport
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()
        role.start()

    def turn(self) -> None:
        if not self._thread.is_alive():
            raise Fatal("the sender's event loop has ended") from self._failure
        self._role.turn()

    def stop(self) -> None:
        self._role.stop()
        self._thread.join(_AFTER_DRAIN_S)

    def unready(self) -> list[str]:
        return self._role.unready()

    def status(self) -> dict[str, Any]:
        return {
            "partitions": [asdict(partition) for partition in self._role.status],
            "destinations": [asdict(self._sender.status())],
        }

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        return self._role.progress()

    def _run(self) -> None:
        try:
            uvloop.run(self._send())
        except BaseException as failure:
            self._failure = failure
            log.error("the sender's event loop has ended", why=repr(failure))

    async def _send(self) -> None:
        self._role.turns.attach(asyncio.get_running_loop())
        try:
            await self._sender.run()
        finally:
            await self._transport.aclose()


# ---- what several roles share ----------------------------------------------------------------------------------


def _topics(settings: Settings, role: Role, admin: KafkaAdmin) -> Mapping[str, TopicState]:
    """What the cluster says of a role's topics, by whole name. Raises `BrokerOutage` while one is missing (somebody
    may be about to make it: we ourselves where only our own books are) or may not be looked at, `Unusable` where one is
    such that no waiting helps."""
    try:
        described = admin.describe([settings.topic(topic) for topic in NEEDED[role]])
    except Fatal as refused:  # a right is missing, and whoever grants it need not start us again
        raise BrokerOutage(str(refused)) from refused
    if absent := missing(role, described, settings.topic_prefix):
        model = described[settings.topic(NEEDED[role][0])]
        books = [topic for topic in NEEDED[role] if topic in BOOKS and settings.topic(topic) in absent]
        if model is not None and len(books) == len(absent):
            with suppress(Fatal):  # no right to make topics: somebody else has to
                for book in books:
                    make_book(admin, book, settings.topic(book), model)
                raise BrokerOutage(f"topics of our own were missing and are made: {', '.join(absent)}")
        raise BrokerOutage(f"topics are missing: {', '.join(absent)}; make them with `hakuna-processor topics create`")
    there = {name: state for name, state in described.items() if state is not None}
    if wrong := problems(role, there, settings.topic_prefix):
        raise Unusable(wrong)
    return there


def _build() -> tuple[str, str]:
    """The version and the revision that this process runs."""
    try:
        installed = version("hakuna-processor")
    except PackageNotFoundError:
        installed = "unknown"
    return installed, os.environ.get("REVISION", "unknown")

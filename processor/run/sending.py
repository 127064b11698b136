"""Builds the sending roles, send and hako."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, assert_never

import httpx
import structlog
import uvloop

from processor.config import Quota, Role, Settings
from processor.config.parsers import KeySource
from processor.edges.avro import AvroDecoder, Schemas, reader_schema
from processor.edges.clock import SystemClock
from processor.edges.http.choice import transport_for
from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Transport
from processor.edges.http.proxies import proxy_for
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import Tls, TlsFiles, hako_tls, hakuna_tls, tls_problems
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.sightings import KafkaTopics
from processor.edges.kafka.throttle import Throttle
from processor.edges.keys import FileKey, FixedKey, key_of
from processor.edges.metrics import USEFUL_REPLICAS, PrometheusSendMeter, Restores
from processor.edges.registry import Registry
from processor.edges.rocks import StateDirectory
from processor.edges.traces import Tracing
from processor.errors import Fatal, Problem, Unusable
from processor.hako.changes import Table
from processor.hako.destination import Hako
from processor.hako.gathering import Gathering
from processor.hako.intake import Decode as Fields
from processor.hako.intake import StockIntake
from processor.hako.sent import SentObjects, SentPast
from processor.hakuna import Api
from processor.hakuna.destination import HakunaEvents, HakunaFeed
from processor.interfaces import Store
from processor.letters.holds import Holds
from processor.run.roles import Loop
from processor.run.start import AFTER_DRAIN_S, build, check_readable, described_topics
from processor.run.start import client_id as named
from processor.send.destination import Destination, EntryT
from processor.send.event_loop.endpoint import Endpoint
from processor.send.event_loop.gatherer import Gatherer, Memory
from processor.send.event_loop.pace import quota_problem, useful_replicas
from processor.send.event_loop.sender import Sender
from processor.send.handover import Handover
from processor.send.kafka_thread.intake import Intake, OutboxIntake
from processor.send.kafka_thread.role import SendEdges, SendRole
from processor.send.kafka_thread.takeover import HoldsPast, Past
from processor.send.settings import SenderSettings, SendSettings, SendTopics
from processor.topics import STOCK_TOPICS, Topic
from processor.watch import Work

log = structlog.get_logger(__name__)

HOLDS_STORE: Final = 0
"""The one store of a send worker; it holds the holds of all its partitions."""
HAKO_IN_FLIGHT_MAX: Final = 8
"""The most requests to Hako at once: it allows two a second, and none of them takes long."""
HAKO_LINGER_S_MAX: Final = 5.0
"""Seconds that a change waits for others to fill its array if the quota is small."""
HAKO_BYTES_MAX: Final = 512 * 1024 * 1024
"""The most bytes of changes that wait: a million names of a kilobyte each would be a gigabyte."""
TABLES: Final = {Topic.LEVELS: Table.INVENTORY, Topic.ITEMS: Table.ITEMS, Topic.WAREHOUSES: Table.WAREHOUSES}


@dataclass(frozen=True, slots=True)
class _Api:
    """The API that a role sends to, as the settings describe it; both names are names of settings."""

    base_url: str
    key: KeySource | None
    key_setting: str
    quota: Quota | None
    quota_setting: str
    in_flight_max: int
    tls: TlsFiles


@dataclass(frozen=True, slots=True)
class _Ground:
    """The parts that both sending roles share."""

    settings: Settings
    role: Role
    api: _Api
    topics: tuple[str, ...]
    partitions: int
    key: FixedKey | FileKey
    store: Store
    client_id: str
    clock: SystemClock
    meter: PrometheusSendMeter
    tracing: Tracing | None


def _ground(
    settings: Settings,
    role: Role,
    api: _Api,
    described: Mapping[str, TopicState],
    partitions: int,
    meter: PrometheusSendMeter,
    tracing: Tracing | None,
    clock: SystemClock,
) -> _Ground:
    """Raises `Unusable` where the quota or the key cannot be used, `KeyMissing` while the key's file is not there.
    Nothing is waited for after it: a directory that was claimed stays claimed until the process ends."""
    if api.quota is not None and (wrong := quota_problem(api.quota, partitions, api.quota_setting)) is not None:
        raise Unusable([wrong])
    USEFUL_REPLICAS.labels(role).set(useful_replicas(api.quota, partitions, api.in_flight_max))
    assert api.key is not None, f"{role} was started without a key"
    key = key_of(api.key, api.key_setting)
    stores = StateDirectory(
        Path(settings.state_dir) / role, settings.state_cache_bytes, settings.state_write_buffer_bytes
    )
    stores.wipe(HOLDS_STORE)  # what is in it belongs to assignments, and those end with the process
    store, client_id = stores.open(HOLDS_STORE), named(role, stores.worker)
    return _Ground(settings, role, api, tuple(described), partitions, key, store, client_id, clock, meter, tracing)


def _loop(
    ground: _Ground,
    sender_settings: SenderSettings,
    destination: Destination[EntryT],
    memory: Memory,
    gatherer: Gatherer[EntryT] | None,
    send_settings: SendSettings,
    assignment: Assignment,
    intake: Intake[EntryT],
    past: Past | None,
) -> SendLoop[EntryT]:
    """Both threads of a sending role, and what is between them."""
    api, kafka = ground.api, ground.settings.librdkafka
    throttle = Throttle(ground.role, log)
    handover: Handover[EntryT] = Handover()
    transport = _transport(ground.settings, api, ground.tracing)
    endpoint = Endpoint(transport, RequestTemplate, api.base_url, ground.settings.request_timeout_s, ground.clock)
    sender = Sender(
        sender_settings,
        destination,
        endpoint,
        ground.key,
        memory,
        handover,
        ground.clock,
        Random(),
        ground.meter,
        gatherer,
    )
    group, client_id = send_settings.group, ground.client_id
    edges = SendEdges(
        consumer=KafkaConsumer(
            kafka, group=group, assignment=assignment, client_id=client_id, resets=False, throttle=throttle
        ),
        producer=KafkaProducer(kafka, client_id=client_id, throttle=throttle),
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        topics=KafkaTopics(KafkaAdmin(kafka, client_id=client_id), ground.topics),
        clock=ground.clock,
        meter=ground.meter,
    )
    role = SendRole(send_settings, edges, handover, sender.standing, intake, past)
    return SendLoop(role, sender, transport, throttle)


def _sender_settings(ground: _Ground, **more: float) -> SenderSettings:
    return SenderSettings(
        base_url=ground.api.base_url,
        quota=ground.api.quota,
        partitions_total=ground.partitions,
        in_flight_max=min(ground.api.in_flight_max, ground.settings.in_flight_max),
        request_s_max=ground.settings.request_timeout_s,
        poison_after_s=ground.settings.poison_after_s,
        **more,
    )


def send(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The send role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    described = described_topics(
        settings, Role.SEND, KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-send-start")
    )
    outbox = settings.topic(Topic.OUTBOX)
    api = _Api(
        settings.hakuna_url,
        settings.hakuna_key,
        "HAKUNA_API_KEY_FILE",
        settings.hakuna_quota,
        "HAKUNA_QUOTA",
        settings.in_flight_max,
        hakuna_tls(settings),
    )
    meter = PrometheusSendMeter(Role.SEND, restores)
    ground = _ground(settings, Role.SEND, api, described, described[outbox].partitions, meter, tracing, clock)
    destination = _hakuna(settings)
    letters, resolutions = settings.topic(Topic.HAKUNA_DEAD_LETTERS), settings.topic(Topic.RESOLUTIONS)
    holds = settings.topic(Topic.HOLDS) if settings.hakuna_api is Api.EVENTS else None
    topics = SendTopics(
        sources=(outbox,),
        receipts=settings.topic(Topic.DELIVERIES),
        dead_letters=letters,
        holds=holds,
        offsets=settings.topic(Topic.SEND_OFFSETS),
        resolutions=resolutions if settings.hakuna_api is Api.FEED else None,
        witnesses=None if holds is None else (letters, resolutions),
    )
    return _loop(
        ground,
        _sender_settings(ground, replay_share_max=settings.replay_share_max),
        destination,
        Holds(ground.store),
        None,
        SendSettings(
            topics=topics,
            group=settings.group(Role.SEND),
            partitions=ground.partitions,
            dead_letter_share_max=settings.dead_letter_share_max,
            drain_s_max=settings.drain_s,
        ),
        Assignment.COOPERATIVE,
        OutboxIntake(destination.entry_types),
        None if holds is None else HoldsPast(holds),
    )


def _hakuna(settings: Settings) -> HakunaEvents | HakunaFeed:
    user_agent = f"hakuna-processor/{build()[0]}"
    match settings.hakuna_api:
        case Api.EVENTS:
            return HakunaEvents(settings.hakuna_version, user_agent, settings.hakuna_auth_header)
        case Api.FEED:
            return HakunaFeed(
                settings.hakuna_version,
                user_agent,
                settings.feed_batch_max,
                settings.feed_batch_bytes_max,
                settings.feed_linger_ms / 1000,
                settings.hakuna_auth_header,
            )
        case _:
            assert_never(settings.hakuna_api)


def hako(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The hako role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    admin = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-hako-start")
    described = described_topics(settings, Role.HAKO, admin)
    resolutions = _resolutions(settings, admin)
    quota = settings.hako_quota
    assert quota is not None, "hako was started without a quota"
    registry = Registry.at(settings)
    check_readable(settings, registry, STOCK_TOPICS)
    api = _Api(
        settings.hako_base_url,
        settings.hako_key,
        "HAKO_API_KEY_FILE",
        quota,
        "HAKO_QUOTA",
        HAKO_IN_FLIGHT_MAX,
        hako_tls(settings),
    )
    meter = PrometheusSendMeter(Role.HAKO, restores)
    partitions = described[settings.topic(STOCK_TOPICS[0])].partitions
    ground = _ground(settings, Role.HAKO, api, described, partitions, meter, tracing, clock)
    memory = SentObjects(ground.store)
    destination = _hako(settings, quota, memory)
    topics = _hako_topics(settings, resolutions)
    return _loop(
        ground,
        _sender_settings(ground),
        destination,
        memory,
        Gathering(memory, destination.parcel_entries_max, destination.parcel_bytes_max, destination.linger_s),
        SendSettings(
            topics=topics,
            group=settings.group(Role.HAKO),
            partitions=ground.partitions,
            dead_letter_share_max=settings.dead_letter_share_max,
            entries_max=settings.hako_keys_max,
            bytes_max=HAKO_BYTES_MAX,
            catch_up_s_max=settings.hako_catch_up_s,
            partition_share=1,  # what is slow holds its own key and one change of it
            drain_s_max=settings.drain_s,
        ),
        # Range: partition N of the three belongs to one worker, as the quota's shares and `hako.sent` have it.
        Assignment.RANGE,
        StockIntake({settings.topic(topic): (table, _fields(topic, registry)) for topic, table in TABLES.items()}),
        SentPast(topics.receipts, {table.value: settings.topic(topic) for topic, table in TABLES.items()}),
    )


def _hako(settings: Settings, quota: Quota, memory: SentObjects) -> Hako:
    return Hako(
        user_agent=f"hakuna-processor/{build()[0]}",
        parcel_entries_max=settings.hako_batch_max,
        parcel_bytes_max=settings.hako_batch_bytes_max,
        linger_s=min(HAKO_LINGER_S_MAX, 2 * quota.window_s / quota.requests),
        park_for_ms=round(settings.park_for_s * 1000),
        grounded=memory.grounded,
        auth=settings.hako_auth_header,
    )


def _hako_topics(settings: Settings, resolutions: int | None) -> SendTopics:
    return SendTopics(
        sources=tuple(settings.topic(topic) for topic in STOCK_TOPICS),
        receipts=settings.topic(Topic.HAKO_SENT),
        dead_letters=settings.topic(Topic.HAKO_DEAD_LETTERS),
        holds=None,
        offsets=None,
        resolutions=None if resolutions is None else settings.topic(Topic.RESOLUTIONS),
        resolution_partitions=resolutions,
    )


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


def way_problems(settings: Settings, roles: Collection[Role]) -> list[Problem]:
    """Returns proxies and certificates that cannot be used, before any request is made."""
    found: list[Problem] = []
    for role, url, files in (
        (Role.SEND, settings.hakuna_url, hakuna_tls(settings)),
        (Role.HAKO, settings.hako_base_url, hako_tls(settings)),
    ):
        if role in roles:
            try:
                proxy_for(httpx.URL(url), settings.proxies)
            except Unusable as unusable:
                found += unusable.named
            found += tls_problems(files, os.environ)
    return list(dict.fromkeys(found))


def _transport(settings: Settings, api: _Api, tracing: Tracing | None) -> Transport:
    """The way to one API. Raises `Unusable` for certificates and proxies that cannot be used."""
    url = httpx.URL(api.base_url)
    proxy = proxy_for(url, settings.proxies)
    log.info(
        "the way to the API",
        host=url.host,
        client=settings.http_transport.value,
        proxy=None if proxy is None else str(proxy),
    )
    limits = HttpLimits(connections_max=api.in_flight_max, total_s_max=settings.request_timeout_s)
    transport = transport_for(settings.http_transport, Tls(api.tls), proxy, limits)
    return transport if tracing is None else tracing.transport(transport)


class SendLoop(Generic[EntryT]):
    """A sending role's two threads as one: its own thread turns the Kafka side, another runs the event loop.

    Mutable: `_failure` is the error that ended the event loop, None while it runs.
    """

    def __init__(
        self, role: SendRole[EntryT], sender: Sender[EntryT], transport: Transport, throttle: Throttle
    ) -> None:
        self._role = role
        self._sender = sender
        self._transport = transport
        self._throttle = throttle
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
        self._thread.join(AFTER_DRAIN_S)

    def fail(self) -> None:
        self._role.fail()
        self._thread.join(AFTER_DRAIN_S)

    def unready(self) -> list[str]:
        return self._role.standing.unready()

    def status(self) -> dict[str, Any]:
        return {
            "partitions": [asdict(partition) for partition in self._role.standing.status],
            "destinations": [asdict(self._sender.standing.status())],
            "brokers": self._throttle.status(),
        }

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        return self._role.standing.progress()

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

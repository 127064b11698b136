"""What the sending roles, send and hako, are made of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, assert_never

import httpx
import structlog
import uvloop

from processor.config import Role, Settings
from processor.edges.avro import AvroDecoder, Schemas, reader_schema
from processor.edges.clock import SystemClock
from processor.edges.http.choice import Implementation, choose, transport_for
from processor.edges.http.connection import HttpLimits
from processor.edges.http.proxies import proxy_for
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import Tls, TlsFiles, hako_tls, hakuna_tls
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import KafkaSettings
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.sightings import KafkaTopics
from processor.edges.kafka.throttle import Throttle
from processor.edges.keys import key_of
from processor.edges.metrics import USEFUL_REPLICAS, PrometheusSendMeter, Restores
from processor.edges.registry import Registry
from processor.edges.rocks import StateDirectory
from processor.edges.traces import Tracing
from processor.errors import Fatal, Unusable
from processor.hako.changes import Change, Table
from processor.hako.destination import Hako
from processor.hako.gathering import Gathering
from processor.hako.intake import Decode as Fields
from processor.hako.intake import Intake
from processor.hako.sent import SentObjects, SentPast
from processor.hakuna import Api
from processor.hakuna.destination import HakunaEvents, HakunaFeed
from processor.letters.holds import Holds
from processor.records import OutboxEntry
from processor.run.roles import Loop
from processor.run.start import AFTER_DRAIN_S, build, check_readable, described_topics
from processor.run.start import client_id as named
from processor.send.destination import EntryT
from processor.send.event_loop.endpoint import Endpoint
from processor.send.event_loop.pace import quota_problem, useful_replicas
from processor.send.event_loop.sender import Sender
from processor.send.handover import Handover
from processor.send.kafka_thread.intake import OutboxIntake
from processor.send.kafka_thread.role import SendEdges, SendRole
from processor.send.kafka_thread.takeover import HoldsPast
from processor.send.settings import SenderSettings, SendSettings, SendTopics
from processor.topics import STOCK_TOPICS, Topic
from processor.watch import Work

log = structlog.get_logger(__name__)

HOLDS_STORE: Final = 0
"""The one store of a send worker; it holds the holds of all its partitions."""
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


def send(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The send role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    kafka = settings.librdkafka
    group = settings.group(Role.SEND)
    described = described_topics(settings, Role.SEND, KafkaAdmin(kafka, client_id="hakuna-processor-send-start"))
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
    client_id = named(Role.SEND, stores.worker)
    destination = _hakuna(settings)
    meter = PrometheusSendMeter(Role.SEND, restores)
    throttle = Throttle(Role.SEND, log)
    handover: Handover[OutboxEntry] = Handover()
    transport = _transport(settings, settings.hakuna_url, settings.in_flight_max, hakuna_tls(settings), tracing)
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
                witnesses=None
                if holds is None
                else (settings.topic(Topic.HAKUNA_DEAD_LETTERS), settings.topic(Topic.RESOLUTIONS)),
            ),
            group=group,
            partitions=partitions,
            dead_letter_share_max=settings.dead_letter_share_max,
            drain_s_max=settings.drain_s,
        ),
        _send_edges(kafka, group, Assignment.COOPERATIVE, client_id, clock, meter, list(described), throttle),
        handover,
        sender,
        OutboxIntake(destination.entry_types),
        None if holds is None else HoldsPast(holds),
    )
    return SendLoop(role, sender, transport, throttle)


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


# ---- hako ----------------------------------------------------------------------------------------------------------


def hako(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The hako role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    kafka = settings.librdkafka
    group = settings.group(Role.HAKO)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-hako-start")
    described = described_topics(settings, Role.HAKO, admin)
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
    registry = Registry.at(settings)
    check_readable(settings, registry, STOCK_TOPICS)
    stores = StateDirectory(
        Path(settings.state_dir) / Role.HAKO, settings.state_cache_bytes, settings.state_write_buffer_bytes
    )
    stores.wipe(HOLDS_STORE)  # what was sent is read again, for the partitions that are ours then
    client_id = named(Role.HAKO, stores.worker)
    memory = SentObjects(stores.open(HOLDS_STORE))
    destination = Hako(
        user_agent=f"hakuna-processor/{build()[0]}",
        parcel_entries_max=settings.hako_batch_max,
        parcel_bytes_max=settings.hako_batch_bytes_max,
        linger_s=min(HAKO_LINGER_S_MAX, 2 * quota.window_s / quota.requests),
        park_for_ms=round(settings.park_for_s * 1000),
        grounded=memory.grounded,
        auth=settings.hako_auth_header,
    )
    meter = PrometheusSendMeter(Role.HAKO, restores)
    throttle = Throttle(Role.HAKO, log)
    handover: Handover[Change] = Handover()
    transport = _transport(settings, settings.hako_base_url, HAKO_IN_FLIGHT_MAX, hako_tls(settings), tracing)
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
            partitions=partitions,
            dead_letter_share_max=settings.dead_letter_share_max,
            entries_max=settings.hako_keys_max,
            bytes_max=HAKO_BYTES_MAX,
            catch_up_s_max=settings.hako_catch_up_s,
            partition_share=1,  # what is slow holds its own key and one change of it
            drain_s_max=settings.drain_s,
        ),
        # Range: partition N of the three belongs to one worker, as the quota's shares and `hako.sent` have it.
        _send_edges(kafka, group, Assignment.RANGE, client_id, clock, meter, list(described), throttle),
        handover,
        sender,
        Intake({settings.topic(topic): (table, _fields(topic, registry)) for topic, table in TABLES.items()}),
        SentPast(sent, {table.value: settings.topic(topic) for topic, table in TABLES.items()}),
    )
    return SendLoop(role, sender, transport, throttle)


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


def _transport(
    settings: Settings, base_url: str, connections_max: int, files: TlsFiles, tracing: Tracing | None
) -> httpx.AsyncBaseTransport:
    """The way to one API. Raises `Unusable` for certificates and proxies that cannot be used."""
    url = httpx.URL(base_url)
    choice = choose(url, Implementation(settings.http_transport), proxy_for(url, settings.proxies))
    log.info(
        "http transport chosen",
        host=url.host,
        implementation=choice.implementation.value,
        reason=choice.reason,
        proxy=None if choice.proxy is None else str(choice.proxy),
    )
    limits = HttpLimits(connections_max=connections_max, total_s_max=settings.request_timeout_s)
    transport = transport_for(choice, limits, Tls(files))
    return transport if tracing is None else tracing.transport(transport)


def _send_edges(
    kafka: KafkaSettings,
    group: str,
    assignment: Assignment,
    client_id: str,
    clock: SystemClock,
    meter: PrometheusSendMeter,
    topics: list[str],
    throttle: Throttle,
) -> SendEdges:
    return SendEdges(
        consumer=KafkaConsumer(
            kafka, group=group, assignment=assignment, client_id=client_id, resets=False, throttle=throttle
        ),
        producer=KafkaProducer(kafka, client_id=client_id, throttle=throttle),
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        topics=KafkaTopics(KafkaAdmin(kafka, client_id=client_id), topics),
        clock=clock,
        meter=meter,
    )


class SendLoop(Generic[EntryT]):
    """A sending role's two threads as one: its own thread turns the Kafka side, another runs the event loop.

    Mutable: `_failure` is what ended the event loop before it was told to.
    """

    def __init__(
        self,
        role: SendRole[EntryT],
        sender: Sender[EntryT],
        transport: httpx.AsyncBaseTransport,
        throttle: Throttle,
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
        return self._role.unready()

    def status(self) -> dict[str, Any]:
        return {
            "partitions": [asdict(partition) for partition in self._role.status],
            "destinations": [asdict(self._sender.status())],
            "brokers": self._throttle.status(),
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

"""Builds the sending roles, send and hako."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, NamedTuple, assert_never

import httpx
import structlog
import uvloop

from processor.config import Quota, Role, Settings
from processor.config.parsers import KeySource
from processor.edges.avro import AvroDecoder, reader_schema
from processor.edges.clock import SystemClock
from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Transport
from processor.edges.http.pool import transport_for
from processor.edges.http.proxies import proxy_for
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import Tls, TlsFiles, hako_tls, hakuna_tls, tls_problems
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.throttle import Throttle
from processor.edges.kafka.topics import KafkaTopics
from processor.edges.keys import FileKey, FixedKey, key_of
from processor.edges.metrics import USEFUL_REPLICAS, PrometheusSendMeter, Restores
from processor.edges.registry import Registry
from processor.edges.rocks import StateDirectory
from processor.edges.traces import Tracing
from processor.errors import Fatal, Problem, Unusable
from processor.hako.changes import Table
from processor.hako.destination import Hako
from processor.hako.gathering import Gathering
from processor.hako.intake import StockIntake
from processor.hako.sent import SentObjects, SentPast
from processor.hakuna import Api
from processor.hakuna.destination import Hakuna, events_api, order_feed
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


class _Api(NamedTuple):
    """The API that a role sends to, as the settings describe it; the names of its settings begin with `prefix`."""

    base_url: str
    prefix: str
    key: KeySource | None
    quota: Quota | None
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

    def loop(
        self,
        topics: SendTopics,
        destination: Destination[EntryT],
        memory: Memory,
        gatherer: Gatherer[EntryT] | None,
        assignment: Assignment,
        intake: Intake[EntryT],
        past: Past | None,
        **limits: float,
    ) -> SendLoop[EntryT]:
        """Builds both threads of a sending role, and what is between them. `limits` are fields of `SendSettings`."""
        settings, api, kafka, group = self.settings, self.api, self.settings.librdkafka, self.settings.group(self.role)
        throttle = Throttle(self.role, log)
        handover: Handover[EntryT] = Handover()
        transport = _transport(settings, api, self.tracing)
        endpoint = Endpoint(transport, RequestTemplate, api.base_url, settings.request_timeout_s, self.clock)
        sender_settings, clock, meter = self._sender_settings(), self.clock, self.meter
        sender = Sender(
            sender_settings, destination, endpoint, self.key, memory, handover, clock, Random(), meter, gatherer
        )
        client: dict[str, Any] = {"client_id": self.client_id, "throttle": throttle}
        edges = SendEdges(
            consumer=KafkaConsumer(kafka, group=group, assignment=assignment, resets=False, **client),
            producer=KafkaProducer(kafka, **client),
            reader=KafkaReader(kafka, group=group, client_id=self.client_id),
            topics=KafkaTopics(KafkaAdmin(kafka, client_id=self.client_id), self.topics),
            clock=clock,
            meter=meter,
        )
        send_settings = SendSettings(
            topics=topics,
            group=group,
            partitions=self.partitions,
            dead_letter_share_max=settings.dead_letter_share_max,
            drain_s_max=settings.drain_s,
            **limits,  # type: ignore[arg-type]  # whole numbers among them
        )
        role = SendRole(send_settings, edges, handover, sender.standing, intake, past)
        return SendLoop(role, sender, transport, throttle)

    def _sender_settings(self) -> SenderSettings:
        settings, api = self.settings, self.api
        return SenderSettings(
            base_url=api.base_url,
            quota=api.quota,
            partitions_total=self.partitions,
            in_flight_max=min(api.in_flight_max, settings.in_flight_max),
            request_s_max=settings.request_timeout_s,
            poison_after_s=settings.poison_after_s,
            replay_share_max=settings.replay_share_max,
        )


def _ground(
    settings: Settings,
    role: Role,
    api: _Api,
    described: Mapping[str, TopicState],
    source: Topic,
    restores: Restores,
    tracing: Tracing | None,
    clock: SystemClock,
) -> _Ground:
    """Raises `Unusable` if the quota or the key cannot be used, `KeyMissing` while the key's file is missing. Nothing
    is waited for after it, because a directory that was claimed stays claimed until the process ends."""
    partitions = described[settings.topic(source)].partitions
    if api.quota is not None and (wrong := quota_problem(api.quota, partitions, f"{api.prefix}_QUOTA")) is not None:
        raise Unusable([wrong])
    USEFUL_REPLICAS.labels(role).set(useful_replicas(api.quota, partitions, api.in_flight_max))
    assert api.key is not None, f"{role} was started without a key"
    key = key_of(api.key, f"{api.prefix}_API_KEY_FILE")
    directory = Path(settings.state_dir) / role
    stores = StateDirectory(directory, settings.state_cache_bytes, settings.state_write_buffer_bytes)
    stores.wipe(HOLDS_STORE)  # its content belongs to assignments, and those end with the process
    store, client_id = stores.open(HOLDS_STORE), named(role, stores.worker)
    meter = PrometheusSendMeter(role, restores)
    return _Ground(settings, role, api, tuple(described), partitions, key, store, client_id, clock, meter, tracing)


def send(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The send role. Raises `Outage` while something that it needs is missing, `Unusable` if it never will work."""
    admin = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-send-start")
    described = described_topics(settings, Role.SEND, admin)
    key, quota, in_flight_max = settings.hakuna_key, settings.hakuna_quota, settings.in_flight_max
    api = _Api(settings.hakuna_url, "HAKUNA", key, quota, in_flight_max, hakuna_tls(settings))
    ground = _ground(settings, Role.SEND, api, described, Topic.OUTBOX, restores, tracing, clock)
    destination = _hakuna(settings)
    letters, resolutions = settings.topic(Topic.HAKUNA_DEAD_LETTERS), settings.topic(Topic.RESOLUTIONS)
    holds = settings.topic(Topic.HOLDS) if settings.hakuna_api is Api.EVENTS else None
    topics = SendTopics(
        sources=(settings.topic(Topic.OUTBOX),),
        receipts=settings.topic(Topic.DELIVERIES),
        dead_letters=letters,
        holds=holds,
        offsets=settings.topic(Topic.SEND_OFFSETS),
        resolutions=resolutions if settings.hakuna_api is Api.FEED else None,
        witnesses=None if holds is None else (letters, resolutions),
    )
    intake, past = OutboxIntake(destination.entry_types), None if holds is None else HoldsPast(holds)
    return ground.loop(topics, destination, Holds(ground.store), None, Assignment.COOPERATIVE, intake, past)


def _hakuna(settings: Settings) -> Hakuna:
    user_agent = f"hakuna-processor/{build()[0]}"
    match settings.hakuna_api:
        case Api.EVENTS:
            return events_api(settings.hakuna_version, user_agent, settings.hakuna_auth_header)
        case Api.FEED:
            return order_feed(
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
    """The hako role. Raises `Outage` while something that it needs is missing, `Unusable` if it never will work."""
    admin = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-hako-start")
    described = described_topics(settings, Role.HAKO, admin)
    resolutions = _resolutions(settings, admin)
    quota = settings.hako_quota
    assert quota is not None, "hako was started without a quota"
    registry = Registry.at(settings)
    check_readable(settings, registry, STOCK_TOPICS)
    api = _Api(settings.hako_base_url, "HAKO", settings.hako_key, quota, HAKO_IN_FLIGHT_MAX, hako_tls(settings))
    ground = _ground(settings, Role.HAKO, api, described, STOCK_TOPICS[0], restores, tracing, clock)
    memory = SentObjects(ground.store)
    destination = Hako(
        user_agent=f"hakuna-processor/{build()[0]}",
        parcel_entries_max=settings.hako_batch_max,
        parcel_bytes_max=settings.hako_batch_bytes_max,
        linger_s=min(HAKO_LINGER_S_MAX, 2 * quota.window_s / quota.requests),
        park_for_ms=round(settings.park_for_s * 1000),
        grounded=memory.grounded,
        auth=settings.hako_auth_header,
    )
    topics = SendTopics(
        sources=tuple(settings.topic(topic) for topic in STOCK_TOPICS),
        receipts=settings.topic(Topic.HAKO_SENT),
        dead_letters=settings.topic(Topic.HAKO_DEAD_LETTERS),
        holds=None,
        offsets=None,
        resolutions=None if resolutions is None else settings.topic(Topic.RESOLUTIONS),
        resolution_partitions=resolutions,
    )
    fields = {topic: AvroDecoder(reader_schema(topic), registry).decode for topic in TABLES}
    return ground.loop(
        topics,
        destination,
        memory,
        Gathering(memory, destination.parcel_entries_max, destination.parcel_bytes_max, destination.linger_s),
        # Range: partition N of the three belongs to one worker, as for the quota's shares and `hako.sent`.
        Assignment.RANGE,
        StockIntake({settings.topic(topic): (table, fields[topic]) for topic, table in TABLES.items()}),
        SentPast(topics.receipts, {table.value: settings.topic(topic) for topic, table in TABLES.items()}),
        entries_max=settings.hako_keys_max,
        bytes_max=HAKO_BYTES_MAX,
        catch_up_s_max=settings.hako_catch_up_s,
        partition_share=1,  # a slow change holds only its own key and one change of it
    )


def _resolutions(settings: Settings, admin: KafkaAdmin) -> int | None:
    """Returns how many partitions the topic of resolutions has; None if it cannot be used: hako works without it."""
    topic = settings.topic(Topic.RESOLUTIONS)
    why = "there is no such topic: `topics create`"
    try:
        if (described := admin.describe([topic])[topic]) is not None:
            return described.partitions
    except Fatal as refused:
        why = str(refused)
    log.warning("letters are not marked superseded", topic=topic, why=why)
    return None


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
    client, through = settings.http_transport.value, None if proxy is None else str(proxy)
    log.info("the way to the API", host=url.host, client=client, proxy=through)
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

    def turn(self) -> float:
        if not self._thread.is_alive():
            raise Fatal("the sender's event loop has ended") from self._failure
        self._role.turn()
        return 0.0  # its turns keep apart by themselves (`handover.py`)

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

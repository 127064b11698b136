"""The composition root: the only place that builds edges, wires roles and handles signals.

    settings ─► edges ─► one RoleThread a role ─► SIGTERM or SIGINT ─► drain ─► exit code

Reading order: `run` (a process's life), then `_transform` and `_send` (what each role is made of).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import structlog

from processor.config import Role, Settings
from processor.edges.avro import AvroDecoder, Schemas, reader_schema
from processor.edges.avro_compat import unreadable
from processor.edges.clock import SystemClock
from processor.edges.health import HealthServer
from processor.edges.kafka_admin import KafkaAdmin, TopicState
from processor.edges.kafka_consumer import Assignment, KafkaConsumer
from processor.edges.kafka_predecessors import Predecessors
from processor.edges.kafka_reader import KafkaReader
from processor.edges.kafka_transaction import KafkaTransaction, abort_left_behind
from processor.edges.metrics import BUILD_INFO, PrometheusTransformMeter, Restores
from processor.edges.rocks import StateDirectory
from processor.errors import BrokerOutage, Unusable
from processor.records import OrderEvent, Record
from processor.roles import Loop, RoleThread
from processor.topics import NEEDED, ORDER_TOPICS, Topic, missing, problems
from processor.transform.batch import Decode, Plan
from processor.transform.decode import ORDER_EVENT
from processor.transform.rules import Rules
from processor.transform.transformer import TransformEdges, Transformer, TransformPlan

if TYPE_CHECKING:
    from processor.edges.registry import Registry

log = structlog.get_logger(__name__)

_AFTER_DRAIN_S: Final = 2.0
"""What a role may take beyond its drain to close its clients."""


def run(settings: Settings, roles: tuple[Role, ...]) -> int:
    """Runs these roles until a signal or a failure. Returns the exit code: 0 after a drain, 78, or 1."""
    clock = SystemClock()
    over = threading.Event()
    restores = Restores()
    builders = {Role.TRANSFORM: _transform}
    threads = [RoleThread(role, partial(builders[role], settings, clock, restores), clock, over.set) for role in roles]
    BUILD_INFO.labels(*_build()).set(1)
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
    return _exit_code(threads, late)


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


def _transform(settings: Settings, clock: SystemClock, restores: Restores) -> Loop:
    """The transform role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    from processor.edges.registry import Registry as Client  # takes 0.7 s to import, and only transform needs it

    kafka = settings.librdkafka
    group = settings.group(Role.TRANSFORM)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-transform-start")
    described = _topics(settings, Role.TRANSFORM, admin)
    registry = Client.at(settings)
    _readable(settings, registry)
    changelog = settings.topic(Topic.CHANGELOG)
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

    edges = TransformEdges(
        consumer=consumer,
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        transaction=transaction,
        predecessors=Predecessors(
            admin,
            group,
            stores.worker,
            lambda worker: abort_left_behind(kafka, f"{group}.{worker}", client_id=client_id),
        ),
        stores=stores,
        clock=clock,
        meter=PrometheusTransformMeter(restores),
    )
    plan = TransformPlan(
        topics=tuple(settings.topic(topic) for topic in ORDER_TOPICS),
        changelog=changelog,
        changelog_identity=f"{changelog}/{described[changelog].topic_id}",
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

    def progress(self) -> tuple[int, int, bool]:
        lag = sum(source.lag for source in self._transformer.status)
        return lag, self._transformer.finished, bool(self._transformer.standstills)


def decoders(settings: Settings, registry: Schemas) -> Mapping[str, Decode]:
    """For each source topic, whole name, from a record to an order event."""
    return {settings.topic(topic): _decoder(topic, registry) for topic in ORDER_TOPICS}


def _decoder(topic: Topic, registry: Schemas) -> Decode:
    avro = AvroDecoder(reader_schema(topic), registry)
    event = ORDER_EVENT[topic]

    def decode(record: Record) -> OrderEvent:
        return event(avro.decode(record))

    return decode


def _readable(settings: Settings, registry: Registry) -> None:
    """Raises `Unusable` where a topic's newest schema cannot be read with ours, `RegistryOutage` without an answer."""
    wrong: list[str] = []
    for topic in ORDER_TOPICS:
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


# ---- what several roles share ----------------------------------------------------------------------------------


def _topics(settings: Settings, role: Role, admin: KafkaAdmin) -> Mapping[str, TopicState]:
    """What the cluster says of a role's topics, by whole name. Raises `BrokerOutage` while one is missing (somebody
    may be about to make it), `Unusable` where one is such that no waiting helps."""
    described = admin.describe([settings.topic(topic) for topic in NEEDED[role]])
    if absent := missing(role, described, settings.topic_prefix):
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

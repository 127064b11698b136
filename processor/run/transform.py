"""Builds the transform role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from processor.config import Role, Settings
from processor.edges.avro import AvroDecoder, Schemas, reader_schema
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import MOCK_CLUSTER, KafkaAdmin, TopicState
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.looks import KafkaBooks, survey
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.topics import WatchedTopics
from processor.edges.kafka.transaction import KafkaTransaction
from processor.edges.kafka.trim import KafkaTrim
from processor.edges.metrics import USEFUL_REPLICAS, PrometheusTransformMeter, Restores
from processor.edges.registry import Registry
from processor.edges.rocks import StateDirectory
from processor.edges.traces import Tracing
from processor.errors import Unusable
from processor.records import SHAPES
from processor.run.roles import Loop
from processor.run.start import (
    bytes_max,
    check_readable,
    described_topics,
    here_of,
    newest_book,
    predecessors,
    state_problems,
)
from processor.run.start import client_id as named
from processor.run.surveying import SurveyedLoop, Surveying
from processor.sources.placements import Compared
from processor.sources.survey import judged
from processor.topics import Topic, sources_of, transform_sources
from processor.transform.batch import Decode, Plan
from processor.transform.book import Here
from processor.transform.plan import TransformEdges, TransformPlan
from processor.transform.transformer import Transformer
from processor.transform.transitions import Rules

log = structlog.get_logger(__name__)


def transform(settings: Settings, clock: SystemClock, restores: Restores, tracing: Tracing | None) -> Loop:
    """The transform role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    kafka = settings.librdkafka
    group = settings.group(Role.TRANSFORM)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-transform-start")
    described = described_topics(settings, Role.TRANSFORM, admin)
    here = here_of(settings, admin, described)
    books = KafkaBooks(
        kafka, settings.topic(Topic.CHANGELOG), group=group, client_id="hakuna-processor-transform-start"
    )
    if wrong := state_problems(settings, admin, books, here):
        raise Unusable(wrong)
    registry = Registry.at(settings)
    check_readable(settings, registry)
    changelog = settings.topic(Topic.CHANGELOG)
    USEFUL_REPLICAS.labels(Role.TRANSFORM).set(described[changelog].partitions)  # a partition has one worker
    # From here on nothing is waited for: a directory that was claimed stays claimed until the process ends.
    stores = StateDirectory(Path(settings.state_dir), settings.state_cache_bytes, settings.state_write_buffer_bytes)
    client_id = named(Role.TRANSFORM, stores.worker)
    consumer = KafkaConsumer(kafka, group=group, assignment=Assignment.RANGE, client_id=client_id)
    transaction = KafkaTransaction(
        kafka, transactional_id=f"{group}.{stores.worker}", consumer=consumer, client_id=client_id
    )

    meter = PrometheusTransformMeter(restores)
    edges = TransformEdges(
        consumer=consumer,
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        transaction=transaction,
        predecessors=predecessors(settings, Role.TRANSFORM, stores.worker, client_id),
        topology=WatchedTopics(
            admin,
            described,
            clock,
            sources=[settings.topic(topic) for topic in sources_of(Role.TRANSFORM, rekey=settings.rekey)],
            changelog=changelog,
        ),
        stores=stores,
        clock=clock,
        meter=meter if tracing is None else tracing.meter(meter),
        newest_book=lambda number: newest_book(admin, books, changelog, number),
    )
    plan = _plan(settings, described, here, stores.worker, transaction, registry)
    # The demo's mock cluster deletes no records, and is gone with them.
    trims = settings.rekey and not here.cluster.startswith(MOCK_CLUSTER)
    trim = KafkaTrim(kafka, clock, client_id=client_id) if trims else None
    return _surveyed(settings, described, plan.topics, client_id, Transformer(plan, edges), trim)


def _plan(
    settings: Settings,
    described: Mapping[str, TopicState],
    here: Here,
    worker: str,
    transaction: KafkaTransaction,
    registry: Schemas,
) -> TransformPlan:
    changelog = settings.topic(Topic.CHANGELOG)
    return TransformPlan(
        topics=tuple(settings.topic(topic) for topic in sources_of(Role.TRANSFORM, rekey=settings.rekey)),
        partitions=described[changelog].partitions,
        changelog=changelog,
        here=here,
        changelog_tombstones_ms=int(described[changelog].config["delete.retention.ms"]),
        worker=worker,
        batch_records_max=settings.batch_records_max,
        merge_wait_s=settings.merge_wait_s,
        retention_ms=round(settings.order_retention_s * 1000),
        dead_letter_share_max=settings.dead_letter_share_max,
        decide=Plan(
            group=settings.group(Role.TRANSFORM),
            outbox=settings.topic(Topic.OUTBOX),
            dead_letters=settings.topic(Topic.ORDER_DEAD_LETTERS),
            rules=Rules(
                api=settings.hakuna_api,
                orders=settings.hakuna_orders,
                fulfil_protection=settings.hakuna_fulfil_protection,
                park_for_ms=round(settings.park_for_s * 1000),
            ),
            decoders=decoders(settings, registry),
            entry_bytes_max=bytes_max(settings, described, transaction, Topic.OUTBOX),
            state_bytes_max=bytes_max(settings, described, transaction, Topic.CHANGELOG),
            letter_bytes_max=bytes_max(settings, described, transaction, Topic.ORDER_DEAD_LETTERS),
        ),
    )


def _surveyed(
    settings: Settings,
    described: Mapping[str, TopicState],
    topics: Sequence[str],
    client_id: str,
    transformer: Transformer,
    trim: KafkaTrim | None,
) -> Loop:
    kafka, group = settings.librdkafka, settings.group(Role.TRANSFORM)
    counts = {topic: described[topic].partitions for topic in topics}
    surveying = Surveying(
        # With rekey, rekey surveys what the shops' producers write.
        lambda: {} if settings.rekey else survey(kafka, counts, group=group, client_id=f"{client_id}-survey", log=log),
        partial(judged, configs={topic: described[topic].config for topic in topics}),
        transformer.whereabouts.learn,
    )

    def status() -> dict[str, Any]:
        placements = [placement_status(one) for one in transformer.whereabouts.verdicts.values()]
        return {"placements": placements, "throttled_seconds": round(transformer.throttled_s, 3)}

    return SurveyedLoop(transformer, surveying, status, trim)


def placement_status(one: Compared) -> dict[str, Any]:
    """Returns how the keys of a topic are placed, as `/status` shows it."""
    family = one.placement.family
    return {
        "topic": one.topic,
        "partitioner": None if family is None else family.name,
        "placement": str(one.placement),
        "reference": one.reference,
        "misplaced_share": one.share,
        "mend": one.mend,
    }


def decoders(settings: Settings, registry: Schemas) -> Mapping[str, Decode]:
    """Returns what decodes a record to an order event, by whole name of each topic that transform reads."""
    return {
        settings.topic(topic): AvroDecoder(reader_schema(source), registry, SHAPES).read
        for topic, source in transform_sources(rekey=settings.rekey).items()
    }

"""Builds the rekey role."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial

import structlog

from processor.config import Role, Settings
from processor.edges.avro import AvroDecoder, Schemas, reader_schema_of
from processor.edges.avro_wire import framing
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.looks import KafkaOthers, survey
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.topics import KafkaTopology
from processor.edges.kafka.transaction import KafkaTransaction
from processor.edges.metrics import USEFUL_REPLICAS, OrdersMeter, Restores
from processor.edges.registry import Registry
from processor.edges.traces import Tracing
from processor.records import Record
from processor.rekey.beginnings import Note
from processor.rekey.decide import Plan, Read, Source
from processor.rekey.rekeyer import RekeyEdges, Rekeyer, RekeyPlan
from processor.run.roles import Loop
from processor.run.start import bytes_max, check_readable, described_topics, predecessors
from processor.run.start import client_id as named
from processor.run.surveying import SurveyedLoop, Surveying
from processor.sources.survey import judged
from processor.topics import ORDER_TOPICS, REKEYED, Topic

log = structlog.get_logger(__name__)


def rekey(settings: Settings, clock: SystemClock, _restores: Restores, _tracing: Tracing | None) -> Loop:
    """The rekey role. Raises `Outage` while what it needs is not there, `Unusable` where it never will be."""
    kafka = settings.librdkafka
    group = settings.group(Role.REKEY)
    admin = KafkaAdmin(kafka, client_id="hakuna-processor-rekey-start")
    described = described_topics(settings, Role.REKEY, admin)
    registry = Registry.at(settings)
    check_readable(settings, registry)
    topics = tuple(settings.topic(topic) for topic in ORDER_TOPICS)
    USEFUL_REPLICAS.labels(Role.REKEY).set(sum(described[topic].partitions for topic in topics))
    cluster = admin.cluster_id()
    worker = secrets.token_hex(8)  # keeps nothing that a next life would come back to
    client_id = named(Role.REKEY, worker)
    consumer = KafkaConsumer(kafka, group=group, assignment=Assignment.COOPERATIVE, client_id=client_id)
    transaction = KafkaTransaction(kafka, transactional_id=f"{group}.{worker}", consumer=consumer, client_id=client_id)

    here = {topic: Note(cluster, described[topic].topic_id) for topic in topics}
    plan = _plan(settings, described, here, worker, transaction, registry)
    edges = RekeyEdges(
        consumer=consumer,
        reader=KafkaReader(kafka, group=group, client_id=client_id),
        transaction=transaction,
        predecessors=predecessors(settings, Role.REKEY, worker, client_id),
        others=KafkaOthers(kafka, group, topics, client_id=f"{client_id}-others"),
        topology=KafkaTopology(admin, described, clock, may_grow=topics),
        clock=clock,
        meter=OrdersMeter(Role.REKEY),
    )
    counts = {topic: described[topic].partitions for topic in topics}
    surveying = Surveying(
        lambda: survey(kafka, counts, group=group, client_id=f"{client_id}-survey", log=log),
        partial(judged, configs={topic: described[topic].config for topic in topics}, rekey=True),
    )
    return SurveyedLoop(Rekeyer(plan, edges), surveying)


def _plan(
    settings: Settings,
    described: Mapping[str, TopicState],
    here: Mapping[str, Note],
    worker: str,
    transaction: KafkaTransaction,
    registry: Schemas,
) -> RekeyPlan:
    events = settings.topic(Topic.REKEYED_EVENTS)
    return RekeyPlan(
        topics=tuple(here),
        events=events,
        events_partitions=described[events].partitions,
        worker=worker,
        batch_records_max=settings.batch_records_max,
        merge_wait_s=settings.merge_wait_s,
        dead_letter_share_max=settings.dead_letter_share_max,
        here=here,
        decide=Plan(
            group=settings.group(Role.REKEY),
            sources={
                settings.topic(topic): Source(rank, settings.topic(REKEYED[topic]), _reader(topic, registry))
                for rank, topic in enumerate(ORDER_TOPICS)
            },
            partitions=described[settings.topic(Topic.REKEYED_PLACED)].partitions,
            dead_letters=settings.topic(Topic.ORDER_DEAD_LETTERS),
            record_bytes_max=min(bytes_max(settings, described, transaction, rekeyed) for rekeyed in REKEYED.values()),
            letter_bytes_max=bytes_max(settings, described, transaction, Topic.ORDER_DEAD_LETTERS),
        ),
    )


def _reader(topic: Topic, registry: Schemas) -> Read:
    avro = AvroDecoder(reader_schema_of(topic, "order_id"), registry)

    def read(record: Record) -> tuple[str, bytes]:
        order_id: str = avro.decode(record)["order_id"]
        value = record.value
        assert value is not None, "a null value is an erasure and never read"
        return order_id, value[framing(record, value)[1] :]

    return read

"""Finds all settings that librdkafka refuses, names and values, each with the nearest name.

librdkafka names the first unknown one and stops, and does not list its names. So a client is made with the remaining
settings, 3 ms a try, until it can be made. `NAMES` are the settings for users in its CONFIGURATION.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient

from processor.edges.kafka.client import error_of
from processor.errors import Problem

_PREFIX: Final = "KAFKA_"
_PROPERTY: Final = re.compile(r'configuration property:? "([^"]+)"')
_TRIES_MAX: Final = 50
"""Each try names one setting; nobody has more wrong ones."""
_OF_SCRIPTS: Final = (
    "HOME", "OPTS", "HEAP_OPTS", "JMX_OPTS", "JMX_PORT", "JVM_PERFORMANCE_OPTS", "GC_LOG_OPTS", "LOG4J_OPTS", "DEBUG",
    "CLUSTER_ID",
)  # fmt: skip
"""Variables of Kafka's own scripts, on a machine that has them."""

_LISTED: Final = """
    api.version.request api.version.request.timeout.ms batch.num.messages batch.size bootstrap.servers
    broker.address.family broker.address.ttl broker.version.fallback check.crcs client.dns.lookup client.rack
    compression.codec compression.level compression.type connections.max.idle.ms coordinator.query.interval.ms
    debug delivery.timeout.ms enable.metrics.push enable.sasl.oauthbearer.unsecure.jwt
    enable.ssl.certificate.verification fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes
    fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms group.protocol heartbeat.interval.ms
    https.ca.location https.ca.pem linger.ms log.connection.close max.partition.fetch.bytes max.poll.interval.ms
    message.copy.max.bytes message.max.bytes message.timeout.ms metadata.broker.list metadata.max.age.ms
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy plugin.library.paths
    queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms queued.max.messages.kbytes
    queued.min.messages receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms
    request.timeout.ms retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.kinit.cmd
    sasl.kerberos.min.time.before.relogin sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism
    sasl.mechanisms sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config
    sasl.oauthbearer.extensions sasl.oauthbearer.grant.type sasl.oauthbearer.method sasl.oauthbearer.scope
    sasl.oauthbearer.token.endpoint.url sasl.password sasl.username security.protocol session.timeout.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.location ssl.ca.pem
    ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list
    ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location ssl.key.password
    ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list
    statistics.interval.ms sticky.partitioning.linger.ms topic.metadata.propagation.max.ms
    topic.metadata.refresh.interval.ms
"""
NAMES: Final = tuple(_LISTED.split())


def refused(kafka: Mapping[str, str]) -> list[Problem]:
    """Returns the problems of these settings, by environment variable. `kafka` are librdkafka's names and values."""
    left = dict(kafka)
    complaints: list[Problem] = []
    for _ in range(_TRIES_MAX):
        try:
            AdminClient({**left, "log_level": 0})
        except ck.KafkaException as wrong:
            text = error_of(wrong).str()
            named = _PROPERTY.search(text)
            if named is None or named[1] not in left:
                return [*complaints, Problem("KAFKA_*", text, "correct them by librdkafka's CONFIGURATION.md")]
            complaints.append(_complaint(named[1], text))
            del left[named[1]]
        else:
            break
    return sorted(complaints)


def _complaint(key: str, text: str) -> Problem:
    name = variable(key)
    if "No such" not in text:
        return Problem(name, text, "librdkafka's CONFIGURATION.md has the values; correct it, or leave it out")
    if name.removeprefix(_PREFIX) in _OF_SCRIPTS:
        return Problem(name, "it belongs to Kafka's own scripts and is not a setting here", "unset it")
    (nearest,) = get_close_matches(key, NAMES, n=1, cutoff=0.0)
    return Problem(name, "no such setting", f"the nearest is {variable(nearest)}")


def variable(key: str) -> str:
    """Returns the environment variable of a librdkafka setting."""
    return _PREFIX + key.upper().replace(".", "_")

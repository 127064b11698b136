"""The requests that a broker supports: the one question that every broker answers to everybody, before any password.

librdkafka knows the answer and does not show it: a consumer whose group protocol the brokers do not know waits for
ever, without an error, a callback or a log line (2.16). So our own socket asks, once, at the start.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Final

from processor.errors import Problem

ANSWER_S_MAX: Final = 3.0
_CORRELATION: Final = b"hkvr"
_CLIENT: Final = b"hakuna-processor"
_BODY: Final = struct.pack(">hh", 18, 0) + _CORRELATION + struct.pack(">h", len(_CLIENT)) + _CLIENT
_API_VERSIONS: Final = struct.pack(">i", len(_BODY)) + _BODY
"""ApiVersions, version 0 (KIP-35)."""
_HEAD: Final = struct.Struct(">i4shi")
_ENTRY: Final = struct.Struct(">hhh")
_ANSWER_BYTES_MAX: Final = 64 * 1024

CONSUMER_GROUP_HEARTBEAT: Final = 68
"""KIP-848's own request; librdkafka sends its version 1, which is Kafka 4.0's."""


def without_consumer_protocol(kafka: Mapping[str, str]) -> Problem | None:
    """Returns why `group.protocol=consumer` cannot work with these brokers. Returns None if it can, is not set, or no
    broker tells. `kafka` are librdkafka's settings."""
    if kafka.get("group.protocol") != "consumer":
        return None
    for address in kafka.get("bootstrap.servers", "").split(","):
        known = _known(address.strip(), tls="ssl" in kafka.get("security.protocol", "").lower())
        if known is not None:
            if known.get(CONSUMER_GROUP_HEARTBEAT, -1) >= 1:
                return None
            what = (
                f"the broker at {address.strip()} does not know the protocol `consumer`, which needs Kafka 4.0 or newer"
            )
            return Problem("KAFKA_GROUP_PROTOCOL", what, "leave it out, or write classic")
    return None


def _known(address: str, *, tls: bool) -> Mapping[int, int] | None:
    """Returns the newest version of each request that the broker supports. Returns None if it does not tell."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return None
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S_MAX) as plain:
            if not tls:
                return _asked(plain)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing secret is sent: any certificate will do
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(plain) as connection:
                return _asked(connection)
    except (OSError, struct.error):
        return None


def _asked(connection: socket.socket) -> Mapping[int, int] | None:
    connection.sendall(_API_VERSIONS)
    with connection.makefile("rb") as answer:
        length, correlation, error, count = _HEAD.unpack(answer.read(_HEAD.size))
        if correlation != _CORRELATION or error or not 0 < length <= _ANSWER_BYTES_MAX:
            return None
        entries = answer.read(count * _ENTRY.size)
    return {key: newest for key, _, newest in _ENTRY.iter_unpack(entries)}

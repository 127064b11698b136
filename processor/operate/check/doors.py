"""What is at an address: a broker, no such name, no listener, silence, or a server that asks for TLS.

For each of these reasons, librdkafka says after ten seconds that it was disconnected. So each address is tried first:
with a plain socket and the one question that every broker answers to every client (ApiVersions), or with a TLS
handshake if TLS is set. That takes milliseconds, and does a broker no harm.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final, NamedTuple

LOOK_S_MAX: Final = 3.0
ADDRESSES_MAX: Final = 10
"""The first brokers of a long list show enough."""
_KAFKA_PORT: Final = 9092
_CLIENT: Final = b"hakuna-processor"
_CORRELATION: Final = b"hkna"
_BODY: Final = struct.pack(">hh", 18, 0) + _CORRELATION + struct.pack(">h", len(_CLIENT)) + _CLIENT
_API_VERSIONS: Final = struct.pack(">i", len(_BODY)) + _BODY
"""ApiVersions, version 0 (KIP-35): key, version, correlation, client; asked before any password."""
_ANSWER_BYTES: Final = 8
"""Its answer's length and correlation; the rest is not read."""
_TLS: Final = ("ssl", "sasl_ssl")
_TLS_ALERT: Final = b"\x15\x03"


class Behind(StrEnum):
    """What is at an address. BROKER: it answers like a broker, or completes the handshake if TLS is set."""

    BROKER = "broker"
    NO_ADDRESS = "no address"
    NO_NAME = "no name"
    NOBODY = "nobody"
    SILENCE = "silence"
    TLS = "tls"
    NO_TLS = "no tls"
    STRANGER = "stranger"


class Door(NamedTuple):
    """`detail` is the operating system's text for it, if there is one."""

    address: str
    behind: Behind
    detail: str = ""


def closed(bootstrap_servers: str, kafka: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Returns why no broker answers: each address, what is wrong there, what to do. Empty if at least one broker
    answers. `kafka` are librdkafka's settings."""
    protocol = _protocol(kafka)
    tls = protocol in _TLS
    addresses = [address.strip() for address in bootstrap_servers.split(",")][:ADDRESSES_MAX]
    with ThreadPoolExecutor(len(addresses)) as pool:
        doors = list(pool.map(lambda address: look(address, tls=tls), addresses))
    if any(door.behind is Behind.BROKER for door in doors):
        return []
    return [(door.address, *_told(door.behind, door.detail, protocol)) for door in doors]


def let_in_by_none(bootstrap_servers: str, kafka: Mapping[str, str]) -> tuple[str, str, str]:
    """Returns the same for brokers that answer and refuse this client: its credentials are wrong."""
    protocol = _protocol(kafka)
    return bootstrap_servers, *_told(Behind.BROKER, "", protocol)


def look(address: str, *, tls: bool) -> Door:
    """Returns what is at this address. Waits at most twice LOOK_S_MAX."""
    try:
        place = _parted(address)
    except ValueError:
        return Door(address, Behind.NO_ADDRESS)
    try:
        if tls:
            return Door(address, Behind.BROKER if _speaks_tls(place) else Behind.NO_TLS)
        return Door(address, _answers(place))
    except socket.gaierror as unknown:
        return Door(address, Behind.NO_NAME, unknown.strerror or "")
    except TimeoutError:
        return Door(address, Behind.SILENCE)
    except OSError as refused:
        return Door(address, Behind.NOBODY, refused.strerror or str(refused))


def _answers(place: tuple[str, int]) -> Behind:
    """Raises OSError without a connection."""
    with socket.create_connection(place, timeout=LOOK_S_MAX) as connection:
        try:
            connection.sendall(_API_VERSIONS)
            answer = connection.recv(_ANSWER_BYTES, socket.MSG_WAITALL)
        except TimeoutError:
            return Behind.STRANGER
        except OSError:
            answer = b""
    if answer[4:] == _CORRELATION:
        return Behind.BROKER
    if answer.startswith(_TLS_ALERT):
        return Behind.TLS
    try:
        # Some servers close without the alert.
        return Behind.TLS if _speaks_tls(place) else Behind.STRANGER
    except OSError:
        return Behind.STRANGER


def _speaks_tls(place: tuple[str, int]) -> bool:
    """Raises OSError without a connection."""
    # The certificate does not matter here: nothing is sent after the handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(place, timeout=LOOK_S_MAX) as connection:
        try:
            with context.wrap_socket(connection):
                return True
        except ssl.SSLError as refused:
            # An alert is TLS too (it asks for our certificate, or another version); an end or other bytes are not.
            return "ALERT" in (refused.reason or "")
        except OSError:
            return False


def _parted(address: str) -> tuple[str, int]:
    """`host:port`, `[::1]:port`, `PLAINTEXT://host:port`, `host`. Raises ValueError."""
    bare = address.rpartition("://")[2]
    host, colon, port = bare.rpartition(":")
    if not colon or bare.endswith("]"):
        host, port = bare, str(_KAFKA_PORT)
    host = host.strip("[]")
    number = int(port)
    if not host or not 0 < number < 65536:
        raise ValueError(address)
    return host, number


def _protocol(kafka: Mapping[str, str]) -> str:
    return kafka.get("security.protocol", "plaintext").lower()


def _told(behind: Behind, detail: str, protocol: str) -> tuple[str, str]:
    """Returns what is wrong there, and what to do."""
    sasl = protocol.startswith("sasl")
    match behind:
        case Behind.NO_ADDRESS:
            return "is no address", "write brokers as host:port, separated by commas"
        case Behind.NO_NAME:
            return f"is a name that cannot be resolved: {detail}", "correct the name, or the DNS of this network"
        case Behind.NOBODY:
            return f"cannot be connected to: {detail}", "start the broker, or correct host and port"
        case Behind.SILENCE:
            remedy = "let this machine through to it (firewall, network policy), or correct host and port"
            return f"gives no sign of life for {LOOK_S_MAX:g} s", remedy
        case Behind.TLS:
            is_set = "is not set to use it" if protocol == "plaintext" else f"is {protocol.upper()}"
            wanted = "SASL_SSL" if sasl else "SSL (SASL_SSL if it asks for a password)"
            remedy = f"set KAFKA_SECURITY_PROTOCOL={wanted}, and KAFKA_SSL_CA_LOCATION if its certificate is your own"
            return f"asks for TLS, and KAFKA_SECURITY_PROTOCOL {is_set}", remedy
        case Behind.NO_TLS:
            remedy = f"set KAFKA_SECURITY_PROTOCOL={'SASL_PLAINTEXT' if sasl else 'PLAINTEXT'}, or use its port for TLS"
            return "does not speak TLS, and KAFKA_SECURITY_PROTOCOL asks for it", remedy
        case Behind.STRANGER:
            return "takes connections, but does not answer as a broker", "correct host and port"
        case Behind.BROKER:
            return "answers, but does not let this client in", "; ".join(_credentials(protocol, sasl=sasl))


def _credentials(protocol: str, *, sasl: bool) -> Iterator[str]:
    if protocol in _TLS:
        yield (
            "set KAFKA_SSL_CA_LOCATION to the authority of its certificate (where it wants a client's certificate, "
            "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION too)"
        )
    if sasl:
        yield "correct KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
    else:
        wanted = "SASL_SSL" if protocol in _TLS else "SASL_PLAINTEXT"
        yield (
            f"if it asks for a password, set KAFKA_SECURITY_PROTOCOL={wanted}, KAFKA_SASL_MECHANISM, "
            "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        )

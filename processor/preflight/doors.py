"""What stands behind an address at which no broker answers: a name that is none, nobody, somebody who wants TLS.

librdkafka says that it was disconnected, whatever the reason. So where it got no answer, the address is looked at with
plain sockets: a TLS listener answers a TLS greeting, and nothing else does. Never done to brokers that answer: one of
them would log the greeting as a malformed request.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final, NamedTuple

LOOK_S_MAX: Final = 3.0
ADDRESSES_MAX: Final = 10
"""Of a long list of brokers, the first ones tell enough."""
_KAFKA_PORT: Final = 9092


class Behind(StrEnum):
    """What is found behind an address."""

    NO_ADDRESS = "no address"
    NO_NAME = "no name"
    NOBODY = "nobody"
    SILENCE = "silence"
    TLS = "tls"
    NO_TLS = "no tls"


class Door(NamedTuple):
    """`detail` is the operating system's word, where there is one."""

    address: str
    behind: Behind
    detail: str


def explain(bootstrap_servers: str, kafka: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """For each address: itself, what is wrong there, what to do. `kafka` are librdkafka's settings."""
    protocol = kafka.get("security.protocol", "plaintext").lower()
    addresses = [address.strip() for address in bootstrap_servers.split(",")][:ADDRESSES_MAX]
    with ThreadPoolExecutor(len(addresses)) as pool:
        return [(door.address, *_told(door, protocol)) for door in pool.map(look, addresses)]


def nobody_home(bootstrap_servers: str) -> bool:
    """Whether none of the addresses takes a connection: then there is no need to let a client find that out in ten
    seconds. Says nothing to who does."""
    with ThreadPoolExecutor(ADDRESSES_MAX) as pool:
        tried = pool.map(_takes_connections, bootstrap_servers.split(","))
        return not any(tried)


def _takes_connections(address: str) -> bool:
    try:
        socket.create_connection(_parted(address.strip()), timeout=LOOK_S_MAX).close()
    except (OSError, ValueError):
        return False
    return True


def look(address: str) -> Door:
    """Waits at most twice LOOK_S_MAX."""
    try:
        place = _parted(address)
    except ValueError:
        return Door(address, Behind.NO_ADDRESS, "")
    try:
        with socket.create_connection(place, timeout=LOOK_S_MAX) as connection:
            return Door(address, Behind.TLS if _speaks_tls(connection) else Behind.NO_TLS, "")
    except socket.gaierror as unknown:
        return Door(address, Behind.NO_NAME, unknown.strerror or "")
    except TimeoutError:
        return Door(address, Behind.SILENCE, "")
    except OSError as refused:
        return Door(address, Behind.NOBODY, refused.strerror or str(refused))


def _speaks_tls(connection: socket.socket) -> bool:
    # Whose certificate it is does not matter here: nothing is sent but the greeting.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(connection):
            return True
    except ssl.SSLError as refused:
        # An alert is TLS too (it wants our certificate, or another version); an end or other bytes are not.
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


def _told(door: Door, protocol: str) -> tuple[str, str]:
    """What is wrong there, and what to do."""
    tls = protocol in ("ssl", "sasl_ssl")
    sasl = protocol.startswith("sasl")
    match door.behind:
        case Behind.NO_ADDRESS:
            return "is no address", "write brokers as host:port, separated by commas"
        case Behind.NO_NAME:
            return f"is a name that cannot be resolved: {door.detail}", "correct the name, or the DNS of this network"
        case Behind.NOBODY:
            return f"cannot be connected to: {door.detail}", "start the broker, or correct host and port"
        case Behind.SILENCE:
            return (
                f"gives no sign of life for {LOOK_S_MAX:g} s",
                "let this machine through to it (firewall, network policy), or correct host and port",
            )
        case Behind.TLS if not tls:
            wanted = "SASL_SSL" if sasl else "SSL (SASL_SSL if it asks for a password)"
            return (
                "asks for TLS, and KAFKA_SECURITY_PROTOCOL "
                + (f"is {protocol}" if protocol != "plaintext" else "is not set to use it"),
                f"set KAFKA_SECURITY_PROTOCOL={wanted}, and KAFKA_SSL_CA_LOCATION where its certificate is your own",
            )
        case Behind.NO_TLS if tls:
            return (
                "does not speak TLS, and KAFKA_SECURITY_PROTOCOL asks for it",
                f"set KAFKA_SECURITY_PROTOCOL={'SASL_PLAINTEXT' if sasl else 'PLAINTEXT'}, or use its port for TLS",
            )
        case Behind.TLS:
            return (
                "speaks TLS, but this client and it do not agree",
                "set KAFKA_SSL_CA_LOCATION to the authority of its certificate; where it wants a client's certificate, "
                "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION too"
                + ("; correct KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD" if sasl else ""),
            )
        case Behind.NO_TLS:
            return (
                "takes connections, but does not answer as a broker that lets this client in",
                "correct KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD"
                if sasl
                else "if it asks for a password, set KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT, KAFKA_SASL_MECHANISM, "
                "_USERNAME and _PASSWORD; else correct host and port",
            )

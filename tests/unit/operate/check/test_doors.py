"""What stands behind an address is told apart with real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processor.operate.check.doors import Behind, closed, let_in_by_none, look
from tests.support.children import free_ports
from tests.support.http_servers import authority

ANSWER = struct.pack(">i", 14) + b"hkna" + bytes(10)


@contextmanager
def listening(tls: ssl.SSLContext | None, answer: bytes = b"") -> Iterator[str]:
    """Takes connections: with TLS it shakes hands, without it says `answer` to whatever it is told, and closes."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                if tls is None:
                    connection.recv(1024)
                    connection.sendall(answer)
                else:
                    tls.wrap_socket(connection, server_side=True).close()
            except OSError:
                pass
            finally:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_broker_is_known_by_its_answer() -> None:
    with listening(None, ANSWER) as address:
        assert look(address, tls=False).behind is Behind.BROKER
        assert closed(f"127.0.0.1:port,{address}", {}) == [], "one broker is enough"


def test_a_listener_that_speaks_tls_is_known_for_it() -> None:
    with listening(authority().self_signed) as address:
        assert look(address, tls=True).behind is Behind.BROKER
        ((_, what, remedy),) = closed(address, {})
    assert what == "asks for TLS, and KAFKA_SECURITY_PROTOCOL is not set to use it"
    assert "KAFKA_SECURITY_PROTOCOL=SSL" in remedy


def test_a_listener_without_tls_is_told_to_those_who_want_it() -> None:
    with listening(None, ANSWER) as address:
        ((_, what, remedy),) = closed(address, {"security.protocol": "SASL_SSL"})
    assert what.startswith("does not speak TLS")
    assert "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT" in remedy


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x"])
def test_somebody_else_is_no_broker(answer: bytes) -> None:
    with listening(None, answer) as address:
        assert look(address, tls=False).behind is Behind.STRANGER


def test_nobody_and_no_address_are_told_apart() -> None:
    (port,) = free_ports(1)
    nobody, no_address = closed(f"127.0.0.1:{port}, 127.0.0.1:port", {})
    assert nobody[1] == "cannot be connected to: Connection refused"
    assert no_address[:2] == ("127.0.0.1:port", "is no address")


@pytest.mark.parametrize("address", ["", ":", "host:0", "host:99999", "[::1", "PLAINTEXT://"])
def test_what_is_no_address_is_no_crash(address: str) -> None:
    assert look(address, tls=False).behind in (Behind.NO_ADDRESS, Behind.NO_NAME, Behind.NOBODY)


@pytest.mark.parametrize("protocol", ["plaintext", "SASL_PLAINTEXT", "ssl", "sasl_ssl"])
def test_a_client_that_is_not_let_in_hears_what_it_can_say_of_itself(protocol: str) -> None:
    _, what, remedy = let_in_by_none("kafka:9092", {"security.protocol": protocol})
    assert what == "answers, but does not let this client in"
    assert "KAFKA_SASL_PASSWORD" in remedy
    assert ("KAFKA_SSL_CA_LOCATION" in remedy) == protocol.endswith("ssl")

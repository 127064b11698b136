"""What stands behind an address is told apart with real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processor.preflight.doors import Behind, explain, look, nobody_home
from tests.support.children import free_ports
from tests.support.http_servers import authority


@contextmanager
def listening(tls: ssl.SSLContext | None) -> Iterator[str]:
    """Takes connections: with TLS it shakes hands, without it closes at the first bytes, as a broker does."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                if tls is None:
                    connection.recv(1)
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


def test_a_listener_that_speaks_tls_is_known_by_its_greeting() -> None:
    with listening(authority().self_signed) as address:
        assert look(address).behind is Behind.TLS
        assert not nobody_home(address)
        ((_, what, remedy),) = explain(address, {})
    assert what == "asks for TLS, and KAFKA_SECURITY_PROTOCOL is not set to use it"
    assert "KAFKA_SECURITY_PROTOCOL=SSL" in remedy


def test_a_listener_without_tls_is_told_to_those_who_want_it() -> None:
    with listening(None) as address:
        assert look(address).behind is Behind.NO_TLS
        ((_, what, remedy),) = explain(address, {"security.protocol": "SASL_SSL"})
    assert what.startswith("does not speak TLS")
    assert "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT" in remedy


def test_nobody_and_no_address_are_told_apart() -> None:
    (port,) = free_ports(1)
    servers = f"127.0.0.1:{port}, 127.0.0.1:port"
    assert nobody_home(servers)
    nobody, no_address = explain(servers, {})
    assert nobody[1] == "cannot be connected to: Connection refused"
    assert no_address[:2] == ("127.0.0.1:port", "is no address")


@pytest.mark.parametrize("address", ["", ":", "host:0", "host:99999", "[::1", "PLAINTEXT://"])
def test_what_is_no_address_is_no_crash(address: str) -> None:
    assert look(address).behind in (Behind.NO_ADDRESS, Behind.NO_NAME, Behind.NOBODY)

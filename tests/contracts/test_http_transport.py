"""What stands behind the HTTP seam, over real loopback servers that misbehave: the same suite for all of them.

    lean          `LeanTransport`, on uvloop
    lean-asyncio  the same on asyncio's own loop
    bounded       httpx's own, as `transport_for` gives it: with the body limit and the deadline for the whole request
    httpx         httpx's own as it is, the measure for the others

The first three are asked by their door, `exchange`, behind httpx's interface (`tests/support/asking.py`). A test takes
`kind` when all four must do the same, and `bounded` or `lean` with the reason when httpx differs. Every
test ends with no task and no socket left over, and takes far less than a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import inspect
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from typing import Any, cast

import httpx
import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processor.config import HttpTransport
from processor.edges.http.connection import Connection, HttpLimits, Phase, fields
from processor.edges.http.exchange import Answered, Awaited, ask
from processor.edges.http.httpx_client import HttpxTransport
from processor.edges.http.pool import LeanTransport, transport_for
from processor.edges.http.proxies import Proxy
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import tls_context
from tests.support.asking import Asking
from tests.support.http_servers import (
    Authority,
    Peer,
    Script,
    Send,
    answer,
    answering,
    authority,
    once,
    serving,
    silent,
    stuck_after,
)

BODY = b'{"type":"order_placed"}'
QUICK: dict[str, float | None] = {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": 10.0}
Transport = httpx.AsyncBaseTransport
LIMITS = HttpLimits(connections_max=8, total_s_max=15.0)


class Kind(StrEnum):
    LEAN = "lean"
    LEAN_ASYNCIO = "lean-asyncio"
    BOUNDED = "bounded"
    HTTPX = "httpx"


@pytest.fixture(params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture(params=[Kind.LEAN, Kind.LEAN_ASYNCIO, Kind.BOUNDED])
def bounded(request: pytest.FixtureRequest) -> Kind:
    """httpx's own has no limit for a body and no deadline for a whole request."""
    return Kind(request.param)


@pytest.fixture(params=[Kind.LEAN, Kind.LEAN_ASYNCIO])
def lean(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@functools.cache
def certificates() -> Authority:
    return authority()


# ---- how a scenario is run ---------------------------------------------------------------------------------

NAMES: dict[str, list[str]] = {}
"""What the loops below resolve themselves; anything else is resolved as usual."""


def _resolved(host: Any, port: Any) -> list[Any] | None:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in NAMES:
        return None
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in NAMES[name]]


class _UvLoop(uvloop.Loop):
    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return _resolved(host, port) or await super().getaddrinfo(host, port, **options)


class _AsyncioLoop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return _resolved(host, port) or await super().getaddrinfo(host, port, **options)


def _sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{name}")
            if link.startswith("socket:"):
                found.add(link)
    return found


def _left(before: set[str]) -> set[object]:
    """Tasks of ours that still run, and sockets that were not open before."""
    return {*(asyncio.all_tasks() - {asyncio.current_task()}), *(_sockets() - before)}


def run(kind: Kind, scenario: Callable[[httpx.AsyncBaseTransport], Awaitable[None]], **limits: Any) -> None:
    """The scenario with a new transport; afterwards no socket and no task may be left."""

    async def main() -> None:
        before = _sockets()
        transport = make(kind, replace(LIMITS, **limits))
        try:
            async with asyncio.timeout(30):
                await scenario(transport)
        finally:
            await transport.aclose()
        until = time.monotonic() + 5
        while (left := _left(before)) and time.monotonic() < until:  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(0.005)
        assert not left

    factory = _AsyncioLoop if kind is Kind.LEAN_ASYNCIO else _UvLoop
    with asyncio.Runner(loop_factory=cast(Any, factory)) as runner:
        runner.run(main())


def over(**limits: Any) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Makes a test of a scenario, to be run with a new transport of its kind."""

    def test_of(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(scenario)
        def test(**given: Any) -> None:
            (kind,) = (value for value in given.values() if isinstance(value, Kind))
            run(kind, lambda transport: scenario(transport=transport, **given), **limits)

        signature = inspect.signature(scenario)
        asked = [one for name, one in signature.parameters.items() if name != "transport"]
        vars(test)["__signature__"] = signature.replace(parameters=asked)
        return test

    return test_of


def make(kind: Kind, limits: HttpLimits) -> httpx.AsyncBaseTransport:
    if kind in (Kind.LEAN, Kind.LEAN_ASYNCIO):
        return Asking(LeanTransport(lambda: certificates().client, limits, jitter=lambda: 0.0))
    pool = httpx.Limits(
        max_connections=limits.connections_max,
        max_keepalive_connections=limits.connections_max,
        keepalive_expiry=limits.idle_s_max,
    )
    plain = httpx.AsyncHTTPTransport(verify=certificates().client, limits=pool)
    return plain if kind is Kind.HTTPX else Asking(HttpxTransport(plain, limits))


async def post(
    transport: Transport, url: str, content: bytes = BODY, method: str = "POST", /, **seconds: float | None
) -> httpx.Response:
    """One request, its answer read whole; httpx's own streams the body, so its errors come as late as that."""
    extensions = {"timeout": {**QUICK, **seconds}}
    request = httpx.Request(method, url, content=content, extensions=extensions)
    response = await transport.handle_async_request(request)
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


async def soon(condition: Callable[[], bool]) -> None:
    """Becomes true without our doing."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(0.005)


def expect(kind: Kind, script: Script, error: type[Exception], **seconds: float) -> None:
    """A POST to this server ends with this error, and the transport works afterwards."""

    async def scenario(transport: Transport) -> None:
        async with serving(script) as server, serving(answering(answer())) as sane:
            with pytest.raises(error) as raised:
                await post(transport, server.url, **seconds)
            assert type(raised.value) is error
            assert len(server.requests) <= 1  # nothing is sent again
            assert (await post(transport, sane.url)).status_code == 200

    run(kind, scenario)


def expect_answer(kind: Kind, script: Script, status: int, body: bytes, method: str = "POST") -> None:
    async def scenario(transport: Transport) -> None:
        async with serving(script) as server:
            for _ in range(2):
                response = await post(transport, server.url, BODY, method)
                assert response.status_code == status
                assert response.content == body

    run(kind, scenario)


# ---- answers -----------------------------------------------------------------------------------------------


@over()
async def test_request_and_answer_arrive_whole(kind: Kind, transport: Transport) -> None:
    async with serving(answering(answer(b"{}", "202 Accepted", "Retry-After: 7", "X-A: 1", "X-A: 2"))) as server:
        response = await post(transport, server.url + "?a=b%20c")
        assert response.status_code == 202
        assert response.headers.get("retry-after") == "7"
        assert response.headers.get("RETRY-AFTER") == "7"
        assert response.headers.get("x-a") == "1, 2"
        assert response.headers.get("x-b") is None
        assert response.content == await response.aread() == b"{}"
        assert response.json() == {}
        assert response.reason_phrase == "Accepted"
        [seen] = server.requests
        assert seen.body == BODY
        assert seen.head.startswith(b"POST /events?a=b%20c HTTP/1.1\r\n")
        assert seen.header("host") == f"127.0.0.1:{server.port}"
        assert seen.header("accept-encoding") is None


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
OF_TWO = b"Content-Length: 2\r\n\r\nok"
FRAMINGS = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello"),
    "empty": (b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 0\r\n\r\n", 422, b""),
    "no reason": (b"HTTP/1.1 200 \r\n" + OF_TWO, 200, b"ok"),
    "chunked": (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
    "trailers": (CHUNKED + b"2;note=a\r\nhe\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"he"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + OF_TWO, 200, b"ok"),
    "103": (b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 201 C\r\n" + OF_TWO, 201, b"ok"),
    "upgrade advertised": (OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + OF_TWO, 200, b"ok"),
    "not ASCII": (b"HTTP/1.1 400 B\r\nX-A: caf\xc3\xa9\r\nContent-Length: 3\r\n\r\n\xe2\x82\xac", 400, b"\xe2\x82\xac"),
}


async def slowly(peer: Peer, data: bytes) -> None:
    await peer.send_slowly(data, 0)


@pytest.mark.parametrize("send", [Peer.send, slowly], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("case", FRAMINGS)
def test_bodies_end_where_their_framing_says(kind: Kind, case: str, send: Send) -> None:
    data, status, body = FRAMINGS[case]
    expect_answer(kind, answering(data, send), status, body)


@pytest.mark.parametrize(
    "head",
    [
        OK,
        b"HTTP/1.0 200 OK\r\n",
        OK + b"Connection: close\r\nContent-Length: 5\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n",
    ],
)
def test_an_answer_may_end_with_its_connection(kind: Kind, head: bytes) -> None:
    expect_answer(kind, once(head + b"\r\nhello"), 200, b"hello")


def test_an_answer_to_head_has_no_body(kind: Kind) -> None:
    expect_answer(kind, answering(OK + b"Content-Length: 5\r\n\r\n"), 200, b"", method="HEAD")


def test_an_encoded_body_stays_as_it_came(bounded: Kind) -> None:
    """httpx's own decodes it in `aread`; nobody has asked for it, so it is an error page of something in between."""
    packed = gzip.compress(b"hello")
    expect_answer(bounded, answering(answer(packed, "200 OK", "Content-Encoding: gzip")), 200, packed)


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"])
@over()
async def test_bytes_after_an_answer_are_never_taken_for_the_next_one(
    lean: Kind, transport: Transport, extra: bytes
) -> None:
    """httpx's own keeps them, and takes them for the start of the next answer."""
    numbers = iter(range(9))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(b"%d" % next(numbers)) + extra)

    async with serving(script) as server:
        for number in range(3):
            assert (await post(transport, server.url)).content == b"%d" % number
            await asyncio.sleep(0.01)


@over()
async def test_bytes_on_an_idle_connection_are_never_taken_for_an_answer(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"right"))
        await asyncio.sleep(0.01)
        await peer.send(answer(b"wrong"))
        await peer.closed()

    async with serving(script) as server:
        for _ in range(2):
            assert (await post(transport, server.url)).content == b"right"
            await asyncio.sleep(0.05)
        assert server.connections == 2


# ---- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"Content-Length: 50000000", b"X-Endless: 1", b"Transfer-Encoding: chunked"])
@over()
async def test_50_mb_or_an_endless_body_cost_64_kib(bounded: Kind, transport: Transport, head: bytes) -> None:
    part = b"x" * 65_536
    if head.startswith(b"Transfer"):
        part = b"%x\r\n%b\r\n" % (len(part), part)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        for _ in range(763):
            await peer.send(part)

    async with serving(script) as server:
        response = await post(transport, server.url)
        assert response.status_code == 200
        assert response.content == b"x" * LIMITS.body_bytes_max
        assert response.extensions["truncated"] is True
        await soon(lambda: server.open_now == 0)
        assert server.sent < 20_000_000


@pytest.mark.parametrize(("size", "truncated"), [(65_535, False), (65_536, False), (65_537, True)])
@over()
async def test_a_body_is_cut_at_64_kib_exactly(bounded: Kind, transport: Transport, size: int, truncated: bool) -> None:
    async with serving(answering(answer(b"x" * size))) as server:
        response = await post(transport, server.url)
        assert len(response.content) == min(size, 65_536)
        assert response.extensions.get("truncated", False) is truncated


@pytest.mark.parametrize(
    "flood", [b"X-A: 1\r\n" * 30_000 + b"\r\n", b"X-A: " + b"1" * 300_000, b"a" * 300_000], ids=["many", "one", "name"]
)
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 "], ids=["headers", "reason"])
def test_a_flood_of_headers_is_an_error(kind: Kind, flood: bytes, start: bytes) -> None:
    expect(kind, stuck_after(start + flood), httpx.RemoteProtocolError)


def test_a_flood_of_headers_in_one_read_is_an_error() -> None:
    outcome, _ = answer_to([answer(b"ok", "200 OK", *["X-A: 123456"] * 6000)])
    assert isinstance(outcome, httpx.RemoteProtocolError)


def test_switching_protocols_is_called_that() -> None:
    outcome, _ = answer_to([b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"])
    assert isinstance(outcome, httpx.RemoteProtocolError)
    assert "switches" in str(outcome)


@over()
async def test_trailers_are_no_headers(kind: Kind, transport: Transport) -> None:
    async with serving(answering(FRAMINGS["trailers"][0])) as server:
        assert "x-sum" not in (await post(transport, server.url)).headers


def test_headers_of_60_kb_are_taken(kind: Kind) -> None:
    expect_answer(kind, answering(answer(b"ok", "200 OK", "X-A: " + "1" * 60_000)), 200, b"ok")


@pytest.mark.parametrize(
    ("start", "again"),
    [(b"", b"HTTP/1.1 103 Early\r\n\r\n"), (CHUNKED + b"1;", b"note"), (CHUNKED + b"0\r\n", b"X-A: 1\r\n")],
    ids=["informational", "chunk extension", "trailers"],
)
def test_what_comes_without_end_and_is_no_body_is_an_error(lean: Kind, start: bytes, again: bytes) -> None:
    """h11 takes informational answers without end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        while True:
            await peer.send(again * 1000)

    expect(lean, script, httpx.RemoteProtocolError)


# ---- broken answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html><body>It works</body></html>\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Content-Length: many\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhel",
        CHUNKED + b"5\r\nhel",
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhel",
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        OK + b"Content-Le",
        b"",
    ],
)
def test_what_is_no_whole_answer_is_an_error(kind: Kind, data: bytes) -> None:
    expect(kind, once(data), httpx.RemoteProtocolError)


@pytest.mark.parametrize("data", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhel", OK + b"\r\nhel"])
def test_a_reset_is_an_error_wherever_it_comes(kind: Kind, data: bytes) -> None:
    """A body without a length ends with its connection, but not with just any end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await asyncio.sleep(0.02)
        peer.reset()

    expect(kind, script, httpx.ReadError)


# ---- deadlines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"], ids=["head", "in head", "body"]
)
def test_silence_is_a_read_timeout(kind: Kind, data: bytes) -> None:
    expect(kind, stuck_after(data), httpx.ReadTimeout, read=0.06)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"], ids=["head", "body"])
def test_a_drip_ends_at_the_total_deadline(bounded: Kind, start: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.send_slowly(answer(b"x" * 5000), 0.01)

    expect(bounded, script, httpx.ReadTimeout, read=0.05, total=0.15)


@over()
async def test_progress_moves_the_read_deadline(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for part in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 4\r\n\r\n", b"o", b"k", b"o", b"k"):
                await peer.send(part)
                await asyncio.sleep(0.07)

    async with serving(script) as server:
        assert (await post(transport, server.url, read=0.3)).content == b"okok"


@over()
async def test_a_server_that_does_not_read_is_a_write_timeout(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(5)

    async with serving(script) as server:
        with pytest.raises(httpx.WriteTimeout):
            await post(transport, server.url, b"x" * 30_000_000, write=0.1)


@over()
async def test_a_large_request_arrives_whole_at_a_slow_reader(kind: Kind, transport: Transport) -> None:
    content = bytes(range(256)) * 40_000

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.sleep(0.05)
        body = await peer.reader.readexactly(len(content))
        await asyncio.sleep(0.05)
        await peer.send(answer(b"%d" % (body == content)))

    async with serving(script) as server:
        assert (await post(transport, server.url, content, read=0.5)).content == b"1"


@over()
async def test_an_answer_before_the_request_was_written_counts_and_ends_the_connection(
    kind: Kind, transport: Transport
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"", "413 Too Large", "Connection: close"))
        await peer.closed()

    async with serving(script) as server:
        for _ in range(2):
            assert (await post(transport, server.url, b"x" * 20_000_000)).status_code == 413
        assert server.connections == 2


@over()
async def test_a_connection_with_an_unwritten_request_is_not_used_again(lean: Kind, transport: Transport) -> None:
    """httpx's own writes to the end first, whatever the answer."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"", "413 Too Large"))
        await asyncio.sleep(1)

    async with serving(script) as server:
        for _ in range(2):
            assert (await post(transport, server.url, b"x" * 20_000_000)).status_code == 413
        assert server.connections == 2


class _Stalling(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        time.sleep(0.8)


@over()
async def test_a_stall_of_our_own_loop_is_no_timeout(lean: Kind, transport: Transport) -> None:
    """The answer lies in the socket when the loop comes back, but uvloop may serve timers before it looks there."""
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening, theirs:

        def serve() -> None:  # in a thread: our loop is to stall, not the server
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                theirs.send(b"x")
                time.sleep(0.05)
                connection.sendall(answer())
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        stalling, _ = await asyncio.get_running_loop().create_connection(_Stalling, sock=ours)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert (await post(transport, url, read=0.3)).status_code == 200
        stalling.abort()
        await transport.aclose()
        thread.join()


@over(total_s_max=0.1)
async def test_no_phase_waits_for_ever_without_a_timeout_of_its_own(bounded: Kind, transport: Transport) -> None:
    async with serving(silent) as server:
        with pytest.raises(httpx.ReadTimeout):
            await transport.handle_async_request(httpx.Request("POST", server.url, content=BODY))
        with pytest.raises(httpx.ReadTimeout):
            await post(transport, server.url, read=None)


# ---- connecting --------------------------------------------------------------------------------------------


@over()
async def test_a_closed_port_is_a_connect_error(kind: Kind, transport: Transport) -> None:
    async with serving(answering(answer())) as server:
        url = server.url
    with pytest.raises(httpx.ConnectError) as refused:
        await post(transport, url)
    if kind in (Kind.LEAN, Kind.LEAN_ASYNCIO):  # httpx's own says no more than that
        assert str(refused.value) == f"127.0.0.1:{server.port}: Connection refused"


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a" * 70 + ".invalid"])
@over()
async def test_a_name_without_address_is_a_connect_error(lean: Kind, transport: Transport, host: str) -> None:
    """httpx's own lets UnicodeError through for a label that is too long."""
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
        await post(transport, f"http://{host}/")


@over()
async def test_another_scheme_is_not_supported(kind: Kind, transport: Transport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await post(transport, "ftp://127.0.0.1/")


@over()
async def test_tls_is_verified_and_kept_alive(kind: Kind, transport: Transport) -> None:
    NAMES["localhost"] = ["127.0.0.1"]
    async with serving(answering(answer(b"x" * 50_000)), tls=certificates().good) as server:
        for _ in range(3):
            response = await post(transport, f"https://localhost:{server.port}/", b"y" * 500_000)
            assert response.content == b"x" * 50_000
        assert server.connections == 1


@pytest.mark.parametrize("fault", ["wrong_host", "expired", "self_signed", "other name"])
@over()
async def test_a_wrong_certificate_is_a_connect_error_that_says_so(
    kind: Kind, transport: Transport, fault: str
) -> None:
    host = "hakuna.test" if fault == "other name" else "localhost"
    NAMES[host] = ["127.0.0.1"]
    async with serving(answering(answer()), tls=getattr(certificates(), fault, certificates().good)) as server:
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            await post(transport, f"https://{host}:{server.port}/")
        assert not server.requests


@over()
async def test_a_server_without_tls_is_a_connect_error(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        with pytest.raises(httpx.ConnectError):
            await post(transport, server.url.replace("http:", "https:"))


@over()
async def test_a_handshake_without_end_is_a_connect_timeout(kind: Kind, transport: Transport) -> None:
    async with serving(silent) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(httpx.ConnectTimeout):
            await post(transport, url, connect=0.1)
        await soon(lambda: server.open_now == 0)


@over()
async def test_a_dead_address_is_passed_over(kind: Kind, transport: Transport) -> None:
    NAMES["hakuna.test"] = ["127.0.0.9", "127.0.0.1"]
    async with serving(once(answer(b"ok", "200 OK", "Connection: close"))) as server:
        for _ in range(2):
            assert (await post(transport, f"http://hakuna.test:{server.port}/")).content == b"ok"


@over()
async def test_a_change_in_dns_is_followed_by_new_connections(kind: Kind, transport: Transport) -> None:
    closing = "Connection: close"
    async with serving(answering(answer(b"old", "200 OK", closing))) as old:
        new_one = serving(answering(answer(b"new", "200 OK", closing)), host="127.0.0.2", port=old.port)
        async with new_one:
            url = f"http://hakuna.test:{old.port}/"
            NAMES["hakuna.test"] = ["127.0.0.1"]
            assert (await post(transport, url)).content == b"old"
            NAMES["hakuna.test"] = ["127.0.0.2"]
            assert (await post(transport, url)).content == b"new"


@over(age_s_max=0.1, connections_max=1)
async def test_a_busy_connection_grows_old_and_follows_dns(lean: Kind, transport: Transport) -> None:
    """httpx's own stays with the old address for as long as the connection is busy."""
    async with serving(answering(answer(b"old"))) as old:
        new_one = serving(answering(answer(b"new")), host="127.0.0.2", port=old.port)
        async with new_one:
            url = f"http://hakuna.test:{old.port}/"

            until = time.monotonic() + 5

            async def lane() -> None:
                while (await post(transport, url)).content == b"old":
                    assert time.monotonic() < until

            NAMES["hakuna.test"] = ["127.0.0.1"]
            assert (await post(transport, url)).content == b"old"
            NAMES["hakuna.test"] = ["127.0.0.2"]
            assert (await post(transport, url)).content == b"old"
            await asyncio.gather(lane(), lane())  # one always waits for the connection: it is never idle


@over()
async def test_an_address_that_failed_comes_last(lean: Kind, transport: Transport) -> None:
    NAMES["localhost"] = ["127.0.0.1", "127.0.0.2"]
    good = answering(answer(b"ok", "200 OK", "Connection: close"))
    async with serving(silent) as dead, serving(good, certificates().good, "127.0.0.2", dead.port) as alive:
        for _ in range(3):
            response = await post(transport, f"https://localhost:{dead.port}/", connect=0.6)
            assert response.content == b"ok"
        assert (dead.connections, alive.connections) == (1, 3)


# ---- the pool ----------------------------------------------------------------------------------------------


@over()
async def test_a_connection_is_used_again(kind: Kind, transport: Transport) -> None:
    async with serving(answering(answer())) as server:
        for _ in range(5):
            await post(transport, server.url)
        assert server.connections == 1


@over()
async def test_never_more_connections_than_allowed(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            received = await peer.request()
            await asyncio.sleep(0.001)
            await peer.send(answer(received.body))

    async with serving(script) as server:
        bodies = [b"%d" % number for number in range(100)]
        answers = await asyncio.gather(*[post(transport, server.url, body) for body in bodies])
        assert [response.content for response in answers] == bodies
        assert server.open_most <= LIMITS.connections_max


@over()
async def test_slots_of_failed_connections_come_back(kind: Kind, transport: Transport) -> None:
    """More failures than slots, with more requests waiting, then as many good ones as there are slots."""
    failing = True

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            if failing:
                peer.reset()
                return
            await asyncio.sleep(0.01)
            await peer.send(answer())

    async with serving(script) as server:
        outcomes = await asyncio.gather(*[post(transport, server.url) for _ in range(40)], return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {httpx.ReadError}
        failing = False
        good = await asyncio.gather(*[post(transport, server.url) for _ in range(40)])
        assert len(good) == 40


@over(connections_max=2)
async def test_a_connection_that_dies_on_its_way_to_the_next_request_is_passed_over(
    lean: Kind, transport: Transport
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(answer())
        peer.writer.write_eof()  # says nothing of it, so that the connection is handed on

    async with serving(script) as server:
        outcomes = await asyncio.gather(*[post(transport, server.url) for _ in range(60)], return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, httpx.Response | httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
        assert sum(isinstance(outcome, httpx.Response) for outcome in outcomes) >= 10
        await asyncio.gather(*[post(transport, server.url) for _ in range(2)])


@over(connections_max=2)
async def test_no_free_connection_is_a_pool_timeout(kind: Kind, transport: Transport) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(answer())

    async with serving(script) as server:
        first = [asyncio.create_task(post(transport, server.url)) for _ in range(2)]
        await asyncio.sleep(0.02)
        waits = asyncio.create_task(post(transport, server.url))
        with pytest.raises(httpx.PoolTimeout):
            await post(transport, server.url, pool=0.05)
        release.set()
        for task in (*first, waits):
            assert (await task).status_code == 200
        assert server.connections == 2


@over(connections_max=1, waiting_max=3)
async def test_too_many_waiting_are_refused_at_once(lean: Kind, transport: Transport) -> None:
    async with serving(silent) as server:
        tasks = [asyncio.create_task(post(transport, server.url)) for _ in range(4)]
        await asyncio.sleep(0.02)
        with pytest.raises(httpx.PoolTimeout, match="wait for a connection already"):
            await post(transport, server.url)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("half", [False, True])
@over()
async def test_an_idle_connection_that_the_server_closes_is_not_used_again(
    kind: Kind, transport: Transport, half: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        if half:
            peer.writer.write_eof()
            await peer.closed()

    async with serving(script) as server:
        for _ in range(3):
            assert (await post(transport, server.url)).status_code == 200
            await asyncio.sleep(0.02)
        assert server.connections == 3


@pytest.mark.parametrize("reset", [False, True])
@over()
async def test_a_request_that_meets_a_closing_connection_is_not_sent_again(
    kind: Kind, transport: Transport, reset: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        if reset:
            peer.reset()

    async with serving(script) as server:
        await post(transport, server.url)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await post(transport, server.url)
        await asyncio.sleep(0.02)
        assert len(server.requests) == 2
        assert (await post(transport, server.url)).status_code == 200


@over(idle_s_max=0.3)
async def test_idle_connections_are_closed_in_time(lean: Kind, transport: Transport) -> None:
    """httpx's own closes them only when the next request comes."""
    async with serving(answering(answer())) as server:
        await asyncio.gather(*[post(transport, server.url) for _ in range(5)])
        assert server.open_now == 5
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            await post(transport, server.url)  # one at a time: the one used last is used again
            await asyncio.sleep(0.01)
        assert server.connections == 5
        await soon(lambda: server.open_now == 1)
        await post(transport, server.url)
        assert server.connections == 5
        await soon(lambda: server.open_now == 0)


@over()
async def test_a_cancelled_request_ends_its_connection(kind: Kind, transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            received = await peer.request()
            if received.body == b"slow":
                await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionError):
                await peer.send(answer(received.body))

    async with serving(script) as server:
        await post(transport, server.url)
        slow = asyncio.create_task(post(transport, server.url, b"slow"))
        await asyncio.sleep(0.02)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        for number in range(3):
            assert (await post(transport, server.url, b"%d" % number)).content == b"%d" % number
            await asyncio.sleep(0.02)
        assert server.connections == 2


@over()
async def test_a_cancelled_request_closes_its_connection_at_once(kind: Kind, transport: Transport) -> None:
    async with serving(stuck_after(b"")) as server:
        slow = asyncio.create_task(post(transport, server.url))
        await asyncio.sleep(0.02)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await soon(lambda: server.open_now == 0)
        assert server.connections == 1


def test_an_answer_that_meets_a_cancelled_request_is_dropped() -> None:
    async def main() -> None:
        free = _Free()
        connection = Connection(free, LIMITS, retire_at=float("inf"))
        connection.connection_made(_Wire(connection))
        assert connection.adopt()
        awaited = Awaited(fields)
        connection.send(b"", False, QUICK, asyncio.get_running_loop().time() + 1, awaited)
        awaited.future.cancel()
        connection.data_received(answer())  # before the task that was cancelled could say so
        connection.abandon(awaited)
        assert free.released == 1, "the answer came whole: the connection is as good as any"
        connection.stop()
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("resets", [False, True])
@over(connections_max=3)
async def test_cancelling_at_any_moment_loses_no_connection(lean: Kind, transport: Transport, resets: bool) -> None:
    """Nor a slot: afterwards they are all to be had. (httpx's own is not asked: it takes seconds for this.)"""
    numbers = iter(range(10_000))

    async def script(peer: Peer) -> None:
        while True:
            received = await peer.request()
            if resets and next(numbers) % 3 == 0:
                peer.reset()
                return
            await peer.send(answer(received.body))

    async with serving(script) as server:
        for turns in range(40):
            tasks = [asyncio.create_task(post(transport, server.url, b"%d" % n)) for n in range(6)]
            for _ in range(turns % 13):
                await asyncio.sleep(0)
            for task in tasks[:: 1 + turns % 3]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for number, outcome in enumerate(outcomes):
                if isinstance(outcome, httpx.Response):
                    assert outcome.content == b"%d" % number
                else:
                    assert isinstance(outcome, asyncio.CancelledError) or (
                        resets and isinstance(outcome, httpx.ReadError)
                    )
        resets = False
        good = await asyncio.gather(*[post(transport, server.url, pool=5.0) for _ in range(6)])
        assert len(good) == 6


@over(connections_max=2)
async def test_closing_ends_what_is_under_way(lean: Kind, transport: Transport) -> None:
    async with serving(silent) as server:
        tasks = [asyncio.create_task(post(transport, server.url)) for _ in range(4)]
        await asyncio.sleep(0.03)
        await transport.aclose()
        for task in tasks:
            with pytest.raises(httpx.TransportError):
                await task
        with pytest.raises(httpx.TransportError):
            await post(transport, server.url)


@over(origins_max=2)
async def test_origins_are_few_and_do_not_share_connections(lean: Kind, transport: Transport) -> None:
    async with serving(answering(answer(b"a"))) as a, serving(answering(answer(b"b"))) as b:
        for _ in range(2):
            assert (await post(transport, a.url)).content == b"a"
            assert (await post(transport, b.url)).content == b"b"
        with pytest.raises(httpx.LocalProtocolError, match="origins"):
            await post(transport, "http://127.0.0.1:1/")


# ---- requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-A", b"a\r\nX-B: b"),
        (b"X-A", b"a\nb"),
        (b"X-A", b"a\rb"),
        (b"X-A", b"a\x00b"),
        (b"X-A\r\nX-B", b"b"),
        (b"X A", b"b"),
    ],
)
@over()
async def test_no_header_smuggles_another_one(kind: Kind, transport: Transport, name: bytes, value: bytes) -> None:
    async with serving(answering(answer())) as server:
        request = httpx.Request("POST", server.url, headers=[(name, value)], content=BODY)
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
        template = RequestTemplate("POST", httpx.URL(server.url), [])
        with pytest.raises(httpx.LocalProtocolError):
            template.build(BODY, [(name, value)])
        with pytest.raises(httpx.LocalProtocolError):
            RequestTemplate("POST", httpx.URL(server.url), [(name, value)])
        assert (await post(transport, server.url)).status_code == 200
        assert len(server.requests) == 1


@over()
async def test_no_method_smuggles_a_header(kind: Kind, transport: Transport) -> None:
    async with serving(answering(answer())) as server:
        with pytest.raises(httpx.LocalProtocolError):
            await post(transport, server.url, BODY, "POST / HTTP/1.1\r\nX-A: b\r\n")


@pytest.mark.parametrize("content", [b"", BODY, b"x" * 100_000], ids=len)
@over()
async def test_a_template_makes_the_same_request_for_every_transport(
    kind: Kind, transport: Transport, content: bytes
) -> None:
    async with serving(answering(answer())) as server:
        template = RequestTemplate("POST", httpx.URL(server.url), [(b"Authorization", b"Bearer x")], QUICK)
        own = [(b"Idempotency-Key", b'"k"'), (b"traceparent", b"00-a-b-01")]
        request = template.build(content, own)
        if isinstance(transport, Asking):
            await ask(transport.transport, template, content, own)
        else:
            await (await transport.handle_async_request(request)).aread()
        [seen] = server.requests
        assert seen.body == content == request.content == await request.aread()
        assert seen.head.startswith(b"POST /events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)
        names = [line.split(b":")[0] for line in seen.head.split(b"\r\n")[1:-2]]
        assert names == [b"Host", b"Authorization", b"Content-Length", b"Idempotency-Key", b"traceparent"]
        assert [name for name, _ in request.headers.raw] == names
        assert request.headers["idempotency-key"] == seen.header("Idempotency-Key") == '"k"'


# ---- any bytes ---------------------------------------------------------------------------------------------


class _Wire(asyncio.Transport):
    """Takes what is written, and tells its protocol when it was closed, as a socket does."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class _Free:
    """A pool that only looks on."""

    def __init__(self) -> None:
        self.released = 0

    def release(self, connection: Connection) -> None:
        assert connection.phase is Phase.IDLE
        self.released += 1

    def closing(self, connection: Connection) -> None:
        pass

    def forget(self, connection: Connection) -> None:
        assert connection.phase is Phase.CLOSED


def answer_to(pieces: list[bytes]) -> tuple[Answered | Exception, bool]:
    """What a connection makes of these reads and the end of the stream; and whether it would be used again."""

    async def main() -> tuple[Answered | Exception, bool]:
        free = _Free()
        connection = Connection(free, LIMITS, retire_at=float("inf"))
        connection.connection_made(_Wire(connection))
        assert connection.adopt()
        awaited = Awaited(fields)
        connection.send(b"", False, QUICK, asyncio.get_running_loop().time() + 1, awaited)
        future = awaited.future
        for piece in pieces:
            if piece and not future.done():
                connection.data_received(piece)
        again = free.released == 1
        if not future.done():
            connection.eof_received()
        assert future.done()
        connection.stop()
        await asyncio.sleep(0)
        error = future.exception()
        assert error is None or isinstance(error, Exception)
        return error or future.result(), again

    return asyncio.run(main())


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


VALUES = st.text("abcdefgh 0123456789-/;=", max_size=12).map(lambda text: text.strip().encode())
CUTS = st.lists(st.integers(0, 5000), max_size=12)


@settings(max_examples=200)
@given(
    status=st.sampled_from([200, 202, 301, 400, 404, 422, 429, 500, 503]),
    headers=st.lists(st.tuples(st.sampled_from([b"X-A", b"Retry-After", b"date"]), VALUES), max_size=6),
    body=st.lists(st.binary(min_size=1, max_size=400), max_size=5),
    framing=st.sampled_from(["length", "chunked", "close"]),
    informational=st.booleans(),
    cuts=CUTS,
)
def test_any_split_of_an_answer_gives_the_same_answer(
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: list[bytes],
    framing: str,
    informational: bool,
    cuts: list[int],
) -> None:
    whole = b"".join(body)
    chunked = b"Transfer-Encoding: chunked\r\n"
    frame = {"length": b"Content-Length: %d\r\n" % len(whole), "chunked": chunked, "close": b""}
    data = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" if informational else b""
    data += b"HTTP/1.1 %d X\r\n" % status + b"".join([b"%b: %b\r\n" % header for header in headers])
    data += frame[framing] + b"\r\n"
    if framing == "chunked":
        data += b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in body]) + b"0\r\n\r\n"
    else:
        data += whole
    response, again = answer_to(split(data, cuts))
    assert isinstance(response, Answered), response
    assert response.status == status
    assert response.body == whole
    assert [pair for pair in response.fields if pair[0] in (b"X-A", b"Retry-After", b"date")] == headers
    assert again is (framing != "close")


@settings(max_examples=200)
@given(declared=st.integers(0, 2_000), body=st.binary(max_size=2_000), cuts=CUTS)
def test_a_length_that_lies_gives_what_it_says_or_an_error_and_never_more(
    declared: int, body: bytes, cuts: list[int]
) -> None:
    data = b"HTTP/1.1 422 X\r\nContent-Length: %d\r\n\r\n" % declared + body
    outcome, again = answer_to(split(data, cuts))
    if declared > len(body):
        assert isinstance(outcome, httpx.RemoteProtocolError), outcome
        assert not again
    else:
        assert isinstance(outcome, Answered), outcome
        assert outcome.body == body[:declared]
        if declared < len(body) and len(split(data, cuts)) == 1:
            assert not again, "what follows would be taken for the next answer"


@settings(max_examples=100)
@given(off=st.integers(-300, 300), fields=st.integers(1, 500), cuts=CUTS)
@example(off=0, fields=1, cuts=[])
@example(off=1, fields=1, cuts=[])
def test_headers_are_taken_up_to_their_limit_and_not_a_byte_beyond_it(off: int, fields: int, cuts: list[int]) -> None:
    """Counted as name, value and four bytes for each; where they come in pieces, with the status line and the end."""
    framing = b"Content-Length: 2\r\n"
    room = LIMITS.head_bytes_max + off - len(framing)
    sizes = [room // fields + (number < room % fields) for number in range(fields)]
    lines = b"".join([b"X-A: " + b"1" * (size - len("X-A: \r\n")) + b"\r\n" for size in sizes])
    outcome, again = answer_to(split(b"HTTP/1.1 200 OK\r\n" + framing + lines + b"\r\nok", cuts))
    if off <= (0 if not cuts else -len(b"HTTP/1.1 200 OK\r\n\r\n")):
        assert isinstance(outcome, Answered), outcome
        assert (outcome.body, again) == (b"ok", True)
    elif off > 0:
        assert isinstance(outcome, httpx.RemoteProtocolError)
        assert f"headers of more than {LIMITS.head_bytes_max} bytes" in str(outcome)


GARBAGE = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.0 204 N\r\n",
                b"\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n",
                b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n",
                b"3\r\nabc\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"abc", b"X: " + b"y" * 70_000 + b"\r\n",
                b"z" * 70_000,
            ]
        ),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@settings(max_examples=300)
@given(data=GARBAGE, cuts=CUTS)
def test_garbage_gives_an_answer_or_an_error_of_httpx(data: bytes, cuts: list[int]) -> None:
    outcome, again = answer_to(split(data, cuts))
    assert isinstance(outcome, Answered | httpx.TransportError)
    if isinstance(outcome, Answered):
        assert 200 <= outcome.status <= 999
        assert len(outcome.body) <= LIMITS.body_bytes_max
    else:
        assert not again


# ---- the choice --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", [None, Proxy("http", "proxy", 3128), Proxy("https", "proxy", 443)])
def test_the_transport_is_the_one_that_is_asked_for(proxy: Proxy | None) -> None:
    assert isinstance(transport_for(HttpTransport.LEAN, tls_context, proxy), LeanTransport)
    assert isinstance(transport_for(HttpTransport.HTTPX, tls_context, proxy), HttpxTransport)


# ---- certificates -------------------------------------------------------------------------------------------


def test_certificates_are_always_verified() -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname

"""CPU and rate of the HTTP clients that can stand behind the sender, on one machine in one run.

    python -m tests.benchmarks.http_clients            the table: POSTs of 600 bytes, 1 to 1024 in flight

One of them: `python -m tests.benchmarks.http_clients --seconds 1 --in-flight 256 --clients lean`.

CPU is this process's own (client, event loop and kernel); the server is another process, a minimal one of
ours. Both fill the two cores of a small machine, so requests/s depend on the server as well, CPU hardly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import httptools
import httpx
import uvloop

from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import ask
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate

BODY = b'{"type":"order_placed","data":"' + b"x" * 567 + b'"}'
ANSWER = b'{"id":"evt_0191e3b27bbb","status":"accepted"}'
STATIC = [
    (b"Authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"Content-Type", b"application/json"),
    (b"Hakuna-Version", b"v1.2"),
    (b"User-Agent", b"hakuna-processor/1.0"),
]
OWN = [
    (b"Idempotency-Key", b'"0191e3b2-aaaa-7bbb-8ccc-0123456789ab"'),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
TIMEOUTS: dict[str, float | None] = {"connect": 60.0, "read": 60.0, "write": 60.0, "pool": 60.0}
GC_THRESHOLD = (50_000, 20, 100)
"""As the sender has it, for all: at Python's own threshold the collector looks at every connection far too often."""

MODULE = "tests.benchmarks.http_clients"

Post = Callable[[], Awaitable[object]]


class _Answering(asyncio.Protocol):
    """A server that costs as little as one in Python can: whole requests in, one prebuilt answer each."""

    _WIRE = (
        b"HTTP/1.1 202 Accepted\r\nServer: bench\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
        b"X-Request-Id: 0123456789\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b"
        % (len(ANSWER), ANSWER)
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(self._WIRE)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def _server() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-m", MODULE, "--serve"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}/events"
        finally:
            child.terminate()


def _lean(url: str, in_flight: int) -> tuple[Post, LeanTransport]:
    """Our own client; the sender does without the future."""
    transport = LeanTransport(ssl.create_default_context, HttpLimits(connections_max=in_flight))
    template = RequestTemplate("POST", httpx.URL(url), STATIC, TIMEOUTS)
    return lambda: ask(transport, template, BODY, OWN), transport


def _httpx(url: str, in_flight: int) -> tuple[Post, httpx.AsyncBaseTransport]:
    """httpx's own transport, called directly, with requests that are made as cheaply as its types allow."""
    template = RequestTemplate("POST", httpx.URL(url), STATIC, TIMEOUTS)
    transport = httpx.AsyncHTTPTransport(
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    )
    return lambda: transport.handle_async_request(template.build(BODY, OWN)), transport


def _client(url: str, in_flight: int) -> tuple[Post, httpx.AsyncClient]:
    """httpx.AsyncClient as everybody uses it."""
    client = httpx.AsyncClient(
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight), timeout=60
    )
    headers = {name.decode(): value.decode() for name, value in (*STATIC, *OWN)}
    return lambda: client.post(url, content=BODY, headers=headers), client


class _Bare(asyncio.Protocol):
    """The least a client on httptools can do: no pool, no deadlines, no limits, no httpx."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def post(self, wire: bytes) -> asyncio.Future[bytes]:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(wire)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        self._answer.set_result(self._body)

    async def aclose(self) -> None:
        self._transport.close()


class _Floor:
    """`_Bare` connections, as many as requests are in flight; the same canned httpx.Response for each."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._wire = RequestTemplate("POST", self._url, STATIC, TIMEOUTS).wire(BODY, OWN)
        self._response = httpx.Response(202, content=ANSWER)
        self._idle: list[_Bare] = []

    async def post(self) -> httpx.Response:
        if self._idle:
            bare = self._idle.pop()
        else:
            connect = asyncio.get_running_loop().create_connection
            bare = (await connect(_Bare, self._url.host, self._url.port or 80))[1]
        await bare.post(self._wire)
        self._idle.append(bare)
        return self._response

    async def aclose(self) -> None:
        for bare in self._idle:
            await bare.aclose()


def _floor(url: str, in_flight: int) -> tuple[Post, _Floor]:
    floor = _Floor(url)
    return floor.post, floor


Client = LeanTransport | httpx.AsyncBaseTransport | httpx.AsyncClient | _Floor

CLIENTS: dict[str, Callable[[str, int], tuple[Post, Client]]] = {
    "floor": _floor,
    "lean": _lean,
    "httpx-transport": _httpx,
    "httpx-client": _client,
}


async def measure(name: str, url: str, in_flight: int, seconds: float, rounds: int) -> tuple[float, float, int]:
    """CPU µs a request, requests/s and requests of the best round, after a warm-up."""
    post, closing = CLIENTS[name](url, in_flight)
    requests = 0
    end = 0.0

    async def lane() -> None:
        nonlocal requests
        while True:
            answered = await post()
            if isinstance(answered, httpx.Response):
                await answered.aread()
            requests += 1
            if time.perf_counter() >= end:
                return

    await asyncio.gather(*[lane() for _ in range(in_flight)])
    best = (float("inf"), 0.0, 0)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    for _ in range(rounds):
        requests = 0
        cpu, start = time.process_time(), time.perf_counter()
        end = start + seconds
        await asyncio.gather(*[lane() for _ in range(in_flight)])
        cpu, took = time.process_time() - cpu, time.perf_counter() - start
        best = min(best, (cpu / requests * 1e6, requests / took, requests))
        if took > 2 * seconds:  # every lane makes a request, and that alone took too long
            break
    await closing.aclose()
    return best


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--seconds", type=float, default=0.5, help="a round")
    options.add_argument("--rounds", type=int, default=3, help="the best is printed: other work only ever adds")
    options.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 256, 1024])
    options.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    chosen = options.parse_args()
    if chosen.serve:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_serve())
        return
    print(f"{'client':20s} {'in flight':>9s} {'CPU µs/request':>15s} {'requests/s':>11s} {'requests':>9s}")
    with _server() as url:
        for name in chosen.clients:
            for in_flight in chosen.in_flight:
                cpu, rate, requests = uvloop.run(measure(name, url, in_flight, chosen.seconds, chosen.rounds))
                print(f"{name:20s} {in_flight:9d} {cpu:15.1f} {rate:11,.0f} {requests:9,d}", flush=True)


if __name__ == "__main__":
    main()

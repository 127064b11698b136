"""The seam to HTTP: whatever a transport raises or answers, there is an `Answer` or the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from processor.api.verdicts import BODY_BYTES_MAX, Answer, NoAnswer
from processor.edges.http.connection import HttpLimits
from processor.edges.http.httpx_client import HttpxTransport
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import tls_context
from processor.send.destination import Request
from processor.send.event_loop.endpoint import Endpoint, Heard, Transport, no_answer
from tests.fakes.clock import FakeClock
from tests.fakes.transport import FakeTransport
from tests.support.http_servers import Peer, answer, serving

REQUEST: Request = ("POST", "/events", b"{}", ((b"Idempotency-Key", b'"e1"'),))


class Wire(FakeTransport):
    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer
        self.requests: list[httpx.Request] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)


class Stream(httpx.AsyncByteStream):
    """Chunks without end, and whether it was closed; after `fail_after` of them the connection breaks."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.fail_after = fail_after
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self.given == self.fail_after:
                raise httpx.ReadError("reset")
            self.given += 1
            yield b"x" * 1_000

    async def aclose(self) -> None:
        self.closed = True


def streaming(body: Stream) -> Transport:
    """httpx's own client as the sender has it."""
    return HttpxTransport(httpx.MockTransport(lambda request: httpx.Response(200, stream=body)), HttpLimits())


def post(wire: Transport, clock: FakeClock | None = None) -> tuple[Answer | NoAnswer, Endpoint]:
    endpoint = Endpoint(wire, RequestTemplate, "http://api.test/v1", 5.0, clock or FakeClock())
    endpoint.use(((b"Authorization", b"Bearer k"), (b"Content-Type", b"application/json")))
    return asyncio.run(answered(endpoint)), endpoint


async def answered(endpoint: Endpoint, request: Request = REQUEST) -> Answer | NoAnswer:
    ended: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
    endpoint.post(request, ended, asyncio.Future.set_result)
    assert not ended.done(), "never from inside"
    answer = await ended
    if isinstance(answer, Exception):
        raise answer
    return answer


def exceptions() -> list[type[Exception]]:
    """Every exception that httpx exports."""
    found = [getattr(httpx, name) for name in httpx.__all__]
    return sorted((one for one in found if isinstance(one, type) and issubclass(one, Exception)), key=str)


@pytest.mark.parametrize("kind", exceptions())
def test_every_exception_of_httpx_is_a_reason(kind: type[Exception]) -> None:
    reason = no_answer(kind.__new__(kind))
    assert reason is (NoAnswer.TIMEOUT if issubclass(kind, httpx.TimeoutException) else NoAnswer.CONNECTION)


@pytest.mark.parametrize(
    "error", [OSError("x"), ConnectionResetError(), TimeoutError(), asyncio.IncompleteReadError(b"", 1)]
)
def test_what_an_odd_transport_may_raise(error: Exception) -> None:
    expected = NoAnswer.TIMEOUT if isinstance(error, TimeoutError) else NoAnswer.CONNECTION
    assert no_answer(error) is (None if isinstance(error, EOFError) else expected)


def test_a_mistake_of_ours_is_none() -> None:
    assert no_answer(ZeroDivisionError()) is None
    with pytest.raises(ZeroDivisionError):
        post(Wire(lambda request: httpx.Response(1 // 0)))


def test_a_request_goes_out_with_the_common_headers_and_its_own() -> None:
    wire = Wire(lambda request: httpx.Response(200))
    post(wire)
    (request,) = wire.requests
    assert (request.method, str(request.url)) == ("POST", "http://api.test/v1/events")
    assert request.headers["Authorization"] == "Bearer k"
    assert request.headers["Idempotency-Key"] == '"e1"'
    assert request.headers["Content-Length"] == "2"
    assert request.extensions["timeout"]["total"] == 5.0


def test_another_key_is_used_from_the_next_request_on() -> None:
    wire = Wire(lambda request: httpx.Response(200))
    _, endpoint = post(wire)
    endpoint.use(((b"Authorization", b"Bearer other"),))
    asyncio.run(answered(endpoint))
    assert [request.headers["Authorization"] for request in wire.requests] == ["Bearer k", "Bearer other"]


def test_of_an_endless_body_64_kib_are_read_and_the_connection_is_let_go() -> None:
    stream = Stream()
    answer, _ = post(streaming(stream))
    assert isinstance(answer, Answer)
    assert len(answer.body) == BODY_BYTES_MAX
    assert stream.given <= BODY_BYTES_MAX // 1_000 + 1
    assert stream.closed


def test_a_body_that_breaks_off_is_no_answer() -> None:
    answer, endpoint = post(streaming(Stream(fail_after=3)))
    assert answer is NoAnswer.CONNECTION
    assert endpoint.trouble == "ReadError: reset"


def test_only_what_the_verdicts_read_is_kept_of_the_headers_each_value_on_a_line_of_its_own() -> None:
    headers = [("Retry-After", "3"), ("Server", "nginx"), ("Set-Cookie", "a=b"), ("RETRY-AFTER", "30")]
    answer, _ = post(Wire(lambda request: httpx.Response(503, headers=headers)))
    assert answer == Answer(503, {"retry-after": "3\n30", "server": "nginx"}, b"")


def test_of_an_accepted_answer_that_is_no_json_the_headers_are_read() -> None:
    headers = {"Content-Type": "text/html", "Server": "nginx"}
    answer, _ = post(Wire(lambda request: httpx.Response(200, headers=headers, content=b"<p>Sign in")))
    assert answer == Answer(200, {"content-type": "text/html", "server": "nginx"}, b"<p>Sign in")


def test_of_an_accepted_answer_without_a_body_the_headers_are_read_for_a_firewall_may_have_given_it() -> None:
    answer, endpoint = post(Wire(lambda request: httpx.Response(202, headers={"X-Amzn-Waf-Action": "challenge"})))
    assert asyncio.run(answered(endpoint)) == answer == Answer(202, {"x-amzn-waf-action": "challenge"}, b"")


def test_advice_on_accepted_requests_is_read_now_and_then_and_on_refusals_always() -> None:
    clock = FakeClock()
    status = 200
    headers = {"RateLimit": '"d";r=0;t=9'}
    _, endpoint = post(Wire(lambda request: httpx.Response(status, headers=headers, content=b"{}")), clock)

    def read() -> bool:
        answer = asyncio.run(answered(endpoint))
        assert isinstance(answer, Answer)
        return bool(answer.headers)

    assert not read()
    clock.advance(0.05)
    assert read()
    status = 429
    assert read()
    assert read()


def over_a_socket(scenario: Callable[[Endpoint, list[bytes]], Awaitable[None]], *answers: bytes) -> None:
    """The lean transport, and a server that gives these answers in turn and keeps the heads of the requests."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while len(heads) < len(answers):
            received = await peer.request()
            heads.append(received.head)
            await peer.send(answers[len(heads) - 1])
        await peer.closed()

    async def main() -> None:
        transport = LeanTransport(tls_context)
        async with serving(script) as server:
            endpoint = Endpoint(transport, RequestTemplate, server.url, 5.0, FakeClock())
            endpoint.use(((b"Authorization", b"Bearer k"),))
            await scenario(endpoint, heads)
            await transport.aclose()

    asyncio.run(main())


def test_by_exchange_advice_is_read_of_refusals_and_nothing_else_is() -> None:
    refused = b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nServer: s\r\nContent-Length: 2\r\n\r\n{}"

    async def scenario(endpoint: Endpoint, heads: list[bytes]) -> None:
        assert await answered(endpoint) == Answer(429, {"retry-after": "7", "server": "s"}, b"{}")
        assert await answered(endpoint) == Answer(200, {}, b"yes")
        assert b'Idempotency-Key: "e1"' in heads[1]
        assert b"Authorization: Bearer k" in heads[1]

    over_a_socket(scenario, refused, answer(b"yes"))


def test_by_exchange_what_fails_is_a_reason() -> None:
    async def scenario(endpoint: Endpoint, heads: list[bytes]) -> None:
        assert await answered(endpoint) is NoAnswer.CONNECTION
        assert endpoint.trouble is not None
        assert endpoint.trouble.startswith("RemoteProtocolError: ")
        smuggling: Request = ("POST", "/events", b"{}", ((b"Idempotency-Key", b"a\r\nb: c"),))
        assert await answered(endpoint, smuggling) is NoAnswer.CONNECTION
        assert len(heads) == 1

    over_a_socket(scenario, b"SSH-2.0-OpenSSH_9.2\r\n")


def test_by_exchange_whoever_gives_up_is_told_nothing() -> None:
    async def scenario(endpoint: Endpoint, heads: list[bytes]) -> None:
        told: list[Heard] = []
        waiting = endpoint.post(REQUEST, told, list.append)
        waiting.give_up()  # before there is a connection
        assert await answered(endpoint) == Answer(200, {}, b"1")
        under_way = endpoint.post(REQUEST, told, list.append)  # on the connection that is there
        under_way.give_up()
        await asyncio.sleep(0.02)
        assert not told

    over_a_socket(scenario, answer(b"1"), answer(b"2"))

"""The way to an API through what a company puts before it: proxies, authorities of its own, client certificates,
servers that keep connections for a moment. The lean client, on both event loops, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Answered, ask
from processor.edges.http.pool import LeanTransport
from processor.edges.http.proxies import Proxy
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import Tls, TlsFiles
from processor.errors import Unusable
from tests.contracts.test_http_transport import certificates
from tests.support.certificates import Authority, demanding
from tests.support.connect_proxy import passing_on, tunnelling
from tests.support.http_servers import Peer, Script, Serving, answer, answering, serving, silent

LIMITS = HttpLimits(connections_max=8, total_s_max=10.0)


@pytest.fixture(params=[uvloop.Loop, asyncio.SelectorEventLoop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Any:
    return request.param


def in_its_loop(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(scenario)
    def test(loop: Any, **given: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(asyncio.wait_for(scenario(loop=loop, **given), 30))

    return test


async def post(transport: LeanTransport, server: Serving, content: bytes = b"{}") -> Answered:
    url = f"{server.scheme}://localhost:{server.port}/events"
    return await ask(transport, RequestTemplate("POST", httpx.URL(url), []), content)


def through(proxy: Serving, authorization: str | None = None, **limits: Any) -> LeanTransport:
    return LeanTransport(
        lambda: certificates().client,
        HttpLimits(**{"connections_max": 8, "total_s_max": 10.0, **limits}),
        proxy=Proxy(proxy.scheme, "localhost" if proxy.scheme == "https" else proxy.host, proxy.port, authorization),
    )


@pytest.fixture(params=["http", "https"])
def asked(request: pytest.FixtureRequest) -> Callable[[Script], contextlib.AbstractAsyncContextManager[Serving]]:
    """A proxy that is spoken to in the clear, or by TLS."""
    return lambda script: serving(script, tls=certificates().good if request.param == "https" else None)


@in_its_loop
async def test_a_tunnel_a_connection_carries_request_after_request(loop: Any, asked: Any) -> None:
    seen: list[str] = []
    async with (
        serving(answering(answer(b"x" * 50_000)), tls=certificates().good) as server,
        asked(tunnelling(seen=seen)) as proxy,
    ):
        transport = through(proxy)
        for _ in range(5):
            assert (await post(transport, server, b"y" * 300_000)).body == b"x" * 50_000
        await asyncio.gather(*[post(transport, server) for _ in range(20)])
        assert len(server.requests) == 25
        assert server.connections == proxy.connections <= 8
        assert set(seen) == {f"localhost:{server.port}"}
        await transport.aclose()


@in_its_loop
async def test_a_proxy_that_wants_a_password_is_given_it_and_says_so_where_it_is_wrong(loop: Any) -> None:
    async with (
        serving(answering(answer()), tls=certificates().good) as server,
        serving(tunnelling("Basic dXNlcjpwYXNz")) as proxy,
    ):
        good = through(proxy, "Basic dXNlcjpwYXNz")
        assert (await post(good, server)).status == 200
        await good.aclose()
        for wrong in (None, "Basic bm86bm8="):
            bad = through(proxy, wrong)
            with pytest.raises(httpx.ConnectError, match="407 Proxy Authentication Required") as failure:
                await post(bad, server)
            assert f"127.0.0.1:{proxy.port}" in str(failure.value)
            assert "bm86bm8" not in str(failure.value)
            await bad.aclose()
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "answers 502 Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>Sign in</html>", "sends more than"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "answers what is not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 30_000, "sends more than"),
        (b"", "closes the connection"),
    ],
)
@in_its_loop
async def test_what_a_proxy_says_instead_of_a_tunnel_is_a_connect_error_in_its_words(
    loop: Any, said: bytes, words: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(said)

    async with serving(answering(answer()), tls=certificates().good) as server, serving(script) as proxy:
        transport = through(proxy)
        with pytest.raises(httpx.ConnectError, match=words):
            await post(transport, server)
        await transport.aclose()
        assert not server.connections


@in_its_loop
async def test_a_proxy_that_never_answers_is_a_connect_timeout_and_leaves_no_connection(loop: Any) -> None:
    async with serving(answering(answer()), tls=certificates().good) as server, serving(silent) as proxy:
        transport = through(proxy, connect_s_max=0.2)
        with pytest.raises(httpx.ConnectTimeout):
            await post(transport, server)
        until = time.monotonic() + 5
        while proxy.open_now and time.monotonic() < until:  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(0.01)
        assert proxy.open_now == 0
        await transport.aclose()


@in_its_loop
async def test_a_certificate_is_verified_through_a_tunnel_too(loop: Any) -> None:
    async with serving(answering(answer()), tls=certificates().expired) as server, serving(tunnelling()) as proxy:
        transport = through(proxy)
        with pytest.raises(httpx.ConnectError, match="certificate has expired"):
            await post(transport, server)
        await transport.aclose()
        assert not server.requests


@in_its_loop
async def test_a_tunnel_that_ends_with_its_handshake_is_an_error_and_no_crash(loop: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await peer.reader.read(10)

    async with serving(answering(answer()), tls=certificates().good) as server, serving(script) as proxy:
        transport = through(proxy)
        with pytest.raises(httpx.ConnectError):
            await post(transport, server)
        await transport.aclose()


@in_its_loop
async def test_a_request_to_an_api_without_tls_names_it_whole_to_its_proxy(loop: Any, asked: Any) -> None:
    seen: list[str] = []
    async with (
        serving(answering(answer(b"x" * 50_000))) as server,
        asked(passing_on("Basic dXNlcjpwYXNz", seen)) as proxy,
    ):
        transport = through(proxy, "Basic dXNlcjpwYXNz")
        for _ in range(5):
            assert (await post(transport, server, b"y" * 300_000)).body == b"x" * 50_000
        template = RequestTemplate("POST", httpx.URL(f"http://localhost:{server.port}/a?b=c"), [(b"X-A", b"1")])
        told = await asyncio.gather(*[ask(transport, template, b"{}", [(b"X-B", b"2")]) for _ in range(20)])
        assert {one.status for one in told} == {200}
        assert server.connections == proxy.connections <= 8
        assert set(seen) == {f"localhost:{server.port}"}
        first, last = server.requests[0], server.requests[-1]
        assert (first.head.split(b"\r\n")[0], first.body) == (b"POST /events HTTP/1.1", b"y" * 300_000)
        assert last.head.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: localhost:%d\r\nX-A: 1\r\n" % server.port)
        assert (last.header("X-B"), last.header("Proxy-Authorization"), last.body) == ("2", None, b"{}")
        await transport.aclose()


@in_its_loop
async def test_a_proxy_that_passes_requests_on_and_does_not_know_us_answers_itself(loop: Any) -> None:
    """Its 407 is an answer that is not the API's (`tests/unit/send/event_loop/test_doubts.py`)."""
    async with serving(answering(answer())) as server, serving(passing_on("Basic dXNlcjpwYXNz")) as proxy:
        transport = through(proxy, "Basic bm86bm8=")
        for _ in range(3):
            assert (await post(transport, server)).status == 407
        await transport.aclose()
        assert not server.requests


@pytest.mark.parametrize("fault", ["wrong_host", "expired", "self_signed"])
@pytest.mark.parametrize("secure", [False, True])
@in_its_loop
async def test_the_certificate_of_a_proxy_is_verified_and_the_proxy_named(loop: Any, fault: str, secure: bool) -> None:
    async with (
        serving(answering(answer()), tls=certificates().good if secure else None) as server,
        serving(tunnelling() if secure else passing_on(), tls=getattr(certificates(), fault)) as proxy,
    ):
        transport = through(proxy)
        with pytest.raises(httpx.ConnectError, match=rf"(?i)the proxy localhost:{proxy.port}: .*certificate"):
            await post(transport, server)
        await transport.aclose()
        assert not server.requests


@pytest.mark.parametrize("secure", [False, True])
@in_its_loop
async def test_a_proxy_that_is_not_there_is_named(loop: Any, secure: bool) -> None:
    async with serving(answering(answer()), tls=certificates().good if secure else None) as server:
        async with serving(tunnelling()) as proxy:
            gone = through(proxy)
        unknown = LeanTransport(lambda: certificates().client, LIMITS, proxy=Proxy("http", "proxy.invalid", 3128))
        for transport, name in ((gone, f"127.0.0.1:{proxy.port}"), (unknown, "proxy.invalid:3128")):
            with pytest.raises(httpx.ConnectError, match=f"the proxy {name}: "):
                await post(transport, server)
            await transport.aclose()


@in_its_loop
async def test_a_private_authority_and_a_client_certificate_are_used_and_taken_anew_when_the_files_change(
    tmp_path: Path, loop: Any
) -> None:
    first, second = Authority(_made(tmp_path / "first"), "first"), Authority(_made(tmp_path / "second"), "second")
    ca, certificate, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"

    def put(authority: Authority) -> None:
        client = authority.issue("client")
        for source, target in ((authority.ca, ca), (client.certificate, certificate), (client.key, key)):
            shutil.copy(source, tmp_path / "new")
            (tmp_path / "new").rename(target)

    async def asked(transport: LeanTransport, server: Serving) -> int:
        url = f"https://127.0.0.1:{server.port}/events"
        return (await ask(transport, RequestTemplate("POST", httpx.URL(url), []), b"{}")).status

    put(first)
    tls = Tls(TlsFiles("HAKUNA", ca, certificate, key))
    transport = LeanTransport(tls, LIMITS)
    async with (
        serving(answering(answer()), tls=demanding(first.issue("one"), first)) as old,
        serving(answering(answer()), tls=demanding(second.issue("two"), second)) as new,
    ):
        assert await asked(transport, old) == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await asked(transport, new)
        certificate.write_text("half written")
        assert tls() is tls(), "the last good ones stay"
        put(second)
        assert await asked(transport, new) == 200
    await transport.aclose()


@in_its_loop
async def test_without_a_client_certificate_the_handshake_fails_in_words(tmp_path: Path, loop: Any) -> None:
    authority = Authority(tmp_path)

    transport = LeanTransport(Tls(TlsFiles("HAKUNA", authority.ca)), LIMITS)
    async with serving(answering(answer()), tls=demanding(authority.issue("one"), authority)) as server:
        url = f"https://127.0.0.1:{server.port}/events"
        with pytest.raises(httpx.TransportError, match=r"(?i)certificate|closed"):
            await ask(transport, RequestTemplate("POST", httpx.URL(url), []), b"{}")
    await transport.aclose()


@pytest.mark.parametrize("what", ["missing", "no PEM", "another key", "a key alone"])
def test_files_that_cannot_be_used_are_named_at_the_start(tmp_path: Path, what: str) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("one"), authority.issue("two")
    files, word = {
        "missing": (TlsFiles("HAKO", tmp_path / "none.pem"), "HAKO_CA_FILE"),
        "no PEM": (TlsFiles("HAKO", Path(__file__)), "HAKO_CA_FILE"),
        "another key": (TlsFiles("HAKO", None, one.certificate, two.key), "HAKO_CLIENT_CERT_FILE"),
        "a key alone": (TlsFiles("HAKO", None, None, one.key), "HAKO_CLIENT_KEY_FILE"),
    }[what]
    with pytest.raises(Unusable, match=word):
        Tls(files)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.parametrize("announced", ["timeout=2", "timeout=2, max=100", 'max=5; timeout="2"', "Timeout=2"])
@in_its_loop
async def test_a_connection_is_kept_for_a_second_less_than_its_server_announces(loop: Any, announced: str) -> None:
    async with serving(answering(answer(b"ok", "200 OK", f"Keep-Alive: {announced}"))) as server:
        transport = LeanTransport(lambda: certificates().client, LIMITS)
        await post(transport, server)
        await asyncio.sleep(0.5)
        await post(transport, server)
        assert server.connections == 1
        before_s = time.monotonic()
        while server.open_now and time.monotonic() < before_s + 5:  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(0.01)
        assert 0.8 <= time.monotonic() - before_s <= 1.6
        await post(transport, server)
        assert server.connections == 2
        await transport.aclose()


@pytest.mark.parametrize("announced", ["timeout=1", "timeout=0"])
@in_its_loop
async def test_a_connection_that_its_server_keeps_for_no_time_is_used_once(loop: Any, announced: str) -> None:
    async with serving(answering(answer(b"ok", "200 OK", f"Keep-Alive: {announced}"))) as server:
        transport = LeanTransport(lambda: certificates().client, LIMITS)
        for _ in range(3):
            await post(transport, server)
        assert server.connections == 3
        await transport.aclose()


def test_connections_that_are_busy_live_for_a_minute_at_most_and_do_not_end_together() -> None:
    """So a change in DNS is followed within it, and what was open is let go over a minute."""
    limits = HttpLimits()
    assert limits.age_s_max <= 60.0
    assert limits.age_jitter >= 0.5

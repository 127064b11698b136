"""The transport and the verdicts against real servers that companies put before an API: what each of their answers is
taken to mean, and what is said of it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from processor.api.verdicts import Answer, Delivered, Denied, Doubted, Rejected, RetryLater, RetryReason, Verdict, kept
from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import ask
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate
from processor.hakuna.answers import verdict
from tests.support.children import Unavailable
from tests.support.gateways import haproxy, nginx, node

LIMITS = HttpLimits(connections_max=4, total_s_max=10.0)
Ports = Mapping[str, int]


@pytest.fixture(scope="module")
def of_nginx() -> Iterator[Ports]:
    with nginx() as ports:
        yield ports


@pytest.fixture(scope="module")
def of_haproxy() -> Iterator[Ports]:
    with haproxy() as ports:
        yield ports


@pytest.fixture(scope="module")
def of_node() -> Iterator[Ports]:
    """CI has no Node, and does not install one for this: its answers stand in the corpus too."""
    try:
        with node() as ports:
            yield ports
    except Unavailable as reason:
        pytest.skip(str(reason))


def asked(url: str, times: int = 1, content: bytes = b"{}") -> list[tuple[Verdict, Answer]]:
    """What so many requests in turn are answered, and what that means; TLS trusts whoever is there."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def main() -> list[tuple[Verdict, Answer]]:
        transport = LeanTransport(lambda: trusting, LIMITS)
        headers = [(b"Content-Type", b"application/json"), (b"Accept-Encoding", b"identity")]
        template = RequestTemplate("POST", httpx.URL(url), headers)
        found = []
        try:
            for _ in range(times):
                whole = await ask(transport, template, content)
                answer = Answer(whole.status, kept(whole.fields), whole.body)
                found.append((verdict(answer, round(time.time() * 1000)), answer))
        finally:
            await transport.aclose()
        return found

    return asyncio.run(main())


def doubted(url: str, **more: Any) -> Doubted:
    ((found, _),) = asked(url, **more)
    assert isinstance(found, Doubted), found
    return found


def test_plain_http_to_a_tls_port_of_nginx_is_not_the_api_and_says_why(of_nginx: Ports) -> None:
    found = doubted(f"http://127.0.0.1:{of_nginx['tls']}/events")
    assert (found.status, "Server nginx/" in found.words) == (400, True)
    assert "The plain HTTP request was sent to HTTPS port" in found.words


def test_nginx_that_wants_a_client_certificate_says_so(of_nginx: Ports) -> None:
    found = doubted(f"https://127.0.0.1:{of_nginx['mutual']}/events")
    assert "No required SSL certificate was sent" in found.words


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("nowhere", 404, "404 Not Found"), ("moved", 302, "to https://login.example"), ("page", 200, "Sign in")],
)
def test_a_gateway_without_the_route_or_with_a_login_page_is_not_the_api(
    of_nginx: Ports, path: str, status: int, words: str
) -> None:
    found = doubted(f"http://127.0.0.1:{of_nginx['plain']}/{path}")
    assert found.status == status
    assert words in found.words


def test_a_body_that_nginx_refuses_is_413_and_its_dead_backend_nobodys_fault(of_nginx: Ports) -> None:
    large = doubted(f"http://127.0.0.1:{of_nginx['plain']}/accepted", content=b"x" * 5_000)
    assert large.status == 413
    ((found, _),) = asked(f"http://127.0.0.1:{of_nginx['plain']}/dead")
    assert found == RetryLater(RetryReason.SERVER_ERROR, 502)


def test_what_nginx_compresses_unasked_is_read(of_nginx: Ports) -> None:
    ((found, answer),) = asked(f"http://127.0.0.1:{of_nginx['plain']}/unasked")
    assert answer.headers["content-encoding"] == "gzip"
    assert isinstance(found, Rejected), found
    assert (found.error_code, found.validation_errors) == ("location_unsupported", ("no",))


@pytest.mark.parametrize(
    ("port", "reason", "status"), [("limited", "server_error", 503), ("counted", "throttled", 429)]
)
def test_nginxs_limit_req_is_waited_for_on_its_default_and_with_429(
    of_nginx: Ports, port: str, reason: str, status: int
) -> None:
    (first, _), (second, answer) = asked(f"http://127.0.0.1:{of_nginx[port]}/", times=2)
    assert isinstance(first, Delivered), first
    assert isinstance(second, RetryLater), second
    assert (second.reason.value, answer.status) == (reason, status)


def test_haproxys_deny_is_a_403_that_others_have_to_tell_and_its_429_is_too_many(of_haproxy: Ports) -> None:
    url = f"http://127.0.0.1:{of_haproxy['front']}"
    ((denied, _),) = asked(f"{url}/denied")
    assert isinstance(denied, Denied), denied
    assert "403 Forbidden" in denied.words
    ((counted, _),) = asked(f"{url}/counted")
    assert isinstance(counted, RetryLater)
    assert counted.reason is RetryReason.THROTTLED
    ((dead, _),) = asked(f"{url}/events")
    assert dead == RetryLater(RetryReason.SERVER_ERROR, 503)
    with pytest.raises(httpx.TransportError):
        asked(f"{url}/rejected")


@pytest.mark.parametrize("port", ["express", "express_draft_8", "koa"])
def test_a_limiter_of_node_is_waited_for_as_it_says(of_node: Ports, port: str) -> None:
    (first, _), (second, answer) = asked(f"http://127.0.0.1:{of_node[port]}/events", times=2)
    assert isinstance(first, Delivered), first
    assert first.pause_s is not None, "the last of the quota"
    assert 0 < first.pause_s <= 61
    assert isinstance(second, RetryLater), second
    assert (second.reason, answer.status) == (RetryReason.THROTTLED, 429)
    assert second.after_s is not None
    assert 0 < second.after_s <= 61


def test_fastifys_ban_is_a_403_that_means_too_many(of_node: Ports) -> None:
    *_, (banned, answer) = asked(f"http://127.0.0.1:{of_node['fastify']}/events", times=4)
    assert answer.status == 403
    assert isinstance(banned, RetryLater), banned
    assert banned.reason is RetryReason.THROTTLED
    assert banned.after_s is not None
    assert 0 < banned.after_s <= 61

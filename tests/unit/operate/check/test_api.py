"""What Hakuna's answer to a request that changes nothing says of its key; the stand-in on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from processor.api.credentials import BEARER
from processor.api.verdicts import Answer
from processor.config import load
from processor.edges.http.tls import TlsFiles
from processor.hakuna import answers
from processor.operate.check.api import Place, check_hakuna, judged
from processor.operate.check.findings import Area, problems
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sources.survey import Weight
from tests.support.children import free_ports

PLACE = Place("HAKUNA_API_KEY", "HAKUNA_BASE_URL", "http://api.example", TlsFiles("HAKUNA"), BEARER, answers.verdict)
OWN = b'{"error": {"error_code": "invalid_request_parameters", "validation_errors": []}}'
TLS = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"

REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def refusing_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that lets nobody through: where it listens, and the first lines of what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listening.accept()[0] as connection:
                        if head := connection.recv(65_536):
                            asked.append(head.split(b"\r\n")[0])
                            connection.sendall(REFUSAL)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("statuses", "body", "verdict"),
    [
        ((200, 202), b"{}", Weight.SOUND),
        ((400, 409, 415, 422), OWN, Weight.SOUND),
        ((401, 403, 301, 302, 404, 405), OWN, Weight.PROBLEM),
        ((401, 403, 301, 302, 400, 404, 405, 422), b"", Weight.PROBLEM),
        ((200, 400, 403), b"<!doctype html><title>Sign in</title>", Weight.PROBLEM),
        ((408, 425, 429, 500, 502, 503), b"", Weight.NOTE),
    ],
)
def test_what_an_answer_says_of_a_key(statuses: tuple[int, ...], body: bytes, verdict: Weight) -> None:
    for status in statuses:
        assert judged(Answer(status, {}, body), "http://api.example/events", PLACE).verdict is verdict, status


def test_plain_http_at_a_tls_port_is_named_with_its_remedy_and_the_header_of_a_refused_key() -> None:
    finding = judged(Answer(400, {"server": "nginx/1.22.1"}, TLS), "http://api.example/events", PLACE)
    assert "HTTP 400, Server nginx/1.22.1: 400 The plain HTTP request" in finding.what
    assert "plain HTTP sent to a TLS port?" in (finding.remedy or "")
    refused = judged(Answer(401, {}, b""), "http://api.example/events", PLACE)
    assert "`Authorization: Bearer …`" in refused.what


@pytest.mark.parametrize(
    ("given", "subject", "word"),
    [
        ({"HTTPS_PROXY": "socks5://127.0.0.1:1"}, "HTTPS_PROXY", "SOCKS"),
        ({"ALL_PROXY": "socks5h://127.0.0.1:1"}, "ALL_PROXY", "SOCKS"),
        ({"https_proxy": "proxy"}, "HTTPS_PROXY", "http://proxy:3128"),
        ({"HAKUNA_CA_FILE": "/nonexistent/ca.pem"}, "HAKUNA_CA_FILE", "/nonexistent/ca.pem"),
        ({"HAKUNA_CLIENT_CERT_FILE": __file__}, "HAKUNA_CLIENT_CERT_FILE", "PEM"),
        ({"HAKUNA_CLIENT_KEY_FILE": __file__}, "HAKUNA_CLIENT_KEY_FILE", "HAKUNA_CLIENT_CERT_FILE"),
    ],
)
@pytest.mark.parametrize("try_key", [True, False])
def test_a_proxy_or_a_certificate_that_cannot_be_used_is_named_by_its_setting(
    given: dict[str, str], subject: str, word: str, try_key: bool
) -> None:
    settings = load({"HAKUNA_API_KEY": "sk", "HAKUNA_BASE_URL": "https://127.0.0.1:1"} | given)
    (found,) = problems(check_hakuna(settings, try_key=try_key))
    assert found.subject == subject
    assert word in f"{found.what} {found.remedy}"


def test_ssl_cert_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/bundle.pem")
    settings = load({"HAKUNA_API_KEY": "sk", "HAKUNA_BASE_URL": "https://127.0.0.1:1"})
    (found,) = problems(check_hakuna(settings, try_key=False))
    assert found.subject == "SSL_CERT_FILE"


@pytest.mark.parametrize("try_key", [True, False])
def test_check_goes_through_the_proxy_as_the_worker_does_with_a_quota_too(try_key: bool) -> None:
    with refusing_proxy() as (where, asked):
        given = {"HAKUNA_API_KEY": "sk", "HAKUNA_BASE_URL": "https://api.test", "HTTPS_PROXY": where}
        (found,) = problems(check_hakuna(load(given), try_key=try_key))
        assert f"the proxy {where} answers 407" in found.what
        assert asked == [b"CONNECT api.test:443 HTTP/1.1"]


def test_of_a_proxy_that_passes_requests_on_a_request_alone_tells_anything() -> None:
    with refusing_proxy() as (where, asked):
        settings = load({"HAKUNA_API_KEY": "sk", "HAKUNA_BASE_URL": "http://api.test", "HTTP_PROXY": where})
        (found,) = check_hakuna(settings, try_key=False)
        assert (found.verdict, asked) == (Weight.NOTE, [])
        assert where in found.what
        (found,) = problems(check_hakuna(settings, try_key=True))
        assert "answers HTTP 407: that is not the API" in found.what
        assert asked == [b"POST http://api.test/events HTTP/1.1"]


@pytest.mark.parametrize("api", ["events", "feed"])
def test_hakuna_takes_or_refuses_the_key_and_hears_of_no_order(api: str) -> None:
    stand_in = StandIn(HakunaApi(), Script())
    with Loopback(stand_in) as loopback:
        given = {"HAKUNA_BASE_URL": loopback.url, "HAKUNA_API": api}
        good = check_hakuna(load(given | {"HAKUNA_API_KEY": SANDBOX_KEY}), try_key=None)
        assert [one.verdict for one in good if one.area is Area.KEYS] == [Weight.SOUND]
        bad = check_hakuna(load(given | {"HAKUNA_API_KEY": "sk_other"}), try_key=None)
        assert [one.subject for one in problems(bad)] == ["HAKUNA_API_KEY"]
        assert stand_in.record.requests == 2
        assert stand_in.record.mistakes() == []


def test_an_api_that_is_gone_is_a_problem_with_and_without_a_request() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    settings = load({"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk"})
    for try_key in (True, False):
        assert [one.subject for one in problems(check_hakuna(settings, try_key=try_key))] == [url]


def test_a_key_file_that_is_not_there_is_told_by_its_setting() -> None:
    settings = load({"HAKUNA_API_KEY_FILE": "/nonexistent/key"})
    assert [one.subject for one in problems(check_hakuna(settings, try_key=True))] == ["HAKUNA_API_KEY_FILE"]

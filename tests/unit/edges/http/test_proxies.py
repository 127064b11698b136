"""Which proxy a URL goes through, by the environment as curl and Python read it."""

from __future__ import annotations

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.edges.http.proxies import Proxy, absolute, is_bypassed, parse_proxy, proxy_for
from processor.edges.http.request import RequestTemplate
from processor.errors import Unusable

API = httpx.URL("https://api.hellohakuna.com/sandbox")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://proxy:3128", "proxy", 3128),
        ("http://proxy:3128/", "proxy", 3128),
        ("http://proxy", "proxy", 80),
        ("proxy:3128", "proxy", 3128),
        ("10.0.0.1:3128", "10.0.0.1", 3128),
        ("http://[::1]:3128", "::1", 3128),
        ("HTTP://Proxy:3128", "proxy", 3128),
    ],
)
def test_a_proxy_is_written_as_a_url_or_as_curl_has_it(text: str, host: str, port: int) -> None:
    assert parse_proxy(text) == Proxy("http", host, port)


def test_a_proxy_may_be_spoken_to_by_tls() -> None:
    assert parse_proxy("https://proxy") == Proxy("https", "proxy", 443)
    assert parse_proxy("HTTPS://proxy:3128") == Proxy("https", "proxy", 3128)


@given(st.binary(max_size=40), st.booleans())
def test_a_request_in_absolute_form_is_the_same_request(body: bytes, known: bool) -> None:
    wire = RequestTemplate("POST", httpx.URL("http://[::1]:81/v0/events?a=b"), [(b"X-A", b" b ".strip())]).wire(body)
    said = "Basic dTpw" if known else None
    line, head = b"POST http://[::1]:81/v0/events?a=b HTTP/1.1\r\n", wire.partition(b"\r\n")[2]
    own = b"Proxy-Authorization: Basic dTpw\r\n" if known else b""
    assert absolute(wire, b"[::1]:81", Proxy("http", "proxy", 3128, said)) == line + own + head


def test_user_and_password_become_basic_authorization_and_are_never_shown() -> None:
    for text in ("http://us%40er:pa%3Ass@proxy:3128", "us%40er:pa%3Ass@proxy:3128"):
        proxy = parse_proxy(text)
        assert proxy.authorization == "Basic dXNAZXI6cGE6c3M="
        assert "cGE6c3M" not in repr(proxy)
        assert str(proxy) == "proxy:3128"


@pytest.mark.parametrize("text", ["socks5://proxy:1080", "socks5h://u:secret@proxy:1080", "socks4://proxy:1"])
def test_socks_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(Unusable, match="HTTPS_PROXY: SOCKS") as refused:
        proxy_for(API, {"https": text})
    with pytest.raises(Unusable, match="ALL_PROXY: SOCKS"):
        proxy_for(API, {"all": text})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["proxy", "ftp://proxy:1", "http://proxy:none", "http://", "http://proxy:1/path", "a b"]
)
def test_what_is_no_proxy_is_named_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(Unusable, match=r"HTTPS_PROXY: .* such as http://proxy:3128"):
        proxy_for(API, {"https": text})


def test_the_schemes_own_proxy_wins_over_the_one_for_all_and_http_has_its_own() -> None:
    assert proxy_for(API, {}) is None
    assert str(proxy_for(API, {"https": "one:1", "all": "two:2"})) == "one:1"
    assert str(proxy_for(API, {"all": "two:2"})) == "two:2"
    assert proxy_for(API, {"http": "three:3"}) is None
    assert str(proxy_for(httpx.URL("http://api.test"), {"http": "three:3"})) == "three:3"
    assert proxy_for(API, {"https": "socks5://x:1", "no": "hellohakuna.com"}) is None


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "bypassed"),
    [
        ("api.test", 443, "*", True),
        ("api.test", 443, "api.test", True),
        ("api.test", 443, "API.Test", True),
        ("api.test", 443, ".test", True),
        ("api.test", 443, "*.test", True),
        ("api.test", 443, "test", True),
        ("my-api.test", 443, "api.test", False),
        ("api.test", 443, "other.test, api.test", True),
        ("api.test", 443, "other.test api.test", True),
        ("api.test", 443, "api.test:443", True),
        ("api.test", 443, "api.test:8443", False),
        ("api.test", 8443, ".test:8443", True),
        ("10.1.2.3", 443, "10.0.0.0/8", True),
        ("10.1.2.3", 443, "10.1.2.3", True),
        ("10.1.2.3", 443, "10.1.2.3:80", False),
        ("11.1.2.3", 443, "10.0.0.0/8", False),
        ("fd00::1", 443, "fd00::/8", True),
        ("[fd00::1]", 443, "[fd00::1]:443", True),
        ("::1", 443, "::1", True),
        ("10.1.2.3", 443, "3", False),
        ("api.test", 443, "", False),
        ("api.test", 443, ",, .", False),
    ],
)
def test_no_proxy_names_hosts_domains_ports_addresses_and_networks(
    host: str, port: int, no_proxy: str, bypassed: bool
) -> None:
    assert is_bypassed(host, port, no_proxy) == bypassed


@given(st.text(max_size=40), st.text(max_size=60))
def test_whatever_stands_in_the_environment_it_is_a_proxy_or_a_sentence(proxy: str, no_proxy: str) -> None:
    with contextlib.suppress(Unusable):
        proxy_for(API, {"https": proxy, "no": no_proxy})

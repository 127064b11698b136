"""The proxy of a request, as `HTTPS_PROXY` and `NO_PROXY` say, and how it is asked.

    HTTPS_PROXY, else ALL_PROXY     http[s]://[user:password@]host:port, or host:port as with curl
    HTTP_PROXY, else ALL_PROXY      the same for an API without TLS
    NO_PROXY                        a list of `*`, `example.com` (its subdomains too), `host:port`, addresses, CIDR

    an API with TLS        CONNECT host:port, then TLS through the tunnel     RFC 9110, 9.3.6: `Tunnel`
    an API without TLS     POST http://host:port/events                       RFC 9112, 3.2.2: `absolute`

The proxy itself is asked in the clear or, if it is https, by TLS. Lower-case names win, as with curl and Python. Pure,
except `Tunnel`, which belongs to the connection that it opens. SOCKS is refused by name: no client here speaks it.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import unquote, urlsplit

import httpx

from processor.errors import Problem, Unusable

_FORM: Final = "such as http://proxy:3128, http://user:password@proxy:3128 or proxy:3128"
_HEAD_BYTES_MAX: Final = 16 * 1024
"""A proxy's answer to CONNECT: a page of a captive portal must not fill memory."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]([^\r\n]{0,100})")


@dataclass(frozen=True, slots=True)
class Proxy:
    """The address of a proxy. `authorization` is the value of its header; None if it needs none."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_for(url: httpx.URL, proxies: Mapping[str, str]) -> Proxy | None:
    """Returns the proxy of a URL; None without one. `proxies` are the variables by their names before `_proxy`, in
    lower case: https, http, all, no. Raises `Unusable` for a value that cannot be used."""
    name = url.scheme if proxies.get(url.scheme) else "all"
    text = proxies.get(name, "").strip()
    port = url.port or (443 if url.scheme == "https" else 80)
    if not text or is_bypassed(url.host, port, proxies.get("no", "")):
        return None
    try:
        return parse_proxy(text)
    except ValueError as wrong:
        raise Unusable([Problem(f"{name.upper()}_PROXY", str(wrong))]) from None


def absolute(wire: bytes, netloc: bytes, proxy: Proxy) -> bytes:
    """Returns a request to this host in the form for a proxy."""
    method, _, rest = wire.partition(b" ")
    line, _, rest = rest.partition(b"\r\n")
    said = b"" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n".encode("latin-1")
    return b"%b http://%b%b\r\n%b%b" % (method, netloc, line, said, rest)


def parse_proxy(text: str) -> Proxy:
    """Returns the proxy. Raises `ValueError` with the fault, without the password that the text may hold."""
    scheme, colon, _ = text.partition("://")
    scheme = scheme.lower() if colon else "http"
    if scheme.startswith("socks"):
        raise ValueError(f"SOCKS ({scheme}://) is not spoken here; name an HTTP proxy, {_FORM}")
    if scheme not in ("http", "https"):
        raise ValueError(f"the value given is not an HTTP proxy, {_FORM}")
    try:
        parts = urlsplit(text if colon else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(f"the value given is not a proxy, {_FORM}") from None
    if not parts.hostname or parts.path not in ("", "/") or parts.query or (port is None and not colon):
        raise ValueError(f"the value given is not a proxy, {_FORM}")
    authorization = None
    if parts.username is not None:
        said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(said.encode()).decode()
    return Proxy(scheme, parts.hostname, port or (443 if scheme == "https" else 80), authorization)


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """True if `NO_PROXY` names this host."""
    host = host.strip("[]").rstrip(".").lower()
    address = _address(host)
    for entry in no_proxy.replace(",", " ").lower().split():
        if entry == "*":
            return True
        name, named_port = _split(entry)
        if named_port is not None and named_port != port:
            continue
        if address is not None:
            network = _network(name)
            if network is not None and address.version == network.version and address in network:
                return True
        elif (name := name.removeprefix("*").strip(".")) and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _split(entry: str) -> tuple[str, int | None]:
    """Splits `host:port`, `[::1]:port`, or either without a port. An IPv6 address has colons of its own."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isdigit() else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None


class Tunnel(asyncio.Protocol):
    """A connection to a proxy that is asked for a tunnel. Mutable: `_head` is the answer so far; `opened` is done when
    the answer is whole, or fails with an `OSError` that has the proxy's words."""

    def __init__(self, proxy: Proxy, target: str) -> None:
        self._proxy = proxy
        self._target = target
        self._head = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        cast(asyncio.Transport, transport).write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" not in self._head and len(self._head) <= _HEAD_BYTES_MAX:
            return
        status = _STATUS.match(self._head)
        if status is None:
            self._fail("answers what is not HTTP")
        elif status[1][:1] != b"2":
            self._fail(f"answers {status[1].decode()} {status[2].decode('latin-1')}".strip())
        elif not self._head.endswith(b"\r\n\r\n"):
            self._fail("sends more than the tunnel's beginning")
        elif not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"closes the connection{f': {error}' if error is not None else ''}")

    def _fail(self, what: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(OSError(f"the proxy {self._proxy} {what}, asked for {self._target}"))

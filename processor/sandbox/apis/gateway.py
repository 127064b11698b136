"""A gateway before a stand-in: what it answers instead of the API, as real gateways do. Pure.

tls     400  nginx, to plain HTTP at its TLS port
404     404  nginx without the route
login   302  to a login page, which answers 200 if it is followed
gzip         the API's own answer, compressed though the client did not ask for it
deny    403  HAProxy, to requests over the quota; to every request if there is no quota
"""

from __future__ import annotations

import gzip
from enum import StrEnum
from typing import Final, NamedTuple


class Gateway(StrEnum):
    """The kinds of gateway (`simulate --gateway`)."""

    TLS = "tls"
    NOT_FOUND = "404"
    LOGIN = "login"
    GZIP = "gzip"
    DENY = "deny"


class Page(NamedTuple):
    """An answer of the gateway."""

    status: int
    body: bytes
    headers: dict[str, str]


_NGINX: Final = {"content-type": "text/html", "server": "nginx/1.22.1"}
_LOGIN: Final = "/_login"


def _nginx(title: str, line: str) -> bytes:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{line}</h1></center>\r\n"
        "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    ).encode()


def instead(gateway: Gateway | None, path: str, over_quota: bool, has_quota: bool) -> Page | None:
    """Returns the gateway's own answer. Returns None if it lets the request through."""
    match gateway:
        case Gateway.TLS:
            title = "400 The plain HTTP request was sent to HTTPS port"
            return Page(400, _nginx(title, "400 Bad Request"), _NGINX | {"connection": "close"})
        case Gateway.NOT_FOUND:
            return Page(404, _nginx("404 Not Found", "404 Not Found"), _NGINX)
        case Gateway.LOGIN if path == _LOGIN:
            return Page(200, b"<!doctype html><title>Sign in</title><form><input name=user></form>", _NGINX)
        case Gateway.LOGIN:
            return Page(302, _nginx("302 Found", "302 Found"), _NGINX | {"location": _LOGIN})
        case Gateway.DENY if over_quota or not has_quota:
            body = b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n"
            return Page(403, body, {"content-type": "text/html", "cache-control": "no-cache"})
        case Gateway.DENY | Gateway.GZIP | None:
            return None


def on_its_way(gateway: Gateway | None, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Returns body and headers of the API's answer as the gateway passes them on."""
    if gateway is not Gateway.GZIP or not body:
        return body, headers
    return gzip.compress(body, mtime=0), headers | {"content-encoding": "gzip"}

"""One request of a schema registry: plain HTTP by the standard library, within a time and a size.

Owned by `registry.py`. httpx takes 0.2 s to import, which a command that shall answer within a second does not have,
and confluent-kafka's client 0.4 s, three more packages, and what a registry says of a schema that it refuses.

A registry that sends on to another place of its own host is followed there (http to https, another path), with the same
method, body and credentials; another host, or back to http, is named instead: the credentials are not theirs to have.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import urllib.request
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

import certifi

from processor.errors import RegistryOutage

_REQUEST_S_MAX: Final = 5.0
"""A registry that hangs blocks a role's loop for no longer than this, twice, far below `max.poll.interval.ms`."""
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""A registry of many thousand subjects lists them in one answer; nothing of ours is larger."""
_CHUNK_BYTES: Final = 64 * 1024
_REDIRECTS_MAX: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Answer(NamedTuple):
    """An answer, read whole; `location` is where it sends on to, whole."""

    url: str
    status: int
    kind: str
    body: bytes
    location: str

    def json(self) -> Any:
        """Raises `RegistryOutage`: what stands there is no registry."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise RegistryOutage(
                f"{self.url} answers HTTP {self.status} with {self.kind}, and a schema registry answers with JSON: "
                "something else stands there (a proxy, a login, another path)",
                _CORRECT,
            ) from None


_CORRECT: Final = "correct SCHEMA_REGISTRY_URL"


class RegistryHttp:
    """`urls` are one or several with commas: the next is asked where one gives no answer at all. `auth` is
    `user:password`, or empty."""

    def __init__(self, urls: str, auth: str) -> None:
        self.urls = tuple(url.rstrip("/") for url in urls.split(","))
        self._headers = {"Accept": f"{_CONTENT}, application/json", "Content-Type": _CONTENT}
        if auth:
            self._headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        authorities = None if {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys() else certifi.where()
        tls = ssl.create_default_context(cafile=authorities)
        self._open = urllib.request.build_opener(urllib.request.HTTPSHandler(context=tls), _NotFollowed).open

    def ask(
        self, method: str, path: str, body: dict[str, str] | None = None, roots: Sequence[str] | None = None
    ) -> Answer:
        """Whatever is answered below one of the URLs, or of other `roots` of the same registry. Raises `RegistryOutage`
        without an answer, and where it sends on to another host."""
        silent: list[str] = []
        for url in self.urls if roots is None else roots:
            try:
                return self._followed(method, url + path, body)
            except (OSError, HTTPException, ValueError) as broken:
                silent.append(f"{url}: {_said(broken)}")
        raise RegistryOutage(f"the schema registry does not answer: {'; '.join(silent)}")

    def _followed(self, method: str, url: str, body: dict[str, str] | None) -> Answer:
        asked = url
        for _ in range(_REDIRECTS_MAX):
            answer = self._answer(method, asked, body)
            if answer.status not in _REDIRECTS or not answer.location:
                return answer
            before, after = urlsplit(asked), urlsplit(answer.location)
            is_ours = after.hostname == before.hostname and after.scheme in {before.scheme, "https"}
            if not is_ours:
                raise RegistryOutage(
                    f"{url} answers HTTP {answer.status} and sends on to {after.scheme}://{after.netloc}{after.path}; "
                    "another host is not followed, nor https to http",
                    _CORRECT,
                )
            asked = answer.location
            if answer.status == 303:
                method, body = "GET", None
        raise RegistryOutage(f"{url} sends on and on, {_REDIRECTS_MAX} times", _CORRECT)

    def _answer(self, method: str, url: str, body: dict[str, str] | None) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, content, self._headers, method=method)
        until_s = time.monotonic() + _REQUEST_S_MAX
        try:
            with self._open(request, timeout=_REQUEST_S_MAX) as answer:
                return _read(url, answer, answer.status, until_s)
        except HTTPError as refused:
            with refused:
                return _read(url, refused, refused.code, until_s)


class _NotFollowed(urllib.request.HTTPRedirectHandler):
    """urllib would follow anywhere, with the credentials."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _read(url: str, answer: HTTPResponse | HTTPError, status: int, until_s: float) -> Answer:
    """The whole answer. One that comes by drops, or without end, is refused."""
    body = bytearray()
    while chunk := answer.read1(_CHUNK_BYTES) if isinstance(answer, HTTPResponse) else answer.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise ValueError(f"an answer of more than {_BODY_BYTES_MAX >> 20} MiB")
        if time.monotonic() > until_s:
            raise ValueError(f"an answer that takes more than {_REQUEST_S_MAX:g} s")
    location = answer.headers.get("Location", "")
    return Answer(
        url, status, answer.headers.get_content_type(), bytes(body), urljoin(url, location) if location else ""
    )


def _said(broken: Exception) -> str:
    """What a connection died of, without the names of the libraries in between."""
    reason = broken.reason if isinstance(broken, URLError) else broken
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__

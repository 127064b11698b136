"""The schema registry as the commands ask it: plain requests of Confluent's REST API.

Owned by `check`, `schemas` and `order`. A worker uses confluent-kafka's own client (`registry.py`); that one takes
0.7 s to import, which a command that shall answer within a second does not have, and keeps to itself what a registry
says of a schema that it refuses. The standard library's client for the same reason: httpx takes 0.2 s.

Every answer that is neither what was asked for nor a clear no is a `RegistryOutage`, in words that say what stands
there instead of a registry: a page of a proxy, a login, nothing at all.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.request
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote

import certifi

from processor.errors import RegistryOutage, Unusable

_REQUEST_S_MAX: Final = 5.0
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_SHOWN_CHARS: Final = 200
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""A registry of many thousand subjects lists them in one answer; nothing of ours is larger."""


class _Answer(NamedTuple):
    """An answer, read whole."""

    status: int
    kind: str
    body: bytes


class Version(NamedTuple):
    """One version of a subject."""

    number: int
    schema_id: int
    schema: str


class RegistryHttp:
    """`urls` are one or several with commas: the next is asked where one gives no answer at all. `auth` is
    `user:password`, or empty."""

    def __init__(self, urls: str, auth: str = "") -> None:
        self._urls = urls.split(",")
        self._headers = {"Accept": f"{_CONTENT}, application/json", "Content-Type": _CONTENT}
        if auth:
            self._headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        authorities = None if {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys() else certifi.where()
        self._tls = ssl.create_default_context(cafile=authorities)

    def subjects(self) -> list[str]:
        """Every subject; asked to see whether a registry is there at all."""
        found = self._ask("GET", "/subjects")
        if not isinstance(found, list):
            raise RegistryOutage("the schema registry answers with something that is no list of subjects")
        return [str(one) for one in found]

    def level(self, subject: str) -> str:
        """The compatibility that a subject asks of a new version: its own, else the registry's."""
        found = self._ask("GET", f"/config/{quote(subject, safe='')}?defaultToGlobal=true", absent=(404,))
        if found is None:
            found = self._ask("GET", "/config")
        return str(_field(found, "compatibilityLevel"))

    def versions(self, subject: str) -> list[int]:
        """The numbers of a subject's versions, rising; empty where there is no such subject."""
        found = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions", absent=(404,))
        if found is not None and not isinstance(found, list):
            raise RegistryOutage(f"the schema registry answers with something that is no list of versions of {subject}")
        return sorted(int(number) for number in found or [])

    def version(self, subject: str, number: int | str) -> Version | None:
        """A version by its number, or the `latest`."""
        found = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{number}", absent=(404,))
        if found is None:
            return None
        return Version(int(_field(found, "version")), int(_field(found, "id")), str(_field(found, "schema")))

    def register(self, subject: str, schema: str) -> int:
        """Puts a schema under a subject; its ID. What is there already is not put there again. Raises `Unusable` where
        the registry refuses it."""
        return int(
            _field(
                self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema}, subject), "id"
            )
        )

    def schema(self, schema_id: int | str) -> tuple[str, dict[str, str]] | None:
        """What the decoder asks: a schema's text and those that it refers to, by name; None where there is none."""
        place = f"/schemas/{'ids' if isinstance(schema_id, int) else 'guids'}/{schema_id}"
        found = self._ask("GET", place, absent=(404,))
        return None if found is None else (str(_field(found, "schema")), self._references(found))

    def _references(self, of: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for reference in of.get("references") or []:
            place = (
                f"/subjects/{quote(str(_field(reference, 'subject')), safe='')}/versions/{_field(reference, 'version')}"
            )
            referred = self._ask("GET", place)
            found.update(self._references(referred))
            found[str(_field(reference, "name"))] = str(_field(referred, "schema"))
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, str] | None = None,
        subject: str = "",
        *,
        absent: tuple[int, ...] = (),
    ) -> Any:
        """The answer's JSON; None for a status of `absent` that a registry itself gave."""
        silent: list[str] = []
        for url in self._urls:
            try:
                answer = self._answer(method, url + path, body)
            except (OSError, HTTPException, ValueError) as broken:
                silent.append(f"{url}: {_said(broken)}")
                continue
            return _read(answer, url, subject, absent)
        raise RegistryOutage(f"the schema registry does not answer: {'; '.join(silent)}")

    def _answer(self, method: str, url: str, body: dict[str, str] | None) -> _Answer:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, content, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_S_MAX, context=self._tls) as answer:
                return _Answer(answer.status, answer.headers.get_content_type(), answer.read(_BODY_BYTES_MAX))
        except HTTPError as refused:
            with refused:
                return _Answer(refused.code, refused.headers.get_content_type(), refused.read(_BODY_BYTES_MAX))


def _said(broken: Exception) -> str:
    """What a connection died of, without the names of the libraries in between."""
    reason = broken.reason if isinstance(broken, URLError) else broken
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _read(answer: _Answer, url: str, subject: str, absent: tuple[int, ...]) -> Any:
    try:
        found = json.loads(answer.body)
    except ValueError:
        raise RegistryOutage(
            f"{url} answers HTTP {answer.status} with {answer.kind}, and a schema registry answers with JSON: "
            "something else stands there (a proxy, a login, another path); correct SCHEMA_REGISTRY_URL"
        ) from None
    if answer.status in absent:
        return None
    if 200 <= answer.status < 300:
        return found
    message = str(found.get("message", found) if isinstance(found, dict) else found)[:_SHOWN_CHARS]
    if answer.status in (409, 422):
        raise Unusable([f"{subject}: the schema registry refuses the schema: {message}"])
    if answer.status in (401, 403):
        raise RegistryOutage(
            f"{url} answers HTTP {answer.status}: {message}; set SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO to what it wants"
        )
    raise RegistryOutage(f"{url} answers HTTP {answer.status}: {message}")


def _field(found: Any, name: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise RegistryOutage(f"the schema registry's answer has no {name!r}")
    return found[name]

"""The schema registry, Confluent's REST API, for workers and commands.

Owned by the thread that asks; a worker asks only for a schema ID that it has not seen. There are three answers:

    the schema         it exists
    None               the registry itself says that it does not (404 with its own code): the record is at fault
    RegistryOutage     anything else (no connection, 5xx, 401, a page of a proxy, a 404 of a gateway): the worker waits;
                       the message says what answers instead of a registry

Registries differ. Only Confluent's has GUIDs, only Apicurio's has global IDs. A registry that answers a question for
one of these with another kind of 404 has no such place, and so no such schema (`_lacks`).

A request is plain HTTP by the standard library, bounded in time and size. A redirect within the registry's own host is
followed (http to https, another path) with the same method, body and credentials. A redirect to another host, or back
to http, is an outage, because the credentials must not go there.

Not chosen: httpx, which takes 0.2 s to import where a command shall answer within a second; confluent-kafka's client,
which takes 0.4 s, needs three more packages, and drops what a registry says of a schema that it refuses.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit

import certifi

from processor.edges.avro_wire import GlobalId, SchemaId
from processor.errors import RegistryOutage, Unusable

if TYPE_CHECKING:
    from processor.config import Settings

_SHOWN_CHARS: Final = 200
_NO_SCHEMA: Final = frozenset({40403})
_NO_SUBJECT: Final = frozenset({40401, 40402, 40408})
"""No such subject, version, or level of a subject's own."""
_REFERENCES_MAX: Final = 1000
"""Schemas that one schema refers to, directly or not: references in a circle must end."""
_LACKS_S: Final = 600.0
"""How long a place counts as missing: a newer version of the registry may have it."""
_NO_GUID: Final = "00000000-0000-0000-0000-000000000000"
_NAMED_NOT_FOUND: Final = re.compile(r"\w+NotFoundException")
_CCOMPAT: Final = re.compile(r"/apis/ccompat/v\d+$")
_APICURIO_PATHS: Final = (
    "/apis/registry/v3/ids/globalIds/{}?references=DEREFERENCE",
    "/apis/registry/v2/ids/globalIds/{}?dereference=true",
)
"""Apicurio's own API beside Confluent's, of versions 3 and 2. Its schemas include those that they refer to."""


class Version(NamedTuple):
    """One version of a subject. `references` are the schemas that it refers to, by name, each after its own."""

    number: int
    schema_id: int
    schema: str
    references: dict[str, str]


class Registry:
    """Mutable: `_lacking` is, by kind of ID, until when (monotonic seconds) the registry counts as without it."""

    def __init__(self, urls: str, auth: str = "") -> None:
        self._http = RegistryHttp(urls, auth)
        self._lacking: dict[str, float] = {}

    @classmethod
    def at(cls, settings: Settings) -> Registry:
        return cls(settings.registry_url, settings.registry_auth)

    def subjects(self) -> list[str]:
        """Returns all subjects; also the question whether this is a registry at all."""
        found = self._found("/subjects")
        if not isinstance(found, list):
            raise RegistryOutage("the schema registry answers with something other than a list of subjects")
        return [str(one) for one in found]

    def level(self, subject: str) -> str:
        """Returns the compatibility level of a subject, else the registry's. A NONE of the subject does not count:
        Apicurio 2 says it of every subject without a level of its own, and then uses the registry's."""
        found = self._found(f"/config/{quote(subject, safe='')}?defaultToGlobal=true")
        if found is None or _field(found, "compatibilityLevel") == "NONE":
            found = self._found("/config")
        return str(_field(found, "compatibilityLevel"))

    def versions(self, subject: str) -> list[int]:
        """Returns the numbers of a subject's versions, in order; empty if there is no such subject."""
        found = self._found(f"/subjects/{quote(subject, safe='')}/versions")
        if found is not None and not isinstance(found, list):
            raise RegistryOutage(f"the schema registry answers with something other than the versions of {subject}")
        return sorted(int(number) for number in found or [])

    def version(self, subject: str, number: int | str) -> Version | None:
        """Returns a version by its number, or the `latest`. Returns None if there is no such version."""
        found = self._found(f"/subjects/{quote(subject, safe='')}/versions/{number}")
        if found is None:
            return None
        text, references = self._whole(found)
        return Version(int(_field(found, "version")), int(_field(found, "id")), text, references)

    def register(self, subject: str, schema: str) -> int:
        """Registers a schema under a subject, once, and returns its ID. Raises `Unusable` if the registry refuses
        it."""
        place = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._http.ask("POST", place, {"schema": schema})
        if answer.status in (409, 422):
            raise Unusable([f"{subject}: the schema registry refuses the schema: {_message(answer.json())}"])
        return int(_field(_judged(answer), "id"))

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None:
        """Returns a schema's text and the schemas that it refers to, by name. Returns None if it does not exist."""
        match schema_id:
            case int():
                found = self._found(f"/schemas/ids/{schema_id}", _NO_SCHEMA)
                return None if found is None else self._whole(found)
            case GlobalId(number=number):
                return self._by_global_id(number)
        return self._by_guid(schema_id)

    def _by_guid(self, guid: str) -> tuple[str, dict[str, str]] | None:
        if self._is_lacking("guids"):
            return None
        answer = self._http.ask("GET", f"/schemas/guids/{guid}")
        if answer.status == 404 and not _is_clear_no(answer):
            probe = self._http.ask("GET", f"/schemas/guids/{_NO_GUID}")
            if probe.status == 404 and not _is_clear_no(probe):
                self._lacks("guids")
                return None
        found = _judged(answer)
        return None if found is None else self._whole(found)

    def _by_global_id(self, number: int) -> tuple[str, dict[str, str]] | None:
        """Asks Apicurio's own API, on the same host. Its answer is the schema itself."""
        roots = [_CCOMPAT.sub("", url) for url in self._http.urls if _CCOMPAT.search(url)]
        if not roots or self._is_lacking("globalIds"):
            return None
        for path in _APICURIO_PATHS:
            answer = self._http.ask("GET", path.format(number), roots=roots)
            if answer.status != 404:
                _judged(answer)
                return answer.body.decode(), {}
            if _is_clear_no(answer):
                return None
        self._lacks("globalIds")
        return None

    def _is_lacking(self, kind: str) -> bool:
        return time.monotonic() < self._lacking.get(kind, 0.0)

    def _lacks(self, kind: str) -> None:
        """Notes that the registry has no such place. Raises `RegistryOutage` if this is no registry."""
        self.subjects()
        self._lacking[kind] = time.monotonic() + _LACKS_S

    def _found(self, path: str, codes: frozenset[int] = _NO_SUBJECT) -> Any:
        return _judged(self._http.ask("GET", path), codes)

    def _whole(self, found: Any) -> tuple[str, dict[str, str]]:
        """Returns a schema's text and the schemas that it refers to. Asks for each of them once."""
        texts: dict[str, str] = {}
        asked: dict[tuple[str, str], str] = {}
        self._gather(found, texts, asked)
        return _text(found), texts

    def _gather(self, of: Any, texts: dict[str, str], asked: dict[tuple[str, str], str]) -> None:
        references = of.get("references") or [] if isinstance(of, dict) else []
        if not isinstance(references, list):
            raise RegistryOutage("the schema registry's answer has references of another shape")
        for reference in references:
            name = str(_field(reference, "name"))
            place = str(_field(reference, "subject")), str(_field(reference, "version"))
            if place not in asked:
                if len(asked) >= _REFERENCES_MAX:
                    raise RegistryOutage(f"a schema refers to more than {_REFERENCES_MAX} others")
                asked[place] = ""  # under way: a circle of references ends here
                referred = self._found(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}")
                if referred is None:
                    raise RegistryOutage(f"a schema refers to {place[0]}, version {place[1]}, which does not exist")
                self._gather(referred, texts, asked)
                asked[place] = _text(referred)
            if asked[place]:
                texts.setdefault(name, asked[place])


def _judged(answer: Answer, codes: frozenset[int] = _NO_SCHEMA) -> Any:
    """Returns the answer's JSON. Returns None if the registry says that there is no such thing. Raises
    `RegistryOutage`."""
    if _is_clear_no(answer, codes):
        return None
    found = answer.json()
    if 200 <= answer.status < 300:
        return found
    remedy = "set SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO to what it wants" if answer.status in (401, 403) else ""
    raise RegistryOutage(f"{answer.url} answers HTTP {answer.status}: {_message(found)}", remedy)


def _is_clear_no(answer: Answer, codes: frozenset[int] = _NO_SCHEMA) -> bool:
    """True for a registry's own 404, which has one of these codes. Apicurio's own API names what does not exist
    (`ArtifactNotFoundException`); if the place itself does not exist, the name is `NotFoundException`."""
    if answer.status != 404:
        return False
    try:
        found = answer.json()
    except RegistryOutage:
        return False
    return isinstance(found, dict) and (
        found.get("error_code") in codes or _NAMED_NOT_FOUND.fullmatch(str(found.get("name", ""))) is not None
    )


def _text(found: Any) -> str:
    text = _field(found, "schema")
    if not isinstance(text, str):
        raise RegistryOutage("the schema registry's answer has a schema that is not text")
    return text


def _message(found: Any) -> str:
    return str(found.get("message", found) if isinstance(found, dict) else found)[:_SHOWN_CHARS]


def _field(found: Any, name: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise RegistryOutage(f"the schema registry's answer has no {name!r}")
    return found[name]


_REQUEST_S_MAX: Final = 5.0
"""A registry that hangs blocks a role's loop for at most twice this, far below `max.poll.interval.ms`."""
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest answer is the list of subjects, which may be many thousand."""
_CHUNK_BYTES: Final = 64 * 1024
_REDIRECTS_MAX: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CORRECT: Final = "correct SCHEMA_REGISTRY_URL"


class Answer(NamedTuple):
    """A whole answer. `location` is the whole URL of a redirect, or empty."""

    url: str
    status: int
    kind: str
    body: bytes
    location: str

    def json(self) -> Any:
        """Raises `RegistryOutage` if the body is not JSON: a registry did not answer."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise RegistryOutage(
                f"{self.url} answers HTTP {self.status} with {self.kind}, and a schema registry answers with JSON: "
                "something else answers there (a proxy, a login, another path)",
                _CORRECT,
            ) from None


class RegistryHttp:
    """`urls` is one URL or several with commas; the next one is asked if one gives no answer at all. `auth` is
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
        """Returns the first answer below one of the URLs, or of other `roots` of the registry. Raises `RegistryOutage`
        without an answer, and after a redirect to another host."""
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
            if after.hostname != before.hostname or after.scheme not in {before.scheme, "https"}:
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
    """Else urllib would follow anywhere, with the credentials."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _read(url: str, answer: HTTPResponse | HTTPError, status: int, until_s: float) -> Answer:
    """Reads the whole answer. Raises ValueError if it is too large or takes too long."""
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
    """Returns why a connection failed, without the names of libraries."""
    reason = broken.reason if isinstance(broken, URLError) else broken
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__

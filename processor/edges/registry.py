"""The schema registry, Confluent's REST API, for workers and commands alike.

Owned by the thread that asks; a worker asks only for a schema ID that it has not seen. There are three answers, and the
difference matters:

    the schema         as it was asked for
    None               the registry itself says that it has none (404 with its own code): the record is at fault
    RegistryOutage     everything else (no connection, 5xx, 401, a page of a proxy, a 404 of a gateway): the worker
                       waits; the message says what stands there instead of a registry

Registries differ in what they have. GUIDs are Confluent's alone, global IDs Apicurio's. A registry that answers such a
question with another kind of 404 has no such place, and so no such schema (`_lacks`).

Not chosen: confluent-kafka's client (see `registry_http.py`).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from processor.edges.avro_wire import GlobalId, SchemaId
from processor.edges.registry_http import Answer, RegistryHttp
from processor.errors import RegistryOutage, Unusable

if TYPE_CHECKING:
    from processor.config import Settings

_SHOWN_CHARS: Final = 200
_NO_SCHEMA: Final = frozenset({40403})
_NO_SUBJECT: Final = frozenset({40401, 40402, 40408})
"""No such subject, version, or level of a subject's own."""
_REFERENCES_MAX: Final = 1000
"""Schemas that one refers to, directly or not: a registry that answers in circles is not asked for ever."""
_LACKS_S: Final = 600.0
"""How long a registry is known not to have a place: one that is replaced by a newer version may have it later."""
_NO_GUID: Final = "00000000-0000-0000-0000-000000000000"
_NAMED_NOT_FOUND: Final = re.compile(r"\w+NotFoundException")
_CCOMPAT: Final = re.compile(r"/apis/ccompat/v\d+$")
_APICURIO_PATHS: Final = (
    "/apis/registry/v3/ids/globalIds/{}?references=DEREFERENCE",
    "/apis/registry/v2/ids/globalIds/{}?dereference=true",
)
"""Apicurio's own API beside Confluent's: of 3, and of 2 and 3. Schemas come whole, with those that they refer to."""


class Version(NamedTuple):
    """One version of a subject; `references` are the schemas that it refers to, by name, each after its own."""

    number: int
    schema_id: int
    schema: str
    references: dict[str, str]


class Registry:
    """Mutable: `_lacking` says until when (monotonic seconds) the registry is known not to have a kind of ID."""

    def __init__(self, urls: str, auth: str = "") -> None:
        self._http = RegistryHttp(urls, auth)
        self._lacking: dict[str, float] = {}

    @classmethod
    def at(cls, settings: Settings) -> Registry:
        return cls(settings.registry_url, settings.registry_auth)

    def subjects(self) -> list[str]:
        """Every subject; asked to see whether a registry is there at all."""
        found = self._found("/subjects")
        if not isinstance(found, list):
            raise RegistryOutage("the schema registry answers with something that is not a list of subjects")
        return [str(one) for one in found]

    def level(self, subject: str) -> str:
        """The compatibility that a subject asks of a new version: its own, else the registry's. A NONE is no answer:
        Apicurio 2 says it of every subject without a level of its own, and goes by the registry's all the same."""
        found = self._found(f"/config/{quote(subject, safe='')}?defaultToGlobal=true")
        if found is None or _field(found, "compatibilityLevel") == "NONE":
            found = self._found("/config")
        return str(_field(found, "compatibilityLevel"))

    def versions(self, subject: str) -> list[int]:
        """The numbers of a subject's versions, rising; empty where there is no such subject."""
        found = self._found(f"/subjects/{quote(subject, safe='')}/versions")
        if found is not None and not isinstance(found, list):
            raise RegistryOutage(
                f"the schema registry answers with something that is not a list of versions of {subject}"
            )
        return sorted(int(number) for number in found or [])

    def version(self, subject: str, number: int | str) -> Version | None:
        """A version by its number, or the `latest`."""
        found = self._found(f"/subjects/{quote(subject, safe='')}/versions/{number}")
        if found is None:
            return None
        text, references = self._whole(found)
        return Version(int(_field(found, "version")), int(_field(found, "id")), text, references)

    def register(self, subject: str, schema: str) -> int:
        """Puts a schema under a subject; its ID. What is there already is not put there again. Raises `Unusable` where
        the registry refuses it."""
        place = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._http.ask("POST", place, {"schema": schema})
        if answer.status in (409, 422):
            raise Unusable([f"{subject}: the schema registry refuses the schema: {_message(answer.json())}"])
        return int(_field(_judged(answer), "id"))

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None:
        """What the decoder asks: a schema's text and those that it refers to, by name; None where there is none."""
        match schema_id:
            case int():
                found = self._found(f"/schemas/ids/{schema_id}", _NO_SCHEMA)
                return None if found is None else self._whole(found)
            case GlobalId(number=number):
                return self._by_global_id(number)
        return self._by_guid(schema_id)

    # ---- IDs that not every registry has -----------------------------------------------------------------------------

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
        """Apicurio's answer is the schema itself. Its API stands beside Confluent's, on the same host."""
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
        """The registry has no such place: it is there (else `subjects` raises), and a 404 is not its own."""
        self.subjects()
        self._lacking[kind] = time.monotonic() + _LACKS_S

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _found(self, path: str, codes: frozenset[int] = _NO_SUBJECT) -> Any:
        return _judged(self._http.ask("GET", path), codes)

    def _whole(self, found: Any) -> tuple[str, dict[str, str]]:
        """A schema's text, and those that it refers to, each asked for once however often it is referred to."""
        texts: dict[str, str] = {}
        asked: dict[tuple[str, str], str] = {}
        self._gather(found, texts, asked)
        return _text(found), texts

    def _gather(self, of: Any, texts: dict[str, str], asked: dict[tuple[str, str], str]) -> None:
        references = of.get("references") or [] if isinstance(of, dict) else []
        if not isinstance(references, list):
            raise RegistryOutage("the schema registry's answer holds references of another shape")
        for reference in references:
            name = str(_field(reference, "name"))
            place = str(_field(reference, "subject")), str(_field(reference, "version"))
            if place not in asked:
                if len(asked) >= _REFERENCES_MAX:
                    raise RegistryOutage(f"a schema refers to more than {_REFERENCES_MAX} others")
                asked[place] = ""  # on the way: one that comes back to itself is not asked for again
                referred = self._found(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}")
                if referred is None:
                    raise RegistryOutage(f"a schema refers to {place[0]}, version {place[1]}, which is not there")
                self._gather(referred, texts, asked)
                asked[place] = _text(referred)
            if asked[place]:
                texts.setdefault(name, asked[place])


def _judged(answer: Answer, codes: frozenset[int] = _NO_SCHEMA) -> Any:
    """The answer's JSON; None where the registry says that there is no such thing. Raises `RegistryOutage`."""
    if _is_clear_no(answer, codes):
        return None
    found = answer.json()
    if 200 <= answer.status < 300:
        return found
    remedy = ""
    if answer.status in (401, 403):
        remedy = "set SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO to what it wants"
    raise RegistryOutage(f"{answer.url} answers HTTP {answer.status}: {_message(found)}", remedy)


def _is_clear_no(answer: Answer, codes: frozenset[int] = _NO_SCHEMA) -> bool:
    """Whether a 404 is a registry's own: a gateway's, or a missing place's, has no code of these. Apicurio's own API
    names what is not there (`ArtifactNotFoundException`); where the place itself is not, it is `NotFoundException`."""
    if answer.status != 404:
        return False
    try:
        found = answer.json()
    except RegistryOutage:
        return False
    if not isinstance(found, dict):
        return False
    return found.get("error_code") in codes or _NAMED_NOT_FOUND.fullmatch(str(found.get("name", ""))) is not None


def _text(found: Any) -> str:
    text = _field(found, "schema")
    if not isinstance(text, str):
        raise RegistryOutage("the schema registry's answer holds a schema that is no text")
    return text


def _message(found: Any) -> str:
    return str(found.get("message", found) if isinstance(found, dict) else found)[:_SHOWN_CHARS]


def _field(found: Any, name: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise RegistryOutage(f"the schema registry's answer has no {name!r}")
    return found[name]

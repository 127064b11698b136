"""A schema registry in memory, with as much of Confluent's API as serialisers need to read and register.

    POST /subjects/{subject}/versions                 register
    POST /subjects/{subject}                          look up
    GET  /subjects, /subjects/{subject}/versions, /subjects/{subject}/versions/{number | latest}
    GET  /schemas/ids/{id}[?subject=…], /schemas/ids/{id}/versions, /schemas/guids/{guid}, /schemas/types
    GET  /config, /config/{subject}; PUT /config

It cannot judge whether two schemas are compatible, so it does not pretend to: there is no `/compatibility`, and
`/config` says NONE. It compares schemas by their text as JSON. That is stricter than the canonical form of the real
registry, and the same for everybody who registers the files in `schemas/`.

Errors: 40401 no such subject, 40402 no such version, 40403 no such schema, 42201 no schema at all.
"""

from __future__ import annotations

import base64
import hmac
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

import msgspec
import orjson
from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from processor.sandbox.apis.loopback import Request
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import Answer, Call

SUBJECT_UNKNOWN: Final = 40401
VERSION_UNKNOWN: Final = 40402
SCHEMA_UNKNOWN: Final = 40403
SCHEMA_INVALID: Final = 42201
LEVELS: Final = ("NONE",)

_JSON: Final = "application/vnd.schemaregistry.v1+json"
_GUID_NAMESPACE = uuid.UUID("c0b5a1de-5a2f-4a7d-8f0b-6f7a3b1c9d10")


class _Submitted(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a registration; fields that newer clients add are skipped, as the real registry is asked
    to."""

    schema: str
    schema_type: str = "AVRO"


class Registered(NamedTuple):
    """One schema: IDs count from 1, a GUID follows from the text."""

    id: int
    guid: str
    text: str


class RegistryApi:
    """Mutable: `_schemas` by ID, in the order of registration, and per subject the IDs of its versions, from
    1 on.

    `user_info` (`user:password`) makes basic auth necessary. Without `guids` it answers to them as Karapace does, which
    has none.
    """

    def __init__(self, user_info: str | None = None, *, guids: bool = True) -> None:
        self._user_info = user_info
        self._guids = guids
        self._schemas: dict[int, Registered] = {}
        self._subjects: dict[str, list[int]] = {}

    @property
    def name(self) -> str:
        return "registry"

    def register(self, subject: str, schema: str) -> Registered:
        """Puts a schema under a subject (once). Raises ValueError when it is no Avro."""
        text = _canonical(schema)
        found = next((one for one in self._schemas.values() if one.text == text), None)
        if found is None:
            found = Registered(len(self._schemas) + 1, str(uuid.uuid5(_GUID_NAMESPACE, text)), text)
            self._schemas[found.id] = found
        versions = self._subjects.setdefault(subject, [])
        if found.id not in versions:
            versions.append(found.id)
        return found

    def understand(self, request: Request, script: Script) -> Call | Answer:
        if script.revoked or not self._welcome(request.headers.get("authorization", "")):
            return _error(401, 40101, "Unauthorized")
        path = tuple(unquote(part) for part in request.path.strip("/").split("/"))
        subjects = parse_qs(request.query).get("subject", [])
        perform = self._route(request.method, path, request.body, subjects[-1] if subjects else None)
        if perform is None:
            return _error(404, 404, "HTTP 404 Not Found")
        return Call((), None, perform)

    def refuse(self, status: int, problem: str) -> Answer:
        return _error(status, status * 100 + 1, problem)

    def contents(self) -> object:
        return {
            "subjects": self._subjects,
            "schemas": {str(one.id): {"guid": one.guid, "schema": one.text} for one in self._schemas.values()},
        }

    def _route(
        self, method: str, path: tuple[str, ...], body: bytes, subject: str | None
    ) -> Callable[[], Answer] | None:
        match method, path:
            case "POST", ("subjects", name, "versions"):
                return partial(self._register, name, body)
            case "POST", ("subjects", name):
                return partial(self._look_up, name, body)
            case "GET", ("subjects",):
                return lambda: _json(sorted(self._subjects))
            case "GET", ("subjects", name, "versions"):
                return partial(self._versions, name)
            case "GET", ("subjects", name, "versions", version):
                return partial(self._version, name, version)
            case "GET", ("schemas", "types"):
                return lambda: _json(["AVRO"])
            case "GET", ("schemas", "ids", number):
                return partial(self._by_id, number, subject)
            case "GET", ("schemas", "ids", number, "versions"):
                return partial(self._places, number)
            case "GET", ("schemas", "guids", _) if not self._guids:
                return lambda: Answer(404, b'"Not Found"', _JSON)
            case "GET", ("schemas", "guids", guid):
                return partial(self._by_guid, guid)
            case "GET", ("config",) | ("config", _):
                return lambda: _json({"compatibilityLevel": LEVELS[0]})
            case "PUT", ("config",) | ("config", _):
                return partial(self._configure, body)
        return None

    def _welcome(self, authorization: str) -> bool:
        if self._user_info is None:
            return True
        wanted = b"Basic " + base64.b64encode(self._user_info.encode())
        return hmac.compare_digest(authorization.encode(), wanted)

    def _register(self, subject: str, body: bytes) -> Answer:
        text = _submitted(body)
        if isinstance(text, Answer):
            return text
        found = self.register(subject, text)
        return _json({"id": found.id, "guid": found.guid})

    def _look_up(self, subject: str, body: bytes) -> Answer:
        text = _submitted(body)
        if isinstance(text, Answer):
            return text
        versions = self._subjects.get(subject)
        if versions is None:
            return _error(404, SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        for number, schema_id in enumerate(versions, start=1):
            if self._schemas[schema_id].text == text:
                return self._told(subject, number, schema_id)
        return _error(404, SCHEMA_UNKNOWN, "Schema not found")

    def _versions(self, subject: str) -> Answer:
        versions = self._subjects.get(subject)
        if versions is None:
            return _error(404, SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        return _json(list(range(1, len(versions) + 1)))

    def _version(self, subject: str, version: str) -> Answer:
        versions = self._subjects.get(subject)
        if versions is None:
            return _error(404, SUBJECT_UNKNOWN, f"Subject '{subject}' not found.")
        number = len(versions) if version in ("latest", "-1") else int(version) if version.isdecimal() else 0
        if not 1 <= number <= len(versions):
            return _error(404, VERSION_UNKNOWN, f"Version {version} not found.")
        return self._told(subject, number, versions[number - 1])

    def _by_id(self, number: str, subject: str | None) -> Answer:
        found = self._schemas.get(int(number)) if number.isdecimal() else None
        if found is None or (subject and found.id not in self._subjects.get(subject, ())):
            return _error(404, SCHEMA_UNKNOWN, f"Schema {number} not found")
        return _json({"schema": found.text, "guid": found.guid})

    def _by_guid(self, guid: str) -> Answer:
        found = next((one for one in self._schemas.values() if one.guid == guid), None)
        if found is None:
            return _error(404, SCHEMA_UNKNOWN, f"Schema {guid} not found")
        return _json({"schema": found.text, "guid": found.guid})

    def _places(self, number: str) -> Answer:
        found = [
            {"subject": subject, "version": versions.index(int(number)) + 1}
            for subject, versions in self._subjects.items()
            if number.isdecimal() and int(number) in versions
        ]
        return _json(found) if found else _error(404, SCHEMA_UNKNOWN, f"Schema {number} not found")

    def _configure(self, body: bytes) -> Answer:
        try:
            level = msgspec.json.decode(body, type=dict[str, object]).get("compatibility")
        except msgspec.MsgspecError:
            level = None
        if level not in LEVELS:
            return _error(422, 42203, "This registry judges no compatibility: NONE is the only level it has.")
        return _json({"compatibility": level})

    def _told(self, subject: str, version: int, schema_id: int) -> Answer:
        found = self._schemas[schema_id]
        return _json({"subject": subject, "version": version, "id": found.id, "guid": found.guid, "schema": found.text})


def _submitted(body: bytes) -> str | Answer:
    try:
        submitted = msgspec.json.decode(body, type=_Submitted)
        if submitted.schema_type != "AVRO":
            return _error(422, SCHEMA_INVALID, f"{submitted.schema_type}: this registry keeps Avro only")
        return _canonical(submitted.schema)
    except (msgspec.MsgspecError, ValueError) as wrong:
        return _error(422, SCHEMA_INVALID, f"Invalid schema: {wrong}")


def _canonical(schema: str) -> str:
    """The schema as compact JSON. Raises ValueError when it is no Avro."""
    try:
        parsed = orjson.loads(schema)
        parse_schema(parsed)
    except (orjson.JSONDecodeError, SchemaParseException, UnknownType, KeyError, TypeError) as wrong:
        raise ValueError(f"no Avro schema: {type(wrong).__name__}: {wrong}") from wrong
    return orjson.dumps(parsed).decode()


def _json(value: object) -> Answer:
    return Answer(200, orjson.dumps(value), _JSON)


def _error(status: int, code: int, message: str) -> Answer:
    return Answer(status, orjson.dumps({"error_code": code, "message": message}), _JSON)

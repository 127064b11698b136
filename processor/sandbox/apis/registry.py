"""A schema registry in memory: the part of Confluent's API that the processor's own client uses.

    POST /subjects/{subject}/versions
    GET  /subjects, /subjects/{subject}/versions, /subjects/{subject}/versions/{number | latest}
    GET  /schemas/ids/{id}, /schemas/guids/{guid}
    GET  /config, /config/{subject}

It cannot judge whether two schemas are compatible: there is no `/compatibility`, and `/config` says NONE. It compares
schemas by their text as JSON. That is stricter than the canonical form of the real registry, and has the same result
for every client that registers the files in `schemas/`.

Errors: 40401 no such subject, 40402 no such version, 40403 no such schema, 42201 not a schema.
"""

from __future__ import annotations

import base64
import hmac
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import unquote

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

_JSON: Final = "application/vnd.schemaregistry.v1+json"
_GUID_NAMESPACE = uuid.UUID("c0b5a1de-5a2f-4a7d-8f0b-6f7a3b1c9d10")


class _Submitted(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a registration. Fields that newer clients add are skipped."""

    schema: str
    schema_type: str = "AVRO"


class Registered(NamedTuple):
    """One schema. IDs count from 1; the GUID is made of the text."""

    id: int
    guid: str
    text: str


class RegistryApi:
    """Mutable: `_schemas` by ID, in the order of registration, and per subject the IDs of its versions, from 1 on.

    `user_info` (`user:password`) makes basic auth necessary. Without `guids` it answers like Karapace, which has none.
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
        """Registers a schema under a subject, once. Raises ValueError if it is not Avro."""
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
        perform = self._route(request.method, path, request.body)
        return _error(404, 404, "HTTP 404 Not Found") if perform is None else Call((), None, perform)

    def refuse(self, status: int, problem: str) -> Answer:
        return _error(status, status * 100 + 1, problem)

    def contents(self) -> object:
        return {
            "subjects": self._subjects,
            "schemas": {str(one.id): {"guid": one.guid, "schema": one.text} for one in self._schemas.values()},
        }

    def _route(self, method: str, path: tuple[str, ...], body: bytes) -> Callable[[], Answer] | None:
        match method, path:
            case "POST", ("subjects", name, "versions"):
                return partial(self._register, name, body)
            case "GET", ("subjects",):
                return lambda: _json(sorted(self._subjects))
            case "GET", ("subjects", name, "versions"):
                return partial(self._versions, name)
            case "GET", ("subjects", name, "versions", version):
                return partial(self._version, name, version)
            case "GET", ("schemas", "ids", number):
                return partial(self._by_id, number)
            case "GET", ("schemas", "guids", _) if not self._guids:
                return lambda: Answer(404, b'"Not Found"', _JSON)
            case "GET", ("schemas", "guids", guid):
                return partial(self._by_guid, guid)
            case "GET", ("config",) | ("config", _):
                return lambda: _json({"compatibilityLevel": "NONE"})
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
        found = self._schemas[versions[number - 1]]
        return _json({"subject": subject, "version": number, "id": found.id, "guid": found.guid, "schema": found.text})

    def _by_id(self, number: str) -> Answer:
        return _schema(self._schemas.get(int(number)) if number.isdecimal() else None, number)

    def _by_guid(self, guid: str) -> Answer:
        return _schema(next((one for one in self._schemas.values() if one.guid == guid), None), guid)


def _schema(found: Registered | None, name: str) -> Answer:
    if found is None:
        return _error(404, SCHEMA_UNKNOWN, f"Schema {name} not found")
    return _json({"schema": found.text, "guid": found.guid})


def _submitted(body: bytes) -> str | Answer:
    try:
        submitted = msgspec.json.decode(body, type=_Submitted)
        if submitted.schema_type != "AVRO":
            return _error(422, SCHEMA_INVALID, f"{submitted.schema_type}: this registry keeps Avro only")
        return _canonical(submitted.schema)
    except (msgspec.MsgspecError, ValueError) as wrong:
        return _error(422, SCHEMA_INVALID, f"Invalid schema: {wrong}")


def _canonical(schema: str) -> str:
    """Returns the schema as compact JSON. Raises ValueError if it is not Avro."""
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

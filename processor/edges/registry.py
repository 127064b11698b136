"""Where writer schemas come from: confluent-kafka's schema registry client behind one verb.

Owned by the transform thread, which calls it only for a schema ID that it has not seen: a hit costs nothing. An answer
is one of three, and the difference matters: a schema; `None` when the registry says that there is no such schema (404
with 40403), which is the record's fault; `RegistryOutage` for everything else (no connection, 5xx, 401, an HTML page
of a proxy), which is nobody's fault and is waited for.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import httpx

from processor.errors import RegistryOutage

with warnings.catch_warnings(record=True):
    # The client imports an OAuth module of Authlib's that warns about its own future, and insists on being shown; it
    # is not used here.
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

if TYPE_CHECKING:
    from processor.config import Settings

_NO_SUCH_SCHEMA: Final = 40403
_NO_SUCH_SUBJECT: Final = frozenset({40401, 40402})
_BROKEN: Final = (httpx.HTTPError, ValueError, TypeError, KeyError, AttributeError)
"""Beside a connection that fails: a body that is no JSON, or JSON of another shape (a proxy's page)."""
_REQUEST_S_MAX: Final = 5
"""A registry that hangs blocks the transform loop for no longer than this, far below `max.poll.interval.ms`."""


class Registry:
    """The schema registry. Raises `RegistryOutage` where the answer is neither a schema nor a clear no."""

    def __init__(self, client: SchemaRegistryClient) -> None:
        self._client = client

    @classmethod
    def at(cls, settings: Settings) -> Registry:
        conf: dict[str, object] = {
            "url": settings.registry_url,
            "timeout": _REQUEST_S_MAX,
            # Waiting is the loop's business, which must poll Kafka in between.
            "max.retries": 0,
        }
        if settings.registry_auth:
            conf["basic.auth.user.info"] = settings.registry_auth
        return cls(SchemaRegistryClient(conf))

    def schema(self, schema_id: int | str) -> tuple[str, dict[str, str]] | None:
        """The schema's text and those that it refers to, by name. `schema_id` is a number, or a GUID as text."""
        try:
            found = (
                self._client.get_schema(schema_id)
                if isinstance(schema_id, int)
                else self._client.get_schema_by_guid(schema_id)
            )
            return _text(found), self._references(found)
        except SchemaRegistryError as refused:
            if refused.http_status_code == 404 and refused.error_code == _NO_SUCH_SCHEMA:
                return None
            raise RegistryOutage(
                f"the schema registry answered {refused.http_status_code} for schema {schema_id}: "
                f"{refused.error_message}"
            ) from refused
        except _BROKEN as broken:
            raise RegistryOutage(
                f"the schema registry does not answer for schema {schema_id}: {type(broken).__name__}: {broken}"
            ) from broken

    def reachable(self) -> None:
        """Asks for something that every registry has. Raises `RegistryOutage`."""
        try:
            self._client.get_subjects()
        except (SchemaRegistryError, *_BROKEN) as broken:
            raise RegistryOutage(f"the schema registry does not answer: {broken}") from broken

    def latest(self, subject: str) -> str | None:
        """The newest schema of a subject; None where it has none. Raises `RegistryOutage`."""
        try:
            return _text(self._client.get_latest_version(subject).schema)
        except SchemaRegistryError as refused:
            if refused.http_status_code == 404 and refused.error_code in _NO_SUCH_SUBJECT:
                return None
            raise RegistryOutage(f"the schema registry answered {refused.http_status_code} for {subject}") from refused
        except _BROKEN as broken:
            raise RegistryOutage(f"the schema registry does not answer: {broken}") from broken

    def close(self) -> None:
        self._client.close()

    def _references(self, schema: Schema) -> dict[str, str]:
        found: dict[str, str] = {}
        for reference in schema.references or []:
            if reference.name is None or reference.subject is None or reference.version is None:
                raise ValueError("the registry's answer holds a reference without name, subject or version")
            referred = self._client.get_version(reference.subject, reference.version).schema
            found.update(self._references(referred))
            found[reference.name] = _text(referred)
        return found


def _text(schema: Schema | None) -> str:
    if schema is None or not isinstance(schema.schema_str, str):
        raise ValueError("the registry's answer holds no schema")
    return schema.schema_str

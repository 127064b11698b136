"""The schema ID of a value, and the start of its Avro. Pure.

    value:  00 | schema ID, 4 bytes big endian | Avro          Confluent's framing, and Apicurio's since 3
            01 | GUID, 16 bytes                | Avro          Confluent's newer one, in the value ...
    header: __value_schema_id = 00 + ID or 01 + GUID           ... or in a header; the value is then Avro only
            apicurio.value.contentId, .globalId = 8 bytes      Apicurio's headers, its default before 3; the same

The formats of other serialisers are named, with the setting for the producer.
"""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

from processor.errors import BadRecord
from processor.records import Headers, Reason, Record, Stage

CONFLUENT: Final = "__value_schema_id"
_APICURIO: Final = "apicurio.value."
_APICURIO_BYTES: Final = 8
_ID_MAGIC: Final = 0
_GUID_MAGIC: Final = 1
_ID_BYTES: Final = 4
FRAME_BYTES: Final = 1 + _ID_BYTES
"""The length of Confluent's framing: the same bytes name the same schema, unless a header names one."""
_GUID_BYTES: Final = 16
_ID_MAX: Final = 2**31 - 1
"""Registries count in signed 32 bits, and some answer a larger number with an error of their own."""

_APICURIO_REMEDY: Final = (
    "set apicurio.registry.as-confluent=true (2.x) or the Default4ByteIdHandler (3.x), and "
    "apicurio.registry.use-id=contentId at the producer"
)
_WRITE_SO: Final = "write it with a serialiser for SCHEMA_REGISTRY_URL's registry (00, 4 bytes of schema ID, Avro)"
_OTHERS: Final = (
    (b"\x03\x00", f"AWS Glue's framing, whose registry is not read; {_WRITE_SO}"),
    (b"\x03\x05", f"AWS Glue's framing, compressed, whose registry is not read; {_WRITE_SO}"),
    (b"\xc3\x01", f"Avro's single-object encoding, which names no registry's schema; {_WRITE_SO}"),
    (b"Obj\x01", f"an Avro object container, which is for files; {_WRITE_SO}"),
    (b"{", f"JSON; {_WRITE_SO}"),
    (b"[", f"JSON; {_WRITE_SO}"),
    (b'"', f"JSON; {_WRITE_SO}"),
    (b"<", f"XML; {_WRITE_SO}"),
)
"""The formats by the first bytes of a value."""


class GlobalId(NamedTuple):
    """Apicurio's number of one version, which is not the ID of Confluent's API."""

    number: int

    def __str__(self) -> str:
        return f"globalId {self.number}"


SchemaId = int | str | GlobalId
"""A schema's ID, its GUID as text, or its global ID."""


def framing(record: Record, value: bytes) -> tuple[SchemaId, int]:
    """Returns the writer schema's ID, and the start of the Avro in the value. Raises `BadRecord`."""
    if record.headers:
        found = _by_header(record.headers)
        if found is not None:
            return found, 0
    return _framed(value, record.headers)


def undecodable(message: str) -> BadRecord:
    """Returns the error of a value that can never be read."""
    return BadRecord(Stage.DECODE, Reason.UNDECODABLE, message)


def unknown(schema_id: SchemaId) -> BadRecord:
    """Returns the error of a value whose schema the registry does not have."""
    eight = f": are these Apicurio's IDs of 8 bytes? Then {_APICURIO_REMEDY}" if schema_id == 0 else ""
    return undecodable(f"the schema registry knows no schema {schema_id}{eight}")


def _by_header(headers: Headers) -> SchemaId | None:
    """By the last header of a name: serialisers add theirs behind those of a record that they hand on."""
    apicurio: dict[str, bytes] = {}
    for name, content in reversed(headers):
        if name == CONFLUENT:
            return _framed(content or b"", [])[0]
        if name.startswith(_APICURIO):
            apicurio.setdefault(name[len(_APICURIO) :], content or b"")
    return _by_apicurio(apicurio) if apicurio else None


def _by_apicurio(headers: dict[str, bytes]) -> SchemaId | None:
    if headers.get("encoding", b"BINARY").upper() == b"JSON":
        raise undecodable("Avro as JSON (apicurio.value.encoding); set apicurio.registry.avro.encoding=BINARY")
    for name in ("contentId", "globalId"):
        content = headers.get(name)
        if content is None:
            continue
        number = int.from_bytes(content, "big", signed=True)
        if len(content) != _APICURIO_BYTES or number < 0:
            raise undecodable(f"the header {_APICURIO}{name} is not a number of {_APICURIO_BYTES} bytes")
        return _number(number) if name == "contentId" else GlobalId(number)
    if "artifactId" in headers or "contentHash" in headers:
        raise undecodable(f"Apicurio's headers without contentId and globalId; {_APICURIO_REMEDY}")
    return None


def _framed(framed: bytes, headers: Headers) -> tuple[SchemaId, int]:
    if len(framed) > _ID_BYTES and framed[0] == _ID_MAGIC:
        return _number(int.from_bytes(framed[1:FRAME_BYTES], "big")), FRAME_BYTES
    if len(framed) > _GUID_BYTES and framed[0] == _GUID_MAGIC:
        return str(uuid.UUID(bytes=framed[1 : 1 + _GUID_BYTES])), 1 + _GUID_BYTES
    raise undecodable(f"no schema ID: {_looks(framed, headers)}")


def _number(schema_id: int) -> int:
    if schema_id > _ID_MAX:
        raise undecodable(f"no registry has a schema {schema_id}: IDs end at {_ID_MAX}")
    return schema_id


def _looks(value: bytes, headers: Headers) -> str:
    """Returns what a value without framing looks like, and what to do about it."""
    if any(name == "content-type" and (content or b"").startswith(b"avro/binary") for name, content in headers):
        return f"Azure's framing (the header content-type), whose registry is not read; {_WRITE_SO}"
    for start, what in _OTHERS:
        if value.startswith(start):
            return what
    return f"{len(value)} bytes that start with {value[:1].hex() or 'nothing'}; {_WRITE_SO}"

"""keys: the kind of a record's key, and the order ID in it.

The key has to be the order ID as plain UTF-8. Serialisers that were set for the value and not for the key write other
bytes. They are recognised here, so that a dead letter names the kind of its key and the setting of the producer.

    read_key(b"ord-1")                              PLAIN        ord-1
    read_key(b"\\x00\\x00\\x00\\x00\\x07\\x0aord-1")      AVRO_STRING  ord-1   a Confluent Avro string of schema 7
    read_key(b'"ord-1"')                            JSON_STRING  ord-1

Pure: it judges by the bytes, and by headers that name the key's schema (Confluent's `__key_schema_id`, Apicurio's
`apicurio.key.*`: the key is Avro alone then, which looks like text with a letter too many). It asks no registry. An
Avro string has to fill its key to the last byte (magic byte 0, the schema's ID in 4 bytes, the length as a zigzag
number, UTF-8), so no other key is taken for one.

Invariant: the words about a key (`Key.what`) have only its order ID, cut: another key may be a customer's e-mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

import orjson

from processor.records import Header, OrderId

ORDER_ID_SHOWN_MAX: Final = 100
"""Characters of an order ID in a message. A key may be some KB, and a message is a header."""
_FOUND_ANYWHERE_MIN: Final = 8
_KEY_HEADERS: Final = ("__key_schema_id", "apicurio.key.")
_KEY_BYTES_MAX: Final = 4096
"""The longest key that is examined: no order ID is longer, and each record with a bad key is examined."""


class KeyKind(StrEnum):
    """The kind of a key, judged by its bytes. Upper case is not judged: it may be the shop's own."""

    PLAIN = "plain"
    NONE = "none"
    EMPTY = "empty"
    AVRO_STRING = "avro_string"
    JSON_STRING = "json_string"
    JSON_OBJECT = "json_object"
    FRAMED = "framed"
    UTF_16 = "utf_16"
    JAVA_OBJECT = "java_object"
    PADDED = "padded"
    BINARY = "binary"


TRUSTED: Final = frozenset({KeyKind.PLAIN, KeyKind.AVRO_STRING, KeyKind.JSON_STRING})
"""Kinds whose order ID is certain: no other key can have these bytes."""

_TEXT: Final = "write the order ID as UTF-8 text and nothing else (Java: key.serializer=StringSerializer)"
_CONNECT: Final = "key.converter=org.apache.kafka.connect.storage.StringConverter"
_REMEDY: Final = {
    KeyKind.NONE: "give each record its order ID as the key",
    KeyKind.EMPTY: "give each record its order ID as the key",
    KeyKind.AVRO_STRING: f"set key.serializer=StringSerializer (Kafka Connect: {_CONNECT}; confluent-kafka: "
    "StringSerializer for the key)",
    KeyKind.JSON_STRING: "write the key as text, not as JSON (Java and Spring: key.serializer=StringSerializer; "
    f"Kafka Connect: {_CONNECT})",
    KeyKind.JSON_OBJECT: "write the order ID alone as the key (Kafka Connect: the transforms ValueToKey and "
    f"ExtractField$Key, and {_CONNECT})",
    KeyKind.FRAMED: "set key.serializer=StringSerializer and give it the order ID",
    KeyKind.UTF_16: "encode the key as UTF-8 (Java: key.serializer.encoding=UTF-8)",
    KeyKind.PADDED: "trim the order ID before it becomes the key",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it was read. `order_id` is None if the key has none; `detail` describes the kind."""

    kind: KeyKind
    order_id: OrderId | None = None
    detail: str = ""

    @property
    def is_trusted(self) -> bool:
        """True if `order_id` is certain."""
        return self.kind in TRUSTED

    @property
    def what(self) -> str:
        """The key in words: `a Confluent Avro string of schema 7, order avk-1`."""
        return self.detail if self.order_id is None else f"{self.detail}, order {_shown(self.order_id)}"

    @property
    def remedy(self) -> str:
        """The setting to change at the producer."""
        return _REMEDY.get(self.kind, _TEXT)


def read_key(key: bytes | None, headers: Sequence[Header] = ()) -> Key:
    """Returns a record's key with its kind. Raises nothing: every key has a kind."""
    if key is None:
        return Key(KeyKind.NONE, detail="no key at all")
    if not key:
        return Key(KeyKind.EMPTY, detail="a key of no bytes")
    if len(key) > _KEY_BYTES_MAX:
        return Key(KeyKind.BINARY, detail=f"{len(key)} bytes, more than any order ID")
    return _by_header(key, headers) or _utf_16(key) or _framed(key) or _java_object(key) or _text(key)


def mismatch(key: bytes | None, order_id: OrderId, headers: Sequence[Header] = ()) -> str:
    """Returns why a record of `order_id` cannot be taken under a key that is not its UTF-8, and what to do."""
    read = read_key(key, headers)
    if read.kind is KeyKind.PLAIN:
        if read.order_id is not None and read.order_id.casefold() == order_id.casefold():
            what = f"the order ID of its value in other letters of upper and lower case, order {_shown(order_id)}"
            return _said(what, "write the order ID in the key as it is in the value")
        return _said("text that is not the order ID of its value", f"set the key to the value's order_id; {_TEXT}")
    what = read.what
    if read.order_id is None:
        what += f"; its value is of order {_shown(order_id)}"
    elif read.order_id != order_id:
        what = f"{read.detail} that is not the order ID of its value"
    return _said(what, read.remedy)


def unreadable(read: Key) -> str:
    """Returns why a record without a value cannot be taken under this key, and what to do about it."""
    return _said(read.what, read.remedy)


def names_order(key: bytes | None, value: bytes | None, order_id: str, headers: Sequence[Header] = ()) -> bool:
    """Returns true if a record is about this order: by its key in any framing, or by the order ID in its value. Asks no
    registry, so it reads only values in Confluent's framing, where the order ID follows the event ID."""
    wanted = order_id.encode()
    if key == wanted or (key and read_key(key, headers).order_id == order_id):
        return True
    if value is None or len(value) <= 5 or value[0] != 0:
        return False
    prefixed = _zigzag(len(wanted)) + wanted
    behind = _after_string(value, 5)
    if behind is not None and value.startswith(prefixed, behind):
        return True
    # Another writer's fields may stand in another order; a short ID would be found anywhere.
    return len(wanted) >= _FOUND_ANYWHERE_MIN and prefixed in value


def _zigzag(length: int) -> bytes:
    """Returns Avro's long for a length."""
    left, out = length << 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _after_string(value: bytes, at: int) -> int | None:
    """Returns where the Avro string that begins at `at` ends; None if no string begins there."""
    length, shift = 0, 0
    for byte in value[at : at + 3]:
        length |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            end = at + (length >> 1)
            return end if not length & 1 and end <= len(value) else None
    return None


def _said(what: str, remedy: str) -> str:
    return f"the record's key is {what}; it has to be the order ID as plain UTF-8: {remedy}"


def _shown(order_id: OrderId) -> str:
    text = "".join(letter if letter.isprintable() else "�" for letter in order_id[:ORDER_ID_SHOWN_MAX])
    return text if len(order_id) <= ORDER_ID_SHOWN_MAX else f"{text}…"


def _framed(key: bytes) -> Key | None:
    """Recognises Confluent's wire formats: magic 0 and an ID of 4 bytes, or magic 1 and a GUID of 16."""
    if key[0] == 0 and len(key) > 5 and (number := int.from_bytes(key[1:5], "big")):
        body, schema = key[5:], f"schema {number}"
    elif key[0] == 1 and len(key) > 17:
        body, schema = key[17:], f"schema {UUID(bytes=key[1:17])}"
    else:
        return None
    if text := _avro_text(body):
        return Key(KeyKind.AVRO_STRING, OrderId(text), f"a Confluent Avro string of {schema}")
    if body[:1] in b'"{' and (inner := _json(body.decode("utf-8", "replace"))) is not None:
        return Key(KeyKind.FRAMED, inner.order_id, f"Confluent JSON of {schema}")
    if key[0] == 0 and len(key) <= 8:
        return None  # a number of 8 bytes looks like that
    return Key(KeyKind.FRAMED, detail=f"a Confluent record of {schema} that is no string")


def _by_header(key: bytes, headers: Sequence[Header]) -> Key | None:
    """Recognises Avro alone, whose schema a header names."""
    name = next((name for name, _ in headers if name.startswith(_KEY_HEADERS)), None)
    text = None if name is None else _avro_text(key)
    return Key(KeyKind.AVRO_STRING, OrderId(text), f"an Avro string (by the header {name})") if text else None


def _avro_text(body: bytes) -> str | None:
    """Returns a string, or a nullable string, which follows the number of its branch, 0 or 1."""
    return _avro_string(body) or (_avro_string(body[1:]) if body[0] in (0, 2) else None)


def _avro_string(body: bytes) -> str | None:
    length, shift = 0, 0
    for at, byte in enumerate(body[:3]):
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            text = body[at + 1 :]
            if length & 1 or length >> 1 != len(text):
                return None
            decoded = utf_8(text)
            return decoded if decoded and _is_text(decoded) else None
        shift += 7
    return None


def _java_object(key: bytes) -> Key | None:
    if key[:4] != b"\xac\xed\x00\x05":
        return None
    text = utf_8(key[7:]) if key[4:5] == b"t" and int.from_bytes(key[5:7], "big") == len(key) - 7 else None
    return Key(KeyKind.JAVA_OBJECT, OrderId(text) if text else None, "an object of Java's own serialisation")


def _utf_16(key: bytes) -> Key | None:
    """Recognises UTF-16 with a byte order mark, or text in which every second byte is zero."""
    if len(key) % 2:
        return None
    if key[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif key[1::2].count(0) * 2 > len(key) // 2 and 0 not in key[::2]:
        encoding = "utf-16-le"
    elif key[::2].count(0) * 2 > len(key) // 2 and 0 not in key[1::2]:
        encoding = "utf-16-be"
    else:
        return None
    try:
        text = key.decode(encoding)
    except UnicodeDecodeError:
        return None
    return Key(KeyKind.UTF_16, OrderId(text), "UTF-16 text") if text and _is_text(text) else None


def _text(key: bytes) -> Key:
    text = utf_8(key)
    if text is None:
        return Key(KeyKind.BINARY, detail=f"{len(key)} bytes that are no UTF-8")
    inner = text.strip(" \t\r\n\f\v\0\u00a0\ufeff")
    if not inner:
        return Key(KeyKind.BINARY, detail=f"{len(key)} bytes of nothing that is shown")
    if not _is_text(inner):
        return Key(KeyKind.BINARY, detail=f"{len(key)} bytes that are no text")
    if (read := _json(inner)) is not None:
        return read
    if inner != text:
        return Key(KeyKind.PADDED, OrderId(inner), "text with blanks or marks around it")
    return Key(KeyKind.PLAIN, OrderId(text), "text")


def _json(text: str) -> Key | None:
    """Recognises a string in quotes and an object; numbers, `true` and arrays count as text."""
    if text[0] + text[-1] not in ('""', "{}") or len(text) < 2:
        return None
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if isinstance(read, str):
        return Key(KeyKind.JSON_STRING, OrderId(read), "a JSON string") if read and _is_text(read) else None
    named = [read[name] for name in ("order_id", "orderId", "payload") if isinstance(read.get(name), str)]
    order_id = OrderId(named[0]) if named and named[0] and _is_text(named[0]) else None
    return Key(KeyKind.JSON_OBJECT, order_id, "a JSON object")


def _is_text(text: str) -> bool:
    return not any(letter < " " or letter == "\x7f" for letter in text)


def utf_8(data: bytes) -> str | None:
    """Returns the text of these bytes; None if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None

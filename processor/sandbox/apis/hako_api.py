"""Hako as a stand-in: items, warehouses and inventory in three tables. An array is written whole or not at all.

    POST    creates   400 if an object exists already, 404 if an inventory names an unknown item or warehouse
    PUT     updates   404 if an object does not exist
    DELETE  deletes   404 if an object does not exist
    GET     finds     the objects whose fields equal those of the body (a JSON object; without a body: all)

The reference leaves these points open, and this stand-in decides them: an error is {"message": …}; deleting an item or
a warehouse deletes its inventory; an update may change the names that identify an object unless another object has
them. The reference writes `DELETE /warehouses` under "Delete Inventory"; its example has `/inventory`.
"""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from processor.sandbox.apis.loopback import Request
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import Answer, Call

_JSON: Final = "application/json"

Identity = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, lt=100_000_000_000)]
"""A unix timestamp. A larger number was meant in milliseconds."""

Fields = dict[str, Any]
Key = tuple[str, ...]
"""The values that identify an object, in the order of `TABLES`."""

_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "items": {"sku": Identity, "name": str, "expires": Seconds, "price": float},
    "warehouses": {"warehouseID": Identity, "name": str},
    "inventory": {"sku": Identity, "warehouseID": Identity, "quantity": float},
}

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "items": ("sku",),
    "warehouses": ("warehouseID",),
    "inventory": ("warehouseID", "sku"),
}


def _shape(fields: dict[str, Any], required: Collection[str]) -> type[Struct]:
    """A closed shape of these fields. Those that are not `required` may be missing."""
    given = [(name, kind) for name, kind in fields.items() if name in required]
    optional = [(name, kind | UnsetType, UNSET) for name, kind in fields.items() if name not in required]
    return msgspec.defstruct("_Object", [*given, *optional], forbid_unknown_fields=True)


def _decoders(table: str) -> dict[tuple[str, str], msgspec.json.Decoder[list[Any]]]:
    fields = _FIELDS[table]
    key = {name: fields[name] for name in fields if name in TABLES[table]}
    shapes = {
        "POST": _shape(fields, {*key, "quantity"}),
        "PUT": _shape(key | {"updates": _shape(fields, ())}, {*key, "updates"}),
        "DELETE": _shape(key, key),
    }
    return {(table, method): msgspec.json.Decoder(list[shape]) for method, shape in shapes.items()}  # type: ignore[valid-type] # made at run time


_DECODERS: Final = {where: decoder for table in TABLES for where, decoder in _decoders(table).items()}
_RAW = msgspec.json.Decoder(list[msgspec.Raw])


class HakoApi:
    """Mutable: `tables` hold the objects by their key, each with all its fields and the `id` that Hako gave it."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Key, Fields]] = {table: {} for table in TABLES}
        self._last_id = 0

    @property
    def name(self) -> str:
        return "hako"

    def understand(self, request: Request, script: Script) -> Call | Answer:
        table = request.path.removeprefix("/v0").removeprefix("/")
        if table not in TABLES:
            return self.refuse(404, f"no such path: {request.path}")
        given = _user(request.headers.get("authorization", ""))
        if given is None:
            return self.refuse(401, "Authorization: must be basic, the key as user name, no password")
        if script.revoked or not hmac.compare_digest(given.encode(), script.key.encode()):
            return _error(401, "this key is not valid")
        content_type = request.headers.get("content-type", "")
        if content_type != _JSON:
            return self.refuse(400, f"content-type: {content_type or 'missing'}, must be {_JSON}")
        if request.method == "GET":
            return self._find(table, request.body)
        decoder = _DECODERS.get((table, request.method))
        if decoder is None:
            return self.refuse(405, f"{request.method}: must be GET, POST, PUT or DELETE")
        try:
            decoded = decoder.decode(request.body)
            raw = _RAW.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return self.refuse(400, str(wrong))
        if not decoded:
            return self.refuse(400, "an array of one or more objects is needed")
        objects = [msgspec.to_builtins(one) for one in decoded]
        keys = [_key(table, one) for one in objects]
        for key, count in Counter(keys).items():
            if count > 1:
                return self.refuse(400, f"{_text(key)} stands {count} times in the array")
        subjects = tuple(f"{table}/{_text(key)}" for key in keys)
        entries = tuple((subject, bytes(one)) for subject, one in zip(subjects, raw, strict=True))
        return Call(subjects, None, partial(self._change, table, request.method, objects, keys, script, entries))

    def refuse(self, status: int, problem: str) -> Answer:
        return _error(status, problem, (problem,))

    def contents(self) -> object:
        """Returns the tables as JSON values: lists of objects without Hako's `id`, in order of their keys."""
        return {
            table: [{name: value for name, value in row.items() if name != "id"} for _, row in sorted(rows.items())]
            for table, rows in self.tables.items()
        }

    def _find(self, table: str, body: bytes) -> Answer:
        try:
            wanted = msgspec.json.decode(body, type=Fields) if body else {}
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return self.refuse(400, str(wrong))
        return _affected([row for row in self.tables[table].values() if wanted.items() <= row.items()])

    def _change(
        self,
        table: str,
        method: str,
        objects: list[Fields],
        keys: list[Key],
        script: Script,
        entries: tuple[tuple[str, bytes], ...],
    ) -> Answer:
        for one in objects:
            if one.get("sku") in script.refused_skus:
                return _error(400, f"the item {one['sku']} is refused")
        change = {"POST": self._create, "PUT": self._update, "DELETE": self._delete}[method]
        answer = change(table, objects, keys)
        return replace(answer, accepted=entries) if answer.succeeded else answer

    def _create(self, table: str, objects: list[Fields], keys: list[Key]) -> Answer:
        rows = self.tables[table]
        for key, one in zip(keys, objects, strict=True):
            if key in rows:
                return _error(400, f"{table}: {_text(key)} exists already, update it instead")
            if missing := self._missing(table, one):
                return missing
        created = []
        for key, one in zip(keys, objects, strict=True):
            self._last_id += 1
            rows[key] = {"id": self._last_id} | one
            created.append(rows[key])
        return _affected(created)

    def _update(self, table: str, objects: list[Fields], keys: list[Key]) -> Answer:
        rows = self.tables[table]
        for key in keys:
            if key not in rows:
                return _error(404, f"{table}: {_text(key)} does not exist")
        changed = [rows[key] | one["updates"] for key, one in zip(keys, objects, strict=True)]
        for key, row in zip(keys, changed, strict=True):
            if _key(table, row) != key and _key(table, row) in rows:
                return _error(400, f"{table}: {_text(_key(table, row))} exists already")
            if missing := self._missing(table, row):
                return missing
        for key, row in zip(keys, changed, strict=True):
            del rows[key]
            rows[_key(table, row)] = row
        return _affected(changed)

    def _delete(self, table: str, _: list[Fields], keys: list[Key]) -> Answer:
        rows = self.tables[table]
        for key in keys:
            if key not in rows:
                return _error(404, f"{table}: {_text(key)} does not exist")
        for key in keys:
            del rows[key]
        if table == "inventory":
            return _affected([dict(zip(TABLES[table], key, strict=True)) for key in keys])
        (name,) = TABLES[table]
        gone = {key[0] for key in keys}
        inventory = self.tables["inventory"]
        for key in [key for key, row in inventory.items() if row[name] in gone]:
            del inventory[key]
        return _affected([key[0] for key in keys])

    def _missing(self, table: str, level: Fields) -> Answer | None:
        """A level needs its item and its warehouse."""
        for other, name in (("items", "sku"), ("warehouses", "warehouseID")) if table == "inventory" else ():
            if (level[name],) not in self.tables[other]:
                return _error(404, f"{other}: {level[name]} does not exist")
        return None


def _affected(objects: list[Fields] | list[str]) -> Answer:
    """Returns the answer of a success: the objects that were found, made or changed, or the names of the deleted."""
    return Answer(200, orjson.dumps(objects), _JSON)


def _key(table: str, fields: Fields) -> Key:
    return tuple(fields[name] for name in TABLES[table])


def _text(key: Key) -> str:
    return "/".join(key)


def _user(authorization: str) -> str | None:
    """Returns the user name of basic credentials without a password. Returns None for anything else."""
    if not authorization.startswith("Basic "):
        return None
    try:
        user, colon, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
    except (ValueError, UnicodeDecodeError):
        return None
    return user if user and colon and not password else None


def _error(status: int, message: str, mistakes: tuple[str, ...] = ()) -> Answer:
    return Answer(status, orjson.dumps({"message": message}), _JSON, problems=mistakes)

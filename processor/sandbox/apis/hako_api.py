"""Hako as a stand-in: items, warehouses and inventory in three tables. An array is written as a whole or not at all.

    POST    creates   400 when an object is there already, 404 when an inventory names an unknown item or warehouse
    PUT     updates   404 when an object is not there
    DELETE  deletes   404 when an object is not there
    GET     finds     those whose fields equal the ones in the body (a JSON object; without one: all)

Where the reference leaves something open, this is decided: an error is {"message": …}; deleting an item or a warehouse
deletes its inventory; an update may change the names that identify an object unless another object has them. The
reference writes `DELETE /warehouses` under "Delete Inventory"; its example has `/inventory`.
"""

from __future__ import annotations

import base64
import hmac
from collections import Counter
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
"""A unix timestamp; what lies above was meant in milliseconds."""


_NAMES: Final = {"warehouse_id": "warehouseID"}


class _Item(Struct, frozen=True, forbid_unknown_fields=True):
    sku: Identity
    name: str | UnsetType = UNSET
    expires: Seconds | UnsetType = UNSET
    price: float | UnsetType = UNSET


class _ItemKey(Struct, frozen=True, forbid_unknown_fields=True):
    sku: Identity


class _ItemUpdates(Struct, frozen=True, forbid_unknown_fields=True):
    sku: Identity | UnsetType = UNSET
    name: str | UnsetType = UNSET
    expires: Seconds | UnsetType = UNSET
    price: float | UnsetType = UNSET


class _ItemUpdate(Struct, frozen=True, forbid_unknown_fields=True):
    sku: Identity
    updates: _ItemUpdates


class _Warehouse(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    warehouse_id: Identity
    name: str | UnsetType = UNSET


class _WarehouseKey(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    warehouse_id: Identity


class _WarehouseUpdates(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    warehouse_id: Identity | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _WarehouseUpdate(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    warehouse_id: Identity
    updates: _WarehouseUpdates


class _Inventory(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    sku: Identity
    warehouse_id: Identity
    quantity: float


class _InventoryKey(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    sku: Identity
    warehouse_id: Identity


class _InventoryUpdates(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    sku: Identity | UnsetType = UNSET
    warehouse_id: Identity | UnsetType = UNSET
    quantity: float | UnsetType = UNSET


class _InventoryUpdate(Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    sku: Identity
    warehouse_id: Identity
    updates: _InventoryUpdates


Fields = dict[str, Any]
Key = tuple[str, ...]
"""The values that identify an object, in the order of `TABLES`."""

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "items": ("sku",),
    "warehouses": ("warehouseID",),
    "inventory": ("warehouseID", "sku"),
}

_SHAPES: Final[dict[tuple[str, str], Any]] = {
    ("items", "POST"): _Item,
    ("items", "PUT"): _ItemUpdate,
    ("items", "DELETE"): _ItemKey,
    ("warehouses", "POST"): _Warehouse,
    ("warehouses", "PUT"): _WarehouseUpdate,
    ("warehouses", "DELETE"): _WarehouseKey,
    ("inventory", "POST"): _Inventory,
    ("inventory", "PUT"): _InventoryUpdate,
    ("inventory", "DELETE"): _InventoryKey,
}
_DECODERS = {where: msgspec.json.Decoder(list[shape]) for where, shape in _SHAPES.items()}  # type: ignore[valid-type] # shapes are picked at run time
_RAW = msgspec.json.Decoder(list[msgspec.Raw])


class HakoApi:
    """Mutable: `tables` hold the objects by their key, each with every field it has (an `id` of Hako's among
    them)."""

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
        change = partial(self._change, table, request.method, objects, keys, script, entries)
        return Call(subjects, None, change)

    def refuse(self, status: int, problem: str) -> Answer:
        return _error(status, problem, (problem,))

    def contents(self) -> object:
        """The tables as JSON values: lists of objects without Hako's `id`, in order of their keys."""
        return {
            table: [{name: value for name, value in row.items() if name != "id"} for _, row in sorted(rows.items())]
            for table, rows in self.tables.items()
        }

    def _find(self, table: str, body: bytes) -> Answer:
        try:
            wanted = msgspec.json.decode(body, type=Fields) if body else {}
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return self.refuse(400, str(wrong))
        found = [
            row
            for row in self.tables[table].values()
            if all(name in row and row[name] == value for name, value in wanted.items())
        ]
        return _affected(found)

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
        match method:
            case "POST":
                answer = self._create(table, objects, keys)
            case "PUT":
                answer = self._update(table, objects, keys)
            case "DELETE":
                answer = self._delete(table, keys)
            case _:
                raise AssertionError(f"a shape for {method} but no way to do it")
        return replace(answer, accepted=entries) if answer.succeeded else answer

    def _create(self, table: str, objects: list[Fields], keys: list[Key]) -> Answer:
        rows = self.tables[table]
        for key, one in zip(keys, objects, strict=True):
            if key in rows:
                return _error(400, f"{table}: {_text(key)} exists already, update it instead")
            if table == "inventory":
                missing = self._missing(one)
                if missing is not None:
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
            if table == "inventory":
                missing = self._missing(row)
                if missing is not None:
                    return missing
        for key, row in zip(keys, changed, strict=True):
            del rows[key]
            rows[_key(table, row)] = row
        return _affected(changed)

    def _delete(self, table: str, keys: list[Key]) -> Answer:
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

    def _missing(self, level: Fields) -> Answer | None:
        if (level["sku"],) not in self.tables["items"]:
            return _error(404, f"items: {level['sku']} does not exist")
        if (level["warehouseID"],) not in self.tables["warehouses"]:
            return _error(404, f"warehouses: {level['warehouseID']} does not exist")
        return None


def _affected(objects: list[Fields] | list[str]) -> Answer:
    """The answer to everything that went well: the objects that were found, made, changed, or the names of
    the gone."""
    return Answer(200, orjson.dumps(objects), _JSON)


def _key(table: str, fields: Fields) -> Key:
    return tuple(fields[name] for name in TABLES[table])


def _text(key: Key) -> str:
    return "/".join(key)


def _user(authorization: str) -> str | None:
    """The user name of basic credentials without a password."""
    if not authorization.startswith("Basic "):
        return None
    try:
        user, colon, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
    except (ValueError, UnicodeDecodeError):
        return None
    return user if user and colon and not password else None


def _error(status: int, message: str, mistakes: tuple[str, ...] = ()) -> Answer:
    return Answer(status, orjson.dumps({"message": message}), _JSON, problems=mistakes)

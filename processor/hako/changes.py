"""changes: what a shop writes about one object, as the change that Hako gets.

    catalog.items       key sku               {"sku", "name", "expires", "price"}        PUT: "updates" of the same
    catalog.warehouses  key warehouse_id      {"warehouseID", "name"}
    inventory.levels    key warehouse_id/sku  {"sku", "warehouseID", "quantity"}         no value: DELETE

Pure. `read_change` raises `BadRecord` for a record that can never be sent: its key names no object, or another object
than its value; or readers of JSON would round its quantity. `check_times` raises it for a time that is not plausible.
Nulls are left out: an update does not change the fields that it does not name. `expires` is in seconds. Price and
quantity go as they are, negative ones too: below zero a shop has sold more than it has, and Hako decides about that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from processor.api.verdicts import Rejected
from processor.errors import BadRecord
from processor.moments import implausible
from processor.records import Reason, Stage

WHOLE_MAX: Final = 2**53 - 1
"""The largest whole number that every reader of JSON reads exactly; a larger level would arrive as another one."""


class Table(StrEnum):
    """Hako's kinds of object; the values are the paths of its API."""

    ITEMS = "items"
    WAREHOUSES = "warehouses"
    INVENTORY = "inventory"


class Verb(StrEnum):
    """The HTTP method of an array of objects."""

    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """The last accepted change of an object: its rank and its own time, and true if it was the deletion."""

    rank: int
    occurred_at_ms: int | None
    gone: bool = False


class Change(msgspec.Struct, gc=False):
    """The newest known change of one object.

    `key` names the object among all objects; `identity` and `fields` are members of a JSON object (`fields` None: it is
    to be deleted). `occurred_at_ms` orders the changes of one object if both have it, otherwise `rank` does.

    Mutable, below the blank line: `verb` is tried next; `refused` is the refusal of the other verb; `trials` counts the
    waits for an object that it names, which may last until `wait_until_ms`; `waits` is true if it is to wait now.
    """

    table: Table
    key: str
    identity: bytes
    fields: bytes | None
    occurred_at_ms: int | None
    rank: int
    at_ms: int

    verb: Verb = Verb.POST
    refused: Rejected | None = None
    trials: int = 0
    wait_until_ms: int | None = None
    waits: bool = False

    @property
    def parents(self) -> tuple[str, ...]:
        """The keys of a level's item and warehouse. Not stored, for a million levels may wait."""
        if self.table is not Table.INVENTORY:
            return ()
        _, warehouse, sku = self.key.split("/", 2)
        return f"{Table.ITEMS.value}/{sku}", f"{Table.WAREHOUSES.value}/{warehouse}"

    def is_newer(self, rank: int, occurred_at_ms: int | None) -> bool:
        """True if this change is newer than one of the same object with this rank and time."""
        if self.occurred_at_ms is not None and occurred_at_ms is not None and self.occurred_at_ms != occurred_at_ms:
            return self.occurred_at_ms > occurred_at_ms
        return self.rank > rank

    def body(self) -> bytes:
        """Returns the object in the form that `verb` wants."""
        match self.verb:
            case Verb.DELETE:
                return b"{%b}" % self.identity
            case Verb.POST:
                assert self.fields is not None, "nothing to create"
                return b"{%b}" % (self.identity if not self.fields else self.identity + b"," + self.fields)
            case Verb.PUT:
                assert self.fields is not None, "nothing to update"
                return b'{%b,"updates":{%b}}' % (self.identity, self.fields)


_TIMES: Final = {Table.ITEMS: "expires", Table.INVENTORY: "occurred_at"}


def check_times(table: Table, value: Mapping[str, Any], now_ms: int) -> None:
    """Raises `BadRecord` for a time that is not plausible: in another unit, a level would be the newest for ever."""
    name = _TIMES.get(table, "")
    at_ms = value[name] if name else None
    why = None if at_ms is None else implausible(at_ms, now_ms)
    if why is not None:
        raise BadRecord(Stage.TRANSFORM, Reason.TIME_IMPLAUSIBLE, f"{name}: {why}")


def read_change(table: Table, key: bytes | None, value: Mapping[str, Any] | None, *, rank: int, at_ms: int) -> Change:
    """`value` is decoded with the table's schema, None to delete; `at_ms` is when the change was written."""
    names = _names(table, key)
    identity: Mapping[str, str]
    fields: Mapping[str, Any] | None = None
    occurred_at_ms: int | None = None
    match table:
        case Table.ITEMS:
            identity = {"sku": names[0]}
            if value is not None:
                _agree(names, (value["sku"],))
                expires_s = None if value["expires"] is None else value["expires"] // 1000
                fields = {"name": value["name"], "expires": expires_s, "price": value["price"]}
        case Table.WAREHOUSES:
            identity = {"warehouseID": names[0]}
            if value is not None:
                _agree(names, (value["warehouse_id"],))
                fields = {"name": value["name"]}
        case Table.INVENTORY:
            identity = {"sku": names[1], "warehouseID": names[0]}
            if value is not None:
                _agree(names, (value["warehouse_id"], value["sku"]))
                if abs(value["quantity"]) > WHOLE_MAX:
                    what = "a quantity beyond 2^53 would arrive as another one"
                    raise BadRecord(Stage.TRANSFORM, Reason.QUANTITY_EXCEEDED, what)
                occurred_at_ms = value["occurred_at"]
                fields = {"quantity": value["quantity"]}
        case _:
            assert_never(table)
    object_key, verb = _key(table, names), Verb.DELETE if fields is None else Verb.POST
    members = None if fields is None else _members(fields)
    return Change(table, object_key, _members(identity), members, occurred_at_ms, rank, at_ms, verb)


def key_of(table: Table, key: bytes | None) -> str | None:
    """Returns the key of the object that a record's key names; None if it names no object."""
    try:
        return _key(table, _names(table, key))
    except BadRecord:
        return None


def array(changes: list[bytes]) -> bytes:
    """Returns the body of one request."""
    assert changes, "a request about nothing"
    return b"[" + b",".join(changes) + b"]"


def _key(table: Table, names: tuple[str, ...]) -> str:
    return f"{table.value}/{'/'.join(names)}"


def _names(table: Table, key: bytes | None) -> tuple[str, ...]:
    """Returns the names in a record's key: the SKU, the warehouse, or the warehouse and the SKU."""
    if not key:
        raise _mismatch("no key: it names no object")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise _mismatch("the key is not UTF-8") from None
    if table is not Table.INVENTORY:
        return (text,)
    warehouse, slash, sku = text.partition("/")
    if not (warehouse and slash and sku):
        raise _mismatch("the key is not a warehouse_id/sku")
    return warehouse, sku


def _agree(names: tuple[str, ...], said: tuple[str, ...]) -> None:
    if names != said:
        raise _mismatch("the key names another object than the value")


def _mismatch(message: str) -> BadRecord:
    return BadRecord(Stage.TRANSFORM, Reason.KEY_MISMATCH, message)


def _members(fields: Mapping[str, Any]) -> bytes:
    """Returns the members of a JSON object, without its braces and without nulls."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})[1:-1]

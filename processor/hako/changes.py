"""Changes: one object of Hako's as it shall be, made from what a shop writes about it.

    catalog.items       key sku               {"sku", "name", "expires", "price"}        PUT: "updates" of the same
    catalog.warehouses  key warehouse_id      {"warehouseID", "name"}
    inventory.levels    key warehouse_id/sku  {"sku", "warehouseID", "quantity"}         no value: DELETE

Pure. `read_change` raises `BadRecord` for what can never be sent: a key that names no object, or another object than
the value does; a quantity that readers of JSON would round. `check_times` raises it for a time that is not plausible.
Nulls are left out, because an update leaves what it does not name as it is. `expires` is in seconds. Price and quantity
go as they are, negative ones too: a level below zero is a shop that has sold what it does not have, and Hako decides
about it.
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
"""The largest whole number that every reader of JSON takes for itself; beyond it a level would arrive as another."""


class Table(StrEnum):
    """Hako's kinds of object; the values are its paths."""

    ITEMS = "items"
    WAREHOUSES = "warehouses"
    INVENTORY = "inventory"


class Verb(StrEnum):
    """How an array of objects is told."""

    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """What was accepted last of an object: its place in the order of changes, its own time, and whether that was its
    deletion."""

    rank: int
    occurred_at_ms: int | None
    gone: bool = False


class Change(msgspec.Struct, gc=False):
    """The newest that is known of one object.

    `key` names it among all objects; `identity` and `fields` are members of a JSON object (no `fields`: it is to be
    deleted). `rank` orders the changes of one object,
    `occurred_at_ms` before it where both have one.

    Mutable, below the line: the verb to be tried next; what the other verb was answered; how often it waited for an
    object that it names, until when it may (epoch ms), and whether it is to wait again now.
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
        """The keys of the objects that it names: an item and a warehouse. Not kept, for a million levels may wait."""
        if self.table is not Table.INVENTORY:
            return ()
        _, warehouse, sku = self.key.split("/", 2)
        return f"{Table.ITEMS.value}/{sku}", f"{Table.WAREHOUSES.value}/{warehouse}"

    def is_newer(self, rank: int, occurred_at_ms: int | None) -> bool:
        """Than the change of the same object with this rank and time."""
        if self.occurred_at_ms is not None and occurred_at_ms is not None and self.occurred_at_ms != occurred_at_ms:
            return self.occurred_at_ms > occurred_at_ms
        return self.rank > rank

    def body(self) -> bytes:
        """The object as `verb` wants it."""
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
    """Raises `BadRecord` for a time that a shop cannot have meant: written in another unit, a level would be the newest
    for ever."""
    name = _TIMES.get(table, "")
    at_ms = value[name] if name else None
    why = None if at_ms is None else implausible(at_ms, now_ms)
    if why is not None:
        raise BadRecord(Stage.TRANSFORM, Reason.TIME_IMPLAUSIBLE, f"{name}: {why}")


def read_change(table: Table, key: bytes | None, value: Mapping[str, Any] | None, *, rank: int, at_ms: int) -> Change:
    """`value` as decoded with the table's schema, None to delete; `at_ms` is when the change was written."""
    names = _names(table, key)
    fields: bytes | None = None
    occurred_at_ms: int | None = None
    if value is not None:
        match table:
            case Table.ITEMS:
                _agree(names, (value["sku"],))
                expires = value["expires"]
                fields = _members(
                    {
                        "name": value["name"],
                        "expires": None if expires is None else expires // 1000,
                        "price": value["price"],
                    }
                )
            case Table.WAREHOUSES:
                _agree(names, (value["warehouse_id"],))
                fields = _members({"name": value["name"]})
            case Table.INVENTORY:
                _agree(names, (value["warehouse_id"], value["sku"]))
                quantity = value["quantity"]
                if abs(quantity) > WHOLE_MAX:
                    raise BadRecord(
                        Stage.TRANSFORM, Reason.QUANTITY_EXCEEDED, "a quantity beyond 2^53 would arrive as another one"
                    )
                occurred_at_ms = value["occurred_at"]
                fields = _members({"quantity": quantity})
    match table:
        case Table.ITEMS:
            identity = {"sku": names[0]}
        case Table.WAREHOUSES:
            identity = {"warehouseID": names[0]}
        case Table.INVENTORY:
            identity = {"sku": names[1], "warehouseID": names[0]}
        case _:
            assert_never(table)
    verb = Verb.DELETE if fields is None else Verb.POST
    return Change(table, _key(table, names), _members(identity), fields, occurred_at_ms, rank, at_ms, verb)


def key_of(table: Table, key: bytes | None) -> str | None:
    """The object that a record's key names among all objects; None where it names none."""
    try:
        return _key(table, _names(table, key))
    except BadRecord:
        return None


def array(changes: list[bytes]) -> bytes:
    """The body of one request."""
    assert changes, "a request about nothing"
    return b"[" + b",".join(changes) + b"]"


def _key(table: Table, names: tuple[str, ...]) -> str:
    return f"{table.value}/{'/'.join(names)}"


def _names(table: Table, key: bytes | None) -> tuple[str, ...]:
    """What a record's key says: the SKU, the warehouse, or the warehouse and the SKU."""
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
    """The members of a JSON object, without its braces and without nulls."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})[1:-1]

"""The gathering between a log of changes and a Hako that takes arrays whole, on virtual time.

    side = Side()
    side.say("items/a", {"name": "A"})      a change is written to the log and read; then_s=1.0: and a step is made
    side.replay(offset)                     a copy of a dead letter is, as old as the change that it is a copy of
    side.step(), side.settle()              requests go and are answered, until nothing is left
    side.catch_up()                         with `caught_up=False`: nothing goes before, as after an assignment
    side.restart()                          everything in memory is gone; what is unfinished is read again
    side.tables                             what Hako has; a quantity of 666 it refuses until it is `mended`

Hako here knows no cascade: deleting an item leaves its levels, for a level whose item comes and goes is another matter
(README).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from processor.api.verdicts import (
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    NoAnswer,
    Otherwise,
    Rejected,
    RetryLater,
    Verdict,
)
from processor.hako.changes import Change, Table, Verb, read_change
from processor.hako.destination import Hako
from processor.hako.gathering import Gathering
from processor.hako.sent import SentObjects, SentPast, sent_write
from processor.records import OrderId, Record
from processor.send.event_loop.lanes import Parcel
from processor.send.kafka_thread.beginnings import Log
from processor.send.pending import Ended, Pending
from tests.fakes.stores import DictStore

EPOCH = 1
PARK_FOR_MS = 120_000
KEY_OF = {"items": ("sku",), "warehouses": ("warehouseID",), "inventory": ("warehouseID", "sku")}
Fate = Callable[[str, str, list[dict[str, Any]]], Answer | NoAnswer | None]
"""What befalls a request, by method, path and body, before Hako sees it; None: nothing."""


def value_of(table: Table, name: str, said: dict[str, Any]) -> dict[str, Any]:
    """The decoded value of a record."""
    match table:
        case Table.ITEMS:
            return {"sku": name, "name": None, "expires": None, "price": None} | said
        case Table.WAREHOUSES:
            return {"warehouse_id": name, "name": None} | said
        case Table.INVENTORY:
            warehouse, _, sku = name.partition("/")
            return {"warehouse_id": warehouse, "sku": sku} | said


class Side:
    """See the module. Mutable: all of it."""

    def __init__(self, entries_max: int = 4, caught_up: bool = True) -> None:
        self.caught_up = caught_up
        self.hako = Hako("test", entries_max, 100_000, 0.5, PARK_FOR_MS, lambda change: self.memory.grounded(change))
        self.fate: Fate = lambda _method, _path, _body: None
        self.lost = False
        self.mended = False
        self.tables: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {table: {} for table in KEY_OF}
        self.log: list[tuple[str, dict[str, Any] | None]] = []
        self.copies: dict[int, int] = {}
        self.unfinished: dict[int, Pending[Change]] = {}
        self.dead: dict[int, Rejected] = {}
        self.stale: list[int] = []
        self.topic: dict[bytes, bytes | None] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.in_flight: list[Parcel[Change]] = []
        self.now_s = 1000.0
        self._build()

    def catch_up(self) -> None:
        """All that stood in the log has been read."""
        self.gathering.caught_up({EPOCH})

    def _build(self) -> None:
        self.memory = SentObjects(DictStore({}))
        self.memory.open(EPOCH)
        past = SentPast("hako.sent", {})
        for key, value in self.topic.items():
            read = past.read(Record("hako.sent", 0, 0, 0, key, value, []), Log("c/t", 0, len(self.log)))
            assert read is not None
            self.memory.read(EPOCH, OrderId(read[0]), read[1])
        self.gathering = Gathering(self.memory, self.hako.parcel_entries_max, 100_000, self.hako.linger_s)
        self.gathering.open(EPOCH)
        if self.caught_up:
            self.catch_up()
        self.in_flight = []

    @property
    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def say(self, key: str, said: dict[str, Any] | None, then_s: float = 0.0) -> int:
        self.log.append((key, said))
        offset = len(self.log) - 1
        self.read(offset)
        if then_s:
            self.step(then_s)
        return offset

    def replay(self, offset: int) -> int:
        assert offset in self.dead, "no dead letter"
        self.copies[len(self.log)] = self.copies.get(offset, offset)
        return self.say(*self.log[offset])

    def read(self, offset: int) -> None:
        """A record of the log is read, maybe again."""
        key, said = self.log[offset]
        path, _, name = key.partition("/")
        table = Table(path)
        value = None if said is None else value_of(table, name, said)
        change = read_change(table, name.encode(), value, rank=self.copies.get(offset, offset), at_ms=self.now_ms)
        assert change.key == key
        record = Record(path, 0, offset, self.now_ms, name.encode(), b"", [])
        replay_id = "r1" if offset in self.copies else None
        pending = Pending(key, str(offset), change, record, EPOCH, 100, self.now_ms, self.now_ms, replay_id)
        assert offset not in self.unfinished
        self.unfinished[offset] = pending
        replaced = self.gathering.push(pending, self.now_s)
        if replaced is not None:
            if replaced is pending:
                self.stale.append(offset)
            self._finished(replaced)

    def _finished(self, pending: Pending[Change]) -> None:
        del self.unfinished[pending.record.offset]

    def restart(self) -> None:
        """As after kill -9: what was in flight may have been done."""
        first = min(self.unfinished, default=len(self.log))
        for parcel in self.in_flight:
            if self.lost:
                self._answer(*self._request(parcel))
        self._build()
        self.unfinished = {}
        for offset in range(first, len(self.log)):
            if offset not in self.dead:
                self.read(offset)

    def send(self) -> bool:
        parcel = self.gathering.take(self.now_s)
        if parcel is None:
            return False
        self.in_flight.append(parcel)
        keys = [pending.order_id for other in self.in_flight for pending in other.entries]
        assert len(keys) == len(set(keys)), "an object is in flight twice"
        return True

    def answer(self, which: int = 0) -> None:
        parcel = self.in_flight.pop(which)
        method, path, body = self._request(parcel)
        self.requests.append((method, path, len(body)))
        befell = self.fate(method, path, body)
        answered = self._answer(method, path, body) if befell is None or self.lost else None
        answer = befell if befell is not None else answered
        assert answer is not None
        self._judge(parcel, answer)

    def step(self, seconds: float = 1.0) -> None:
        """Some time passes; what can be sent is, and answered."""
        self.now_s += seconds
        while self.send():
            self.answer()

    def settle(self, hours: float = 1.0) -> None:
        """Nothing befalls requests any more; all that can end ends."""
        self.fate = lambda _method, _path, _body: None
        self.catch_up()
        while self.in_flight:
            self.answer()
        until_s = self.now_s + hours * 3600
        while self.unfinished and self.now_s < until_s:
            next_s = self.gathering.next_s()
            assert next_s is not None, f"unfinished and nothing to do: {list(self.unfinished.values())[:3]}"
            self.step(max(next_s - self.now_s, 0.001))

    def _request(self, parcel: Parcel[Change]) -> tuple[str, str, list[dict[str, Any]]]:
        method, path, body, _ = self.hako.request([pending.entry for pending in parcel.entries])
        return method, path.removeprefix("/"), json.loads(body)

    def _judge(self, parcel: Parcel[Change], answer: Answer | NoAnswer) -> None:
        """What the sender does with a verdict."""
        verdict: Verdict | Otherwise = self.hako.verdict(answer, self.now_ms)
        if isinstance(verdict, Rejected):
            entries = [pending.entry for pending in parcel.entries]
            verdict = self.hako.reconsidered(entries, verdict, self.now_ms)
        match verdict:
            case Delivered():
                for pending in parcel.entries:
                    write = sent_write(Ended(pending, verdict, self.now_ms), verdict, "hako.sent")
                    assert write.key is not None
                    self.topic[write.key] = write.value
                    self._finished(pending)
                self.gathering.finish(parcel, self.now_s, delivered=True)
            case Rejected() if len(parcel.entries) > 1:
                self._superseded(self.gathering.split(parcel, self.now_s))
            case Rejected():
                (pending,) = parcel.entries
                self.dead[pending.record.offset] = verdict
                self._finished(pending)
                self.gathering.finish(parcel, self.now_s, delivered=False)
            case Otherwise():
                self._superseded(self.gathering.retry(parcel, self.now_s))
            case RetryLater() | KeyRefused() | Denied() | Doubted():
                self._superseded(self.gathering.retry(parcel, self.now_s + 1.0))

    def _superseded(self, replaced: list[Pending[Change]]) -> None:
        for pending in replaced:
            self._finished(pending)

    def _answer(self, method: str, path: str, body: list[dict[str, Any]]) -> Answer:
        """All of an array or none of it."""
        rows = self.tables[path]
        keys = [tuple(one[name] for name in KEY_OF[path]) for one in body]
        assert len(keys) == len(set(keys)), "an object twice in an array"
        for key, one in zip(keys, body, strict=True):
            if not self.mended and one.get("quantity", one.get("updates", {}).get("quantity")) == 666:
                return Answer(400, {}, b'{"message":"no such quantity"}')
            if (key in rows) is (method == Verb.POST):
                return Answer(400 if method == Verb.POST else 404, {}, b"{}")
            if path == "inventory" and method != Verb.DELETE:
                known = (one["sku"],) in self.tables["items"] and (one["warehouseID"],) in self.tables["warehouses"]
                if not known:
                    return Answer(404, {}, b"{}")
        for key, one in zip(keys, body, strict=True):
            match method:
                case Verb.POST:
                    rows[key] = {name: value for name, value in one.items() if name not in KEY_OF[path]}
                case Verb.PUT:
                    rows[key] |= one["updates"]
                case Verb.DELETE:
                    del rows[key]
        return Answer(200, {}, b"[]")

    def last(self) -> dict[str, tuple[int, dict[str, Any] | None]]:
        """The newest change of each key, by its own time where both have one, with its offset, or its last copy's."""
        newest: dict[str, tuple[int, dict[str, Any] | None]] = {}
        for offset, (key, said) in enumerate(self.log):
            before = newest.get(key)
            if before is not None and not self._is_newer(offset, before[0]):
                continue
            newest[key] = offset, said
        return newest

    def _is_newer(self, offset: int, than: int) -> bool:
        """Or as new: a copy of it."""
        (_, said), (_, before) = self.log[offset], self.log[than]
        if said is not None and before is not None:
            then, now = before.get("occurred_at"), said.get("occurred_at")
            if then is not None and now is not None and now != then:
                return bool(now > then)
        return self.copies.get(offset, offset) >= self.copies.get(than, than)

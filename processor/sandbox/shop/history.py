"""The history of one order as its shop reports it: placed, shipped in parts, refunded, cancelled. A step is a record.

`orders.py` fills a `History` with what goes right, `mistakes.py` with what goes wrong. The history keeps its own count
of units: the order has room for each step, and the outcome of each record is known beforehand. The timestamps of an
order's records only grow.

The expected outcomes hold for the processor's default settings (Events API, all orders).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from processor.records import IgnoredReason, Outcome, Reason
from processor.topics import Topic

Event = dict[str, Any]
"""The fields of an order event, as in the schemas; times are epoch milliseconds."""

GAP_MS_MIN: Final = 250
"""Between two records of an order. With a shorter gap, chance would decide which topic a consumer sees first."""
HAPPENED_BEFORE_MS: Final = 20
"""From the time of an event to the timestamp of its record."""


def event_id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


class Truncated(NamedTuple):
    """An event whose record lacks its last bytes."""

    event: Event


Value = Mapping[str, Any] | Truncated | bytes | None
"""An event, one whose record is damaged, bytes that are written unchanged, or an erasure."""


class Expected(NamedTuple):
    """The outcome that a record must have. `reason` is set if it is not transformed. `answer` is the reason of the
    dead letter that its entry becomes; None if the entry is delivered."""

    outcome: Outcome
    reason: IgnoredReason | Reason | None = None
    answer: Reason | None = None

    def __str__(self) -> str:
        """Returns a text such as `dead_lettered: key_mismatch`, or `transformed, then held`."""
        text = self.outcome.value if self.reason is None else f"{self.outcome.value}: {self.reason.value}"
        return text if self.answer is None else f"{text}, then {self.answer.value}"


TRANSFORMED: Final = Expected(Outcome.TRANSFORMED)


class Step(NamedTuple):
    """One record: `topic` without prefix, `timestamp_ms` since the epoch."""

    topic: Topic
    key: bytes
    value: Value
    timestamp_ms: int
    expected: Expected


@dataclass(slots=True)
class Line:
    """One line of the order. Mutable: the units moved so far, with those that the processor adds for a protection."""

    ordered: int
    protects: str | None
    fulfilled: int = 0
    refunded: int = 0
    cancelled: int = 0

    @property
    def fulfillable(self) -> int:
        return self.ordered - self.fulfilled - self.cancelled

    @property
    def left(self) -> int:
        return self.ordered - self.refunded - self.cancelled

    @property
    def cancellable(self) -> int:
        return self.ordered - max(self.fulfilled, self.refunded) - self.cancelled


@dataclass(slots=True)
class History:
    """Mutable: `steps` grow, `now_ms` goes on, `lines` move. `_refusal` is the reason if Hakuna will refuse the order;
    the entries behind the refused one are held."""

    order_id: str
    placed_event: Event
    _refusal: Reason | None
    now_ms: int
    _step_ms: int
    _chance: random.Random
    lines: dict[str, Line] = field(init=False)
    steps: list[Step] = field(default_factory=list)
    cancelled_at_ms: int | None = None
    _refused: bool = False

    def __post_init__(self) -> None:
        self.lines = {
            item["id"]: Line(item["quantity"], item["protection"] and item["protection"]["protects_line_item_id"])
            for item in self.placed_event["line_items"]
        }

    def place(self) -> None:
        self.placed_event["placed_at"] = self.now_ms - HAPPENED_BEFORE_MS
        self.add(Topic.PLACED, self.placed_event, self._transformed())

    def fulfil(self, units: Mapping[str, int], *, at_ms: int | None = None) -> None:
        event = self._event(units, "fulfilled_at", at_ms)
        self._fulfilled(units)
        self.add(Topic.FULFILLED, event, self._transformed())

    def refund(self, units: Mapping[str, int], *, at_ms: int | None = None) -> None:
        event = self._event(units, "refunded_at", at_ms)
        for name, quantity in units.items():
            self.lines[name].refunded += quantity
            for line in self._over(name):
                line.refunded += line.left - self.lines[name].left
        self.add(Topic.REFUNDED, event, self._transformed())

    def cancel_items(self, units: Mapping[str, int]) -> None:
        event = self._event(units, "cancelled_at")
        for name, quantity in units.items():
            self.lines[name].cancelled += quantity
            for line in self._over(name):
                line.cancelled += line.left - self.lines[name].left
        self.add(Topic.LINE_ITEMS_CANCELLED, event, self._transformed())

    def cancel(self) -> None:
        """Hakuna declines it for an order that is wholly fulfilled; that answer holds no later entry back."""
        declined = self.fulfilled and not self._refused
        event = self.cancelled_event()
        self.cancelled_at_ms = event["cancelled_at"]
        expected = TRANSFORMED._replace(answer=Reason.CANCEL_DECLINE) if declined else self._transformed()
        self.add(Topic.CANCELLED, event, expected)

    def erase(self) -> None:
        topic = self._chance.choice((Topic.PLACED, Topic.CANCELLED))
        self.add(topic, None, Expected(Outcome.IGNORED, IgnoredReason.ERASED))

    def park_fulfilment(self, name: str) -> None:
        """Fulfils one unit before the order is placed. The event is applied right after `OrderPlaced`."""
        event = self._event({name: 1}, "fulfilled_at")
        self._fulfilled({name: 1})
        answer = None if self._refusal is None else Reason.HELD
        self.add(Topic.FULFILLED, event, TRANSFORMED._replace(answer=answer), gap_ms=1)

    @property
    def fulfilled(self) -> bool:
        """True if something was shipped and no product is left to ship."""
        products = [line for line in self.lines.values() if line.protects is None]
        return any(line.fulfilled for line in products) and all(line.fulfillable == 0 for line in products)

    def products(self) -> list[str]:
        return [name for name, line in self.lines.items() if line.protects is None]

    def anything(self) -> str:
        return self._chance.choice(self.products())

    def protect(self, name: str) -> None:
        """Adds a protection of a product to the order that is about to be placed."""
        item = self.protection_item(f"{name}-protection", name, self.lines[name].ordered)
        self.placed_event["line_items"].append(item)
        self.lines[item["id"]] = Line(item["quantity"], name)

    def enlarge_first_line(self, quantity: int) -> str:
        """Makes the first product's quantity at least `quantity`, before the order is placed. Returns its name."""
        name = self.products()[0]
        item = next(item for item in self.placed_event["line_items"] if item["id"] == name)
        item["quantity"] = self.lines[name].ordered = max(quantity, self.lines[name].ordered)
        return name

    def protection_item(self, name: str, protects: str, quantity: int) -> Event:
        """Returns a line item that protects another one."""
        return {
            "id": name,
            "quantity": quantity,
            "price_amount": 990 * self._chance.randint(2, 12),
            "product_id": f"protection-{self._chance.randint(100, 999)}",
            "product_title": "Hakuna.care protection",
            "product_brand": self._chance.choice(("Hakuna", "hakuna", "HAKUNA")),
            "protection": {
                "protects_line_item_id": protects,
                "offer_id": self._chance.choice((None, f"off-{self._chance.randint(10_000, 99_999)}")),
                "plan_id": self._chance.choice((None, f"pl-{self._chance.randint(10_000, 99_999)}")),
            },
        }

    def movement_event(self, name: str, quantity: int, at: str) -> Event:
        """Returns an event about one line item and counts nothing, so it may be wrong."""
        return self._event({name: quantity}, at)

    def cancelled_event(self) -> Event:
        return {
            "event_id": self.event_id(),
            "order_id": self.order_id,
            "cancelled_at": self.now_ms - HAPPENED_BEFORE_MS,
        }

    def event_id(self) -> str:
        return event_id(self._chance)

    def add(
        self, topic: Topic, value: Value, expected: Expected, *, key: bytes | None = None, gap_ms: int | None = None
    ) -> None:
        """Adds a record, now. Time goes on by `gap_ms`, or by a random gap."""
        self.steps.append(Step(topic, key or self.order_id.encode(), value, self.now_ms, expected))
        self.pause(gap_ms)

    def pause(self, gap_ms: int | None = None) -> None:
        self.now_ms += gap_ms or GAP_MS_MIN + int(self._chance.expovariate(1 / self._step_ms))

    def _transformed(self) -> Expected:
        """The first entry of a refused order is refused; all later ones are held."""
        if self._refusal is None:
            return TRANSFORMED
        answer = Reason.HELD if self._refused else self._refusal
        self._refused = True
        return TRANSFORMED._replace(answer=answer)

    def _event(self, units: Mapping[str, int], at: str, at_ms: int | None = None) -> Event:
        when = self.now_ms - HAPPENED_BEFORE_MS if at_ms is None else at_ms
        return {
            "event_id": self.event_id(),
            "order_id": self.order_id,
            "items": [{"line_item_id": name, "quantity": quantity, at: when} for name, quantity in units.items()],
        }

    def _fulfilled(self, units: Mapping[str, int]) -> None:
        """Counts units. A protection is fulfilled with its product, whether or not the shop names it."""
        for name, quantity in units.items():
            if self.lines[name].protects is None:
                self.lines[name].fulfilled += quantity
        for line in self.lines.values():
            if line.protects is not None:
                line.fulfilled = min(line.ordered - line.cancelled, self.lines[line.protects].fulfilled)

    def _over(self, name: str) -> list[Line]:
        """Returns the protections of a product that keep more units than it has left."""
        return [line for line in self.lines.values() if line.protects == name and line.left > self.lines[name].left]

"""MISTAKES: the ways in which the history of an order can go wrong, and the outcome of each.

Each function takes a history at the point where the mistake can be made, and adds its records. The expected outcome is
written here independently of the rules: the code under judgement is not asked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from processor.records import IgnoredReason, Outcome, Reason
from processor.sandbox.shop.history import Expected, History, Truncated
from processor.topics import Topic

SCHEMA_UNKNOWN: Final = b"\x00\x7f\xff\xff\xff"
"""The framing of schema ID 2,147,483,647, which no registry has given out yet."""
PARKED_MAX: Final = 100


class Point(StrEnum):
    """When in a history a mistake is made."""

    INSTEAD = "instead"  # the mistake is the whole history
    BEFORE = "before"  # before the order is placed
    PLACED = "placed"  # some time after that
    CANCELLED = "cancelled"  # after the whole order was cancelled


def dead_letter(reason: Reason) -> Expected:
    return Expected(Outcome.DEAD_LETTERED, reason)


UNDECODABLE: Final = dead_letter(Reason.UNDECODABLE)
CANCELLED: Final = Expected(Outcome.IGNORED, IgnoredReason.ORDER_CANCELLED)


def _moved(
    topic: Topic, at: str, expected: Expected, quantity: int = 1, name: str | None = None
) -> Callable[[History], None]:
    """Returns a mistake that is an event about one line item, `name` or any."""

    def mistake(history: History) -> None:
        history.add(topic, history.movement_event(name or history.anything(), quantity, at), expected)

    return mistake


def _truncated(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    history.add(Topic.FULFILLED, Truncated(event), UNDECODABLE)


def _key_mismatch(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    history.add(Topic.FULFILLED, event, dead_letter(Reason.KEY_MISMATCH), key=f"{history.order_id}-astray".encode())


def _line_item_duplicate(history: History) -> None:
    event = copy.deepcopy(history.placed_event)
    event["event_id"] = history.event_id()
    event["line_items"].append(event["line_items"][0])
    history.add(Topic.PLACED, event, dead_letter(Reason.LINE_ITEM_DUPLICATE))


def _protection_dangling(history: History) -> None:
    event = copy.deepcopy(history.placed_event)
    event["event_id"] = history.event_id()
    event["line_items"].append(history.protection_item("line-astray", "line-of-another-order", 1))
    history.add(Topic.PLACED, event, dead_letter(Reason.PROTECTION_DANGLING))


def _one_of_two_unknown(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "cancelled_at")
    event["items"] += history.movement_event("line-of-another-order", 1, "cancelled_at")["items"]
    history.add(Topic.LINE_ITEMS_CANCELLED, event, dead_letter(Reason.LINE_ITEM_UNKNOWN))


def _time_in_seconds(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    for item in event["items"]:
        item["fulfilled_at"] //= 1000
    history.add(Topic.FULFILLED, event, dead_letter(Reason.TIME_IMPLAUSIBLE))


def _event_id_empty(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "cancelled_at") | {"event_id": ""}
    history.add(Topic.LINE_ITEMS_CANCELLED, event, UNDECODABLE)


def _order_exists(history: History) -> None:
    event = dict(history.placed_event) | {"event_id": history.event_id()}
    history.add(Topic.PLACED, event, dead_letter(Reason.ORDER_EXISTS))


def parked_too_many(history: History) -> None:
    """All but the last fulfilment are applied once the order is placed, so its first line has as many units."""
    name = history.enlarge_first_line(PARKED_MAX)
    for _ in range(PARKED_MAX):
        history.park_fulfilment(name)
    history.add(
        Topic.FULFILLED, history.movement_event(name, 1, "fulfilled_at"), dead_letter(Reason.PARKED_TOO_MANY), gap_ms=1
    )


Mistake = Callable[[History], None]
MISTAKES: Final[Mapping[Mistake, Point]] = {
    lambda history: history.add(Topic.FULFILLED, b'{"this": "is JSON"}', UNDECODABLE): Point.PLACED,
    _truncated: Point.PLACED,
    lambda history: history.add(Topic.REFUNDED, SCHEMA_UNKNOWN + b"\x02a\x02b\x00", UNDECODABLE): Point.PLACED,
    _key_mismatch: Point.PLACED,
    _line_item_duplicate: Point.BEFORE,
    _protection_dangling: Point.BEFORE,
    _moved(
        Topic.REFUNDED, "refunded_at", dead_letter(Reason.LINE_ITEM_UNKNOWN), name="line-of-another-order"
    ): Point.PLACED,
    _one_of_two_unknown: Point.PLACED,
    _moved(Topic.FULFILLED, "fulfilled_at", dead_letter(Reason.QUANTITY_EXCEEDED), 1_000): Point.PLACED,
    _moved(Topic.REFUNDED, "refunded_at", dead_letter(Reason.QUANTITY_EXCEEDED), -1): Point.PLACED,
    _moved(Topic.REFUNDED, "refunded_at", Expected(Outcome.IGNORED, IgnoredReason.NOTHING_MOVED), 0): Point.PLACED,
    _time_in_seconds: Point.PLACED,
    _event_id_empty: Point.PLACED,
    _order_exists: Point.PLACED,
    lambda history: history.add(
        Topic.PLACED, history.placed_event, Expected(Outcome.DUPLICATE, IgnoredReason.DUPLICATE)
    ): Point.PLACED,
    _moved(Topic.FULFILLED, "fulfilled_at", dead_letter(Reason.ORDER_CANCELLED)): Point.CANCELLED,
    _moved(Topic.REFUNDED, "refunded_at", CANCELLED): Point.CANCELLED,
    lambda history: history.add(Topic.CANCELLED, history.cancelled_event(), CANCELLED): Point.CANCELLED,
    _moved(Topic.FULFILLED, "fulfilled_at", dead_letter(Reason.ORDER_UNKNOWN), name="line-1"): Point.INSTEAD,
    parked_too_many: Point.BEFORE,
}

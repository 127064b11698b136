"""MISTAKES: the ways in which the history of an order can go wrong, and what must become of each.

Each takes a history at a point where the mistake can be made and adds the records of it. What is expected is
said here once more, in words of its own, and not asked of the code that is to be judged by it.
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
"""The framing of a schema ID (2,147,483,647) that no registry has given out yet."""
PARKED_MAX: Final = 100


class Point(StrEnum):
    """Where in a history a mistake is made."""

    INSTEAD = "instead"  # there is no other history
    BEFORE = "before"  # before the order is placed
    PLACED = "placed"  # some time after that
    CANCELLED = "cancelled"  # after the whole order was cancelled


class Mistake(StrEnum):
    """One name a kind; several of them may end for the same reason."""

    NOT_AVRO = "not_avro"
    TRUNCATED = "truncated"
    SCHEMA_UNKNOWN = "schema_unknown"
    KEY_MISMATCH = "key_mismatch"
    LINE_ITEM_DUPLICATE = "line_item_duplicate"
    PROTECTION_DANGLING = "protection_dangling"
    LINE_ITEM_UNKNOWN = "line_item_unknown"
    ONE_OF_TWO_UNKNOWN = "one_of_two_unknown"
    QUANTITY_EXCEEDED = "quantity_exceeded"
    QUANTITY_NOT_POSITIVE = "quantity_not_positive"
    NOTHING_MOVED = "nothing_moved"
    TIME_IN_SECONDS = "time_in_seconds"
    EVENT_ID_EMPTY = "event_id_empty"
    ORDER_EXISTS = "order_exists"
    EVENT_REPEATED = "event_repeated"
    FULFILLED_AFTER_CANCELLATION = "fulfilled_after_cancellation"
    REFUNDED_AFTER_CANCELLATION = "refunded_after_cancellation"
    CANCELLED_TWICE = "cancelled_twice"
    NEVER_PLACED = "never_placed"
    PARKED_TOO_MANY = "parked_too_many"


def dead_letter(reason: Reason) -> Expected:
    return Expected(Outcome.DEAD_LETTERED, reason)


def _not_avro(history: History) -> None:
    history.add(Topic.FULFILLED, b'{"this": "is JSON"}', dead_letter(Reason.UNDECODABLE))


def _truncated(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    history.add(Topic.FULFILLED, Truncated(event), dead_letter(Reason.UNDECODABLE))


def _schema_unknown(history: History) -> None:
    history.add(Topic.REFUNDED, SCHEMA_UNKNOWN + b"\x02a\x02b\x00", dead_letter(Reason.UNDECODABLE))


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


def _line_item_unknown(history: History) -> None:
    event = history.movement_event("line-of-another-order", 1, "refunded_at")
    history.add(Topic.REFUNDED, event, dead_letter(Reason.LINE_ITEM_UNKNOWN))


def _one_of_two_unknown(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "cancelled_at")
    event["items"] += history.movement_event("line-of-another-order", 1, "cancelled_at")["items"]
    history.add(Topic.LINE_ITEMS_CANCELLED, event, dead_letter(Reason.LINE_ITEM_UNKNOWN))


def _quantity_exceeded(history: History) -> None:
    event = history.movement_event(history.anything(), 1_000, "fulfilled_at")
    history.add(Topic.FULFILLED, event, dead_letter(Reason.QUANTITY_EXCEEDED))


def _quantity_not_positive(history: History) -> None:
    event = history.movement_event(history.anything(), -1, "refunded_at")
    history.add(Topic.REFUNDED, event, dead_letter(Reason.QUANTITY_EXCEEDED))


def _nothing_moved(history: History) -> None:
    event = history.movement_event(history.anything(), 0, "refunded_at")
    history.add(Topic.REFUNDED, event, Expected(Outcome.IGNORED, IgnoredReason.NOTHING_MOVED))


def _time_in_seconds(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    for item in event["items"]:
        item["fulfilled_at"] //= 1000
    history.add(Topic.FULFILLED, event, dead_letter(Reason.TIME_IMPLAUSIBLE))


def _event_id_empty(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "cancelled_at") | {"event_id": ""}
    history.add(Topic.LINE_ITEMS_CANCELLED, event, dead_letter(Reason.UNDECODABLE))


def _order_exists(history: History) -> None:
    event = dict(history.placed_event) | {"event_id": history.event_id()}
    history.add(Topic.PLACED, event, dead_letter(Reason.ORDER_EXISTS))


def _event_repeated(history: History) -> None:
    history.add(Topic.PLACED, history.placed_event, Expected(Outcome.DUPLICATE, IgnoredReason.DUPLICATE))


def _fulfilled_after_cancellation(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "fulfilled_at")
    history.add(Topic.FULFILLED, event, dead_letter(Reason.ORDER_CANCELLED))


def _refunded_after_cancellation(history: History) -> None:
    event = history.movement_event(history.anything(), 1, "refunded_at")
    history.add(Topic.REFUNDED, event, Expected(Outcome.IGNORED, IgnoredReason.ORDER_CANCELLED))


def _cancelled_twice(history: History) -> None:
    history.add(Topic.CANCELLED, history.cancelled_event(), Expected(Outcome.IGNORED, IgnoredReason.ORDER_CANCELLED))


def _never_placed(history: History) -> None:
    event = history.movement_event("line-1", 1, "fulfilled_at")
    history.add(Topic.FULFILLED, event, dead_letter(Reason.ORDER_UNKNOWN))


def _parked_too_many(history: History) -> None:
    """All but the last are applied as soon as the order is placed: its first line is as large as that
    takes."""
    name = history.enlarge_first_line(PARKED_MAX)
    for _ in range(PARKED_MAX):
        history.park_fulfilment(name)
    history.add(
        Topic.FULFILLED, history.movement_event(name, 1, "fulfilled_at"), dead_letter(Reason.PARKED_TOO_MANY), gap_ms=1
    )


MISTAKES: Final[Mapping[Mistake, tuple[Point, Callable[[History], None]]]] = {
    Mistake.NOT_AVRO: (Point.PLACED, _not_avro),
    Mistake.TRUNCATED: (Point.PLACED, _truncated),
    Mistake.SCHEMA_UNKNOWN: (Point.PLACED, _schema_unknown),
    Mistake.KEY_MISMATCH: (Point.PLACED, _key_mismatch),
    Mistake.LINE_ITEM_DUPLICATE: (Point.BEFORE, _line_item_duplicate),
    Mistake.PROTECTION_DANGLING: (Point.BEFORE, _protection_dangling),
    Mistake.LINE_ITEM_UNKNOWN: (Point.PLACED, _line_item_unknown),
    Mistake.ONE_OF_TWO_UNKNOWN: (Point.PLACED, _one_of_two_unknown),
    Mistake.QUANTITY_EXCEEDED: (Point.PLACED, _quantity_exceeded),
    Mistake.QUANTITY_NOT_POSITIVE: (Point.PLACED, _quantity_not_positive),
    Mistake.NOTHING_MOVED: (Point.PLACED, _nothing_moved),
    Mistake.TIME_IN_SECONDS: (Point.PLACED, _time_in_seconds),
    Mistake.EVENT_ID_EMPTY: (Point.PLACED, _event_id_empty),
    Mistake.ORDER_EXISTS: (Point.PLACED, _order_exists),
    Mistake.EVENT_REPEATED: (Point.PLACED, _event_repeated),
    Mistake.FULFILLED_AFTER_CANCELLATION: (Point.CANCELLED, _fulfilled_after_cancellation),
    Mistake.REFUNDED_AFTER_CANCELLATION: (Point.CANCELLED, _refunded_after_cancellation),
    Mistake.CANCELLED_TWICE: (Point.CANCELLED, _cancelled_twice),
    Mistake.NEVER_PLACED: (Point.INSTEAD, _never_placed),
    Mistake.PARKED_TOO_MANY: (Point.BEFORE, _parked_too_many),
}

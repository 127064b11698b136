"""A shop: realistic histories of orders, interleaved in time, each record with the outcome that the rules give it.

    for step in shop(Shop(orders=1000, rate=20, bad_share=0.05, seed=7, start_ms=now)):
        …                # a record: topic, key, value, timestamp, expected

Used by the demo, by `simulate` and by the tests. Pure: the same `Shop` gives the same records, byte for byte; another
seed gives other orders with other IDs. Only the orders that are under way are held in memory.

Orders are like those of real shops: 1 to 5 lines, up to 2 of them protected, a dozen countries, partial shipments,
refunds, cancelled lines, cancelled orders, events that come late or too early, erasures. A stand-in can be set to
refuse the first country and product (`REFUSED_*`).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from processor.records import Reason
from processor.sandbox.shop.history import Event, History, Step, event_id
from processor.sandbox.shop.mistakes import MISTAKES, Mistake, Point, parked_too_many

REFUSED_COUNTRY: Final = "li"
REFUSED_PRODUCT: Final = "prd-drone"

_PLACES: Final = (
    ("DE", "EUR", "Musterstadt", 40),
    ("de", "eur", "Köln", 10),
    ("AT", "EUR", "Wien", 10),
    ("CH", "CHF", "Zürich", 8),
    ("FR", "EUR", "Paris", 10),
    ("NL", "EUR", "Amsterdam", 8),
    ("PL", "PLN", "Kraków", 5),
    ("GB", "GBP", "Leeds", 5),
    ("DK", "DKK", "Aarhus", 4),
    ("LI", "CHF", "Vaduz", 2),
)
_PRODUCTS: Final = (
    ("prd-iphone14", "iPhone 14", "Apple", 89_900),
    ("prd-airpods-gen3", "Airpods 3rd Generation", "Apple", 25_500),
    ("prd-washer-9", "Waschmaschine 9 kg", "Söhnle", 54_900),
    ("prd-kettle", "Kettle", "Frutta", 3_999),
    ("prd-banana", "Banana", "Frutta", 10_000),
    ("prd-ebike", "E-bike Tour", "Velo", 219_900),
    ("prd-tv-55", 'TV 55"', "Lumen", 64_900),
    ("prd-lens", "Lens 35 mm", "Opta", 39_900),
)
_DRONE: Final = (REFUSED_PRODUCT, "Drone", "Velo", 79_900)
_DRONE_SHARE: Final = 0.02
_FIRST_NAMES: Final = ("Max", "Ada", "Zoë", "Jürgen", "Łucja", "Émile", "Noor", "Søren", None)
_LAST_NAMES: Final = ("Mustermann", "Lovelace", "O'Neill", "Groß", "Nowak", "Visser", None)
_STREETS: Final = ("Musterstrasse", "Rue de la Paix", "Keizersgracht", "Hauptplatz", None)


class Course(StrEnum):
    """The course of an order after it was placed."""

    FULFILLED = "fulfilled"
    REFUNDED = "refunded"
    ITEMS_CANCELLED = "items_cancelled"
    CANCELLED = "cancelled"
    LATE_NEWS = "late_news"  # shipped before the cancellation, reported after it
    CANCELLED_TOO_LATE = "cancelled_too_late"
    EARLY_NEWS = "early_news"  # its shipment is reported before the order
    FORGOTTEN = "forgotten"


_COURSES: Final = {
    Course.FULFILLED: 45,
    Course.REFUNDED: 20,
    Course.ITEMS_CANCELLED: 13,
    Course.CANCELLED: 9,
    Course.LATE_NEWS: 4,
    Course.CANCELLED_TOO_LATE: 3,
    Course.EARLY_NEWS: 3,
    Course.FORGOTTEN: 3,
}


class Shop(NamedTuple):
    """`orders` are placed at `rate` a second from `start_ms` on (epoch ms). `bad_share` of them, spread evenly, have a
    mistake. `step_s` is the mean time between two steps of an order. `refused_*` must equal those of the stand-in's
    script, so that the refusals are expected."""

    orders: int
    rate: float
    bad_share: float
    seed: int
    start_ms: int
    step_s: float = 1.0
    refused_countries: frozenset[str] = frozenset()
    refused_products: frozenset[str] = frozenset()


def shop(plan: Shop) -> Iterator[Step]:
    """Yields every record in order of timestamps; records with equal ones in order of orders and steps."""
    assert plan.orders >= 0, f"{plan.orders} orders"
    assert plan.rate > 0, "a rate of nothing never ends"
    assert 0 <= plan.bad_share <= 1, "a share from 0 to 1"
    mistakes = _mistakes(plan.seed)
    waiting: list[tuple[int, int, int, Step]] = []
    for number in range(plan.orders):
        start_ms = plan.start_ms + int(number * 1000 / plan.rate)
        while waiting and waiting[0][0] < start_ms:
            yield heapq.heappop(waiting)[3]
        mistake = None
        if int((number + 1) * plan.bad_share) > int(number * plan.bad_share):
            mistake = next(mistakes)
        for at, step in enumerate(_history(plan, number, start_ms, mistake)):
            heapq.heappush(waiting, (step.timestamp_ms, number, at, step))
    while waiting:
        yield heapq.heappop(waiting)[3]


def _mistakes(seed: int) -> Iterator[Mistake]:
    """Yields every kind in turn. `parked_too_many` comes once: it has a hundred records and would drown the others."""
    kinds = list(MISTAKES)
    random.Random(f"{seed}/mistakes").shuffle(kinds)
    yield from kinds
    kinds.remove(parked_too_many)
    yield from itertools.cycle(kinds)


def _history(plan: Shop, number: int, start_ms: int, mistake: Mistake | None) -> list[Step]:
    chance = random.Random(f"{plan.seed}/{number}")
    order_id = f"ord-{plan.seed}-{number:06d}"
    event, refusal = _placed(plan, order_id, start_ms, chance)
    history = History(order_id, event, refusal, start_ms, int(plan.step_s * 1000), chance)
    _protect(history, chance)
    point = None if mistake is None else MISTAKES[mistake]
    course = chance.choices(list(_COURSES), list(_COURSES.values()))[0]
    if mistake is not None and point is Point.INSTEAD:
        mistake(history)
        return history.steps
    if mistake is not None and point is Point.BEFORE:
        course = Course.FULFILLED
        mistake(history)
        history.pause()
    elif point is Point.CANCELLED:
        course = Course.CANCELLED
    elif point is None and course is Course.EARLY_NEWS:
        history.park_fulfilment(history.anything())
        history.pause()
    history.place()
    if mistake is not None and point is Point.PLACED:
        mistake(history)
    _take(course, history, chance)
    if mistake is not None and point is Point.CANCELLED:
        mistake(history)
    return history.steps


def _take(course: Course, history: History, chance: random.Random) -> None:
    match course:
        case Course.FULFILLED | Course.EARLY_NEWS:
            _ship(history, chance)
        case Course.REFUNDED:
            _ship(history, chance)
            name = history.anything()
            history.refund({name: chance.randint(1, history.lines[name].left)})
        case Course.ITEMS_CANCELLED:
            name = history.anything()
            history.cancel_items({name: chance.randint(1, history.lines[name].cancellable)})
            _ship(history, chance)
        case Course.CANCELLED:
            history.cancel()
        case Course.LATE_NEWS:
            shipped_at_ms = history.now_ms
            history.pause()
            history.cancel()
            name = history.anything()
            history.fulfil({name: 1}, at_ms=shipped_at_ms)
            history.refund({name: 1}, at_ms=shipped_at_ms)
        case Course.CANCELLED_TOO_LATE:
            _ship(history, chance)
            history.cancel()
        case Course.FORGOTTEN:
            _ship(history, chance)
            history.erase()
        case _:
            assert_never(course)


def _ship(history: History, chance: random.Random) -> None:
    """Ships all units that are left, in one to three shipments, and names the protection in some of them."""
    while True:
        left = {name: history.lines[name].fulfillable for name in history.products()}
        left = {name: units for name, units in left.items() if units > 0}
        if not left:
            return
        shipment = left if chance.random() < 0.7 else {name: (units + 1) // 2 for name, units in left.items()}
        for name, line in history.lines.items():
            if line.protects in shipment and line.fulfillable > 0 and chance.random() < 0.3:
                shipment = shipment | {name: min(line.fulfillable, shipment[line.protects])}
        history.fulfil(shipment)


def _placed(plan: Shop, order_id: str, at_ms: int, chance: random.Random) -> tuple[Event, Reason | None]:
    """Returns the event of an order without protections, and the reason if Hakuna will refuse it."""
    country, currency, city, _ = chance.choices(_PLACES, [place[-1] for place in _PLACES])[0]
    products = chance.sample(_PRODUCTS, chance.choices((1, 2, 3, 4, 5), (50, 25, 15, 6, 4))[0])
    if chance.random() < _DRONE_SHARE:
        products[0] = _DRONE
    first_name, last_name = chance.choice(_FIRST_NAMES), chance.choice(_LAST_NAMES)
    known = first_name is not None and last_name is not None
    event = {
        "event_id": event_id(chance),
        "order_id": order_id,
        "placed_at": at_ms,
        "currency": currency,
        "customer": {
            "first_name": first_name,
            "last_name": last_name,
            "email": f"customer.{chance.randint(1, 99_999)}@example.com" if known else None,
            "phone": f"+49160{chance.randint(1_000_000, 9_999_999)}" if chance.random() < 0.6 else None,
        },
        "billing_address": {
            "address_line_1": chance.choice(_STREETS),
            "address_line_2": str(chance.randint(1, 200)) if chance.random() < 0.8 else None,
            "city": city if chance.random() < 0.9 else None,
            "zip": f"{chance.randint(1000, 99_999)}" if chance.random() < 0.9 else None,
            "country": country,
        },
        "line_items": [
            {
                "id": f"line-{at}",
                "quantity": chance.choices((1, 2, 3, 5), (70, 18, 8, 4))[0],
                "price_amount": price,
                "product_id": product_id,
                "product_title": title,
                "product_brand": brand,
                "protection": None,
            }
            for at, (product_id, title, brand, price) in enumerate(products, start=1)
        ],
    }
    if country.lower() in plan.refused_countries:
        return event, Reason.LOCATION_UNSUPPORTED
    if any(product_id in plan.refused_products for product_id, *_ in products):
        return event, Reason.PRODUCT_UNSUPPORTED
    return event, None


def _protect(history: History, chance: random.Random) -> None:
    """Adds up to two protections, each of another product of the order."""
    names = history.products()
    for name in chance.sample(names, min(len(names), chance.choices((0, 1, 2), (40, 45, 15))[0])):
        history.protect(name)

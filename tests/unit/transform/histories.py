"""Histories of one order for property tests: any events, sound and unsound, in any sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from hypothesis import strategies as st

from processor.hakuna import Api, Orders
from processor.records import LineItem, OrderEvent
from processor.transform.batch import Decode, Plan
from processor.transform.order_state import OrderState
from processor.transform.rules import apply
from processor.transform.transitions import Effect, Refused, Rules, Taken, Transition
from tests.unit.order_events import (
    AT_MS,
    DAY_MS,
    NOW_MS,
    cancelled,
    fulfilled,
    lines_cancelled,
    placed,
    product,
    protection,
    record,
    refunded,
)

LINE_IDS = ("a", "b", "c", "d")
BYTES_MAX = 1 << 20
"""The largest record that a plan's topics take."""


def rules(api: Api = Api.EVENTS, orders: Orders = Orders.ALL, **others: int) -> Rules:
    """`others` are further fields of `Rules`."""
    return msgspec.structs.replace(Rules(api=api, orders=orders, fulfil_protection=True, park_for_ms=DAY_MS), **others)


def plan(decoders: Mapping[str, Decode], by: Rules, letter_bytes_max: int = BYTES_MAX) -> Plan:
    """Of the group `g`, with the topics `outbox` and `dead`."""
    return Plan("g", "outbox", "dead", by, decoders, BYTES_MAX, BYTES_MAX, letter_bytes_max)


def take(state: OrderState | None, event: OrderEvent, by: Rules | None = None, now_ms: int = NOW_MS) -> Transition:
    return apply(state, Taken(event, record(event)), rules() if by is None else by, now_ms)


def steps(history: Iterable[OrderEvent], by: Rules | None) -> Iterator[Transition]:
    """What each event makes of the state that those before it have left."""
    state: OrderState | None = None
    for event in history:
        transition = take(state, event, by)
        yield transition
        state = transition.state


def after(*events: OrderEvent, by: Rules | None = None) -> OrderState:
    """The state after events of which none is refused."""
    state: OrderState | None = None
    for transition in steps(events, by):
        assert not any(isinstance(effect, Refused) for effect in transition.effects), transition.effects
        state = transition.state
    assert state is not None
    return state


def ids_of(effects: tuple[Effect, ...], kind: type[Effect]) -> list[str]:
    return [effect.taken.event.event_id for effect in effects if isinstance(effect, kind)]


# Strategies are made once, here: making them while an example is drawn takes longer than all the rest.

any_rules = st.builds(
    rules,
    api=st.sampled_from(Api),
    orders=st.sampled_from(Orders),
    fulfil_protection=st.booleans(),
    parked_max=st.integers(1, 5),
)

_time = st.sampled_from([AT_MS, AT_MS, AT_MS + 3_600_000, AT_MS + 7_200_000, AT_MS + 7_200_000, AT_MS // 1000])
_item = st.tuples(st.sampled_from(LINE_IDS), st.sampled_from([1, 1, 1, 2, 3, 0]), _time)
_items = st.lists(_item, max_size=3)
_line = st.tuples(st.sampled_from(LINE_IDS), st.integers(0, 4), st.sampled_from([None, None, *LINE_IDS]))
_sound_line = st.tuples(st.sampled_from(LINE_IDS), st.integers(1, 4), st.integers(-3, 3))


def _lines(drawn: list[tuple[str, int, str | None]]) -> tuple[LineItem, ...]:
    return tuple(
        product(line_id, quantity) if protects is None else protection(line_id, protects, quantity)
        for line_id, quantity, protects in drawn
    )


def _sound_lines(drawn: list[tuple[str, int, int]]) -> tuple[LineItem, ...]:
    """Each protects the one so many places before it, if there is one; others are products."""
    lines: list[LineItem] = []
    for place, (line_id, quantity, back) in enumerate(drawn):
        if 0 < back <= place:
            lines.append(protection(line_id, drawn[place - back][0], quantity))
        else:
            lines.append(product(line_id, quantity))
    return tuple(reversed(lines)) if drawn[0][1] % 2 else tuple(lines)


sound_lines = st.lists(_sound_line, min_size=1, max_size=4, unique_by=lambda line: line[0]).map(_sound_lines)
_any_lines = sound_lines | st.lists(_line, max_size=4).map(_lines)

_event = st.one_of(
    _any_lines.map(lambda lines: placed(*lines)),
    _items.map(lambda items: fulfilled(*items)),
    _items.map(lambda items: refunded(*items)),
    _items.map(lambda items: lines_cancelled(*items)),
    _items.map(lambda items: fulfilled(*items)),
    _time.map(cancelled),
)


def _history(drawn: list[tuple[OrderEvent, int]], lines: tuple[LineItem, ...], at: int) -> list[OrderEvent]:
    history = [changed(event, f"event-{number}") for event, number in drawn]
    if at < 4:
        history.insert(at, placed(*lines, event_id="the-order"))
    return history


any_history = st.builds(
    _history, st.lists(st.tuples(_event, st.integers(0, 12)), max_size=12), sound_lines, st.integers(0, 4)
)
"""Events under few event IDs, most often with a sound order among the first of them."""


def changed(event: OrderEvent, event_id: str) -> OrderEvent:
    """The same event under another ID."""
    return msgspec.structs.replace(event, event_id=event_id)

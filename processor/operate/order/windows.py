"""Which parts of the topics are read for one order. Pure.

    known of the order          read
    nothing                     everything that is kept (or what --since and --until leave of it)
    placed, moved, touched      from a day before it was placed to the end
    the same, and that is       around each of those moments: a day before and after; if that is too much, six hours,
    more than RECORDS_MAX       one hour, or five minutes; and what the group has not consumed yet
    that it has no state, and   its dead letters, and what the group has not consumed yet: every other record that was
    all is more than that       taken has left a state, or the order was erased or is older than orders are kept

The last two are not complete: they miss an event that was repeated weeks later. The timeline says so.

A record is not older than its event. The day is for wrong clocks and time zones.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from processor.transform.order_state import OrderState

RECORDS_MAX: Final = 60_000
"""Records of all topics that may always be read: about 0.15 s."""
SLACKS_MS: Final = (24 * 3_600_000, 6 * 3_600_000, 3_600_000, 300_000)
SPANS_MAX: Final = 20
"""Each span takes a question to the brokers and a seek; an order of ten thousand movements gets one span for all."""


class Span(NamedTuple):
    """From the first moment to the one after the last, epoch ms; None is unlimited."""

    from_ms: int | None
    until_ms: int | None


def moments(state: OrderState) -> list[int]:
    """Returns the known moments of an order, epoch ms."""
    found = [state.touched_at_ms]
    order = state.order
    if order is not None:
        found.append(order.placed.placed_at_ms)
        found += [moved.at_ms for moved in (*order.fulfilments, *order.refunds, *order.cancellations)]
        if order.cancelled_at_ms is not None:
            found.append(order.cancelled_at_ms)
    found += [parked.origin.timestamp_ms for parked in state.parked if parked.origin.timestamp_ms > 0]
    return sorted(found)


def whole_span(known: list[int], since_ms: int | None, until_ms: int | None) -> Span:
    """Returns the span in which every record of an order lies."""
    from_ms = max(0, known[0] - SLACKS_MS[0]) if known else None
    return _within(Span(from_ms, None), since_ms, until_ms)


def near_spans(known: list[int], slack_ms: int, since_ms: int | None, until_ms: int | None) -> list[Span]:
    """Returns the time around each moment; spans that meet are joined."""
    assert known, "no moment to look around"
    spans: list[Span] = []
    for moment in sorted(known):
        from_ms, until = max(0, moment - slack_ms), moment + slack_ms
        last = spans[-1] if spans else None
        if last is not None and last.until_ms is not None and from_ms <= last.until_ms:
            spans[-1] = Span(last.from_ms, max(last.until_ms, until))
        else:
            spans.append(Span(from_ms, until))
    if len(spans) > SPANS_MAX:
        spans = [Span(spans[0].from_ms, spans[-1].until_ms)]
    bounded = (_within(span, since_ms, until_ms) for span in spans)
    return [span for span in bounded if span.until_ms is None or (span.from_ms or 0) < span.until_ms]


def _within(span: Span, since_ms: int | None, until_ms: int | None) -> Span:
    starts = [at for at in (span.from_ms, since_ms) if at is not None]
    ends = [at for at in (span.until_ms, until_ms) if at is not None]
    return Span(max(starts, default=None), min(ends, default=None))

"""What transform must make of a partition's records: the rules, applied to them in the order of their timestamps.

No batch, no state on disk, no transaction and no worker: everything that can go wrong in those is missing here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from processor.errors import BadRecord
from processor.records import OrderEvent, OrderId, Reason, Record, Stage
from processor.transform import rules
from processor.transform.order_state import OrderState
from processor.transform.outbox import entries
from processor.transform.transitions import Applied, Ignored, Parked, Refused, Retold, Rules, Taken

Decode = Callable[[Record], OrderEvent]


class Model:
    """`topics` are the sources in the order in which equal timestamps are taken; `now_ms` is the wall clock, all the
    time: events are parked for as long as it takes."""

    def __init__(self, by: Rules, decode: Decode, topics: Sequence[str], now_ms: int) -> None:
        self._now_ms = now_ms
        self._rules = by
        self._decode = decode
        self._ranks = {topic: rank for rank, topic in enumerate(topics)}
        self.entries: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        """By order ID, in order: the source (`topic/partition/offset`) and the body of each entry."""
        self.reasons: dict[str, str] = {}
        """By source, why it is a dead letter."""
        self.refused: list[tuple[str, str]] = []
        """The same, one by one: a topic that is made again has the same places for other records."""
        self.states: dict[OrderId, OrderState] = {}

    def take(self, records: Iterable[Record]) -> None:
        """All records of one partition number."""
        for record in sorted(records, key=lambda one: (one.timestamp_ms, self._ranks[one.topic], one.offset)):
            self._take(record)

    def let_parked_events_expire(self) -> None:
        for order_id, state in list(self.states.items()):
            for parked in state.parked:
                self.reasons[str(parked.origin.position)] = Reason.ORDER_UNKNOWN
                self.refused.append((str(parked.origin.position), Reason.ORDER_UNKNOWN))
            if state.parked:
                del self.states[order_id]

    def _take(self, record: Record) -> None:
        order_id = OrderId((record.key or b"").decode())
        made = made_of(record, self.states.get(order_id), self._rules, self._decode, self._now_ms)
        if made.state is None:
            self.states.pop(order_id, None)
        else:
            self.states[order_id] = made.state
        if made.entries:  # an order of which nothing is told has no list
            self.entries[order_id].extend(made.entries)
        self.reasons.update(made.reasons)
        self.refused.extend(made.reasons.items())


class Made(NamedTuple):
    """What becomes of an order and of the world when one record of its is taken: the order's state then, entries
    (source and body), and by source why something is a dead letter."""

    state: OrderState | None
    entries: tuple[tuple[str, bytes], ...] = ()
    reasons: Mapping[str, str] = MappingProxyType({})


def made_of(record: Record, state: OrderState | None, by: Rules, decode: Decode, now_ms: int) -> Made:
    """`state` is that of the order which the record's key names."""
    source = str(record.position)
    if record.value is None:
        return Made(None)
    try:
        event = decode(record)
        if not event.event_id or not event.order_id:
            raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no identity")
        if event.order_id.encode() != record.key:
            raise BadRecord(Stage.TRANSFORM, Reason.KEY_MISMATCH, "key")
    except BadRecord as bad:
        return Made(state, (), {source: bad.reason})
    transition = rules.apply(state, Taken(event, record), by, now_ms)
    written: list[tuple[str, bytes]] = []
    reasons: dict[str, str] = {}
    for effect in transition.effects:
        origin = str(effect.taken.origin.position)
        match effect:
            case Applied() | Retold():
                value = entries(by.api, "outbox")(effect).value
                assert value is not None
                written.append((origin, value))
            case Refused(reason=reason):
                reasons[origin] = reason
            case Ignored() | Parked():
                pass
    return Made(transition.state, tuple(written), reasons)


def difference(what: str, written: Sequence[object], wanted: Sequence[object]) -> str:
    """Where two lists differ, in a few words for an assertion."""
    lost = [each for each in wanted if each not in written]
    extra = [each for each in written if each not in wanted]
    twice = [each for each in written if written.count(each) > wanted.count(each) > 0]
    return f"{what}: lost {lost[:5]}, unwanted {extra[:5]}, more often than wanted {twice[:5]}"

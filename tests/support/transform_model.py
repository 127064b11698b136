"""What transform must make of a partition's records: the rules, applied to them in the order of their timestamps.

No batch, no state on disk, no transaction and no worker: everything that can go wrong in those is missing here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

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
        self.states: dict[OrderId, OrderState] = {}

    def take(self, records: Iterable[Record]) -> None:
        """All records of one partition number."""
        for record in sorted(records, key=lambda one: (one.timestamp_ms, self._ranks[one.topic], one.offset)):
            self._take(record)

    def let_parked_events_expire(self) -> None:
        for order_id, state in list(self.states.items()):
            for parked in state.parked:
                self.reasons[str(parked.origin.position)] = Reason.ORDER_UNKNOWN
            if state.parked:
                del self.states[order_id]

    def _take(self, record: Record) -> None:
        source = str(record.position)
        if record.value is None:
            self.states.pop(OrderId((record.key or b"").decode()), None)
            return
        try:
            event = self._decode(record)
            if not event.event_id or not event.order_id:
                raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no identity")
            if event.order_id.encode() != record.key:
                raise BadRecord(Stage.TRANSFORM, Reason.KEY_MISMATCH, "key")
        except BadRecord as bad:
            self.reasons[source] = bad.reason
            return
        transition = rules.apply(self.states.get(event.order_id), Taken(event, record), self._rules, self._now_ms)
        if transition.state is None:
            self.states.pop(event.order_id, None)
        else:
            self.states[event.order_id] = transition.state
        for effect in transition.effects:
            origin = str(effect.taken.origin.position)
            match effect:
                case Applied() | Retold():
                    value = entries(self._rules.api, "outbox")(effect).value
                    assert value is not None
                    self.entries[event.order_id].append((origin, value))
                case Refused(reason=reason):
                    self.reasons[origin] = reason
                case Ignored() | Parked():
                    pass


def difference(what: str, written: Sequence[object], wanted: Sequence[object]) -> str:
    """Where two lists differ, in a few words for an assertion."""
    lost = [each for each in wanted if each not in written]
    extra = [each for each in written if each not in wanted]
    twice = [each for each in written if written.count(each) > wanted.count(each) > 0]
    return f"{what}: lost {lost[:5]}, unwanted {extra[:5]}, more often than wanted {twice[:5]}"

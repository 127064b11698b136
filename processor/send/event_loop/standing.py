"""standing: the state of a destination, for other threads than its event loop.

`/status`, `/readyz`, the watch and the metrics ask; nothing here changes anything. Any thread may call all but
`gauges`: they read numbers and enums that are replaced whole.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from processor.interfaces import Clock
from processor.send.destination import EntryT
from processor.send.event_loop.gate import Gate
from processor.send.event_loop.gatherer import Gatherer, Memory
from processor.send.event_loop.lanes import LaneState
from processor.send.event_loop.pace import Pace, ReplayShare
from processor.send.meter import Gauges
from processor.send.pending import Pending

STALLED_S: Final = 10.0
"""If the loop has made no round for this long, the reason is not known."""


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """The state of a destination in `/status`. `paused_until` is epoch ms."""

    name: str
    quota_share: int | None
    circuit: str
    in_flight: int
    paused_until: int | None
    limit: int
    key_refused: bool
    doubted: bool
    """True while something else than the API answers."""
    trouble: str | None
    """The last answer, or why there was none, while something holds the destination."""


@dataclass(eq=False)
class Standing(Generic[EntryT]):
    """See the module. Mutable: `ticked_s` is the time of the event loop's last round (monotonic), which shows that it
    lives."""

    _name: str
    _gate: Gate
    _lanes: Gatherer[EntryT]
    _pace: Pace | None
    _replays: ReplayShare
    _holds: Memory
    _flights: Sized
    _clock: Clock
    ticked_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.ticked_s = self._clock.monotonic_s()

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def status(self) -> DestinationStatus:
        gate = self._gate
        left_s = gate.paused_until_s - self._clock.monotonic_s()
        return DestinationStatus(
            name=self._name,
            quota_share=None if self._pace is None else self._pace.share,
            circuit=gate.circuit.value,
            in_flight=self.in_flight,
            paused_until=self._clock.now_ms() + int(left_s * 1000) if left_s > 0 else None,
            limit=gate.limit,
            key_refused=gate.key_refused,
            doubted=gate.doubted,
            trouble=gate.trouble,
        )

    def standstills(self) -> list[str]:
        """Returns why nothing, or almost nothing, is sent, for `/readyz`; empty if all is well."""
        standstill = self._gate.standstill
        return [] if standstill is None else [f"{self._name}: {standstill}"]

    def why(self, pending: Pending[EntryT]) -> str:
        """Returns what an unfinished entry waits for, in words."""
        state = self._lanes.state(pending.order_id)
        if state is None:
            return "for Kafka's acknowledgement"
        gate = self._gate
        if state is LaneState.UNDER_WAY:
            return f"in flight or behind one that is, attempt {pending.attempts + 1}"
        said = "" if gate.trouble is None else f": {gate.trouble}"
        if gate.key_refused:
            return f"the key is refused{said}"
        if gate.doubted:
            return f"what answers is not the API{said}"
        if gate.paused_until_s > self._clock.monotonic_s():
            return f"the destination asked for a pause, {self._in_s(gate.paused_until_s)} more{_last(pending)}"
        if gate.circuit.value != "closed":
            return f"the destination is held, circuit {gate.circuit.value}{said}"
        if state is LaneState.WAITING:
            return f"retry after {pending.attempts} attempts{_last(pending)}"
        if state is LaneState.YIELDING:
            return "a replay's turn: live traffic goes first, and a replay has its share of the quota"
        if self._pace is None or self._pace.has_free:
            return "its turn"
        next_s = self._pace.next_s()
        when = "once one of them is answered" if next_s is None else f"in {self._in_s(next_s)}"
        share = f"of which {self._pace.share} requests are this worker's"
        return f"the quota {self._pace.quota}, {share}; the next goes {when}"

    def _in_s(self, at_s: float) -> str:
        return f"{max(at_s - self._clock.monotonic_s(), 0.0):.1f} s"

    def waits(self, pending: Pending[EntryT]) -> bool:
        """True if it is known what unfinished entries wait for: a request, a time, the destination or the quota."""
        state = self._lanes.state(pending.order_id)
        if state is None or self._clock.monotonic_s() - self.ticked_s > STALLED_S:
            return False
        if state is LaneState.YIELDING and not self._replays.has_free:
            return True
        at_its_turn = state is LaneState.READY or state is LaneState.YIELDING
        if not at_its_turn or not self._gate.is_open or self.in_flight >= self._gate.limit:
            return True
        return self._pace is not None and not self._pace.has_free

    def has_enough(self) -> bool:
        """True if there are entries for all requests that may go before more are read."""
        return self._lanes.has_enough(self._gate.limit)

    def held_orders(self, epoch: int) -> int:
        return self._holds.count(epoch)

    def gauges(self) -> Gauges:
        """Called by the event loop only."""
        gate = self._gate
        share = None if self._pace is None else self._pace.share
        oldest_s = self._lanes.oldest_s()
        if oldest_s is not None:
            oldest_s = self._clock.monotonic_s() - oldest_s
        return Gauges(self.in_flight, gate.limit, share, gate.circuit, gate.key_refused, oldest_s, self._lanes.waits())


def _last(pending: Pending[Any]) -> str:
    return f"; last {pending.last}" if pending.last else ""

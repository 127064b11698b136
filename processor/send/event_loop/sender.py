"""The sender: the event loop's side of sending, one destination.

    round:  the answers that have come: judge ─► finish ─► then pump: take ─► post ─► …     nothing in it waits

`_take` alone decides, without waiting, what may go: is there room under the limit, does anything hold the destination
(`gate.py`), is a slot of the quota free (`pace.py`), is there a parcel (`lanes.py`). Each change pumps: an answer, a
message of the Kafka thread, an alarm for the time of a change. So nothing polls, and a request costs no task and no
wake-up. All answers that the loop finds at once are read first and then handled together.

    verdict         its entries                                     the destination (`gate.py`)
    Delivered       end; a receipt is written                       its breaker closes
    Rejected        end, and hold their order; an array is split
    RetryLater      wait: as the server says, else our backoff      pauses if it says so; its breaker counts
    KeyRefused      go back                                         the key is read again, and probed with backoff
    Denied          the key's, the rate's or their own: `retries.py` decides by the other accepted requests
    Doubted         wait; end if no other gets the same             held if others get it, and probed with backoff

Owned by the event loop. The Kafka thread reaches it through the hand-over, and reads `standing`, which any thread may
read. `outcomes.py` decides what an answer means.

Invariants
- a parcel that was taken is given back to its lanes exactly once, whatever happens to its request;
- an entry that was handed over is reported exactly once, or its partition has been withdrawn or lost;
- nothing is sent when a session has passed since our group last answered us (`handover.py`), because another worker may
  have the partitions then. This is checked right before each request: the whole process may have stood still since.

Not chosen: a task per entry, or per request in flight (each wakes through a future: a quarter of the cost of an entry);
one answer at a time, from its socket to the next request (140 µs an entry instead of 122: each step finds its code and
data in the cache); a timeout per request here (the transport has one; the watch is for requests that hang in spite of
it); a queue between take and post (its contents are stale: with the feed, a newer snapshot could still replace them).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from functools import partial
from random import Random
from typing import Final, Generic, assert_never

import structlog

from processor.api.verdicts import Answer, Delivered, NoAnswer, Otherwise, Verdict
from processor.interfaces import Clock
from processor.send.destination import Destination, EntryT, Key
from processor.send.event_loop.breaker import Admission
from processor.send.event_loop.endpoint import Endpoint, Heard, Posted
from processor.send.event_loop.gate import Gate
from processor.send.event_loop.gatherer import Gatherer, Memory
from processor.send.event_loop.lanes import Lanes, Parcel
from processor.send.event_loop.outcomes import Outcomes
from processor.send.event_loop.pace import Bucket, Pace, ReplayShare
from processor.send.event_loop.standing import Standing
from processor.send.handover import (
    Assigned,
    CaughtUp,
    Halt,
    Handover,
    Lost,
    Message,
    Paced,
    PastRead,
    Released,
    Stop,
    Withdrawn,
)
from processor.send.meter import RequestMeter, Tally
from processor.send.pending import STALE, SUPERSEDED, Pending
from processor.send.settings import SenderSettings

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
TELL_S: Final = 1.0
REREAD_S: Final = 1.0
HANG_S: Final = 2.0
"""The watch gives a request up this much after its limit, because the transport should do it first."""
SENT_AT_ONCE_MAX: Final = 100
"""Requests that go out in one go: some 4 ms."""
HELD_AT_ONCE_MAX: Final = 500
"""Held entries that end in one go: a long lane behind a refusal must not block the loop."""


_NONE: Final = Admission.NONE
_PROBE: Final = Admission.PROBE


class GivenUp(Enum):
    """Why a request is given up."""

    HUNG = "hung"
    WITHDRAWN = "withdrawn"


class Alarm:
    """One timer for the earliest time at which something may change by itself. It calls `ring`. Mutable: the running
    timer and its end."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at_s = 0.0

    def set(self, at_s: float | None, now_s: float) -> None:
        """Rings at `at_s` at the latest. None: no time will change anything."""
        if at_s is None or (self._timer is not None and self._at_s <= at_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_s = at_s
        self._timer = asyncio.get_running_loop().call_later(max(at_s - now_s, 0.0), self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._ring()


class Flight(Generic[EntryT]):
    """One request under way. Mutable: `posted`, once it is sent."""

    __slots__ = ("bucket", "key", "parcel", "posted", "probe", "sent_s")

    def __init__(self, parcel: Parcel[EntryT], bucket: Bucket | None, sent_s: float, key: int, probe: bool) -> None:
        self.parcel = parcel
        self.bucket = bucket
        self.sent_s = sent_s
        self.key = key
        self.probe = probe
        self.posted: Posted[Flight[EntryT]] | None = None


class Sender(Generic[EntryT]):
    """One destination's sending. `run` is the whole of its life.

    Mutable. `_flights` are the requests under way, `_answered` those with an answer that is not handled yet; `_due` is
    true if a round comes as soon as the loop has read all sockets; `_partitions` are ours, by epoch; `_withdrawn` are
    epochs that leave as soon as none of their requests is in flight; `_failure` is our own mistake, which ends `run`;
    `_over` is true once nothing more is sent.
    """

    def __init__(
        self,
        settings: SenderSettings,
        destination: Destination[EntryT],
        endpoint: Endpoint,
        key: Key,
        holds: Memory,
        handover: Handover[EntryT],
        clock: Clock,
        random: Random,
        meter: RequestMeter,
        gatherer: Gatherer[EntryT] | None = None,
    ) -> None:
        """`gatherer` holds the waiting entries. None: plain lanes do."""
        self._settings = settings
        self._destination = destination
        self._endpoint = endpoint
        self._holds = holds
        self._handover = handover
        self._clock = clock
        self._meter = meter
        self._gate = gate = Gate(destination.name, settings, key, random, destination.sent_as)
        self._pace = None if settings.quota is None else Pace(settings.quota, settings.partitions_total)
        rest_s = 0.0 if self._pace is None else self._pace.rest_s
        self._replays = ReplayShare(settings.replay_share_max, self._slots, rest_s)
        self._lanes = lanes = _lanes(destination, self._replays) if gatherer is None else gatherer
        self._tally = Tally()

        self._flights: dict[Flight[EntryT], None] = {}
        self._answered: list[tuple[Flight[EntryT], Heard]] = []
        self._due = False
        self._failure: Exception | None = None
        self._over = False
        self._alarm = Alarm(partial(self._guarded, self._pump))
        self._partitions: dict[int, int] = {}
        self._withdrawn: list[Withdrawn] = []
        self._stopped = False
        flights, ours, tally = self._flights, self._partitions, self._tally
        self.standing = Standing(destination.name, gate, lanes, self._pace, self._replays, holds, flights, clock)
        self._outcomes = Outcomes(settings, destination, gate, lanes, holds, ours, handover, random, tally, clock)

    async def run(self) -> None:
        """Sends until the Kafka thread says `Stop`."""
        self._endpoint.use(self._destination.headers(self._gate.current_key()))
        self._handover.attach(asyncio.get_running_loop(), self._receive)
        try:
            await self._watch()
        finally:
            self._over = True
            for flight in self._flights:
                if flight.posted is not None:
                    flight.posted.give_up()

    def _ended(self, flight: Flight[EntryT], answer: Heard) -> None:
        """Called by the endpoint for each request that was not given up."""
        flight.posted = None  # a cycle, which the collector would have to find
        self._answered.append((flight, answer))
        self._round_soon()

    def _round_soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._due = False
        answers = len(self._answered)
        since_s = self._clock.monotonic_s()
        self._guarded(self._finish_answered)
        self._guarded(self._pump)
        if answers:
            self._gate.round_took(self._clock.monotonic_s() - since_s)

    def _pump(self) -> None:
        """Sends all requests that may go."""
        if self._over or self._handover.lease.is_over(self._clock):
            return  # after a lease the watch looks again
        for _ in range(SENT_AT_ONCE_MAX):
            flight = self._take()
            if flight is None:
                return
            self._flights[flight] = None
            entries = flight.parcel.entries
            request = self._destination.request(
                [entries[0].entry] if len(entries) == 1 else [pending.entry for pending in entries]
            )
            if self._handover.lease.is_over(self._clock):  # stopped since it was taken
                self._unheard(flight)
                return
            flight.posted = self._endpoint.post(request, flight, self._ended)
        self._round_soon()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Called by the loop. An exception must not leave it: the loop would log and forget it, and lose an entry."""
        try:
            work()
        except Exception as mistake:
            self._end_by(mistake)

    def _end_by(self, mistake: Exception) -> None:
        self._failure = self._failure or mistake
        self._over = True

    def _take(self) -> Flight[EntryT] | None:
        """Returns the next request with its slot and parcel. Returns None if nothing may go now, and sets an alarm if
        time alone will change that."""
        gate = self._gate
        if len(self._flights) >= gate.limit:
            return None
        now_s = self._clock.monotonic_s()
        admission = gate.admits(now_s)
        if admission is _NONE:
            self._alarm.set(gate.opens_s, now_s)
            return None
        if self._pace is not None and not self._pace.is_free(now_s):
            self._wait_for_quota(self._pace, now_s)
            return None
        parcel = self._next_parcel(now_s, fresh_first=admission is _PROBE)
        if parcel is None:
            return None
        bucket = None
        if self._pace is not None:
            bucket = self._pace.take()
            self._tally.waits_no_more(now_s)
        if admission is _PROBE:
            gate.probe()
        if parcel.replayed:
            self._replays.taken()
        return Flight(parcel, bucket, now_s, gate.key, admission is _PROBE)

    def _next_parcel(self, now_s: float, fresh_first: bool) -> Parcel[EntryT] | None:
        """Returns the next parcel to send. Held entries before it end here."""
        for _ in range(HELD_AT_ONCE_MAX):
            parcel = self._lanes.take(now_s, fresh_first)
            if parcel is None:
                self._alarm.set(self._lanes.next_s(), now_s)
                return None
            if self._holds.total == 0 or len(parcel.entries) > 1 or not self._outcomes.is_held(parcel.entries[0]):
                return parcel
            self._lanes.finish(parcel, now_s, delivered=False)
        self._alarm.set(now_s, now_s)
        return None

    def _wait_for_quota(self, pace: Pace, now_s: float) -> None:
        due_s = self._lanes.next_s()
        if due_s is not None and due_s <= now_s:
            self._tally.waits_for_quota(now_s)
            self._alarm.set(pace.next_s(), now_s)
        else:
            self._alarm.set(due_s, now_s)

    def _slots(self) -> int:
        """Returns this worker's requests a window; without a quota, at once."""
        return self._gate.limit if self._pace is None else self._pace.share

    def _finish_answered(self) -> None:
        if not self._answered:
            return
        answered, self._answered = self._answered, []
        now_s = self._clock.monotonic_s()
        now_ms = self._clock.now_ms()
        for flight, answer in answered:
            if isinstance(answer, Exception):
                raise answer
            self._finish(flight, answer, now_s, now_ms)

    def _finish(self, flight: Flight[EntryT], answer: Answer | NoAnswer, now_s: float, now_ms: int) -> None:
        seconds = now_s - flight.sent_s
        parcel = flight.parcel
        self._attempted(flight, now_s)
        self._tally.answered(answer, seconds)
        verdict = self._destination.verdict(answer, now_ms)
        heard: Verdict | None = verdict
        outcome: Verdict | Otherwise = verdict
        said = None
        if type(verdict) is not Delivered:
            heard, outcome = self._outcomes.weigh(parcel, verdict, now_s, now_ms)
            said = self._endpoint.trouble if isinstance(answer, NoAnswer) else answer
        gate = self._gate
        key = gate.key
        if heard is None:
            gate.unheard(flight.probe, now_s)
        else:
            order_id = parcel.entries[0].order_id
            gate.heard(heard, order_id, flight.key, flight.probe, seconds, len(self._flights), now_s, said)
        if key != gate.key:
            self._endpoint.use(self._destination.headers(gate.current_key()))
        self._outcomes.judge(parcel, outcome, now_s, now_ms)
        del self._flights[flight]
        if self._withdrawn:
            self._release(now_s)

    def _attempted(self, flight: Flight[EntryT], now_s: float) -> None:
        """A request has ended, with or without an answer: its slot rests from now on, and it counts as an attempt."""
        if flight.bucket is not None:
            assert self._pace is not None
            self._pace.answered(flight.bucket, now_s)
        if flight.parcel.replayed:
            self._replays.answered(now_s)
        for pending in flight.parcel.entries:
            pending.attempts += 1

    def _unheard(self, flight: Flight[EntryT]) -> None:
        """Gives a request up because its partition goes to another worker."""
        now_s = self._clock.monotonic_s()
        self._attempted(flight, now_s)
        self._gate.unheard(flight.probe, now_s)
        self._outcomes.put_back(flight.parcel, now_s, self._clock.now_ms())
        del self._flights[flight]
        if self._withdrawn:
            self._release(now_s)

    def _receive(self, message: Message[EntryT]) -> None:
        self._guarded(partial(self._hear, message))

    def _hear(self, message: Message[EntryT]) -> None:
        now_s = self._clock.monotonic_s()
        match message:
            case list():
                self._push(message, now_s)
            case Assigned(epoch, partition):
                self._partitions[epoch] = partition
                self._lanes.open(epoch)
                self._holds.open(epoch)
            case PastRead(epoch, past):
                if epoch in self._partitions:
                    for order_id, what in past:
                        self._holds.read(epoch, order_id, what)
            case Paced(epoch, partition, used, assigned_s):
                if self._pace is not None and epoch in self._partitions:
                    self._pace.open(epoch, partition, used, assigned_s)
                    self._pump()
            case CaughtUp(epochs):
                self._lanes.caught_up(epochs)
                self._pump()
            case Withdrawn(epochs, deadline_s):
                self._lanes.drop(epochs)
                self._withdrawn.append(message)
                asyncio.get_running_loop().call_later(
                    max(deadline_s - now_s, 0.0), self._guarded, partial(self._give_up, epochs)
                )
                self._release(now_s)
            case Lost(epochs):
                self._lanes.drop(epochs)
                self._give_up(epochs)
                self._leave(epochs, now_s)
            case Halt():
                self._gate.halt()
            case Stop():
                self._stopped = True
            case _:
                assert_never(message)

    def _push(self, entries: list[Pending[EntryT]], now_s: float) -> None:
        for pending in entries:
            if pending.epoch in self._partitions:
                replaced = self._lanes.push(pending, now_s)
                if replaced is not None:
                    self._outcomes.end(replaced, STALE if replaced is pending else SUPERSEDED, self._clock.now_ms())
        self._pump()

    def _give_up(self, epochs: frozenset[int]) -> None:
        """Gives up the requests of these partitions that are still in flight."""
        self._finish_answered()
        for flight in list(self._flights):
            if any(pending.epoch in epochs for pending in flight.parcel.entries):
                self._abandon(flight, GivenUp.WITHDRAWN)
        self._pump()

    def _abandon(self, flight: Flight[EntryT], why: GivenUp) -> None:
        assert flight.posted is not None
        flight.posted.give_up()
        if why is GivenUp.WITHDRAWN:
            self._unheard(flight)
        else:
            self._finish(flight, NoAnswer.TIMEOUT, self._clock.monotonic_s(), self._clock.now_ms())

    def _release(self, now_s: float) -> None:
        """Reports the withdrawn partitions without a request in flight."""
        flying = {pending.epoch for flight in self._flights for pending in flight.parcel.entries}
        for withdrawn in [withdrawn for withdrawn in self._withdrawn if not withdrawn.epochs & flying]:
            self._withdrawn.remove(withdrawn)
            self._handover.report(Released(withdrawn.epochs, self._leave(withdrawn.epochs, now_s)))

    def _leave(self, epochs: frozenset[int], now_s: float) -> dict[int, int | None]:
        """Forgets partitions. Returns how many of their slots are in use."""
        used: dict[int, int | None] = {}
        for epoch in epochs & self._partitions.keys():
            del self._partitions[epoch]
            self._holds.close(epoch)
            used[epoch] = None if self._pace is None else self._pace.close(epoch, now_s)
        return used

    async def _watch(self) -> None:
        """Does, four times a second until stopped, what no answer and no message triggers."""
        tell_at_s = reread_at_s = 0.0
        while not self._stopped:
            before_s = self._clock.monotonic_s()
            await asyncio.sleep(TICK_S)
            if self._failure is not None:
                raise self._failure
            now_s = self.standing.ticked_s = self._clock.monotonic_s()
            late_s = max(now_s - before_s - TICK_S, 0.0)
            self._meter.loop_lag(late_s)
            self._gate.loop_was_late(late_s)
            self._give_up_hung(now_s)
            self._holds.sweep()
            if now_s >= reread_at_s:
                reread_at_s = now_s + REREAD_S
                if self._gate.reread_key():
                    self._endpoint.use(self._destination.headers(self._gate.current_key()))
            if now_s >= tell_at_s:
                tell_at_s = now_s + TELL_S
                self._tell()
            self._guarded(self._pump)
        self._tell()

    def _give_up_hung(self, now_s: float) -> None:
        self._finish_answered()
        until_s = now_s - self._settings.request_s_max - HANG_S
        for flight in [flight for flight in self._flights if flight.sent_s < until_s]:
            self._abandon(flight, GivenUp.HUNG)

    def _tell(self) -> None:
        self._meter.requests(self._destination.name, self._tally.tell())
        self._meter.gauges(self._destination.name, self.standing.gauges())


def _lanes(destination: Destination[EntryT], replays: ReplayShare) -> Lanes[EntryT]:
    entries_max, bytes_max = destination.parcel_entries_max, destination.parcel_bytes_max
    return Lanes(entries_max, bytes_max, destination.linger_s, destination.supersedes, replays)

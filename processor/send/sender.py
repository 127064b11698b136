"""The sender: the event loop's side of sending, one destination.

    work:  take ─► pace ─► post ─► judge ─► finish          as many workers as there may be requests at once

What may go out is decided in one place, `_take`, without waiting: is there a parcel, does anything hold the destination
(a pause it asked for, its breaker, its key, a silent Kafka thread), is a request's place free under the limit, is a slot
of the quota free. A worker that finds nothing parks; whoever changes something wakes one, and each that takes a parcel
wakes the next while there are more, so nobody polls and thousands of parked workers cost nothing.

    verdict         the entries                                     the destination
    Delivered       end; a receipt is written                       its breaker closes
    Rejected        end, and hold their order; an array is split
    RetryLater      wait: what the server says, else our backoff    pauses if it says so; its breaker counts
    KeyRefused      wait, and nothing else is sent                  the key is read again, probed with backoff

Owned by the event loop; the Kafka thread speaks to it through the hand-over alone (`why` and `status` may be read from
anywhere: they look at values that are replaced whole).

Invariants
- a parcel that was taken is given back to its lanes exactly once, whatever happens to its request;
- an entry that was handed over is reported exactly once, or its partition has been withdrawn or lost;
- what was sent with a key that has been replaced since says nothing about today's.

Not chosen: a task per entry (3 µs each, and thousands of timers); a timeout per request here (the transport has one; the
watch below is for those that hang in spite of it); a queue between taking and posting (what waits in it is stale: with
the feed, a newer snapshot could still replace it).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, assert_never

import structlog

from processor.advice import WAIT_S_MAX
from processor.dead_letters.holds import Hold, Holds
from processor.interfaces import Clock
from processor.records import EntryId, OrderId, Reason, http_reason
from processor.send.backoff import backoff_s
from processor.send.breaker import ROW, Admission, Breaker, BreakerState
from processor.send.destination import Destination, EntryT, Key
from processor.send.endpoint import Endpoint
from processor.send.handover import (
    Assigned,
    Halt,
    Handover,
    HoldsRead,
    Lost,
    Message,
    Paced,
    Released,
    Stop,
    Withdrawn,
)
from processor.send.lanes import Lanes, LaneState, Parcel
from processor.send.limit import Limit
from processor.send.meter import Gauges, RequestMeter, Requests
from processor.send.pace import Bucket, Pace
from processor.send.pending import SUPERSEDED, Ended, Held, Pending
from processor.send.poison import FRESH_TIMES, Witness, is_poison
from processor.send.settings import SenderSettings
from processor.verdicts import (
    Answer,
    Delivered,
    KeyRefused,
    NoAnswer,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
)

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
TELL_S: Final = 1.0
REREAD_S: Final = 1.0
HANG_S: Final = 2.0
"""How much longer than a request may take the watch waits before it gives it up: the transport is to do it first."""
IN_PROGRESS_MAX: Final = 10
"""409 says that an earlier attempt is still worked on. A server that says so for ever would hold the order for ever."""
ARRAY_FAILURES_MAX: Final = 3
"""5xx on one array, while others pass, before it is split."""
HELD_AT_ONCE_MAX: Final = 500
"""Held entries that end in one go, lest a long lane behind a refusal block the loop."""
PAUSE_JITTER: Final = 0.1
PAUSE_JITTER_S_MAX: Final = 1.0
"""Workers that were told the same time to come back do not come back at once."""
KEY_PROBE_FIRST_S: Final = 1.0
KEY_PROBE_S_MAX: Final = 60.0
CIRCUIT_FIRST_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How a destination stands, as `/status` shows it. `paused_until` is epoch ms; `holds` says what keeps it from
    being sent to, in words."""

    name: str
    quota_share: int | None
    circuit: str
    in_flight: int
    limit: int
    paused_until: int | None
    holds: tuple[str, ...]


class Flight(Generic[EntryT]):
    """One request under way. Mutable: `given_up` is set when its answer is no longer waited for."""

    __slots__ = ("bucket", "given_up", "key", "parcel", "probe", "sent_s")

    def __init__(self, parcel: Parcel[EntryT], bucket: Bucket | None, sent_s: float, key: int, probe: bool) -> None:
        self.parcel = parcel
        self.bucket = bucket
        self.sent_s = sent_s
        self.key = key
        self.probe = probe
        self.given_up = False


class Sender(Generic[EntryT]):
    """One destination's sending. `run` is the whole of its life.

    Mutable. `_flights` and `_tasks` by worker, a flight while its request is under way (`_in_flight` counts them);
    `_parked` are workers with nothing to do; `_alarm` wakes one of them at `_alarm_s`; `_hindered` says that `_take` has
    to look at what holds the destination; `_paused_until_s` is a pause that it asked for; `_key` counts the keys used so
    far; `_epochs` are the assignments that are ours, `_withdrawn` those of them that leave when nothing of them is in
    flight; what has been counted since the last telling is in `_durations` to `_quota_wait_s`.
    """

    def __init__(
        self,
        settings: SenderSettings,
        destination: Destination[EntryT],
        endpoint: Endpoint,
        key: Key,
        holds: Holds,
        handover: Handover[EntryT],
        clock: Clock,
        random: Random,
        meter: RequestMeter,
    ) -> None:
        self._settings = settings
        self._destination = destination
        self._endpoint = endpoint
        self._key_source = key
        self._holds = holds
        self._handover = handover
        self._clock = clock
        self._random = random
        self._meter = meter

        self._lanes: Lanes[EntryT] = Lanes(
            destination.parcel_entries_max, destination.parcel_bytes_max, destination.linger_s, destination.supersedes
        )
        self._pace = None if settings.quota is None else Pace(settings.quota, settings.partitions_total)
        self._limit = Limit(settings.in_flight_max, random)
        self._circuit = Breaker(ROW, CIRCUIT_FIRST_S, settings.backoff_s_max, random)
        self._key_breaker = Breaker(1, KEY_PROBE_FIRST_S, KEY_PROBE_S_MAX, random)
        self._witness = Witness()

        self._flights: list[Flight[EntryT] | None] = [None] * settings.in_flight_max
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight = 0
        self._parked: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._hindered = False
        self._halted = False
        self._paused_until_s = 0.0
        self._key = 0
        self._epochs: dict[int, int] = {}
        self._withdrawn: list[Withdrawn] = []
        self._stopped: asyncio.Event | None = None

        self._durations: defaultdict[str, list[float]] = defaultdict(list)
        self._error_codes: Counter[str] = Counter()
        self._retries: Counter[RetryReason] = Counter()
        self._latencies: list[float] = []
        self._quota_wait_s = 0.0
        self._quota_waits_since_s: float | None = None
        self.ticked_s = clock.monotonic_s()
        """When the loop last came round, by the monotonic clock; a watch sees by it that the loop lives."""

    # ---- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Sends until the Kafka thread says `Stop`."""
        self._stopped = asyncio.Event()
        self._use_key()
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._work(number)) for number in range(len(self._flights))]
            self._handover.attach(asyncio.get_running_loop(), self._receive)
            await self._watch(self._stopped)
            for task in self._tasks:
                task.cancel()

    async def _work(self, number: int) -> None:
        while True:
            flight = self._take()
            if flight is None:
                await self._park()
                continue
            self._flights[number] = flight
            answer = await self._post(flight)
            self._flights[number] = None
            self._finish(flight, answer)

    async def _post(self, flight: Flight[EntryT]) -> Answer | NoAnswer:
        try:
            return await self._endpoint.post(self._destination.request(self._entries(flight)))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.given_up or task is None or task.uncancel() > 0:
                raise
            return NoAnswer.TIMEOUT

    # ---- take: may anything go, and what ------------------------------------------------------------------------

    def _take(self) -> Flight[EntryT] | None:
        """The next request, with all that it needs to go. None where nothing may go now; an alarm is set where time
        alone will change that."""
        if self._in_flight >= self._limit_now():
            return None
        now_s = self._clock.monotonic_s()
        probe = False
        if self._hindered:
            admission = self._admission(now_s)
            if admission is Admission.NONE:
                return None
            probe = admission is Admission.PROBE
        if now_s - self._handover.turned_s > self._settings.kafka_silence_s_max:
            return None  # the watch wakes us
        if self._pace is not None and not self._pace.is_free(now_s):
            self._wait_for_quota(now_s)
            return None
        parcel = self._next_parcel(now_s, probe)
        if parcel is None:
            return None
        bucket = None
        if self._pace is not None:
            bucket = self._pace.take()
            self._quota_waits_since_s = None
        if probe:
            self._circuit.probe()
            self._key_breaker.probe()
        self._in_flight += 1
        if self._parked:
            self._wake()
        return Flight(parcel, bucket, now_s, self._key, probe)

    def _next_parcel(self, now_s: float, probe: bool) -> Parcel[EntryT] | None:
        """The next parcel that is to be sent: held entries on the way there end here."""
        for _ in range(HELD_AT_ONCE_MAX):
            parcel = self._lanes.take(now_s, fresh_first=probe)
            if parcel is None:
                due_s = self._lanes.next_s()
                if due_s is not None:
                    self._wake_at(due_s, now_s)
                return None
            if len(parcel.entries) > 1 or not self._is_held(parcel.entries[0]):
                return parcel
            self._lanes.finish(parcel, now_s, delivered=False)
        self._wake_at(now_s, now_s)
        return None

    def _is_held(self, pending: Pending[EntryT]) -> bool:
        if pending.epoch not in self._epochs or not self._holds.any(pending.epoch):
            return False
        hold = self._holds.of(pending.epoch, OrderId(pending.order_id))
        if hold is None or not hold.stops(pending.entry_id, pending.replay_id):
            return False
        self._report(pending, Held(hold.entry_id))
        return True

    def _admission(self, now_s: float) -> Admission:
        """What holds the destination. Sets the alarm for when that may be over."""
        if self._halted:
            return Admission.NONE
        if now_s < self._paused_until_s:
            self._wake_at(self._paused_until_s, now_s)
            return Admission.NONE
        admissions = []
        for breaker in (self._key_breaker, self._circuit):
            admission = breaker.admits(now_s)
            if admission is Admission.NONE:
                if breaker.state is BreakerState.OPEN:
                    self._wake_at(breaker.until_s, now_s)
                return Admission.NONE
            admissions.append(admission)
        if Admission.PROBE in admissions:
            return Admission.PROBE
        self._hindered = False
        return Admission.ALL

    def _limit_now(self) -> int:
        """Requests at once: with a quota it is the quota that limits."""
        return self._settings.in_flight_max if self._pace is not None else self._limit.value

    def _wait_for_quota(self, now_s: float) -> None:
        assert self._pace is not None
        due_s = self._lanes.next_s()
        if due_s is None:
            return
        if due_s > now_s:
            self._wake_at(due_s, now_s)
            return
        if self._quota_waits_since_s is not None:
            self._quota_wait_s += now_s - self._quota_waits_since_s
        self._quota_waits_since_s = now_s
        free_s = self._pace.next_s()
        if free_s is not None:
            self._wake_at(free_s, now_s)

    # ---- finish: what an answer changes -------------------------------------------------------------------------

    def _finish(self, flight: Flight[EntryT], answer: Answer | NoAnswer) -> None:
        now_s = self._clock.monotonic_s()
        now_ms = self._clock.now_ms()
        seconds = now_s - flight.sent_s
        self._in_flight -= 1
        if flight.bucket is not None and self._pace is not None:
            self._pace.answered(flight.bucket, now_s)
        status = str(answer.status) if isinstance(answer, Answer) else answer.value
        self._durations[status].append(seconds)
        verdict = self._destination.verdict(answer, now_ms)
        self._judge_destination(flight, verdict, seconds, now_s)
        self._judge_entries(flight, verdict, now_s, now_ms)
        if self._withdrawn:
            self._release()

    def _judge_destination(self, flight: Flight[EntryT], verdict: Verdict, seconds: float, now_s: float) -> None:
        """What the answer says about the destination and its key."""
        match verdict:
            case Delivered() | Rejected():
                self._limit.answered(seconds, self._in_flight + 1, now_s)
                if self._circuit.passed():
                    log.info("the destination answers again", destination=self._destination.name)
                if flight.key == self._key and self._key_breaker.passed():
                    log.info("the key is accepted again", destination=self._destination.name)
                if isinstance(verdict, Delivered) and verdict.pause_s is not None:
                    self._pause(verdict.pause_s, now_s)
            case RetryLater():
                if flight.given_up and not self._timed_out(flight, now_s):
                    self._circuit_unclear(flight, now_s)  # we did not wait for it
                    return
                self._retries[verdict.reason] += 1
                self._refused(flight, verdict, seconds, now_s)
            case KeyRefused():
                self._key_refused(flight, verdict, now_s)
            case _:
                assert_never(verdict)

    def _refused(self, flight: Flight[EntryT], verdict: RetryLater, seconds: float, now_s: float) -> None:
        match verdict.reason:
            case RetryReason.THROTTLED | RetryReason.TIMEOUT:
                self._limit.refused(seconds, now_s)
            case RetryReason.SERVER_ERROR | RetryReason.CONNECTION:
                if verdict.pauses_destination:
                    self._limit.refused(seconds, now_s)
            case RetryReason.TOO_EARLY | RetryReason.IN_PROGRESS:
                self._limit.answered(seconds, self._in_flight + 1, now_s)
            case _:
                assert_never(verdict.reason)
        if verdict.pauses_destination:
            self._pause(
                backoff_s(flight.parcel.failures + 1, self._settings.backoff_first_s, self._settings.backoff_s_max, self._random)
                if verdict.after_s is None
                else verdict.after_s,
                now_s,
            )
        self._key_breaker.unclear(now_s) if flight.probe else None
        if verdict.reason is RetryReason.IN_PROGRESS:
            self._circuit_unclear(flight, now_s)
        elif self._circuit.refused(flight.parcel.entries[0].order_id, now_s, flight.probe):
            log.warning(
                "the destination is held: refusals in a row",
                destination=self._destination.name,
                reason=verdict.reason.value,
                status=verdict.status,
                trouble=self._endpoint.trouble if verdict.status is None else None,
            )
        self._hindered = True


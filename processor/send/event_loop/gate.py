"""gate: what holds a whole destination, as opposed to one entry.

    a pause          it asked for one (429, `Retry-After`, a quota that is used up): nothing goes until then
    the circuit      refusals in a row of different orders: one probe at a time, with backoff
    the key          401 or 403: it is read again at once and every second; one probe at a time, at once when
    it changed the limit        how many requests at once (`limit.py`)

Each answer is heard once, by `heard`, before anybody looks at its entries. Nothing here touches an entry.

Owned by the sender's event loop.

How long to wait by our own judgement: exponential, full jitter. Pure.
"""

from __future__ import annotations

from random import Random
from typing import Final, assert_never

import structlog

from processor.send.destination import Key
from processor.send.event_loop.breaker import ROW, Admission, Breaker
from processor.send.event_loop.limit import Limit
from processor.send.meter import BreakerState
from processor.send.settings import SenderSettings
from processor.verdicts import WAIT_S_MAX, Delivered, KeyRefused, Rejected, RetryLater, RetryReason, Verdict


def backoff_s(failures: int, first_s: float, s_max: float, random: Random) -> float:
    """Anything from 0 to `first_s` doubled for each failure after the first, at most `s_max`: those that
    failed together do not come back together."""
    assert failures >= 1
    return random.uniform(0.0, min(first_s * 2.0 ** min(failures - 1, 30), s_max))


log = structlog.get_logger(__name__)

PAUSE_JITTER: Final = 0.1
PAUSE_JITTER_S_MAX: Final = 1.0
"""Workers that were told the same time to come back do not come back at once."""
CIRCUIT_FIRST_S: Final = 0.5
KEY_PROBE_FIRST_S: Final = 1.0
KEY_PROBE_S_MAX: Final = 60.0


_ALL: Final = Admission.ALL


class Gate:
    """Mutable. `_hindered` says that something may hold the destination, so that `admits` has to look;
    `opens_s` is when time alone may open it (None: it does not); `paused_until_s` is the pause; `_pauses`
    counts pauses since something passed; `key` counts the keys used so far; `halted` is for good."""

    def __init__(self, name: str, settings: SenderSettings, source: Key, random: Random) -> None:
        self._name = name
        self._source = source
        self._random = random
        self._backoff_s_max = settings.backoff_s_max
        self._limited = settings.quota is None
        self._in_flight_max = settings.in_flight_max
        self._limit = Limit(settings.in_flight_max, random)
        self._circuit = Breaker(ROW, CIRCUIT_FIRST_S, settings.backoff_s_max, random)
        self._credentials = Breaker(1, KEY_PROBE_FIRST_S, KEY_PROBE_S_MAX, random)
        self._hindered = False
        self._pauses = 0
        self.opens_s: float | None = None
        self.paused_until_s = 0.0
        self.key = 0
        self.halted = False

    # ---- may a request go ---------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Requests at once. With a quota it is the quota that limits."""
        return self._limit.value if self._limited else self._in_flight_max

    def loop_was_late(self, seconds: float) -> None:
        """How late the event loop came to its last timer."""
        self._limit.late_s = seconds

    def round_took(self, seconds: float) -> None:
        """How long the event loop took to deal with the answers that it had read, and to send what may go then."""
        self._limit.round_s = seconds

    @property
    def circuit(self) -> BreakerState:
        return self._circuit.state

    @property
    def key_refused(self) -> bool:
        return self._credentials.state is not BreakerState.CLOSED

    @property
    def is_open(self) -> bool:
        """Whether nothing holds the destination, as far as was seen last."""
        return not self._hindered

    def admits(self, now_s: float) -> Admission:
        if not self._hindered:
            return _ALL
        self.opens_s = None
        if self.halted:
            return Admission.NONE
        if now_s < self.paused_until_s:
            self.opens_s = self.paused_until_s
            return Admission.NONE
        admission = Admission.ALL
        for breaker in (self._credentials, self._circuit):
            admitted = breaker.admits(now_s)
            if admitted is Admission.NONE:
                self.opens_s = breaker.until_s if breaker.state is BreakerState.OPEN else None
                return Admission.NONE
            if admitted is Admission.PROBE:
                admission = Admission.PROBE
        self._hindered = admission is not Admission.ALL
        return admission

    def probe(self) -> None:
        """The one request that `admits` allowed goes out."""
        self._circuit.probe()
        self._credentials.probe()

    def halt(self) -> None:
        self.halted = self._hindered = True

    def reread_key(self) -> bool:
        """Whether there is another key now; it is probed at once."""
        if not self._source.reread():
            return False
        self.key += 1
        log.info("the key was read again and has changed", destination=self._name)
        self._credentials.hurry()
        return True

    def current_key(self) -> str:
        return self._source.current()

    # ---- what an answer says of the destination -----------------------------------------------------------

    def heard(
        self, verdict: Verdict, order_id: str, key: int, probe: bool, seconds: float, in_flight: int, now_s: float
    ) -> None:
        """An answer to a request that was sent with `key`, about `order_id` (of an array the first)."""
        if probe and key != self.key:  # sent with the key before this one: it proves nothing of today's
            self._credentials.unclear(now_s)
            self._credentials.hurry()
        match verdict:
            case Delivered() | Rejected():
                if self._limited:
                    self._limit.answered(seconds, in_flight, now_s)
                self._pauses = 0
                if self._circuit.passed():
                    log.info("the destination takes requests again", destination=self._name)
                if key == self.key and self._credentials.passed():
                    log.info("the key is accepted again", destination=self._name)
                if isinstance(verdict, Delivered) and verdict.pause_s is not None:
                    self._pause(verdict.pause_s, now_s)
            case RetryLater():
                self._refused(verdict, order_id, probe, seconds, now_s)
            case KeyRefused():
                self._circuit.passed()
                if key == self.key:
                    self._key_refused(verdict, order_id, probe, now_s)
            case _:
                assert_never(verdict)

    def unheard(self, probe: bool, now_s: float) -> None:
        """A request was given up by ourselves: that says nothing, but a probe is to be made again."""
        if probe:
            self._circuit.unclear(now_s)
            self._credentials.unclear(now_s)

    def _refused(self, verdict: RetryLater, order_id: str, probe: bool, seconds: float, now_s: float) -> None:
        if probe:
            self._credentials.unclear(now_s)
        if verdict.reason is RetryReason.IN_PROGRESS or verdict.reason is RetryReason.TOO_EARLY:
            self._circuit.passed()  # about this entry: the destination is well
            return
        if verdict.pauses_destination or verdict.reason is RetryReason.TIMEOUT:
            self._limit.refused(seconds, now_s)
        if verdict.pauses_destination:
            self._pause(verdict.after_s, now_s)
        if self._circuit.refused(order_id, now_s, probe):
            self._hindered = True
            log.warning(
                "the destination is held after refusals in a row",
                destination=self._name,
                reason=verdict.reason.value,
                status=verdict.status,
            )

    def _key_refused(self, verdict: KeyRefused, order_id: str, probe: bool, now_s: float) -> None:
        changed = self.reread_key()
        self._hindered = True
        if self._credentials.refused(order_id, now_s, probe):
            log.error(
                "the key is refused: nothing is sent until it is accepted again, the key is read again every second",
                destination=self._name,
                status=verdict.status,
            )
        if changed:
            self._credentials.hurry()

    def _pause(self, after_s: float | None, now_s: float) -> None:
        if after_s is None:
            if now_s < self.paused_until_s:
                return  # one of many that were refused together
            after_s = backoff_s(self._pauses + 1, CIRCUIT_FIRST_S, self._backoff_s_max, self._random)
        if now_s >= self.paused_until_s:
            self._pauses += 1
        until_s = now_s + after_s + self._random.uniform(0.0, min(after_s * PAUSE_JITTER, PAUSE_JITTER_S_MAX))
        if after_s >= WAIT_S_MAX:
            log.warning("the destination asks for a very long pause; cut to an hour", destination=self._name)
        if until_s > self.paused_until_s:
            self.paused_until_s = until_s
        self._hindered = True

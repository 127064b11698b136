"""gate: holds a whole destination, as opposed to one entry.

    a pause       the destination asked for one (429, `Retry-After`, a used-up quota): nothing goes until then
    the circuit   refusals in a row of different orders: one probe at a time, with backoff
    the key       401, or 403 of everything: it is read again at once and every second; one probe at a time, at
                  once if it has changed
    the doubt     answers that are not the API's (`breaker.py`): one probe at a time, with backoff
    the limit     how many requests at once (`limit.py`)

`heard` gets each answer once, before its entries are judged. Nothing here touches an entry. The text of the last answer
that holds the destination is kept for the log (at once and once a minute), `/readyz` and `/status`.

Our own backoff is exponential with full jitter (`backoff_s`). Owned by the sender's event loop.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Final, assert_never

import structlog

from processor.api.verdicts import (
    WAIT_S_MAX,
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    words_of,
)
from processor.send.destination import Key
from processor.send.event_loop.breaker import ROW, Admission, Breaker, Doubt
from processor.send.event_loop.limit import Limit
from processor.send.meter import BreakerState
from processor.send.settings import SenderSettings

log = structlog.get_logger(__name__)

PAUSE_JITTER: Final = 0.1
PAUSE_JITTER_S_MAX: Final = 1.0
"""Spreads workers that got the same `Retry-After`, so that they do not all come back at once."""
CIRCUIT_FIRST_S: Final = 0.5
KEY_PROBE_FIRST_S: Final = 1.0
KEY_PROBE_S_MAX: Final = 60.0
SAY_S: Final = 60.0
"""How often the log says again what holds the destination."""
UNAVAILABLE: Final = 503
"""The status of nginx for too many requests; a share of such answers cuts the limit as 429 does."""


_ALL: Final = Admission.ALL


def backoff_s(failures: int, first_s: float, s_max: float, random: Random) -> float:
    """Returns a random time up to `first_s`, doubled for each failure after the first, at most `s_max`, so that
    requests that failed together do not come back together."""
    assert failures >= 1
    return random.uniform(0.0, min(first_s * 2.0 ** min(failures - 1, 30), s_max))


class Gate:
    """`sent_as` is the header and scheme of the key, for the complaint.

    Mutable. `_hindered` is true if something may hold the destination, so that `admits` has to look; `opens_s` is when
    time alone may open it (None: it does not); `paused_until_s` is the end of the pause; `_pauses` counts pauses since
    the last accepted request; `key` counts the keys so far; `halted` is for good; `_said` is the last answer that was
    not an acceptance, or why there was none, and `_say_s` is when the log may report it again; `accepted_s` is the time
    of the last acceptance."""

    def __init__(self, name: str, settings: SenderSettings, source: Key, random: Random, sent_as: str) -> None:
        self._name = name
        self._sent_as = sent_as
        self._source = source
        self._random = random
        self._backoff_s_max = settings.backoff_s_max
        self._limited = settings.quota is None
        self._in_flight_max = settings.in_flight_max
        self._limit = Limit(settings.in_flight_max, random)
        self._circuit = Breaker(ROW, CIRCUIT_FIRST_S, settings.backoff_s_max, random)
        self._credentials = Breaker(1, KEY_PROBE_FIRST_S, KEY_PROBE_S_MAX, random)
        self._doubt = Doubt(settings.backoff_s_max, random)
        self._said: Answer | str | None = None
        self._say_s = -inf
        self.accepted_s = -inf
        self._hindered = False
        self._pauses = 0
        self.opens_s: float | None = None
        self.paused_until_s = 0.0
        self.key = 0
        self.halted = False

    @property
    def limit(self) -> int:
        """Requests at once. With a quota, the quota is the limit."""
        return self._limit.value if self._limited else self._in_flight_max

    def loop_was_late(self, seconds: float) -> None:
        """Takes the delay of the event loop's last timer."""
        self._limit.late_s = seconds

    def round_took(self, seconds: float) -> None:
        """Takes the time in which the event loop handled its last answers and sent the next requests."""
        self._limit.round_s = seconds

    @property
    def circuit(self) -> BreakerState:
        """The breaker of an outage, else that of a doubt: only probes go in either case."""
        return self._circuit.state if self._circuit.state is not BreakerState.CLOSED else self._doubt.breaker.state

    @property
    def key_refused(self) -> bool:
        return self._credentials.state is not BreakerState.CLOSED

    @property
    def doubted(self) -> bool:
        """True while answers that are not the API's hold the destination."""
        return self._doubt.holds

    @property
    def trouble(self) -> str | None:
        """The last answer, or why there was none, masked; None while nothing holds the destination."""
        if not (self.key_refused or self.doubted or self._circuit.state is not BreakerState.CLOSED):
            return None
        said = self._said
        return words_of(said) if isinstance(said, Answer) else said

    @property
    def standstill(self) -> str | None:
        """Returns why only probes are sent, in words for `/readyz`. Returns None while the API itself answers, because
        a busy or faulty API is not for this installation to mend."""
        trouble = self.trouble
        words = "" if trouble is None else f": {trouble}"
        if self.key_refused:
            return f"the key is refused; replace it, it is read again every second (sent as `{self._sent_as}`){words}"
        if self.doubted:
            return (
                "what answers is not the API but a gateway, a proxy, a login page or another address; "
                f"nothing is rejected{words}"
            )
        if isinstance(self._said, str) and self._circuit.state is not BreakerState.CLOSED:
            return f"no answer can be had{words}"
        return None

    @property
    def is_open(self) -> bool:
        """True if nothing held the destination when it was last looked at."""
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
        for breaker in (self._credentials, self._circuit, self._doubt.breaker):
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
        self._doubt.breaker.probe()

    def halt(self) -> None:
        self.halted = self._hindered = True

    def reread_key(self) -> bool:
        """Returns true if the key has changed; the new one is probed at once."""
        if not self._source.reread():
            return False
        self.key += 1
        log.info("the key was read again and has changed", destination=self._name)
        self._credentials.hurry()
        return True

    def current_key(self) -> str:
        return self._source.current()

    def heard(
        self,
        verdict: Verdict,
        order_id: str,
        key: int,
        probe: bool,
        seconds: float,
        in_flight: int,
        now_s: float,
        said: Answer | str | None = None,
    ) -> None:
        """Takes the verdict of a request that was sent with `key`, about `order_id` (the first of an array). `said` is
        the answer, or why there is none."""
        if probe and key != self.key:  # sent with an older key: it proves nothing about this one
            self._credentials.unclear(now_s)
            self._credentials.hurry()
        match verdict:
            case Delivered() | Rejected():
                self._passed(verdict, key, seconds, in_flight, now_s)
            case RetryLater():
                self._said = said
                self._refused(verdict, order_id, probe, seconds, now_s)
            case KeyRefused():
                self._said = said
                self._circuit.passed()
                if probe:
                    self._doubt.breaker.unclear(now_s)
                if key == self.key:
                    self._key_refused(verdict, order_id, probe, now_s)
            case Doubted():
                self._said = said
                self._circuit.passed()
                if probe:
                    self._credentials.unclear(now_s)
                self._doubt_it(order_id, probe, now_s)
            case Denied():
                raise AssertionError("weighed before it is heard")
            case _:
                assert_never(verdict)

    def unheard(self, probe: bool, now_s: float) -> None:
        """A request was given up by us, or its answer is not a verdict yet: only a probe must be repeated."""
        if probe:
            self._circuit.unclear(now_s)
            self._credentials.unclear(now_s)
            self._doubt.breaker.unclear(now_s)

    def _passed(self, verdict: Delivered | Rejected, key: int, seconds: float, in_flight: int, now_s: float) -> None:
        accepted = type(verdict) is Delivered
        if accepted:
            self.accepted_s = now_s
        if self._limited:
            self._limit.answered(seconds, in_flight, now_s)
        self._pauses = 0
        if self._circuit.passed():
            log.info("the destination takes requests again", destination=self._name)
        if self._doubt.passed(accepted):
            log.info("the API itself answers again", destination=self._name)
        if key == self.key and self._credentials.passed():
            log.info("the key is accepted again", destination=self._name)
        if isinstance(verdict, Delivered) and verdict.pause_s is not None:
            self._pause(verdict.pause_s, now_s)

    def _refused(self, verdict: RetryLater, order_id: str, probe: bool, seconds: float, now_s: float) -> None:
        if probe:
            self._credentials.unclear(now_s)
            self._doubt.breaker.unclear(now_s)
        if verdict.reason is RetryReason.IN_PROGRESS or verdict.reason is RetryReason.TOO_EARLY:
            self._circuit.passed()  # about this entry only
            return
        busy = verdict.status == UNAVAILABLE or verdict.reason in (RetryReason.TIMEOUT, RetryReason.DENIED)
        if verdict.pauses_destination or busy:
            self._limit.refused(seconds, now_s)
        if verdict.pauses_destination:
            self._pause(verdict.after_s, now_s)
        if self._circuit.refused(order_id, now_s, probe):
            self._hindered = True
            self._say_s = -inf
        if self._circuit.state is not BreakerState.CLOSED and self._may_say(now_s):
            log.warning(
                "the destination is held after refusals in a row",
                destination=self._name,
                reason=verdict.reason.value,
                status=verdict.status,
                said=self.trouble,
            )

    def _doubt_it(self, order_id: str, probe: bool, now_s: float) -> None:
        if self._doubt.doubted(order_id, now_s, probe):
            self._hindered = True
            self._say_s = -inf
        if self.doubted and self._may_say(now_s):
            log.error(
                "what answers is not the API: nothing but probes is sent and nothing is rejected until it answers "
                "itself; look at the base URL, the proxy and the gateway before it",
                destination=self._name,
                said=self.trouble,
            )

    def _key_refused(self, verdict: KeyRefused, order_id: str, probe: bool, now_s: float) -> None:
        changed = self.reread_key()
        self._hindered = True
        if self._credentials.refused(order_id, now_s, probe):
            self._say_s = -inf
        if self._may_say(now_s):
            log.error(
                "the key is refused: nothing is sent until it is accepted again, the key is read again every second",
                destination=self._name,
                status=verdict.status,
                sent_as=self._sent_as,
                said=verdict.words,
            )
        if changed:
            self._credentials.hurry()

    def _may_say(self, now_s: float) -> bool:
        if now_s < self._say_s:
            return False
        self._say_s = now_s + SAY_S
        return True

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

"""The time until which a member still has its partitions: what librdkafka's statistics prove about its heartbeats.

    sample i ──heartbeat──► sample j ──its answer──► sample k ──still steady──► sample l
       └── a request after this moment was answered, and the answer was not "you are no member" ──┘

The group's coordinator gives a member's partitions away when a session has passed since its last heartbeat arrived, and
sends no word to a process that stands still. librdkafka knows that time and does not show it: after a standstill of 10
s it reports `lost` only when the next poll serves it, which is too late for another thread that sends. So a heartbeat
counts from the sample **before** it was sent, and only once it is proven to be answered: on one connection answers come
in the order of the requests. An answer that arrived and is not yet handled shows in the next sample, so one more sample
is needed.

Pure; owned by the consumer's thread. Not chosen: the time of the last answer (after a standstill it is now, although
the answer is older); a commit as the proof (a round trip to the coordinator for each second of sending).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, NamedTuple

import msgspec

SAMPLE_MS: Final = 500
"""`statistics.interval.ms`. With a heartbeat a second, the proof is some two seconds old."""
SAMPLES_MAX: Final = 200
_COORDINATOR: Final = "GroupCoordinator"
_STEADY: Final = "steady"
_HEARTBEAT: Final = "Heartbeat"


class _Connection(msgspec.Struct, gc=False):
    """One broker of the statistics. `tx` are requests that were sent whole; `req` counts them by kind (KIP-848's
    heartbeat has no name there)."""

    state: str = ""
    connects: int = 0
    tx: int = 0
    outbuf_cnt: int = 0
    waitresp_cnt: int = 0
    req: dict[str, int] = {}


class _Group(msgspec.Struct, gc=False):
    join_state: str = ""


class _Statistics(msgspec.Struct, gc=False):
    ts: int
    brokers: dict[str, _Connection] = {}
    cgrp: _Group | None = None


class _Sample(NamedTuple):
    at_s: float
    sent: int
    heartbeats: int


_STATISTICS: Final = msgspec.json.Decoder(_Statistics)


class Membership:
    """Mutable. `answered_s` is a time of the monotonic clock: a heartbeat that was sent after it has been answered, and
    we were a member then. `_samples` are of one connection, oldest first; `_proven_s` needs one more sample."""

    def __init__(self) -> None:
        self.answered_s = -inf
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._connects = -1
        self._proven_s = -inf

    def heard(self, statistics: str) -> None:
        """librdkafka's statistics callback."""
        told = _STATISTICS.decode(statistics)
        link = told.brokers.get(_COORDINATOR)
        if link is None or told.cgrp is None or told.cgrp.join_state != _STEADY or link.state != "UP":
            self._samples.clear()
            self._proven_s = -inf
            return
        if link.connects != self._connects:  # requests on another connection may have no answer
            self._connects = link.connects
            self._samples.clear()
            self._proven_s = -inf
        self.answered_s = max(self.answered_s, self._proven_s)
        if link.outbuf_cnt == 0:  # else `req` counts a request that is not sent yet
            others = sum(count for kind, count in link.req.items() if kind != _HEARTBEAT)
            self._samples.append(_Sample(told.ts / 1e6, link.tx, link.tx - others))
        self._prove(link.tx - link.waitresp_cnt)

    def _prove(self, answered: int) -> None:
        """Finds the sample after which the newest heartbeat among the first `answered` requests was sent."""
        newest = None
        for sample in reversed(self._samples):
            if newest is None:
                newest = sample if sample.sent <= answered else None
            elif sample.heartbeats < newest.heartbeats:
                self._proven_s = sample.at_s
                return

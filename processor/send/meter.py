"""What send measures: facts in bulk, about once a second, never per entry.

Two protocols because two threads: the event loop calls `RequestMeter`, the Kafka thread calls `RecordMeter`.
`processor/edges/metrics.py` turns them into Prometheus metrics; a test may keep them in a list.

`Tally` is what the event loop counts between two calls: one number a request, handed on in bulk. It is mutable and
owned by the sender.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from processor.api.verdicts import Answer, NoAnswer, RetryReason
from processor.records import IgnoredReason, Outcome, Stage, TopicPartition


class BreakerState(StrEnum):
    """The picture is in `event_loop/breaker.py`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Requests(NamedTuple):
    """The requests since the last call: one duration a request, one latency an entry."""

    durations_s: Mapping[str, Sequence[float]]
    """By `status`: the code, `timeout` or `connection`."""
    error_codes: Mapping[str, int]
    retries: Mapping[RetryReason, int]
    latencies_s: Sequence[float]
    """From the source record's timestamp to the 2xx."""
    quota_wait_s: float
    """How long an entry was ready and only the quota held it."""


class WaitsFor(StrEnum):
    """What an object with something unsent waits for (`processor_unsent_objects`)."""

    TURN = "turn"
    """Its turn: the quota, another attempt, or the answer to the request that it is in."""
    PARENT = "parent"
    """An object that it names, and that is being created or deleted."""
    UNKNOWN = "unknown"
    """An object that it names, and that the API does not know."""


NONE_WAITS: Final[Mapping[WaitsFor, int]] = {}


class Gauges(NamedTuple):
    """The state of a destination now. `quota_share` is None without a quota."""

    in_flight: int
    limit: int
    quota_share: int | None
    circuit: BreakerState
    key_refused: bool
    oldest_unsent_s: float | None = None
    """How long the oldest unsent entry could have been sent; None if the gatherer does not keep it."""
    waits: Mapping[WaitsFor, int] = NONE_WAITS
    """Empty if the gatherer does not keep it."""


class RequestMeter(Protocol):
    """Called by the event loop."""

    def requests(self, destination: str, requests: Requests) -> None: ...
    def gauges(self, destination: str, gauges: Gauges) -> None: ...

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop was for a timer (`processor_event_loop_lag_seconds`), measured four times a
        second."""


class PartitionLag(NamedTuple):
    """One outbox partition: its unfinished records, and the age of the oldest (0 without any). `known` is false until a
    broker has said how many there are."""

    topic: str
    partition: int
    records: int
    seconds: float
    held_orders: int
    restore_remaining: int
    known: bool = True
    retention_left_s: float | None = None
    """How long the oldest unfinished record will still be there, at least; None where there is none, or it is kept."""


NONE_IGNORED: Final[Mapping[tuple[str, IgnoredReason], int]] = {}
NONE_REPLAYED: Final[Mapping[tuple[str, Outcome], int]] = {}


class Endings(NamedTuple):
    """Records that ended since the last call, each once, after the broker's acknowledgement."""

    records: Mapping[tuple[str, Outcome], int]
    dead_letters: Mapping[tuple[str, Stage, str], int]
    ignored: Mapping[tuple[str, IgnoredReason], int] = NONE_IGNORED
    replayed: Mapping[tuple[str, Outcome], int] = NONE_REPLAYED
    """The part of `records` that a replay brought."""


class RecordMeter(Protocol):
    """Called by the Kafka thread."""

    def endings(self, endings: Endings) -> None: ...

    def lag(self, lags: Sequence[PartitionLag]) -> None:
        """Called with all partitions of this worker; it has lost all others."""

    def began(self, causes: Mapping[tuple[TopicPartition, str], int], missed: Mapping[TopicPartition, int]) -> None:
        """Called with partitions that do not begin at the group's offset, each with the cause, and with the number of
        records of each that retention had deleted."""

    def flooded(self) -> None:
        """The flood guard has stopped the role, for good."""


class Tally:
    """Counts between two calls of the meter; `tell` resets it. `_waits_since_s` is since when an entry is ready that
    only the quota holds."""

    def __init__(self) -> None:
        self._durations_s: defaultdict[int | str, list[float]] = defaultdict(list)
        self.latencies_s: list[float] = []
        self.error_codes: Counter[str] = Counter()
        self.retries: Counter[RetryReason] = Counter()
        self._quota_wait_s = 0.0
        self._waits_since_s: float | None = None

    def answered(self, answer: Answer | NoAnswer, seconds: float) -> None:
        self._durations_s[answer.status if isinstance(answer, Answer) else answer.value].append(seconds)

    def waits_for_quota(self, now_s: float) -> None:
        if self._waits_since_s is not None:
            self._quota_wait_s += now_s - self._waits_since_s
        self._waits_since_s = now_s

    def waits_no_more(self, now_s: float) -> None:
        if self._waits_since_s is not None:
            self._quota_wait_s += now_s - self._waits_since_s
            self._waits_since_s = None

    def tell(self) -> Requests:
        durations_s = {str(status): durations for status, durations in self._durations_s.items()}
        told = Requests(durations_s, self.error_codes, self.retries, self.latencies_s, self._quota_wait_s)
        self._durations_s = defaultdict(list)
        self.latencies_s = []
        self.error_codes = Counter()
        self.retries = Counter()
        self._quota_wait_s = 0.0
        return told

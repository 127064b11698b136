"""What send measures: facts in bulk, about once a second, never per entry.

Two protocols because two threads: `RequestMeter` is told by the event loop, `RecordMeter` by the Kafka
thread. `processor/edges/metrics.py` turns them into Prometheus metrics; a test may keep them in a list.

`Tally` is what the event loop counts between two tellings: one number a request, handed on in bulk. It is mutable and
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
    """What happened on the wire since the last telling. Durations and latencies are one number a request or
    entry."""

    durations_s: Mapping[str, Sequence[float]]
    """By `status`: the code, `timeout` or `connection`."""
    error_codes: Mapping[str, int]
    retries: Mapping[RetryReason, int]
    latencies_s: Sequence[float]
    """From the source record's timestamp to the 2xx."""
    quota_wait_s: float
    """How long something was ready and only the quota held it."""


class WaitsFor(StrEnum):
    """What an object with something unsent waits for (`processor_unsent_objects`)."""

    TURN = "turn"
    """Its turn: the quota, another attempt, or the answer to the request that it is in."""
    PARENT = "parent"
    """An object that it names and that is being created or deleted."""
    UNKNOWN = "unknown"
    """An object that it names and that the API does not know."""


NONE_WAITS: Final[Mapping[WaitsFor, int]] = {}


class Gauges(NamedTuple):
    """How a destination stands now. `quota_share` is None without a quota."""

    in_flight: int
    limit: int
    quota_share: int | None
    circuit: BreakerState
    key_refused: bool
    oldest_unsent_s: float | None = None
    """How long the oldest entry that is unsent could have been sent; None where the gatherer does not keep it."""
    waits: Mapping[WaitsFor, int] = NONE_WAITS
    """Empty where the gatherer does not keep it."""


class RequestMeter(Protocol):
    """Told by the event loop."""

    def requests(self, destination: str, requests: Requests) -> None: ...

    def gauges(self, destination: str, gauges: Gauges) -> None: ...

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop was for a timer (`processor_event_loop_lag_seconds`), measured four times a
        second."""


class PartitionLag(NamedTuple):
    """One outbox partition: unfinished records, and the age of the oldest of them (0 when none). `known`: whether the
    broker has said yet how many there are."""

    topic: str
    partition: int
    records: int
    seconds: float
    held_orders: int
    restore_remaining: int
    known: bool = True


NONE_IGNORED: Final[Mapping[tuple[str, IgnoredReason], int]] = {}
NONE_REPLAYED: Final[Mapping[tuple[str, Outcome], int]] = {}


class Endings(NamedTuple):
    """Records that ended since the last telling, each once, after the broker's acknowledgement."""

    records: Mapping[tuple[str, Outcome], int]
    dead_letters: Mapping[tuple[str, Stage, str], int]
    ignored: Mapping[tuple[str, IgnoredReason], int] = NONE_IGNORED
    replayed: Mapping[tuple[str, Outcome], int] = NONE_REPLAYED
    """Of `records` those that a replay brought."""


class RecordMeter(Protocol):
    """Told by the Kafka thread."""

    def endings(self, endings: Endings) -> None: ...

    def lag(self, lags: Sequence[PartitionLag]) -> None:
        """All partitions of this worker; others are no longer its own."""

    def began(self, causes: Mapping[tuple[TopicPartition, str], int], missed: Mapping[TopicPartition, int]) -> None:
        """Partitions that were just opened and are not read on from where their group stood, and what retention took of
        them."""

    def flooded(self) -> None:
        """The flood guard has stopped the role, for good."""


class Tally:
    """Reset by `tell`. `_waits_since_s` is since when something is ready that only the quota holds."""

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

"""tally: what the event loop counts between two tellings. One number a request, handed on in bulk.

Mutable, all of it; owned by the sender.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from processor.send.meter import Requests
from processor.verdicts import Answer, NoAnswer, RetryReason


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

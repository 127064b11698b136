"""outcomes: what an answer means for the destination, and for its entries.

    weigh ─► the verdict for the gate, and the outcome ─► judge ─► end: a report to the Kafka thread
                                                                └► put back: another attempt, later

Owned by the sender's event loop. Invariant: a parcel that is judged or put back goes back to its lanes, once.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from random import Random
from typing import Final, Generic, assert_never

import structlog

from processor.api.verdicts import Delivered, Denied, Doubted, KeyRefused, Otherwise, Rejected, RetryLater, Verdict
from processor.interfaces import Clock
from processor.letters.holds import Hold
from processor.letters.seldom import Seldom
from processor.moments import PLAUSIBLE_MS_MIN
from processor.records import EntryId, OrderId
from processor.send.destination import Destination, EntryT
from processor.send.event_loop.gate import Gate, backoff_s
from processor.send.event_loop.gatherer import Gatherer, Memory
from processor.send.event_loop.lanes import Parcel
from processor.send.event_loop.poison import Witness
from processor.send.event_loop.retries import Again, Give, count, decide, reason_of, weighed
from processor.send.handover import Handover
from processor.send.meter import Tally
from processor.send.pending import SUPERSEDED, Ended, Ending, Held, Pending
from processor.send.settings import SenderSettings

log = structlog.get_logger(__name__)

RETRIES_SAID: Final = 10
"""After this many attempts of one entry the log reports it."""
_RETRIES: Final = "refused ten times and tried again, such as the entry of this record"
RETRY_S_MIN: Final = 0.05
"""A server that refuses and says `Retry-After: 0` would be asked as fast as it can refuse."""


@dataclass(eq=False)
class Outcomes(Generic[EntryT]):
    """See the module. `_epochs` are the epochs of our partitions. Mutable: `_witness` counts the answers to others than
    a suspect."""

    _settings: SenderSettings
    _destination: Destination[EntryT]
    _gate: Gate
    _lanes: Gatherer[EntryT]
    _holds: Memory
    _epochs: Container[int]
    _handover: Handover[EntryT]
    _random: Random
    _tally: Tally
    _clock: Clock
    _witness: Witness = field(default_factory=Witness)
    _retries_said: Seldom = field(default_factory=lambda: Seldom(log, _RETRIES))

    def weigh(
        self, parcel: Parcel[EntryT], verdict: Verdict, now_s: float, now_ms: int
    ) -> tuple[Verdict | None, Verdict | Otherwise]:
        """Returns what an answer other than 2xx means for the destination (None: nothing yet) and for the entries."""
        verdict = weighed(verdict, parcel, self._gate.accepted_s, now_s)
        if isinstance(verdict, Rejected):
            entries = [pending.entry for pending in parcel.entries]
            return verdict, self._destination.reconsidered(entries, verdict, now_ms)
        if not isinstance(verdict, Doubted) or verdict.whole:
            return verdict, verdict
        entries = [pending.entry for pending in parcel.entries]
        outcome = self._destination.reconsidered(entries, verdict.rejected, now_ms)
        match outcome:
            case Otherwise():
                return None, outcome
            case Delivered() if self._witness.accepted:
                return verdict.rejected, outcome
            case Rejected():
                doubted = Doubted(verdict.status, outcome, verdict.words, whole=False)
                return doubted, doubted
            case _:
                return verdict, verdict

    def is_held(self, pending: Pending[EntryT]) -> bool:
        """Ends an entry as held if a refused entry of its order holds it. Returns true then."""
        hold = self._holds.of(pending.epoch, OrderId(pending.order_id))
        if hold is None or not hold.stops(pending.entry_id, pending.replay_id):
            return False
        self.end(pending, Held(hold.entry_id), self._clock.now_ms())
        return True

    def judge(self, parcel: Parcel[EntryT], verdict: Verdict | Otherwise, now_s: float, now_ms: int) -> None:
        """Ends the entries, or puts them back for another attempt."""
        match verdict:
            case Delivered():
                for pending in parcel.entries:
                    self.end(pending, verdict, now_ms)
                    if pending.occurred_at_ms >= PLAUSIBLE_MS_MIN:  # one timestamp in seconds would spoil the sum
                        self._tally.latencies_s.append(max(now_ms - pending.occurred_at_ms, 0) / 1000)
                self._witness.accepted += len(parcel.entries)
                self._lanes.finish(parcel, now_s, delivered=True)
            case Rejected():
                self._reject(parcel, verdict, now_s, now_ms)
            case RetryLater() | Doubted():
                self._retry(parcel, verdict, now_s, now_ms)
            case KeyRefused() | Otherwise():
                self.put_back(parcel, now_s, now_ms)
            case Denied():
                raise AssertionError("weighed before it is judged")
            case _:
                assert_never(verdict)

    def _reject(self, parcel: Parcel[EntryT], verdict: Rejected, now_s: float, now_ms: int) -> None:
        if verdict.error_code is not None:
            known = verdict.error_code in self._destination.error_codes
            self._tally.error_codes[verdict.error_code if known else "other"] += 1
        if len(parcel.entries) > 1:
            self.supersede(self._lanes.split(parcel, now_s), now_ms)
            return
        (pending,) = parcel.entries
        hold = None
        if self._destination.holds(verdict.reason) and pending.epoch in self._epochs:
            order_id, entry_id = OrderId(pending.order_id), EntryId(pending.entry_id)
            hold = Hold(order_id, entry_id, verdict.reason, now_ms, pending.replay_id)
            self._holds.refused(pending.epoch, hold)
        self._handover.report(Ended(pending, verdict, now_ms, hold))
        self._lanes.finish(parcel, now_s, delivered=False)

    def _retry(self, parcel: Parcel[EntryT], verdict: RetryLater | Doubted, now_s: float, now_ms: int) -> None:
        self._tally.retries[reason_of(verdict)] += 1
        count(parcel, verdict, self._witness, now_s, now_ms)
        if parcel.failures == RETRIES_SAID and self._retries_said.happened(1, now_s):
            first = parcel.entries[0]
            facts = {"record": str(first.record.position), "last": first.last, "to": self._destination.name}
            self._retries_said.say(now_s, facts)
        settings = self._settings
        match decide(
            parcel, verdict, self._witness, now_s, poison_after_s=settings.poison_after_s, held=self._gate.doubted
        ):
            case Give(rejected):
                for pending in parcel.entries:
                    pending.in_progress = 0
                self._reject(parcel, rejected, now_s, now_ms)
            case Again(after_s):
                if after_s is None:
                    after_s = backoff_s(parcel.failures, settings.backoff_first_s, settings.backoff_s_max, self._random)
                self.put_back(parcel, now_s + max(after_s, RETRY_S_MIN), now_ms)
            case _:
                raise AssertionError("a closed set")

    def put_back(self, parcel: Parcel[EntryT], due_s: float, now_ms: int) -> None:
        self.supersede(self._lanes.retry(parcel, due_s), now_ms)

    def supersede(self, replaced: list[Pending[EntryT]], now_ms: int) -> None:
        for pending in replaced:
            self.end(pending, SUPERSEDED, now_ms)

    def end(self, pending: Pending[EntryT], ending: Ending, now_ms: int) -> None:
        self._handover.report(Ended(pending, ending, now_ms))

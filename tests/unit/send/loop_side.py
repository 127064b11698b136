"""The event loop's side of sending on virtual time, with a test in the place of the Kafka thread and of the
API.

side = LoopSide(answer)            `answer` is asked for each request: a status and headers, or an exception
side.give("a", "a", "b")           entries of these orders, e1, e2 …; run_s=1.0: and time passes
side.run_for(1.0)
side.ended                         what was reported, by entry
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import httpx
import orjson

from processor.config import Quota
from processor.edges.http.request import RequestTemplate
from processor.hakuna.destination import events_api, order_feed
from processor.letters.holds import Holds
from processor.records import EntryId, EntryType, OrderId, OutboxEntry, Record
from processor.send.event_loop.endpoint import Endpoint
from processor.send.event_loop.sender import Sender
from processor.send.handover import Assigned, Handover, Paced, Released, Stop
from processor.send.pending import Ended, Ending, Pending
from processor.send.settings import SenderSettings
from tests.chaos.send_world import FileKey, RecordingMeter
from tests.chaos.virtual_loop import VirtualLoop, VirtualSignal
from tests.fakes.clock import FakeClock
from tests.fakes.stores import DictStore
from tests.fakes.transport import FakeTransport

SESSION_S = 8.0
Answered = tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes] | Exception


@dataclass(slots=True)
class Seen:
    """A request as the API saw it."""

    at_s: float
    orders: tuple[str, ...]
    entries: tuple[str, ...]
    headers: httpx.Headers


class Api(FakeTransport):
    """Asks the test for each answer, after `latency_s`. `under_way` counts requests, `most` the most at once."""

    def __init__(self, loop: VirtualLoop, answer: Callable[[Seen], Answered | Awaitable[Answered]]) -> None:
        self._loop = loop
        self._answers = answer
        self.latency_s = 0.01
        self.seen: list[Seen] = []
        self.under_way = self.most = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        entries = body if isinstance(body, list) else [body]
        seen = Seen(
            self._loop.time(),
            tuple(entry["order"] for entry in entries),
            tuple(entry["entry"] for entry in entries),
            request.headers,
        )
        self.seen.append(seen)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.latency_s)
            answered = self._answers(seen)
            if isinstance(answered, Awaitable):
                answered = await answered
        finally:
            self.under_way -= 1
        if isinstance(answered, Exception):
            raise answered
        status, headers, *body = answered
        return httpx.Response(status, headers=headers, content=body[0] if body else b"")


class LoopSide:
    """See the module. Times are seconds since the start."""

    def __init__(
        self,
        answer: Callable[[Seen], Answered | Awaitable[Answered]],
        *,
        feed: bool = False,
        quota: Quota | None = None,
        in_flight_max: int = 16,
        poison_after_s: float = 300.0,
    ) -> None:
        self.clock = FakeClock()
        self.loop = VirtualLoop(self.clock)
        self.start_s = self.clock.monotonic_s()
        self.api = Api(self.loop, answer)
        self.meter = RecordingMeter()
        self.key = FileKey("key-1")
        self.holds = Holds(DictStore({}))
        self.handover: Handover[OutboxEntry] = Handover(VirtualSignal(self.loop))
        self.feed = feed
        destination = order_feed("v1.2", "test/1", 100, 1_000_000, 0.2) if feed else events_api("v1.2", "test/1")
        settings = SenderSettings(
            base_url="http://api.test",
            quota=quota,
            partitions_total=1,
            in_flight_max=in_flight_max,
            request_s_max=5.0,
            poison_after_s=poison_after_s,
        )
        self.sender: Sender[OutboxEntry] = Sender(
            settings,
            destination,
            Endpoint(self.api, RequestTemplate, settings.base_url, settings.request_s_max, self.clock),
            self.key,
            self.holds,
            self.handover,
            self.clock,
            Random(1),
            self.meter,
        )
        self.task = self.loop.spawn(self.sender.run())
        self.silent = False
        self.released: list[Released] = []
        self.endings: list[Ended[OutboxEntry]] = []
        self._number = 0
        self.standing = self.sender.standing
        self.assign(1)

    def assign(self, epoch: int) -> None:
        self.handover.give(Assigned(epoch, 0))
        self.handover.give(Paced(epoch, 0, 0, self.clock.monotonic_s()))

    def give(
        self, *orders: str, epoch: int = 1, replay_id: str | None = None, run_s: float = 0.0
    ) -> list[Pending[OutboxEntry]]:
        given = [self.pending(order, epoch, replay_id) for order in orders]
        self.handover.give(given)
        self.run_for(run_s)
        return given

    def pending(self, order: str, epoch: int, replay_id: str | None) -> Pending[OutboxEntry]:
        self._number += 1
        entry_id = EntryId(f"e{self._number}")
        body = orjson.dumps({"order": order, "entry": entry_id})
        kind = EntryType.ORDER if self.feed else EntryType.ORDER_PLACED
        now_ms = self.clock.now_ms()
        record = Record("hakuna.outbox", 0, self._number, now_ms, order.encode(), body, [])
        entry = OutboxEntry(OrderId(order), entry_id, kind, body, now_ms, [])
        return Pending(order, entry_id, entry, record, epoch, len(body), now_ms, now_ms, replay_id, bool(replay_id))

    def run_for(self, seconds: float) -> None:
        """In steps, with a Kafka thread that comes round unless it is `silent`."""
        until_s = self.clock.monotonic_s() + seconds
        while self.clock.monotonic_s() < until_s - 1e-9:
            if not self.silent:
                self.handover.renew(self.clock.monotonic_s() + SESSION_S, self.clock)
            self.loop.run_for(min(0.25, until_s - self.clock.monotonic_s()))
            for report in self.handover.collect(10_000):
                if isinstance(report, Released):
                    self.released.append(report)
                else:
                    self.endings.append(report)
            if self.task.done():
                self.task.result()

    @property
    def ended(self) -> dict[str, Ending]:
        return {ended.pending.entry_id: ended.ending for ended in self.endings}

    def sent(self) -> list[tuple[float, str]]:
        """When which entries went out, since the start."""
        return [(round(seen.at_s - self.start_s, 2), ",".join(seen.entries)) for seen in self.api.seen]

    def entries(self) -> list[str]:
        return [entry for seen in self.api.seen for entry in seen.entries]

    def stop(self) -> None:
        self.handover.give(Stop())
        self.run_for(0.5)
        assert self.task.done()
        self.loop.close()


def many(count: int, prefix: str = "o") -> list[str]:
    """So many orders."""
    return [f"{prefix}{number}" for number in range(count)]


def answers(*in_turn: Answered, then: Answered = (200, {})) -> Callable[[Seen], Answered]:
    """These in turn, then always the same."""
    rest = list(in_turn)
    return lambda seen: rest.pop(0) if rest else then


def by_entry(table: dict[str, Answered]) -> Callable[[Seen], Answered]:
    """That of the first entry of which the table knows one, else 200."""
    return lambda seen: next((table[entry] for entry in seen.entries if entry in table), (200, {}))

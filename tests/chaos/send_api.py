"""A scripted API on virtual time: what stands behind the transport in a simulation of the sender.

A request arrives some time after it was sent and has its effect then, whether or not anybody still waits for
the answer. Everything that happened is kept, for the checkers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import httpx

from processor.edges.http.exchange import Answered, Receiver, Transport
from processor.edges.http.httpx_client import Tasked
from processor.edges.http.request import RawHeaders, RequestTemplate
from tests.chaos.virtual_loop import VirtualLoop


@dataclass(slots=True)
class Call:
    """One request. Times are monotonic; `arrived_s` None: it never did. `ended_s` is when the sender stopped
    waiting."""

    worker: str
    order_ids: tuple[str, ...]
    entry_ids: tuple[str, ...]
    idempotency_key: str
    api_key: str
    sent_s: float
    arrived_s: float | None = None
    ended_s: float | None = None
    accepted: bool = False
    """It had its effect."""
    seen: int | str | None = None
    """What the sender was told: a status, or the name of an exception."""


@dataclass(frozen=True, slots=True)
class Spell:
    """From `from_s` to `until_s` every request meets the same: a status (with headers), or an exception by
    name."""

    from_s: float
    until_s: float
    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(slots=True)
class Script:
    """What the API does. Shares are of all requests; the entries named in `refused` are refused for ever,
    with the code beside them; those of a poisonous order are answered 500."""

    latency_s: tuple[float, float] = (0.01, 0.2)
    fault_share: float = 0.0
    hang_share: float = 0.0
    reset_share: float = 0.0
    in_progress_share: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)
    poisonous: frozenset[str] = frozenset()
    spells: list[Spell] = field(default_factory=list)
    keys: Callable[[float], str] = lambda now_s: "key-1"


class ScriptedApi:
    """One API for all workers. `calls` in the order in which they were sent."""

    def __init__(self, loop: VirtualLoop, script: Script, random: Random) -> None:
        self.loop = loop
        self.script = script
        self.random = random
        self.calls: list[Call] = []

    def transport(self, worker: str) -> Transport:
        return _Wire(self, worker)

    def arrive(self, call: Call) -> tuple[int, dict[str, str], bytes]:
        """The effect, and the answer."""
        script = self.script
        now_s = self.loop.time()
        call.arrived_s = now_s
        if call.api_key != script.keys(now_s):
            return 401, {}, b""
        for spell in script.spells:
            if spell.status is not None and spell.from_s <= now_s < spell.until_s:
                return spell.status, spell.headers, b"<html>no</html>"
        if set(call.order_ids) & script.poisonous:
            return 500, {}, b"crashed"
        if self.random.random() < script.fault_share:
            return self.random.choice((500, 502, 503, 504, 408)), {}, b""
        if self.random.random() < script.in_progress_share:
            return 409, {}, b""
        codes = [script.refused[entry_id] for entry_id in call.entry_ids if entry_id in script.refused]
        if codes:
            return 422, {}, json.dumps({"error": {"error_code": codes[0], "validation_errors": ["no"]}}).encode()
        call.accepted = True
        return 200, {}, b'{"event_id": "evt-1"}'

    def broken(self, now_s: float) -> str | None:
        """Whether no connection can be had."""
        for spell in self.script.spells:
            if spell.error is not None and spell.from_s <= now_s < spell.until_s:
                return spell.error
        return None


class _Wire:
    """One worker's connections to it, by the door of the real transports (`processor/edges/http/exchange.py`)."""

    def __init__(self, api: ScriptedApi, worker: str) -> None:
        self._api = api
        self._worker = worker

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Tasked:
        template.wire(content, headers)  # raises what no server would take
        fields = dict([*template.headers, *headers])
        return Tasked(self._api.loop.spawn(self._told(fields, content, receiver)))

    @staticmethod
    def fields(head: RawHeaders) -> RawHeaders:
        return head

    async def aclose(self) -> None: ...

    async def _told(self, fields: Mapping[bytes, bytes], content: bytes, receiver: Receiver) -> None:
        try:
            answered = await self._answer(fields, content)
        except Exception as error:
            receiver.failed(error)
        else:
            receiver.answered(*answered)

    async def _answer(self, fields: Mapping[bytes, bytes], content: bytes) -> Answered:
        api = self._api
        body = json.loads(content)
        entries = body if isinstance(body, list) else [body]
        call = Call(
            self._worker,
            tuple([entry["order"] for entry in entries]),
            tuple([entry["entry"] for entry in entries]),
            fields[b"Idempotency-Key"].decode(),
            fields[b"Authorization"].decode().removeprefix("Bearer "),
            api.loop.time(),
        )
        api.calls.append(call)
        try:
            answered = await self._exchange(call)
            call.seen = answered.status
            return answered
        except BaseException as error:
            call.seen = type(error).__name__
            raise
        finally:
            call.ended_s = api.loop.time()

    async def _exchange(self, call: Call) -> Answered:
        api, script, random = self._api, self._api.script, self._api.random
        error = api.broken(api.loop.time())
        if error is not None:
            await asyncio.sleep(0.001)
            raise getattr(httpx, error)("no connection")
        latency_s = random.uniform(*script.latency_s)
        answered: asyncio.Future[tuple[int, dict[str, str], bytes]] = api.loop.create_future()

        def arrive() -> None:
            answer = api.arrive(call)
            if not answered.done():
                answered.set_result(answer)

        api.loop.call_later(latency_s * random.uniform(0.1, 0.9), arrive)
        fate = random.random()
        if fate < script.hang_share:
            await asyncio.sleep(1_000_000)
        status, headers, body = await answered
        if fate < script.hang_share + script.reset_share:
            raise httpx.ReadError("connection reset")
        await asyncio.sleep(latency_s / 2)
        return Answered(status, [(name.encode(), value.encode()) for name, value in headers.items()], body, False)

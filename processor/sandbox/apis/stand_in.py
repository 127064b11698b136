"""The path of one request through a stand-in, from arrival to answer, for every API alike.

    read ─► its fate (conduct) ─► is the key known (ledger) ─► wait (latency) ─► perform ─► answer
             │                                                  │
             ├─► hang, reset, 429, 500, 503, page: not done     └─► the client hangs up: it is done all the same
             └─► a gateway answers (gateway): not done

A stand-in is strict where a real API may be lenient, and as harsh as a network can be. `hakuna_api.py`, `hako_api.py`
and `registry.py` decide what an API accepts and what it means: pure functions behind the protocol `Api`. Quota, faults,
idempotency and the record are here, once.

Each stand-in also answers

    GET  /_sandbox/record?window_s=60      the requests that it has seen
    GET  /_sandbox/history?subject=…       the accepted requests about one order (Hako: one object), in order
    GET  /_sandbox/contents                the orders or objects that it holds
    GET  /_sandbox/script, POST (changes)  its behaviour
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from math import ceil
from typing import Final, NamedTuple, Protocol, assert_never
from urllib.parse import parse_qs

import msgspec
import orjson

from processor.sandbox.apis.conduct import Claim, Conduct, Fate, Ledger
from processor.sandbox.apis.gateway import instead, on_its_way
from processor.sandbox.apis.loopback import Receive, Request, Scope, Send, hung_up, read, reset, respond, respond_json
from processor.sandbox.apis.record import Accepted, Presence, Record
from processor.sandbox.apis.script import Fault, LimitHeader, Script, changed

CONTROL: Final = "/_sandbox/"
HANG_UP_S_MAX: Final = 0.05
"""The time within which a client's hang-up is noticed. Without it, a retry right after a timeout could look like two
requests in flight."""

_PAGE = b"<!doctype html><title>Sign in</title><p>Your proxy wants to know who you are."


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API. `problems` are mistakes of the client; `accepted` are the changed subjects, each with the
    bytes that changed it."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    error_code: str | None = None
    problems: tuple[str, ...] = ()
    accepted: tuple[tuple[str, bytes], ...] = ()

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status <= 299


class Call(NamedTuple):
    """A well-formed request: its subjects and its idempotency key (None if the API has no such keys). `perform` judges
    the request by what the API holds, and changes that or refuses. It does not wait."""

    subjects: tuple[str, ...]
    key: str | None
    perform: Callable[[], Answer]


class Api(Protocol):
    """The API of a stand-in. Pure, except for the state that `perform` changes."""

    @property
    def name(self) -> str: ...

    def understand(self, request: Request, script: Script) -> Call | Answer:
        """Judges credentials, path, method, headers and shape. Changes nothing. Returns an `Answer` to refuse."""

    def refuse(self, status: int, problem: str) -> Answer:
        """Returns an error in the API's own form."""

    def contents(self) -> object:
        """Returns what the API holds, as JSON values."""


class StandIn:
    """An ASGI application. Mutable: any thread may replace `script` at any time; the rest belongs to the loop, except
    `record`, which locks."""

    def __init__(
        self, api: Api, script: Script | None = None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.api = api
        self.script = script or Script()
        self.record = Record()
        self._followed = self.script
        self._monotonic_s = monotonic_s
        self._conduct = Conduct(self.script, monotonic_s())
        self._ledger: Ledger[Answer] = Ledger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await read(scope, receive)
        if request is None:
            await reset(scope, receive)
        elif request.path.startswith(CONTROL):
            await self._control(request, send)
        else:
            await self._serve(request, scope, receive, send)

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        script = self.script
        if script is not self._followed:
            self._conduct.follow(script)
            self._followed = script
        now_s = self._monotonic_s()
        self.record.arrived(now_s)
        fate = self._conduct.decide(now_s)
        page = instead(script.gateway, request.path, fate.fault is Fault.TOO_MANY, script.quota is not None)
        if page is not None:
            await asyncio.sleep(fate.delay_s)
            self.record.answered(str(page.status))
            await respond(send, page.status, page.body, page.headers)
            return
        understood = self._understand(request, script)
        presence = Presence(understood.subjects if isinstance(understood, Call) else ())
        for subject, other in self.record.entered(presence):
            await self._overlap(subject, other)
        try:
            answer = await self._answer(request, understood, fate, presence, receive)
        finally:
            # Before the answer leaves: the client may send its next request as soon as it has the answer.
            self.record.left(presence)
        if answer is None:
            await reset(scope, receive)
        else:
            headers = _headers(answer, fate, script.limit_header)
            body, headers = on_its_way(script.gateway, answer.body, headers)
            await respond(send, answer.status, body, headers)

    def _understand(self, request: Request, script: Script) -> Call | Answer:
        if len(request.body) > script.body_bytes_max:
            return self.api.refuse(413, f"a body of {len(request.body)} bytes, at most {script.body_bytes_max}")
        return self.api.understand(request, script)

    async def _overlap(self, subject: str, other: Presence) -> None:
        """Counts an overlap, unless the client of the first request has hung up."""
        if not other.gone:
            await asyncio.sleep(HANG_UP_S_MAX)
        if not other.gone:
            self.record.overlapped(subject)

    async def _answer(
        self, request: Request, understood: Call | Answer, fate: Fate, presence: Presence, receive: Receive
    ) -> Answer | None:
        """Returns the answer. Returns None if the connection shall be reset."""
        fault = fate.fault
        if fault is None or fault is Fault.LOST_ANSWER:
            answer = await self._perform(request, understood, fate.delay_s, presence, receive)
            if fault is None:
                self.record.answered(str(answer.status), answer.error_code)
                return answer
        elif fault is not Fault.HANG:
            await self._wait(fate.delay_s, presence, receive)
        self.record.answered(fault.value)
        match fault:
            case Fault.LOST_ANSWER | Fault.RESET:
                return None
            case Fault.HANG:
                await hung_up(receive)
                presence.gone = True
                return None
            case Fault.PAGE:
                return Answer(200, _PAGE, "text/html; charset=utf-8")
            case Fault.TOO_MANY | Fault.SERVER_ERROR | Fault.UNAVAILABLE:
                return self.api.refuse(int(fault), "try again later")
        assert_never(fault)

    async def _perform(
        self, request: Request, understood: Call | Answer, delay_s: float, presence: Presence, receive: Receive
    ) -> Answer:
        if isinstance(understood, Answer):
            await self._wait(delay_s, presence, receive)
            return self._noted(request, understood)
        key = understood.key
        if key is None:
            await self._wait(delay_s, presence, receive)
            return self._performed(request, understood)
        fingerprint = f"{request.method} {request.path}\n".encode() + request.body
        claim = self._ledger.claim(key, fingerprint)
        settled = False
        try:
            await self._wait(delay_s, presence, receive)
            if isinstance(claim, Answer):
                self.record.repeated()
                return claim
            match claim:
                case Claim.BUSY:
                    return self.api.refuse(409, "a request with this Idempotency-Key is being served")
                case Claim.REUSED:
                    self.record.key_reused()
                    return self._noted(request, self.api.refuse(422, "Idempotency-Key: used before with another body"))
                case Claim.NEW:
                    answer = self._performed(request, understood)
                    if answer.succeeded:
                        self._ledger.settle(key, fingerprint, answer)
                        settled = True
                    return answer
            assert_never(claim)
        finally:
            if claim is Claim.NEW and not settled:
                self._ledger.withdraw(key)

    def _performed(self, request: Request, call: Call) -> Answer:
        for subject in call.subjects:
            status = self.script.answers.get(subject)
            if status is not None:
                return self.api.refuse(status, f"{subject} is always answered {status}")
        answer = call.perform()
        now_s = self._monotonic_s()
        for subject, body in answer.accepted:
            self.record.accepted(subject, Accepted(now_s, f"{request.method} {request.path}", body, call.key))
        return self._noted(request, answer)

    def _noted(self, request: Request, answer: Answer) -> Answer:
        for problem in answer.problems:
            self.record.mistaken(f"{request.method} {request.path}: {problem}")
        return answer

    async def _wait(self, delay_s: float, presence: Presence, receive: Receive) -> None:
        """Waits for the latency, and notes a client that hangs up; its request is served all the same."""
        if delay_s <= 0:
            return
        until_s = asyncio.get_running_loop().time() + delay_s
        try:
            async with asyncio.timeout_at(until_s):
                await hung_up(receive)
        except TimeoutError:
            return
        presence.gone = True
        await asyncio.sleep(max(0.0, until_s - asyncio.get_running_loop().time()))

    async def _control(self, request: Request, send: Send) -> None:
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        match request.method, request.path.removeprefix(CONTROL):
            case "GET", "record":
                try:
                    window_s = float(query.get("window_s", self._window_s()))
                except ValueError:
                    await respond_json(send, 400, {"error": "window_s is no number"})
                    return
                await respond_json(send, 200, {"api": self.api.name} | self.record.summary(window_s))
            case "GET", "history":
                history = self.record.history(query.get("subject", ""))
                values = [
                    {"at_s": one.at_s, "verb": one.verb, "key": one.key, "body": orjson.Fragment(one.body)}
                    for one in history
                ]
                await respond_json(send, 200, values)
            case "GET", "contents":
                await respond_json(send, 200, self.api.contents())
            case "GET", "script":
                await respond_json(send, 200, msgspec.to_builtins(self.script))
            case "POST", "script":
                try:
                    self.script = changed(self.script, msgspec.json.decode(request.body, type=dict[str, object]))
                except msgspec.MsgspecError as wrong:
                    await respond_json(send, 400, {"error": str(wrong)})
                    return
                await respond_json(send, 200, msgspec.to_builtins(self.script))
            case _:
                await respond_json(send, 404, {"error": "GET record, history, contents, script; POST script"})

    def _window_s(self) -> float:
        return 60.0 if self.script.quota is None else self.script.quota.window_s


def _headers(answer: Answer, fate: Fate, how: LimitHeader) -> dict[str, str]:
    headers = {} if answer.content_type is None else {"content-type": answer.content_type}
    if answer.status == 401:
        headers["www-authenticate"] = "Bearer"
    if fate.retry_after_s is None or answer.status not in (429, 503):
        return headers
    # Whole seconds, rounded up: a client that comes back exactly then must not be early.
    wait_s = str(ceil(fate.retry_after_s))
    match how:
        case LimitHeader.RETRY_AFTER_SECONDS:
            return headers | {"retry-after": wait_s}
        case LimitHeader.RETRY_AFTER_DATE:
            return headers | {"retry-after": formatdate(ceil(time.time() + fate.retry_after_s), usegmt=True)}
        case LimitHeader.RATELIMIT:
            return headers | {"ratelimit": f'"default";r=0;t={wait_s}'}
        case LimitHeader.X_RATELIMIT:
            return headers | {"x-ratelimit-remaining": "0", "x-ratelimit-reset": wait_s}
        case LimitHeader.NONE:
            return headers
    assert_never(how)

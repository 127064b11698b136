"""Hakuna as a stand-in. This module checks credentials, paths and headers; `hakuna_events.py` and `hakuna_feed.py`
check bodies. Each request is held against the reference, and nothing is passed leniently.

    POST [/sandbox]/events        one event            201 {"event_id": "evt-…"}
    POST [/sandbox]/feeds/order   an array of orders   202, no body

Errors have the reference's form, {"error": {"error_code": …, "validation_errors": […]}}. The reference does not say
which status belongs to which code; here: 400 `invalid_request_parameters`, 404 for an unknown order, 422 for the three
refusals that are no mistake (`product_unsupported`, `location_unsupported`, `cancel_decline`). A gateway in front of
the API does not know that form: 401, 403, 429 and 5xx have no body.

The reference shows the key in two ways, `Bearer: <key>` and `Authorization: Bearer <key>`; the second is HTTP's.
"""

from __future__ import annotations

import hmac
import re
import uuid
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from processor.sandbox.apis.hakuna_events import Code, Events, Refusal, WellFormed
from processor.sandbox.apis.hakuna_feed import Feed
from processor.sandbox.apis.loopback import Request
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import Answer, Call

VERSIONS: Final = ("v1.1", "v1.2")

_JSON: Final = "application/json"
_KEY = re.compile(r'"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"\Z')
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_EVENT_NAMESPACE = uuid.UUID("6f1c2f55-2d0a-4d3c-9d8f-0f3d8a3c2b11")


class HakunaApi:
    """Mutable: `events` and `feed` hold the orders that each of the two APIs accepted."""

    def __init__(self) -> None:
        self.events = Events()
        self.feed = Feed()

    @property
    def name(self) -> str:
        return "hakuna"

    def understand(self, request: Request, script: Script) -> Call | Answer:
        path = request.path.removeprefix("/sandbox")
        if path not in ("/events", "/feeds/order"):
            return Answer(404, problems=(f"no such path: {request.path}",))
        if request.method != "POST":
            return Answer(405, problems=(f"{request.method}, only POST is allowed",))
        authorization = request.headers.get("authorization", "")
        if not authorization.startswith("Bearer "):
            return Answer(401, problems=("Authorization: Bearer <key> is missing",))
        if script.revoked or not hmac.compare_digest(authorization[7:].encode(), script.key.encode()):
            return Answer(401)
        content_type = request.headers.get("content-type", "")
        if content_type != _JSON:
            return _invalid(415, (f"Content-Type: {content_type or 'missing'}, must be {_JSON}",))
        key = _KEY.match(request.headers.get("idempotency-key", ""))
        problems = _header_problems(request)
        if problems or key is None:
            return _invalid(400, problems)
        if path == "/events":
            read = self.events.read(request.body, script)
            accepted = Answer(201, orjson.dumps({"event_id": f"evt-{uuid.uuid5(_EVENT_NAMESPACE, key[1])}"}), _JSON)
        else:
            read = self.feed.read(request.body, script)
            accepted = Answer(202)
        if isinstance(read, Refusal):
            refused = _refused(read)
            return replace(refused, problems=()) if _asks_about_the_key(request) else refused
        return Call(tuple(order_id for order_id, _ in read.entries), key[1], partial(_take, read, accepted))

    def refuse(self, status: int, problem: str) -> Answer:
        if status in (401, 403, 409, 429) or status >= 500:
            return Answer(status)
        return _invalid(status, (problem,))

    def contents(self) -> object:
        return {"events": self.events.contents(), "feed": self.feed.contents()}


def _asks_about_the_key(request: Request) -> bool:
    """True for the request of `hakuna-processor check`: its body is empty on purpose, so that the API checks the key
    and then refuses it. That counts as no mistake."""
    asks = request.headers.get("user-agent", "") == "hakuna-processor-check"
    return asks and request.body in (b"{}", b"[]")


def _header_problems(request: Request) -> tuple[str, ...]:
    problems = []
    if _KEY.match(request.headers.get("idempotency-key", "")) is None:
        problems.append(
            'Idempotency-Key: must be a string in double quotes, such as "8e03978e", of 1 to 255 characters'
        )
    version = request.headers.get("hakuna-version")
    if version not in VERSIONS:
        problems.append(f"Hakuna-Version: {version or 'missing'}, must be one of {', '.join(VERSIONS)}")
    if not request.headers.get("user-agent"):
        problems.append("User-Agent: missing")
    traceparent = request.headers.get("traceparent")
    if traceparent is not None and _TRACEPARENT.match(traceparent) is None:
        problems.append(f"traceparent: {traceparent} is not valid")
    return tuple(problems)


def _take(read: WellFormed, accepted: Answer) -> Answer:
    refusal = read.take()
    return replace(accepted, accepted=read.entries) if refusal is None else _refused(refusal)


def _invalid(status: int, problems: tuple[str, ...]) -> Answer:
    return _error(status, Code.INVALID_REQUEST_PARAMETERS, problems, problems)


def _refused(refusal: Refusal) -> Answer:
    mistakes = refusal.problems if refusal.code is Code.INVALID_REQUEST_PARAMETERS else ()
    return _error(refusal.status, refusal.code, refusal.problems, mistakes)


def _error(status: int, code: Code, validation_errors: tuple[str, ...], mistakes: tuple[str, ...]) -> Answer:
    body = orjson.dumps({"error": {"error_code": code, "validation_errors": validation_errors}})
    return Answer(status, body, _JSON, code.value, mistakes)

"""endpoint: the seam to HTTP. It sends a destination's request, and reports an `Answer` or why there is none.

    post ─► Transport.exchange ─► the receiver ─► `ended`, once, never from inside `post`

The composition root chooses the transport (`processor/edges/http/exchange.py`). The sender reads the status of an
answer, the beginning of its body, and the few headers that verdicts need. Advice on accepted requests is read only now
and then: a server whose quota is used up gives it on every answer.

Owned by the sender's event loop. Not chosen: `httpx.AsyncClient` (129 µs a request over a transport that does nothing;
it also follows redirects, keeps cookies and reads the environment); a task for each request (a quarter of an entry's
CPU).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import httpx

from processor.api.bodies import strange
from processor.api.verdicts import NO_HEADERS, Answer, NoAnswer, kept
from processor.interfaces import Clock
from processor.send.destination import RawHeaders, Request

_LOOK_EVERY_S: Final = 0.02
_TROUBLE_CHARS_MAX: Final = 300
_METHODS_AND_PATHS_MAX: Final = 64
"""Paths are constants of a destination; one made from data would fill memory with templates."""


class Exchange(Protocol):
    """A request under way."""

    def abandon(self, receiver: Any) -> None: ...


class Transport(Protocol):
    """The part of a transport that this module uses (`processor/edges/http/exchange.py`)."""

    def exchange(self, template: Any, content: bytes, headers: RawHeaders, receiver: Any) -> Exchange: ...
    def fields(self, head: Any) -> RawHeaders: ...


Templates = Callable[[str, httpx.URL, RawHeaders, Mapping[str, float | None]], Any]
"""Makes a template (`processor/edges/http/request.py`) for method, URL, headers and timeouts by phase (and
`total`), in seconds."""


Heard = Answer | NoAnswer | Exception
"""The end of a request. An exception here is our own mistake, not the transport's."""

WhatT = TypeVar("WhatT")


class Posted(Generic[WhatT]):
    """One request under way, and the receiver of its answer. Mutable: `exchange`, the transport's part of it."""

    __slots__ = ("_ended", "_endpoint", "_what", "exchange")

    def __init__(self, endpoint: Endpoint, what: WhatT, ended: Callable[[WhatT, Heard], None]) -> None:
        self._endpoint = endpoint
        self._what = what
        self._ended = ended
        self.exchange: Exchange | None = None

    def answered(self, status: int, head: Any, body: bytes, truncated: bool) -> None:
        self._ended(self._what, self._endpoint.answer(status, head, body))

    def failed(self, error: Exception) -> None:
        self._ended(self._what, self._endpoint.no_answer(error))

    def give_up(self) -> None:
        """Gives the request up: `ended` is not called."""
        if self.exchange is not None:
            self.exchange.abandon(self)


class Endpoint:
    """One base URL behind one transport.

    Mutable. `_templates` by method and path, with the headers of the present key; `trouble` is the last reason for a
    missing answer.
    """

    def __init__(
        self, transport: Transport, templates: Templates, base_url: str, request_s_max: float, clock: Clock
    ) -> None:
        self._transport = transport
        self._make = templates
        self._base_url = base_url
        self._timeouts = {"connect": 5.0, "write": 10.0, "read": request_s_max, "pool": 10.0, "total": request_s_max}
        self._clock = clock
        self._common: RawHeaders = ()
        self._templates: dict[tuple[str, str], Any] = {}
        self._look_at_s = 0.0
        self.trouble: str | None = None

    def use(self, headers: RawHeaders) -> None:
        """Sets the headers of all later requests."""
        self._common = headers
        self._templates.clear()

    def post(self, request: Request, what: WhatT, ended: Callable[[WhatT, Heard], None]) -> Posted[WhatT]:
        """Sends a request, and calls `ended(what, …)` once, later. Never raises: an exception of the transport is a
        reason for a missing answer."""
        method, path, body, headers = request
        template = self._templates.get((method, path)) or self._template(method, path)
        posted = Posted(self, what, ended)
        try:
            posted.exchange = self._transport.exchange(template, body, headers, posted)
        except Exception as error:
            asyncio.get_running_loop().call_soon(posted.failed, error)
        return posted

    def answer(self, status: int, head: Any, body: bytes) -> Answer:
        """Returns the part of an answer that is read."""
        if strange(body) or self._is_advice_due(status):
            return Answer(status, kept(self._transport.fields(head)), body)
        return Answer(status, NO_HEADERS, body)

    def no_answer(self, error: Exception) -> NoAnswer | Exception:
        reason = no_answer(error)
        if reason is None:
            return error
        self.trouble = f"{type(error).__name__}: {error}"[:_TROUBLE_CHARS_MAX]
        return reason

    def _is_advice_due(self, status: int) -> bool:
        if not 200 <= status < 300:
            return True
        now_s = self._clock.monotonic_s()
        if now_s < self._look_at_s:
            return False
        self._look_at_s = now_s + _LOOK_EVERY_S
        return True

    def _template(self, method: str, path: str) -> Any:
        assert len(self._templates) < _METHODS_AND_PATHS_MAX, "paths made from data"
        template = self._make(method, httpx.URL(self._base_url + path), self._common, self._timeouts)
        self._templates[method, path] = template
        return template


def no_answer(error: Exception) -> NoAnswer | None:
    """Returns what an exception of a transport means; None if it is a mistake of ours."""
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return NoAnswer.TIMEOUT
    if isinstance(error, (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError, OSError)):
        return NoAnswer.CONNECTION
    return None

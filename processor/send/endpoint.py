"""endpoint: the seam to HTTP. A destination's request out, an `Answer` or the reason why there is none back.

The seam is httpx's transport interface, called directly: what stands behind it is chosen by the composition
root. Of an answer the sender reads the status, at most 64 KiB of the body, and the few headers that are
advice. Advice on an accepted request is read now and then only: a server whose quota is used up says so on
every answer.

Owned by the sender's event loop. Not chosen: `httpx.AsyncClient` (129 µs a request over a transport that does
nothing; it also follows redirects, keeps cookies and reads the environment).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import httpx

from processor.advice import ADVICE_HEADERS
from processor.interfaces import Clock
from processor.send.destination import RawHeaders, Request
from processor.verdicts import BODY_BYTES_MAX, NO_HEADERS, Answer, NoAnswer

_LOOK_EVERY_S: Final = 0.02
_TROUBLE_CHARS_MAX: Final = 300
_METHODS_AND_PATHS_MAX: Final = 64
"""Paths are constants of a destination; one made from data would fill memory with templates."""


class Template(Protocol):
    """What the requests to one URL have in common (`processor/edges/http_request.py`)."""

    def build(self, content: bytes, extra_headers: RawHeaders = ()) -> httpx.Request:
        """Raises httpx.LocalProtocolError for a header that is none."""


Templates = Callable[[str, httpx.URL, RawHeaders, Mapping[str, float | None]], Template]
"""Makes a template for method, URL, headers and timeouts by phase (and `total`), in seconds."""


class Endpoint:
    """One base URL behind one transport.

    Mutable. `_templates` by method and path, for the headers of today's key; `trouble` is why the last
    request without an answer had none.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        templates: Templates,
        base_url: str,
        request_s_max: float,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._make = templates
        self._base_url = base_url
        self._timeouts = {"connect": 5.0, "write": 10.0, "read": request_s_max, "pool": 10.0, "total": request_s_max}
        self._clock = clock
        self._common: RawHeaders = ()
        self._templates: dict[tuple[str, str], Template] = {}
        self._look_at_s = 0.0
        self.trouble: str | None = None

    def use(self, headers: RawHeaders) -> None:
        """What all requests have in common, from now on."""
        self._common = headers
        self._templates.clear()

    async def post(self, request: Request) -> Answer | NoAnswer:
        """Total: whatever the transport raises is a reason why there is no answer."""
        method, path, body, headers = request
        template = self._templates.get((method, path)) or self._template(method, path)
        try:
            response = await self._transport.handle_async_request(template.build(body, headers))
            content = response.content if response.is_stream_consumed else await _read(response)
        except Exception as error:
            reason = no_answer(error)
            if reason is None:
                raise
            self.trouble = f"{type(error).__name__}: {error}"[:_TROUBLE_CHARS_MAX]
            return reason
        status = response.status_code
        if 200 <= status < 300:
            now_s = self._clock.monotonic_s()
            if now_s < self._look_at_s:
                return Answer(status, NO_HEADERS, content)
            self._look_at_s = now_s + _LOOK_EVERY_S
        return Answer(status, _advice(response), content)

    def _template(self, method: str, path: str) -> Template:
        assert len(self._templates) < _METHODS_AND_PATHS_MAX, "paths made from data"
        template = self._make(method, httpx.URL(self._base_url + path), self._common, self._timeouts)
        self._templates[method, path] = template
        return template


def no_answer(error: Exception) -> NoAnswer | None:
    """What an exception of a transport means; None where it is no transport's, but a mistake of ours."""
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return NoAnswer.TIMEOUT
    if isinstance(error, (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError, OSError)):
        return NoAnswer.CONNECTION
    return None


def _advice(response: httpx.Response) -> Mapping[str, str]:
    return {name: value for name, value in response.headers.items() if name in ADVICE_HEADERS} or NO_HEADERS


async def _read(response: httpx.Response) -> bytes:
    """At most BODY_BYTES_MAX; the rest is left where it is, and the connection with it."""
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= BODY_BYTES_MAX:
                break
        return bytes(body[:BODY_BYTES_MAX])
    finally:
        await response.aclose()

"""Requests as bytes: a cheap one for the sender's hot path, and any request of httpx's.

A request from a `RequestTemplate` is an `httpx.Request` that any transport takes; ours writes its `wire` as it is. The
head of a request holds only tokens, a visible target and field values (RFC 9110 section 5.5). So no order ID and no
trace header can smuggle in a header or a second request.

CPU µs a request, Python 3.11 (`python -m tests.benchmarks.http_clients --parts`):

    Request(method, str, headers=dict of str, content=)   46    Request(..., raw headers, stream=), render  16
    Request(method, URL, headers=raw list, content=)      18    RequestTemplate.build()                      3
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

RawHeaders = Sequence[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = rb"(?:" + _TOKEN + rb": (?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)"
_FIELDS = re.compile(_FIELD + rb"*")
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]+ HTTP/1\.1\r\n")
_NAME_BYTES = bytes(byte for byte in range(256) if re.fullmatch(_TOKEN, bytes([byte])))
_VALUE_BYTES = b"\t " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
_FRAMING = (b"content-length", b"transfer-encoding")
_WITH_BODY = ("POST", "PUT", "PATCH")


class PreparedRequest(httpx.Request):
    """A request whose bytes are made; not to be changed. What else httpx asks for is made when it asks.

    Not `super().__init__`: it would take 4 µs to fill in what `wire` has already.
    """

    def __init__(self, template: RequestTemplate, wire: bytes, content: bytes, extra: RawHeaders) -> None:
        self.method = template.method
        self.url = template.url
        self.extensions = template.extensions
        self.wire = wire
        self.origin = template.origin
        self._content = content
        self._made = (template, extra)

    @property
    def own_headers(self) -> RawHeaders:
        """Those that this request has beside its template's, as they were given."""
        return self._made[1]

    @property
    def headers(self) -> httpx.Headers:  # type: ignore[override]  # httpx has an attribute; ours is for reading
        template, extra = self._made
        return httpx.Headers([*template.headers, (b"Content-Length", b"%d" % len(self._content)), *extra])

    @property
    def stream(self) -> httpx.ByteStream:  # type: ignore[override, mutable-override]  # as above
        return httpx.ByteStream(self._content)


class RequestTemplate:
    """What the requests to one URL have in common. `headers` are without Host and Content-Length."""

    def __init__(self, method: str, url: httpx.URL, headers: RawHeaders,
                 timeouts: Mapping[str, float | None] | None = None) -> None:  # fmt: skip
        assert not any(name.lower() in (*_FRAMING, b"host") for name, _ in headers)
        self.method = method
        self.url = url
        self.origin = (url.raw_scheme, url.raw_host, url.port)
        self.headers: RawHeaders = ((b"Host", url.netloc), *headers)
        self.timeouts = dict(timeouts or {})
        self.extensions: dict[str, Any] = {} if timeouts is None else {"timeout": self.timeouts}
        self._start = _head(method, url, self.headers) + b"Content-Length: "

    def build(self, content: bytes, extra_headers: RawHeaders = ()) -> PreparedRequest:
        """Raises httpx.LocalProtocolError for a header that is none."""
        return PreparedRequest(self, self.wire(content, extra_headers), content, extra_headers)

    def wire(self, content: bytes, extra_headers: RawHeaders = ()) -> bytes:
        """The whole request as bytes. Raises httpx.LocalProtocolError for a header that is none."""
        extra = b""
        for name, value in extra_headers:
            # `_FIELD` in another form: 0.2 µs where the pattern takes 1.
            if not name or name.translate(None, _NAME_BYTES) or value.translate(None, _VALUE_BYTES):
                raise httpx.LocalProtocolError("illegal header name or value")
            if value != value.strip(b" \t"):
                raise httpx.LocalProtocolError("a header's value begins or ends with a space")
            extra += b"%b: %b\r\n" % (name, value)
        return b"%b%d\r\n%b\r\n%b" % (self._start, len(content), extra, content)


async def render(request: httpx.Request) -> bytes:
    """Any request, whole; a streamed body is read first. Raises httpx.LocalProtocolError."""
    content = await request.aread()
    length = b"%d" % len(content)
    headers = []
    framed, named = bool(content) or request.method in _WITH_BODY, False
    for header in request.headers.raw:
        lower = header[0].lower()
        if lower in _FRAMING:
            framed = True
            if lower == b"content-length" and header[1] != length:
                raise httpx.LocalProtocolError("Content-Length is not the length of the body")
        else:
            named = named or lower == b"host"
            headers.append(header)
    if not named:
        raise httpx.LocalProtocolError("Missing mandatory Host: header")
    if framed:
        headers.append((b"Content-Length", length))
    return _head(request.method, request.url, headers) + b"\r\n" + content


def _head(method: str, url: httpx.URL, headers: RawHeaders) -> bytes:
    line = b"%b %b HTTP/1.1\r\n" % (method.encode("utf-8"), url.raw_path)
    fields = b"".join([b"%b: %b\r\n" % header for header in headers])
    if _REQUEST_LINE.fullmatch(line) is None:
        raise httpx.LocalProtocolError("illegal method or target")
    if _FIELDS.fullmatch(fields) is None or fields.count(b"\n") != len(headers):
        raise httpx.LocalProtocolError("illegal header name or value")
    return line + fields

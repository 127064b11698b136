"""bodies: reads the body of an answer in any wrapping: compression, a byte order mark, UTF-16, HTML, a cut.

Pure and total: `read` takes any bytes. Compressed bodies are taken apart up to `BODY_BYTES_MAX` and no further.

    gzip, deflate ─► bytes ─► BOM, charset ─► text ─┬─► JSON: `json`, and `code` and `errors` at either level
                                                    ├─► JSON that was cut: the same, as far as it goes
                                                    ├─► HTML: `html`
                                                    └─► anything else
                                    in all cases: `words`, its first words without a customer's data

An API's error envelope is `{"error": {"error_code": …, "validation_errors": […]}}`, or the inner object alone, or
`error_code` beside an `error` that is a text; it may be the only element of an array. `words` keep a sentence and hide
its quotations: text between quotes, an e-mail address, a long number, a key. In JSON only fields that explain are
shown; a field that may repeat the request is hidden. `errors` are kept as they are, except for a key.

A body of another encoding is named with its size. Not chosen: brotli and zstd (nobody sends them unasked).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from html import unescape
from typing import Any, Final

import msgspec

from processor.api.credentials import KEY_LIKE

BODY_BYTES_MAX: Final = 64 * 1024
"""The most that is read of an answer's body: more is a mistake of the server, and costs our memory."""
WORDS_CHARS_MAX: Final = 500
FIRST_WORDS_CHARS_MAX: Final = 120
"""The part of the words that a log line and `/readyz` show."""
ERROR_CODE_CHARS_MAX: Final = 200
VALIDATION_ERRORS_MAX: Final = 50
VALIDATION_ERROR_CHARS_MAX: Final = 500
"""They become headers of a dead letter: a page of HTML within JSON must not make a record that no broker takes."""

_FIREWALL: Final = "x-amzn-waf-action"
"""AWS WAF answers in an API's place with 202 (`challenge`) or 405 (`captcha`), often without a body."""
HEADERS: Final = frozenset({"content-type", "content-encoding", "server", "location", _FIREWALL})
"""The headers of an answer that are needed to read its body, in lower case."""

_GZIP: Final = b"\x1f\x8b"
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9_.:-]{1,40})")
_ENCODINGS_MAX: Final = 3
_UNREAD: Final = re.compile(r"\b(?:br|zstd|dcb|dcz|compress|x-compress)\b")

_MARKUP: Final = re.compile(
    r"<(?:\?xml[^<>]{0,200}>\s*<)?"
    r"(?:!doctype html|!--|/?(?:html|head|title|body|script|noscript|style|link|base|iframe|frameset|meta|h[1-6]|div|p"
    r"|main|header|nav|section|span|center|font|form|input|table|ul|pre|img|hr|a|b|strong|br)[\s/>])",
    re.IGNORECASE,
)
_UNSEEN: Final = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<[^>]{0,2000}>", re.IGNORECASE | re.DOTALL)
_TITLE: Final = re.compile(r"<title[^>]{0,200}>(.{0,300}?)</title", re.IGNORECASE | re.DOTALL)
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f]+")

_CODE: Final = re.compile(r'"error_code"\s*:\s*"((?:[^"\\]|\\.){1,400})"')
_ERRORS: Final = re.compile(r'"validation_errors"\s*:\s*\[')
_TEXT: Final = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*,?')

_QUOTED: Final = re.compile(
    r"""(?P<q>["`])(?:(?!(?P=q)).)*(?P=q)"""
    r"""|(?<!\w)'(?:(?!'(?!\w)).)*'(?!\w)"""
    r"""|\S+@\S+"""
    rf"|{KEY_LIKE}"
    r"""|\d{5,}|\+?\d[\d ./-]{6,}\d"""
)
_KEY: Final = re.compile(KEY_LIKE)
_HIDDEN: Final = "•••"
_EXPLAINING: Final = frozenset(
    {"message", "messages", "error", "errors", "error_description", "description", "detail", "details", "title", "type"}
    | {"msg", "reason", "code", "error_code", "status", "statuscode", "status_code", "name", "loc", "location"}
    | {"path", "field", "pointer", "property", "constraints", "validation_errors", "method", "param", "in", "hint"}
    | {"fault", "faultstring", "errorcode"}
)
"""Fields whose texts explain: Nest, FastAPI, RFC 9457, JSON:API, Express, Apigee. Not `input` and the like."""
_DEPTH_MAX: Final = 6
_ITEMS_MAX: Final = 20

NO_ROUTE: Final = re.compile(
    r'"(?:no route\b|cannot (?:post|put|delete) /|unable to identify proxy\b|(?:the )?(?:requested )?'
    r"(?:url|path|page|route|endpoint)(?: \S{1,200})? (?:was |could )?not (?:be )?found\b)",
    re.IGNORECASE,
)
"""The JSON of gateways and frameworks for a wrong address: Kong, Apigee, Nest, Fastify."""

_NO_JSON: Final = object()


class Body(msgspec.Struct, frozen=True):
    """A body: `json` an object or array, cut or not; `envelope` in the form of the API's errors; `words` masked, at
    most WORDS_CHARS_MAX characters; `value` of whole JSON, otherwise None."""

    json: bool
    html: bool
    envelope: bool
    code: str | None
    errors: tuple[str, ...]
    words: str
    value: Any = None


def read(body: bytes, headers: Mapping[str, str]) -> Body:
    """Returns what a body says. `headers` are the answer's, by lower-case name."""
    if (encoding := _UNREAD.search(headers.get("content-encoding", "").lower())) is not None and body[:2] != _GZIP:
        html = "html" in headers.get("content-type", "").lower()
        return Body(False, html, False, None, (), f"{len(body)} bytes encoded as {encoding[0]}")
    data = _unpacked(body, headers.get("content-encoding", ""))
    text = _text(data, headers.get("content-type", "")).strip()
    value, whole = _json(text)
    if value is not _NO_JSON:
        return _of_json(value)
    html = _is_html(text, headers.get("content-type", ""))
    if not whole and not html and text[:1] in ("{", "["):
        code = _CODE.search(text)
        errors = _cut_errors(text)
        said = None if code is None else _unescaped(code[1])
        return Body(True, False, bool(said or errors), said and said[:ERROR_CODE_CHARS_MAX], errors, _masked(text))
    return Body(False, html, False, None, (), _page(text) if html else _masked(text))


def strange(body: bytes) -> bool:
    """True if the answer to an accepted request has to be looked at: its body does not begin as JSON does."""
    return body[:1] not in (b"{", b"[")


def is_a_firewalls(headers: Mapping[str, str]) -> bool:
    """True if a firewall says that it answered in the API's place."""
    return _FIREWALL in headers


def sent_by(headers: Mapping[str, str]) -> str:
    """Returns who answered, if the headers say so: `Server nginx/1.22.1`, and where a redirect leads."""
    server = _SPACE.sub(" ", headers.get("server", ""))[:60]
    to = re.match(r"(https?://[^/?#@\s]{1,100})(?:[/?#]|$)", headers.get("location", ""))
    firewall = re.match(r"[a-z-]{1,40}", headers.get(_FIREWALL, ""))
    said = [server and f"Server {server}", firewall and f"AWS WAF wants a {firewall[0]}", to and f"to {to[1]}"]
    return ", ".join(one for one in said if one)


def _unpacked(body: bytes, encodings: str) -> bytes:
    """Returns the body without compression if it can be undone; at most BODY_BYTES_MAX."""
    names = [name.strip().lower() for name in encodings.split(",")][-_ENCODINGS_MAX:]
    for name in reversed(names):
        if name in ("gzip", "x-gzip", "deflate"):
            body = _inflated(body)
    return _inflated(body) if body[:2] == _GZIP else body


def _inflated(body: bytes) -> bytes:
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib, by its first bytes; raw, as some send
        try:
            return zlib.decompressobj(window).decompress(body, BODY_BYTES_MAX)
        except zlib.error:
            continue
    return body


def _text(data: bytes, content_type: str) -> str:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, "replace")
    named = _CHARSET.search(content_type)
    charset = named[1].lower() if named is not None else ""
    if charset.startswith("utf-16") or data[1:2] == b"\0":
        return data.decode("utf-16-be" if data[:1] == b"\0" or charset.endswith("be") else "utf-16-le", "replace")
    if data[:1] == b"\0":
        return data.decode("utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        if wrong.start >= len(data) - 3:  # cut in the midst of a character
            return data.decode("utf-8", "ignore")
        return data.decode("latin-1")


def _json(text: str) -> tuple[Any, bool]:
    """Returns the object or array at the beginning of the text, and false if it does not end. Ignores later text."""
    if text[:1] not in ("{", "["):
        return _NO_JSON, True
    try:
        return json.JSONDecoder().raw_decode(text)[0], True
    except (ValueError, RecursionError):
        return _NO_JSON, False


def _of_json(value: Any) -> Body:
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    outer = one if isinstance(one, dict) else {}
    error = outer.get("error")
    inner = error if isinstance(error, dict) else {}
    code = next((one for one in (inner.get("error_code"), outer.get("error_code")) if isinstance(one, str) and one), "")
    errors = inner.get("validation_errors", outer.get("validation_errors"))
    envelope = bool(code) or bool(errors) or bool(inner.keys() & {"error_code", "validation_errors"})
    words = "" if value in ({}, []) else json.dumps(_explained(value, 0), ensure_ascii=False)[:WORDS_CHARS_MAX]
    return Body(True, False, envelope, code[:ERROR_CODE_CHARS_MAX] or None, _texts(errors), words, value)


def _texts(errors: Any) -> tuple[str, ...]:
    if errors is None:
        return ()
    listed = errors if isinstance(errors, list) else [errors]
    some = listed[:VALIDATION_ERRORS_MAX]
    texts = (one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in some)
    return tuple(map(_kept, texts))


def _kept(error: str) -> str:
    return _KEY.sub(_HIDDEN, error)[:VALIDATION_ERROR_CHARS_MAX]


def _cut_errors(text: str) -> tuple[str, ...]:
    """Returns the whole errors of a cut body."""
    found = _ERRORS.search(text)
    at = found.end() if found is not None else len(text)
    errors: list[str] = []
    while len(errors) < VALIDATION_ERRORS_MAX and (one := _TEXT.match(text, at)) is not None:
        errors.append(_kept(_unescaped(one[1])))
        at = one.end()
    return tuple(errors)


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _explained(value: Any, depth: int, shown: bool = True) -> Any:
    """Returns a body's shape, with the texts of the fields that explain."""
    if depth > _DEPTH_MAX:
        return _HIDDEN
    match value:
        case dict():
            return {
                str(name)[:60]: _explained(inner, depth + 1, str(name).lower() in _EXPLAINING)
                for name, inner in list(value.items())[:_ITEMS_MAX]
            }
        case list():
            return [_explained(inner, depth + 1, shown) for inner in value[:_ITEMS_MAX]]
        case str():
            return _masked(value) if shown else _HIDDEN
        case bool() | None:
            return value
        case _:
            return value if shown or abs(value) < 1000 else _HIDDEN


def _is_html(text: str, content_type: str) -> bool:
    return _MARKUP.match(text) is not None or (
        "html" in content_type.lower() and _MARKUP.search(text[:2048]) is not None
    )


def _page(text: str) -> str:
    title = _TITLE.search(text)
    seen = _UNSEEN.sub(" ", text[:16_384])
    said = [title[1] if title is not None else "", seen]
    return _masked(unescape(": ".join(part.strip() for part in said if part.strip())))


def _masked(text: str) -> str:
    """Returns the first words of a text, without its quotations."""
    flat = _SPACE.sub(" ", text[: 4 * WORDS_CHARS_MAX]).strip()
    return _QUOTED.sub(_HIDDEN, flat)[:WORDS_CHARS_MAX]

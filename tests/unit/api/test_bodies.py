"""What a body says, however it is wrapped, and how little of a hostile one is taken."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.api.bodies import BODY_BYTES_MAX, VALIDATION_ERROR_CHARS_MAX, WORDS_CHARS_MAX, _unpacked, read, strange

CODED = b'{"error": {"error_code": "cancel_decline", "validation_errors": ["too late", "shipped"]}}'


def _gzipped(data: bytes) -> bytes:
    """Without the time in it: the names of tests are the same in every process of a run."""
    return gzip.compress(data, mtime=0)


def deflated(data: bytes) -> bytes:
    """Raw, without zlib's head, as some servers send it."""
    packed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packed.compress(data) + packed.flush()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (CODED, {}),
        (_gzipped(CODED), {"content-encoding": "gzip"}),
        (_gzipped(CODED), {}),
        (zlib.compress(CODED), {"content-encoding": "deflate"}),
        (deflated(CODED), {"content-encoding": "deflate"}),
        (_gzipped(_gzipped(CODED)), {"content-encoding": "gzip, x-gzip"}),
        (_gzipped(CODED + b" " * 5_000)[:-6], {"content-encoding": "gzip"}),
        (CODED, {"content-encoding": "gzip"}),
        (b"\xef\xbb\xbf" + CODED, {}),
        (CODED.decode().encode("utf-16"), {}),
        (CODED.decode().encode("utf-16-be"), {"content-type": "application/json; charset=utf-16be"}),
        (CODED.decode().encode("utf-16-le"), {}),
        (CODED + b"\n<!-- served by web-3 -->", {}),
        (CODED[:-1] + b', "name": "M\xfcller"}', {}),
        (CODED[:-1] + b', "emoji": "\\ud83d"}', {}),
        (CODED[:-1] + b', "echo": "' + b"x" * BODY_BYTES_MAX, {}),
        (b'{"error": "Bad Request", "error_code": "cancel_decline", "validation_errors": ["too late", "shipped"]}', {}),
        (b'{"error": {"at": 1}, "error_code": "cancel_decline", "validation_errors": ["too late", "shipped"]}', {}),
    ],
)
def test_the_code_and_the_errors_are_found_however_the_body_is_wrapped(body: bytes, headers: dict[str, str]) -> None:
    found = read(body, headers)
    assert (found.json, found.envelope, found.code) == (True, True, "cancel_decline")
    assert found.errors == ("too late", "shipped")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"statusCode":400,"message":["zip must be a string"],"error":"Bad Request"}',
            '{"statusCode": 400, "message": ["zip must be a string"], "error": "Bad Request"}',
        ),
        (
            b'{"detail":[{"type":"missing","loc":["body","zip"],"msg":"Required","input":{"city":"Aachen"}}]}',
            '{"detail": [{"type": "missing", "loc": ["body", "zip"], "msg": "Required", "input": {"city": "•••"}}]}',
        ),
        (
            b'{"type":"about:blank","title":"Bad","status":400,"detail":"zip \'52062\' is wrong","instance":"/x"}',
            '{"type": "about:blank", "title": "Bad", "status": 400, "detail": "zip ••• is wrong", "instance": "•••"}',
        ),
        (b"400 Bad Request: max@example.com is not known", "400 Bad Request: ••• is not known"),
        (b"call +49 160 1234567 now", "call ••• now"),
        (b"no such key: sk_live_abcd, go away", "no such key: •••, go away"),
        (b"401: Authorization: Bearer abc1def is unknown", "401: Authorization: ••• is unknown"),
        (b"Basic authentication required, a token missing", "Basic authentication required, a token missing"),
        (
            b"<html><head><title>404 Not Found</title><style>p{}</style></head><body><h1>404</h1></body></html>",
            "404 Not Found: 404",
        ),
        (b"", ""),
    ],
)
def test_what_could_not_be_read_is_kept_in_masked_words(body: bytes, words: str) -> None:
    assert read(body, {}).words == words


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "BR"])
def test_a_body_of_an_encoding_that_is_not_read_is_named_with_its_size_and_shows_nothing(encoding: str) -> None:
    found = read(b"\x0b\x02\x80Max Mustermann\x03", {"content-encoding": encoding, "content-type": "text/html"})
    assert found.words == f"18 bytes encoded as {encoding.lower().removeprefix('gzip, ')}"
    assert (found.json, found.html, found.code) == (False, True, None), "a page, as far as its header says"


@pytest.mark.parametrize("cut", [False, True])
def test_a_key_among_the_errors_is_not_kept(cut: bool) -> None:
    """They become a header of a dead letter."""
    body = b'{"error_code": "x", "validation_errors": ["Authorization: Bearer abc1def", "zip"], "more": {}}'
    assert read(body[:-5] if cut else body, {}).errors == ("Authorization: •••", "zip")


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><title>Sign in</title>",
        b"\n\n  <HTML lang=en>",
        b"<!-- Sorry -->\n<html>",
        b"<h1>It works</h1>",
        _gzipped(b"<html><body>maintenance</body></html>"),
        "<html>".encode("utf-16"),
    ],
)
def test_html_is_known_by_its_first_tag(body: bytes) -> None:
    assert read(body, {}).html


@pytest.mark.parametrize("body", [b"OK", b"<3 thanks", b"<ok/>", b"1 < 2", b"{}", b"accepted: <evt-1>"])
def test_what_is_no_page_is_none(body: bytes) -> None:
    assert not read(body, {"content-type": "text/html"}).html


def test_text_before_the_markup_is_a_page_where_the_header_says_so() -> None:
    body = b"Please wait <form action=/login>"
    assert read(body, {"content-type": "text/html"}).html
    assert not read(body, {}).html


@pytest.mark.parametrize("tag", ["noscript", "section", "main", "header", "link rel=x", "frameset", "ul", "/pre"])
def test_a_page_is_known_by_whatever_tag_it_begins_with(tag: str) -> None:
    assert read(f"<{tag}>".encode(), {}).html


@pytest.mark.parametrize(("body", "looked_at"), [(b"", True), (b"{}", False), (b"[]", False), (b"OK", True)])
def test_of_an_accepted_answer_only_what_is_no_json_is_looked_at(body: bytes, looked_at: bool) -> None:
    assert strange(body) == looked_at


def bomb(times: int) -> bytes:
    """Zeros, compressed again and again."""
    data = b"\0" * 30_000_000
    for _ in range(times):
        data = gzip.compress(data, 6, mtime=0)
    return data


HOSTILE = {
    "compressed without end": (bomb(1)[:BODY_BYTES_MAX], {"content-encoding": "gzip"}),
    "compressed twice": (bomb(2), {"content-encoding": "gzip, gzip"}),
    "a hundred encodings": (b"x", {"content-encoding": ",".join(["gzip"] * 20_000)}),
    "deep JSON": (b"[" * BODY_BYTES_MAX, {}),
    "deep JSON in an object": (b'{"error":' * 7_000, {}),
    "JSON as deep as can be read": (b"[" * 600 + b"]" * 600, {}),
    "an open string": (b'{"error_code": "' + b"\\" * 60_000, {}),
    "many quotes": (b'"' * BODY_BYTES_MAX, {}),
    "many tags": (b"<" * BODY_BYTES_MAX, {"content-type": "text/html"}),
    "many open tags": (b"<html>" + b"<script " * 8_000, {}),
    "many titles": (b"<title>" * 9_000, {}),
    "many errors": (b'{"validation_errors": [' + b'"a",' * 16_000, {}),
    "a long error": (b'{"validation_errors": ["' + b"a " * 30_000 + b'"]}', {}),
    "many digits": (b"1 2.3-4/" * 8_000, {}),
    "at signs": (b"a@" * 32_000, {}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_takes_little_time_and_leaves_few_words(name: str) -> None:
    body, headers = HOSTILE[name]
    before_s = time.process_time()
    found = read(body[:BODY_BYTES_MAX], headers)
    assert time.process_time() - before_s < 0.5
    assert len(found.words) <= WORDS_CHARS_MAX
    assert len(found.errors) <= 50
    assert max(map(len, found.errors), default=0) <= VALIDATION_ERROR_CHARS_MAX


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 40_000)), max_size=4),
    st.lists(st.sampled_from(["gzip", "deflate"]), max_size=3),
    st.integers(0, 30),
    st.integers(0, 255),
)
def test_whatever_a_body_inflates_to_no_more_of_it_is_taken_than_of_any(
    parts: list[tuple[bytes, int]], encodings: list[str], cut: int, flip: int
) -> None:
    """Runs of a megabyte, packed up to three times, cut, and with a byte that is wrong."""
    body = b"".join(part * times for part, times in parts)
    for encoding in encodings:
        body = _gzipped(body) if encoding == "gzip" else zlib.compress(body)
    damaged = bytearray(body[: len(body) - cut][:BODY_BYTES_MAX])
    if damaged:
        damaged[flip % len(damaged)] ^= flip
    assert len(_unpacked(bytes(damaged), ", ".join(encodings))) <= BODY_BYTES_MAX
    assert len(read(bytes(damaged), {"content-encoding": ", ".join(encodings)}).words) <= WORDS_CHARS_MAX


@settings(max_examples=300)
@given(
    st.binary(max_size=300) | st.text(max_size=200).map(str.encode) | st.binary(max_size=100).map(gzip.compress),
    st.sampled_from(["", "gzip", "deflate", "br", "gzip, deflate", "identity", ",,"]),
    st.sampled_from(["", "text/html", "application/json; charset=utf-16", "text/plain; charset=no-such"]),
)
def test_whatever_the_bytes_are_it_never_raises(body: bytes, encoding: str, kind: str) -> None:
    found = read(body, {"content-encoding": encoding, "content-type": kind})
    assert len(found.words) <= WORDS_CHARS_MAX
    json.dumps(found.errors)

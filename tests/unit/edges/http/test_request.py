"""What a template takes for a header is what the head as a whole would take."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processor.edges.http.request import _FIELDS, RequestTemplate

TEMPLATE = RequestTemplate("POST", httpx.URL("http://h/events"), [])
BYTES = st.binary(max_size=8) | st.text("aZ-~ \t\r\n\0:\x7f\x80", max_size=6).map(lambda text: text.encode("latin-1"))


@given(BYTES, BYTES)
@example(b"a", b"")
@example(b"", b"a")
@example(b"a", b" b")
@example(b"a", b"b\t")
@example(b"a", b"b\r\nc: d")
@example(b"*: ", b"!")
def test_a_header_is_taken_exactly_where_the_grammar_takes_it(name: bytes, value: bytes) -> None:
    line = b"%b: %b\r\n" % (name, value)
    # A name with a colon in it would be another name, and the rest of it a part of the value.
    allowed = _FIELDS.fullmatch(line) is not None and line.count(b"\n") == 1 and b":" not in name
    try:
        wire = TEMPLATE.wire(b"body", [(name, value)])
    except httpx.LocalProtocolError:
        assert not allowed
    else:
        assert allowed
        assert wire.endswith(line + b"\r\nbody")


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("POST", b"Authorization", b"Bearer key\r\nX-Other: of mine"),
        ("POST", b"Authorization", b"Bearer key\nX-Other: of mine"),
        ("POST", b"Authorization: Bearer key\r\nX-Other", b"of mine"),
        ("POST", b"Authorization", b"Bearer key "),
        ("POST", b"", b"Bearer key"),
        ("POST /other", b"Authorization", b"Bearer key"),
    ],
)
def test_what_all_requests_have_in_common_smuggles_nothing_either(method: str, name: bytes, value: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestTemplate(method, httpx.URL("http://h/events"), [(name, value)])

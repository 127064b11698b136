"""The header that a key is sent in."""

from __future__ import annotations

import pytest

from processor.api.credentials import auth_header
from processor.config import load
from processor.errors import Unusable
from processor.hakuna.destination import events_api, order_feed


@pytest.mark.parametrize(
    ("text", "field", "shown"),
    [
        ("Authorization", (b"Authorization", b"Bearer sk_1"), "Authorization: Bearer …"),
        ("Authorization: Token", (b"Authorization", b"Token sk_1"), "Authorization: Token …"),
        ("Authorization:", (b"Authorization", b"sk_1"), "Authorization: …"),
        ("Authorization: Basic", (b"Authorization", b"Basic c2tfMTo="), "Authorization: Basic …"),
        ("X-Api-Key", (b"X-Api-Key", b"sk_1"), "X-Api-Key: …"),
        ("Bearer", (b"Bearer", b"sk_1"), "Bearer: …"),
    ],
)
def test_any_header_and_scheme_can_carry_the_key_and_what_is_shown_never_holds_it(
    text: str, field: tuple[bytes, bytes], shown: str
) -> None:
    header = auth_header("Bearer")(text)
    assert header.field("sk_1") == field
    assert str(header) == shown
    for destination in (events_api("v1.2", "t", header), order_feed("v1.2", "t", 1, 1, 0.0, header)):
        assert field in destination.headers("sk_1")
        assert (b"Accept-Encoding", b"identity") in destination.headers("sk_1")
        assert destination.sent_as == shown


@pytest.mark.parametrize("text", ["", "two words", "Author\nization", "Host", "content-length", "X: a b", "X: ä"])
def test_what_is_no_header_for_a_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a header"):
        auth_header("Bearer")(text)


def test_each_api_has_its_own_and_its_own_default() -> None:
    settings = load({})
    assert (str(settings.hakuna_auth_header), str(settings.hako_auth_header)) == (
        "Authorization: Bearer …",
        "Authorization: Basic …",
    )
    assert str(load({"HAKO_AUTH_HEADER": "X-Api-Key"}).hako_auth_header) == "X-Api-Key: …"
    with pytest.raises(Unusable, match="HAKUNA_AUTH_HEADER"):
        load({"HAKUNA_AUTH_HEADER": "Content-Type"})

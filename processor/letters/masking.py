"""masking: shows a letter's content without personal data. Pure.

The reason of a refusal is found in the shape of an order, its IDs and its quantities, without a person's name. The
fields with personal data are known in our own payloads. In a foreign payload every text could be personal, so only its
shape and its numbers are shown.
"""

from __future__ import annotations

import re
from typing import Any, Final

from processor.api.credentials import KEY_LIKE

HIDDEN: Final = "•••"

PERSONAL: Final = frozenset(
    {"first_name", "last_name", "email", "phone", "address_line_1", "address_line_2", "city", "zip"}
)
"""Fields of a customer and an address, in the schemas and in Hakuna's payloads alike."""

_QUOTED: Final = re.compile(r"""(?P<q>["'`])(?:(?!(?P=q)).)*(?P=q)|\S+@\S+|""" + KEY_LIKE)


def masked(value: Any) -> Any:
    """Returns a payload of ours with its personal fields hidden, unless they are empty."""
    match value:
        case dict():
            return {name: HIDDEN if name in PERSONAL and inner else masked(inner) for name, inner in value.items()}
        case list():
            return [masked(inner) for inner in value]
        case _:
            return value


def masked_whole(value: Any) -> Any:
    """Returns a foreign payload with every text hidden; names, numbers and shape stay."""
    match value:
        case dict():
            return {name: masked_whole(inner) for name, inner in value.items()}
        case list():
            return [masked_whole(inner) for inner in value]
        case str() | bytes():
            return HIDDEN if value else value
        case _:
            return value


def masked_message(text: str) -> str:
    """Returns a message without what it quotes."""
    return _QUOTED.sub(HIDDEN, text)

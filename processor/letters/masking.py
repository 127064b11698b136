"""masking: a letter's content without what it says of a person. Pure.

To find the reason of a refusal one needs the shape of an order, its IDs and quantities, and nobody's name. In a
payload of ours the fields that hold personal data are known; of a stranger's every text could be one, so only its shape
and its numbers are shown.
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
    """A payload of ours: personal fields hidden where they hold anything."""
    match value:
        case dict():
            return {name: HIDDEN if name in PERSONAL and inner else masked(inner) for name, inner in value.items()}
        case list():
            return [masked(inner) for inner in value]
        case _:
            return value


def masked_whole(value: Any) -> Any:
    """A stranger's payload: every text hidden, keys, numbers and shape shown."""
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
    """Somebody's message, which may quote what it complains of."""
    return _QUOTED.sub(HIDDEN, text)

"""What Hakuna was told in one request, or why it does not want to hear it: the words shared by both of its
APIs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from processor.sandbox.apis.script import Script


class Code(StrEnum):
    """The error codes of the reference, all of them."""

    INVALID_REQUEST_PARAMETERS = "invalid_request_parameters"
    PRODUCT_UNSUPPORTED = "product_unsupported"
    LOCATION_UNSUPPORTED = "location_unsupported"
    CANCEL_DECLINE = "cancel_decline"


class Refusal(NamedTuple):
    """`problems` are sentences for people; they name fields by their path."""

    status: int
    code: Code
    problems: tuple[str, ...]


class Told(NamedTuple):
    """A well formed request. `entries` are order IDs with the bytes that are about them; `take` judges them
    by what is known of those orders, and remembers them if it returns None."""

    entries: tuple[tuple[str, bytes], ...]
    take: Callable[[], Refusal | None]


def invalid(*problems: str) -> Refusal:
    return Refusal(400, Code.INVALID_REQUEST_PARAMETERS, problems)


def unsupported(script: Script, where: str, country: str, products: list[str]) -> Refusal | None:
    """Whether the script refuses orders to that country or with one of those products."""
    if country in script.refused_countries:
        return Refusal(422, Code.LOCATION_UNSUPPORTED, (f"{where}: no protection is sold in {country}",))
    for product in products:
        if product in script.refused_products:
            return Refusal(422, Code.PRODUCT_UNSUPPORTED, (f"{where}: {product} cannot be protected",))
    return None

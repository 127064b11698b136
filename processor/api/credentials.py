"""credentials: the header in which an API's key is sent (`HAKUNA_AUTH_HEADER`, `HAKO_AUTH_HEADER`). Pure.

Authorization           Authorization: Bearer KEY   (Hako: Basic, the key as user name and no password)
Authorization: Token    Authorization: Token KEY
Authorization:          Authorization: KEY
X-Api-Key               X-Api-Key: KEY
Bearer                  Bearer: KEY                 as the examples of Hakuna's reference have it
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
KEY_LIKE: Final = r"\b(?i:bearer|basic|token)\s+(?=\S*\d)\S{6,}|\b[spr]k_\w{4,}"
"""A text that looks like a key, in the words of a server that repeats a request: it is never shown and never kept."""

_OTHERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept", "accept-encoding"}
    | {"user-agent", "hakuna-version", "idempotency-key", "traceparent", "proxy-authorization"}
)
"""Headers of a request that have another use, in lower case."""


@dataclass(frozen=True, slots=True)
class AuthHeader:
    """A header's name, and the scheme before the key (empty: the key alone)."""

    name: str
    scheme: str

    def __str__(self) -> str:
        """Returns the header with dots in the place of the key."""
        return f"{self.name}: {self.scheme} …" if self.scheme else f"{self.name}: …"

    def field(self, key: str) -> tuple[bytes, bytes]:
        """Returns the header's name and value."""
        sent = key
        if self.scheme.lower() == "basic":
            sent = base64.b64encode(f"{key}:".encode()).decode()
        return self.name.encode(), (f"{self.scheme} {sent}" if self.scheme else sent).encode()


def auth_header(scheme: str) -> Callable[[str], AuthHeader]:
    """Returns a parser that uses `scheme` for `Authorization` alone, and raises `ValueError` with what it expected."""

    def parse(text: str) -> AuthHeader:
        name, colon, said = (part.strip() for part in text.partition(":"))
        if not _TOKEN.fullmatch(name) or (said and not _TOKEN.fullmatch(said)):
            raise ValueError("a header and a scheme, such as Authorization, Authorization: Token or X-Api-Key")
        if name.lower() in _OTHERS:
            raise ValueError("a header that may hold a key: a request has another use for this one")
        alone = not colon and name.lower() == "authorization"
        return AuthHeader(name, scheme if alone else said)

    return parse


BEARER: Final = AuthHeader("Authorization", "Bearer")
BASIC: Final = AuthHeader("Authorization", "Basic")

"""A merge patch (RFC 7396) of a letter's content, and why a letter cannot be sent. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class Unsendable(NamedTuple):
    """Why a letter cannot be sent as it was asked to be."""

    why: str


def merged(target: Any, patch: Any) -> Any:
    """Returns `target` with `patch` applied; changes neither."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result

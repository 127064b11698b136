"""patch: JSON merge patch (RFC 7386), and the edit of a JSON payload. Pure.

An object in the patch is merged into the one in the target, a null deletes the field, anything else replaces it whole,
arrays too. What comes out is judged before anything is sent, by whoever knows the schema.

Not chosen: a library for the ten lines that the RFC itself prints.
"""

from __future__ import annotations

from typing import Any

import msgspec

from processor.dead_letters.rebuild import Unsendable


def merged(target: Any, patch: Any) -> Any:
    """`target` with `patch` applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def parse_patch(text: bytes) -> dict[str, Any]:
    """A patch that can be applied to an event. Raises ValueError in the words of a complaint."""
    try:
        patch = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise ValueError(f"no JSON: {broken}") from broken
    if not isinstance(patch, dict):
        raise ValueError("a JSON merge patch for an object is an object itself")
    if not patch:
        raise ValueError("the patch changes nothing: it is an empty object")
    return patch


def edited_json(value: bytes | None, patch: dict[str, Any]) -> bytes | Unsendable:
    """A JSON payload with the patch applied."""
    try:
        content = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unsendable("it is no JSON, so nothing can be edited in it")
    if not isinstance(content, dict):
        return Unsendable("it is no JSON object, so nothing can be edited in it")
    return msgspec.json.encode(merged(content, patch))

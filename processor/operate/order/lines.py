"""A happening in one line, for a table. Pure. The table escapes foreign text, not this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from processor.letters.masking import HIDDEN
from processor.moments import iso
from processor.operate.order.story import Happening, Kind

_ITEMS_MAX: Final = 5


def line(happening: Happening, prefix: str) -> tuple[str, str, str]:
    """Returns the time, the kind and the description of a happening. Topics are shown without the installation's
    `prefix`."""
    at = "" if happening.at_ms is None else iso(happening.at_ms)
    words = _words(happening.kind, happening.facts)
    return at, happening.kind.value.replace("_", " "), words.replace(prefix, "") if prefix else words


def _words(kind: Kind, facts: Mapping[str, Any]) -> str:
    match kind:
        case Kind.EVENT:
            return _joined(
                f"{facts['event']} {_where(facts)} → {_ended(facts)}", _said(facts.get("said") or {}), _replay(facts)
            )
        case Kind.ENTRY:
            return _joined(
                f"{facts['entry_type']} {_where(facts)} → {_ended(facts)}", facts["entry_id"], _replay(facts)
            )
        case Kind.DELIVERY:
            tries = "1 attempt" if facts["attempts"] == 1 else f"{facts['attempts']} attempts"
            return _joined(
                f"HTTP {facts['status']}, {tries}, {facts['latency_ms']} ms", facts["event_id"], facts["entry_id"]
            )
        case Kind.DEAD_LETTER:
            return _joined(
                f"{facts['reason']} {_where(facts)} of {facts['origin']}, {facts['resolution']}",
                facts["message"],
                ", ".join(facts["validation_errors"]),
                _replay(facts),
            )
        case Kind.HOLD:
            return f"later entries wait behind {facts['entry_id']} ({facts['reason']})"
        case Kind.RESOLUTION:
            edit = "" if facts.get("edit") is None else f"edited: {json.dumps(facts['edit'], ensure_ascii=False)}"
            return _joined(f"{facts['letter']} {facts['how']} by {facts['by']}", facts["reason"], edit, _replay(facts))
        case Kind.STATE:
            return _state(facts)


def _state(facts: Mapping[str, Any]) -> str:
    parts = [facts["standing"]]
    if facts.get("cancelled_at"):
        parts.append(f"cancelled {facts['cancelled_at']}")
    if facts.get("parked"):
        parts.append(f"{len(facts['parked'])} events parked")
    lines = facts.get("line_items", [])
    for item in lines[:_ITEMS_MAX]:
        moved = [f"{item[name]} {name}" for name in ("fulfilled", "refunded", "cancelled") if item[name]]
        parts.append(f"{item['id']}: {item['ordered']} ordered{''.join(', ' + one for one in moved)}")
    if len(lines) > _ITEMS_MAX:
        parts.append(f"and {len(lines) - _ITEMS_MAX} more line items")
    return _joined(*parts, _person(facts))


def _said(said: Mapping[str, Any]) -> str:
    if "line_items" in said:
        items = said["line_items"]
        return _joined(
            ", ".join(f"{item['quantity']} {item['product_title']} ({item['id']})" for item in items[:_ITEMS_MAX]),
            f"and {len(items) - _ITEMS_MAX} more" if len(items) > _ITEMS_MAX else "",
            _person(said),
        )
    if "items" in said:
        items = said["items"]
        shown = ", ".join(f"{item['quantity']} of {item['line_item_id']}" for item in items[:_ITEMS_MAX])
        return shown + (f" and {len(items) - _ITEMS_MAX} more" if len(items) > _ITEMS_MAX else "")
    return ""


def _person(facts: Mapping[str, Any]) -> str:
    """Returns what is shown of the customer; hidden values are left out."""
    known = [value for part in ("customer", "billing_address") for value in (facts.get(part) or {}).values() if value]
    return ", ".join(str(value) for value in known if value != HIDDEN)


def _ended(facts: Mapping[str, Any]) -> str:
    return str(facts["became"]) + (f" ({facts['why']})" if facts["why"] else "")


def _where(facts: Mapping[str, Any]) -> str:
    return f"{facts['topic']}/{facts['partition']}/{facts['offset']}"


def _replay(facts: Mapping[str, Any]) -> str:
    return f"replay {facts['replay_id']}" if facts.get("replay_id") else ""


def _joined(*parts: Any) -> str:
    return "; ".join(str(part) for part in parts if part)

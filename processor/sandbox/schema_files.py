"""The schemas that producers register, as they lie in the distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from processor.topics import Topic

_FILES: Final = {
    Topic.PLACED: "order_placed.avsc",
    Topic.FULFILLED: "line_items_fulfilled.avsc",
    Topic.REFUNDED: "line_items_refunded.avsc",
    Topic.LINE_ITEMS_CANCELLED: "line_items_cancelled.avsc",
    Topic.CANCELLED: "order_cancelled.avsc",
}


def schema_text(topic: Topic) -> str:
    """The schema of a source topic's values. An installed wheel carries the files inside the package."""
    package = Path(__file__).parent.parent
    inside = package / "_schemas"
    directory = inside if inside.is_dir() else package.parent / "schemas"
    return (directory / _FILES[topic]).read_text(encoding="utf-8")

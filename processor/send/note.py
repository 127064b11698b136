"""The note: what a worker leaves for the next one in the metadata of a committed offset.

    v1 used=17 done=eJxjYGBgYGRgYAQAAA8ABA          used: slots of the quota, left at a clean revoke alone
    (`pace.py`) v1 done=topic                                    done: finished ranges beyond the offset
    (`offsets.py`), here or, where
                                                     they outgrow the metadata, in the topic
                                                     `hakuna.send-offsets`

The topic is compacted: key the partition's number, in the same partition; its newest record is the map. It is
acknowledged before the commit that points at it. A map that is newer than the commit (a crash between the
two) is as good: what is finished stays finished, and what it says of offsets before the committed one no
longer matters. No commit that does not say `topic` makes anybody read it, so an operator who moves the
group's offsets back sends again.

A note that cannot be read (another tool's, a later version's) says nothing: entries may then go out twice,
and the quota's slots count as used. Both are safe.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

from processor.send.offsets import Range, decode_ranges, encode_ranges

METADATA_CHARS_MAX: Final = 4000
"""Brokers refuse a commit with more than 4,096 bytes (`offset.metadata.max.bytes`)."""

_VERSION: Final = "v1"
_IN_TOPIC: Final = "topic"


class Note(NamedTuple):
    """`used` is None where nothing was left; `finished` is None where the map is in the topic."""

    used: int | None
    finished: list[Range] | None


SILENT: Final = Note(None, [])


def write_note(note: Note) -> str | None:
    """The metadata string; None where the ranges do not fit into it."""
    words = [_VERSION]
    if note.used is not None:
        words.append(f"used={note.used}")
    if note.finished is None:
        words.append(f"done={_IN_TOPIC}")
    elif note.finished:
        words.append("done=" + base64.urlsafe_b64encode(encode_ranges(note.finished)).decode())
    text = " ".join(words)
    return text if len(text) <= METADATA_CHARS_MAX else None


def read_note(metadata: str) -> Note | None:
    """None where there is something that is no note; `SILENT` where there is nothing."""
    if not metadata:
        return SILENT
    version, *words = metadata.split(" ")
    if version != _VERSION:
        return None
    used: int | None = None
    finished: list[Range] | None = []
    for word in words:
        name, _, value = word.partition("=")
        if name == "used" and value.isascii() and value.isdigit() and len(value) < 10:
            used = int(value)
        elif name == "done" and value == _IN_TOPIC:
            finished = None
        elif name == "done":
            try:
                finished = decode_ranges(base64.b64decode(value, altchars=b"-_", validate=True))
            except (binascii.Error, ValueError):
                return None
            if finished is None:
                return None
        else:
            return None
    return Note(used, finished)

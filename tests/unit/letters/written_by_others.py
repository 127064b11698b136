"""Dead letters that other tools wrote, byte for byte (`written_by_others.jsonl`, by
`python -m tests.support.letters_of_others`; `tests/integration/test_letters_of_others.py` holds the tools to them).

    streams      Kafka Streams 4.3.1, a deserialization failure
    connect      Kafka Connect 4.3.1, JsonConverter on Avro, context headers on
    spring       Spring Kafka 4.1.2, `DeadLetterPublishingRecoverer`: numbers big-endian, the letter's own timestamp is
                 that of the failure
    share group  Kafka 4.4.0, `share.version` 2, with `errors.deadletterqueue.copy.record.enable` (KIP-1191): text; the
                 refused record's own headers and timestamp are not copied
    bare         the same without it, as by default: no key and no value

Each is the letter for the record 7 of orders.placed/1, written at WRITTEN_MS with the key ORDER and the value VALUE.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from processor.records import Headers, Record

ORDER: Final = b"ord-7"
VALUE: Final = b"\x00\x00\x00\x00\x05\x06e-7\x0aord-7"
WRITTEN_MS: Final = 1_764_500_000_000
ITS_OWN: Final[Headers] = [("traceparent", b"00-1-2-01"), ("__value_schema_id", b"\x01" + bytes(16))]
SOURCE: Final = Record("orders.placed", 1, 7, WRITTEN_MS, ORDER, VALUE, ITS_OWN)

RECORDED: Final = Path(__file__).with_suffix(".jsonl")


def record_of(told: Mapping[str, Any]) -> Record:
    """Of a line of the recordings."""
    key, value = (None if told[name] is None else b64decode(told[name]) for name in ("key", "value"))
    headers: Headers = [(name, b64decode(content)) for name, content in told["headers"]]
    return Record(told["topic"], told["partition"], 0, told["timestamp_ms"], key, value, headers)


_LINES: Final = map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines())
LETTERS: Final = {line["tool"]: record_of(line) for line in _LINES}
"""By their tools."""
SHARE_GROUP: Final = LETTERS["share group"]
SHARE_GROUP_BARE: Final = LETTERS["bare"]
REFUSED_MS: Final = SHARE_GROUP_BARE.timestamp_ms
WHOLE: Final = {tool: letter for tool, letter in LETTERS.items() if tool != "bare"}

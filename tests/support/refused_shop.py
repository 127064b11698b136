"""A shop that Hakuna refuses orders of: an installation with its workers' settings, the stand-in that they send to, and
the `dead-letters` command beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka as ck
import msgspec

from processor.moments import iso
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.support.children import REPOSITORY
from tests.support.installation import Installation
from tests.support.json_output import printed
from tests.support.processes import OWN_PREFIXES
from tests.support.topics import TopicSpace

REFUSED = "xx"
"""The country that Hakuna refuses."""
PLACED_MS = int(time.time()) * 1_000 - 86_400_000
"""Yesterday: source topics keep a week."""


def fulfilled_at(number: int) -> str:
    """When the fulfilment with this number was, as Hakuna is told."""
    return iso(PLACED_MS + 1_000 * number)


class Shop:
    """An installation with its workers' settings, the stand-in that they send to, and the command."""

    def __init__(self, space: TopicSpace, hakuna: StandIn, url: str, registry_url: str, partitions: int) -> None:
        self.space = space
        self.hakuna = hakuna
        self.installation = Installation(space, registry_url, partitions=partitions)
        self.environment = {
            **self.installation.environment,
            "HAKUNA_BASE_URL": url,
            "HAKUNA_API_KEY": SANDBOX_KEY,
            "PROCESSOR_DEAD_LETTER_SHARE_MAX": "1",
        }

    def script(self, **changes: Any) -> None:
        self.hakuna.script = msgspec.structs.replace(self.hakuna.script, **changes)

    def place(self, order_id: str, *, country: str = REFUSED) -> None:
        item = {"id": "li-1", "quantity": 9, "price_amount": 900, "product_id": "p-1", "product_title": "Phone"}
        self.installation.event(
            Topic.PLACED,
            {
                "event_id": f"{order_id}-placed",
                "order_id": order_id,
                "placed_at": PLACED_MS,
                "currency": "EUR",
                "customer": {"first_name": "Max", "last_name": "M", "email": "max@example.com", "phone": None},
                "billing_address": {
                    "address_line_1": "A 1", "address_line_2": None, "city": "B", "zip": None, "country": country
                },
                "line_items": [{**item, "product_brand": "Apple", "protection": None}],
            },
            timestamp_ms=PLACED_MS,
        )  # fmt: skip

    def fulfil(self, order_id: str, number: int, line_item: str = "li-1") -> None:
        at_ms = PLACED_MS + 1_000 * number
        items = [{"line_item_id": line_item, "quantity": 1, "fulfilled_at": at_ms}]
        event = {"event_id": f"{order_id}-fulfilled-{number}", "order_id": order_id, "items": items}
        self.installation.event(Topic.FULFILLED, event, timestamp_ms=at_ms)

    def told(self, order_id: str) -> list[str]:
        """What Hakuna accepted of an order, in order: the event's type, or when a fulfilment was."""
        found = []
        for accepted in self.hakuna.record.history(order_id):
            body = json.loads(accepted.body)
            items = body["payload"].get("fulfillment_items")
            found.append(body["type"] if items is None else items[0]["fulfilled_at"])
        return found

    def letters(self, topic: Topic = Topic.HAKUNA_DEAD_LETTERS) -> list[ck.Message]:
        return self.space.records(topic)

    def count(self, topic: Topic) -> int:
        return len(self.space.records(topic))

    def held(self) -> set[bytes]:
        held: dict[bytes, bool] = {}
        for record in self.space.records(Topic.HOLDS):
            held[record.key() or b""] = record.value() is not None
        return {order_id for order_id, is_held in held.items() if is_held}

    def environment_of_command(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
        return {**outer, "PYTHONPATH": str(REPOSITORY), **self.environment}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "processor", "dead-letters", *arguments],
            env=self.environment_of_command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str, code: int = 0) -> Any:
        """The command's JSON, held against the README's schema; what it says where it is none."""
        return self._said(self.start(*arguments), arguments[0], code)

    def side_by_side(self, *commands: Sequence[str], code: int = 0) -> list[Any]:
        """The same of several that only look."""
        started = [(self.start(*arguments), arguments[0]) for arguments in commands]
        return [self._said(process, verb, code) for process, verb in started]

    def _said(self, process: subprocess.Popen[str], verb: str, code: int) -> Any:
        out, err = process.communicate(timeout=100)
        assert process.returncode == code, f"{process.returncode}: {out}{err}"
        is_json = out.startswith(("{", "["))
        told = printed(f"dead-letters.{verb}", out) if is_json else None
        return told if is_json and code == 0 else out + err

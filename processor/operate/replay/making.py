"""The records that a replay writes for one letter: its copy and its resolution.

letter ─► whole (with its source's value if it has none) ─► content (its own, rebuilt or edited) ─► copy
              │                                                │
              └────────── `Unsendable`: it stays, and says why ┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from processor.hakuna import entry_ids
from processor.letters.families import letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import How, Resolution, encode_resolution, resolution_key
from processor.operate.replay.copies import copy_of, replays_of
from processor.operate.replay.database import Going, OrderKey
from processor.operate.replay.noted import home
from processor.operate.replay.place import Clients
from processor.operate.replay.plan import Plan
from processor.operate.replay.selection import order_of
from processor.operate.replay.survey import Survey, Task
from processor.records import HeaderName, NewRecord, Position, Record, TopicPartition

GONE: Final = "it is not in its topic any more"
TOO_LARGE: Final = "its copy is larger than what can be written"

Content = Callable[[Record, Going, Plan], bytes | Unsendable | None]
"""Returns the value to send for a letter: its own, a rebuilt or an edited one."""


class Making:
    """Asks the cluster for retention and limits; holds nothing itself. `resolution` is what is written of each letter,
    without the facts of the letter."""

    def __init__(
        self, task: Task, resolution: Resolution, plan: Plan, survey: Survey, clients: Clients, content: Content
    ) -> None:
        self._task = task
        self._resolution = resolution
        self._plan = plan
        self._survey = survey
        self._clients = clients
        self._offsets = clients.reading.offsets
        self._clock = clients.reading.clock
        self._content = content

    def of(
        self, letter: Record | None, going: Going
    ) -> tuple[TopicPartition | None, str, list[NewRecord]] | Unsendable:
        """Returns where a letter goes (None: it is discarded), the entry ID of its copy, and the records to write.
        Raises `BrokerOutage`, `RegistryOutage`."""
        if letter is None:
            return Unsendable(GONE)
        facts = letter_facts(letter)
        whole = self._survey.sendable(letter, facts)
        if not self._task.sends:
            order_id = order_of(letter if isinstance(whole, Unsendable) else whole)
            return None, "", [self._resolved(letter.position, replace(self._resolution, order_id=order_id))]
        if isinstance(whole, Unsendable):
            return whole
        letter = whole
        value = self._content(letter, going, self._plan)
        if isinstance(value, Unsendable):
            return value
        target, key = self._survey.destination(letter, facts, selected=going.selected)
        assert target is not None, "a letter without a target was let go"
        if isinstance(key, Unsendable):
            return key
        retention_ms = self._offsets.retention_ms(target.topic)
        # Kafka deletes by a record's own time, within minutes after its retention: half of it is left for the sender.
        too_old_ms = None if retention_ms is None else self._clock.now_ms() - retention_ms // 2
        copy = copy_of(letter, facts, target, self._resolution.replay_id, value, too_old_ms)._replace(key=key)
        if not self._clients.ledger.fits(copy):
            return Unsendable(TOO_LARGE)
        entry_id = letter.header_text(HeaderName.ENTRY_ID) or ""
        if entry_id and value != letter.value and value is not None:
            entry_id = entry_ids.of_bytes(entry_id, value)
        resolution = replace(
            self._resolution,
            replay_count=replays_of(letter) + 1,
            order_id=order_of(letter),
            entry_id=entry_id,
            sent_to=target.topic,
            sent_partition=None if target.partition == letter.partition else target.partition,
            edit=self._resolution.edit if going.selected else None,
        )
        return target, entry_id, [copy, self._resolved(letter.position, resolution)]

    def superseded(self, order: OrderKey, offset: int, why: str) -> NewRecord:
        """Returns the resolution of a letter for which another one is sent."""
        letter = Position(self._task.field.letters, order.partition, offset)
        return self._resolved(letter, Resolution(how=How.SUPERSEDED, at_ms=0, by=self._resolution.by, reason=why))

    def _resolved(self, letter: Position, resolution: Resolution) -> NewRecord:
        topic = self._task.field.resolutions
        number = home(letter.partition, self._offsets.partitions(topic) or 1)
        value = encode_resolution(replace(resolution, at_ms=self._clock.now_ms()))
        return NewRecord(topic, number, resolution_key(letter), value, [])

"""brake: pauses the partitions that are full, and resumes them when they are half empty again.

Owned by the Kafka thread. `entries_max` and `bytes_max` are shared out: one partition cannot fill all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from processor.interfaces import Consumer
from processor.records import TopicPartition
from processor.send.kafka_thread.assignments import Assignments, Phase
from processor.send.settings import SendSettings


@dataclass(eq=False)
class Brake:
    """Mutable: `braked` are the partitions that are paused because they are full."""

    _settings: SendSettings
    _assignments: Assignments[Any]
    _consumer: Consumer
    braked: set[TopicPartition] = field(default_factory=set)

    def look(self, *, halted: bool) -> None:
        """Pauses full partitions and resumes half-empty ones. A pause is expensive, so there is a gap between the two.
        `halted`: resumes nothing."""
        entries_max, bytes_max = self._settings.entries_max, self._settings.bytes_max
        entries, size = self._assignments.entries, self._assignments.bytes
        share = max(min(self._settings.partition_share, len(self._assignments)), 1)
        full = entries >= entries_max or size >= bytes_max
        pausing = [
            each.where
            for each in self._assignments
            if each.phase is Phase.OPEN
            and each.where not in self.braked
            and (full or each.entries >= entries_max // share or each.bytes >= bytes_max // share)
        ]
        if pausing:
            self.braked.update(pausing)
            self._consumer.pause(pausing)
        if not self.braked or halted or entries > entries_max // 2 or size > bytes_max // 2:
            return
        resuming = [
            each.where
            for each in self._assignments
            if each.where in self.braked
            and each.entries <= entries_max // share // 2
            and each.bytes <= bytes_max // share // 2
        ]
        if resuming:
            self.braked.difference_update(resuming)
            self._consumer.resume(resuming)

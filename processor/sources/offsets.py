"""What a group has committed of this worker's sources, and the way back to it.

Shared by transform and rekey. Owned by the role's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from processor.interfaces import Consumer, Reader
from processor.records import Position, TopicPartition
from processor.sources.merge import Merge


class GroupOffsets:
    """Mutable: `known` has the next offset of each source, where the group has one, `metadata` what stands beside."""

    def __init__(self, consumer: Consumer, reader: Reader, merge: Merge) -> None:
        self._consumer = consumer
        self._reader = reader
        self._merge = merge
        self.known: dict[TopicPartition, int] = {}
        self.metadata: dict[TopicPartition, str] = {}

    def ask(self, sources: Sequence[TopicPartition]) -> None:
        """Reads what the group has committed, after open transactions have ended. Raises `BrokerOutage`."""
        for source, committed in self._consumer.committed(sources).items():
            self.metadata[source] = committed.metadata
            if committed.next_offset is None:
                self.known.pop(source, None)
            else:
                self.known[source] = committed.next_offset

    def forget(self, sources: Iterable[TopicPartition]) -> None:
        """Forgets the offsets of sources that another worker has now."""
        for source in sources:
            self.known.pop(source, None)
            self.metadata.pop(source, None)

    def rewind(self, sources: Sequence[TopicPartition]) -> None:
        """The next records of these sources are those after the group's committed offsets. Raises `BrokerOutage`, and
        may be called again then."""
        if not sources:
            return
        self.ask(sources)
        beginnings = self._reader.beginnings(sources)
        starts = {source: self.known.get(source, beginnings[source]) for source in sources}
        self._consumer.seek([Position(*source, start) for source, start in starts.items()])
        # Whatever was paused: the merge begins anew and knows of no pause, so nobody else would end it.
        self._consumer.resume(sources)
        self._merge.assign(sources, starts)

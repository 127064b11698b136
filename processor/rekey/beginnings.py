"""beginnings: where rekey reads each source partition from, and what its commits say of the log that they count in.

    commit of a source:  next offset, metadata = worker, the cluster's ID, the topic's ID

    committed, in this very log       from there
    committed, nothing said of a log  from there: an operator's (`rewind`), or an older version's
    made in another log               from the beginning: the topic was deleted and made again
    made in another cluster           from there: the copy has translated the offset
    nothing committed                 from the beginning; where `hakuna.rekeyed-events` has a mark of it, the group's
                                      offsets are gone: what is written again is refused by transform, and what
                                      retention took beyond the mark is counted
    beyond the log                    from its beginning; what retention took before it was read is counted

Owned by the rekey thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from processor.interfaces import Committed, Reader
from processor.records import Position, TopicPartition
from processor.rekey.events import KnownEvents
from processor.sources.notices import Notices
from processor.sources.offsets import GroupOffsets
from processor.sources.starts import Correction, Mark, Start, start_of


class Note(NamedTuple):
    """What a commit says of its log."""

    cluster: str
    topic_id: str


def encode_note(worker: str, note: Note) -> str:
    """The worker's name comes first, by which a successor ends what it left open (`edges/kafka/predecessors.py`)."""
    return f"{worker} {note.cluster} {note.topic_id}"


def decode_note(metadata: str) -> Note | None:
    """None where it says nothing of a log."""
    match metadata.split(" "):
        case [_, cluster, topic_id]:
            return Note(cluster, topic_id)
    return None


class Beginnings:
    """Mutable: `_waiting` partitions of which is to be decided where they are read from, `_starts` what was decided,
    `_resets` partitions whose next offset was not there any more, `unnoted` starts that no commit says yet."""

    def __init__(
        self,
        here: Mapping[str, Note],
        ranks: Mapping[str, int],
        reader: Reader,
        offsets: GroupOffsets,
        known: KnownEvents,
        notices: Notices,
    ) -> None:
        """`here` is the log that each topic is now, `ranks` its number in `known`; by whole name."""
        self._here = here
        self._ranks = ranks
        self._reader = reader
        self._offsets = offsets
        self._known = known
        self._notices = notices
        self._waiting: set[TopicPartition] = set()
        self._starts: dict[TopicPartition, int] = {}
        self._resets: dict[TopicPartition, int] = {}
        self.unnoted: dict[TopicPartition, int] = {}

    def wait_for(self, sources: Iterable[TopicPartition]) -> None:
        """The group was asked for their offsets; where they begin is to be decided."""
        self._waiting.update(sources)

    def let_go(self, sources: Iterable[TopicPartition]) -> None:
        for source in sources:
            for known in (self._starts, self._resets, self.unnoted):
                known.pop(source, None)
            self._waiting.discard(source)

    def heard(self, resets: Mapping[TopicPartition, int]) -> None:
        """Partitions whose next offset the broker did not have any more."""
        self._resets.update(resets)

    def written(self, offsets: Mapping[TopicPartition, int]) -> None:
        """These are committed, and say of which log."""
        self._offsets.known.update(offsets)
        for source in offsets:
            self.unnoted.pop(source, None)

    def commits(self, worker: str, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Committed]:
        """As the transaction takes them."""
        return {
            source: Committed(offset, encode_note(worker, self._here[source.topic]))
            for source, offset in offsets.items()
        }

    def begin(self) -> Sequence[Position]:
        """Decides what is to be decided. Returns from where partitions are to be read that the group would read from
        elsewhere. Raises `BrokerOutage`: then nothing has happened, and it is to be called again."""
        if not self._waiting and not self._resets:
            return []
        sources = sorted(self._waiting | self._resets.keys())
        beginnings, ends = self._reader.beginnings(sources), self._reader.ends(sources)
        elsewhere: list[Position] = []
        for source in sources:
            if source not in self._waiting:
                self._count(source, beginnings[source])
                continue
            start = self._start(source, beginnings[source], ends[source])
            self._notices.take(source, start)
            # One from before may be noted by now, by a commit of which nobody knew whether it counts.
            self.unnoted.pop(source, None)
            if start.corrections:
                self.unnoted[source] = start.offset
            if start.offset != self._offsets.known.get(source, beginnings[source]):
                elsewhere.append(Position(*source, start.offset))
                self._offsets.known[source] = start.offset
            self._starts[source] = start.offset
        self._waiting.clear()
        self._resets.clear()
        return elsewhere

    def _start(self, source: TopicPartition, beginning: int, end: int) -> Start:
        committed, here = self._offsets.known.get(source), self._here[source.topic]
        note = decode_note(self._offsets.metadata.get(source, ""))
        if committed is None:
            taken_to = self._known.taken_to(self._ranks[source.topic], source.partition)
            if taken_to is None:
                return Start(beginning, 0, ())
            if taken_to < beginning:
                return Start(beginning, beginning - taken_to, (Correction.OFFSETS_GONE, Correction.OVERTAKEN))
            return Start(beginning, 0, (Correction.OFFSETS_GONE,))
        mark = None if note is None else Mark(note.topic_id, committed)
        is_same = note is None or note.cluster == here.cluster
        return start_of(mark, committed, here.topic_id, beginning, end, same_cluster=is_same)

    def _count(self, source: TopicPartition, beginning: int) -> None:
        """What the broker had deleted before a partition that is being read got there."""
        missed = beginning - max(self._resets[source], self._starts.get(source, 0))
        if missed > 0:
            self._notices.take(source, Start(beginning, missed, (Correction.OVERTAKEN,)))
            self._starts[source] = beginning

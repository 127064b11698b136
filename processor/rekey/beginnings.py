"""beginnings: where rekey reads each source partition from, and the log that its commits count in.

    commit of a source:  next offset, metadata = worker, the cluster's ID, the topic's ID

    committed, in this very log       from there
    committed, without a log          from there: an operator (`rewind`) or an older version committed it
    committed in another log          from the beginning: the topic was deleted and made again
    committed in another cluster      from there: the copy has translated the offset
    nothing committed                 from the beginning; if `hakuna.rekeyed-events` has a mark of it, the group's
                                      offsets are gone: transform refuses what is written again, and what
                                      retention took beyond the mark is counted
    beyond the log                    from its beginning; what retention took before it was read is counted

Owned by the rekey thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from processor.interfaces import Committed, Reader
from processor.records import TopicPartition
from processor.rekey.events import KnownEvents
from processor.sources.loop import Group
from processor.sources.standing import Notices
from processor.sources.starts import Correction, Mark, Start, start_of


class Note(NamedTuple):
    """The log that a commit counts in, by the IDs of its cluster and its topic."""

    cluster: str
    topic_id: str


def encode_note(worker: str, note: Note) -> str:
    """Returns a commit's metadata. By the worker's name a successor ends its transactions (`predecessors.py`)."""
    return f"{worker} {note.cluster} {note.topic_id}"


def decode_note(metadata: str) -> Note | None:
    """Returns None if the metadata names no log."""
    match metadata.split(" "):
        case [_, cluster, topic_id]:
            return Note(cluster, topic_id)
    return None


@dataclass(eq=False)
class Beginnings:
    """`_here` has the log of each topic, `_ranks` its number in `_known`; both by whole name.

    Mutable: `_waiting` are the partitions whose starts are to be decided, `_starts` the decided ones, `_resets` the
    partitions whose next offset was not in the log any more, `unnoted` the starts that no commit has yet.
    """

    _here: Mapping[str, Note]
    _ranks: Mapping[str, int]
    _reader: Reader
    _group: Group
    _known: KnownEvents
    _notices: Notices
    unnoted: dict[TopicPartition, int] = field(default_factory=dict)
    _waiting: set[TopicPartition] = field(default_factory=set)
    _starts: dict[TopicPartition, int] = field(default_factory=dict)
    _resets: dict[TopicPartition, int] = field(default_factory=dict)

    def wait_for(self, sources: Iterable[TopicPartition]) -> None:
        """Takes sources whose committed offsets have just been read; `begin` decides their starts."""
        self._waiting.update(sources)

    def let_go(self, sources: Iterable[TopicPartition]) -> None:
        for source in sources:
            for known in (self._starts, self._resets, self.unnoted):
                known.pop(source, None)
            self._waiting.discard(source)

    def heard(self, resets: Mapping[TopicPartition, int]) -> None:
        """Takes the partitions whose next offset a poll found gone."""
        self._resets.update(resets)

    def written(self, offsets: Mapping[TopicPartition, int]) -> None:
        """These offsets are committed, each with its log."""
        self._group.known.update(offsets)
        for source in offsets:
            self.unnoted.pop(source, None)

    def commits(self, worker: str, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Committed]:
        """Returns these offsets as a transaction takes them."""
        return {
            source: Committed(offset, encode_note(worker, self._here[source.topic]))
            for source, offset in offsets.items()
        }

    def begin(self) -> None:
        """Decides the starts that are to be decided, and reads from there if the group would read from elsewhere.
        Raises `BrokerOutage`: then nothing has happened, and it is to be called again."""
        if not self._waiting and not self._resets:
            return
        sources = sorted(self._waiting | self._resets.keys())
        beginnings, ends = self._reader.beginnings(sources), self._reader.ends(sources)
        elsewhere: dict[TopicPartition, int] = {}
        for source in sources:
            if source not in self._waiting:
                self._count(source, beginnings[source])
                continue
            start = self._start(source, beginnings[source], ends[source])
            self._notices.take(source, start)
            # An earlier start may be noted by now, by a commit of which nobody knew whether it counts.
            self.unnoted.pop(source, None)
            if start.corrections:
                self.unnoted[source] = start.offset
            if start.offset != self._group.known.get(source, beginnings[source]):
                elsewhere[source] = self._group.known[source] = start.offset
            self._starts[source] = start.offset
        self._waiting.clear()
        self._resets.clear()
        if elsewhere:
            self._group.read_from(elsewhere)

    def _start(self, source: TopicPartition, beginning: int, end: int) -> Start:
        committed, here = self._group.known.get(source), self._here[source.topic]
        note = decode_note(self._group.metadata.get(source, ""))
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
        """Counts the records that the broker had deleted before they were read."""
        missed = beginning - max(self._resets[source], self._starts.get(source, 0))
        if missed > 0:
            self._notices.take(source, Start(beginning, missed, (Correction.OVERTAKEN,)))
            self._starts[source] = beginning

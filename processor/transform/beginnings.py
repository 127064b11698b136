"""beginnings: where the sources of a partition number are read from, and the book that says how far they are taken.

    the state's book     ─┐
    the group's offset   ─┼─► start_of (sources/starts.py) ─► seek, where the group would not go there ─► the next book
    the topic as it is   ─┘

Owned by the transform thread. A number's starts are decided once its state is restored. They are decided again when
one of its topics was made again, when a topic brought a record from before its last one, and when it was not known
whether a transaction counts: a start that was committed must not be committed once more, over what was taken since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from processor.records import TopicPartition
from processor.sources.loop import Group
from processor.sources.merge import Merge
from processor.sources.standing import Notice, Notices
from processor.sources.starts import Correction, Mark, Start, start_of
from processor.transform import book as books
from processor.transform.book import Book, Gap, Here
from processor.transform.partitions import Partitions
from processor.transform.plan import TransformEdges


@dataclass(eq=False)
class Beginnings:
    """Where each source of this worker began. `_unread` returns how many unread records of a source were known.

    Mutable: `_waiting` are the numbers whose starts are to be decided, `_starts` the decided ones, `_identities` the
    topics' IDs then, `unbooked` the numbers whose book does not have their starts yet, `_resets` the sources whose next
    offset was not in the log any more.
    """

    _here: Here
    _edges: TransformEdges
    _partitions: Partitions
    _merge: Merge
    _group: Group
    _unread: Callable[[TopicPartition], int]
    unbooked: set[int] = field(default_factory=set)
    _waiting: set[int] = field(default_factory=set)
    _starts: dict[TopicPartition, int] = field(default_factory=dict)
    _identities: dict[TopicPartition, str] = field(default_factory=dict)
    _resets: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._committed = self._group.known
        self._notices = Notices(self._edges.clock, self._edges.meter.started)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The latest notices. May be read by any thread."""
        return self._notices.shown

    def heard(self, resets: Mapping[TopicPartition, int]) -> None:
        """Takes the sources whose next offset a poll found gone, and those in which the merge found another log."""
        self._resets.update(resets)
        self._waiting.update(source.partition for source in self._merge.went_back)

    def look_at_the_topics(self) -> None:
        """Begins a source anew if its topic was made again."""
        identities = self._edges.topology.identities
        for source, known in self._identities.items():
            if identities[source.topic] != known:
                self._waiting.add(source.partition)

    def read_anew(self, numbers: Iterable[int]) -> None:
        """Decides these numbers again, because it was not known whether their last transaction counts."""
        self._waiting.update(numbers)

    def let_go(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            for known in (self._starts, self._identities, self._resets):
                known.pop(partition, None)
            self._waiting.discard(partition.partition)
            self.unbooked.discard(partition.partition)

    def begin(self, running: Sequence[int]) -> None:
        """Decides where these numbers are read from, if that is not decided yet, and counts the records that were gone
        before their source was read. Raises `BrokerOutage`, and is to be called again then."""
        # Not by what a restore returned: one corrupt store raises past the names of the others.
        self._waiting.update(number for number in running if not self._has_begun(number))
        self._begin(sorted(self._waiting.intersection(running)))
        self._count_overtaken()

    def _begin(self, numbers: Sequence[int]) -> None:
        """Decides by their books and the group's offsets. Raises `BrokerOutage`: then nothing has happened."""
        if not numbers:
            return
        sources = [source for number in numbers for source in self._partitions.sources(number)]
        self._edges.topology.refresh()
        identities = self._edges.topology.identities
        beginnings, ends = self._edges.reader.beginnings(sources), self._edges.reader.ends(sources)
        for number in numbers:
            book = self._partitions.held[number].state.book
            same = book is None or book.cluster == self._here.cluster
            starts: dict[TopicPartition, Start] = {}
            for source in self._partitions.sources(number):
                mark, known = None if book is None else book.marks.get(source.topic), self._committed.get(source)
                log = (identities[source.topic], beginnings[source], ends[source])
                starts[source] = start_of(mark, known, *log, same_cluster=same)
            offsets = {source: start.offset for source, start in starts.items()}
            again = not self._merge.went_back.isdisjoint(starts) or any(
                offset != self._committed.get(source, beginnings[source]) for source, offset in offsets.items()
            )
            if again:
                self._group.read_from(offsets)
            for source, start in starts.items():
                self._notices.take(source, self._untold(source, start, identities[source.topic]))
                self._starts[source] = start.offset
                self._identities[source] = identities[source.topic]
                self._resets.pop(source, None)
            self._waiting.discard(number)
            stands = all(self._committed.get(source) == offset for source, offset in offsets.items())
            if not stands or self.book(number, offsets) != book:
                self.unbooked.add(number)
            else:
                self.unbooked.discard(number)

    def _has_begun(self, number: int) -> bool:
        return all(source in self._identities for source in self._partitions.sources(number))

    def _untold(self, source: TopicPartition, start: Start, identity: str) -> Start:
        """Returns the part of a start that is news. If a topic was made again while this worker ran, its unread records
        are missed. If a start was decided before and is not booked yet, only what has gone since is news."""
        if source not in self._identities:
            return start
        if self._identities[source] == identity and source.partition in self.unbooked:
            further = start.offset - self._starts[source]
            corrections = start.corrections if further else ()
            return start._replace(missed=max(0, min(start.missed, further)), corrections=corrections)
        if Correction.MADE_AGAIN in start.corrections:
            return start._replace(missed=start.missed + self._unread(source))
        return start

    def _count_overtaken(self) -> None:
        """Counts the records that the broker had deleted before they were read. Raises `BrokerOutage`."""
        known = {source: at for source, at in self._resets.items() if source in self._starts}
        if known:
            for source, beginning in self._edges.reader.beginnings(list(known)).items():
                missed = beginning - max(known[source], self._starts[source])
                if missed > 0:
                    self._notices.take(source, Start(beginning, missed, (Correction.OVERTAKEN,)))
                    self._starts[source] = beginning
        self._resets.clear()

    def not_booked(self, numbers: Collection[int]) -> dict[TopicPartition, int]:
        """Returns where the sources of these numbers begin, if their book does not have that yet."""
        return {
            source: self._starts[source]
            for number in self.unbooked.intersection(numbers)
            for source in self._partitions.sources(number)
        }

    def book(self, number: int, offsets: Mapping[TopicPartition, int]) -> Book:
        """Returns the book of a number once these offsets are committed."""
        known, here = self._partitions.held[number].state.book, self._here._asdict()
        begun = books.new_book(self._here) if known is None else known
        marks = {}
        for source in self._partitions.sources(number):
            next_offset = offsets.get(source, self._committed.get(source, self._starts[source]))
            marks[source.topic] = Mark(self._identities[source], next_offset)
        notices = [one for one in self._notices.shown if one.missed and one.partition == number]
        gaps = begun.gaps | {one.topic: Gap(one.at, one.missed, one.offset) for one in notices}
        return msgspec.structs.replace(begun, **here, marks=marks, orders=-1, gaps=gaps)

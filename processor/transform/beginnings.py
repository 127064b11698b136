"""beginnings: where the sources of a partition number are read from, and the book that says how far they are taken.

    the state's book     ─┐
    the group's offset   ─┼─► start_of (sources/starts.py) ─► seek, where the group would not go there ─► the next book
    the topic as it is   ─┘

Owned by the transform thread. Decided for a number once its state is restored, and again when one of its topics was
made again or brought a record from before what it had brought, or when it was not known whether a transaction counts:
a start that was committed must not be committed once more, over what was taken since. What is out of the ordinary is
said, counted and kept to be shown (`Notice`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from processor.records import Position, TopicPartition
from processor.sources.merge import Merge
from processor.sources.notices import Notice, Notices
from processor.sources.starts import Correction, Mark, Start, start_of
from processor.transform import book as books
from processor.transform.book import Book, Gap, Here
from processor.transform.partitions import Partitions
from processor.transform.plan import TransformEdges


class Beginnings:
    """Where each source of this worker began.

    Mutable: `_waiting` numbers of which is to be decided where their sources are read from, `_starts` what was decided,
    with the topics' identities then (`_identities`), `unbooked` numbers whose book does not say so yet, `_resets`
    sources whose next offset was not there any more.
    """

    def __init__(
        self,
        here: Here,
        edges: TransformEdges,
        partitions: Partitions,
        merge: Merge,
        committed: Mapping[TopicPartition, int],
        unread: Callable[[TopicPartition], int],
    ) -> None:
        """`committed` has the group's next offsets, and is kept by the loop; `unread` says how many records of a source
        were known to be there."""
        self._here = here
        self._edges = edges
        self._partitions = partitions
        self._merge = merge
        self._committed = committed
        self._unread = unread
        self._waiting: set[int] = set()
        self._starts: dict[TopicPartition, int] = {}
        self._identities: dict[TopicPartition, str] = {}
        self._resets: dict[TopicPartition, int] = {}
        self._notices = Notices(edges.clock, edges.meter.started)
        self.unbooked: set[int] = set()

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The latest. May be read by any thread."""
        return self._notices.shown

    def heard(self, resets: Mapping[TopicPartition, int]) -> None:
        """What a poll told: sources whose next offset was gone, and what the merge found to be another log."""
        self._resets.update(resets)
        self._waiting.update(source.partition for source in self._merge.went_back)

    def look_at_the_topics(self) -> None:
        """A source that is another topic by now is begun anew."""
        identities = self._edges.topology.identities
        for source, known in self._identities.items():
            if identities[source.topic] != known:
                self._waiting.add(source.partition)

    def read_anew(self, numbers: Iterable[int]) -> None:
        """Whether their last transaction counts was not known: what the group and the book say by now decides."""
        self._waiting.update(numbers)

    def let_go(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            for known in (self._starts, self._identities, self._resets):
                known.pop(partition, None)
            self._waiting.discard(partition.partition)
            self.unbooked.discard(partition.partition)

    def begin(self, running: Sequence[int]) -> None:
        """Decides where these numbers are read from, if that is not decided yet, and counts what was gone before a
        source that is being read got there. Raises `BrokerOutage`: then it is to be called again."""
        # By what is known of them, not by what a restore returned: one corrupt store raises past the others' names.
        self._waiting.update(number for number in running if not self._has_begun(number))
        self._begin(sorted(self._waiting.intersection(running)))
        self._count_overtaken()

    def _begin(self, numbers: Sequence[int]) -> None:
        """By their books and the group's offsets; reads from there where the group would not. Raises `BrokerOutage`:
        then nothing has happened."""
        if not numbers:
            return
        sources = [source for number in numbers for source in self._partitions.sources(number)]
        self._edges.topology.refresh()
        identities = self._edges.topology.identities
        beginnings, ends = self._edges.reader.beginnings(sources), self._edges.reader.ends(sources)
        for number in numbers:
            book = self._partitions.held[number].state.book
            starts: dict[TopicPartition, Start] = {}
            for source in self._partitions.sources(number):
                starts[source] = start_of(
                    None if book is None else book.marks.get(source.topic),
                    self._committed.get(source),
                    identities[source.topic],
                    beginnings[source],
                    ends[source],
                    same_cluster=book is None or book.cluster == self._here.cluster,
                )
            offsets = {source: start.offset for source, start in starts.items()}
            again = not self._merge.went_back.isdisjoint(starts) or any(
                offset != self._committed.get(source, beginnings[source]) for source, offset in offsets.items()
            )
            if again:
                self._edges.consumer.seek([Position(*source, offset) for source, offset in offsets.items()])
                self._edges.consumer.resume(starts)
                self._merge.assign(starts, offsets)
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
        """What of a start is news. A topic that was made again while this worker ran takes with it what was known to be
        unfinished; of a start that was decided before and is not booked yet, only what has gone since is told."""
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
        """What the broker had deleted before a source that is being read got there. Raises `BrokerOutage`."""
        known = {source: at for source, at in self._resets.items() if source in self._starts}
        if known:
            for source, beginning in self._edges.reader.beginnings(list(known)).items():
                missed = beginning - max(known[source], self._starts[source])
                if missed > 0:
                    self._notices.take(source, Start(beginning, missed, (Correction.OVERTAKEN,)))
                    self._starts[source] = beginning
        self._resets.clear()

    def not_booked(self, numbers: Collection[int]) -> dict[TopicPartition, int]:
        """Where sources of these numbers begin, as far as their book does not say so yet."""
        return {
            source: self._starts[source]
            for number in self.unbooked.intersection(numbers)
            for source in self._partitions.sources(number)
        }

    def book(self, number: int, offsets: Mapping[TopicPartition, int]) -> Book:
        """The book of a number once these offsets are committed."""
        known = self._partitions.held[number].state.book
        here = self._here
        marks = {
            source.topic: Mark(
                self._identities[source], offsets.get(source, self._committed.get(source, self._starts[source]))
            )
            for source in self._partitions.sources(number)
        }
        begun = books.new_book(here) if known is None else known
        missed = {
            one.topic: Gap(one.at, one.missed, one.offset)
            for one in self._notices.shown
            if one.missed and one.partition == number
        }
        return Book(
            begun.format,
            here.cluster,
            here.changelog,
            here.partitions,
            begun.whole_from,
            begun.decided_ms,
            marks,
            gaps={**begun.gaps, **missed},
        )

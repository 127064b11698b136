"""Reads what the topics hold of one order, and little else.

It begins with the partitions where the order's key belongs. If those have nothing, it reads all partitions.

    changelog, holds   backwards, up to the newest record of the order ─► what is known of it
    the others         the windows that follow from that (`windows.py`); if no state says when it was and the rest is
                       much, only dead letters and what was not consumed yet
    resolutions        of the dead letters found, by their places
    groups             what transform and send have committed, asked at the same time: each question takes a client

Committed offsets are read before the records, so an event that is taken meanwhile is shown as waiting, never as lost.

Used by the `order` command. It reads committed records and writes nothing, also no offset. Not chosen: a question to
the worker that has the partition (it may be the one that is down); an index beside the topics (one more thing to keep
right, for a command that is run once a week).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from processor.config import Role, Settings
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import Log
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.scan import KafkaScan, Window
from processor.errors import BrokerOutage, Fatal, StateCorrupt, StateTooNew, Unusable
from processor.letters.families import Family, letter_facts
from processor.letters.resolutions import resolution_key
from processor.moments import PLAUSIBLE_MS_MIN, iso
from processor.operate.order import windows
from processor.operate.order.windows import Span
from processor.records import Record, TopicPartition
from processor.send.kafka_thread.beginnings import Gap as SendGap
from processor.send.kafka_thread.beginnings import newest_books
from processor.sources.keys import names_order
from processor.sources.placements import Sample, by_murmur2, explain
from processor.topics import NEEDED, ORDER_TOPICS, TOPICS, Topic, none_there
from processor.transform import order_state
from processor.transform.book import BOOK_KEY, Gap, decode_book
from processor.transform.order_state import OrderState

_CLIENT_ID: Final = "hakuna-processor-order"
_LETTERS: Final = (Topic.ORDER_DEAD_LETTERS, Topic.HAKUNA_DEAD_LETTERS)
_TOPICS: Final = tuple(plan.topic for plan in TOPICS if plan.topic not in NEEDED[Role.HAKO])
_LATEST: Final = (Topic.CHANGELOG, Topic.HOLDS)
_IN_TIME: Final = (*ORDER_TOPICS, Topic.OUTBOX, Topic.DELIVERIES, *_LETTERS)
_CONSUMED: Final = {Role.TRANSFORM: ORDER_TOPICS, Role.SEND: (Topic.OUTBOX,)}
_WITH_REKEY: Final = tuple(topic for topic in _TOPICS if topic not in ORDER_TOPICS)
"""The topics in which the order's partition is known. The shops' topics are searched in all partitions."""
_BOOK_RECORDS: Final = 300
"""Records at the end of a partition among which the newest book is: each transaction ends with one."""
_SAMPLE_S_MAX: Final = 2.0
_SAMPLE_RECORDS: Final = 200
"""Records at the ends of a source topic's partitions that show its producers' partitioner."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The time to read, epoch ms; `full`: everything that is kept, however long it takes."""

    since_ms: int | None = None
    until_ms: int | None = None
    full: bool = False


@dataclass(slots=True)
class Found:
    """What is known of the order `key`. Mutable while it is being gathered.

    `committed` are the next offsets of transform and send, None if they have none or may not be asked for; `spans` the
    time that was searched (empty: no time, but the records that an order without a state must have); `complete` is true
    if no other time can have records; `notes` are for the reader of the timeline; `elsewhere` is what other partitions
    have of the order, whose records are in `records`, too.
    """

    key: bytes
    partition: int
    changelog: Record | None = None
    state: OrderState | None = None
    hold: Record | None = None
    records: dict[Topic, list[Record]] = field(default_factory=dict)
    resolutions: list[Record] = field(default_factory=list)
    committed: dict[TopicPartition, int | None] = field(default_factory=dict)
    sources: dict[TopicPartition, Topic] = field(default_factory=dict)
    """With rekey, all partitions of the shops' topics; empty without."""
    spans: Sequence[Span] = ()
    complete: bool = True
    notes: list[str] = field(default_factory=list)
    elsewhere: list[Found] = field(default_factory=list)
    waits: dict[TopicPartition, str] = field(default_factory=dict)
    """Why records wait that are not committed yet, by partition, if it is known."""

    @property
    def anything(self) -> bool:
        return self.changelog is not None or self.hold is not None or any(self.records.values())

    @property
    def is_placed(self) -> bool:
        """Returns true if its key has put something here. The partition of a foreign letter says nothing: another tool
        chose it."""
        return (
            self.changelog is not None
            or self.hold is not None
            or any(
                topic not in _LETTERS or letter_facts(record).family is Family.PROCESSOR
                for topic, records in self.records.items()
                for record in records
            )
        )

    @property
    def states(self) -> list[tuple[Record, OrderState | None]]:
        """Returns the state of the order in each partition that has one, with its record."""
        return [(one.changelog, one.state) for one in (self, *self.elsewhere) if one.changelog is not None]

    def join(self, other: Found) -> None:
        """Takes in what another partition has of the order."""
        self.elsewhere.append(other)
        for topic, records in other.records.items():
            self.records.setdefault(topic, []).extend(records)
        self.resolutions += other.resolutions
        self.committed.update(other.committed)
        self.complete = self.complete and other.complete
        self.hold = self.hold or other.hold


def gather(
    settings: Settings, key: bytes, asked: Asked, log: Log, say: Callable[[str], None] = lambda _: None
) -> Found:
    """Returns what the topics hold of an order. `say` is called before anything that takes long. Raises `BrokerOutage`,
    `Fatal` (a right is missing), `Unusable` (no such topics)."""
    scan = KafkaScan(settings.librdkafka, group=settings.group(Role.TRANSFORM), client_id=_CLIENT_ID, log=log)
    try:
        with ThreadPoolExecutor(len(_CONSUMED)) as beside:
            return _Gathering(settings, scan, beside, asked, log, say).of(key)
    finally:
        scan.close()


class _Gathering:
    """The search for one order. Mutable: `_kept` has beginning and end of each partition, asked for once."""

    def __init__(
        self,
        settings: Settings,
        scan: KafkaScan,
        beside: ThreadPoolExecutor,
        asked: Asked,
        log: Log,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings.librdkafka, client_id=_CLIENT_ID, log=log)
        self._groups = KafkaGroups(settings.librdkafka, client_id=_CLIENT_ID, log=log)
        self._scan = scan
        self._beside = beside
        self._asked = asked
        self._say = say
        self._counts = scan.partitions()
        self._topics = _WITH_REKEY if settings.rekey else _TOPICS
        self._kept: dict[TopicPartition, tuple[int, int]] = {}
        if not any(settings.topic(topic) in self._counts for topic in _TOPICS):
            raise Unusable([none_there(settings.topic_prefix)])

    def of(self, key: bytes) -> Found:
        count = max((self._counts.get(self._settings.topic(topic), 0) for topic in self._topics), default=0)
        likely = by_murmur2(key, count)
        numbers = [likely] if self._settings.rekey else [likely, *self._others(key, likely, count)]
        if len(numbers) > 2:
            self._say(f"producers of these topics place keys differently: reading {len(numbers)} partitions of each")
        parts = [self._in_partition(key, number, self._sources()) for number in numbers]
        if not any(one.anything for one in parts):
            # A record may be anywhere: before nothing is said to be known, all partitions are searched.
            rest = [number for number in range(count) if number not in numbers]
            if rest:
                self._say(f"nothing of it where its key belongs: reading the other {len(rest)} partitions of each")
            parts += [self._in_partition(key, number, {}) for number in rest]
        # An order lives where its state is; without one, where something is known of it.
        parts.sort(key=lambda one: (one.state is None or one.state.order is None, not one.anything))
        found = parts[0]
        places = [one.partition for one in parts if one.is_placed]
        if len(places) > 1:
            found.notes.append(
                f"what is known of it stands in partitions {', '.join(map(str, sorted(places)))}: what is not in "
                f"{found.partition} never meets its order; `hakuna-processor check` says whose producers are to change"
            )
        elif places and found.partition != likely:
            why = "the producers of these topics partition in another way"
            if self._settings.rekey:
                why = "it is from before rekey was on, or something else writes to these topics"
            place = f"found in partition {found.partition}, not in {likely} where Kafka's default partitioner puts it"
            found.notes.append(f"{place}: {why}")
        for one in parts[1:]:
            if one.anything:
                found.join(one)
        self._read_letters_under_other_keys(found)
        return found

    def _others(self, key: bytes, likely: int, count: int) -> list[int]:
        """Returns where else the producers may have put the key: where their newest records show it, or anywhere."""
        if count < 2:
            return []
        if self._asked.full:
            return [number for number in range(count) if number != likely]
        numbers: set[int] = set()
        for sample in self._samples(count):
            placement = explain(sample.pairs, count)
            families = [family for family, _ in placement.mixed]
            families += [placement.family] if placement.family is not None else []
            if placement.told and not families:
                numbers.update(range(count))
            numbers.update(family.of(key, count) for family in families)
        return sorted(numbers - {likely})

    def _in_partition(self, key: bytes, number: int, sources: dict[TopicPartition, Topic]) -> Found:
        found = Found(key, number, sources=sources)
        names = {topic: self._settings.topic(topic) for topic in self._topics}
        where = {
            topic: TopicPartition(name, number) for topic, name in names.items() if number < self._counts.get(name, 0)
        }
        absent = [name for topic, name in names.items() if topic not in where]
        if absent:
            found.notes.append(f"not there, and so not searched: {', '.join(absent)}")
        answers = [
            self._beside.submit(self._committed, role, [where[topic] for topic in topics if topic in where])
            for role, topics in _CONSUMED.items()
        ]
        if found.sources:
            found.committed.update(self._committed(Role.REKEY, list(found.sources)))
            found.notes.append(
                "rekey is on: of the shops' topics all partitions are searched, by the order ID as a plain key and as "
                "a JSON string; events under other keys are seen by what became of them"
            )
        self._ask_kept([*where.values(), *found.sources])
        self._read_latest(found, where)
        for answer in answers:
            found.committed.update(answer.result())
        found.notes += self._overtaken(found.committed)
        self._read_in_time(found, where)
        self._read_resolutions(found, where)
        return found

    def _sources(self) -> dict[TopicPartition, Topic]:
        """Returns, with rekey, every partition of the shops' topics: any of them may have the order."""
        if not self._settings.rekey:
            return {}
        return {
            TopicPartition(name, number): topic
            for topic in ORDER_TOPICS
            for name in [self._settings.topic(topic)]
            for number in range(self._counts.get(name, 0))
        }

    def _ask_kept(self, partitions: Sequence[TopicPartition]) -> None:
        beginnings, ends = self._admin.beginnings(partitions), self._admin.ends(partitions)
        self._kept.update({where: (beginnings[where], ends[where]) for where in partitions})

    def _whole(self, where: TopicPartition) -> Window:
        return Window(*where, *self._kept[where])

    def _read_latest(self, found: Found, where: Mapping[Topic, TopicPartition]) -> None:
        newest = self._scan.find_last([self._whole(where[topic]) for topic in _LATEST if topic in where], found.key)
        for topic, record in ((topic, newest.get(where[topic])) for topic in _LATEST if topic in where):
            if topic is Topic.CHANGELOG:
                found.changelog = record
            elif record is not None and record.value is not None:
                found.hold = record
        found.notes += self._gaps(found.partition, where)
        if found.changelog is not None and found.changelog.value is not None:
            try:
                found.state = order_state.decode(found.changelog.value)
            except (StateCorrupt, StateTooNew) as corrupt:
                found.notes.append(f"{found.changelog.position}: the state cannot be read: {corrupt}")

    def _gaps(self, number: int, where: Mapping[Topic, TopicPartition]) -> list[str]:
        """Returns notes on records of the order's partitions that were deleted before they were taken, by the books of
        transform and send."""
        tails = [
            Window(*where[topic], max(beginning, end - _BOOK_RECORDS), end)
            for topic in (Topic.CHANGELOG, Topic.SEND_OFFSETS)
            if topic in where
            for beginning, end in [self._kept[where[topic]]]
        ]
        records = self._scan.find(tails, frozenset({BOOK_KEY, b"%d" % number}))
        books, outbox = self._settings.topic(Topic.SEND_OFFSETS), self._settings.topic(Topic.OUTBOX)
        return missed(number, records, books, outbox)

    def _overtaken(self, committed: Mapping[TopicPartition, int | None]) -> list[str]:
        """Returns notes on deleted records that no worker has come to yet."""
        return [
            f"{beginning - offset} records of {where.topic}/{where.partition} before offset {beginning} were deleted, "
            "and nobody has taken them: something of this order may have been among them"
            for where, offset in committed.items()
            if offset is not None and where in self._kept
            for beginning, _ in [self._kept[where]]
            if offset < beginning
        ]

    def _read_in_time(self, found: Found, where: Mapping[Topic, TopicPartition]) -> None:
        asked = self._asked
        partitions = {where[topic]: topic for topic in _IN_TIME if topic in where} | found.sources
        known = windows.moments(found.state) if found.state is not None and not asked.full else []
        spans = [windows.whole_span(known, asked.since_ms, asked.until_ms)]
        chosen = self._windows(list(partitions), spans)
        if known and _size(chosen) > windows.RECORDS_MAX:
            found.complete = False
            pending = self._pending(found, where, known=True)
            for slack_ms in windows.SLACKS_MS:
                spans = windows.near_spans(known, slack_ms, asked.since_ms, asked.until_ms)
                chosen = _merged([*self._windows(list(partitions), spans), *pending])
                if _size(chosen) <= windows.RECORDS_MAX:
                    break
        elif asked == Asked() and self._is_unknown(found, where) and _size(chosen) > windows.RECORDS_MAX:
            found.complete, spans = False, []
            letters = [self._whole(where[topic]) for topic in _LETTERS if topic in where]
            chosen = [*letters, *self._pending(found, where, known=False)]
        found.spans = spans
        if _size(chosen) > windows.RECORDS_MAX:
            self._say(f"no state tells when it was: reading {_size(chosen):,} records; --since and --until bound that")
        keys = {found.key, b'"' + found.key + b'"'} if found.sources else {found.key}
        for record in self._scan.find(chosen, frozenset(keys)):
            found.records.setdefault(partitions[TopicPartition(record.topic, record.partition)], []).append(record)

    def _windows(self, partitions: Sequence[TopicPartition], spans: Sequence[Span]) -> list[Window]:
        found = []
        # A topic that is stamped in seconds has nothing at present times: all of it is read.
        stamps = self._admin.newest_ms(partitions) if any(span != Span(None, None) for span in spans) else {}
        for span in spans:
            starts = {} if span.from_ms is None else self._admin.at(partitions, span.from_ms)
            ends = {} if span.until_ms is None else self._admin.at(partitions, span.until_ms)
            for where in partitions:
                first, end = self._kept[where]
                start = first if span.from_ms is None else starts[where]
                until = end if span.until_ms is None else ends[where]
                if (newest_ms := stamps.get(where)) is not None and newest_ms < PLAUSIBLE_MS_MIN:
                    start, until = first, end
                # None: all records are older.
                found.append(Window(*where, end if start is None else start, end if until is None else until))
        return [window for window in found if window.start < window.end]

    @staticmethod
    def _is_unknown(found: Found, where: Mapping[Topic, TopicPartition]) -> bool:
        """Returns true if transform does not know the order: it has no state and no hold."""
        return all(topic in where for topic in _LATEST) and found.changelog is None and found.hold is None

    def _pending(self, found: Found, where: Mapping[Topic, TopicPartition], *, known: bool) -> list[Window]:
        """Returns what transform has not consumed yet. If its offset is unknown, that is the whole partition: too much
        for an order that is `known` from its state."""
        pending = []
        for one in (*(where[topic] for topic in ORDER_TOPICS if topic in where), *found.sources):
            first, end = self._kept[one]
            start = found.committed.get(one)
            if start is not None or not known:
                pending.append(Window(*one, max(first, start or 0), end))
        return pending

    def _read_resolutions(self, found: Found, where: Mapping[Topic, TopicPartition]) -> None:
        keys = {resolution_key(letter.position) for topic in _LETTERS for letter in found.records.get(topic, [])}
        if keys and Topic.RESOLUTIONS in where:
            records = self._scan.find([self._whole(where[Topic.RESOLUTIONS])], frozenset(keys))
            newest = {record.key: record for record in records}
            found.resolutions += [record for record in newest.values() if record.value is not None]

    def _committed(self, role: Role, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        if not partitions:
            return {}
        try:
            answer = self._groups.committed(self._settings.group(role), partitions)
        except (Fatal, BrokerOutage):
            # A user who may read the topics may lack the right to ask about the groups: it stays unknown.
            return {}
        return {where: committed.next_offset for where, committed in answer.items()}

    def _samples(self, count: int) -> list[Sample]:
        """Returns some keys of each source topic, with their partitions."""
        topics = [name for topic in ORDER_TOPICS if self._counts.get(name := self._settings.topic(topic)) == count]
        partitions = [TopicPartition(name, number) for name in topics for number in range(count)]
        self._ask_kept(partitions)
        lasts = []
        for where in partitions:
            first, end = self._kept[where]
            lasts.append(Window(*where, max(first, end - max(1, _SAMPLE_RECORDS // count)), end))
        pairs: dict[str, list[tuple[bytes, int]]] = {name: [] for name in topics}
        for record in self._scan.heads(lasts, _SAMPLE_S_MAX):
            if record.key:
                pairs[record.topic].append((record.key, record.partition))
        return [Sample(count, of_topic) for of_topic in pairs.values()]

    def _read_letters_under_other_keys(self, found: Found) -> None:
        """Reads letters whose key is no plain order ID: the ID is in the key's framing, or in the value."""
        name = self._settings.topic(Topic.ORDER_DEAD_LETTERS)
        partitions = [TopicPartition(name, number) for number in range(self._counts.get(name, 0))]
        self._ask_kept(partitions)
        wholes = [self._whole(where) for where in partitions]
        try:
            order_id = found.key.decode()
        except UnicodeDecodeError:
            return
        if _size(wholes) > windows.RECORDS_MAX and not self._asked.full:
            searched = f"of the {_size(wholes):,} dead letters on {name} only those under its own key were searched"
            found.notes.append(f"{searched}; --full searches all")
            return
        known = {letter.position for letter in found.records.get(Topic.ORDER_DEAD_LETTERS, [])}
        named = self._scan.matching(
            wholes, lambda one: names_order(one.key(), one.value(), order_id, one.headers() or ())
        )
        letters = [one for one in named if one.position not in known and one.key != found.key]
        if not letters:
            return
        found.records.setdefault(Topic.ORDER_DEAD_LETTERS, []).extend(letters)
        found.notes.append(f"{len(letters)} dead letters of it have another key; each says what that is")
        resolutions = self._settings.topic(Topic.RESOLUTIONS)
        homes = {letter.partition for letter in letters if letter.partition < self._counts.get(resolutions, 0)}
        homes -= {found.partition, *(one.partition for one in found.elsewhere)}
        where = [TopicPartition(resolutions, number) for number in sorted(homes)]
        self._ask_kept(where)
        for one in where:
            self._read_resolutions(found, {Topic.RESOLUTIONS: one})


def missed(number: int, records: Sequence[Record], books: str, outbox: str) -> list[str]:
    """Returns what the books of transform and send say was deleted in partition `number` before they took it. `records`
    are the ends of the changelog and of the topic `books`; whole names."""
    gaps: dict[str, Gap | SendGap] = {}
    for record in records:
        if record.key == BOOK_KEY:
            with suppress(StateCorrupt):
                gaps.update(decode_book(record.value or b"").gaps)
    book = newest_books(record for record in records if record.topic == books).get(number)
    if book is not None and book.gap is not None:
        gaps[outbox] = book.gap
    return [
        f"{gap.missed} records of {topic}/{number} before offset {gap.next_offset} were deleted before they were "
        f"taken (seen {iso(gap.at_ms)}): something of this order may have been among them"
        for topic, gap in sorted(gaps.items())
    ]


def _size(chosen: Iterable[Window]) -> int:
    return sum(window.end - window.start for window in chosen)


def _merged(chosen: Iterable[Window]) -> list[Window]:
    """Joins windows of one partition that meet, so that no record is read twice."""
    merged: list[Window] = []
    for window in sorted(chosen):
        last = merged[-1] if merged else None
        if last is not None and last[:2] == window[:2] and window.start <= last.end:
            merged[-1] = last._replace(end=max(last.end, window.end))
        else:
            merged.append(window)
    return merged

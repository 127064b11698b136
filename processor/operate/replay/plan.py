"""The plan: every open letter of a topic and what a command does about it, in a database on disk.

Owned by one command. Ten million letters do not fit into memory and have to be grouped by order and sorted, which is
what a database is for; SQLite keeps a small plan in memory and spills a large one to a temporary file that nobody else
sees and that is gone with the process. What has to outlive the process stands in Kafka (`resolutions.py`).

    add ─► arranged ─► next orders ─► sent ─► accepted, absorbed or returned ─► settled orders ─► released

Invariants: a letter has one row; its status moves as drawn in `arrange.Status`; an order is under way while a letter of
its is SENT, and none of its letters is GO once one of them was RETURNED.

Not chosen: arrays by hand (30 bytes a letter, and a sort of our own); the letters' bytes in here (they stand in their
topic, and are read again when they go).

arrange: what a replay does with each open letter of one order, so that the order's sequence is kept. Pure.

    refused   was judged and refused; those behind it wait     ─┐ what waits goes along with what it waits for, and
    held      waits behind a refused one                       ─┘ neither goes before something that stays
    answered  was refused and holds nobody (`cancel_decline`)
    lone      of a topic where nobody waits for anybody (a source's, another tool's)

The sequence is that of the first refusals: a letter that came back stands behind younger ones in its topic, and before
them in its order.

Not chosen: the sequence of the dead-letter topic (after one replay that was refused in part, it is the wrong one).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from typing import Final, NamedTuple


class Kind(IntEnum):
    """What a letter is to the others of its order."""

    REFUSED = 0
    HELD = 1
    ANSWERED = 2
    LONE = 3


class Status(IntEnum):
    """Where a letter is in a replay.

    OPEN     not asked for
    STAYS    asked for, and cannot go: it says why
    STALE ──► DROPPED                      another letter says the same, or says it better
    GO ──► SENT ──┬─► ACCEPTED             somebody said that it was taken
      │           ├─► ABSORBED             it is finished, and left no trace: superseded, ignored or parked
      └─► STAYS   └─► RETURNED             it is a dead letter again
    """

    OPEN = 0
    STAYS = 1
    STALE = 2
    DROPPED = 3
    GO = 4
    SENT = 5
    ACCEPTED = 6
    ABSORBED = 7
    RETURNED = 8


class Planned(NamedTuple):
    """One open letter. `same_as` tells letters of one entry: a crash between a letter and its commit writes it
    twice. `snapshot`: it is a whole order, which the next one replaces. `obstacle` is why it cannot be sent, whatever
    else is asked; empty where it can."""

    offset: int
    kind: Kind
    selected: bool
    replays: int
    same_as: str
    snapshot: bool
    obstacle: str = ""


class Fate(NamedTuple):
    """What is done about a letter, and why where that is not plain."""

    status: Status
    why: str = ""


TWICE = "the same entry is a letter already"
NEWER = "a newer snapshot of its order is a letter too"
TOO_OFTEN = "it was replayed as often as --max-replays allows"
BEHIND = "an earlier letter of its order stays"
NOWHERE = "it does not say where it came from, or that topic is gone"


def arrange(letters: Sequence[Planned], *, replays_max: int, begun: bool = False, sends: bool = True) -> list[Fate]:
    """One fate a letter. `letters` are those of one order in its sequence; `begun`: letters of it went already in this
    replay; `sends` False: they are put aside, so none stands in another's way."""
    if not begun and not any(letter.selected for letter in letters):
        return [Fate(Status.OPEN)] * len(letters)
    if not sends:
        return [Fate(Status.GO if letter.selected else Status.OPEN) for letter in letters]
    fates: list[Fate] = []
    seen: set[str] = set()
    newest = max((place for place, letter in enumerate(letters) if letter.snapshot), default=-1)
    asked = any(letter.selected for letter in letters if letter.snapshot)
    blocked = False
    started = begun
    for place, letter in enumerate(letters):
        if letter.same_as and letter.same_as in seen:
            fates.append(Fate(Status.STALE, TWICE))
            continue
        seen.add(letter.same_as)
        if letter.snapshot and asked and place < newest:
            fates.append(Fate(Status.STALE, NEWER))
            continue
        fate = _fate(letter, blocked, started, letter.selected or (letter.snapshot and asked), replays_max)
        fates.append(fate)
        started |= fate.status is Status.GO
        blocked |= fate.status is not Status.GO and letter.kind in (Kind.REFUSED, Kind.HELD)
    return fates


def _fate(letter: Planned, blocked: bool, started: bool, selected: bool, replays_max: int) -> Fate:
    wanted = selected or (letter.kind is Kind.HELD and started)
    if not wanted:
        return Fate(Status.OPEN)
    if letter.obstacle:
        return Fate(Status.STAYS, letter.obstacle)
    if blocked and letter.kind in (Kind.REFUSED, Kind.HELD):
        return Fate(Status.STAYS, BEHIND)
    if letter.replays >= replays_max:
        return Fate(Status.STAYS, TOO_OFTEN)
    return Fate(Status.GO)


_SCHEMA: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -16384;
    CREATE TABLE letters (
        partition INTEGER, offset INTEGER, order_id BLOB, s1 INTEGER, s2 INTEGER, s3 INTEGER, kind INTEGER,
        selected INTEGER, replays INTEGER, same_as TEXT, snapshot INTEGER, obstacle TEXT, topic TEXT, reason TEXT,
        status INTEGER, why TEXT, entry_id TEXT, mark INTEGER, followed INTEGER, failed_ms INTEGER, event_ms INTEGER,
        stateful INTEGER, home INTEGER, home_id BLOB,
        PRIMARY KEY (partition, offset)
    ) WITHOUT ROWID;
    CREATE TABLE orders (
        partition INTEGER, order_id BLOB, turn INTEGER, state INTEGER, PRIMARY KEY (partition, order_id)
    ) WITHOUT ROWID;
    CREATE TABLE holds (partition INTEGER, order_id BLOB, value BLOB, PRIMARY KEY (partition, order_id)) WITHOUT ROWID;
    CREATE TABLE stated (partition INTEGER PRIMARY KEY);
    CREATE TABLE states (partition INTEGER, order_id BLOB, value BLOB, PRIMARY KEY (partition, order_id)) WITHOUT ROWID;
"""
_INDEXES: Final = """
    CREATE INDEX by_order ON letters (partition, order_id, s1, s2, s3, offset);
    CREATE INDEX by_entry ON letters (partition, entry_id) WHERE status = 5;
    CREATE INDEX by_status ON letters (status, partition, mark);
    CREATE INDEX by_home ON letters (home, home_id);
    CREATE INDEX by_turn ON orders (state, turn, partition);
"""
_INSERT: Final = "INSERT OR IGNORE INTO letters VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_BATCH: Final = 5_000


class OrderState(IntEnum):
    """Where an order is in a replay.

    PENDING ──► UNDER_WAY ──┬─► PENDING      more of it waits: another topic's turn, or letters that came meanwhile
                            ├─► SETTLED ──► DONE, released where it was held
                            └─► STOPPED      a letter of it came back
    """

    PENDING = 0
    UNDER_WAY = 1
    SETTLED = 2
    DONE = 3
    STOPPED = 4


class OrderKey(NamedTuple):
    """An order in the partition of its letters. `order_id` is the letters' key, whatever bytes that is."""

    partition: int
    order_id: bytes


class NewLetter(NamedTuple):
    """An open letter as it was read. `sequence` orders the letters of one order, `topic` is where it would go.
    `event_ms` is when the shop wrote what it tells of (None: it erases, and holds nobody's data); `stateful`: transform
    had a state of its order then. `home` is the partition of its copy and `home_id` the copy's key, where they are not
    the letter's."""

    partition: int
    order_id: bytes
    sequence: tuple[int, int, int]
    topic: str
    reason: str
    failed_ms: int
    planned: Planned
    event_ms: int | None = None
    stateful: bool = False
    home: int | None = None
    home_id: bytes | None = None


class SentLetter(NamedTuple):
    """A letter that was sent by an earlier run of the same replay. `entry_id` and `topic` are the copy's, `mark` the
    end of that topic now."""

    partition: int
    offset: int
    order_id: bytes
    topic: str
    entry_id: str
    mark: int
    home: int


class Going(NamedTuple):
    """A letter whose turn it is. `topic` is where it goes; `followed`: it came while the replay ran."""

    partition: int
    offset: int
    topic: str
    selected: bool
    followed: bool


class Plan:
    """Mutable throughout: the database, and `counts` of letters by status."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=True)
        self._db.executescript(_SCHEMA)
        self.counts: Counter[Status] = Counter()

    def close(self) -> None:
        self._db.close()

    # ---- making it --------------------------------------------------------------------------------------------------

    def add(self, letters: Iterable[NewLetter]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(_INSERT, (_row(letter, Status.OPEN, followed=False) for letter in letters))
        self._db.execute("COMMIT")

    def add_sent(self, letters: Iterable[SentLetter]) -> None:
        """What an earlier run of this replay has sent: what became of it is still to be heard."""
        self._db.execute("BEGIN")
        self._db.executemany(
            _INSERT,
            (
                (one.partition, one.offset, one.order_id, 0, 0, 0, Kind.LONE, 1, 0, "", 0, "", one.topic, "",
                 Status.SENT, "", one.entry_id, one.mark, 0, 0, None, 0, one.home, one.order_id)
                for one in letters
            ),
        )  # fmt: skip
        self._db.execute("COMMIT")

    def arranged(self, *, replays_max: int, sends: bool = True) -> None:
        """Decides about every letter, and gives the orders their turns: by the first letter of each that goes, the
        partitions side by side."""
        self._db.executescript(_INDEXES)
        self._db.execute("BEGIN")
        fates: list[tuple[int, str, int, int]] = []
        for (partition, _order_id), rows in groupby(self._by_order(), key=lambda row: (row[0], row[1])):
            order = list(rows)
            begun = any(row[9] == Status.SENT for row in order)
            open_rows = [row for row in order if row[9] == Status.OPEN]
            planned = [
                Planned(row[2], Kind(row[3]), bool(row[4]), row[5], row[6], bool(row[7]), row[8]) for row in open_rows
            ]
            for letter, fate in zip(planned, arrange(planned, replays_max=replays_max, begun=begun, sends=sends),
                                    strict=True):  # fmt: skip
                if fate.status is not Status.OPEN:
                    fates.append((fate.status, fate.why, partition, letter.offset))
            if len(fates) >= _BATCH:
                self._write_fates(fates)
        self._write_fates(fates)
        self._db.execute(
            "INSERT INTO orders"
            " SELECT partition, order_id, row_number() OVER (PARTITION BY partition ORDER BY min(offset)),"
            " CASE WHEN max(status = ?) THEN ? ELSE ? END"
            " FROM letters WHERE status IN (?, ?, ?) GROUP BY partition, order_id",
            (Status.SENT, OrderState.UNDER_WAY, OrderState.PENDING, Status.GO, Status.STALE, Status.SENT),
        )
        self._db.execute("COMMIT")
        self._recount()

    def _by_order(self) -> Iterator[tuple[int, bytes, int, int, int, int, str, int, str, int]]:
        cursor = self._db.cursor()
        cursor.execute(
            "SELECT partition, order_id, offset, kind, selected, replays, same_as, snapshot, obstacle, status"
            " FROM letters ORDER BY partition, order_id, s1, s2, s3, offset"
        )
        while rows := cursor.fetchmany(_BATCH):
            yield from rows

    def _write_fates(self, fates: list[tuple[int, str, int, int]]) -> None:
        self._db.executemany("UPDATE letters SET status = ?, why = ? WHERE partition = ? AND offset = ?", fates)
        fates.clear()

    def _recount(self) -> None:
        rows = self._db.execute("SELECT status, count(*) FROM letters GROUP BY 1")
        self.counts = Counter({Status(status): count for status, count in rows})

    # ---- asking it --------------------------------------------------------------------------------------------------

    @property
    def orders(self) -> int:
        return self._one("SELECT count(*) FROM orders")

    def partitions(self) -> list[int]:
        """Those that have letters at all."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT partition FROM letters")]

    def homes(self) -> list[int]:
        """The partitions that copies go to, or went to."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT home FROM letters")]

    def going(self, partition: int) -> Iterator[Going]:
        """All letters of a partition that are to go, by offset. Nothing may be changed while this is walked."""
        cursor = self._db.cursor()
        cursor.execute(
            "SELECT partition, offset, topic, selected, followed FROM letters"
            " WHERE status = ? AND partition = ? ORDER BY offset",
            (Status.GO, partition),
        )
        while rows := cursor.fetchmany(_BATCH):
            yield from (Going(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in rows)

    def targets(self) -> list[str]:
        """The topics that letters of this plan go to, or went to and are still to be heard of."""
        return [
            row[0]
            for row in self._db.execute(
                "SELECT DISTINCT topic FROM letters WHERE status IN (?, ?) AND topic != '' ORDER BY topic",
                (Status.GO, Status.SENT),
            )
        ]

    def reasons(self, *statuses: Status) -> dict[str, int]:
        """How many letters of these statuses were refused for what."""
        marks = ",".join("?" * len(statuses))
        return dict(
            self._db.execute(
                f"SELECT reason, count(*) FROM letters WHERE status IN ({marks}) GROUP BY 1 ORDER BY 2 DESC", statuses
            )
        )

    def whys(self, *statuses: Status) -> dict[str, int]:
        """Why letters of these statuses are where they are."""
        marks = ",".join("?" * len(statuses))
        return dict(
            self._db.execute(
                f"SELECT why, count(*) FROM letters WHERE status IN ({marks}) GROUP BY 1 ORDER BY 2 DESC", statuses
            )
        )

    def examples(self, status: Status, limit: int) -> list[tuple[int, int, str]]:
        """The first letters of a status: partition, offset, why."""
        return self._db.execute(
            "SELECT partition, offset, why FROM letters WHERE status = ? ORDER BY partition, offset LIMIT ?",
            (status, limit),
        ).fetchall()

    def followers(self) -> int:
        """Letters that go along though they were not asked for."""
        return self._one("SELECT count(*) FROM letters WHERE status = ? AND NOT selected", Status.GO)

    def held_orders(self) -> int:
        """Orders of the plan that are held."""
        return self._one("SELECT count(*) FROM holds")

    def first_orders(self, limit: int | None) -> list[bytes]:
        """The orders whose turn comes first, by their letters' key; None: all of them."""
        rows = self._db.execute(
            "SELECT order_id FROM orders ORDER BY turn, partition LIMIT ?", (-1 if limit is None else limit,)
        )
        return [row[0] for row in rows]

    def has(self, order: OrderKey) -> bool:
        return self.state(order) is not None

    def state(self, order: OrderKey) -> OrderState | None:
        row = self._db.execute("SELECT state FROM orders WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if row is None else OrderState(row[0])

    def still_open(self, order: OrderKey) -> int:
        """Letters of an order that nobody has resolved."""
        return self._one(
            "SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status IN (?, ?, ?, ?)",
            *order, Status.OPEN, Status.STAYS, Status.STALE, Status.GO,
        )  # fmt: skip

    # ---- its course -------------------------------------------------------------------------------------------------

    def next_orders(self, limit: int) -> list[OrderKey]:
        """The orders whose turn it is."""
        rows = self._db.execute(
            "SELECT partition, order_id FROM orders WHERE state = ? ORDER BY turn, partition LIMIT ?",
            (OrderState.PENDING, limit),
        )
        return [OrderKey(*row) for row in rows]

    def next_letters(self, order: OrderKey, limit: int) -> list[Going]:
        """Those letters of an order that may go now, in its sequence: up to the first for another topic, since two
        topics keep no order between them."""
        rows = self._db.execute(
            "SELECT partition, offset, topic, selected, followed FROM letters"
            " WHERE partition = ? AND order_id = ? AND status = ? ORDER BY s1, s2, s3, offset LIMIT ?",
            (*order, Status.GO, limit),
        ).fetchall()
        found: list[Going] = []
        for partition, offset, topic, selected, followed in rows:
            if found and topic != found[0].topic:
                break
            found.append(Going(partition, offset, topic, bool(selected), bool(followed)))
        return found

    def stale_letters(self, order: OrderKey) -> list[tuple[int, str]]:
        """Those that another letter speaks for: offset and why."""
        return self._db.execute(
            "SELECT offset, why FROM letters WHERE partition = ? AND order_id = ? AND status = ?",
            (*order, Status.STALE),
        ).fetchall()

    def sent(self, letters: Sequence[tuple[int, int, str, int]], dropped: Sequence[tuple[int, int]]) -> None:
        """These were written: partition, offset, the copy's entry ID, and the end of its topic afterwards."""
        self._db.execute("BEGIN")
        for partition, offset, entry_id, mark in letters:
            self._db.execute(
                "UPDATE letters SET status = ?, entry_id = ?, mark = ? WHERE partition = ? AND offset = ?",
                (Status.SENT, entry_id, mark, partition, offset),
            )
        for partition, offset in dropped:
            self._set(partition, offset, Status.DROPPED)
        self._db.execute("COMMIT")
        self._move(Status.GO, Status.SENT, len(letters))
        self._move(Status.STALE, Status.DROPPED, len(dropped))

    def set_state(self, order: OrderKey, state: OrderState) -> None:
        self._db.execute("UPDATE orders SET state = ? WHERE partition = ? AND order_id = ?", (state, *order))

    def accepted(self, partition: int, entry_id: str) -> OrderKey | None:
        """A receipt for an entry. The order that it settles something of, if it is one of ours."""
        row = self._db.execute(
            "SELECT offset, order_id FROM letters WHERE partition = ? AND entry_id = ? AND status = 5",
            (partition, entry_id),
        ).fetchone()
        return None if row is None else self._settle(partition, row[0], row[1], Status.ACCEPTED)

    def settled(self, partition: int, offset: int, status: Status) -> OrderKey | None:
        """What became of a letter that was sent. None where it was not, or that was known."""
        row = self._db.execute(
            "SELECT order_id FROM letters WHERE partition = ? AND offset = ? AND status = ?",
            (partition, offset, Status.SENT),
        ).fetchone()
        return None if row is None else self._settle(partition, offset, row[0], status)

    def _settle(self, partition: int, offset: int, order_id: bytes, status: Status) -> OrderKey:
        assert status in (Status.ACCEPTED, Status.ABSORBED, Status.RETURNED)
        self._set(partition, offset, status)
        self._move(Status.SENT, status, 1)
        order = OrderKey(partition, order_id)
        if status is Status.RETURNED:
            self.stop(order)
        return order

    def stop(self, order: OrderKey, why: str = BEHIND) -> None:
        """Nothing more of this order goes."""
        self.set_state(order, OrderState.STOPPED)
        stays = self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ?",
            (Status.STAYS, why, *order, Status.GO),
        ).rowcount
        self._move(Status.GO, Status.STAYS, stays)

    def stay(self, partition: int, offset: int, why: str) -> None:
        """This letter cannot go, and what waits behind it stays with it."""
        row = self._db.execute(
            "SELECT order_id, kind, s1, s2, s3 FROM letters WHERE partition = ? AND offset = ? AND status = ?",
            (partition, offset, Status.GO),
        ).fetchone()
        if row is None:
            return
        order_id, kind, *sequence = row
        self._set(partition, offset, Status.STAYS, why)
        self._move(Status.GO, Status.STAYS, 1)
        if kind not in (Kind.REFUSED, Kind.HELD):
            return
        behind = self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ?"
            " AND kind IN (?, ?) AND (s1, s2, s3, offset) > (?, ?, ?, ?)",
            (Status.STAYS, BEHIND, partition, order_id, Status.GO, Kind.REFUSED, Kind.HELD, *sequence, offset),
        ).rowcount
        self._move(Status.GO, Status.STAYS, behind)

    def earliest_ms(self) -> int | None:
        """When the oldest was written of what the letters that go tell of."""
        (found,) = self._db.execute("SELECT min(event_ms) FROM letters WHERE status = ?", (Status.GO,)).fetchone()
        return None if found is None else int(found)

    def stateless(self) -> list[OrderKey]:
        """Orders with letters to go that had a state when one of them was refused, and have none now. None of a
        partition whose states were not read."""
        rows = self._db.execute(
            "SELECT DISTINCT partition, order_id FROM letters WHERE status = ? AND stateful"
            " AND partition IN (SELECT partition FROM stated)"
            " AND NOT EXISTS (SELECT 1 FROM states s WHERE s.partition = letters.partition"
            " AND s.order_id = letters.order_id)",
            (Status.GO,),
        )
        return [OrderKey(*row) for row in rows.fetchall()]

    def keep_back(self, order: OrderKey, until_ms: int | None, why: str) -> None:
        """Nothing goes of what was written of this order up to that moment (None: whenever), nor what waits behind."""
        told = "event_ms IS NOT NULL" if until_ms is None else "event_ms <= ?"
        limit = () if until_ms is None else (until_ms,)
        kept = self._db.execute(
            f"UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ? AND {told}",
            (Status.STAYS, why, *order, Status.GO, *limit),
        ).rowcount
        if not kept:
            return
        behind = self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ?"
            " AND kind IN (?, ?)",
            (Status.STAYS, BEHIND, *order, Status.GO, Kind.REFUSED, Kind.HELD),
        ).rowcount
        self._move(Status.GO, Status.STAYS, kept + behind)
        if not self._one(
            "SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status IN (?, ?, ?)",
            *order, Status.GO, Status.STALE, Status.SENT,
        ):  # fmt: skip
            self._db.execute("DELETE FROM orders WHERE partition = ? AND order_id = ?", order)

    def keep_back_home(self, home: OrderKey, until_ms: int, why: str) -> None:
        """The same for letters that would go to that order from elsewhere."""
        rows = self._db.execute(
            "SELECT partition, offset FROM letters WHERE home = ? AND home_id = ? AND status = ? AND event_ms <= ?"
            " AND (partition != home OR order_id != home_id)",
            (*home, Status.GO, until_ms),
        ).fetchall()
        for partition, offset in rows:
            self.stay(partition, offset, why)

    def under_way(self, order: OrderKey) -> int:
        """How many letters of an order are sent and not heard of."""
        return self._one(
            "SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status = ?", *order, Status.SENT
        )

    def waiting(self, order: OrderKey) -> int:
        """How many letters of an order are still to go."""
        return self._one(
            "SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status = ?", *order, Status.GO
        )

    def unheard(self, home: int, topic: str, mark_max: int) -> list[tuple[int, int]]:
        """Partitions and offsets of the letters whose copies stand below `mark_max` in this partition of this topic and
        that nobody has spoken of."""
        return list(
            self._db.execute(
                "SELECT partition, offset FROM letters WHERE status = ? AND home = ? AND mark <= ? AND topic = ?",
                (Status.SENT, home, mark_max, topic),
            )
        )

    def marks(self) -> dict[tuple[int, str], int]:
        """The lowest mark of what is sent and not heard of, by the copies' partition and topic."""
        return {
            (home, topic): mark
            for home, topic, mark in self._db.execute(
                "SELECT home, topic, min(mark) FROM letters WHERE status = ? GROUP BY 1, 2", (Status.SENT,)
            )
        }

    def follow(self, letter: NewLetter) -> bool:
        """A letter that came while the replay ran. True where it goes along."""
        order = OrderKey(letter.partition, letter.order_id)
        state = self.state(order)
        goes = state is not None and state is not OrderState.STOPPED and letter.planned.kind is Kind.HELD
        known = self._db.execute(
            "SELECT 1 FROM letters WHERE partition = ? AND offset = ?", (letter.partition, letter.planned.offset)
        ).fetchone()
        if known is not None:
            return False
        status = Status.GO if goes else Status.OPEN
        self._db.execute(_INSERT, _row(letter, status, followed=True))
        self.counts[status] += 1
        if goes and state in (OrderState.SETTLED, OrderState.DONE):
            self.set_state(order, OrderState.PENDING)
        return goes

    def _move(self, before: Status, after: Status, letters: int) -> None:
        self.counts[before] -= letters
        self.counts[after] += letters
        assert self.counts[before] >= 0, f"more letters left {before.name} than were there"

    def delivered(self, order: OrderKey, at_ms: int, why: str) -> None:
        """A snapshot of this order was delivered at that time: letters that failed before it say nothing new."""
        stale = self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ? AND snapshot"
            " AND failed_ms < ?",
            (Status.STALE, why, *order, Status.GO, at_ms),
        ).rowcount
        self._move(Status.GO, Status.STALE, stale)

    @property
    def has_snapshots(self) -> bool:
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM letters WHERE snapshot AND status = ?)", Status.GO))

    # ---- what is known of its orders --------------------------------------------------------------------------------

    def hold(self, order: OrderKey, value: bytes | None) -> None:
        """What the topic of holds says of an order."""
        if value is None:
            self._db.execute("DELETE FROM holds WHERE partition = ? AND order_id = ?", order)
        else:
            self._db.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (*order, value))

    def held(self, order: OrderKey) -> bytes | None:
        row = self._db.execute("SELECT value FROM holds WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if row is None else bytes(row[0])

    def has_states(self, partition: int) -> None:
        """The states of this partition's orders were read, and there are some."""
        self._db.execute("INSERT OR IGNORE INTO stated VALUES (?)", (partition,))

    def keep_state(self, order: OrderKey, value: bytes | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM states WHERE partition = ? AND order_id = ?", order)
        else:
            self._db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", (*order, value))

    def kept_state(self, order: OrderKey) -> bytes | None:
        row = self._db.execute("SELECT value FROM states WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if row is None else bytes(row[0])

    def _set(self, partition: int, offset: int, status: Status, why: str = "") -> None:
        self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND offset = ?",
            (status, why, partition, offset),
        )

    def _one(self, sql: str, *values: object) -> int:
        return int(self._db.execute(sql, values).fetchone()[0])


def _row(letter: NewLetter, status: Status, *, followed: bool) -> tuple[object, ...]:
    planned = letter.planned
    return (
        letter.partition, planned.offset, letter.order_id, *letter.sequence, planned.kind, planned.selected,
        planned.replays, planned.same_as, planned.snapshot, planned.obstacle, letter.topic, letter.reason, status,
        "", None, 0, followed, letter.failed_ms, letter.event_ms, letter.stateful,
        letter.partition if letter.home is None else letter.home,
        letter.order_id if letter.home_id is None else letter.home_id,
    )  # fmt: skip

"""The plan: every open letter of a topic and what a command does about it, in a database on disk.

Owned by one command. Ten million letters do not fit into memory and have to be grouped by order and sorted, which is
what a database is for (`database.py`). What has to outlive the process stands in Kafka (`resolutions.py`).

    add ─► arranged ─► next orders ─► sent ─► accepted, absorbed or returned ─► settled orders ─► released

Invariants: a letter has one row; its status moves as drawn in `arrange.Status`; an order is under way while a letter of
its is SENT, and none of its letters is GO once one of them was RETURNED.

Not chosen: arrays by hand (30 bytes a letter, and a sort of our own); the letters' bytes in here (they stand in their
topic, and are read again when they go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby

from processor.operate.replay.arrange import BEHIND, Kind, Planned, Status, arrange
from processor.operate.replay.database import (
    BATCH,
    INDEXES,
    INSERT,
    Going,
    Known,
    NewLetter,
    OrderKey,
    Overview,
    SentLetter,
    one,
    opened,
    row,
)


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


class Plan:
    """Mutable throughout: the database, and `counts` of letters by status."""

    def __init__(self) -> None:
        self._db = opened()
        self.counts: Counter[Status] = Counter()
        self.overview = Overview(self._db)
        self.known = Known(self._db)

    def close(self) -> None:
        self._db.close()

    # ---- making it --------------------------------------------------------------------------------------------------

    def add(self, letters: Iterable[NewLetter]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(INSERT, (row(letter, Status.OPEN, followed=False) for letter in letters))
        self._db.execute("COMMIT")

    def add_sent(self, letters: Iterable[SentLetter]) -> None:
        """What an earlier run of this replay has sent: what became of it is still to be heard."""
        self._db.execute("BEGIN")
        self._db.executemany(
            INSERT,
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
        self._db.executescript(INDEXES)
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
            if len(fates) >= BATCH:
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
        while rows := cursor.fetchmany(BATCH):
            yield from rows

    def _write_fates(self, fates: list[tuple[int, str, int, int]]) -> None:
        self._db.executemany("UPDATE letters SET status = ?, why = ? WHERE partition = ? AND offset = ?", fates)
        fates.clear()

    def _recount(self) -> None:
        rows = self._db.execute("SELECT status, count(*) FROM letters GROUP BY 1")
        self.counts = Counter({Status(status): count for status, count in rows})

    # ---- asking it --------------------------------------------------------------------------------------------------

    def going(self, partition: int) -> Iterator[Going]:
        """All letters of a partition that are to go, by offset. Nothing may be changed while this is walked."""
        cursor = self._db.cursor()
        cursor.execute(
            "SELECT partition, offset, topic, selected, followed FROM letters"
            " WHERE status = ? AND partition = ? ORDER BY offset",
            (Status.GO, partition),
        )
        while rows := cursor.fetchmany(BATCH):
            yield from (Going(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in rows)

    def has(self, order: OrderKey) -> bool:
        return self.state(order) is not None

    def state(self, order: OrderKey) -> OrderState | None:
        row = self._db.execute("SELECT state FROM orders WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if row is None else OrderState(row[0])

    def letters_of(self, order: OrderKey, *statuses: Status) -> int:
        """How many letters of an order are in one of these statuses."""
        marks = ",".join("?" * len(statuses))
        return one(
            self._db,
            f"SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status IN ({marks})",
            *order,
            *statuses,
        )

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

    def keep_back(self, order: OrderKey, until_ms: int | None, why: str) -> None:
        """Nothing goes of what was written of this order up to that moment (None: whenever), nor what waits behind."""
        of_time = "event_ms IS NOT NULL" if until_ms is None else "event_ms <= ?"
        limit = () if until_ms is None else (until_ms,)
        kept = self._db.execute(
            f"UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ? AND {of_time}",
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
        if not self.letters_of(order, Status.GO, Status.STALE, Status.SENT):
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
        self._db.execute(INSERT, row(letter, status, followed=True))
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

    def _set(self, partition: int, offset: int, status: Status, why: str = "") -> None:
        self._db.execute(
            "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND offset = ?",
            (status, why, partition, offset),
        )

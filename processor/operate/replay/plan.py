"""The plan: every open letter of a topic and what a command does about it, in a database on disk.

Owned by one command. Ten million letters do not fit into memory and must be grouped by order and sorted, which is the
work of a database (`database.py`). Kafka keeps what has to outlive the process (`letters/resolutions.py`).

    add ─► arranged ─► next orders ─► sent ─► accepted, absorbed or returned ─► settled orders ─► released

Invariants: a letter has one row; its status moves as drawn in `arrange.Status`; an order is under way while one of its
letters is SENT, and none of its letters is GO after one of them was RETURNED.

Not chosen: our own arrays (30 bytes a letter, and our own sort); the letters' bytes in the database (they are read from
their topic again when they go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from typing import Final

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
    marks,
    one,
    opened,
    row,
)

_GOING: Final = "SELECT partition, offset, topic, selected, followed FROM letters"
_WAITS: Final = f"kind IN ({Kind.REFUSED:d}, {Kind.HELD:d})"
"""True of a letter that waits behind an earlier one of its order."""


class OrderState(IntEnum):
    """Where an order is in a replay.

    PENDING ──► UNDER_WAY ──┬─► PENDING      more of it waits: another topic's turn, or letters that came meanwhile
                            ├─► SETTLED ──► DONE, released if it was held
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

    def add(self, letters: Iterable[NewLetter]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(INSERT, (row(letter, Status.OPEN, followed=False) for letter in letters))
        self._db.execute("COMMIT")

    def add_sent(self, letters: Iterable[SentLetter]) -> None:
        """Adds letters that an earlier process of this replay has sent; their outcome is not known yet."""
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
        """Decides about every letter. Gives each order its turn by its first letter that goes, the partitions side by
        side."""
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
        rows = self._db.execute("SELECT status, count(*) FROM letters GROUP BY 1")
        self.counts = Counter({Status(status): count for status, count in rows})

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

    def going(self, partition: int) -> Iterator[Going]:
        """Yields all letters of a partition that are to go, by offset. The plan must not change meanwhile."""
        cursor = self._db.cursor()
        cursor.execute(f"{_GOING} WHERE status = ? AND partition = ? ORDER BY offset", (Status.GO, partition))
        while rows := cursor.fetchmany(BATCH):
            yield from (Going(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in rows)

    def has(self, order: OrderKey) -> bool:
        return self.state(order) is not None

    def state(self, order: OrderKey) -> OrderState | None:
        row = self._db.execute("SELECT state FROM orders WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if row is None else OrderState(row[0])

    def letters_of(self, order: OrderKey, *statuses: Status) -> int:
        """Returns how many letters of an order have one of these statuses."""
        sql = f"SELECT count(*) FROM letters WHERE partition = ? AND order_id = ? AND status IN ({marks(statuses)})"
        return one(self._db, sql, *order, *statuses)

    def next_orders(self, limit: int) -> list[OrderKey]:
        """Returns the orders whose turn it is."""
        sql = "SELECT partition, order_id FROM orders WHERE state = ? ORDER BY turn, partition LIMIT ?"
        return [OrderKey(*row) for row in self._db.execute(sql, (OrderState.PENDING, limit))]

    def next_letters(self, order: OrderKey, limit: int) -> list[Going]:
        """Returns the letters of an order that may go now, in its sequence: up to the first one for another topic,
        because two topics keep no order between them."""
        sql = f"{_GOING} WHERE partition = ? AND order_id = ? AND status = ? ORDER BY s1, s2, s3, offset LIMIT ?"
        rows = self._db.execute(sql, (*order, Status.GO, limit)).fetchall()
        found: list[Going] = []
        for partition, offset, topic, selected, followed in rows:
            if found and topic != found[0].topic:
                break
            found.append(Going(partition, offset, topic, bool(selected), bool(followed)))
        return found

    def stale_letters(self, order: OrderKey) -> list[tuple[int, str]]:
        """Returns offset and reason of the letters that another one replaces."""
        sql = "SELECT offset, why FROM letters WHERE partition = ? AND order_id = ? AND status = ?"
        return self._db.execute(sql, (*order, Status.STALE)).fetchall()

    def sent(self, letters: Sequence[tuple[int, int, str, int]], dropped: Sequence[tuple[int, int]]) -> None:
        """Notes what was written: partition, offset, the copy's entry ID, and the end of its topic afterwards."""
        self._db.execute("BEGIN")
        sql = "UPDATE letters SET status = ?, entry_id = ?, mark = ? WHERE partition = ? AND offset = ?"
        self._db.executemany(sql, ((Status.SENT, entry_id, mark, *place) for *place, entry_id, mark in letters))
        for partition, offset in dropped:
            self._set(partition, offset, Status.DROPPED)
        self._db.execute("COMMIT")
        self._move(Status.GO, Status.SENT, len(letters))
        self._move(Status.STALE, Status.DROPPED, len(dropped))

    def set_state(self, order: OrderKey, state: OrderState) -> None:
        self._db.execute("UPDATE orders SET state = ? WHERE partition = ? AND order_id = ?", (state, *order))

    def accepted(self, partition: int, entry_id: str) -> OrderKey | None:
        """Settles the letter of an entry that has a receipt. Returns its order; None if the plan has no such letter."""
        sql = "SELECT offset, order_id FROM letters WHERE partition = ? AND entry_id = ? AND status = 5"
        row = self._db.execute(sql, (partition, entry_id)).fetchone()
        return None if row is None else self._settle(partition, row[0], row[1], Status.ACCEPTED)

    def settled(self, partition: int, offset: int, status: Status) -> OrderKey | None:
        """Settles a letter that was sent. Returns its order; None if it was not sent, or was settled already."""
        sql = "SELECT order_id FROM letters WHERE partition = ? AND offset = ? AND status = ?"
        row = self._db.execute(sql, (partition, offset, Status.SENT)).fetchone()
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
        """Lets the rest of this order stay."""
        self.set_state(order, OrderState.STOPPED)
        self._stay(order, why)

    def stay(self, partition: int, offset: int, why: str) -> None:
        """Lets this letter stay, and those that wait behind it."""
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
        later = f"{_WAITS} AND (s1, s2, s3, offset) > (?, ?, ?, ?)"
        self._stay(OrderKey(partition, order_id), BEHIND, later, *sequence, offset)

    def keep_back(self, order: OrderKey, until_ms: int | None, why: str) -> None:
        """Lets the letters of this order stay whose event was written up to that moment (None: at any time), and those
        that wait behind them."""
        of_time = "event_ms IS NOT NULL" if until_ms is None else "event_ms <= ?"
        if not self._stay(order, why, of_time, *(() if until_ms is None else (until_ms,))):
            return
        self._stay(order, BEHIND, _WAITS)
        if not self.letters_of(order, Status.GO, Status.STALE, Status.SENT):
            self._db.execute("DELETE FROM orders WHERE partition = ? AND order_id = ?", order)

    def keep_back_home(self, home: OrderKey, until_ms: int, why: str) -> None:
        """Does the same for letters of other partitions or keys that would go to that order."""
        rows = self._db.execute(
            "SELECT partition, offset FROM letters WHERE home = ? AND home_id = ? AND status = ? AND event_ms <= ?"
            " AND (partition != home OR order_id != home_id)",
            (*home, Status.GO, until_ms),
        ).fetchall()
        for partition, offset in rows:
            self.stay(partition, offset, why)

    def unheard(self, home: int, topic: str, mark_max: int) -> list[tuple[int, int]]:
        """Returns partition and offset of the letters without an outcome whose copies are below `mark_max` in this
        partition of this topic."""
        sql = "SELECT partition, offset FROM letters WHERE status = ? AND home = ? AND mark <= ? AND topic = ?"
        return self._db.execute(sql, (Status.SENT, home, mark_max, topic)).fetchall()

    def marks(self) -> dict[tuple[int, str], int]:
        """Returns the lowest mark of the letters without an outcome, by the copies' partition and topic."""
        sql = "SELECT home, topic, min(mark) FROM letters WHERE status = ? GROUP BY 1, 2"
        return {(home, topic): mark for home, topic, mark in self._db.execute(sql, (Status.SENT,))}

    def follow(self, letter: NewLetter) -> bool:
        """Takes in a letter that came while the replay ran. Returns true if it goes, too."""
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

    def _stay(self, order: OrderKey, why: str, which: str = "1", *values: object, to: Status = Status.STAYS) -> int:
        """Changes the status of the order's letters that were to go, if `which` is true of them. Returns how many."""
        sql = f"UPDATE letters SET status = ?, why = ? WHERE partition = ? AND order_id = ? AND status = ? AND {which}"
        count = self._db.execute(sql, (to, why, *order, Status.GO, *values)).rowcount
        self._move(Status.GO, to, count)
        return count

    def _move(self, before: Status, after: Status, letters: int) -> None:
        self.counts[before] -= letters
        self.counts[after] += letters
        assert self.counts[before] >= 0, f"more letters left {before.name} than were there"

    def delivered(self, order: OrderKey, at_ms: int, why: str) -> None:
        """Drops the order's snapshots that failed before this time, because a newer one was delivered then."""
        self._stay(order, why, "snapshot AND failed_ms < ?", at_ms, to=Status.STALE)

    def _set(self, partition: int, offset: int, status: Status, why: str = "") -> None:
        sql = "UPDATE letters SET status = ?, why = ? WHERE partition = ? AND offset = ?"
        self._db.execute(sql, (status, why, partition, offset))

"""The plan's tables, and the questions that change no letter.

`Overview` answers questions about all letters of a plan. `Known` is what the topics say of the plan's orders: their
holds and their states. SQLite keeps a small database in memory and spills a large one to a temporary file that no other
process sees, and that is gone with this one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from processor.operate.replay.arrange import Planned, Status

SCHEMA: Final = """
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
INDEXES: Final = """
    CREATE INDEX by_order ON letters (partition, order_id, s1, s2, s3, offset);
    CREATE INDEX by_entry ON letters (partition, entry_id) WHERE status = 5;
    CREATE INDEX by_status ON letters (status, partition, mark);
    CREATE INDEX by_home ON letters (home, home_id);
    CREATE INDEX by_turn ON orders (state, turn, partition);
"""
INSERT: Final = "INSERT OR IGNORE INTO letters VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
BATCH: Final = 5_000


class OrderKey(NamedTuple):
    """An order in the partition of its letters. `order_id` is the letters' key, which may be any bytes."""

    partition: int
    order_id: bytes


class NewLetter(NamedTuple):
    """An open letter as it was read. `sequence` orders the letters of one order, `topic` is where it would go.
    `event_ms` is when the shop wrote its event (None: it is an erasure, without anyone's data); `stateful` is true if
    transform had a state of its order then. `home` is the partition of its copy and `home_id` the copy's key, if they
    are not the letter's."""

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
    """A letter that an earlier process of the same replay has sent. `entry_id` and `topic` are the copy's, `mark` is
    the end of that topic now."""

    partition: int
    offset: int
    order_id: bytes
    topic: str
    entry_id: str
    mark: int
    home: int


class Going(NamedTuple):
    """A letter whose turn it is. `topic` is where it goes; `followed` is true if it came while the replay ran."""

    partition: int
    offset: int
    topic: str
    selected: bool
    followed: bool


def opened() -> sqlite3.Connection:
    """Returns a new, empty database for the calling thread."""
    made = sqlite3.connect("", isolation_level=None, check_same_thread=True)
    made.executescript(SCHEMA)
    return made


def one(db: sqlite3.Connection, sql: str, *values: object) -> int:
    return int(db.execute(sql, values).fetchone()[0])


def row(letter: NewLetter, status: Status, *, followed: bool) -> tuple[object, ...]:
    planned = letter.planned
    return (
        letter.partition, planned.offset, letter.order_id, *letter.sequence, planned.kind, planned.selected,
        planned.replays, planned.same_as, planned.snapshot, planned.obstacle, letter.topic, letter.reason, status,
        "", None, 0, followed, letter.failed_ms, letter.event_ms, letter.stateful,
        letter.partition if letter.home is None else letter.home,
        letter.order_id if letter.home_id is None else letter.home_id,
    )  # fmt: skip


def marks(values: Sequence[object]) -> str:
    """Returns one placeholder for each value."""
    return ",".join("?" * len(values))


class Overview:
    """Questions about all letters of a plan."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @property
    def orders(self) -> int:
        return one(self._db, "SELECT count(*) FROM orders")

    def partitions(self) -> list[int]:
        """Returns the partitions that have letters."""
        return self._column("SELECT DISTINCT partition FROM letters")

    def homes(self) -> list[int]:
        """Returns the partitions that copies go to, or went to."""
        return self._column("SELECT DISTINCT home FROM letters")

    def targets(self) -> list[str]:
        """Returns the topics that letters go to, or went to without an outcome yet."""
        sql = "SELECT DISTINCT topic FROM letters WHERE status IN (?, ?) AND topic != '' ORDER BY topic"
        return self._column(sql, Status.GO, Status.SENT)

    def reasons(self, *statuses: Status) -> dict[str, int]:
        """Returns the number of letters with these statuses by the reason of their refusal."""
        return self._counted("reason", statuses)

    def whys(self, *statuses: Status) -> dict[str, int]:
        """Returns the number of letters with these statuses by the reason of the status."""
        return self._counted("why", statuses)

    def _counted(self, column: str, statuses: tuple[Status, ...]) -> dict[str, int]:
        sql = f"SELECT {column}, count(*) FROM letters WHERE status IN ({marks(statuses)}) GROUP BY 1 ORDER BY 2 DESC"
        return dict(self._db.execute(sql, statuses))

    def examples(self, status: Status, limit: int) -> list[tuple[int, int, str]]:
        """Returns partition, offset and reason of the first letters with this status."""
        sql = "SELECT partition, offset, why FROM letters WHERE status = ? ORDER BY partition, offset LIMIT ?"
        return self._db.execute(sql, (status, limit)).fetchall()

    def followers(self) -> int:
        """Returns the number of letters that go without being selected."""
        return one(self._db, "SELECT count(*) FROM letters WHERE status = ? AND NOT selected", Status.GO)

    def first_orders(self, limit: int | None) -> list[bytes]:
        """Returns the orders whose turn comes first, by their letters' key; None: all of them."""
        sql = "SELECT order_id FROM orders ORDER BY turn, partition LIMIT ?"
        return self._column(sql, -1 if limit is None else limit)

    def earliest_ms(self) -> int | None:
        """Returns when the oldest event of the letters that go was written, epoch ms."""
        (found,) = self._column("SELECT min(event_ms) FROM letters WHERE status = ?", Status.GO)
        return None if found is None else int(found)

    @property
    def has_snapshots(self) -> bool:
        return bool(one(self._db, "SELECT EXISTS (SELECT 1 FROM letters WHERE snapshot AND status = ?)", Status.GO))

    def _column(self, sql: str, *values: object) -> list[Any]:
        return [row[0] for row in self._db.execute(sql, values)]


class Known:
    """What the topics say of the plan's orders. Mutable: its tables."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def held_orders(self) -> int:
        return one(self._db, "SELECT count(*) FROM holds")

    def hold(self, order: OrderKey, value: bytes | None) -> None:
        """Keeps what the topic of holds says of an order."""
        self._keep("holds", order, value)

    def held(self, order: OrderKey) -> bytes | None:
        return self._kept("holds", order)

    def has_states(self, partition: int) -> None:
        """Notes that the states of this partition's orders were read, and that there are some."""
        self._db.execute("INSERT OR IGNORE INTO stated VALUES (?)", (partition,))

    def keep_state(self, order: OrderKey, value: bytes | None) -> None:
        self._keep("states", order, value)

    def kept_state(self, order: OrderKey) -> bytes | None:
        return self._kept("states", order)

    def stateless(self) -> list[OrderKey]:
        """Returns the orders with letters to go that had a state when one of them was refused and have none now, except
        those of partitions whose states were not read."""
        rows = self._db.execute(
            "SELECT DISTINCT partition, order_id FROM letters WHERE status = ? AND stateful"
            " AND partition IN (SELECT partition FROM stated)"
            " AND NOT EXISTS (SELECT 1 FROM states s WHERE s.partition = letters.partition"
            " AND s.order_id = letters.order_id)",
            (Status.GO,),
        )
        return [OrderKey(*row) for row in rows.fetchall()]

    def _keep(self, table: str, order: OrderKey, value: bytes | None) -> None:
        if value is None:
            self._db.execute(f"DELETE FROM {table} WHERE partition = ? AND order_id = ?", order)
        else:
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (*order, value))

    def _kept(self, table: str, order: OrderKey) -> bytes | None:
        found = self._db.execute(f"SELECT value FROM {table} WHERE partition = ? AND order_id = ?", order).fetchone()
        return None if found is None else bytes(found[0])

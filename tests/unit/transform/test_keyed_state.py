"""The state of a partition's orders: staged, committed, rolled back, restored, on a real RocksDB and on a dict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from processor.edges.rocks import StateDirectory
from processor.errors import StateCorrupt, Unusable
from processor.interfaces import Store
from processor.records import OrderEvent, OrderId
from processor.transform import keyed_state
from processor.transform.book import BOOK_KEY, Book, Here, encode_book, new_book
from processor.transform.keyed_state import KeyedState, Meta, Parked
from processor.transform.order_state import OrderState, encode
from tests.fakes.stores import DictStore
from tests.unit.order_events import NOW_MS, fulfilled, placed, product
from tests.unit.transform.histories import take

IDENTITY = "changelog/abc"
A, B, C = OrderId("a"), OrderId("b"), OrderId("c")


@pytest.fixture(params=["dict", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "dict":
        yield DictStore({})
        return
    directory = StateDirectory(tmp_path, 1 << 20, 1 << 16)
    opened = directory.open(3)
    yield opened
    opened.close()
    directory.close()


def after(event: OrderEvent, now_ms: int = NOW_MS) -> OrderState:
    state = take(None, event, now_ms=now_ms).state
    assert state is not None
    return state


PLACED = after(placed(product("l", 3)), now_ms=NOW_MS + 5_000)
WAITING = after(fulfilled(("l", 1)))


BOOK = new_book(Here("cluster", "changelog", 4))


def book(orders: int) -> Book:
    return msgspec.structs.replace(BOOK, orders=orders)


def committed(state: KeyedState, last_offset: int, **changes: OrderState | None) -> None:
    for order_id, changed in changes.items():
        state.stage(OrderId(order_id), changed)
    state.changes(BOOK)
    state.commit(last_offset, NOW_MS)


def opened(store: Store, identity: str = IDENTITY, partition: int = 3) -> KeyedState:
    return KeyedState(partition, store, identity)


def test_what_is_staged_is_seen_and_becomes_one_changelog_record_an_order(store: Store) -> None:
    state = opened(store)
    state.stage(A, WAITING)
    state.stage(A, PLACED)
    state.stage(B, None)
    assert state.get(A) == PLACED
    assert state.get(B) is None
    assert list(state.changes(BOOK)) == [(b"a", encode(PLACED)), (b"b", None), (BOOK_KEY, encode_book(book(1)))]


def test_nothing_reaches_the_store_before_the_commit(store: Store) -> None:
    state = opened(store)
    state.stage(A, PLACED)
    state.changes(BOOK)
    assert store.scan(b"", 10) == []
    state.commit(7, NOW_MS)
    assert opened(store).get(A) == PLACED
    assert opened(store).next_offset == 8
    assert opened(store).as_of_ms == NOW_MS


def test_a_rollback_leaves_the_state_as_it_was(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=PLACED)
    state.stage(A, None)
    state.stage(B, PLACED)
    state.changes(BOOK)
    state.rollback()
    assert (state.get(A), state.get(B)) == (PLACED, None)
    state.commit(None, NOW_MS)
    assert state.next_offset == 1


def test_a_commit_that_goes_back_or_has_no_offset_is_a_fault(store: Store) -> None:
    state = opened(store)
    committed(state, 9, a=PLACED)
    with pytest.raises(Unusable, match="went back"):
        committed(state, 8, a=PLACED)
    state.stage(A, None)
    state.changes(BOOK)
    with pytest.raises(AssertionError, match="goes with changes"):
        state.commit(None, NOW_MS)


def test_an_erased_order_is_gone_from_the_store(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=WAITING, b=PLACED)
    committed(state, 1, a=None, b=None)
    assert [key for key, _ in store.scan(b"", 10)] == [b"b", b"m"]
    assert not state.parked


def test_an_order_that_is_erased_is_to_leave_the_disk_also_when_another_life_has_to_see_to_it(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=WAITING, b=PLACED, c=PLACED)
    committed(state, 1, c=None)
    assert not state.erased, "one whose retention is over goes when RocksDB writes its table anew"
    state.erase(A)
    state.erase(B)
    assert (state.get(A), state.get(B)) == (None, None)
    committed(state, 2)
    assert state.erased == opened(store).erased == {b"a", b"b"}
    state.purge()
    assert len(opened(store).erased) == 1
    opened(store).purge()
    assert not opened(store).erased
    assert [key for key, _ in store.scan(b"", 10)] == [b"b", b"m"]


def test_an_erasure_that_is_rolled_back_is_none(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=PLACED)
    state.erase(A)
    state.changes(BOOK)
    state.rollback()
    committed(state, 1, b=PLACED)
    assert not state.erased
    assert state.get(A) == PLACED


def test_what_was_erased_at_another_worker_while_a_store_lay_by_is_to_leave_the_disk(store: Store) -> None:
    state = opened(store)
    state.restore({b"x": None}, 1, NOW_MS)
    assert not state.erased, "an empty store has nothing to lose"
    committed(state, 1, a=PLACED, b=PLACED)
    state.restore({b"a": None, b"b": encode(PLACED), b"x": None}, 5, NOW_MS)
    assert state.erased == {b"a"}


def test_a_flood_of_erasures_is_left_to_rocksdb(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_state, "_ERASED_MAX", 2)
    state = opened(store)
    for number, order_id in enumerate((A, B, C)):
        committed(state, 2 * number, **{order_id: PLACED})
        state.erase(order_id)
        committed(state, 2 * number + 1)
    assert state.erased == {b"a", b"b"}
    assert state.get(C) is None


def test_parked_orders_are_indexed_over_a_restart(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=WAITING, b=PLACED, c=WAITING)
    wanted = {A: Parked(NOW_MS, 1), C: Parked(NOW_MS, 1)}
    assert state.parked == opened(store).parked == wanted
    assert opened(store).parked_summary(NOW_MS + 5_000) == (2, 5.0)
    committed(state, 1, a=PLACED)
    assert state.parked == opened(store).parked == {C: Parked(NOW_MS, 1)}


@pytest.mark.parametrize("bulk", [False, True])
def test_the_restored_state_is_the_committed_one(store: Store, bulk: bool) -> None:
    """The position goes past what holds no record."""
    state = opened(store)
    state.restore({b"a": encode(WAITING), b"b": encode(PLACED)}, 4, NOW_MS, bulk=bulk)
    state.restore({b"a": encode(PLACED), b"b": None, b"c": encode(WAITING)}, 9, NOW_MS, bulk=bulk)
    again = opened(store)
    assert (again.get(A), again.get(B), again.next_offset) == (PLACED, None, 9)
    assert again.parked == {C: Parked(NOW_MS, 1)}


@pytest.mark.parametrize("told", [book(2), BOOK, None], ids=["by the book", "by a book that does not count", "no book"])
def test_after_a_restore_it_is_known_how_many_orders_there_are(store: Store, told: Book | None) -> None:
    state = opened(store)
    last = {} if told is None else {BOOK_KEY: encode_book(told)}
    state.restore({b"a": encode(WAITING), b"b": encode(PLACED), **last}, 4, NOW_MS)
    assert state.orders == 2  # shown on the way: a book is no order
    state.restore({b"a": encode(PLACED), b"b": None, b"c": encode(WAITING), **last}, 9, NOW_MS)
    again = opened(store)  # what has not counted to the end says so
    for one in (state, again):
        one.restored()
        assert one.orders == 2
    again.get(A)
    again.stage(A, None)
    assert again.changes(BOOK)[-1] == (BOOK_KEY, encode_book(book(1)))
    again.commit(9, NOW_MS)
    assert opened(store).orders == 1


def test_a_changelog_that_holds_no_states_is_corrupt_and_not_taken(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=WAITING)
    for key, value in ((b"a", b"short"), (b"\xff", encode(WAITING))):
        with pytest.raises(StateCorrupt):
            state.restore({key: value}, 2, NOW_MS)
        assert opened(store).next_offset == 1


@pytest.mark.parametrize(
    ("identity", "partition"), [("changelog/another", 3), (IDENTITY, 4)], ids=["changelog", "partition"]
)
def test_a_store_of_another_changelog_or_partition_is_not_trusted(store: Store, identity: str, partition: int) -> None:
    committed(opened(store), 0, a=PLACED)
    with pytest.raises(StateCorrupt, match="the store is of"):
        opened(store, identity, partition)


@pytest.mark.parametrize(
    "contents",
    [
        {b"oa": encode(PLACED)},
        {b"m": b"nonsense"},
        {b"m": msgspec.msgpack.encode(Meta(99, f"{IDENTITY}/3", 1))},
        {b"m": msgspec.msgpack.encode(Meta(1, f"{IDENTITY}/3", 1)), b"pa": b"short"},
        {b"m": msgspec.msgpack.encode(Meta(1, f"{IDENTITY}/3", 1)), b"p\xff": b"\0" * 12},
    ],
    ids=["no word of what it is", "an unreadable word", "another format", "a broken index", "a key that is no text"],
)
def test_a_store_that_cannot_be_read_is_corrupt(store: Store, contents: dict[bytes, bytes]) -> None:
    store.write(contents.items())
    with pytest.raises(StateCorrupt):
        opened(store)


def test_a_store_of_the_version_before_says_nothing_of_its_age(store: Store) -> None:
    store.write([(b"m", msgspec.msgpack.encode((1, f"{IDENTITY}/3", 5)))])
    assert (opened(store).next_offset, opened(store).as_of_ms) == (5, 0)


def test_a_store_is_vouched_for_only_when_it_holds_something(store: Store) -> None:
    state = opened(store)
    state.vouch(NOW_MS)
    assert store.scan(b"", 1) == []
    committed(state, 3, a=PLACED)
    state.vouch(NOW_MS + 5)
    assert (opened(store).next_offset, opened(store).as_of_ms) == (4, NOW_MS + 5)


def test_stale_orders_are_found_in_portions(store: Store) -> None:
    state = opened(store)
    old = after(placed(product("l")), now_ms=NOW_MS)
    committed(state, 0, **{f"o{n}": old if n % 2 else PLACED for n in range(6)})
    found, after_key = state.stale(NOW_MS + 1_000, b"", 4)
    assert (found, after_key) == (["o1", "o3"], b"o3")
    assert state.stale(NOW_MS + 1_000, after_key, 4) == (["o5"], b"")
    assert state.stale(NOW_MS, b"", 100) == ([], b"")


def test_what_this_transaction_touches_or_what_waits_is_not_stale(store: Store) -> None:
    state = opened(store)
    old, waiting = after(placed(product("l")), now_ms=NOW_MS), after(fulfilled(("l", 1)), now_ms=NOW_MS)
    committed(state, 0, a=old, b=waiting, c=old)
    state.stage(A, PLACED)
    assert state.stale(NOW_MS + 1_000, b"", 10)[0] == [C]


def test_an_order_grows_by_its_events_until_the_transaction_ends(store: Store) -> None:
    state = opened(store)
    committed(state, 0, a=PLACED)
    size = len(encode(PLACED))
    state.get(A)
    assert [state.grow(A, 10), state.grow(A, 5), state.grow(B, 3)] == [size + 10, size + 15, 3]
    state.rollback()
    state.get(A)
    assert state.grow(A, 1) == size + 1

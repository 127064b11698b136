"""A worker's place on the disk, and what is done about one that cannot be used."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Rdict

from processor.edges import rocks
from processor.edges.rocks import RocksStore, StateDirectory
from processor.errors import Fatal, StateCorrupt, Unusable

NAME = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[StateDirectory]:
    directory = claimed(tmp_path)
    yield directory
    directory.close()


def claimed(root: Path) -> StateDirectory:
    return StateDirectory(root, 1 << 20, 1 << 16)


def a_store(directory: StateDirectory) -> RocksStore:
    store = directory.open(7)
    store.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
    return store


def test_each_process_takes_the_first_place_that_nobody_holds(tmp_path: Path) -> None:
    first, second = claimed(tmp_path), claimed(tmp_path)
    names = [first.worker, second.worker]
    assert len(set(names)) == 2
    assert all(NAME.fullmatch(name) for name in names)
    first.close()
    again = claimed(tmp_path)
    assert again.worker == names[0], "who comes back is who it was: it ends what its own last life left open"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0", "worker-1"]
    second.close()
    again.close()


@pytest.mark.parametrize("left", [b"", b"abc", b"\0" * 16, b"0123456789abcdeX", b"\xff" * 64])
def test_half_a_name_that_a_crash_left_is_replaced(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "worker-0/claim").write_bytes(left)
    directory = claimed(tmp_path)
    assert NAME.fullmatch(directory.worker)
    assert (tmp_path / "worker-0/claim").read_text() == directory.worker
    directory.close()


def test_a_place_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "worker-0").write_text("a file")
    with pytest.raises(Unusable, match="PROCESSOR_STATE_DIR"):
        claimed(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="mount a writable volume"):
        claimed(tmp_path / "file" / "state")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unusable, match="Permission denied"):
        claimed(tmp_path)


def test_too_many_processes_in_one_directory_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks, "WORKERS_MAX", 1)
    held = claimed(tmp_path)
    with pytest.raises(Unusable, match="in use by 1 processes"):
        claimed(tmp_path)
    held.close()


def test_the_claim_is_a_lock_that_ends_with_its_process(home: StateDirectory, tmp_path: Path) -> None:
    with (tmp_path / "worker-0/claim").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_store_keeps_what_was_written_in_the_order_of_its_keys(home: StateDirectory) -> None:
    store = a_store(home)
    store.write([(b"a", None), (b"d", b"4")])
    store.close()
    store = home.open(7)
    assert (store.get(b"a"), store.get(b"b")) == (None, b"2")
    assert store.scan(b"bb", 10) == [(b"c", b"3"), (b"d", b"4")]
    assert store.scan(b"", 1) == [(b"b", b"2")]
    assert store.scan(b"x", 10) == []
    store.close()


def test_a_store_that_was_not_closed_keeps_what_was_written(home: StateDirectory, tmp_path: Path) -> None:
    """As after `kill -9`: the files as they are, without a word of goodbye."""
    store = a_store(home)
    shutil.copytree(tmp_path / "worker-0/partition-7", tmp_path / "worker-0/partition-8")
    (tmp_path / "worker-0/partition-8/LOCK").unlink()
    copy = home.open(8)
    assert copy.scan(b"", 10) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    copy.close()
    store.close()


LOADS = 400


def _load(root: Path, written_after: bool) -> None:
    """Each load says how many there were; then the process is gone, as by `kill -9`."""
    store = claimed(root).open(7)
    for number in range(LOADS):
        store.load([(b"n", b"%d" % number), *((b"%d/%d" % (number, each), bytes(200)) for each in range(20))])
    if written_after:
        store.write([(b"after", b"1")])
    os._exit(0)


@pytest.mark.parametrize("written_after", [False, True])
def test_a_crash_costs_the_last_loads_whole_and_none_that_a_write_has_followed(
    tmp_path: Path, written_after: bool
) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_load, args=(tmp_path, written_after))
    child.start()
    child.join()
    assert child.exitcode == 0
    store = claimed(tmp_path).open(7)
    last = int(store.get(b"n") or b"-1")
    kept = {key for key, _ in store.scan(b"", 100_000)} - {b"n", b"after"}
    assert kept == {b"%d/%d" % (number, each) for number in range(last + 1) for each in range(20)}
    assert store.get(b"after") == (b"1" if written_after else None)
    assert (last == LOADS - 1) is written_after
    store.close()


def test_what_was_loaded_is_kept_by_a_close(home: StateDirectory) -> None:
    store = home.open(7)
    store.load([(b"a", b"1")])
    store.load([(b"b", b"2"), (b"a", None)])
    assert store.scan(b"", 10) == [(b"b", b"2")]
    store.close()
    store = home.open(7)
    assert store.scan(b"", 10) == [(b"b", b"2")]
    store.close()


def test_no_table_of_a_store_is_opened_again_for_each_read(home: StateDirectory, tmp_path: Path) -> None:
    store, loads = home.open(7), 22
    for number in range(loads):  # each fills a table; fewer than a load merges
        store.load([(b"%02d-%04d" % (number, at), os.urandom(64)) for at in range(1_000)])
    (place,) = tmp_path.glob("worker-0/partition-7")
    tables = {str(path) for path in place.glob("*.sst")}
    assert len(tables) >= loads - 4  # the last are on their way
    for number in range(loads):
        assert store.get(b"%02d-0500" % number) is not None
    assert tables <= {os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()}
    store.close()


def test_a_wiped_store_is_empty(home: StateDirectory) -> None:
    a_store(home).close()
    home.wipe(7)
    home.wipe(7)
    store = home.open(7)
    assert store.scan(b"", 1) == []
    store.close()


def _in_the_way(path: Path) -> None:
    path.write_text("a file where a directory should be")


def _cut(path: Path) -> None:
    _made(path)
    for table in path.glob("*.sst"):
        table.write_bytes(table.read_bytes()[:10])


def test_the_stores_of_a_place_are_known_by_their_numbers(home: StateDirectory, tmp_path: Path) -> None:
    assert home.numbers() == []
    a_store(home).close()
    home.open(11).close()
    (tmp_path / "worker-0/partition-x").mkdir()
    assert home.numbers() == [7, 11]
    home.wipe(7)
    assert home.numbers() == [11]


def test_what_is_purged_is_in_no_file_of_the_store(home: StateDirectory, tmp_path: Path) -> None:
    """Neither in its log of writes nor in a table, older values too, and not after a restart."""
    store, text = home.open(7), b"q8w5z.j2x7@example.org"

    def holding() -> list[Path]:
        return [file for file in tmp_path.rglob("*") if file.is_file() and text in file.read_bytes()]

    store.load([(b"a", text + b" of the table"), (b"b", b"2")])
    store.write([(b"a", text + b" of the log")])
    store.write([(b"a", None), (b"c", b"3")])
    assert holding()
    store.purge(b"a")
    assert not holding()
    assert store.scan(b"", 9) == [(b"b", b"2"), (b"c", b"3")]
    store.close()
    home.open(7).close()
    assert not holding()


def _overwritten(path: Path) -> None:
    _made(path)
    for file in path.iterdir():
        file.write_bytes(b"\xde\xad" * 500)


def _no_manifest(path: Path) -> None:
    _made(path)
    for manifest in path.glob("MANIFEST*"):
        manifest.unlink()


def _made(path: Path) -> None:
    made = Rdict(str(path))
    made[b"key"] = b"value" * 100
    made.flush()
    made.close()


@pytest.mark.parametrize("broken", [_in_the_way, _cut, _overwritten, _no_manifest])
def test_a_broken_store_is_corrupt_and_can_be_wiped(home: StateDirectory, tmp_path: Path, broken: object) -> None:
    assert callable(broken)
    broken(tmp_path / "worker-0/partition-7")
    with pytest.raises(StateCorrupt, match="partition-7"):
        home.open(7).scan(b"", 10)
    home.wipe(7)
    a_store(home).close()


def test_a_symbolic_link_is_unlinked_and_what_it_points_to_is_left_alone(home: StateDirectory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("mine")
    (tmp_path / "worker-0/partition-7").symlink_to(tmp_path / "elsewhere")
    home.wipe(7)
    assert (tmp_path / "elsewhere/precious").exists()
    assert not (tmp_path / "worker-0/partition-7").exists()


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("IO error: No space left on device: While appending to file", Fatal),
        ("IO error: Read-only file system", Fatal),
        ("IO error: While open a file for random read: Too many open files", Fatal),
        ("IO error: While fsync: Input/output error", Fatal),
        ("Corruption: block checksum mismatch", StateCorrupt),
        ("IO error: No such file or directory: CURRENT", StateCorrupt),
    ],
)
def test_trouble_with_the_disk_is_not_the_stores_fault(
    home: StateDirectory, told: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wiping a store would not make room on a full disk: the process ends, and says why."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            def fail(*_: object) -> None:
                raise Exception(told)

            return fail

    store = a_store(home)
    monkeypatch.setattr(store, "_db", Broken())
    for call in (
        lambda: store.get(b"a"),
        lambda: store.write([(b"a", b"1")]),
        lambda: store.scan(b"", 1),
        lambda: store.purge(b"a"),
    ):
        with pytest.raises(error, match="the store in"):
            call()

"""An API key in a file, as Kubernetes mounts one: read at the start, read again, replaced while we run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from processor.edges.keys import FileKey
from processor.errors import KeyMissing, Unusable

SETTING = "HAKUNA_API_KEY_FILE"


def mounted(directory: Path, generation: str, key: str) -> None:
    """A secret's volume: `api-key` points into `..data`, which points to the generation that counts, and is moved."""
    (directory / generation).mkdir()
    (directory / generation / "api-key").write_text(key)
    swap = directory / "..data_tmp"
    swap.symlink_to(generation)
    swap.rename(directory / "..data")
    if not (directory / "api-key").is_symlink():
        (directory / "api-key").symlink_to("..data/api-key")


def test_a_secret_whose_symlink_is_swapped_is_read_anew(tmp_path: Path) -> None:
    mounted(tmp_path, "..1", "sk_one\n")
    key = FileKey(tmp_path / "api-key", SETTING)
    assert key.current() == "sk_one"
    assert not key.reread(), "nothing has changed"
    mounted(tmp_path, "..2", "sk_two\n")
    assert key.reread()
    assert key.current() == "sk_two"
    assert not key.reread()


@pytest.mark.parametrize("content", ["", " \n", "sk_one\nX-Evil: 1", "sk one", "schlüssel", "sk\x00"])
def test_what_is_no_key_is_refused_at_the_start_and_never_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "api-key"
    file.write_text(content)
    with pytest.raises(Unusable) as refused:
        FileKey(file, SETTING)
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"{SETTING}: {file}: does not hold an API key")
    assert "Evil" not in str(problem)


def test_a_file_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="cannot be read: No such file"):
        FileKey(tmp_path / "api-key", SETTING)


@pytest.mark.parametrize("content", [None, "", "half a\nkey"])
def test_the_last_good_key_stays_while_the_file_holds_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "api-key"
    file.write_text("sk_one")
    key = FileKey(file, SETTING)
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert not key.reread()
    assert key.current() == "sk_one"
    file.write_text("sk_two")
    assert key.reread()
    assert key.current() == "sk_two"


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "huge"])
def test_a_path_that_names_no_key_file_is_neither_waited_for_nor_read_without_end(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "api-key"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "directory":
            file.mkdir()
        case _:
            with file.open("wb") as sparse:
                sparse.truncate(1 << 36)
    with pytest.raises(Unusable if kind != "directory" else KeyMissing, match=SETTING) as raised:
        FileKey(file, SETTING)
    assert ("it is not a file" in str(raised.value)) is (kind in ("pipe", "device"))

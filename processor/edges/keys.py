"""An API key from the settings, or from a file that may be replaced while the worker runs.

Owned by the sender's event loop. A Kubernetes secret is replaced by swapping a symlink, so the file is opened anew each
time and only its content is compared. A content that cannot be a header (a newline in the middle, a control character)
is not used, and the last good key stays.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

import structlog

from processor.config import KeySource, api_key
from processor.errors import KeyMissing, Problem, Unusable

log = structlog.get_logger(__name__)

_FILE_BYTES_MAX: Final = 64 * 1024


class FixedKey:
    """A key from a setting: only a restart changes it."""

    def __init__(self, value: str) -> None:
        self._value = value

    def current(self) -> str:
        return self._value

    def reread(self) -> bool:
        return False


class FileKey:
    """A key in a file. Raises `KeyMissing` if there is no file at the start (a secret may be made after the pods that
    mount it), `Unusable` if it holds something else.

    Mutable: `_value` is the last good content, `_complained` the last complaint in the log.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self._path = path
        self._complained = ""
        try:
            self._value = _read(path)
        except OSError as wrong:
            raise KeyMissing(setting, f"{path}: {_why(wrong)}") from wrong
        except ValueError as wrong:
            raise Unusable([Problem(setting, f"{path}: {_why(wrong)}", KeyMissing.REMEDY)]) from wrong

    def current(self) -> str:
        return self._value

    def reread(self) -> bool:
        try:
            value = _read(self._path)
        except (OSError, ValueError) as wrong:
            self._complain(_why(wrong))
            return False
        self._complained = ""
        if value == self._value:
            return False
        self._value = value
        log.info("key file has changed", path=str(self._path))
        return True

    def _complain(self, why: str) -> None:
        if why != self._complained:
            log.warning("key file cannot be read, the last key stays", path=str(self._path), why=why)
            self._complained = why


def key_of(source: KeySource, setting: str) -> FixedKey | FileKey:
    """Returns the key. `setting` is the environment variable that names the file, for complaints."""
    return FixedKey(source.value) if source.file is None else FileKey(source.file, setting)


def _read(path: Path) -> str:
    """Reads the key. A path may name anything, so anything but a file is refused: it could block, or have no end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("an API key: it is not a file")
        content = file.read(_FILE_BYTES_MAX)
    return api_key(content.decode("utf-8", "replace").strip())


def _why(wrong: OSError | ValueError) -> str:
    return f"cannot be read: {wrong.strerror}" if isinstance(wrong, OSError) else f"does not hold {wrong}"

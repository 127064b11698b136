"""`python -m tests.support.shifted_clock …`: the processor on a machine whose clock is ahead by as many seconds as the
file in SHIFT_FILE says, which may change while it runs. Of our own code: librdkafka and RocksDB read theirs in C."""

from __future__ import annotations

import os
import time
from pathlib import Path

from processor.cli import main

VARIABLE = "SHIFT_FILE"


def shift(file: Path) -> None:
    right_ns = time.time_ns

    def shifted_ns() -> int:
        return right_ns() + int(file.read_text()) * 1_000_000_000

    time.time_ns = shifted_ns
    time.time = lambda: shifted_ns() / 1e9


if __name__ == "__main__":
    shift(Path(os.environ[VARIABLE]))
    main()

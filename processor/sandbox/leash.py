"""`python -m processor.sandbox.leash …`: the command line of the processor, which ends when whoever started it does.

Whoever starts it keeps the other end of its standard input and never writes. However that one ends, by `kill -9` too,
the system closes its end: then this process tells itself to drain, and is gone LEAVE_S_MAX later whether it has or not.

Not chosen: a death signal of the parent's (`PR_SET_PDEATHSIG`): Linux alone has it, and it tells of the end of the
thread that started the child.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

LEAVE_S_MAX: Final = 5.0
"""With whoever started it the broker and the APIs may have gone, and a drain would wait for them."""


def end_with_standard_input() -> None:
    """Returns at once; a thread watches."""
    threading.Thread(target=_watch, name="leash", daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_S_MAX)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_standard_input()
    runpy.run_module("processor", run_name="__main__", alter_sys=True)

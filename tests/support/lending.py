"""Real parts that the processes of one run share: the one that hands out the tests starts each when it is asked for
first, and ends them with the run.

    handing out    Lender(PARTS) ── address ──► the processes that run tests (through xdist's `workerinput`)
    a test's       borrowed(address, "kafka") ── name ──► Lender
                                              ◄── what the part gives, or why it cannot be had

Not chosen: a part in the first process that wants one, and a count of who uses it: it would have to outlive its tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Final

from tests.support.children import StartFailed, Unavailable

Part = Callable[[], AbstractContextManager[str]]
ASKING_AT_ONCE: Final = 32
"""Above every process's asking for every part: one that waits for a part keeps a thread."""


class Lender:
    """Serves from its making until `close`."""

    # Mutable: `_started`, by one thread alone, each part at most once.

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self._started: dict[str, Future[str]] = {}
        self._running = ExitStack()
        self._threads = ThreadPoolExecutor(ASKING_AT_ONCE)
        self._door = Listener()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return str(self._door.address)

    def close(self) -> None:
        """Ends what was started. Who asks from now on is not answered."""
        self._running.close()

    def _serve(self) -> None:
        while True:
            asking = self._door.accept()
            with suppress(EOFError):  # one that was killed before it could ask
                name = asking.recv()
                if name not in self._started:
                    self._started[name] = self._threads.submit(self._start, name)
                self._threads.submit(_answer, asking, self._started[name])

    def _start(self, name: str) -> str:
        return self._running.enter_context(self._parts[name]())


def _answer(asking: Connection, part: Future[str]) -> None:
    with asking:
        try:
            asking.send(part.result())
        except (Unavailable, StartFailed) as reason:
            asking.send(reason)


def borrowed(address: str, name: str) -> str:
    """What the part gives, once it is up. Raises Unavailable or StartFailed, as the part did."""
    with Client(address) as lender:
        lender.send(name)
        answer = lender.recv()
    if isinstance(answer, Exception):
        raise answer
    return str(answer)

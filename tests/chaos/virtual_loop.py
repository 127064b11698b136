"""An asyncio event loop whose time is a `FakeClock`'s: what waits for a minute has waited as soon as nothing
else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from tests.fakes.clock import FakeClock


class _Selector:
    """Never waits: lets the time pass on the clock instead. Nor does it look: there is no connection, and who wakes the
    loop stands in its own thread."""

    def __init__(self, clock: FakeClock) -> None:
        self._real = selectors.DefaultSelector()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for ever"
        if timeout > 0:
            self._clock.advance(timeout)
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs while `run_for` is called, and only then. Other threads have no business here."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_Selector(clock))  # type: ignore[arg-type]  # has all that asyncio asks of a selector
        self._fake_clock = clock

    def _write_to_self(self) -> None:
        """What `call_soon_threadsafe` has put down is found without a byte in a pipe."""

    def time(self) -> float:
        return self._fake_clock.monotonic_s()

    def run_for(self, seconds: float) -> None:
        """All that happens within the next `seconds`."""
        self.call_later(seconds, self.stop)
        self.run_forever()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.create_task(work)


class VirtualSignal:
    """What a simulated Kafka thread sleeps on: while it sleeps, the loop runs."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float) -> bool:
        left = timeout
        while not self._set and left > 0:
            self._loop.run_for(min(left, 0.005))
            left -= 0.005
        return self._set

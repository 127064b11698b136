"""An asyncio event loop whose time is a `FakeClock`'s: what waits for a minute has waited as soon as nothing
else is left to do."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVarTuple

from tests.fakes.clock import FakeClock

Ts = TypeVarTuple("Ts")


class _Call(asyncio.TimerHandle):
    """What the loop calls, now or at `_when`; without asyncio's account of it for a debugger. Of two with one time
    neither is less: the heap has them as asyncio's would."""

    __slots__ = ()

    def __init__(
        self, loop: VirtualLoop, callback: Callable[..., Any], args: Any, context: Context | None, at_s: float
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._args = args
        self._context = context or copy_context()
        self._when = at_s
        self._cancelled = self._scheduled = False
        self._repr = self._source_traceback = None

    def __lt__(self, other: object) -> bool:
        return False

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs while `run_for` is called, and only then. Other threads have no business here, and there is no connection:
    where asyncio's loop asks its selector, this one lets the time pass on the clock. All else happens as in asyncio's,
    in the same order, without what that does for threads, signals and debuggers, which took as long as the callbacks.
    What a callback raises ends the run."""

    _ready: deque[_Call]
    _scheduled: list[tuple[float, _Call]]
    _clock_resolution: float
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._fake_clock = clock

    def time(self) -> float:
        return self._fake_clock.at_s

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        call = _Call(self, callback, args, context, 0.0)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call = _Call(self, callback, args, context, when)
        call._scheduled = True
        heapq.heappush(self._scheduled, (when, call))
        return call

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._fake_clock.at_s + delay, callback, *args, context=context)

    def run_for(self, seconds: float) -> None:
        """All that happens within the next `seconds`."""
        self.call_later(seconds, self.stop)
        self.run_forever()

    def run_forever(self) -> None:
        events._set_running_loop(self)
        try:
            while True:
                self._run_once()
                if self._stopping:
                    return
        finally:
            self._stopping = False
            events._set_running_loop(None)

    def _run_once(self) -> None:
        self._forget_cancelled()
        clock, ready, scheduled = self._fake_clock, self._ready, self._scheduled
        if not ready and not self._stopping:
            assert scheduled, "everybody waits for ever"
            clock.advance(max(0.0, scheduled[0][0] - clock.at_s))
        end_s = clock.at_s + self._clock_resolution
        while scheduled and scheduled[0][0] < end_s:
            _, call = heapq.heappop(scheduled)
            call._scheduled = False
            ready.append(call)
        for _ in range(len(ready)):
            call = ready.popleft()
            if not call._cancelled:
                call._context.run(call._callback, *call._args)

    def _forget_cancelled(self) -> None:
        scheduled = self._scheduled
        if len(scheduled) > 100 and self._timer_cancelled_count / len(scheduled) > 0.5:
            self._scheduled = [each for each in scheduled if not each[1]._cancelled]
            heapq.heapify(self._scheduled)
            self._timer_cancelled_count = 0
            return
        while scheduled and scheduled[0][1]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)[1]._scheduled = False

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

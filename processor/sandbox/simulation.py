"""A simulation: both stand-ins on loopback and, if asked for, a shop that writes to the source topics.

    start ──► stand-ins answer ──► the shop writes, each record at its time ──► wait for stop ──► summary

Owned by the command `simulate`. The stand-ins answer until the end, even after the shop is done.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self

from processor.records import Position
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.history import Step
from processor.sandbox.shop.orders import Shop, shop
from processor.sandbox.shop.stock import Changing, changing
from processor.sandbox.shop.writer import OrderWriter, Written, write_in_time

_WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The ports (0: any free one) and the behaviour of the stand-ins."""

    hakuna_port: int
    hakuna: Script
    hako_port: int
    hako: Script


class Simulation:
    """`with Simulation(endpoints) as simulation:` answers until the context ends.

    Mutable: `_written` counts records by their expected outcome; a caller sets `stopped` to end it.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.stopped = threading.Event()
        self._stand_ins = (StandIn(HakunaApi(), endpoints.hakuna), StandIn(HakoApi(), endpoints.hako))
        self._hakuna = Loopback(self._stand_ins[0], endpoints.hakuna_port)
        self._hako = Loopback(self._stand_ins[1], endpoints.hako_port)
        self._up = ExitStack()
        self._written: Counter[str] = Counter()

    @property
    def environment(self) -> dict[str, str]:
        """Returns the settings of a worker that uses the stand-ins."""
        hakuna, hako = self._stand_ins
        return {
            "HAKUNA_BASE_URL": self._hakuna.url,
            "HAKUNA_API_KEY": hakuna.script.key,
            "HAKO_BASE_URL": f"{self._hako.url}/v0",
            "HAKO_API_KEY": hako.script.key,
        }

    def write(self, writer: Callable[[Written], OrderWriter], plan: Shop, stock: Changing | None = None) -> int:
        """Writes a shop's records, each at its time. Returns the count, early once `stopped` is set. With `stock` it
        does not end by itself."""
        steps = shop(plan)
        if stock is not None:
            steps = heapq.merge(steps, changing(stock), key=attrgetter("timestamp_ms"))
        return write_in_time(writer(self._count), steps, lambda: int(time.time() * 1000), self.stopped.is_set)

    def summary(self) -> dict[str, Any]:
        """Returns the requests by API, and the written records by their expected outcome."""
        return {
            "apis": {
                stand_in.api.name: stand_in.record.summary(
                    _WINDOW_S if stand_in.script.quota is None else stand_in.script.quota.window_s
                )
                for stand_in in self._stand_ins
            },
            "records": {"written": self._written.total(), "expected": dict(self._written)},
        }

    def __enter__(self) -> Self:
        with ExitStack() as up:
            up.enter_context(self._hakuna)
            up.enter_context(self._hako)
            self._up = up.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._up.close()

    def _count(self, step: Step, _: Position) -> None:
        self._written[str(step.expected)] += 1

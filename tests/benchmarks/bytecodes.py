"""How many bytecodes of `processor/` an event takes in the real loops on the fake broker: the same number in every run,
however busy the machine is. Code in C is not counted: two builds are compared by it, each in its own checkout.

    PYTHONHASHSEED=0 python -m tests.benchmarks.bytecodes 1000
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from tests.chaos.send_world import Plan
from tests.chaos.send_world import World as SendWorld
from tests.unit.send.kafka_thread.conftest import accepted, fill
from tests.unit.transform.test_transformer import OUTBOX
from tests.unit.transform.test_transformer import World as TransformWorld

_COUNTED = str(Path.cwd() / "processor")
_OF_FAKES = "record_bytes"
"""The fake broker asks it of each record, as a broker does by itself."""


class Counting:
    """Mutable: `bytecodes` so far."""

    def __init__(self) -> None:
        self.bytecodes = 0

    def during(self, work: Callable[[], None]) -> int:
        sys.settrace(self._call)
        try:
            work()
        finally:
            sys.settrace(None)
        return self.bytecodes

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_COUNTED) or code.co_qualname.startswith(_OF_FAKES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.bytecodes += event == "opcode"
        return self._step


def of_transform(events: int) -> float:
    """Orders in two partitions, taken in transactions of up to a thousand."""
    world = TransformWorld(partitions=2, batch_records_max=1000)
    world.begun()
    wanted = len(world.broker.records(OUTBOX)) + events
    for number in range(events):
        world.place(f"order-{number:06d}", number % 2)

    def work() -> None:
        while len(world.broker.records(OUTBOX)) < wanted:
            world.turn(1)

    return Counting().during(work) / events


def of_send(entries: int) -> float:
    """Entries of an order each, with a commit of all of them."""
    world = SendWorld(Plan(seed=1, partitions=1, markers=0.0))
    world.broker.chance = None
    fill(world, "first")
    world.join()
    world.pass_time(3.0)
    fill(world, *(f"order-{number}" for number in range(entries)))

    def work() -> None:
        while len(accepted(world)) <= entries or not world.is_done():
            world.pass_time(0.5)

    counted = Counting().during(work) / entries
    world.close()
    return counted


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    count = int(sys.argv[1])
    print(f"transform: {of_transform(count):.0f} bytecodes an event; send: {of_send(count):.0f} an entry")

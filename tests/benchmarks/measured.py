"""What the benches share: a run's figures, and what the system says of a process."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.support.processes import Worker


class Run(NamedTuple):
    """One side's figures: events, the seconds they took, CPU seconds of its process, its peak memory in bytes."""

    events: int
    seconds: float
    cpu_seconds: float
    rss_bytes: int

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """µs CPU an event."""
        return self.cpu_seconds / self.events * 1e6

    def line(self, name: str) -> str:
        return (
            f"{name:<12} {self.rate:>9,.0f} events/s  "
            f"{self.cpu_us:>6.1f} µs CPU an event "
            f"({self.cpu_us / 1000:.3f} CPU-s per 1,000)  {self.rss_bytes / 1e6:>5.0f} MB"
        )

    def beside_floor(self, floor: Run) -> str:
        cpu = floor.cpu_us / self.cpu_us
        return f"{'ratio':<12} {self.rate / floor.rate:>9.0%} of the floor's rate, {cpu:.0%} by CPU an event"


def both(before: Run, after: Run) -> Run:
    """A floor that ran before and after what is judged by it, as one: no machine here is as fast for long."""
    return Run(
        before.events + after.events,
        before.seconds + after.seconds,
        before.cpu_seconds + after.cpu_seconds,
        max(before.rss_bytes, after.rss_bytes),
    )


WAIT_S_MAX = 600.0
LOOK_S = 0.25
"""Each look is answered by the worker itself: twenty a second were an eighth of transform's CPU."""


def between(looks: list[tuple[float, float, int]], rss: int) -> Run:
    """From the first to the last look in mid-work: it starts before the first, and may be idle before it is seen to
    have ended. A look is when it was, CPU seconds, events done."""
    assert len(looks) > 1, "too few events to measure by"
    (from_s, from_cpu_s, before), (to_s, to_cpu_s, after) = looks[0], looks[-1]
    return Run(after - before, to_s - from_s, to_cpu_s - from_cpu_s, rss)


def run_floor(floor: Callable[..., None], *arguments: Any) -> Run:
    """Its figures, a line of which is printed."""
    of_floor = in_a_process(floor, *arguments)
    print(of_floor.line("floor"), flush=True)
    return of_floor


def in_a_process(floor: Callable[..., None], *arguments: Any) -> Run:
    """Runs a floor by itself, so that its CPU and memory are its own. Sends its `Run` to its last argument."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=floor, args=(*arguments, theirs))
    child.start()
    run: Run = ours.recv()
    child.join()
    return run


def run_workers(
    role: str, environment: Mapping[str, str], events: int, processes: int = 1, from_share: float = 0.0
) -> Run:
    """So many of our processes until all events are done. Measured while each of them is at work, from that share of
    the events on."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as running:
        workers = [
            running.enter_context(
                Worker(
                    "run",
                    "--role",
                    role,
                    environment=environment,
                    directory=Path(directory, str(number)),
                    await_ready=False,
                )
            )
            for number in range(processes)
        ]
        deadline_s = time.monotonic() + WAIT_S_MAX
        looks: list[tuple[float, float, int]] = []
        while sum(done := [finished(worker, role) for worker in workers]) < events:
            assert time.monotonic() < deadline_s, f"{done} of {events}: {workers[0].log_tail()}"
            if all(done) and sum(done) > events * from_share:
                looks.append((time.monotonic(), sum(cpu_s(worker.pid) for worker in workers), sum(done)))
            time.sleep(LOOK_S)
        rss = sum(rss_bytes(worker.pid) for worker in workers)
        assert all(worker.terminate() == 0 for worker in workers)
        return between(looks, rss)


def finished(worker: Worker, role: str) -> int:
    """Records that a role has finished, by its own metrics."""
    try:
        lines = worker.get("/metrics").text.splitlines()
    except httpx.TransportError:
        return 0  # the port is not there yet
    return round(
        sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith("processor_records_total{") and f'role="{role}"' in line
        )
    )


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

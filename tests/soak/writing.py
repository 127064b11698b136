"""What shops write during a soak, as it happens: orders of a seed, some events late, some twice, some giant; by one
family of producers, or by three where rekey stands between."""

from __future__ import annotations

import copy
import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from processor.sandbox.shop.history import Step
from processor.sandbox.shop.orders import Shop, shop
from processor.sandbox.shop.stock import Changing, changing
from processor.sources.placements import FAMILIES
from processor.topics import ORDER_TOPICS, Topic
from tests.support.installation import Installation

LATE_SHARE: Final = 0.02
TWICE_SHARE: Final = 0.02
GIANT_SHARE: Final = 0.004
GIANT_LINES: Final = 400
STEP_S: Final = 4.0
DELAY_S: Final = (3.0, 30.0)


class Planned(NamedTuple):
    """`due_s` after the start; `number` tells equal ones apart."""

    due_s: float
    number: int
    step: Step
    kind: str


def planned(seed: int, rate: float, start_ms: int, bad_share: float = 0.05) -> Iterator[Planned]:
    """Without end, in the order in which it is written."""
    chance = random.Random(f"{seed}/writing")
    endless = Shop(orders=100_000_000, rate=rate, bad_share=bad_share, seed=seed, start_ms=start_ms, step_s=STEP_S)
    waiting: list[Planned] = []
    numbers = itertools.count()
    for step in shop(endless):
        due_s = (step.timestamp_ms - start_ms) / 1000
        while waiting and waiting[0].due_s <= due_s:
            yield heapq.heappop(waiting)
        kind = "as it should be"
        if step.topic is Topic.PLACED and isinstance(step.value, dict) and chance.random() < GIANT_SHARE:
            step, kind = step._replace(value=giant(step.value)), "giant"
        if chance.random() < LATE_SHARE:
            heapq.heappush(waiting, Planned(due_s + chance.uniform(*DELAY_S), next(numbers), step, "late"))
            continue
        if step.value is not None and chance.random() < TWICE_SHARE:
            heapq.heappush(waiting, Planned(due_s + chance.uniform(*DELAY_S), next(numbers), step, "twice"))
        yield Planned(due_s, next(numbers), step, kind)


def giant(event: Mapping[str, Any]) -> dict[str, Any]:
    """An order with hundreds of lines."""
    made = copy.deepcopy(dict(event))
    line = {**made["line_items"][0], "protection": None}
    made["line_items"] += [{**line, "id": f"giant-{number}"} for number in range(GIANT_LINES)]
    return made


class Writing:
    """A thread that writes until it is stopped. Mutable: `counts` (partitions a topic, which a disturbance may raise),
    `written` by kind, `last` (of each key of Hako's topics the last value), `failure`."""

    def __init__(self, installation: Installation, seed: int, rate: float, counts: Mapping[Topic, int]) -> None:
        self._installation = installation
        self._seed = seed
        self._rate = rate
        self.counts = dict(counts)
        self.written: Counter[str] = Counter()
        self.last: dict[tuple[Topic, str], Any] = {}
        self.failure: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when all of it is acknowledged."""
        self._over.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            start_ms = round(time.time() * 1000)
            orders = ((one.due_s, one.step, one.kind) for one in planned(self._seed, self._rate, start_ms))
            changes = changing(Changing(self._rate, 0.0, self._seed, start_ms))
            stock = (((step.timestamp_ms - start_ms) / 1000, step, "stock") for step in changes)
            began_s = time.monotonic()
            for due_s, step, kind in heapq.merge(orders, stock, key=lambda one: one[0]):
                wait_s = due_s - (time.monotonic() - began_s)
                if self._over.wait(max(0.0, wait_s)) if wait_s > 0.005 else self._over.is_set():
                    break
                self._write(step)
                self.written[kind] += 1
                if wait_s > 0.005:
                    self._installation.poll()
            self._installation.flush()
        except BaseException as failure:
            self.failure = failure

    def _write(self, step: Step) -> None:
        partition = None
        if step.topic in ORDER_TOPICS and self._installation.rekey:
            family = FAMILIES[ORDER_TOPICS.index(step.topic) % len(FAMILIES)]
            partition = family.of(step.key, self.counts[step.topic])
        elif step.topic not in ORDER_TOPICS:
            self.last[step.topic, step.key.decode()] = step.value
        value = self._installation.value(step)
        self._installation.write(step.topic, step.key, value, timestamp_ms=step.timestamp_ms, partition=partition)

"""The Kafka thread works while the event loop stands still, and neither waits for the other for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import uvloop

from processor.send.handover import APART_S, ASK_S_MAX, STILL_S_MAX, Turns


class Counting:
    """An event loop in a thread of its own that counts its rounds."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.rounds = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.loop.call_soon(self._round)
        self.loop.run_forever()
        self.loop.close()

    def _round(self) -> None:
        self.rounds += 1
        self.loop.call_later(0.0005, self._round)

    def wait(self, rounds: int = 1) -> None:
        until = self.rounds + rounds
        deadline_s = time.monotonic() + 5.0
        while self.rounds < until:
            assert time.monotonic() < deadline_s, "the loop stands still"
            time.sleep(0.0005)

    def close(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(5.0)
        assert not self.thread.is_alive()


@pytest.fixture
def counting() -> Iterator[Counting]:
    loop = Counting()
    loop.wait()
    yield loop
    loop.close()


@pytest.fixture
def turns(counting: Counting) -> Turns:
    turns = Turns()
    turns.attach(counting.loop)
    return turns


def seconds_of(turns: Turns, times: int) -> float:
    began_s = time.monotonic()
    for _ in range(times):
        turns.take()
        turns.give_back()
    return time.monotonic() - began_s


def test_the_loop_stands_still_while_a_turn_is_taken_and_goes_on_after_it(turns: Turns, counting: Counting) -> None:
    for _ in range(20):
        turns.take()
        began = counting.rounds
        worked = sum(range(20_000))
        assert worked
        assert counting.rounds == began
        turns.give_back()
        counting.wait()


def test_a_turn_that_is_not_given_back_does_not_hold_the_loop(turns: Turns, counting: Counting) -> None:
    turns.take()
    began_s, began = time.monotonic(), counting.rounds
    counting.wait(2)
    assert time.monotonic() - began_s >= STILL_S_MAX / 2, "it stood still"
    assert counting.rounds > began
    turns.give_back()


def test_a_loop_that_does_not_come_round_is_not_waited_for(turns: Turns, counting: Counting) -> None:
    busy = threading.Event()
    counting.loop.call_soon_threadsafe(busy.wait, 10.0)
    began_s = time.monotonic()
    turns.take()
    assert ASK_S_MAX * 0.9 <= time.monotonic() - began_s < ASK_S_MAX + 2.0
    turns.give_back()
    busy.set()
    counting.wait(3)  # the ask that came too late holds it no longer


def test_turns_are_apart(turns: Turns) -> None:
    assert seconds_of(turns, 4) >= 3 * APART_S


def test_a_turn_may_be_given_back_any_number_of_times(turns: Turns, counting: Counting) -> None:
    turns.give_back()
    turns.take()
    turns.give_back()
    turns.give_back()
    counting.wait()


def test_a_loop_that_has_closed_is_not_waited_for(turns: Turns, counting: Counting) -> None:
    counting.close()
    assert seconds_of(turns, 50) < ASK_S_MAX


def test_without_a_loop_there_is_nobody_to_wait_for() -> None:
    assert seconds_of(Turns(), 100) < APART_S


def test_asyncios_own_loop_takes_turns_as_well() -> None:
    async def beside() -> float:
        turns = Turns()
        turns.attach(asyncio.get_running_loop())
        return await asyncio.get_running_loop().run_in_executor(None, seconds_of, turns, 5)

    assert asyncio.run(beside()) >= 4 * APART_S

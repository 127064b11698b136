"""Two real threads and the hand-over between them: nothing is lost, nothing overtakes, nobody sleeps through
a report."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from processor.records import Record
from processor.send.handover import Handover, Stop
from processor.send.pending import SUPERSEDED, Ended, Pending

COUNT = 20_000


def entry(number: int) -> Pending[int]:
    return Pending("a", f"e{number}", number, Record("t", 0, number, 0, b"a", b"", []), 1, 1, 0, 0, None)


def test_what_one_thread_gives_the_other_gets_in_order_and_reports_back() -> None:
    handover: Handover[int] = Handover()
    received: list[int] = []

    async def loop_side() -> None:
        stopped = asyncio.Event()

        def receive(message: Any) -> None:
            if isinstance(message, Stop):
                stopped.set()
                return
            for pending in message:
                received.append(pending.entry)
                handover.report(Ended(pending, SUPERSEDED, 0))

        handover.attach(asyncio.get_running_loop(), receive)
        await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(loop_side()))
    handover.give([entry(-1)])  # before anybody is there
    thread.start()
    reported: list[int] = []
    given = 0
    while len(reported) < COUNT + 1:
        if given < COUNT:
            handover.give([entry(number) for number in range(given, given + 10)])
            given += 10
        else:
            handover.wait(5.0)
        reported += [ended.pending.entry for ended in handover.collect(1_000) if isinstance(ended, Ended)]
    handover.give(Stop())
    thread.join(5.0)
    assert not thread.is_alive()
    assert received == reported == list(range(-1, COUNT))


def test_a_loop_that_has_closed_is_given_nothing_more_and_nobody_minds() -> None:
    handover: Handover[int] = Handover()
    loop = asyncio.new_event_loop()
    handover.attach(loop, lambda message: None)
    loop.close()
    handover.give([entry(1)])
    handover.give([entry(2)])


def test_a_report_that_is_there_already_is_not_waited_for() -> None:
    handover: Handover[int] = Handover()
    handover.report(Ended(entry(1), SUPERSEDED, 0))
    handover.wait(60.0)
    assert len(handover.collect(10)) == 1
    handover.wait(0.001)


def test_what_the_loop_has_not_come_to_is_known_and_it_takes_no_more_at_once_than_was_there() -> None:
    handover: Handover[int] = Handover()
    loop = asyncio.new_event_loop()
    seen: list[int] = []

    def receive(message: Any) -> None:
        seen.append(handover.undelivered)
        if len(seen) < 3:  # the other side goes on giving meanwhile
            handover.give([entry(9)])

    handover.give([entry(1), entry(2)])
    assert handover.undelivered == 2
    handover.attach(loop, receive)
    assert seen == [0]
    assert handover.undelivered == 1
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert seen == [0, 0, 0]
    assert handover.undelivered == 0
    loop.close()

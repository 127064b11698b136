"""surveying: a thread beside transform or rekey that looks at the newest records of all partitions of its sources.

    at the start, then every 5 min:  survey ─► judged ─► log (once each), /status
                                        └─► whereabouts (`processor/transform/whereabouts.py`)

A worker reads its own partitions only. This thread alone can find a key that stands in partitions of two workers. It
takes 0.3 s of CPU every 5 minutes, 0.1 %. A failure stops no role: the survey is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import structlog

from processor.edges.kafka.trim import KafkaTrim
from processor.errors import ProcessorError
from processor.records import Position
from processor.rekey.rekeyer import Rekeyer
from processor.sources.placements import Sample
from processor.sources.survey import Said, Surveyed, Weight
from processor.transform.transformer import Transformer

log = structlog.get_logger(__name__)

EVERY_S: Final = 300.0
_LEAVE_S: Final = 2.0
"""Seconds that a stop waits for a survey that is under way; a survey may be cut off."""


class Surveying:
    """Mutable: `said` what is to be known of the producers, replaced whole; read by any thread."""

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Surveyed]],
        judge: Callable[[Mapping[str, Surveyed]], Sequence[Said]],
        learn: Callable[[Mapping[str, Sample]], None] = lambda samples: None,
    ) -> None:
        """`ask` surveys the topics, `judge` returns what a person should know of the result, `learn` is called with the
        samples."""
        self._ask = ask
        self._judge = judge
        self._learn = learn
        self._over = threading.Event()
        self.said: tuple[Said, ...] = ()
        self._thread = threading.Thread(target=self._run, name="survey", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._over.set()

    def join(self) -> None:
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.look()
            except ProcessorError as trouble:
                log.info("the newest records could not be surveyed", why=str(trouble))
            self._over.wait(EVERY_S)

    def look(self) -> None:
        """One survey. Raises what `ask` raises."""
        found = self._ask()
        self._learn({topic: one.sample for topic, one in found.items()})
        said = tuple(one for one in self._judge(found) if one.weight is not Weight.SOUND)
        before = {(one.topic, one.remedy) for one in self.said}
        for one in said:
            if (one.topic, one.remedy) not in before:
                level = log.warning if one.weight is Weight.PROBLEM else log.info
                level("of a topic's newest records", topic=one.topic, what=one.what, remedy=one.remedy)
        self.said = said

    def status(self) -> list[dict[str, str]]:
        """As `/status` shows it. May be called from any thread."""
        return [
            {"topic": one.topic, "weight": one.weight.value, "what": one.what, "remedy": one.remedy}
            for one in self.said
        ]


class SurveyedLoop:
    """A transformer or a rekeyer with its survey, as its thread and the endpoints see it. `more` is what `/status` has
    of this role alone; `trim` deletes what transform has taken from rekeyed topics."""

    def __init__(
        self,
        loop: Transformer | Rekeyer,
        surveying: Surveying,
        more: Callable[[], dict[str, Any]] = dict,
        trim: KafkaTrim | None = None,
    ) -> None:
        self._loop = loop
        self._surveying = surveying
        self._more = more
        self._trim = trim
        self.progress = loop.progress
        loop.start()
        surveying.start()

    def turn(self) -> float:
        rest_s = self._loop.turn()
        if self._trim is not None:
            taken = {one: one.committed for one in self._loop.status if one.committed is not None}
            self._trim.turn(Position(one.topic, one.partition, offset) for one, offset in taken.items())
        return rest_s

    def stop(self) -> None:
        self._surveying.ask_to_stop()
        self._loop.stop()
        self._surveying.join()

    def fail(self) -> None:
        """The broker aborts an open transaction; everything else ends as in a drain."""
        self.stop()

    def unready(self) -> list[str]:
        reasons = self._loop.unready()
        return reasons if self._trim is None or self._trim.trouble is None else [*reasons, self._trim.trouble]

    def status(self) -> dict[str, Any]:
        return {
            "partitions": [asdict(source) for source in self._loop.status],
            "producers": self._surveying.status(),
            "notices": [asdict(notice) for notice in self._loop.notices],
            **self._more(),
        }

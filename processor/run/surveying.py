"""surveying: a thread beside transform, or rekey, that looks at the newest records of all partitions of its sources.

    at the start, then every 5 min:  survey ─► judged ─► log (once each), /status
                                        └─► whereabouts (`processor/transform/whereabouts.py`)

A worker reads its own partitions only. This thread alone can find a key that stands in partitions of two workers. It
takes 0.3 s of CPU every 5 minutes, 0.1 %. A failure stops no role: the survey is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from processor.errors import ProcessorError
from processor.sources.placements import Sample
from processor.sources.survey import Said, Surveyed, Weight

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

"""One replay or discard of one topic's letters, from the first look to the report.

    place taken ─► ID taken over ─► unfinished run? ─► survey ─► contents made once ─► said ─► noted ─► replay ─► noted
                                     │                           (rebuild, edit)       │                 │
                                     └─ the same command: goes on with it              └─ --dry-run      └─ killed: the
                                        another: refused, with the one to repeat          ends here         same goes on

Owned by one command in one thread. The order of these steps makes a replay safe. The transactional ID is taken over
before anything is read, which decides what a killed command left open. The ends of the topics that show outcomes are
asked for before the first letter goes, so that no outcome is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

import msgspec
import structlog

from processor.errors import ProcessorError
from processor.letters.families import letter_facts
from processor.letters.patch import Unsendable
from processor.letters.resolutions import How, Resolution
from processor.operate.replay.arrange import BEHIND, NOT_RESOLVED, Status
from processor.operate.replay.contents import as_sent
from processor.operate.replay.making import Content
from processor.operate.replay.noted import RUN_PARTITION, Run, RunState, decode_run, encode_run, new_replay_id, run_key
from processor.operate.replay.place import Clients, Ledger
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Reading
from processor.operate.replay.release import Tallied
from processor.operate.replay.replay import Ending, Progress, Replay
from processor.operate.replay.survey import UNKEYED, Field, Route, Survey, Task
from processor.records import NewRecord, TopicPartition

log = structlog.get_logger(__name__)

EVERYTHING: Final = " --everything"
CONTENTS_BATCH: Final = 1_000
EXAMPLES_MAX: Final = 20
"""Letters and orders that a summary names."""


class Refused(ProcessorError):
    """The command cannot be done as it was given; nothing was changed."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, in letters. `stays` and `superseded` by reason; `letters` are examples of letters that stay,
    `order_ids` the first orders, in a dry run all; `unread` the topics that letters go to and no worker reads."""

    topic: str
    replay_id: str
    resumed: bool
    goes: int
    of_which_follow: int
    orders: int
    held_orders: int
    order_ids: tuple[str, ...]
    reasons: dict[str, int]
    stays: dict[str, int]
    superseded: dict[str, int]
    letters: tuple[str, ...]
    rate_s: float
    paced_by: str
    seconds: float
    unread: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, in letters. `returned` by reason; `parked` wait for their order to be placed, and are letters
    again after PROCESSOR_PARK_FOR; `left` are those that were asked for and are still open, parked ones too."""

    topic: str
    replay_id: str
    ending: str
    sent: int
    accepted: int
    absorbed: int
    parked: int
    returned: dict[str, int]
    superseded: int
    followed: int
    released_orders: int
    held_again_orders: int
    stays: dict[str, int]
    under_way: int
    left: int
    seconds: float


class Campaign:
    """One replay or discard. Mutable: `_plan`, and the rest once `begin` has made it."""

    def __init__(self, task: Task, clients: Clients, content: Content = as_sent) -> None:
        self._task = task
        self._clients = clients
        self._content = content
        self._plan = Plan()
        self._survey: Survey | None = None
        self._run: Run | None = None
        self._follow_from: dict[TopicPartition, int] = {}
        self._resumed = False

    def close(self) -> None:
        self._plan.close()

    def begin(self, *, name_all: bool = False) -> Summary:
        """Reads and plans, and changes nothing. If `name_all`, the summary names every order. Raises `Refused`,
        `BrokerOutage`."""
        task, reading, plan = self._task, self._clients.reading, self._plan
        found = unfinished(reading, task.field)
        if found is not None:
            self._check_same(found)
        self._resumed = found is not None
        now_ms = reading.clock.now_ms()
        selection = task.selection if found is None else found.selection
        replay_id = new_replay_id(selection, task.field.letters, now_ms) if found is None else found.replay_id
        survey = self._survey = Survey(task, selection, reading, self._clients.sources)
        ends = survey.letters(plan, None if found is None else replay_id)
        plan.arranged(replays_max=task.replays_max, sends=task.sends)
        ends |= self._tells_ends()
        if task.field.route is Route.OUTBOX:
            ends |= survey.holds(plan)
            if task.sends and plan.overview.has_snapshots:
                survey.deliveries(plan)
        states = task.sends and plan.counts[Status.GO] and task.field.route is not Route.FOREIGN
        if states and (task.rebuild or not task.erased):
            survey.states(plan, whole=task.rebuild)
            if not task.erased:
                survey.erasures(plan)
        if task.edit is not None or task.rebuild:
            self._make_contents(survey)
        self._follow_from = self._where_to_follow(ends, found)
        by_topic: dict[str, dict[int, int]] = {}
        for where, offset in self._follow_from.items():
            by_topic.setdefault(where.topic, {})[where.partition] = offset
        self._run = found or Run(
            replay_id=replay_id,
            state=RunState.UNDER_WAY,
            topic=task.field.letters,
            given=task.given,
            selection=selection,
            rebuild=task.rebuild,
            edit=task.edit,
            started_ms=now_ms,
            by=task.by,
            follow_from=by_topic,
        )
        return self._summary(replay_id, None if name_all else EXAMPLES_MAX)

    def _check_same(self, found: Run) -> None:
        task = self._task
        # Until there was `--everything`, a run without a filter was noted without it.
        if found.given.replace(EVERYTHING, "") != task.given.replace(EVERYTHING, ""):
            raise Refused(
                f"an earlier run on {found.topic} is not finished ({found.replay_id}, by {found.by}): go on with it by "
                f"`hakuna-processor dead-letters {found.given}`, or give it up with "
                f"`hakuna-processor dead-letters abandon --topic {found.topic}`"
            )
        if found.edit != task.edit:
            raise Refused("the patch is another one than the unfinished run began with: give it the same file")

    def _make_contents(self, survey: Survey) -> None:
        """Makes every content once, so that nothing is half done if one of them cannot be made. That letter stays, and
        so do those that wait behind it."""
        plan, overview, letters = self._plan, self._plan.overview, self._task.field.letters
        faults = 0
        for partition in overview.partitions():
            bad: list[tuple[int, str]] = []
            going = plan.going(partition)
            while batch := {one.offset: one for one in islice(going, CONTENTS_BATCH)}:
                for record in self._clients.reading.at(TopicPartition(letters, partition), list(batch)):
                    whole = survey.sendable(record, letter_facts(record))
                    made = whole if isinstance(whole, Unsendable) else self._content(whole, batch[record.offset], plan)
                    if isinstance(made, Unsendable):
                        bad.append((record.offset, made.why))
            for offset, why in bad:
                plan.stay(partition, offset, why)
            faults += len(bad)
        if faults and self._task.edit is not None:
            places: dict[str, str] = {}
            for partition, offset, why in overview.examples(Status.STAYS, EXAMPLES_MAX):
                places.setdefault(why, f", such as {letters}/{partition}/{offset}")
            # The patch may fit letters that wait behind one that it does not fit.
            whys = overview.whys(Status.STAYS).items()
            said = [f"{why} ({count}{places.get(why, '')})" for why, count in whys if why != BEHIND]
            raise Refused(
                f"the patch does not fit {faults} of the letters, and none was sent: {'; '.join(said[:EXAMPLES_MAX])}"
            )

    def _tells_ends(self) -> dict[TopicPartition, int]:
        """Returns the ends of the topic that shows which letters were accepted, and of the states, which show which
        letters wait for their order."""
        task, reading = self._task, self._clients.reading
        topics = [] if task.tells is None else [task.tells]
        if task.field.route is Route.SOURCE:
            topics.append(task.field.changelog)
        homes = self._plan.overview.homes()
        wanted = [where for topic in topics for where in reading.partitions(topic) if where.partition in homes]
        return dict(reading.offsets.ends(wanted))

    def _where_to_follow(self, ends: Mapping[TopicPartition, int], found: Run | None) -> dict[TopicPartition, int]:
        """Returns the offset from which each partition with letters of the plan is followed."""
        numbers = {*self._plan.overview.partitions(), *self._plan.overview.homes()}
        follow = {where: end for where, end in ends.items() if where.partition in numbers}
        if found is not None:
            for topic, offsets in found.follow_from.items():
                if topic in (self._task.field.letters, self._task.tells, self._task.field.changelog):
                    for number, offset in offsets.items():
                        if TopicPartition(topic, number) in follow:
                            follow[TopicPartition(topic, number)] = offset
        return follow

    def _summary(self, replay_id: str, orders_max: int | None) -> Summary:
        plan, task = self._plan, self._task
        goes = plan.counts[Status.GO]
        return Summary(
            topic=task.field.letters,
            replay_id=replay_id,
            resumed=self._resumed,
            goes=goes,
            of_which_follow=plan.overview.followers(),
            orders=plan.overview.orders,
            held_orders=plan.known.held_orders(),
            order_ids=tuple(
                order_id.decode("utf-8", "replace")
                for order_id in plan.overview.first_orders(orders_max)
                if not order_id.startswith(UNKEYED)
            ),
            reasons=plan.overview.reasons(Status.GO),
            stays=plan.overview.whys(Status.STAYS),
            superseded=plan.overview.whys(Status.STALE),
            letters=tuple(
                f"{task.field.letters}/{partition}/{offset}: {why}"
                for partition, offset, why in plan.overview.examples(Status.STAYS, EXAMPLES_MAX)
            ),
            rate_s=task.rate_s,
            paced_by=task.paced_by,
            seconds=round(goes / task.rate_s, 1),
        )

    def open_reasons(self) -> dict[str, int]:
        """Returns the number of open letters by reason, selected or not."""
        return self._plan.overview.reasons(*NOT_RESOLVED)

    def targets(self) -> list[str]:
        """Returns the topics that letters will be written to; none for a discard."""
        return self._plan.overview.targets() if self._task.sends else []

    @property
    def has_work(self) -> bool:
        counts = self._plan.counts
        return bool(self._resumed or counts[Status.GO] or counts[Status.STALE])

    def execute(self, watch: Callable[[Progress], None], stopped: Callable[[], bool]) -> Report:
        """Does what `begin` planned. Raises `Fatal`, `BrokerOutage`, `RegistryOutage`; then the same command goes
        on."""
        task, clients, run = self._task, self._clients, self._run
        assert run is not None, "nothing was planned"
        assert self._survey is not None
        started_s = clients.reading.clock.monotonic_s()
        if not self._resumed:
            note_run(clients.ledger, task.field, run)
        log.info(
            "run begins", replay_id=run.replay_id, topic=run.topic, letters=self._plan.counts[Status.GO],
            resumed=self._resumed, rate_s=task.rate_s, canary=task.canary, by=run.by,
        )  # fmt: skip
        how = How.REPLAYED if task.sends else How.DISCARDED
        resolution = Resolution(how=how, at_ms=0, by=run.by, reason=task.discard or "", replay_id=run.replay_id)
        if task.sends:
            resolution = msgspec.structs.replace(resolution, rebuilt=run.rebuild, edit=run.edit)
        replay = Replay(task, resolution, self._follow_from, self._plan, self._survey, clients, self._content)
        ending = replay.run(watch, stopped)
        match ending:
            case Ending.DONE:
                self._end(run, RunState.DONE)
            case Ending.TOO_MANY_BACK:
                self._end(run, RunState.STOPPED)
            case Ending.BY_HAND | Ending.SILENT:
                pass  # unfinished: the same command goes on with it
        report = self._report(run, ending, replay.tallied, clients.reading.clock.monotonic_s() - started_s)
        log.info("run ends", **{name: value for name, value in msgspec.to_builtins(report).items() if value})
        return report

    def _end(self, run: Run, state: RunState) -> None:
        ended = msgspec.structs.replace(run, state=state, ended_ms=self._clients.reading.clock.now_ms())
        note_run(self._clients.ledger, self._task.field, ended)

    def _report(self, run: Run, ending: Ending, tallied: Tallied, seconds: float) -> Report:
        counts = self._plan.counts
        returned = sum(tallied.returned.values())
        return Report(
            topic=run.topic,
            replay_id=run.replay_id,
            ending=ending.value,
            sent=counts[Status.SENT] + counts[Status.ACCEPTED] + counts[Status.ABSORBED] + counts[Status.RETURNED],
            accepted=counts[Status.ACCEPTED],
            absorbed=max(0, counts[Status.ABSORBED] - tallied.parked),
            parked=tallied.parked,
            returned=dict(tallied.returned),
            superseded=counts[Status.DROPPED],
            followed=tallied.followed,
            released_orders=tallied.released,
            held_again_orders=tallied.held_again,
            stays=self._plan.overview.whys(Status.STAYS),
            under_way=counts[Status.SENT],
            left=counts[Status.GO] + counts[Status.STALE] + counts[Status.STAYS] + returned + tallied.parked,
            seconds=round(seconds, 1),
        )


def unfinished(reading: Reading, field: Field) -> Run | None:
    """Returns the run on this topic that was begun and has not ended. Raises `BrokerOutage`."""
    key = run_key(field.letters)
    run: Run | None = None
    for records in reading.whole(TopicPartition(field.resolutions, RUN_PARTITION)):
        for record in records:
            if record.key == key:
                run = None if record.value is None else decode_run(record.value)
    return run if run is not None and run.state is RunState.UNDER_WAY else None


def note_run(ledger: Ledger, field: Field, run: Run) -> None:
    """Writes down the state of a run."""
    ledger.write([NewRecord(field.resolutions, RUN_PARTITION, run_key(field.letters), encode_run(run), [])])

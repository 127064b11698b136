"""One replay or discard of one topic's letters, from the first look to the report.

    place taken ─► ID taken over ─► unfinished run? ─► survey ─► contents made once ─► said ─► noted ─► replay ─► noted
                                     │                           (rebuild, edit)       │                 │
                                     └─ the same command: goes on with it              └─ --dry-run      └─ killed: the
                                        another: refused, with the one to repeat          ends here         same goes on

Owned by one command, one thread. The order of these steps makes a replay safe. The transactional ID is taken over
before anything is read, so that what a killed command left open is decided. The ends of the topics that tell of
outcomes are asked for before the first letter goes, so that no outcome is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from processor.errors import ProcessorError
from processor.interfaces import Clock, Reader
from processor.letters.resolutions import How, Resolution
from processor.operate.replay.arrange import BEHIND, NOT_RESOLVED, Status
from processor.operate.replay.contents import as_sent, prepare
from processor.operate.replay.erasures import keep_back
from processor.operate.replay.making import Content, Terms
from processor.operate.replay.noted import RUN_PARTITION, Run, RunState, decode_run, encode_run, new_replay_id, run_key
from processor.operate.replay.place import Ledger
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Offsets, Step, read
from processor.operate.replay.rekeying import Rekey
from processor.operate.replay.release import Barrier, Tallied
from processor.operate.replay.replay import Ending, Progress, Replay
from processor.operate.replay.selection import Selection
from processor.operate.replay.sources import Sources
from processor.operate.replay.survey import UNKEYED, Field, Route, Survey
from processor.records import NewRecord, TopicPartition

log = structlog.get_logger(__name__)

UNPACED_S: Final = 1e6
"""Letters a second where nothing is sent: what is only noted down needs no pace."""
EVERYTHING: Final = " --everything"
EXAMPLES_MAX: Final = 20
"""Letters and orders that a summary names one by one."""


class Refused(ProcessorError):
    """The command cannot be done as it was given; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Clients:
    """What a campaign works with; all of it belongs to the command's thread. `step` is told of every reading, `keep`
    keeps the place. `sources` has a reader of its own, since it reads while the letters are read."""

    reader: Reader
    follower: Reader
    sources: Sources
    offsets: Offsets
    ledger: Ledger
    barrier: Barrier
    clock: Clock
    keep: Callable[[], None]
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done. `given` are the words of the command that select; `discard` is why the letters are put aside
    (None: they are sent), `erased` whether those of erased orders are sent too; `paced_by` says where the rate comes
    from."""

    field: Field
    given: str
    selection: Selection
    by: str
    tells: str | None
    groups: Mapping[str, str]
    discard: str | None = None
    rebuild: bool = False
    edit: dict[str, Any] | None = None
    erased: bool = False
    rekey: Rekey | None = None
    replays_max: int = 3
    canary: int = 0
    share_max: float = 1.0
    rate_s: float = UNPACED_S
    paced_by: str = ""
    silence_s_max: float = 900.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, in letters. `stays` and `superseded` by why; `letters` are examples of those that stay,
    `order_ids` the orders whose turn comes first, of a dry run all. `unread`: the topics that letters go to and nobody
    reads."""

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
    again after PROCESSOR_PARK_FOR; `left` is what is still open of what was asked for, parked ones too."""

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
    """One of them. Mutable: `_plan` and `_run` once `begin` has made them."""

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

    # ---- before anything is done ------------------------------------------------------------------------------------

    def begin(self, *, name_all: bool = False) -> Summary:
        """Reads and plans, and changes nothing; `name_all`: the summary names every order. Raises `Refused`,
        `BrokerOutage`."""
        task, clients = self._task, self._clients
        found = unfinished(clients, task.field)
        if found is not None:
            self._check_same(found)
        self._resumed = found is not None
        now_ms = clients.clock.now_ms()
        selection = task.selection if found is None else found.selection
        replay_id = new_replay_id(selection, task.field.letters, now_ms) if found is None else found.replay_id
        survey = self._survey = Survey(
            task.field,
            selection,
            clients.reader,
            clients.offsets,
            clients.clock,
            clients.step,
            clients.sources,
            task.rekey,
        )
        ends = survey.letters(self._plan, None if found is None else replay_id)
        self._plan.arranged(replays_max=task.replays_max, sends=task.discard is None)
        ends |= self._tells_ends()
        if task.field.route is Route.OUTBOX:
            ends |= survey.holds(self._plan)
            if task.discard is None and self._plan.overview.has_snapshots:
                survey.deliveries(self._plan)
        if task.discard is None:
            self._read_states(survey)
        if task.edit is not None or task.rebuild:
            self._make_contents()
        self._follow_from = self._where_to_follow(ends, found)
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
            follow_from=_by_topic(self._follow_from),
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

    def _read_states(self, survey: Survey) -> None:
        """For what is rebuilt from them, and for what is not to be sent since there is none any more."""
        task, clients = self._task, self._clients
        if self._plan.counts[Status.GO] and task.field.route is not Route.FOREIGN and (task.rebuild or not task.erased):
            survey.states(self._plan, whole=task.rebuild)
            if not task.erased:
                keep_back(self._plan, task.field, clients.reader, clients.offsets, clients.clock, clients.step)

    def _make_contents(self) -> None:
        """Every content once, so that nothing is half done when one of them cannot be made."""
        task, clients = self._task, self._clients
        assert self._survey is not None
        sendable = self._survey.sendable
        faults = prepare(
            self._plan, self._content, sendable, task.field.letters, clients.reader, clients.clock, clients.step
        )
        if faults and task.edit is not None:
            overview, places = self._plan.overview, dict[str, str]()
            for partition, offset, why in overview.examples(Status.STAYS, EXAMPLES_MAX):
                places.setdefault(why, f", such as {task.field.letters}/{partition}/{offset}")
            # Those that wait behind a letter that it does not fit are none that it does not fit.
            said = [
                f"{why} ({count}{places.get(why, '')})"
                for why, count in overview.whys(Status.STAYS).items()
                if why != BEHIND
            ]
            raise Refused(
                f"the patch does not fit {faults} of the letters, and none was sent: {'; '.join(said[:EXAMPLES_MAX])}"
            )

    def _tells_ends(self) -> dict[TopicPartition, int]:
        """Of the topic that tells what was taken, and of the states, which tell what waits for its order."""
        task = self._task
        topics = [] if task.tells is None else [task.tells]
        if task.field.route is Route.SOURCE:
            topics.append(task.field.changelog)
        wanted = [
            TopicPartition(topic, number)
            for topic in topics
            for number in self._plan.overview.homes()
            if number < (self._clients.offsets.partitions(topic) or 0)
        ]
        return dict(self._clients.offsets.ends(wanted))

    def _where_to_follow(self, ends: Mapping[TopicPartition, int], found: Run | None) -> dict[TopicPartition, int]:
        """From where those partitions are followed that hold letters of the plan."""
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
        """How many letters are open, whatever was asked for, by reason."""
        return self._plan.overview.reasons(*NOT_RESOLVED)

    def targets(self) -> list[str]:
        """The topics that are about to be written to; none where the letters are put aside."""
        return [] if self._task.discard is not None else self._plan.overview.targets()

    # ---- doing it ---------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        counts = self._plan.counts
        return bool(self._resumed or counts[Status.GO] or counts[Status.STALE])

    def execute(self, watch: Callable[[Progress], None], stopped: Callable[[], bool]) -> Report:
        """Does what `begin` said. Raises `Fatal`, `BrokerOutage`, `RegistryOutage`: the same command goes on then."""
        task, clients, run = self._task, self._clients, self._run
        assert run is not None, "nothing was planned"
        assert self._survey is not None
        started_s = clients.clock.monotonic_s()
        if not self._resumed:
            self._note(run)
        log.info(
            "run begins", replay_id=run.replay_id, topic=run.topic, letters=self._plan.counts[Status.GO],
            resumed=self._resumed, rate_s=task.rate_s, canary=task.canary, by=run.by,
        )  # fmt: skip
        replay = Replay(
            Terms(
                field=task.field,
                replay_id=run.replay_id,
                resolution=self._resolution(run),
                sends=task.discard is None,
                rate_s=task.rate_s,
                canary=task.canary,
                share_max=task.share_max,
                outstanding_max=max(task.canary, round(2 * task.rate_s), 1),
                silence_s_max=task.silence_s_max,
                tells=task.tells,
                follow_from=self._follow_from,
                groups=dict(task.groups),
            ),
            self._plan,
            self._survey,
            clients.ledger,
            clients.reader,
            clients.follower,
            clients.offsets,
            clients.clock,
            self._content,
            clients.barrier,
            clients.keep,
        )
        ending = replay.run(watch, stopped)
        match ending:
            case Ending.DONE:
                self._end(run, RunState.DONE)
            case Ending.TOO_MANY_BACK:
                self._end(run, RunState.STOPPED)
            case Ending.BY_HAND | Ending.SILENT:
                pass  # unfinished: the same command goes on with it
        report = self._report(run, ending, replay.tallied, clients.clock.monotonic_s() - started_s)
        log.info("run ends", **{name: value for name, value in msgspec.to_builtins(report).items() if value})
        return report

    def _resolution(self, run: Run) -> Resolution:
        if self._task.discard is not None:
            return Resolution(how=How.DISCARDED, at_ms=0, by=run.by, reason=self._task.discard, replay_id=run.replay_id)
        return Resolution(
            how=How.REPLAYED, at_ms=0, by=run.by, replay_id=run.replay_id, rebuilt=run.rebuild, edit=run.edit
        )

    def _note(self, run: Run) -> None:
        note_run(self._clients.ledger, self._task.field, run)

    def _end(self, run: Run, state: RunState) -> None:
        self._note(msgspec.structs.replace(run, state=state, ended_ms=self._clients.clock.now_ms()))

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


def unfinished(clients: Clients, field: Field) -> Run | None:
    """The run on this topic that was begun and not ended, if there is one."""
    where = TopicPartition(field.resolutions, RUN_PARTITION)
    begin = clients.offsets.beginnings([where])[where]
    end = clients.offsets.ends([where])[where]
    key = run_key(field.letters)
    run: Run | None = None
    for records in read(clients.reader, clients.clock, where, begin, end, clients.step):
        for record in records:
            if record.key == key:
                run = None if record.value is None else decode_run(record.value)
    return run if run is not None and run.state is RunState.UNDER_WAY else None


def note_run(ledger: Ledger, field: Field, run: Run) -> None:
    """Writes down how a run stands."""
    ledger.write([NewRecord(field.resolutions, RUN_PARTITION, run_key(field.letters), encode_run(run), [])])


def _by_topic(offsets: Mapping[TopicPartition, int]) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for where, offset in offsets.items():
        found.setdefault(where.topic, {})[where.partition] = offset
    return found

"""One tree of exceptions, each class named for what is done about it; and `Problem`: a subject, a fact, a remedy.

    ProcessorError
    ├── BadRecord            this record can never be taken     → dead letter, the next record goes on
    ├── Outage               something we need does not answer  → wait, say so, lose nothing
    │   ├── RegistryOutage       the schema registry
    │   ├── BrokerOutage         Kafka
    │   └── KeyMissing           a file that shall hold an API key, and may yet be mounted
    ├── TransactionAborted   nothing of this batch was written  → roll back, put the records back, take them again
    ├── Fenced               someone else owns the partitions   → abandon, make a new producer, join again
    │   └── OutcomeUnknown       a commit that nobody confirmed → the same, and ask what the group has committed
    ├── StateCorrupt         the local store cannot be trusted  → wipe it, restore from the changelog
    ├── Unusable             settings, topics or schemas that cannot work → print every problem, exit 78
    └── Fatal                we cannot go on in this process    → say why, exit 1, let the orchestrator restart
        └── StateTooNew          a later version wrote the state    → the same: it wipes nothing and writes nothing

An `AssertionError` is outside of this tree: one of our invariants is broken, and the process crashes where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from processor.records import Reason, Stage, TopicPartition


class ProcessorError(Exception):
    """The root; never raised itself."""


class BadRecord(ProcessorError):
    """A record that can never be processed. It becomes a dead letter with this stage and reason."""

    def __init__(self, stage: Stage, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason


class Outage(ProcessorError):
    """A system outside does not answer. The caller waits and tries again; no record becomes a dead letter."""


class RegistryOutage(Outage):
    """The schema registry does not answer, or answers anything but a schema or `40403`."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class BrokerOutage(Outage):
    """No broker answers, or a broker answers with an error that a later attempt may not meet."""


class KeyMissing(Outage):
    """A key file cannot be read. It may appear later: a secret may be made after the pods that mount it."""

    REMEDY = "put the key, and nothing else, into that file, readable for this user"

    def __init__(self, setting: str, what: str) -> None:
        super().__init__(f"{setting}: {what}; {self.REMEDY} (on Kubernetes: the secret that is mounted there)")
        self.setting = setting
        self.what = what


class TransactionAborted(ProcessorError):
    """The broker has confirmed that the open transaction was aborted: none of its records can be read."""


class Fenced(ProcessorError):
    """The group or the transaction coordinator has given our work to another worker."""


class OutcomeUnknown(Fenced):
    """A transaction may or may not have been committed. Only the group's committed offsets show which."""


class StateCorrupt(ProcessorError):
    """The local store is foreign, damaged or of an unknown version. The changelog has all of it.

    `partition` is the one that the store and its changelog disagree about, where that is known.
    """

    def __init__(self, message: str, partition: TopicPartition | None = None) -> None:
        super().__init__(message)
        self.partition = partition


class Problem(NamedTuple):
    """One thing that keeps the processor from its work. `subject` is a setting (or several, separated by `, `), a topic
    or an address; `what` is what is wrong with it; `remedy` is what to do, empty if that is not known. `settings` names
    the settings that conflict with the subject, if the subject does not name them itself."""

    subject: str
    what: str
    remedy: str = ""
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        # What a topic has is a sentence with its name; of a setting it is said beside it.
        between = " " if self.what.startswith("has ") else ": "
        return f"{self.subject}{between}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


class Unusable(ProcessorError):
    """The processor cannot work as configured. `problems` has every reason; a sentence if no code reads its parts."""

    def __init__(self, problems: Sequence[Problem | str]) -> None:
        assert problems, "unusable without a reason"
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)

    @property
    def named(self) -> tuple[Problem, ...]:
        """The problems that have a subject and a remedy of their own."""
        return tuple(problem for problem in self.problems if isinstance(problem, Problem))


class Fatal(ProcessorError):
    """This process cannot go on; a new one can."""


class StateTooNew(Fatal):
    """A later version wrote the state, which is sound: workers of that version can go on with it."""

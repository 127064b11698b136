"""Workers and brokers in one picture. Pure.

A worker knows of its partitions which records are done beyond the committed offset, and what it waits for. So its word
counts more than the brokers'; if no worker answers, the brokers' word counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from processor.moments import iso, meant_ms
from processor.records import TopicPartition

if TYPE_CHECKING:
    from processor.operate.status.brokers import Behind
    from processor.operate.status.workers import Worker


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of one role; times are epoch ms. `worker` is the URL of the worker that says it has the partition,
    otherwise the client that the group names, otherwise None: no worker has it. `missed` counts records that were
    deleted before they were taken, if that is known."""

    role: str
    topic: str
    partition: int
    worker: str | None
    committed: int | None
    end: int | None
    lag: int | None
    lag_seconds: float | None
    blocked_by: str | None
    blocked_since: int | None
    missed: int = 0

    @property
    def quiet(self) -> bool:
        """True if a worker has it and nothing waits."""
        return self.worker is not None and not self.lag and self.blocked_by is None and not self.missed


@dataclass(frozen=True, slots=True)
class FleetView:
    """`trouble` is why the brokers could not be asked; `held` is the number of held orders, None if it is unknown."""

    at_ms: int
    workers: Sequence[Worker]
    partitions: Sequence[PartitionView]
    trouble: str | None
    held: int | None = None

    @property
    def well(self) -> bool:
        """True if every worker that was asked answers and is ready, and the brokers answer."""
        return self.trouble is None and all(one.silent is None and not one.unready for one in self.workers)

    @property
    def producers(self) -> list[dict[str, str]]:
        """What the workers say of the producers of the source topics, each fact once. A worker of another version may
        leave it out."""
        named = {
            (str(one.get("topic")), str(one.get("what")), str(one.get("remedy", "")))
            for worker in self.workers
            for role in worker.roles
            for one in [*role.get("producers", []), *_apart(role.get("placements", []))]
            if isinstance(one, dict)
        }
        return [{"topic": topic, "what": what, "remedy": remedy} for topic, what, remedy in sorted(named)]

    def as_json(self) -> dict[str, Any]:
        return {
            "at": iso(self.at_ms),
            "well": self.well,
            "brokers": self.trouble or "answer",
            "workers": [
                {
                    "url": worker.url,
                    "silent": worker.silent,
                    "ready": worker.silent is None and not worker.unready,
                    "unready": list(worker.unready),
                    "roles": [
                        {"role": one.get("role"), "life": one.get("life"), "partitions": len(one.get("partitions", []))}
                        for one in worker.roles
                    ],
                    "destinations": [one for role in worker.roles for one in role.get("destinations", [])],
                    "held_orders": worker.gauges.get("processor_held_orders"),
                    "parked_events": worker.gauges.get("processor_parked_events"),
                    "restore_remaining": worker.gauges.get("processor_restore_remaining_records"),
                }
                for worker in self.workers
            ],
            "held_orders": self.held,
            "producers": self.producers,
            "partitions": [
                {**asdict(one), "blocked_since": None if one.blocked_since is None else iso(one.blocked_since)}
                for one in self.partitions
            ],
        }


def _apart(placements: Sequence[Any]) -> list[dict[str, str]]:
    """Returns the topics that a worker itself has seen to be placed differently."""
    return [
        {
            "topic": one["topic"],
            "what": f"{one.get('placement')}: {one['misplaced_share']:.0%} of its orders are in another partition than "
            f"in {one.get('reference')}",
            "remedy": str(one.get("mend", "")),
        }
        for one in placements
        if isinstance(one, dict) and one.get("misplaced_share")
    ]


def view(
    workers: Sequence[Worker], behind: Sequence[Behind], trouble: str | None, now_ms: int, held: int | None = None
) -> FleetView:
    named = dict(_told(workers))
    seen = [_of_broker(one, named.pop((one.role.value, one.where), None), now_ms) for one in behind]
    alone = [_of_worker(role, where, *said) for (role, where), said in named.items()]
    partitions = sorted([*seen, *alone], key=lambda one: (one.role != "transform", one.role, one.topic, one.partition))
    return FleetView(now_ms, workers, partitions, trouble, held)


def _told(workers: Sequence[Worker]) -> list[tuple[tuple[str, TopicPartition], tuple[str, Mapping[str, Any]]]]:
    """Returns what each worker says of its partitions, by role and partition: its URL, and the object of its `/status`.
    A worker of another version may leave fields out."""
    told: list[tuple[tuple[str, TopicPartition], tuple[str, Mapping[str, Any]]]] = []
    for worker in workers:
        for role in worker.roles:
            missed: Counter[TopicPartition] = Counter()  # transform has them as events
            for notice in role.get("notices", []):
                missed[_where(notice)] += int(notice.get("missed", 0))
            for said in role.get("partitions", []):
                if isinstance(said, dict):
                    where = _where(said)
                    every = {**said, "missed": int(said.get("missed", 0)) + missed[where]}
                    told.append(((str(role.get("role")), where), (worker.url, every)))
    return told


def _where(said: Mapping[str, Any]) -> TopicPartition:
    return TopicPartition(str(said.get("topic")), int(said.get("partition", -1)))


def _of_broker(one: Behind, named: tuple[str, Mapping[str, Any]] | None, now_ms: int) -> PartitionView:
    url, said = named if named is not None else (None, {})
    lag = said.get("lag", one.lag)
    seconds = None
    if lag and one.oldest_ms is not None and one.oldest_ms >= 0:
        seconds = max(0.0, (now_ms - meant_ms(one.oldest_ms)) / 1000)
    blocked = said.get("blocked_by"), said.get("blocked_since")
    worker, missed = url or one.member, one.missed + said.get("missed", 0)
    age_s = 0.0 if not lag else seconds
    return PartitionView(one.role.value, *one.where, worker, one.committed, one.end, lag, age_s, *blocked, missed)


def _of_worker(role: str, where: TopicPartition, url: str, said: Mapping[str, Any]) -> PartitionView:
    lag, missed = said.get("lag"), said.get("missed", 0)
    blocked = said.get("blocked_by"), said.get("blocked_since")
    return PartitionView(role, *where, url, said.get("committed"), None, lag, None, *blocked, missed)

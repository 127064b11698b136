"""Topics on three brokers, both APIs, two workers a role: what a soak disturbs, and what its checkers read."""

from __future__ import annotations

import itertools
import json
import os
import signal
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import msgspec
from confluent_kafka import KafkaException

from processor.config import Quota, Role
from processor.records import Record
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Fault, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import ORDER_TOPICS, REKEYED, Topic
from tests.integration.test_whole_path import headers
from tests.soak.checks import Entry, Sample
from tests.soak.cluster import Cluster
from tests.soak.journal import Journal
from tests.soak.writing import Writing
from tests.support.certificates import Authority, demanding
from tests.support.loopback import LOOPBACK
from tests.support.processes import Worker
from tests.support.transform_site import Site

PARTITIONS: Final = 4
SOURCES: Final[Mapping[Topic, int]] = dict(zip(ORDER_TOPICS, (2, 3, 4, 1, 2), strict=True))
"""Partitions of the shops' topics, where rekey makes it no matter."""
HAKUNA_QUOTA: Final = Quota(80, 1.0)
HAKO_QUOTA: Final = Quota(30, 5.0)
IN_FLIGHT_MAX: Final = 48
SAMPLE_S: Final = 5.0
HEALTHY: Final = Script(latency=Latency(median_ms=20, p99_ms=80), quota=HAKUNA_QUOTA, shares={Fault.LOST_ANSWER: 0.003})
_COMPACTED: Final = {
    "min.cleanable.dirty.ratio": "0.01", "segment.ms": "10000", "max.compaction.lag.ms": "15000",
    "delete.retention.ms": "60000",
}  # fmt: skip


class Happening(NamedTuple):
    """Something that was done, or that happened by itself; seconds since the start."""

    at_s: float
    what: str


class Gauge(NamedTuple):
    """How things stood at a time: lags by the workers' own metrics, -1 where one did not answer."""

    at_s: float
    unconsumed: int
    unsent: int
    requests: int


class World:
    """Mutable: `workers` by name, `lives` (how often each was started), `happenings`, `samples`, `gauges`; the last two
    are a thread's of its own while it runs."""

    def __init__(
        self, directory: Path, registry_url: str, seed: int, rate: float, *, rekey: bool, protocol: str
    ) -> None:
        self.directory = directory
        self.rekey = rekey
        self.protocol = protocol
        self.roles = (Role.REKEY,) * rekey + (Role.TRANSFORM, Role.SEND, Role.HAKO)
        self._registry_url = registry_url
        self._seed, self._rate = seed, rate
        self._stack = ExitStack()
        self.workers: dict[str, Worker] = {}
        self.lives: Counter[str] = Counter()
        self.happenings: list[Happening] = []
        self.samples: list[Sample] = []
        self.gauges: list[Gauge] = []
        self._over = threading.Event()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.cluster = stack.enter_context(Cluster())
            self.hakuna = StandIn(HakunaApi(), HEALTHY)
            self.journal = Journal(self.hakuna)
            self.hako = StandIn(HakoApi(), Script(quota=HAKO_QUOTA, latency=Latency(median_ms=30)))
            self.new_authority()
            self.trust(self.authority)
            self.present(self.authority)
            self.hakuna_api = stack.enter_context(Loopback(self.journal, tls=self.served_by(self.authority)))
            self.hako_api = stack.enter_context(Loopback(self.hako))
            self.site = stack.enter_context(
                Site(
                    self.cluster.bootstrap_servers,
                    self._registry_url,
                    self.directory,
                    partitions=PARTITIONS,
                    sources=SOURCES if self.rekey else None,
                    replication=3,
                )
            )
            self.site.space.configure(Topic.CHANGELOG, config=_COMPACTED)
            self.write_key(SANDBOX_KEY)
            counts = SOURCES if self.rekey else dict.fromkeys(ORDER_TOPICS, PARTITIONS)
            self.writing = Writing(self.site.installation, self._seed, self._rate, counts)
            self.began_s, self.began_at_s = time.monotonic(), time.time()
            for role in self.roles:
                for letter in "ab":
                    self.start(f"{role.value}-{letter}")
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        self._over.set()
        self._sampler.join()

    def note(self, what: str) -> None:
        self.happenings.append(Happening(time.monotonic() - self.began_s, what))

    def of_role(self, role: Role) -> list[str]:
        return [f"{role.value}-{letter}" for letter in "ab"]

    def start(self, name: str) -> None:
        """The same name again is a restart on the same state."""
        role = name.partition("-")[0]
        self.lives[name] += 1
        settings = {
            "HAKUNA_BASE_URL": self.hakuna_api.url,
            "HAKUNA_API_KEY_FILE": str(self.directory / "api-key"),
            "HAKUNA_CA_FILE": str(self.directory / "ca.pem"),
            "HAKUNA_CLIENT_CERT_FILE": str(self.directory / "client.pem"),
            "HAKUNA_CLIENT_KEY_FILE": str(self.directory / "client.key"),
            "HAKUNA_QUOTA": str(HAKUNA_QUOTA),
            "HAKO_BASE_URL": self.hako_api.url,
            "HAKO_API_KEY": SANDBOX_KEY,
            "HAKO_QUOTA": str(HAKO_QUOTA),
            "PROCESSOR_IN_FLIGHT_MAX": str(IN_FLIGHT_MAX),
            "PROCESSOR_REQUEST_TIMEOUT": "5s",
            "KAFKA_GROUP_PROTOCOL": self.protocol,
        }
        self.workers[name] = self.site.worker(name, settings, role=role, await_ready=False)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.workers[name].child.signal(number)

    def running(self, name: str) -> bool:
        return self.workers[name].running

    def write_key(self, key: str) -> None:
        self._put("api-key", key)

    def _put(self, name: str, text: str) -> None:
        """As Kubernetes replaces a secret: at once."""
        new = self.directory / f"{name}.new"
        new.write_text(text)
        new.rename(self.directory / name)

    def new_authority(self) -> None:
        name = f"authority-{next(self._numbers)}"
        made = self.directory / name
        made.mkdir()
        self.authority = Authority(made, name)

    def trust(self, *authorities: Authority) -> None:
        """What workers take for Hakuna."""
        self._put("ca.pem", "".join(one.ca.read_text() for one in authorities))

    def present(self, authority: Authority) -> None:
        """What workers show to Hakuna: two files, one after the other."""
        issued = authority.issue("worker")
        self._put("client.pem", issued.certificate.read_text())
        self._put("client.key", issued.key.read_text())

    def served_by(self, authority: Authority, *clients: Authority) -> ssl.SSLContext:
        """Hakuna with a certificate of this authority, for clients of this and those."""
        return demanding(authority.issue("hakuna"), authority, *clients)

    def serve(self, authority: Authority, *clients: Authority) -> None:
        self.hakuna_api.stop()
        self.hakuna_api.tls = self.served_by(authority, *clients)
        self.hakuna_api.start()

    def revive(self, busy: Iterable[str]) -> None:
        """Starts workers again that have ended by themselves, as Kubernetes does. `busy` are those that a disturbance
        has in its hands."""
        for name, worker in list(self.workers.items()):
            if name not in busy and not worker.running:
                said = worker.log_tail(3).replace("\n", " | ")[-600:]
                self.note(f"{name} ended by itself with {worker.child.exit_code}: {said}")
                self.start(name)

    def settled(self) -> bool:
        """Everything that was written has come to its end: by what the workers say, then by what the groups have
        committed, which costs more to ask."""
        try:
            if any(self._lag(role, patience_s=5.0) != 0 for role in self.roles) or not self._stock_is_told():
                return False
            return self._unsent() == 0 and not any(
                self.site.left(role) for role in self.roles if role in (Role.REKEY, Role.TRANSFORM)
            )
        except (KafkaException, TimeoutError, AssertionError):
            return False

    def _lag(self, role: Role, patience_s: float) -> int:
        """By the metrics of the role's workers; -1 where one of them does not answer, or none has a partition."""
        lags: list[float] = []
        for name in self.of_role(role):
            try:
                text = LOOPBACK.get(f"http://127.0.0.1:{self.workers[name].port}/metrics", timeout=patience_s).text
            except httpx.TransportError:
                return -1
            lines = (line for line in text.splitlines() if line.startswith("processor_consumer_lag_records{"))
            lags += [float(line.rpartition(" ")[2]) for line in lines]
        return round(sum(lags)) if lags else -1

    def _unsent(self) -> int:
        ends = self.site.space.end_offsets(Topic.OUTBOX)
        committed = {
            place[1]: known.offset
            for place, known in self.site.space.committed("hakuna-processor.send", Topic.OUTBOX).items()
        }
        return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())

    def _stock_is_told(self) -> bool:
        return self.hako.api.contents() == self.tables()

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """What Hako has to hold: the last value of each key."""
        rows: dict[str, dict[str, dict[str, Any]]] = {"inventory": {}, "items": {}, "warehouses": {}}
        for (topic, key), told in list(self.writing.last.items()):
            match topic:
                case Topic.ITEMS:
                    rows["items"][key] = {"sku": key, "name": told["name"], "price": told["price"]}
                case Topic.WAREHOUSES:
                    rows["warehouses"][key] = {"warehouseID": key, "name": told["name"]}
                case _:
                    warehouse, _, sku = key.partition("/")
                    rows["inventory"][key] = {"sku": sku, "warehouseID": warehouse, "quantity": told["quantity"]}
        return {table: [row for _, row in sorted(of.items())] for table, of in rows.items()}

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            at_s = time.monotonic() - self.began_s
            for name, worker in list(self.workers.items()):
                try:
                    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
                    files = len(os.listdir(f"/proc/{worker.pid}/fd"))
                except OSError:
                    continue
                self.samples.append(Sample(at_s, name, self.lives[name], pages * os.sysconf("SC_PAGE_SIZE"), files))
            behind, unsent = (self._lag(role, patience_s=1.0) for role in (Role.TRANSFORM, Role.SEND))
            self.gauges.append(Gauge(at_s, behind, unsent, self.hakuna.record.requests))

    def entries(self) -> list[Entry]:
        found = []
        for message in self.site.space.records(Topic.OUTBOX):
            said = headers(message)
            key, body = message.key(), message.value()
            assert key is not None
            assert body is not None
            since_s = message.timestamp()[1] / 1000 - self.began_at_s
            place = f"{message.partition()}/{message.offset():06d}, {since_s:.1f} s"
            found.append(Entry(key.decode(), said["entry-id"].decode(), said["source"].decode(), body, place))
        return found

    def sources(self) -> list[Record]:
        return self.site.rekeyed() if self.rekey else self.site.source_records()

    def letter_reasons(self, sources: Iterable[Record]) -> dict[str, str]:
        """By the place of the shop's own record. rekey's copies of it are deleted once they are taken, so that a letter
        of one is known by its bytes."""
        if not self.rekey:
            return self.site.letter_reasons()
        base = {self.site.space.name(rekeyed): self.site.space.name(topic) for topic, rekeyed in REKEYED.items()}
        places: dict[tuple[str, bytes | None, bytes | None], list[str]] = defaultdict(list)
        for record in sources:
            places[record.topic, record.key, record.value].append(str(record.position))
        reasons: dict[str, str] = {}
        for head, letter in self.site.letters():
            topic = base.get(head.origin.topic, head.origin.topic)
            where = places.get((topic, letter.key, letter.value)) or [f"{head.origin}"]
            reasons[where.pop()] = head.reason
        return reasons

    def refused(self) -> dict[str, str]:
        """By entry ID, why an entry is a dead letter."""
        return {
            headers(letter)["entry-id"].decode(): headers(letter)["__dlq.errors.reason"].decode()
            for letter in self.site.space.records(Topic.HAKUNA_DEAD_LETTERS)
        }

    def receipts(self) -> list[str]:
        return [
            msgspec.json.decode(one.value() or b"")["entry_id"] for one in self.site.space.records(Topic.DELIVERIES)
        ]

    def accepted(self) -> tuple[dict[str, list[tuple[str, bytes]]], dict[str, float]]:
        """By order what was accepted, in order; by entry ID when."""
        record = self.hakuna.record
        by_order: dict[str, list[tuple[str, bytes]]] = {}
        at_s: dict[str, float] = {}
        for order_id in record.subjects():
            history = record.history(order_id)
            by_order[order_id] = [((one.key or "").strip('"'), one.body) for one in history]
            at_s |= {(one.key or "").strip('"'): one.at_s for one in history}
        return by_order, at_s

    def erased(self) -> dict[str, list[bytes]]:
        """By order that was erased after it was placed for the last time, what named its person. Of those whose erasure
        stands in the log of what was placed: another log may be taken earlier."""
        placed: dict[str, tuple[int, str]] = {}
        gone: dict[str, int] = {}
        topic = self.site.space.name(Topic.PLACED)
        for number, record in enumerate(self.site.source_records()):
            if record.topic != topic:
                continue
            order_id = (record.key or b"").decode(errors="replace")
            if record.value is None:
                gone[order_id] = number
            else:
                placed[order_id] = number, _email(record.value)
        return {
            order_id: [placed[order_id][1].encode()]
            for order_id, number in gone.items()
            if order_id in placed and placed[order_id][0] < number and placed[order_id][1]
        }

    def changelog(self) -> tuple[dict[str, bytes | None], int]:
        """The last value of each order, and how many records stand there."""
        records = self.site.space.records(Topic.CHANGELOG)
        return {(one.key() or b"").decode(errors="replace"): one.value() for one in records}, len(records)

    def log_levels(self) -> dict[str, int]:
        """ERROR lines of the workers' logs, by event."""
        found: Counter[str] = Counter()
        for name in self.workers:
            for line in (self.directory / name / "worker.log").read_text(errors="replace").splitlines():
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                if said.get("level") == "error":
                    found[f"{name.partition('-')[0]}: {said['event']}"] += 1
        return dict(found)


def _email(value: bytes) -> str:
    """Of a placed order's bytes; texts stand in Avro as they are."""
    at = value.find(b"@example.com")
    start = value.rfind(b"customer.", 0, at)
    return value[start : at + len(b"@example.com")].decode() if 0 <= start < at else ""

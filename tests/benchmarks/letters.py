"""`dead-letters list` beside a raw consume of the same topic: `python -m tests.benchmarks letters [--letters N]`.

floor       a consumer that takes every record of the topic with its headers, and looks at none of them
list        the command as a person types it, start and all
plan        `replay --dry-run` of all of them: read, put into a plan on disk, arranged order by order
of a third  the same two of a third of the letters: what the memory grows by
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import confluent_kafka as ck
import msgspec

from processor.letters.letter import Refusal, letter_headers
from processor.records import Record, Stage
from processor.topics import TOPICS, Topic
from tests.benchmarks.measured import Run, in_a_process, rss_bytes
from tests.support.children import REPOSITORY
from tests.support.kafka import KafkaBroker
from tests.support.processes import OWN_PREFIXES
from tests.support.topics import TopicSpace, produce

PARTITIONS: Final = 4
FAILED_MS: Final = 1_700_000_000_000
REASONS: Final = ("location_unsupported", "product_unsupported", "invalid_request_parameters")


def write(space: TopicSpace, letters: int) -> None:
    """Letters as send writes them: an order of half a kilobyte, its own headers and ours."""
    for plan in TOPICS:
        space.create(plan.topic, partitions=PARTITIONS, config=plan.config)
    own = [
        ("entry-id", b"events/orders.placed/0/1"),
        ("entry-type", b"order_placed"),
        ("occurred-at", b"1700000000000"),
    ]
    record = Record("hakuna.outbox", 0, 1, FAILED_MS, b"k", b"v", [*own, ("traceparent", b"00-1-2-01")])
    headers = [
        letter_headers(
            record,
            Refusal(
                stage=Stage.SEND, reason=reason, message="Hakuna refused it: HTTP 422", group="g", failed_ms=FAILED_MS,
                delivery_count=1, http_status=422, error_code=reason, validation_errors=("country",),
            ),
        )
        for reason in REASONS
    ]  # fmt: skip
    producer = ck.Producer({"bootstrap.servers": space.bootstrap_servers, "compression.type": "lz4", "linger.ms": 20})
    topic, value = space.name(Topic.HAKUNA_DEAD_LETTERS), b'{"type":"order_placed"}' * 20
    for number in range(letters):
        produce(producer, topic, value, b"ord-%d" % number, number % PARTITIONS, headers=list[Any](headers[number % 3]))
    assert producer.flush(120) == 0


def floor(bootstrap: str, topic: str, letters: int, answer: Any) -> None:
    started_s, started_cpu = time.monotonic(), time.process_time()
    settings = {"bootstrap.servers": bootstrap, "group.id": "raw", "enable.auto.commit": False}
    consumer = ck.Consumer(settings)
    consumer.assign([ck.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    read = 0
    while read < letters:
        for message in consumer.consume(5_000, 0.2):
            assert message.error() is None
            message.headers()
            read += 1
    consumer.close()
    answer.send(Run(read, time.monotonic() - started_s, time.process_time() - started_cpu, rss_bytes(os.getpid())))


def listed(space: TopicSpace, letters: int) -> Run:
    told, run = commanded(space, letters, "list")
    assert told["letters"] == told["read"] == letters, told
    assert len(told["counts"]) == len(REASONS)
    return run


def planned(space: TopicSpace, letters: int) -> Run:
    (told,), run = commanded(space, letters, "replay", "--topic", Topic.HAKUNA_DEAD_LETTERS, "--as-sent", "--dry-run")
    assert told["goes"] == told["orders"] == letters, told
    return run


def commanded(space: TopicSpace, letters: int, *arguments: str) -> tuple[Any, Run]:
    """A command in a process of its own: what it says, and its figures."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
    settings = {**outer, "PYTHONPATH": str(REPOSITORY), **space.environment, "HAKUNA_API_KEY": "sk_test_bench"}
    started_s, before = time.monotonic(), os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "processor", "dead-letters", *arguments, "--output", "json"],
        env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    peak = [0]
    watch = threading.Thread(target=_watch, args=(process, peak))
    watch.start()
    out, _ = process.communicate(timeout=600)
    seconds, after = time.monotonic() - started_s, os.times()
    watch.join()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return msgspec.json.decode(out), Run(letters, seconds, cpu_s, peak[0])


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        try:
            peak[0] = max(peak[0], rss_bytes(process.pid))
        except (OSError, StopIteration):  # it has just begun, or just ended
            return
        time.sleep(0.02)


def _line(name: str, run: Run, tell: Callable[[str], None]) -> None:
    tell(run.line(name).replace("events/s", "letters/s").replace("an event", "a letter"))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--letters", type=int, default=300_000)
    options = parser.parse_args(arguments)
    letters, third = options.letters, options.letters // 3

    def tell(line: str) -> None:
        print(line, flush=True)

    with KafkaBroker() as broker:
        tell(f"letters: {letters:,} dead letters in {PARTITIONS} partitions, and {third:,} of them")
        few, many = TopicSpace(broker.bootstrap_servers), TopicSpace(broker.bootstrap_servers)
        write(few, third)
        write(many, letters)
        topic = many.name(Topic.HAKUNA_DEAD_LETTERS)
        floors = [in_a_process(floor, broker.bootstrap_servers, topic, letters) for _ in range(2)]
        of_floor = min(floors, key=lambda run: run.cpu_seconds)
        _line("floor", of_floor, tell)
        start = listed(few, third)
        _line("list, third", start, tell)
        ours = min((listed(many, letters) for _ in range(2)), key=lambda run: run.cpu_seconds)
        _line("list", ours, tell)
        a_letter = (ours.cpu_seconds - start.cpu_seconds) / (letters - third) * 1e6
        tell(f"{'ratio':<12} {of_floor.seconds / ours.seconds:>9.0%} of the floor's rate, its start and end included")
        of_its_cpu = of_floor.cpu_us / a_letter
        tell(f"{'':<12} {of_its_cpu:>9.0%} of its speed by CPU and without them, {a_letter:.1f} µs a letter")
        some, all_of_them = planned(few, third), planned(many, letters)
        _line("plan, third", some, tell)
        _line("plan", all_of_them, tell)
        for name, before, after in (("list", start, ours), ("plan", some, all_of_them)):
            tell(f"{name:<12} {(after.rss_bytes - before.rss_bytes) / 1e6:>9.0f} MB more for three times the letters")

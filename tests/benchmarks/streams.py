"""transform beside Kafka Streams in one run on one broker: `python -m tests.benchmarks streams [--orders N]`.

The peer (`streams/Peer.java`, compiled here) does the work of transform's floor: Avro, a state in RocksDB with its
changelog, an outbox, exactly once. No rules, no checks of what it reads, no dead letters: what it costs is what such
a program costs before it does anything of its own. Its figures are of a warm JVM, from a third of the events on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from processor.edges.avro import reader_file
from processor.topics import ORDER_TOPICS
from tests.benchmarks.measured import Run, between, cpu_s, rss_bytes
from tests.benchmarks.transform import PARTITIONS, WAIT_S_MAX, loaded, run_floor, run_workers, site
from tests.support.installation import Installation
from tests.support.jars import class_path, java

HERE = Path(__file__).parent / "streams"
WARM_SHARE = 1 / 3
LOOK_S = 0.1


def compiled(directory: Path) -> str:
    """Compiles the peer. Returns the class path to run it with."""
    jars = class_path("streams", HERE / "pom.xml")
    compiler = Path(os.path.realpath(java())).with_name("javac")
    subprocess.run([str(compiler), "-cp", jars, "-d", str(directory), str(HERE / "Peer.java")], check=True)
    return f"{directory}{os.pathsep}{jars}"


def run_peer(installation: Installation, events: int, threads: int, class_path: str) -> Run:
    space = installation.space
    outbox, application = f"streams.outbox-{threads}", f"{space.prefix}streams-{threads}"
    space.create(outbox, partitions=PARTITIONS)
    sources = [f"{space.name(topic)}={reader_file(topic)}" for topic in ORDER_TOPICS]
    with tempfile.TemporaryDirectory() as state:
        peer = subprocess.Popen(
            [
                java(),
                "-Xmx512m",
                "-cp",
                class_path,
                "Peer",
                space.bootstrap_servers,
                application,
                space.name(outbox),
                state,
                str(threads),
                *sources,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        taken = 0

        def follow() -> None:
            nonlocal taken
            assert peer.stdout is not None
            for line in peer.stdout:
                taken = int(line)

        threading.Thread(target=follow, daemon=True).start()
        try:
            deadline_s = time.monotonic() + WAIT_S_MAX
            looks: list[tuple[float, float, int]] = []
            while taken < events:
                assert peer.poll() is None, "the peer has ended"
                assert time.monotonic() < deadline_s, f"the peer took {taken} of {events}"
                if taken > events * WARM_SHARE and (not looks or taken > looks[-1][2]):
                    looks.append((time.monotonic(), cpu_s(peer.pid), taken))
                time.sleep(LOOK_S)
            return between(looks, rss_bytes(peer.pid))
        finally:
            peer.terminate()
            peer.wait(30)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=80_000)
    options = parser.parse_args(arguments)
    with site() as (broker, registry_url), tempfile.TemporaryDirectory() as classes:
        peer = compiled(Path(classes))
        for count in (1, 2):
            made, events = loaded(broker, registry_url, options.orders)
            print(f"streams, {events:,} events: {count} of our processes, {count} of its threads", flush=True)
            if count == 1:
                print(run_floor(made, events).line("floor"), flush=True)
            ours = run_workers(made, events, {}, count)
            print(ours.line(f"transform ×{count}"), flush=True)
            theirs = run_peer(made, events, count, peer)
            print(theirs.line(f"streams ×{count}"), flush=True)
            rate = (ours.events / ours.seconds) / (theirs.events / theirs.seconds)
            cpu = (theirs.cpu_seconds / theirs.events) / (ours.cpu_seconds / ours.events)
            print(f"{'ratio':<12} {rate:>9.0%} of its rate, {cpu:.0%} by CPU an event", flush=True)


if __name__ == "__main__":
    main()

"""What the benches beside other people's programs share: how such a program is made, and its figures when warm.

A peer prints how many records it has taken so far, a line each time, and nothing else. Its figures start when a third
is done: a JVM has compiled what is hot by then, and whoever needs long to start is not judged by it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from processor.topics import Topic
from tests.benchmarks.measured import WAIT_S_MAX, Run, between, cpu_s, rss_bytes
from tests.benchmarks.send import HEADERS, beside_the_floor, server
from tests.support.children import Unavailable
from tests.support.jars import class_path, java
from tests.support.kafka import KafkaBroker

WARM_SHARE = 1 / 3
LOOK_S = 0.1
STOP_S_MAX = 30.0
# On two cores the collector that a JVM takes by itself costs these peers a tenth to a third more CPU.
COLLECTOR = "-XX:+UseSerialGC"


def beside(ours: Run, theirs: Run) -> str:
    cpu = ours.cpu_us / theirs.cpu_us
    return f"{'ratio':<12} {ours.rate / theirs.rate:>9.0%} of its rate, {cpu:.0%} of its CPU an event"


def send_options(arguments: list[str] | None, at_once: list[int]) -> argparse.Namespace:
    """What a bench of send beside a peer is told. `at_once`: how many requests are best for the peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="of ours")
    parser.add_argument("--at-once", type=int, nargs="+", default=at_once, help="the peer's requests in flight")
    return parser.parse_args(arguments)


def send_beside(name: str, options: argparse.Namespace, run: Callable[[Sequence[str], int, float], Run]) -> None:
    """send, and then the peer with each of `--at-once`, over the same outbox and the same server. `run` is given the
    peer's arguments: bootstrap servers, group, topic, URL, requests in flight, then name=value for each header."""
    headers = [f"{header.decode()}={value.decode()}" for header, value in HEADERS]
    with server(options.latency_ms) as url, KafkaBroker() as broker:
        print(
            f"{name}, {options.entries:,} entries of {options.orders:,} orders, {options.latency_ms} ms latency",
            flush=True,
        )
        space, _, ours = beside_the_floor(
            url, broker, options.entries, options.orders, {}, WARM_SHARE, options.processes
        )
        for at_once in options.at_once:
            group = f"{space.prefix}{name.replace(' ', '-')}-{at_once}"
            told = [space.bootstrap_servers, group, space.name(Topic.OUTBOX), f"{url}/events", str(at_once), *headers]
            theirs = run(told, options.entries, WAIT_S_MAX)
            print(f"{theirs.line(name)}, {at_once} at once", flush=True)
            print(beside(ours, theirs), flush=True)


def compiled(name: str, sources: Path, directory: Path) -> str:
    """Compiles `Peer.java` beside its pom into `directory`. Returns the class path to run it with."""
    jars = class_path(name, sources / "pom.xml")
    compiler = Path(os.path.realpath(java())).with_name("javac")
    subprocess.run([str(compiler), "-cp", jars, "-d", str(directory), str(sources / "Peer.java")], check=True)
    return f"{directory}{os.pathsep}{jars}"


def installed(directory: Path, python: str, packages: Sequence[str]) -> Path:
    """Makes `directory` an environment with `packages`, of a Python that is here ("3.12", ">=3.12" or its path).
    Returns its Python. Raises Unavailable."""
    made = directory / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--no-python-downloads", "--python", python, str(directory)],
        ["pip", "install", "--quiet", "--python", str(made), *packages],
    ):
        uv = Path(sys.executable).with_name("uv")
        done = subprocess.run([str(uv), *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"{packages[0]} cannot be installed: {done.stderr.strip()}")
    return made


def run_java(class_path: str, arguments: Sequence[str], events: int, s_max: float) -> Run:
    return run_peer([java(), "-Xmx512m", COLLECTOR, "-cp", class_path, "Peer", *arguments], events, s_max)


def run_peer(command: Sequence[str], events: int, s_max: float) -> Run:
    """Its figures from `WARM_SHARE` of `events` to their end, of its one process."""
    peer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    taken = 0

    def follow() -> None:
        nonlocal taken
        assert peer.stdout is not None
        for line in peer.stdout:
            taken = int(line)

    threading.Thread(target=follow, daemon=True).start()
    try:
        deadline_s = time.monotonic() + s_max
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
        try:
            peer.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            peer.kill()
            peer.wait()

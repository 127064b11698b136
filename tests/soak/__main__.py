"""`python -m tests.soak`: a world, disturbed for as long as is asked for, then left alone, then judged.

Ends with 0 if every promise was kept, with 1 if not; prints the seed first, and where the report is last.
"""

from __future__ import annotations

import json
import random
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import httpx

from processor.records import Record
from processor.transform.order_state import OrderState
from tests.soak import checks
from tests.soak.blows import KINDS, Blows
from tests.soak.report import page, picture
from tests.soak.world import HAKO_QUOTA, HAKUNA_QUOTA, IN_FLIGHT_MAX, World
from tests.support.children import own_directory
from tests.support.registry import schema_registry_url
from tests.support.transform_model import Made, made_of
from tests.support.transform_site import RULES

CALM_S_MAX: Final = 300.0
UNCOMMITTED_S: Final = 3.0
"""How long an answer may be without its commit, and a heartbeat without its own."""


@click.command()
@click.option("--minutes", type=float, default=20.0, show_default=True, help="For how long it is disturbed.")
@click.option("--seed", type=int, help="Of an earlier run; a new one without it.")
@click.option("--rate", type=float, default=8.0, show_default=True, help="Orders a second, and changes of stock.")
@click.option("--only", default=",".join(KINDS), help="Kinds of disturbances, with commas; none for an empty text.")
@click.option("--every", nargs=2, type=float, default=(2.0, 7.0), show_default=True, help="Seconds between two.")
@click.option("--rekey/--no-rekey", default=None, help="Whether rekey stands before transform; else by the seed.")
@click.option("--protocol", type=click.Choice(["classic", "consumer"]), help="Of the groups; else by the seed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("soak"), show_default=True, help="For the report.")
def main(
    minutes: float,
    seed: int | None,
    rate: float,
    only: str,
    every: tuple[float, float],
    rekey: bool | None,
    protocol: str | None,
    out: Path,
) -> None:
    """Disturb everything at once, and check afterwards what must be true of it all the same."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    rekey = seed % 2 == 1 if rekey is None else rekey
    protocol = ("classic", "consumer")[seed // 2 % 2] if protocol is None else protocol
    kinds = tuple(kind for kind in only.split(",") if kind)
    unknown = set(kinds) - KINDS.keys()
    if unknown:
        raise click.UsageError(f"no such kinds: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    click.echo(f"seed {seed}, {'with' if rekey else 'without'} rekey, {protocol} groups, {minutes:g} minutes")
    with (
        own_directory("soak") as directory,
        schema_registry_url() as registry,
        World(directory, registry, seed, rate, rekey=rekey, protocol=protocol) as world,
    ):
        blows = Blows(world, seed, kinds, every)
        disturb(world, blows, minutes * 60)
        calm_s = calm(world, blows)
        report = judged(world, blows, seed, calm_s)
        out.mkdir(parents=True, exist_ok=True)
        for name in world.workers:
            shutil.copy(directory / name / "worker.log", out / f"soak-{seed}-{name}.log")
    (out / f"soak-{seed}.json").write_text(json.dumps(report, indent=1, default=str))
    (out / f"soak-{seed}.html").write_text(page(report, pictures(world)))
    broken = {name: found for name, found in report["checks"].items() if found}
    for name, found in broken.items():
        click.echo(f"{name}: {len(found)} times, such as {found[0]}")
    click.echo(json.dumps(report["figures"], default=str))
    click.echo(f"{'broken' if broken else 'all kept'}: {out / f'soak-{seed}.html'}")
    sys.exit(1 if broken else 0)


def disturb(world: World, blows: Blows, seconds: float) -> None:
    world.writing.start()
    until_s = time.monotonic() + seconds
    told_s = time.monotonic()
    while time.monotonic() < until_s:
        blows.turn(more=True)
        world.revive(blows.held)
        if world.writing.failure is not None:
            raise world.writing.failure
        if time.monotonic() - told_s > 60 and world.gauges:
            told_s = time.monotonic()
            click.echo(f"{world.gauges[-1]}")
        time.sleep(0.2)


def calm(world: World, blows: Blows) -> float:
    """Everything is mended and nobody writes; how long it takes until all is at its end, in seconds."""
    while not blows.idle:
        blows.turn(more=False)
        time.sleep(0.2)
    world.note("calm")
    world.writing.stop()
    began_s = time.monotonic()
    times = 0
    while times < 3 and time.monotonic() - began_s < CALM_S_MAX:
        world.revive(frozenset())
        times = times + 1 if world.settled() else 0
        time.sleep(1.0)
    return time.monotonic() - began_s


def judged(world: World, blows: Blows, seed: int, calm_s: float) -> dict[str, Any]:
    stood = stands(world) if calm_s >= CALM_S_MAX else {}
    codes = {name: worker.terminate() for name, worker in world.workers.items()}
    sources, entries, letters = world.sources(), world.entries(), world.refused()
    reasons = world.letter_reasons(sources)
    requests = world.journal.requests()
    accepted, accepted_s = world.accepted()
    changelog, changelog_records = world.changelog()
    order_of = {entry.entry_id: entry.order_id for entry in entries}
    repeats = checks.repeated(requests, accepted_s)
    allowed = allowed_repeats(world.hakuna.record.statuses(), blows.count)
    now_ms = round(time.time() * 1000)
    decode = world.site.decoders()

    def step(record: Record, state: OrderState | None) -> Made:
        made = made_of(record, state, RULES, lambda one: decode[one.topic](one), now_ms)
        if not world.rekey:
            return made
        return made._replace(entries=tuple(("", body) for _, body in made.entries))

    plain = [entry._replace(source="") for entry in entries] if world.rekey else entries
    found = {
        "comes back by itself": [] if calm_s < CALM_S_MAX else [f"not at its end after {calm_s:.0f} s: {stood}"],
        "transform: nothing lost, nothing invented": checks.unexplained(sources, plain, reasons, step),
        "one outbox entry an event": checks.doubled(
            entries, {(one.key or b"").decode(errors="replace") for one in sources if one.value is None}
        ),
        "send: nothing lost, nothing invented": checks.undelivered(entries, accepted_s, world.receipts(), letters),
        "in order per order ID": checks.disorder(entries, letters, accepted),
        "never two in flight": checks.overlaps(requests, order_of),
        "the quota in every window": checks.over_quota([one.at_s for one in requests], HAKUNA_QUOTA),
        "Hako's quota in every window": (
            [f"{most}" for most in [world.hako.record.most_in(HAKO_QUOTA.window_s)] if most > HAKO_QUOTA.requests]
        ),
        "Hako has the last value of each": [] if world.hako.api.contents() == world.tables() else ["it has not"],
        "repeats are bounded": checks.too_many_repeats(repeats, allowed),
        "a repeat has the same bytes": [f"{world.hakuna.record.key_conflicts}"]
        * bool(world.hakuna.record.key_conflicts),
        "requests are as the reference has them": world.hakuna.record.mistakes(),
        "erased persons are gone": checks.not_erased(world.erased(), changelog),
        "memory and files are flat": checks.growing(world.samples),
        "a drain ends with 0": [f"{name}: {code}" for name, code in codes.items() if code != 0],
    }
    figures = {
        "records": len(sources), "written": dict(world.writing.written), "entries": len(entries),
        "letters of orders": dict(Counter(reasons.values())), "letters of send": dict(Counter(letters.values())),
        "requests": len(requests), "answers": world.hakuna.record.statuses(), "repeats": repeats,
        "repeats allowed": allowed, "erased": len(world.erased()), "calm after, s": round(calm_s, 1),
        "most in a window": world.hakuna.record.most_in(HAKUNA_QUOTA.window_s),
        "most to Hako in a window": world.hako.record.most_in(HAKO_QUOTA.window_s),
        "changelog records": changelog_records, "changelog keys": len(changelog),
        "most memory, MB": round(max((one.rss_bytes for one in world.samples), default=0) / 1e6),
        "most open files": max((one.files for one in world.samples), default=0),
        "starts": dict(world.lives), "errors logged": world.log_levels(),
    }  # fmt: skip
    return {
        "seed": seed,
        "command": shlex.join(sys.argv),
        "checks": found,
        "figures": figures,
        "blows": blows.count,
        "happenings": [tuple(one) for one in world.happenings],
    }


def allowed_repeats(answers: Mapping[str, int], blows: Mapping[str, int]) -> int:
    """An answer that was lost is one. Who is killed, or stands still for a session, leaves what was in flight and what
    was answered since its last commit; while a broker is away, commits wait for its successor."""
    hard = sum(blows.get(kind, 0) for kind in ("kill", "stop", "volume"))
    brokers = blows.get("broker", 0) + 3 * blows.get("roll", 0)
    a_second = HAKUNA_QUOTA.requests / HAKUNA_QUOTA.window_s
    lost = answers.get("lost_answer", 0) + answers.get("hang", 0)
    return round(lost + hard * (IN_FLIGHT_MAX + UNCOMMITTED_S * a_second) + brokers * 10 * a_second)


def stands(world: World) -> dict[str, Any]:
    """What each worker says of itself."""
    said: dict[str, Any] = {"gauge": world.gauges[-1:]}
    for name, worker in world.workers.items():
        try:
            said[name] = worker.get("/readyz").json()["reasons"]
        except (httpx.TransportError, ValueError):
            said[name] = "does not answer"
    return said


def pictures(world: World) -> list[str]:
    end_s = max((one.at_s for one in world.gauges), default=1.0)
    marks = [(at_s, what) for at_s, what in world.happenings]
    names = list(world.workers)
    rates = [
        (later.at_s, (later.requests - earlier.requests) / (later.at_s - earlier.at_s))
        for earlier, later in zip(world.gauges, world.gauges[1:], strict=False)
    ]
    of = {name: [one for one in world.samples if one.name == name] for name in names}
    memory = {name: [(one.at_s, one.rss_bytes / 1e6) for one in taken] for name, taken in of.items()}
    files = {name: [(one.at_s, one.files) for one in taken] for name, taken in of.items()}
    return [
        picture("Records that nobody has consumed; entries that are not sent", {
            "unconsumed": [(one.at_s, one.unconsumed) for one in world.gauges if one.unconsumed >= 0],
            "unsent": [(one.at_s, one.unsent) for one in world.gauges if one.unsent >= 0],
        }, marks, end_s),
        picture("Requests a second", {"requests": rates}, marks, end_s),
        picture("Memory, MB", memory, marks, end_s),
        picture("Open files", files, marks, end_s),
    ]  # fmt: skip


if __name__ == "__main__":
    main()

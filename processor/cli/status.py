"""`hakuna-processor status`: the fleet, once or as a live page."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from processor.cli.output import console, interruptible, many, output_option, print_json, printable, show, table
from processor.cli.settings import at_the_door, cluster_settings_or_exit, duration_s, env_file, parsed

if TYPE_CHECKING:
    from rich.console import Group

    from processor.config import Settings
    from processor.operate.status.brokers import Brokers
    from processor.operate.status.view import FleetView, PartitionView
    from processor.operate.status.workers import Worker

_CLIENT: Final = re.compile(r"hakuna-processor-[a-z]+-(?P<host>.+)-[0-9a-f]+\Z")
_HOST_NAME: Final = re.compile(r"http://(?P<first>[A-Za-z][A-Za-z0-9-]*)[A-Za-z0-9.-]*(?::(?P<port>\d+))?/?\Z")
_QUIET_SHOWN = "every partition has a worker, and nothing waits"


@click.command("status", short_help="show who has what, how far behind, and what blocks it")
@click.option(
    "--workers",
    envvar="STATUS_WORKERS",
    default="",
    show_default=False,
    help="URLs of workers' metrics ports, separated by commas. A name with several addresses (a headless service) is "
    "several workers.",
)
@click.option("--all", "everything", is_flag=True, help="Include partitions that are at their end.")
@click.option("--watch", is_flag=True, help="Print a new page until Ctrl-C.")
@click.option("--interval", default="2s", help="With --watch: print a page this often.")
@output_option
@env_file
def command(workers: str, everything: bool, watch: bool, interval: str, output: str, env_file: Path | None) -> None:
    """Show which worker has which partitions, how far behind each is, what blocks it and since when; also quota shares,
    circuits, holds and restores. Ask the workers and the brokers, and show which of them do not answer.

    Exit 0 when every worker and broker answers and is ready, 1 otherwise.

    \b
    hakuna-processor status
    hakuna-processor status --watch --workers http://worker-0:9400,http://worker-1:9400
    hakuna-processor status --workers http://transform:9400,http://send:9400 --output json
    """
    from processor.config import url

    settings = cluster_settings_or_exit(env_file)
    urls = parsed(workers, "--workers", lambda text: [url(part.strip()) for part in text.split(",") if part.strip()])
    interval_s = max(duration_s(interval, "--interval"), 0.2)
    if watch and output == "json":
        raise click.UsageError("--watch is a page for people; leave it out, and ask as often as you like")
    looking = _Looking(settings, urls)
    if watch:
        _watch(looking, interval_s, settings.topic_prefix, everything=everything)
    seen = interruptible(looking.look)
    if output == "json":
        print_json(seen.as_json())
    else:
        show(_page(seen, settings.topic_prefix, everything=everything))
    sys.exit(0 if seen.well else 1)


class _Looking:
    """Asks all workers and brokers at once. Mutable: `_brokers` is None until they have answered."""

    def __init__(self, settings: Settings, urls: list[str]) -> None:
        self._settings = settings
        self._urls = urls
        self._brokers: Brokers | None = None

    def look(self) -> FleetView:
        from concurrent.futures import ThreadPoolExecutor

        from processor.operate.status.view import view

        with ThreadPoolExecutor(1) as pool:
            workers = pool.submit(_ask_workers, self._urls)
            behind, trouble, held = self._ask_brokers()
            return view(workers.result(), behind, trouble, int(time.time() * 1000), held)

    def _ask_brokers(self) -> tuple[Any, str | None, int | None]:
        from processor.errors import BrokerOutage, Fatal
        from processor.operate.check.findings import Heard
        from processor.operate.status.brokers import Brokers

        try:
            if self._brokers is None:
                at_the_door(self._settings)
                self._brokers = Brokers(self._settings, Heard())
            return self._brokers.ask(), None, self._brokers.held()
        except (BrokerOutage, Fatal) as refused:
            return [], str(refused), None


def _ask_workers(urls: list[str]) -> list[Worker]:
    if not urls:
        return []  # without the import of an HTTP client
    from processor.operate.status.workers import ask

    return ask(urls)


def _watch(looking: _Looking, interval_s: float, prefix: str, *, everything: bool) -> None:
    """Until Ctrl-C. On no terminal, each look is printed below the last."""
    from rich.live import Live

    screen = console()
    if not screen.is_terminal:
        while True:  # rich prints a live page at its end alone, where there is no terminal
            show(_page(interruptible(looking.look), prefix, everything=everything))
            click.echo()
            sys.stdout.flush()
            time.sleep(interval_s)
    with Live(console=screen, screen=screen.is_terminal, auto_refresh=False) as live:
        while True:
            seen = interruptible(looking.look)
            live.update(_page(seen, prefix, everything=everything), refresh=True)
            time.sleep(interval_s)


def _page(seen: FleetView, prefix: str, *, everything: bool) -> Group:
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    if seen.trouble is not None:
        parts += [Text(seen.trouble, style="bold red"), ""]
    if seen.workers:
        parts += [table(("worker", "roles", "partitions", "", ""), map(_worker, seen.workers), 2), ""]
        roles = [(worker.url, role) for worker in seen.workers for role in worker.roles]
        destinations = [_destination(url, one) for url, role in roles for one in role.get("destinations", [])]
        if destinations:
            columns = ("destination", "worker", "quota", "circuit", "in flight", "paused until", "last said")
            parts += [table(columns, destinations, 2), ""]
    if seen.producers:
        rows = ((one["topic"].removeprefix(prefix), one["what"], one["remedy"]) for one in seen.producers)
        parts += [table(("producers of", "", "to be set"), [tuple(map(printable, row)) for row in rows]), ""]
    shown = [one for one in seen.partitions if everything or not one.quiet]
    if shown:
        heads = ("role", "partition", "worker", "lag", "oldest", "blocked by")
        parts.append(table(heads, (_partition(one, seen.at_ms, prefix) for one in shown), 3))
    elif seen.partitions:
        parts.append(Text(_QUIET_SHOWN if not seen.held else "every partition has a worker"))
    for one in (one for one in seen.partitions if one.missed):
        where = f"{one.topic.removeprefix(prefix)}/{one.partition}"
        what = (
            f"{where}: {many(one.missed, 'record')} deleted before {one.role} took them (runbook: records were missed)"
        )
        parts.append(Text(what, style="bold red"))
    if seen.held:
        what = f"{many(seen.held, 'order')} wait{'s' if seen.held == 1 else ''} for a replay or a discard"
        parts.append(Text(f"{what} (`hakuna-processor dead-letters list`)", style="yellow"))
    return Group(*parts)


def _worker(worker: Worker) -> tuple[object, ...]:
    from rich.text import Text

    roles = ", ".join(f"{role.get('role')} {role.get('life', '')}".strip() for role in worker.roles)
    partitions = str(sum(len(role.get("partitions", [])) for role in worker.roles)) if worker.roles else ""
    extras = [
        f"{worker.gauges[name]} {words}"
        for name, words in (
            ("processor_held_orders", "held orders"),
            ("processor_parked_events", "parked events"),
            ("processor_restore_remaining_records", "records to restore"),
        )
        if worker.gauges.get(name)
    ]
    if worker.silent is not None:
        state = Text(printable(worker.silent), style="bold red")
    elif worker.unready:
        state = Text(printable("; ".join(worker.unready)), style="yellow")
    else:
        state = Text("ready", style="green")
    return _short(worker.url), roles, partitions, ", ".join(extras), state


def _destination(url: str, one: dict[str, Any]) -> tuple[str, ...]:
    from processor.moments import iso

    paused = one.get("paused_until")
    share = one.get("quota_share")
    return (
        str(one.get("name")),
        _short(url),
        "none" if share is None else str(share),
        "key refused" if one.get("key_refused") else "not the API" if one.get("doubted") else str(one.get("circuit")),
        str(one.get("in_flight")),
        "" if not isinstance(paused, int) else iso(paused),
        printable(str(one.get("trouble") or "")),
    )


def _partition(one: PartitionView, now_ms: int, prefix: str) -> tuple[object, ...]:
    from rich.text import Text

    blocked = "" if one.blocked_by is None else one.blocked_by
    if one.blocked_since is not None:
        blocked += f" (for {_age((now_ms - one.blocked_since) / 1000)})"
    blocked = blocked.replace(prefix, "") if prefix else blocked
    return (
        one.role,
        f"{one.topic.removeprefix(prefix)}/{one.partition}",
        Text("nobody", style="bold red") if one.worker is None else _short(one.worker),
        "" if one.lag is None else str(one.lag),
        "" if not one.lag_seconds else _age(one.lag_seconds),
        blocked,
    )


def _short(worker: str) -> str:
    """A worker as a table names it: the host of a client ID, a URL's address, or its host's first name, with the port
    where that is not our default."""
    client = _CLIENT.match(worker)
    if client is not None:
        return client["host"]
    name = _HOST_NAME.match(worker)
    if name is None:
        return worker.removeprefix("http://")
    return name["first"] if name["port"] in (None, "9400") else f"{name['first']}:{name['port']}"


def _age(seconds: float) -> str:
    """`850 ms`, `12 s`, `3 min`, `5 h`, `9 d`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0) * 1000:.0f} ms"

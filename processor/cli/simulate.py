"""`hakuna-processor simulate`: stand-ins for Hakuna and Hako on loopback, and a shop that writes orders."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
import orjson

from processor.cli.output import output_option
from processor.cli.settings import env_file, settings_or_exit
from processor.cli.shop import shop_options
from processor.config import Quota, Role, duration_s, quota
from processor.sandbox.apis.gateway import Gateway
from processor.sandbox.apis.script import SANDBOX_KEY, Fault, Outage, Script

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.sandbox.shop.orders import Shop
    from processor.sandbox.shop.stock import Changing
    from processor.sandbox.simulation import Endpoints, Simulation

_HAKO_QUOTA: Final = "120/60s"


class _Parsed(click.ParamType[Any]):
    """A value that one of our own parsers reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as wrong:
            self.fail(f"{value!r} is not {wrong}", param, ctx)


def _fault_share(text: str) -> tuple[Fault, float]:
    name, _, share = text.partition("=")
    try:
        return Fault(name), float(share)
    except ValueError:
        raise ValueError(f"a share of faults such as 503=0.02; faults are {', '.join(Fault)}") from None


def _outage(text: str) -> Outage:
    parts = text.split(":")
    try:
        start_s, length_s = duration_s(parts[0]), duration_s(parts[1])
        return Outage(start_s, start_s + length_s, Fault(parts[2]) if len(parts) == 3 else Fault.UNAVAILABLE)
    except (ValueError, IndexError):
        raise ValueError("an outage such as 30s:10s (after 30 s, for 10 s) or 30s:10s:reset") from None


def _port(name: str, default: int) -> Callable[[Any], Any]:
    text = "Listen on this port; 0 is any free one."
    return click.option(name, type=click.IntRange(0, 65535), default=default, help=text)


_DURATION = _Parsed("duration", duration_s)
_QUOTA = _Parsed("quota", quota)
_FAULT = _Parsed("fault=share", _fault_share)
_OUTAGE = _Parsed("from:for[:fault]", _outage)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The options, as they were given. Latencies are seconds."""

    hakuna_port: int
    hako_port: int
    key: str
    revoked: bool
    latency: float
    latency_p99: float
    hakuna_quota: Quota | None
    hako_quota: Quota
    faults: tuple[tuple[Fault, float], ...]
    outages: tuple[Outage, ...]
    gateway: str | None
    countries: tuple[str, ...]
    products: tuple[str, ...]
    skus: tuple[str, ...]
    orders: int
    rate: float
    bad_share: float
    changes: float
    seed: int

    @property
    def refused_countries(self) -> frozenset[str]:
        return frozenset(country.lower() for country in self.countries)

    def endpoints(self) -> Endpoints:
        """How both stand-ins behave. Raises `click.UsageError`."""
        from processor.sandbox.simulation import Endpoints

        try:
            hakuna = msgspec.convert(
                {
                    "key": self.key,
                    "revoked": self.revoked,
                    "latency": {"median_ms": self.latency * 1000, "p99_ms": self.latency_p99 * 1000},
                    "shares": dict(self.faults),
                    "outages": self.outages,
                    "gateway": self.gateway,
                    "seed": self.seed,
                },
                Script,
            )
        except msgspec.ValidationError as wrong:
            raise click.UsageError(str(wrong)) from None
        replace = msgspec.structs.replace
        return Endpoints(
            self.hakuna_port,
            replace(
                hakuna,
                quota=self.hakuna_quota,
                refused_countries=self.refused_countries,
                refused_products=frozenset(self.products),
            ),
            self.hako_port,
            replace(hakuna, quota=self.hako_quota, refused_skus=frozenset(self.skus)),
        )

    def shop(self, now_ms: int) -> Shop:
        from processor.sandbox.shop.orders import Shop

        shop = partial(Shop, refused_countries=self.refused_countries, refused_products=frozenset(self.products))
        return shop(self.orders, self.rate, self.bad_share, self.seed, now_ms)

    def stock(self, now_ms: int) -> Changing | None:
        from processor.sandbox.shop.stock import Changing

        return Changing(self.changes, self.bad_share, self.seed, now_ms) if self.changes else None


@click.command("simulate", short_help="run stand-ins for Hakuna and Hako on loopback")
@_port("--hakuna-port", 8811)
@_port("--hako-port", 8812)
@click.option("--key", default=SANDBOX_KEY, help="Accept this API key.")
@click.option("--revoked", is_flag=True, help="Accept no key.")
@click.option("--latency", type=_DURATION, default="20ms", help="Answer after this long (the median).")
@click.option("--latency-p99", type=_DURATION, default="0s", show_default=False, help="Spread the latency up to this.")
@click.option("--quota", "hakuna_quota", type=_QUOTA, help="Answer 429 beyond Hakuna's quota, such as 120/60s.")
@click.option("--hako-quota", type=_QUOTA, default=_HAKO_QUOTA, help="Answer 429 beyond Hako's quota.")
@click.option("--fault", "faults", type=_FAULT, multiple=True, help="Answer this share with a fault: 503=0.02.")
@click.option("--outage", "outages", type=_OUTAGE, multiple=True, help="Be down: 30s:10s is after 30 s for 10 s.")
@click.option(
    "--gateway",
    type=click.Choice([one.value for one in Gateway]),
    help="Put a badly configured gateway before both APIs.",
)
@click.option("--refuse-country", "countries", multiple=True, help="Refuse orders from this country.")
@click.option("--refuse-product", "products", multiple=True, help="Refuse orders of this product.")
@click.option("--refuse-sku", "skus", multiple=True, help="Refuse this SKU with 400.")
@shop_options(orders_min=0, orders=0, rate=10.0, bad_share=0.05, orders_help="Write the histories of this many orders.")
@click.option(
    "--changes",
    type=click.FloatRange(0),
    default=0.0,
    help="Write this many changes of items and levels a second, without end.",
)
@output_option
@env_file
def command(output: str, env_file: Path | None, **given: Any) -> None:
    """Run stand-ins for Hakuna and Hako until Ctrl-C or SIGTERM, then print a summary of their requests.

    They check every request against the APIs' reference and report each mistake. While they run, GET /_sandbox/record
    returns the summary, and POST /_sandbox/script changes their behaviour.

    With --orders, a shop writes events of good and bad orders to the source topics (KAFKA_* and SCHEMA_REGISTRY_URL);
    with --changes, it writes a catalogue and the stock of its warehouses. The same seed writes the same orders, so use
    another seed for a second run.

    \b
    hakuna-processor simulate --latency 50ms --fault 503=0.02 --refuse-country li
    hakuna-processor simulate --orders 1000 --rate 20 --bad-share 0.1 --seed 7
    hakuna-processor simulate --gateway login
    curl -d '{"revoked": true}' http://127.0.0.1:8811/_sandbox/script
    """
    wanted = _Wanted(**given)
    endpoints = wanted.endpoints()
    settings = settings_or_exit(env_file, (Role.TRANSFORM,)) if wanted.orders or wanted.changes else None

    # After the options, so that a wrong one is named at once.
    import time

    from processor.sandbox.simulation import Simulation

    now_ms = int(time.time() * 1000)
    plan, stock = wanted.shop(now_ms), wanted.stock(now_ms)
    try:
        with Simulation(endpoints) as simulation:
            code = _run(simulation, settings, plan, stock)
    except OSError as taken:
        raise click.ClickException(str(taken)) from None
    summary = simulation.summary()
    click.echo(orjson.dumps(summary).decode() if output == "json" else _table(summary))
    sys.exit(code)


def _run(simulation: Simulation, settings: Settings | None, plan: Shop, stock: Changing | None) -> int:
    """Until it is stopped; with `settings`, a shop writes meanwhile. The exit code: 1 when it could not."""
    _stop_on_signals(simulation)
    click.echo("Stand-ins for Hakuna and Hako answer. A worker finds them with\n", err=True)
    for name, value in simulation.environment.items():
        click.echo(f"  export {name}={value}", err=True)
    click.echo("\nCtrl-C ends them.", err=True)
    if settings is not None and not _wrote(simulation, settings, plan, stock):
        return 1
    while not simulation.stopped.wait(1):
        pass
    return 0


def _wrote(simulation: Simulation, settings: Settings, plan: Shop, stock: Changing | None) -> bool:
    """Prints how many records the shop wrote, or why it could not. Returns true if it could."""
    from processor.cli.settings import at_the_door
    from processor.errors import Fatal
    from processor.errors import Outage as Unreachable
    from processor.sandbox.shop.writer import OrderWriter, Written
    from processor.topics import ORDER_TOPICS, STOCK_TOPICS

    topics = (*(ORDER_TOPICS if plan.orders else ()), *(STOCK_TOPICS if stock is not None else ()))

    def writer(written: Written) -> OrderWriter:
        return OrderWriter(
            settings.librdkafka,
            settings.registry_url,
            registry_auth=settings.registry_auth,
            topic_prefix=settings.topic_prefix,
            topics=topics,
            written=written,
        )

    try:
        at_the_door(settings)  # librdkafka would wait for a broker for as long as a record may wait
        records = simulation.write(writer, plan, stock)
    except (Unreachable, Fatal) as failure:
        click.echo(f"The shop cannot write: {failure}", err=True)
        return False
    click.echo(f"The shop wrote {records} records. The stand-ins still answer.", err=True)
    return True


def _stop_on_signals(simulation: Simulation) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        # Whoever asks a second time does not want to wait.
        signal.signal(number, signal.SIG_DFL)
        simulation.stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _table(summary: Mapping[str, Any]) -> str:
    lines = []
    for name, seen in summary["apis"].items():
        most = seen["most_in_window"]
        lines += [
            f"{name}: {seen['requests']} requests, {seen['accepted']} accepted, {seen['repeats']} repeats, "
            f"at most {most['requests']} in any {most['window_s']:g} s",
            *(f"  {status:<12}{count:>8}" for status, count in sorted(seen["statuses"].items())),
            *(f"  {code:<30}{count:>8}" for code, count in sorted(seen["error_codes"].items())),
        ]
        if seen["overlap_count"]:
            lines.append(f"  {seen['overlap_count']} times two requests about one order at once")
        if seen["mistake_count"]:
            lines.append(f"  {seen['mistake_count']} mistakes, the last:")
            lines += [f"    {mistake}" for mistake in seen["mistakes"]]
    records = summary["records"]
    if records["written"]:
        lines.append(f"shop: {records['written']} records written; expected of them")
        lines += [f"  {expected:<52}{count:>8}" for expected, count in sorted(records["expected"].items())]
    return "\n".join(lines)

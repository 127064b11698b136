"""`hakuna-processor demo`: the whole path at work, for somebody who has nothing but this."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from processor.cli.shop import shop_options

if TYPE_CHECKING:
    from rich.console import Console

    from processor.sandbox.shop.orders import Shop

_SHOWN: Final = (
    "KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "HAKUNA_BASE_URL", "HAKUNA_API_KEY", "HAKO_BASE_URL",
    "HAKO_API_KEY",
)  # fmt: skip
"""The settings that another terminal needs."""


@click.command("demo", short_help="show the whole path at work")
@shop_options(orders_min=1, orders=600, rate=30.0, bad_share=0.1, orders_help="Place this many orders.")
@click.option(
    "--producers",
    type=click.Choice(["alike", "mixed"]),
    default="alike",
    help="Have the services of the shop write alike, or each in its own way: then rekey runs as well.",
)
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
def command(orders: int, rate: float, bad_share: float, seed: int, producers: str, keep: bool) -> None:
    """Run the real roles between a shop and stand-ins for Hakuna and Hako that check every request.

    Needs nothing: the broker and the schema registry are inside, and no setting is read. On your own cluster,
    `simulate` writes such orders and answers such requests, and `run` runs the roles.

    The stand-in answers some requests with 429, 503 or not at all, and refuses some orders; the shop makes mistakes of
    every kind. Exit 0 when every record ended as the rules say.

    \b
    hakuna-processor demo
    hakuna-processor demo --orders 2000 --rate 100 --bad-share 0.2 --seed 7
    hakuna-processor demo --producers mixed
    hakuna-processor demo --keep
    """
    _stop_on_signals()

    from rich.console import Console

    from processor.sandbox.demo.demo import SCRIPT
    from processor.sandbox.shop.orders import Shop

    def plan(start_ms: int) -> Shop:
        countries, products = SCRIPT.refused_countries, SCRIPT.refused_products
        return Shop(orders, rate, bad_share, seed, start_ms, refused_countries=countries, refused_products=products)

    sys.exit(_demo(plan, Console(), mixed=producers == "mixed", keep=keep))


def _demo(plan: Callable[[int], Shop], console: Console, *, mixed: bool, keep: bool) -> int:
    """Runs the demo and returns the exit code."""
    from processor.sandbox.demo import live
    from processor.sandbox.demo.demo import demo

    began_s = time.monotonic()
    with demo(mixed=mixed) as running:
        console.print(
            f"{', '.join(running.roles)}, on a broker inside this process, with stand-ins for Hakuna and Hako",
            highlight=False,
        )
        with live.Screen(console) as screen:
            report = running.run(plan, screen.show, began_s)
        if not report.wrong:
            _show_order(running.environment, report.delivered, console)
        console.print(live.summary(report))
        if keep and not report.wrong:
            _wait(running.environment, [worker.port for worker in running.workers], report.curious, console)
        wrong = [*report.wrong, *running.drain()]
    if wrong:
        console.print(live.problems(wrong))
        console.print(f"The workers' logs are in {running.directory}", highlight=False)
        return 1
    console.print(live.ending(report, _program()), highlight=False, soft_wrap=True)
    return 0


def _wait(environment: dict[str, str], ports: list[int], order_id: str, console: Console) -> None:
    """Says how to look around, and waits for Ctrl-C."""
    console.print("Everything stays up until Ctrl-C. In another terminal:", highlight=False)
    for name in _SHOWN:
        console.print(f"  export {name}={environment[name]}", highlight=False, soft_wrap=True)
    console.print("and then, for example:", highlight=False)
    # The broker inside finds no offset by its time, and cannot say who is in a group.
    for example in (f"order --full {order_id}", "dead-letters list"):
        console.print(f"  {_program()} {example}", highlight=False, soft_wrap=True)
    console.print(f"  curl http://127.0.0.1:{ports[0]}/metrics", highlight=False, soft_wrap=True)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        return


def _program() -> str:
    """The command as it can be typed here: its name alone is found only where PATH has it."""
    if shutil.which("hakuna-processor") is not None:
        return "hakuna-processor"
    started = Path(sys.argv[0])
    return str(started) if started.name == "hakuna-processor" else f"{sys.executable} -m processor"


def _show_order(environment: dict[str, str], order_id: str, console: Console) -> None:
    """The timeline of one order, as the command `order` shows it."""
    from processor.cli.order import _told
    from processor.cli.output import table
    from processor.config import load
    from processor.operate.order.gather import Asked
    from processor.operate.order.lines import line

    settings = load(environment)
    _, happenings = _told(settings, order_id.encode(), Asked(full=True), [], personal=False)
    console.print(f"\nOne of them, {order_id}, delivered:", highlight=False)
    console.print(table(("time", "what", ""), (line(one, settings.topic_prefix) for one in happenings)))
    console.print()


def _stop_on_signals() -> None:
    """SIGTERM, and a terminal that is closed, end the demo as Ctrl-C does: it drains its workers."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

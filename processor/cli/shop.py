"""The options of the two commands that have a shop: `simulate` and `demo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def shop_options(
    *, orders_min: int, orders: int, rate: float, bad_share: float, orders_help: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command `orders`, `rate`, `bad_share` and `seed`; the arguments are the defaults, `orders_min` the least
    that `--orders` takes."""
    options = (
        click.option("--orders", type=click.IntRange(orders_min), default=orders, help=orders_help),
        click.option(
            "--rate", type=click.FloatRange(0, min_open=True), default=rate, help="Place this many orders a second."
        ),
        click.option(
            "--bad-share",
            type=click.FloatRange(0, 1),
            default=bad_share,
            help="Put a mistake into this share of the orders.",
        ),
        click.option("--seed", type=int, default=1, help="Choose other orders and faults."),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate

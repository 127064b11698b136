"""How a command that asks the brokers says that none answers: what stands at each address, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from processor.cli.output import interruptible

if TYPE_CHECKING:
    from processor.config import Settings

T = TypeVar("T")


def asked_of_brokers(settings: Settings, ask: Callable[[], T]) -> T:
    """What `ask` returns; where no broker answers, why not, and exit 1. Ctrl-C is heard while it waits."""
    from processor.errors import BrokerOutage

    def asked() -> T:
        at_the_door(settings)
        return ask()

    try:
        return interruptible(asked)
    except BrokerOutage as outage:
        raise click.ClickException(str(outage)) from outage


def at_the_door(settings: Settings) -> None:
    """Raises `BrokerOutage` where no address has a broker that can be spoken to: within seconds, with the reason."""
    from processor.errors import BrokerOutage
    from processor.preflight.doors import closed

    doors = closed(settings.bootstrap_servers, settings.kafka)
    if doors:
        lines = [f"{address} {what}; {remedy}" for address, what, remedy in doors]
        raise BrokerOutage("\n  ".join(["no broker answers:", *lines]))

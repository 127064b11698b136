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
    from processor.preflight.doors import nobody_home

    def asked() -> T:
        if nobody_home(settings.bootstrap_servers):
            raise BrokerOutage("nobody takes a connection")
        return ask()

    try:
        return interruptible(asked)
    except BrokerOutage as outage:
        raise click.ClickException(no_broker(settings, str(outage))) from outage


def no_broker(settings: Settings, outage: str) -> str:
    """Only called when nobody answered: it looks at the addresses with a greeting that brokers log as an error."""
    from processor.preflight.doors import explain

    lines = [
        f"{address} {what}; {remedy}" for address, what, remedy in explain(settings.bootstrap_servers, settings.kafka)
    ]
    return "\n  ".join([f"no broker answers: {outage}", *lines])

"""The disasters of deploy/RUNBOOK.md, rehearsed on a real Kafka with its very commands.

`done("…")` is a command of the runbook: it must stand there as it is given here. What only an administrator's tools do
(`kubectl scale`, `kafka-topics --delete`) is done by stopping workers and by Kafka's admin API.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
import pytest

from processor.config import Role
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.deploy.test_runbook import PAGES
from tests.integration.test_whole_path import lag
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.processes import PROGRAM, Worker
from tests.support.transform_site import Site

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.chaos]

ORDERS = 40
OWN = ("own-1", "own-2", "own-3")
DONE_SECONDS_MAX = 90.0
PROCEDURES = PAGES["RUNBOOK.md"].split("\n## Disaster\n")[1]

# A release with a fault, and one from the future, each a process of today's code with one thing changed.
WRONG_TITLES = """
import runpy, processor.hakuna.feed as feed
right = feed.snapshot
feed.snapshot = lambda order: right(order).replace(b'"title":"', b'"title":"WRONG ')
runpy.run_module("processor", run_name="__main__", alter_sys=True)
"""
NEXT_VERSION = """
import runpy, processor.transform.order_state as order_state
order_state._VERSION = 3
order_state._READERS[3] = order_state._READERS[2]
runpy.run_module("processor", run_name="__main__", alter_sys=True)
"""


class Rehearsal:
    """An installation, an API and the workers of the two roles. Mutable: `_workers`, those that run."""

    def __init__(self, site: Site, api: StandIn, settings: Mapping[str, str], directory: Path) -> None:
        self.site = site
        self.api = api
        self.settings = {**site.installation.environment, **settings}
        self.directory = directory
        self._workers: dict[Role, Worker] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def start(self, *roles: Role, program: str | None = None, await_ready: bool = True) -> Worker:
        """`kubectl scale … --replicas=1`, or the rollout of another image."""
        for role in roles:
            self._workers[role] = self._stack.enter_context(
                Worker(
                    "run",
                    "--role",
                    role.value,
                    environment=self.settings,
                    directory=self.directory / role.value,
                    program=PROGRAM if program is None else (sys.executable, "-c", program),
                    await_ready=await_ready,
                )
            )
        return self._workers[roles[-1]]

    def stop(self, *roles: Role) -> None:
        """`kubectl scale … --replicas=0`."""
        for role in roles:
            assert self._workers.pop(role).terminate() == 0

    def done(self, command: str, *, code: int = 0) -> str:
        """A command of the runbook; its output."""
        assert command in PROCEDURES, f"the runbook does not say `{command}`"
        program, *arguments = shlex.split(command)
        assert program == "hakuna-processor"
        said = ask(*arguments, environment=self.settings)
        assert said.code == code, said.out + said.err
        return said.out + said.err

    def lose(self, topic: Topic) -> None:
        """`kafka-topics --delete`."""
        name = self.site.space.name(topic)
        self.site.space.admin.delete_topics([name])[name].result(timeout=30)
        wait_until(
            lambda: name not in self.site.space.admin.list_topics(timeout=10).topics, what="its end", timeout_s=30
        )

    def settled(self) -> None:
        """Until transform has taken all and send has finished all."""
        self.site.wait_done(DONE_SECONDS_MAX)
        calm = 0
        deadline_s = time.monotonic() + DONE_SECONDS_MAX
        # An event that a shop wrote of an order it never placed stays parked, so that is not waited for.
        while calm < 4:
            assert time.monotonic() < deadline_s, "not everything was sent"
            calm = 0 if any(lag(self._workers[role]) for role in (Role.TRANSFORM, Role.SEND)) else calm + 1
            time.sleep(0.6)

    def told(self) -> dict[str, list[bytes]]:
        """What the API has accepted, by order, in order."""
        record = self.api.record
        return {order: [one.body for one in record.history(order)] for order in record.subjects()}


@pytest.fixture
def rehearse(kafka: str, schema_registry: str, tmp_path: Path) -> Iterator[Callable[..., Rehearsal]]:
    with ExitStack() as stack:

        @contextmanager
        def made(api: str) -> Iterator[Rehearsal]:
            stand_in = StandIn(HakunaApi())
            with Loopback(stand_in) as loopback, Site(kafka, schema_registry, tmp_path, partitions=2) as site:
                settings = {"HAKUNA_API": api, "HAKUNA_BASE_URL": loopback.url, "HAKUNA_API_KEY": SANDBOX_KEY}
                rehearsal = Rehearsal(site, stand_in, settings, tmp_path)
                try:
                    yield rehearsal
                finally:
                    rehearsal.close()

        yield lambda api: stack.enter_context(made(api))


def play(rehearsal: Rehearsal, seed: int, own: tuple[str, ...] = OWN) -> None:
    """What a shop did, but for orders that it had forgotten (they have no state to be told from), and orders of the
    test's own, which nothing has happened to."""
    start_ms = round(time.time() * 1000) - 600_000
    steps = shop(Shop(orders=ORDERS - len(own), rate=10, bad_share=0, seed=seed, start_ms=start_ms))
    for order in own:
        rehearsal.site.place(order, 0)
    rehearsal.site.installation.play(step for step in steps if step.value is not None)


def cancel(rehearsal: Rehearsal, order_id: str) -> None:
    """One of the test's own, since the Events API declines to cancel what was fulfilled; or any of partition 0."""
    now_ms = round(time.time() * 1000)
    event = {"event_id": f"{order_id}-cancelled", "order_id": order_id, "cancelled_at": now_ms}
    installation = rehearsal.site.installation
    value = installation.encode(Topic.CANCELLED, event)
    installation.write(Topic.CANCELLED, order_id.encode(), value, timestamp_ms=now_ms, partition=0)
    installation.flush()


@pytest.mark.timeout(400)
def test_a_lost_volume_changelog_and_outbox_cost_no_event_and_tell_nobody_anything_twice(
    rehearse: Callable[..., Rehearsal],
) -> None:
    r = rehearse("events")
    play(r, seed=3)  # before transform starts: what is written while it reads may come to it in another order
    r.start(Role.TRANSFORM, Role.SEND)
    r.settled()
    before = r.told()
    entries = len(r.site.records(Topic.OUTBOX))
    assert len(before) == ORDERS

    # The volume: nothing is to be done but to start.
    r.stop(Role.TRANSFORM)
    shutil.rmtree(r.directory / Role.TRANSFORM.value / "state")
    open_order, cancelled, _ = OWN
    r.start(Role.TRANSFORM)
    cancel(r, open_order)
    r.settled()
    after = r.told()
    assert len(after[open_order]) == len(before[open_order]) + 1, "its order is known"
    assert len(r.site.records(Topic.OUTBOX)) == entries + 1, "and nothing was written again"

    # The changelog.
    r.stop(Role.TRANSFORM)
    r.lose(Topic.CHANGELOG)
    r.done("hakuna-processor topics create")
    r.done("hakuna-processor rewind --role transform --to earliest --dry-run")
    r.done("hakuna-processor rewind --role transform --to earliest")
    r.start(Role.TRANSFORM)
    r.settled()
    assert len(r.site.records(Topic.OUTBOX)) == 2 * (entries + 1), "each entry is written once more"
    assert r.told() == after, "and known by its key"
    assert r.api.record.key_conflicts == 0

    # The outbox, with an entry in it that was not sent.
    r.stop(Role.SEND)
    cancel(r, cancelled)
    r.site.wait_done()
    r.stop(Role.TRANSFORM)
    r.lose(Topic.OUTBOX)
    r.lose(Topic.CHANGELOG)
    r.done("hakuna-processor topics create")
    r.done("hakuna-processor rewind --role transform --to earliest")
    r.done("hakuna-processor rewind --role send --to earliest")
    r.start(Role.TRANSFORM, Role.SEND)
    r.settled()
    last = r.told()
    assert {order: len(bodies) for order, bodies in last.items()} == {
        order: len(bodies) + (order == cancelled) for order, bodies in after.items()
    }
    assert r.api.record.key_conflicts == 0
    assert r.api.record.mistakes() == []
    assert not r.site.letters()
    assert not r.site.records(Topic.HAKUNA_DEAD_LETTERS)

    # A group that works is not set back.
    refused = ask("rewind", "--role", "transform", "--to", "earliest", environment=r.settings)
    assert refused.code == 1
    assert "stop the role first" in refused.err


@pytest.mark.timeout(400)
def test_wrong_snapshots_are_replaced_and_a_lost_outbox_of_the_feed_is_written_again(
    rehearse: Callable[..., Rehearsal],
) -> None:
    r = rehearse("feed")
    r.start(Role.SEND)
    r.start(Role.TRANSFORM, program=WRONG_TITLES)
    play(r, seed=5, own=())
    r.settled()
    wrong = {order: bodies[-1] for order, bodies in r.told().items()}
    assert len(wrong) == ORDERS
    assert all(b"WRONG" in body for body in wrong.values())

    # The right code is rolled out; while it runs, `resend` is refused.
    r.stop(Role.TRANSFORM)
    r.start(Role.TRANSFORM)
    refused = ask("resend", "--since", "36h", environment=r.settings)
    assert refused.code == 1
    assert "stop the role first" in refused.err
    r.stop(Role.TRANSFORM)
    assert f"{ORDERS} orders would be" in r.done("hakuna-processor resend --since 36h --dry-run")
    written = len(r.site.records(Topic.OUTBOX))
    r.done("hakuna-processor resend --since 36h")
    assert len(r.site.records(Topic.OUTBOX)) == written + ORDERS
    r.start(Role.TRANSFORM)
    r.settled()
    right = {order: bodies[-1] for order, bodies in r.told().items()}
    assert right.keys() == wrong.keys()
    assert {order: body.replace(b"WRONG ", b"") for order, body in wrong.items()} == right
    assert r.api.record.key_conflicts == 0
    assert ask("resend", "--since", "36h", environment={**r.settings, "HAKUNA_API": "events"}).code == 1

    # The outbox is lost with an order in it: the state has it all.
    r.stop(Role.SEND)
    order = next(
        key.decode()
        for key in (record.key for record in r.site.records(Topic.OUTBOX) if record.partition == 0)
        if key is not None and orjson.loads(right[key.decode()])["status"] == "placed"
    )
    cancel(r, order)
    r.site.wait_done()
    r.stop(Role.TRANSFORM)
    r.lose(Topic.OUTBOX)
    r.done("hakuna-processor topics create")
    r.done("hakuna-processor rewind --role send --to earliest")
    r.done("hakuna-processor resend --since 36h")
    r.start(Role.TRANSFORM, Role.SEND)
    r.settled()
    last = {known: orjson.loads(bodies[-1]) for known, bodies in r.told().items()}
    assert last[order] != orjson.loads(right[order])
    assert {known: body for known, body in last.items() if known != order} == {
        known: orjson.loads(body) for known, body in right.items() if known != order
    }
    assert not r.site.records(Topic.HAKUNA_DEAD_LETTERS)


@pytest.mark.timeout(300)
def test_a_state_of_a_newer_version_stops_the_older_one_which_says_so_and_nothing_is_lost(
    rehearse: Callable[..., Rehearsal],
) -> None:
    r = rehearse("events")
    r.start(Role.TRANSFORM, program=NEXT_VERSION)
    play(r, seed=7)
    r.site.wait_done()
    entries = len(r.site.records(Topic.OUTBOX))
    r.stop(Role.TRANSFORM)
    for order in OWN:
        cancel(r, order)

    older = r.start(Role.TRANSFORM, await_ready=False)
    assert older.wait(60) == 1
    failed = next(line for line in older.log_tail(400).splitlines() if '"role failed"' in line)
    assert "a newer version may have written it (then run that one)" in json.loads(failed)["why"]
    assert "a newer version may have written it" in PAGES["README.md"]

    r.start(Role.TRANSFORM, program=NEXT_VERSION)
    r.site.wait_done()
    assert len(r.site.records(Topic.OUTBOX)) == entries + len(OWN)
    assert not r.site.letters()

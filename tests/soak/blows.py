"""The disturbances: each is a generator that does something, yields how many seconds to leave it so, and goes on.

A blow takes hold of what it touches (`broker`, `hakuna`, a worker's name), so that no other has it at the same time;
blows on different things go on beside each other.
"""

from __future__ import annotations

import heapq
import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec
from confluent_kafka import KafkaException

from processor.config import Role
from processor.sandbox.apis.gateway import Gateway
from processor.sandbox.apis.script import Fault, Latency, LimitHeader, Script
from processor.topics import ORDER_TOPICS, Topic
from tests.soak.cluster import NODES
from tests.soak.world import HEALTHY, World

Blow = Iterator[float]

FREEZES_S: Final = (7.0, 9.3, 10.5, 12.0, 25.0, 60.0)
"""Around the session timeout, the request's and the poll's."""


class Kind(NamedTuple):
    """`make` gives the blow, and what it takes hold of; None where it cannot be now."""

    weight: float
    make: Callable[[World, random.Random], tuple[frozenset[str], Blow] | None]


def _worker(world: World, chance: random.Random, *roles: Role) -> str:
    return chance.choice([name for role in roles or world.roles for name in world.of_role(role)])


def _kill(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    name = _worker(world, chance)

    def blow() -> Blow:
        world.note(f"kill -9 {name}")
        world.workers[name].kill()
        yield chance.choice((0.0, 1.0, 5.0, 15.0))
        world.start(name)

    return frozenset({name}), blow()


def _terminate(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    name = _worker(world, chance)

    def blow() -> Blow:
        world.note(f"SIGTERM {name}")
        world.signal(name, signal.SIGTERM)
        yield from _until_ended(world, name)
        yield chance.choice((0.0, 3.0))
        world.start(name)

    return frozenset({name}), blow()


def _until_ended(world: World, *names: str) -> Blow:
    """A drain is over within the time that a pod is given."""
    until_s = time.monotonic() + 40.0
    while any(world.running(name) for name in names):
        if time.monotonic() > until_s:
            world.note(f"not ended 40 s after SIGTERM, killed: {[name for name in names if world.running(name)]}")
            for name in names:
                world.workers[name].kill()
        yield 0.5
    for name in names:
        if world.workers[name].child.exit_code != 0:
            world.note(f"{name} ended with {world.workers[name].child.exit_code} after SIGTERM")


def _freeze(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    name, seconds = _worker(world, chance), chance.choice(FREEZES_S)

    def blow() -> Blow:
        world.note(f"SIGSTOP {name} for {seconds:g} s")
        world.signal(name, signal.SIGSTOP)
        yield seconds
        world.signal(name, signal.SIGCONT)
        yield 3.0

    return frozenset({name}), blow()


def _lose_volume(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    name = _worker(world, chance, Role.TRANSFORM)

    def blow() -> Blow:
        world.note(f"kill -9 {name}, and its volume is gone")
        world.workers[name].kill()
        shutil.rmtree(world.directory / name / "state", ignore_errors=True)
        yield 1.0
        world.start(name)

    return frozenset({name}), blow()


def _broker(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    node = chance.randrange(NODES)

    def blow() -> Blow:
        world.note(f"kill -9 broker {node}")
        world.cluster.child(node).kill()
        yield chance.choice((0.0, 5.0, 15.0))
        world.cluster.start(node)
        yield from _until_whole(world)

    return frozenset({"broker"}), blow()


def _rolling_restart(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    def blow() -> Blow:
        world.note("rolling restart of the brokers")
        for node in chance.sample(range(NODES), NODES):
            world.cluster.child(node).signal(signal.SIGTERM)
            while world.cluster.child(node).running:
                yield 0.5
            world.cluster.start(node)
            yield from _until_whole(world)

    return frozenset({"broker"}), blow()


def _until_whole(world: World) -> Blow:
    yield 2.0
    while not world.cluster.whole():
        yield 1.0


def _api(what: str, seconds: tuple[float, float], **changes: object) -> Callable[..., tuple[frozenset[str], Blow]]:
    script: Script = msgspec.structs.replace(HEALTHY, **changes)

    def make(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
        def blow() -> Blow:
            world.note(f"the API: {what}")
            world.hakuna.script = msgspec.structs.replace(script, key=world.hakuna.script.key)
            yield chance.uniform(*seconds)
            world.hakuna.script = msgspec.structs.replace(HEALTHY, key=world.hakuna.script.key)

        return frozenset({"hakuna"}), blow()

    return make


def _refuse_connections(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    def blow() -> Blow:
        world.note("the API: nothing listens")
        world.hakuna_api.stop()
        yield chance.uniform(1, 15)
        world.hakuna_api.start()

    return frozenset({"hakuna"}), blow()


def _rotate_key(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    key = f"sk_test_{chance.randrange(10**9)}"

    def blow() -> Blow:
        world.note("the API's key is another, its file a little later")
        world.hakuna.script = msgspec.structs.replace(world.hakuna.script, key=key)
        yield chance.uniform(0.0, 8.0)
        world.write_key(key)
        yield 5.0

    return frozenset({"hakuna"}), blow()


def _rotate_certificates(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    """Another authority for the API and for its clients; who is late finds the other's certificate wrong."""

    def blow() -> Blow:
        world.note("the API's authority is another, and soon its clients'")
        old = world.authority
        world.new_authority()
        new = world.authority
        both: list[Callable[[], None]] = [lambda: world.trust(old, new), lambda: world.serve(new, old)]
        alone: list[Callable[[], None]] = [lambda: world.present(new), lambda: world.serve(new)]
        for step in (*chance.sample(both, 2), *chance.sample(alone, 2)):
            step()
            yield chance.uniform(0.0, 8.0)
        world.trust(new)
        yield 5.0

    return frozenset({"hakuna"}), blow()


def _lower_limits(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    topic = chance.choice((Topic.OUTBOX, Topic.CHANGELOG))

    def take(size: str) -> None:
        world.site.space.configure(topic, config={"max.message.bytes": size})

    def blow() -> Blow:
        world.note(f"{topic} takes records of 20 kB at most")
        yield from _until_answered(lambda: take("20000"))
        yield chance.uniform(15, 40)
        yield from _until_answered(lambda: take("1048588"))
        yield 5.0

    return frozenset({"broker", "limits"}), blow()


def _forget_offsets(world: World, chance: random.Random) -> tuple[frozenset[str], Blow]:
    role = chance.choice([role for role in world.roles if role is not Role.REKEY])
    names = world.of_role(role)

    def blow() -> Blow:
        world.note(f"the offsets of {role.value}'s group are deleted")
        for name in names:
            world.signal(name, signal.SIGTERM)
        yield from _until_ended(world, *names)
        for _ in range(30):
            try:
                world.site.space.delete_offsets(f"hakuna-processor.{role.value}")
                break
            except Exception as refused:  # a killed member counts until its session ends
                yield 1.0
                world.note(f"the group stays: {refused}") if _ == 29 else None
        for name in names:
            world.start(name)

    return frozenset({*names, "broker"}), blow()


def _until_answered(ask: Callable[[], None]) -> Blow:
    """Asks again while no broker answers: on a machine with much to do, this client is in trouble too."""
    while True:
        try:
            return ask()
        except (KafkaException, TimeoutError):
            yield 1.0


def _grow(world: World, chance: random.Random) -> tuple[frozenset[str], Blow] | None:
    """Of the shops' topics, where that is their own affair."""
    topic = chance.choice(ORDER_TOPICS)
    if not world.rekey or world.writing.counts[topic] >= 6:
        return None

    def blow() -> Blow:
        partitions = world.writing.counts[topic] + 1
        world.note(f"{topic} grows to {partitions} partitions")
        yield from _until_answered(lambda: world.site.space.grow(topic, partitions))
        yield 3.0
        yield from _until_answered(world.site.installation.look_again)
        world.writing.counts[topic] = partitions

    return frozenset({"broker", "grow"}), blow()


def _shares(**shares: float) -> dict[Fault, float]:
    return {Fault[name]: share for name, share in shares.items()}


KINDS: Final[dict[str, Kind]] = {
    "kill": Kind(3, _kill),
    "term": Kind(2, _terminate),
    "stop": Kind(3, _freeze),
    "volume": Kind(1, _lose_volume),
    "broker": Kind(1.5, _broker),
    "roll": Kind(0.4, _rolling_restart),
    "slow": Kind(1, _api("slow", (5, 20), latency=Latency(median_ms=400, p99_ms=6000))),
    "outage": Kind(1, _api("503 to all", (3, 25), shares=_shares(UNAVAILABLE=1.0))),
    "flaky": Kind(1, _api("every fault", (5, 25), shares=_shares(
        SERVER_ERROR=0.1, UNAVAILABLE=0.1, RESET=0.05, LOST_ANSWER=0.05, HANG=0.02, TOO_MANY=0.05))),
    "too-many": Kind(1, _api("429 with Retry-After", (3, 15), shares=_shares(TOO_MANY=0.5),
        retry_after_s={Fault.TOO_MANY: 2.0}, limit_header=LimitHeader.X_RATELIMIT)),
    "busy": Kind(0.7, _api("503 that means too many", (3, 15), shares=_shares(UNAVAILABLE=0.3))),
    "deny": Kind(0.7, _api("a gateway's 403", (3, 15), gateway=Gateway.DENY, quota=None)),
    "route": Kind(0.7, _api("a gateway without the route", (3, 15), gateway=Gateway.NOT_FOUND)),
    "login": Kind(0.7, _api("a login page", (3, 15), gateway=Gateway.LOGIN)),
    "page": Kind(0.7, _api("200 with a page", (3, 15), shares=_shares(PAGE=0.5))),
    "down": Kind(1, _refuse_connections),
    "key": Kind(0.7, _rotate_key),
    "certificates": Kind(0.7, _rotate_certificates),
    "limits": Kind(0.7, _lower_limits),
    "offsets": Kind(0.5, _forget_offsets),
    "grow": Kind(0.5, _grow),
}  # fmt: skip


class Blows:
    """Mutable: `_going`, what is under way, by when it goes on and with what it has hold of; `count` by kind."""

    def __init__(self, world: World, seed: int, kinds: tuple[str, ...], every_s: tuple[float, float]) -> None:
        self._world = world
        self._chance = random.Random(f"{seed}/blows")
        self._kinds = kinds
        self._every_s = every_s
        self._numbers = itertools.count()
        self._going: list[tuple[float, int, frozenset[str], Blow]] = []
        self._next_s = time.monotonic() + 5.0
        self.count: dict[str, int] = dict.fromkeys(kinds, 0)

    @property
    def held(self) -> frozenset[str]:
        return frozenset().union(*(holds for _, _, holds, _ in self._going))

    @property
    def idle(self) -> bool:
        return not self._going

    def turn(self, *, more: bool) -> None:
        """Goes on with what is due; begins another one, if `more` and it is time."""
        now_s = time.monotonic()
        while self._going and self._going[0][0] <= now_s:
            _, _, holds, blow = heapq.heappop(self._going)
            self._go_on(holds, blow)
        if more and self._kinds and now_s >= self._next_s:
            self._next_s = now_s + self._chance.uniform(*self._every_s)
            kind = self._chance.choices(self._kinds, [KINDS[one].weight for one in self._kinds])[0]
            made = KINDS[kind].make(self._world, self._chance)
            if made is not None and not made[0] & self.held:
                self.count[kind] += 1
                self._go_on(*made)

    def _go_on(self, holds: frozenset[str], blow: Blow) -> None:
        wait_s = next(blow, None)
        if wait_s is not None:
            heapq.heappush(self._going, (time.monotonic() + wait_s, next(self._numbers), holds, blow))

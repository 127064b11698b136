"""Random plans for worlds of senders, each made from its seed alone."""

from __future__ import annotations

from random import Random

from processor.config import Quota
from tests.chaos.send_api import Script, Spell
from tests.chaos.send_world import Blow, Plan, entry_id

CODES = ("invalid_request_parameters", "product_unsupported", "something_new", "cancel_decline")


def plan_of(seed: int) -> Plan:
    """Everything at once, in doses that differ from seed to seed."""
    random = Random(seed)
    plan = Plan(
        seed=seed,
        feed=random.random() < 0.3,
        partitions=random.randint(1, 5),
        workers=random.randint(1, 3),
        eager=random.random() < 0.5,
        in_flight_max=random.choice((1, 4, 16)),
        entries_max=random.choice((20, 60, 200)),
    )
    for number, what in enumerate(("stop", "kill", "expel", "join", "join")):
        del number
        if random.random() < 0.4:
            plan.blows.append(Blow(random.uniform(1, 30), what))
    if random.random() < 0.3:  # killed as soon as it has taken over: what it found must not be what its heir finds
        stop_s = random.uniform(2, 20)
        plan.blows += [Blow(stop_s, "stop"), Blow(stop_s + random.uniform(0.3, 1.5), "kill")]
    if random.random() < 0.3:
        plan.blows.append(Blow(random.uniform(1, 20), "freeze"))
    if random.random() < 0.2:
        down_s = random.uniform(1, 20)
        plan.blows += [Blow(down_s, "broker_down"), Blow(down_s + random.uniform(0.5, 6), "broker_up")]
    if random.random() < 0.4:
        window_s = random.choice((1.0, 5.0, 20.0))
        plan.quota = Quota(random.randint(plan.partitions, 40), window_s)
    _fill(plan, random)
    plan.script = _script(plan, random)
    for what in ("forget", "overtake", "outbox_again", "holds_again"):
        if random.random() < 0.15:
            plan.blows.append(Blow(random.uniform(1, 30), what))
    if random.random() < 0.2:
        grown_s = random.uniform(1, 25)
        plan.blows += [Blow(grown_s, "grow"), Blow(grown_s + random.choice((0.0, 0.0, 12.0)), "grow_rest")]
        if plan.quota is not None:
            plan.quota = Quota(max(plan.quota.requests, plan.partitions + 2), plan.quota.window_s)
    if plan.quota is not None:  # all of it may be in one partition, and half of the answers a fault
        slots = plan.quota.requests // plan.partitions
        plan.done_within_s = 3600.0 + 2 * len(plan.entries) * plan.quota.window_s / slots
    return plan


def _fill(plan: Plan, random: Random) -> None:
    orders = random.choice((3, 20, 60))
    count = random.randint(50, 250)
    times = sorted(random.uniform(0, 25) if random.random() < 0.7 else 0.0 for _ in range(count))
    for at_s in times:
        order = random.randrange(orders)
        plan.entries.append((at_s, order % plan.partitions, f"order-{order}"))


def _script(plan: Plan, random: Random) -> Script:
    slow_s = random.choice((0.02, 0.2, 1.0))
    script = Script(
        latency_s=(slow_s / 10, slow_s),
        fault_share=random.choice((0.0, 0.05, 0.3)),
        hang_share=random.choice((0.0, 0.0, 0.02)),
        reset_share=random.choice((0.0, 0.05)),
        in_progress_share=random.choice((0.0, 0.02)),
    )
    if random.random() < 0.5:
        for number in random.sample(range(len(plan.entries)), k=max(len(plan.entries) // 30, 1)):
            script.refused[entry_id(number)] = random.choice(CODES)
    if random.random() < 0.2:
        script.poisonous = frozenset({"poison"})
        plan.entries_max = max(plan.entries_max, 60)  # else it fills its partition's share, and nobody can testify
        plan.entries += [(26.0 + number, 0, "poison") for number in range(5)]
    base_s = 1_000.0  # where a FakeClock begins
    for _ in range(random.choice((0, 0, 1, 2))):
        from_s = base_s + random.uniform(0, 25)
        until_s = from_s + random.uniform(0.5, 8)
        script.spells.append(
            random.choice(
                (
                    Spell(from_s, until_s, 503),
                    Spell(from_s, until_s, 503, {"Retry-After": "2"}),
                    Spell(from_s, until_s, 429, {"Retry-After": "1"}),
                    Spell(from_s, until_s, 429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2"}),
                    Spell(from_s, until_s, 429, {"RateLimit": '"default";r=0;t=1'}),
                    Spell(from_s, until_s, None, error="ConnectError"),
                    Spell(from_s, until_s, None, error="ConnectTimeout"),
                )
            )
        )
    if random.random() < 0.25:
        rotated_s = random.uniform(2, 15)
        script.keys = lambda now_s: "key-1" if now_s < base_s + rotated_s else "key-2"
        plan.blows.append(Blow(rotated_s + random.uniform(-1, 8), "key"))
    return script

"""What must be true of a world of senders when it is over, whatever befell it. One checker for each
promise."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import msgspec

from processor.letters.letter import LetterHead, letter_head
from processor.records import OrderId, Reason
from tests.chaos.send_api import Call
from tests.chaos.send_world import TOPICS, World, entry_id
from tests.fakes.broker import SESSION_TIMEOUT_S

COMMITTED_WITHIN_S = 3.0
"""A turn of 0.3 s, a receipt's acknowledgement within three, a second until the next commit and its book's
acknowledgement: what is older than that is not sent again after a kill."""


def problems(world: World) -> list[str]:
    """Every promise that was broken; empty when all were kept."""
    found = [*finished(world), *bounded(world), *overlap(world), *quota(world), *repeats(world), *silence(world)]
    found += [*loss(world), *told(world)]
    found += newest(world) if world.plan.feed else order(world)
    return found


def finished(world: World) -> list[str]:
    if world.is_done():
        return [f"nobody alive has {world.unowned} open"] if world.unowned else []
    alive = [
        (worker.role.standing.status, worker.role.standing.unready(), worker.sender.standing.status())
        for worker in world.alive()
    ]
    return [f"not done after {world.plan.done_within_s} s: {alive}"]


def told(world: World) -> list[str]:
    """What retention took is counted, markers among it; nothing else is."""
    counted = sum(worker.meter.missed for worker in world.workers)
    if counted < world.overtaken:
        return [f"{world.overtaken} entries were deleted unsent, and {counted} records counted as missed"]
    if counted and not any(blow.what == "overtake" for blow in world.plan.blows):
        return [f"{counted} records counted as missed, and none was deleted"]
    return []


def bounded(world: World) -> list[str]:
    bound = world.plan.entries_max + 20
    if world.entries_seen_max > bound:
        return [f"{world.entries_seen_max} entries taken and unfinished, and {bound} are allowed"]
    return []


def overlap(world: World) -> list[str]:
    """Never two requests of one order at once, of whatever worker; but what was under way when a worker's session ended
    may still be."""
    found = []
    for order_id, calls in _by_order(world).items():
        for earlier, later in pairwise(sorted(calls, key=lambda call: call.sent_s)):
            if earlier.worker != later.worker and any(
                name == earlier.worker and earlier.sent_s < from_s + SESSION_TIMEOUT_S <= later.sent_s
                for name, from_s, _ in world.frozen
            ):
                continue
            if earlier.ended_s is None or later.sent_s < earlier.ended_s:
                found.append(f"order {order_id}: {later} while {earlier}")
    return found


def silence(world: World) -> list[str]:
    """A worker that the group has not heard of for a session sends nothing: another has its partitions."""
    return [
        f"{call} by {name}, which has stood still since {from_s - world.start_s:.3f} s"
        for name, from_s, until_s in world.frozen
        for call in world.api.calls
        if call.worker == name and from_s + SESSION_TIMEOUT_S <= call.sent_s < until_s
    ]


def quota(world: World) -> list[str]:
    """In no window, wherever it begins, more requests than the quota."""
    allowed = world.plan.quota
    if allowed is None:
        return []
    arrivals = sorted(call.arrived_s for call in world.api.calls if call.arrived_s is not None)
    for first, last in zip(arrivals, arrivals[allowed.requests :], strict=False):
        if last - first <= allowed.window_s:
            return [f"more than {allowed} from {first - world.start_s:.3f} s to {last - world.start_s:.3f} s"]
    return []


def loss(world: World) -> list[str]:
    """Every entry was accepted and has its receipt, or has a letter, or a newer one has taken its place."""
    found = []
    accepted = {entry for call in world.api.calls if call.accepted for entry in call.entry_ids}
    letters = _letters(world)
    receipts = {
        msgspec.json.decode(record.value or b"")["entry_id"] for record in world.broker.records(TOPICS.receipts)
    }
    for order_id, numbers in _outbox(world).items():
        for position, number in enumerate(numbers):
            entry = entry_id(number)
            if entry in letters or (entry in accepted and entry in receipts):
                continue
            newer = {entry_id(later) for later in numbers[position + 1 :]}
            if world.plan.feed and (newer & (accepted | letters.keys()) or _replaced_by_what_is_gone(world, number)):
                continue
            found.append(
                f"lost: {entry} of order {order_id}, accepted: {entry in accepted}, receipt: {entry in receipts}"
            )
    if receipts - accepted:
        found.append(f"receipts for what was never accepted: {sorted(receipts - accepted)}")
    return found


def order(world: World) -> list[str]:
    """An entry is accepted after all earlier ones of its order were; none behind one that was refused."""
    found = []
    first_accepted: dict[str, float] = {}
    for call in world.api.calls:
        if call.accepted and call.arrived_s is not None:
            (entry,) = call.entry_ids
            first_accepted[entry] = min(call.arrived_s, first_accepted.get(entry, call.arrived_s))
    letters = _letters(world)
    holds = {record.key for record in world.broker.records(TOPICS.holds or "")}
    for order_id, numbers in _outbox(world).items():
        refused_before = None
        last_s = -1.0
        for number in numbers:
            entry = entry_id(number)
            at_s = first_accepted.get(entry)
            reasons = {letter.reason for letter in letters.get(entry, [])}
            if at_s is not None:
                if at_s < last_s:
                    found.append(f"order {order_id}: {entry} was accepted before an earlier one")
                if refused_before is not None:
                    found.append(f"order {order_id}: {entry} has overtaken {refused_before}, which was refused")
                last_s = at_s
            elif refused_before is not None and reasons != {Reason.HELD}:
                found.append(f"order {order_id}: {entry} should be held behind {refused_before} and is {reasons}")
            elif refused_before is None and Reason.CANCEL_DECLINE not in reasons:
                refused_before = entry
                if order_id.encode() not in holds:
                    found.append(f"order {order_id}: {entry} is {reasons} without a hold")
    return found


def newest(world: World) -> list[str]:
    """The feed: the last snapshot accepted is the newest that is not refused for ever, and while nobody is
    killed or thrown out and the broker is there none is followed by an older one. But what was under way when its
    worker was thrown out may arrive after that."""
    found = []
    refused = world.plan.script.refused
    late = [call for call in world.api.calls if (call.worker, call.ended_s) in world.expelled]
    orderly = not (world.expelled or world.frozen or _broker_went(world) or any(w.how == "kill" for w in world.workers))
    for order_id, numbers in _outbox(world).items():
        rank = {entry_id(number): position for position, number in enumerate(numbers)}
        seen = [
            rank[entry]
            for call in sorted(world.api.calls, key=lambda call: call.arrived_s or 0.0)
            if call.accepted and call not in late
            for entry in call.entry_ids
            if entry in rank
        ]
        if orderly and any(later < earlier for earlier, later in pairwise(seen)):
            found.append(f"order {order_id}: a stale snapshot after a newer one: {seen}")
        last = entry_id(numbers[-1])
        given_up = last in refused or order_id in world.plan.script.poisonous or last in _letters(world)
        given_up = given_up or _replaced_by_what_is_gone(world, numbers[-1])
        if not given_up and (not seen or seen[-1] != len(numbers) - 1):
            found.append(f"order {order_id}: the newest snapshot is {len(numbers) - 1}, accepted were {seen}")
    for call in world.api.calls:
        if len(set(call.order_ids)) != len(call.order_ids):
            found.append(f"an order stands twice in one array: {call}")
    return found


def repeats(world: World) -> list[str]:
    """What a worker saw accepted is not sent again, but for what it saw in the last seconds before it was
    killed or thrown out, or while it stood still. (A broker that is down takes no commits: then there is no bound.)"""
    if _broker_went(world):
        return []
    # Who may have lost what it saw, from when and for how long; and before that what was not committed yet.
    lost = [(worker.name, worker.ended_s, 0.01) for worker in world.workers if worker.how == "kill" and worker.ended_s]
    lost += [(name, at_s, 0.01) for name, at_s in world.expelled]
    lost += [(name, from_s, until_s - from_s + COMMITTED_WITHIN_S) for name, from_s, until_s in world.frozen]
    found = []
    seen: dict[str, Call] = {}

    def committed_within_s(worker: str, from_s: float, until_s: float) -> float:
        """Longer by as long as it had no turn between the two moments because another was in one."""
        others = [(start, end) for name, start, end in world.stood if name != worker]
        return COMMITTED_WITHIN_S + sum(max(0.0, min(until_s, end) - max(from_s, start)) for start, end in others)

    def is_lost(call: Call) -> bool:
        """Whether its worker may have lost it before it was committed."""
        ended_s = call.ended_s or 0.0
        return any(
            name == call.worker and -for_s <= at_s - ended_s <= committed_within_s(name, ended_s, at_s)
            for name, at_s, for_s in lost
        )

    for call in world.api.calls:
        for entry in call.entry_ids:
            before = seen.get(entry)
            if before is not None and not is_lost(before):
                found.append(f"{entry} again: {call} after {before}")
            if call.seen == 200:
                seen[entry] = call
    return found


def _broker_went(world: World) -> bool:
    return any(blow.what == "broker_down" for blow in world.plan.blows)


def _replaced_by_what_is_gone(world: World, number: int) -> bool:
    """Whether a newer snapshot of its order, which may have taken its place, was deleted unsent."""
    order_id = world.plan.entries[number][2]
    return any(gone > number and world.plan.entries[gone][2] == order_id for gone in world.missed)


def _by_order(world: World) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in world.api.calls:
        for order_id in call.order_ids:
            calls[order_id].append(call)
    return calls


def _outbox(world: World) -> dict[str, list[int]]:
    """The numbers of each order's entries, as they stand in the outbox; without those that were deleted there before
    anybody had finished them."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, (_, _, order_id) in enumerate(world.plan.entries):
        if number not in world.missed:
            numbers[OrderId(order_id)].append(number)
    return numbers


def _letters(world: World) -> dict[str, list[LetterHead]]:
    found: dict[str, list[LetterHead]] = defaultdict(list)
    for record in world.broker.records(TOPICS.dead_letters):
        head = letter_head(record)
        entry = dict(record.headers)["entry-id"]
        assert head is not None
        assert entry is not None
        found[entry.decode()].append(head)
    return found

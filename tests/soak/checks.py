"""What must be true when a soak is over, whatever was done to it: one pure function a promise, each returns what breaks
it. They know records, requests and samples, and nothing of the disturbances."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from processor.config import Quota
from processor.records import Reason, Record
from processor.transform.order_state import OrderState
from tests.support.transform_model import Made

TRIES_MAX: Final = 20_000
"""Records that are tried for one order. What a real order needs is about as many as it has events."""
LATE_HANG_UP_S: Final = 0.1
"""How long a server may take to see that a client has hung up, beside its other work."""
SETTLED_S: Final = 120.0
"""A worker's first minutes fill its caches."""
GROWTH_SHARE_MAX: Final = 1.25
GROWTH_BYTES_MAX: Final = 30_000_000
GROWTH_FILES_MAX: Final = 25

Step = Callable[[Record, OrderState | None], Made]


class Entry(NamedTuple):
    """An outbox record; `place` is where it stands and when it was written, for people."""

    order_id: str
    entry_id: str
    source: str
    body: bytes
    place: str = ""


class Request(NamedTuple):
    """One request of an entry, by the API's clock. `until_s` is when it was over, by its answer or since its client had
    hung up (`hung_up`)."""

    entry_id: str
    at_s: float
    until_s: float
    hung_up: bool
    status: int | None


class Sample(NamedTuple):
    """A worker's memory and open files at a time. `life` counts its restarts."""

    at_s: float
    name: str
    life: int
    rss_bytes: int
    files: int


def unexplained(
    sources: Iterable[Record], entries: Sequence[Entry], reasons: Mapping[str, str], step: Step
) -> list[str]:
    """Orders whose entries and dead letters do not follow from their records by the rules, in whatever order these were
    taken: something is lost, invented, doubled or altered."""
    found = []
    of_order: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for entry in entries:
        of_order[entry.order_id].append((entry.source, entry.body))
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in sources:
        by_key[(record.key or b"").decode(errors="replace")].append(record)
    for order_id, records in by_key.items():
        records[:] = _in_time(records)
        seen = of_order.pop(order_id, [])
        told = {str(one.position): reason for one in records if (reason := reasons.get(str(one.position)))}
        if not _explained(records, seen, told, step):
            found.append(f"order {order_id}: {len(records)} records, {len(seen)} entries, letters {told}")
    found += [f"order {order_id}: {len(seen)} entries without a record" for order_id, seen in of_order.items()]
    known = {str(record.position) for records in by_key.values() for record in records}
    found += [f"a dead letter of {source}, which is no record" for source in reasons.keys() - known]
    return found


def _in_time(records: Sequence[Record]) -> list[Record]:
    """Merged by time, each log in its own order."""
    logs: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one.offset):
        logs[record.topic, record.partition].append(record)
    merged = []
    while logs:
        log = min(logs, key=lambda one: logs[one][0].timestamp_ms)
        merged.append(logs[log].pop(0))
        if not logs[log]:
            del logs[log]
    return merged


def _explained(
    records: Sequence[Record], seen: Sequence[tuple[str, bytes]], told: Mapping[str, str], step: Step
) -> bool:
    """Depth first: in time as far as that fits, else another log's next record is tried; each log is taken in its own
    order. `records` are in that order."""
    tries = 0

    def go(left: tuple[Record, ...], state: OrderState | None, at: int, letters: frozenset[str]) -> bool:
        nonlocal tries
        if not left:
            return at == len(seen) and letters == told.keys()
        heads: set[tuple[str, int]] = set()
        for number, record in enumerate(left):
            log = record.topic, record.partition
            if log in heads:
                continue
            heads.add(log)
            tries += 1
            if tries > TRIES_MAX:
                return False
            made = _made(record, state, told, step)
            after = at + len(made.entries)
            if list(made.entries) != list(seen[at:after]):
                continue
            if any(told.get(source) != reason for source, reason in made.reasons.items()):
                continue
            rest = left[:number] + left[number + 1 :]
            if go(rest, made.state, after, letters | made.reasons.keys()):
                return True
        return False

    return go(tuple(records), None, 0, frozenset())


def _made(record: Record, state: OrderState | None, told: Mapping[str, str], step: Step) -> Made:
    """What is too large for a topic is refused whole, which no rule knows of."""
    source = str(record.position)
    if told.get(source) == Reason.TOO_LARGE:
        return Made(state, (), {source: Reason.TOO_LARGE})
    return step(record, state)


def doubled(entries: Sequence[Entry], erased: Collection[str] = ()) -> list[str]:
    """More than one entry of a record, or of an ID. An order that was erased may be placed again by the same event."""
    sources = Counter(entry.source for entry in entries)
    ids = Counter(entry.entry_id for entry in entries if entry.order_id not in erased)
    return [f"{count} entries of {what}" for what, count in (*sources.items(), *ids.items()) if count > 1]


def undelivered(
    entries: Sequence[Entry], accepted: Iterable[str], receipts: Iterable[str], letters: Iterable[str]
) -> list[str]:
    """Entries without an end, and ends without an entry. All but the entries are entry IDs."""
    known = {entry.entry_id: entry.place for entry in entries}
    taken, confirmed, refused = set(accepted), set(receipts), set(letters)
    found = [
        f"lost: {entry} at {known[entry]} (accepted: {entry in taken}, receipt: {entry in confirmed})"
        for entry in sorted(known.keys() - refused - (taken & confirmed), key=lambda one: known[one])
    ]
    found += [f"invented: {entry} was accepted and is no entry" for entry in sorted(taken - known.keys())]
    found += [f"a receipt of {entry}, which was not accepted" for entry in sorted(confirmed - taken)]
    return found + [f"both accepted and a dead letter: {entry}" for entry in sorted(taken & refused)]


def disorder(
    entries: Sequence[Entry], letters: Iterable[str], accepted: Mapping[str, Sequence[tuple[str, bytes]]]
) -> list[str]:
    """`accepted` are by order the entry IDs and bodies in the order in which they were. Each order's are its entries,
    in their order, without those that are dead letters; the same entry again is accepted once."""
    refused = set(letters)
    wanted: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for entry in entries:
        one = entry.entry_id, entry.body
        if entry.entry_id not in refused and one not in wanted[entry.order_id]:
            wanted[entry.order_id].append(one)
    return [
        f"order {order_id}: accepted {[one for one, _ in accepted.get(order_id, ())]}, "
        f"entries {[one for one, _ in wanted.get(order_id, [])]}"
        for order_id in sorted({order_id for order_id, told in wanted.items() if told} | accepted.keys())
        if list(accepted.get(order_id, ())) != wanted.get(order_id, [])
    ]


def overlaps(requests: Sequence[Request], order_of: Mapping[str, str]) -> list[str]:
    """Two requests of an order at once. A client that has hung up, or was killed, is not there any more."""
    by_order: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        by_order[order_of.get(request.entry_id, request.entry_id)].append(request)
    return [
        f"order {order_id}: {later} while {earlier}"
        for order_id, of_order in by_order.items()
        for earlier, later in pairwise(sorted(of_order, key=lambda one: one.at_s))
        if later.at_s < earlier.until_s - (LATE_HANG_UP_S if earlier.hung_up else 0.0)
    ]


def over_quota(arrivals_s: Sequence[float], quota: Quota) -> list[str]:
    """In no window, wherever it begins, more requests than the quota."""
    ordered = sorted(arrivals_s)
    return [
        f"{quota.requests + 1} requests within {last - first:.3f} s, from {first:.3f}"
        for first, last in zip(ordered, ordered[quota.requests :], strict=False)
        if last - first < quota.window_s
    ]


def repeated(requests: Sequence[Request], accepted_s: Mapping[str, float]) -> int:
    """Requests of entries that had been accepted before. `accepted_s` is when each was, first."""
    return sum(one.at_s > accepted_s.get(one.entry_id, float("inf")) for one in requests)


def too_many_repeats(repeats: int, allowed: int) -> list[str]:
    return [f"{repeats} repeats, and {allowed} are explained"] if repeats > allowed else []


def not_erased(erased: Mapping[str, Iterable[bytes]], changelog: Mapping[str, bytes | None]) -> list[str]:
    """`erased` are orders with what named their persons; `changelog` has the last value of each order."""
    return [
        f"order {order_id}: erased, and its state holds {said!r}"
        for order_id, words in sorted(erased.items())
        for said in words
        if said in (changelog.get(order_id) or b"")
    ]


def growing(samples: Sequence[Sample]) -> list[str]:
    """Workers whose memory or files are more at the end of a life than in its middle."""
    lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.name, sample.life].append(sample)
    found = []
    for (name, life), taken in sorted(lives.items()):
        settled = [one for one in taken if one.at_s - taken[0].at_s >= SETTLED_S]
        third = len(settled) // 3
        if third < 3:
            continue
        middle, last = settled[third : 2 * third], settled[-third:]
        rss = median(one.rss_bytes for one in middle), median(one.rss_bytes for one in last)
        if rss[1] > max(rss[0] * GROWTH_SHARE_MAX, rss[0] + GROWTH_BYTES_MAX):
            found.append(f"{name}, life {life}: {rss[0] / 1e6:.0f} MB became {rss[1] / 1e6:.0f}")
        files = median(one.files for one in middle), median(one.files for one in last)
        if files[1] > files[0] + GROWTH_FILES_MAX:
            found.append(f"{name}, life {life}: {files[0]:.0f} open files became {files[1]:.0f}")
    return found

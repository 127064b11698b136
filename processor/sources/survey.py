"""survey: judges the producers of the source topics by the newest records. Pure.

It finds how they place keys, the kind of their keys, the unit of their timestamps, and whether they erase more than
they write. `check` and transform's `/status` show the result; `edges/kafka/looks.py` reads the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from processor.moments import PLAUSIBLE_MS_MIN, iso, meant_ms
from processor.records import Record
from processor.sources.keys import Key, KeyKind, read_key
from processor.sources.placements import MEND_UNKNOWN, Compared, Sample, compare
from processor.topics import KEEP

APART_MIN: Final = 0.01
"""The least share of orders that cannot meet that is a problem; below it a few records went astray once."""
MANY: Final = 0.5
"""A fault of a larger share of the newest records is the producer's, not a record's."""
FEW_RECORDS: Final = 20
"""Fewer records do not show a share."""
_ODD_MIN: Final = 0.1
"""The least share of keys that are not order IDs that is a problem."""


class Weight(StrEnum):
    """How much a finding weighs. SOUND: as it should be. NOTE: a person should know. PROBLEM: a worker cannot do its
    work, orders are lost, or customers' data stays."""

    SOUND = "sound"
    NOTE = "note"
    PROBLEM = "problem"


class Said(NamedTuple):
    """A finding about a topic (whole name), and what to do about it (empty if nothing needs to be done)."""

    weight: Weight
    topic: str
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The newest records of one topic: `odd_keys` are not plain text, `erasures` have no value, `nobodys` are keys of
    those without a certain order ID, `odd_stamps` are before 2000 (`odd_stamp` is one of them)."""

    sample: Sample
    records: int
    erasures: int
    odd_keys: tuple[Key, ...]
    nobodys: tuple[Key, ...]
    odd_stamps: int
    odd_stamp: int | None


def surveyed(records: Sequence[Record], partitions: int) -> Surveyed:
    """Returns what these records show of the producers of one topic."""
    keys = [read_key(record.key, record.headers) for record in records]
    odd = tuple(key for key in keys if key.kind is not KeyKind.PLAIN)
    erasing = [key for key, record in zip(keys, records, strict=True) if record.value is None]
    nobodys = tuple(key for key in erasing if not key.is_trusted or key.order_id is None)
    stamps = [record.timestamp_ms for record in records if 0 <= record.timestamp_ms < PLAUSIBLE_MS_MIN]
    pairs = tuple((record.key, record.partition) for record in records if record.key)
    sample = Sample(partitions, pairs, len(records) - len(pairs))
    return Surveyed(sample, len(records), len(erasing), odd, nobodys, len(stamps), stamps[-1] if stamps else None)


def judged(
    found: Mapping[str, Surveyed], configs: Mapping[str, Mapping[str, str]], *, rekey: bool = False
) -> list[Said]:
    """Returns what a person should know of the producers, from the newest records of these topics (by whole name, in
    the order of TOPICS). With `rekey` producers need not agree on placing keys, and events need no key."""
    compared = compare({topic: one.sample for topic, one in found.items()})
    findings: list[Said] = []
    for topic, one in found.items():
        if rekey:
            findings += _nobodys(topic, one)
        else:
            findings += _placement(compared[topic], compared)
            findings += _keys(topic, one)
        findings += _erasures(topic, one)
        findings += _stamps(topic, one, configs.get(topic, {}))
    return findings


def _placement(one: Compared, others: Mapping[str, Compared]) -> list[Said]:
    placement = one.placement
    if not one.share:
        if not placement.told:
            return []  # an empty topic, or keyless records, of which `_keys` speaks
        if placement.wandering and placement.family is None and not placement.mixed:
            what = f"{placement}: {placement.wandering} of them stand in several partitions, apart from themselves"
            return [Said(Weight.PROBLEM, one.topic, what, f"set at its producers: {MEND_UNKNOWN}")]
        if placement.family is None:
            agree = "; the topics agree" if one.share is not None else ""
            return [Said(Weight.NOTE, one.topic, f"{placement}{agree}")]
        return [Said(Weight.SOUND, one.topic, f"keys: {placement}")]
    reference = others[one.reference]
    what = (
        f"{placement}; {one.reference}: {reference.placement}. {one.share:.0%} of the orders here are in another "
        "partition than there, and never meet"
    )
    remedy = f"set {one.mend} at its producers"
    if one.mend.startswith("at the producers"):
        remedy = f"{one.reference}: {one.mend.partition(': ')[2]}"
    return [Said(Weight.PROBLEM if one.share >= APART_MIN else Weight.NOTE, one.topic, what, remedy)]


def _keys(topic: str, one: Surveyed) -> list[Said]:
    if not one.odd_keys:
        return []
    kinds = Counter(key.kind for key in one.odd_keys)
    findings: list[Said] = []
    for kind, count in kinds.most_common():
        example = next(key for key in one.odd_keys if key.kind is kind)
        what = f"{count} of the newest {one.records} records have as their key {example.detail}"
        is_problem = count >= _ODD_MIN * one.records and one.records >= FEW_RECORDS
        findings.append(
            Said(
                Weight.PROBLEM if is_problem else Weight.NOTE,
                topic,
                f"{what}, which is no plain order ID: dead letters `key_mismatch`",
                example.remedy,
            )
        )
    return findings


def _nobodys(topic: str, one: Surveyed) -> list[Said]:
    """Judges the keys of erasures: rekey needs no other keys."""
    if not one.nobodys:
        return []
    example = one.nobodys[0]
    what = (
        f"{len(one.nobodys)} erasures among the newest {one.records} records have as their key {example.detail}, from "
        "which no order ID can be read: dead letters `key_mismatch`, and no data is erased"
    )
    return [Said(Weight.PROBLEM, topic, what, example.remedy)]


def _erasures(topic: str, one: Surveyed) -> list[Said]:
    if one.records < FEW_RECORDS or one.erasures <= MANY * one.records:
        return []
    what = f"{one.erasures} of the newest {one.records} records have no value, and each of them erases its order"
    remedy = "stop the producer that writes a tombstone after each event (Debezium: tombstones.on.delete=false)"
    return [Said(Weight.PROBLEM, topic, what, remedy)]


def _stamps(topic: str, one: Surveyed, config: Mapping[str, str]) -> list[Said]:
    if config.get("message.timestamp.type") == "LogAppendTime":
        what = (
            "message.timestamp.type=LogAppendTime: events that are written late, or copied, are taken by when they "
            "were written and not by when they happened"
        )
        return [Said(Weight.NOTE, topic, what, "set message.timestamp.type=CreateTime")]
    if one.odd_stamp is None:
        return []
    meant = meant_ms(one.odd_stamp)
    as_what = f", taken as the seconds of {iso(meant)}" if meant != one.odd_stamp else ""
    what = f"{one.odd_stamps} of the newest {one.records} records are stamped before 2000 ({one.odd_stamp} ms{as_what})"
    remedy = "stamp records in milliseconds since 1970"
    retention = config.get("retention.ms", KEEP)
    if "delete" not in config.get("cleanup.policy", "delete") or retention == KEEP:
        return [Said(Weight.NOTE, topic, what, remedy)]
    what += f": older than retention.ms={retention}, so the brokers delete them within minutes"
    return [Said(Weight.PROBLEM, topic, what, f"{remedy}; until then set retention.ms={KEEP}")]

"""What the newest records of the topics say of who writes them, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processor.records import Record
from processor.sources.placements import FAMILIES
from processor.sources.survey import Said, Surveyed, Weight, judged, surveyed

NOW_MS = 1_795_255_200_123
KEYS = [b"ord-%05d" % number for number in range(400)]
KEEP = {"retention.ms": "-1"}
WEEK = {"retention.ms": "604800000", "cleanup.policy": "delete"}
OF = {family.name: family.of for family in FAMILIES}


def topic(
    name: str,
    keys: Sequence[bytes | None] = KEYS,
    *,
    stamp: int = NOW_MS,
    value: bytes | None = b"",
    header: str = "shop",
) -> Surveyed:
    """Written by a client of this family."""
    records = [
        Record("t", OF[name](key, 12) if key else 3, offset, stamp, key, value, [(header, None)])
        for offset, key in enumerate(keys)
    ]
    return surveyed(records, 12)


def said(topics: Mapping[str, Surveyed], config: Mapping[str, str] = KEEP) -> dict[str, list[Said]]:
    found = judged(topics, dict.fromkeys(topics, config))
    return {name: [one for one in found if one.topic == name] for name in topics}


def test_topics_of_one_family_are_sound() -> None:
    found = said({"placed": topic("crc32"), "fulfilled": topic("crc32"), "refunded": topic("crc32", [])})
    assert [one.weight for of_topic in found.values() for one in of_topic] == [Weight.SOUND, Weight.SOUND]
    assert found["placed"][0].what.startswith("keys: crc32 (librdkafka's default")


def test_a_topic_of_another_family_is_named_with_the_share_that_cannot_meet_and_the_setting() -> None:
    found = said({"placed": topic("murmur2"), "fulfilled": topic("crc32"), "refunded": topic("fnv1a")})
    assert [one.weight for one in found["placed"]] == [Weight.SOUND]
    (fulfilled,), (refunded,) = found["fulfilled"], found["refunded"]
    assert fulfilled.weight is refunded.weight is Weight.PROBLEM
    assert "crc32" in fulfilled.what
    assert "placed: murmur2" in fulfilled.what
    assert "% of the orders here are in another partition than there, and never meet" in fulfilled.what
    assert fulfilled.remedy == "set partitioner=murmur2_random at its producers"
    assert "WithAbsFirst" in refunded.remedy


def test_where_the_others_are_javas_the_producers_of_placed_are_to_change() -> None:
    found = said({"placed": topic("crc32"), "fulfilled": topic("murmur2")})
    assert found["fulfilled"][0].remedy == "placed: partitioner=murmur2_random"


def test_one_record_astray_is_a_note() -> None:
    astray = topic("murmur2", KEYS[:399])
    pairs = (*astray.sample.pairs, (KEYS[399], (OF["murmur2"](KEYS[399], 12) + 1) % 12))
    records = [Record("t", partition, 0, NOW_MS, key, b"", []) for key, partition in pairs]
    (one,) = said({"placed": topic("murmur2"), "fulfilled": surveyed(records, 12)})["fulfilled"]
    assert one.weight is Weight.NOTE


def test_an_unknown_partitioner_that_all_share_is_a_note_and_round_robin_a_problem() -> None:
    own = [Record("t", sum(key) * 7 % 12, 0, NOW_MS, key, b"", []) for key in KEYS]
    found = said({"placed": surveyed(own, 12), "fulfilled": surveyed(own, 12)})
    assert [one.weight for of_topic in found.values() for one in of_topic] == [Weight.NOTE, Weight.NOTE]
    assert found["fulfilled"][0].what.endswith("; the topics agree")
    robin = [Record("t", number % 12, 0, NOW_MS, key, b"", []) for number, key in enumerate(KEYS[:37] * 5)]
    (one,) = said({"placed": surveyed(robin, 12)})["placed"]
    assert one.weight is Weight.PROBLEM
    assert "Murmur2Balancer" in one.remedy


def test_keys_that_are_no_order_ids_are_named_with_what_they_are_and_what_to_set() -> None:
    framed = [b"\x00\x00\x00\x00\x07" + bytes([2 * len(key)]) + key for key in KEYS]
    mixed = said({"placed": topic("murmur2", [*KEYS, framed[0], None])})["placed"]
    assert [one.weight for one in mixed] == [Weight.SOUND, Weight.NOTE, Weight.NOTE]
    assert "1 of the newest 402 records have as their key a Confluent Avro string of schema 7" in mixed[1].what
    all_of_them = said({"placed": topic("murmur2", framed)})["placed"][-1]
    assert all_of_them.weight is Weight.PROBLEM
    assert "key.serializer=StringSerializer" in all_of_them.remedy
    keyless = said({"placed": topic("murmur2", [None] * 50)})["placed"]
    assert [one.weight for one in keyless] == [Weight.PROBLEM]


def test_keys_whose_schema_a_header_names_are_no_order_ids() -> None:
    keys = [b"\x22" + b"ord-42-%010d" % number for number in range(50)]
    assert said({"placed": topic("murmur2", keys)})["placed"][-1].weight is Weight.SOUND
    problem = said({"placed": topic("murmur2", keys, header="apicurio.key.globalId")})["placed"][-1]
    assert problem.weight is Weight.PROBLEM
    assert "an Avro string (by the header apicurio.key.globalId)" in problem.what


def test_a_tombstone_after_each_event_is_a_problem_and_an_erasure_is_none() -> None:
    events, erasures = topic("murmur2"), topic("murmur2", KEYS[:201], value=None)
    half = Surveyed(events.sample, 400, 201, (), (), 0, None)
    assert said({"placed": erasures})["placed"][-1].weight is Weight.PROBLEM
    assert "tombstones.on.delete=false" in said({"placed": half})["placed"][-1].remedy
    few = Surveyed(events.sample, 400, 200, (), (), 0, None)
    assert [one.weight for one in said({"placed": few})["placed"]] == [Weight.SOUND]


def test_stamps_in_seconds_are_named_and_a_problem_where_the_brokers_would_delete_them() -> None:
    in_seconds = topic("murmur2", stamp=NOW_MS // 1000)
    kept = said({"placed": in_seconds})["placed"][-1]
    assert kept.weight is Weight.NOTE
    assert "taken as the seconds of 2026-11-21T10:00:00.000Z" in kept.what
    deleted = said({"placed": in_seconds}, WEEK)["placed"][-1]
    assert deleted.weight is Weight.PROBLEM
    assert "retention.ms=604800000, so the brokers delete them within minutes" in deleted.what


def test_log_append_time_on_a_source_is_named() -> None:
    (_, one) = said({"placed": topic("murmur2")}, KEEP | {"message.timestamp.type": "LogAppendTime"})["placed"]
    assert one.weight is Weight.NOTE
    assert "CreateTime" in one.remedy


def test_with_rekey_only_what_rekey_goes_by_is_looked_at() -> None:
    """How keys are placed is its own matter, and an event's key is none; an erasure has nothing else."""
    framed = [b"\0\0\0\0\7" + bytes([2 * len(key)]) + key for key in KEYS[:30]]
    bare: list[bytes | None] = [None] * 20
    topics = {
        "placed": topic("murmur2", [*framed, *bare], value=None),
        "fulfilled": topic("crc32", [*KEYS, *bare], stamp=NOW_MS // 1000),
    }
    found = judged(topics, dict.fromkeys(topics, KEEP), rekey=True)
    assert [(one.topic, one.weight, one.what.partition(" among")[0]) for one in found[:1]] == [
        ("placed", Weight.PROBLEM, "20 erasures")
    ]
    assert found[0].remedy == "give each record its order ID as the key"
    assert [(one.topic, one.remedy) for one in found[1:]] == [
        ("placed", found[1].remedy),
        ("fulfilled", "stamp records in milliseconds since 1970"),
    ]
    assert "erases its order" in found[1].what
    assert any("murmur2" in one.what or "crc32" in one.what for one in judged(topics, dict.fromkeys(topics, KEEP)))

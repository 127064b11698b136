"""The gathering sends the newest value of each object, in the order that Hako can take, in few requests."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from processor.api.verdicts import Answer, NoAnswer
from processor.hako.kinds import KINDS
from processor.send.event_loop.lanes import LaneState
from processor.send.meter import WaitsFor
from tests.unit.hako.hako_side import Side


def level(quantity: int, occurred_at: int = 0) -> dict[str, Any]:
    return {"quantity": quantity, "occurred_at": occurred_at}


def stocked(entries_max: int = 4) -> Side:
    side = Side(entries_max)
    side.say("items/a", {"name": "A"})
    side.say("warehouses/w", {"name": "W"}, then_s=1.0)
    side.requests.clear()
    return side


def test_what_is_new_is_created_and_what_is_known_is_updated() -> None:
    side = stocked()
    side.say("items/a", {"name": "AA", "price": 5})
    side.say("inventory/w/a", level(3), then_s=1.0)
    assert sorted(side.requests) == [("POST", "inventory", 1), ("PUT", "items", 1)]
    assert side.tables["items"] == {("a",): {"name": "AA", "price": 5}}
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 3}}


def test_of_many_changes_of_one_object_the_newest_alone_is_sent() -> None:
    side = stocked()
    for quantity in range(100):
        side.say("inventory/w/a", level(quantity, quantity))
    assert len(side.gathering) == 1
    side.step()
    assert side.requests == [("POST", "inventory", 1)]
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 99}}
    assert not side.unfinished


def test_an_older_time_is_ignored_whether_the_newer_one_waits_is_under_way_or_was_sent() -> None:
    side = stocked()
    side.say("inventory/w/a", level(2, occurred_at=20))
    waits = side.say("inventory/w/a", level(1, occurred_at=10))
    side.now_s += 1
    assert side.send()
    flies = side.say("inventory/w/a", level(1, occurred_at=10))
    side.answer()
    sent = side.say("inventory/w/a", level(1, occurred_at=19), then_s=1.0)
    assert side.stale == [waits, flies, sent]
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 2}}


def test_an_object_that_is_there_already_is_updated_without_a_dead_letter() -> None:
    side = stocked()
    side.topic.clear()
    side.restart()
    side.say("items/a", {"name": "again"}, then_s=1.0)
    assert side.requests == [("POST", "items", 1), ("PUT", "items", 1)]
    assert side.tables["items"] == {("a",): {"name": "again"}}


def test_an_object_that_is_not_there_yet_is_created_without_a_dead_letter() -> None:
    side = stocked()
    side.tables["items"].clear()
    side.say("items/a", {"name": "again"}, then_s=1.0)
    assert side.requests == [("PUT", "items", 1), ("POST", "items", 1)]
    assert side.tables["items"] == {("a",): {"name": "again"}}
    assert not side.dead


def test_a_deletion_of_what_is_gone_is_what_was_wanted() -> None:
    side = Side()
    side.say("items/never", None)
    side.say("items/nor-this", None)
    side.settle()
    assert not side.dead
    assert not side.unfinished


def test_what_was_deleted_is_not_deleted_again_nor_brought_back_by_what_is_older() -> None:
    side = stocked()
    side.say("inventory/w/a", level(1, occurred_at=5))
    blocked = side.say("inventory/w/unknown", level(1), then_s=1.0)
    side.say("items/a", None)
    side.say("inventory/w/a", None, then_s=1.0)
    side.requests.clear()
    side.restart()
    side.step()
    assert min(side.unfinished) == blocked
    assert {request for request in side.requests if request[0] == "DELETE"} == set()
    side.read(0)
    assert side.stale[-1] == 0, "a replay of the item as it was"
    side.say("items/a", {"name": "anew"}, then_s=1.0)
    assert side.tables["items"] == {("a",): {"name": "anew"}}


def test_deletions_of_what_was_never_told_spoil_no_others() -> None:
    side = stocked(entries_max=100)
    for number in range(50):
        side.say(f"items/{number}", {"name": str(number)})
    side.step()
    side.requests.clear()
    for number in range(50):
        side.say(f"items/{number}", None)
        side.say(f"items/never-{number % 4}", None)
    side.settle()
    assert side.requests.count(("DELETE", "items", 50)) == 1
    assert len(side.requests) <= 9
    assert not side.dead


def test_items_and_warehouses_go_before_the_levels_that_name_them() -> None:
    side = Side()
    side.say("items/a", {"name": "A"})
    side.say("warehouses/w", {"name": "W"})
    for number in range(3):
        side.say("inventory/w/a", level(number))
    side.step()
    side.step()
    assert [path for _, path, _ in side.requests] == ["items", "warehouses", "inventory"]


def test_levels_go_before_the_items_and_warehouses_when_they_are_deleted() -> None:
    side = stocked()
    side.say("inventory/w/a", level(1), then_s=1.0)
    side.requests.clear()
    for key in ("items/a", "warehouses/w", "inventory/w/a"):
        side.say(key, None)
    side.step()
    assert [(method, path) for method, path, _ in side.requests] == [
        ("DELETE", "inventory"),
        ("DELETE", "items"),
        ("DELETE", "warehouses"),
    ]
    assert not any(side.tables.values())


def test_a_level_of_an_unknown_item_waits_for_it() -> None:
    side = stocked()
    side.say("inventory/w/late", level(7))
    for _ in range(30):
        side.step()
    assert list(side.unfinished) == [2]
    before = len(side.requests)
    side.say("items/late", {"name": "Late"}, then_s=1.0)
    side.step()
    assert side.tables["inventory"] == {("w", "late"): {"quantity": 7}}
    assert side.requests[before:] == [("POST", "items", 1), ("POST", "inventory", 1)]


def test_a_level_that_waited_too_long_is_a_dead_letter_and_others_went_past_it() -> None:
    side = stocked()
    unknown = side.say("inventory/w/unknown", level(7))
    side.say("inventory/w/a", level(1), then_s=1.0)
    side.settle()
    assert list(side.dead) == [unknown]
    assert side.dead[unknown].reason == "http_404"
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 1}}


def test_one_refused_object_of_a_hundred_is_alone_in_the_dead_letters() -> None:
    side = stocked(entries_max=100)
    for number in range(100):
        side.say(f"items/{number}", {"name": str(number)})
    side.step()
    for number in range(100):
        side.say(f"inventory/w/{number}", level(666 if number == 37 else number))
    side.settle()
    assert [side.log[offset][0] for offset in side.dead] == ["inventory/w/37"]
    assert len(side.tables["inventory"]) == 99
    assert len(side.requests) < 40


def test_a_first_run_sends_each_key_once_in_full_arrays() -> None:
    side = Side(entries_max=50)
    side.say("warehouses/w", {"name": "W"})
    for number in range(1000):
        side.say(f"items/{number % 200}", {"name": str(number)})
    side.settle()
    assert sorted(side.requests) == [*[("POST", "items", 50)] * 4, ("POST", "warehouses", 1)]


def test_nothing_goes_while_the_topics_are_being_read_and_then_each_key_goes_once() -> None:
    side = Side(entries_max=50, caught_up=False)
    side.say("warehouses/w", {"name": "W"})
    for number in range(300):
        side.say(f"items/{number % 100}", {"name": str(number)})
        side.say(f"inventory/w/{number % 100}", level(number, number))
        side.step()
    assert side.requests == []
    assert side.gathering.next_s() is None
    assert side.gathering.state("items/5") is LaneState.WAITING
    side.catch_up()
    side.settle()
    assert sorted(side.requests) == [
        *[("POST", "inventory", 50)] * 2,
        *[("POST", "items", 50)] * 2,
        ("POST", "warehouses", 1),
    ]


def test_levels_that_were_read_before_their_items_go_after_them() -> None:
    side = Side(entries_max=50, caught_up=False)
    for number in range(100):
        side.say(f"inventory/w/{number}", level(number))
    side.now_s += 5
    side.say("warehouses/w", {"name": "W"})
    for number in range(100):
        side.say(f"items/{number}", {"name": str(number)})
    side.catch_up()
    side.settle()
    assert [path for _, path, _ in side.requests[-2:]] == ["inventory", "inventory"]
    assert len(side.requests) == 5


def test_a_partition_that_goes_while_it_is_read_holds_nothing() -> None:
    side = Side(caught_up=False)
    side.gathering.open(2)
    side.say("items/a", {"name": "A"})
    side.catch_up()
    side.step()
    assert side.requests == []
    side.gathering.drop({2})
    side.step()
    assert side.requests == [("POST", "items", 1)]


def test_an_unchanged_topic_is_not_sent_again_after_a_restart() -> None:
    side = stocked()
    blocked = side.say("inventory/w/unknown", level(1))
    side.say("items/b", {"name": "B"}, then_s=1.0)
    assert min(side.unfinished) == blocked
    side.requests.clear()
    side.restart()
    side.step()
    assert {path for _, path, _ in side.requests} == {"inventory"}


def test_what_a_dead_partition_left_behind_holds_nothing() -> None:
    side = stocked()
    side.say("items/b", {"name": "B"})
    side.say("inventory/w/b", level(1))
    side.gathering.drop({1})
    assert len(side.gathering) == 0
    assert side.gathering.next_s() is None


def test_the_age_of_the_oldest_unsent_key_is_known() -> None:
    side = stocked()
    assert side.gathering.oldest_s() is None
    said_s = side.now_s
    side.say("inventory/w/a", level(1))
    side.now_s += 100
    side.say("items/a", {"name": "younger"})
    side.say("inventory/w/a", level(2))
    assert side.gathering.oldest_s() == said_s
    side.step()
    assert side.gathering.oldest_s() is None


def test_what_waits_is_counted_by_what_it_waits_for() -> None:
    side = stocked()
    side.say("inventory/w/unheard-of", level(1))
    while not side.gathering.waits()[WaitsFor.UNKNOWN]:
        side.step()
    side.say("items/b", {"name": "B"})
    side.say("inventory/w/b", level(1))
    side.say("inventory/w/a", level(1))
    assert side.gathering.waits() == {WaitsFor.TURN: 2, WaitsFor.PARENT: 1, WaitsFor.UNKNOWN: 1}
    assert sum(side.gathering.waits().values()) == len(side.gathering)


def test_a_level_of_what_hako_does_not_know_makes_nothing_old() -> None:
    side = stocked()
    side.say("inventory/w/unheard-of", level(1))
    while not side.gathering.waits()[WaitsFor.UNKNOWN]:
        side.step()
    assert side.gathering.oldest_s() is None
    side.now_s += 50
    side.say("items/unheard-of", {"name": "Heard of"})
    assert side.gathering.oldest_s() == side.now_s
    side.settle()
    assert side.gathering.oldest_s() is None


def test_fifty_thousand_changes_take_the_memory_of_their_keys() -> None:
    side = stocked()
    for number in range(5_000):
        side.say(f"inventory/w/{number % 50}", level(number, number))
    assert len(side.gathering) == len(side.unfinished) == 50


def test_a_replay_that_is_newer_than_what_is_under_way_goes_after_it() -> None:
    side = stocked()
    newer = side.say("inventory/w/a", level(666, occurred_at=2), then_s=1.0)
    assert newer in side.dead
    side.mended = True
    side.say("inventory/w/a", level(1, occurred_at=1))
    side.now_s += 1
    assert side.send()
    side.replay(newer)
    side.settle()
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 666}}


def test_a_replay_that_is_newer_than_what_waits_takes_its_place() -> None:
    side = stocked()
    newer = side.say("inventory/w/a", level(666, occurred_at=2), then_s=1.0)
    side.mended = True
    side.say("inventory/w/a", level(1, occurred_at=1))
    side.replay(newer)
    side.requests.clear()
    side.settle()
    assert side.requests == [("POST", "inventory", 1)]
    assert side.tables["inventory"] == {("w", "a"): {"quantity": 666}}


KEYS = [f"items/{sku}" for sku in "abc"] + ["warehouses/v", "warehouses/w"]
LEVELS = [f"inventory/{warehouse}/{sku}" for warehouse in "vw" for sku in "abc"]

changes = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.builds(lambda n: {"name": str(n)}, st.integers(0, 99)))),
    st.tuples(
        st.sampled_from(LEVELS),
        st.one_of(st.none(), st.builds(level, st.sampled_from([0, 1, 2, 3, 666]), st.integers(0, 5))),
    ),
)
steps = st.one_of(
    st.tuples(st.just("say"), changes),
    st.tuples(st.just("say"), changes),
    st.tuples(st.just("send"), st.none()),
    st.tuples(st.just("answer"), st.sampled_from(["", "500", "lost", "429", "timeout"])),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 1.0, 5.0, 40.0])),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("catch up"), st.none()),
    st.tuples(st.just("mend"), st.none()),
    st.tuples(st.just("replay"), st.integers(0, 9)),
)


def befall(side: Side, what: str) -> None:
    side.lost = what == "lost"
    answers: dict[str, Answer | NoAnswer | None] = {
        "": None,
        "500": Answer(500, {}, b""),
        "429": Answer(429, {}, b""),
        "timeout": NoAnswer.TIMEOUT,
        "lost": NoAnswer.CONNECTION,
    }
    side.fate = lambda _method, _path, _body: answers[what]


@settings(max_examples=100)
@given(st.lists(steps, max_size=80), st.booleans())
def test_for_any_sequence_of_changes_and_failures_the_last_write_of_a_key_is_its_last_value(
    script: list[tuple[str, Any]], caught_up: bool
) -> None:
    side = Side(entries_max=3, caught_up=caught_up)
    for what, told in script:
        match what:
            case "say":
                side.say(*told)
            case "send":
                if len(side.in_flight) < 3:
                    side.send()
            case "answer":
                if side.in_flight:
                    befall(side, told)
                    side.answer(len(side.in_flight) // 2)
            case "wait":
                side.now_s += told
            case "catch up":
                side.catch_up()
            case "restart":
                side.lost = told
                side.restart()
            case "mend":
                side.mended = True
            case "replay":
                if side.dead:
                    side.replay(sorted(side.dead)[told % len(side.dead)])
    side.lost = False
    side.settle()
    assert not side.unfinished, "a change is neither accepted, nor replaced, nor a dead letter"
    assert len(side.gathering) == 0
    assert side.gathering.oldest_s() is None
    assert not side.gathering._kinds.any_in(KINDS)
    assert not side.gathering._behind
    assert not len(side.gathering._parked)
    assert not side.gathering._parked._waiters
    for key, (offset, said) in side.last().items():
        path, *names = key.split("/")
        row = side.tables[path].get(tuple(names))
        if offset in side.dead:
            continue
        if said is None:
            assert row is None, key
        else:
            wanted = {name: value for name, value in said.items() if name != "occurred_at"}
            assert row == wanted, key

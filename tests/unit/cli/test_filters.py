"""Which letters `--topic` and LETTER mean, alone and together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import pytest

from processor.cli.dead_letters.desk import Desk
from processor.cli.dead_letters.filters import Filters
from processor.config import load
from processor.letters.families import letter_facts
from processor.letters.letter import Refusal, letter_headers
from processor.operate.replay.campaign import Refused
from processor.operate.replay.selection import Selection
from processor.records import Record, Stage
from processor.topics import Topic
from tests.support.commands import told


def desk(prefix: str = "") -> Desk:
    """One that asks nobody: every topic is there."""
    found = Desk.__new__(Desk)
    found.settings = load({"PROCESSOR_TOPIC_PREFIX": prefix}, None)
    found.offsets = SimpleNamespace(partitions=lambda _topic: 1)  # type: ignore[assignment]
    found._open = []
    return found


def resolved(*letters: str, topics: tuple[str, ...] = (), prefix: str = "") -> tuple[list[str], Selection]:
    nothing: Any = dict.fromkeys(("reasons", "error_codes", "order_ids"), ())
    filters = Filters(letters=letters, topics=topics, since=None, until=None, reason_option="--reason", **nothing)
    return filters.resolved(desk(prefix))


def takes(selection: Selection, letters: str, origin: str) -> bool:
    refusal = Refusal(stage=Stage.SEND, reason="held", message="", group="g", failed_ms=1)
    headers = letter_headers(Record(origin, 0, 7, 1, b"ord-1", b"{}", []), refusal)
    letter = Record(letters, 0, 5, 1, b"ord-1", b"{}", headers)
    return selection.takes(letter, letter_facts(letter))


@pytest.mark.parametrize("topic", [Topic.PLACED, Topic.OUTBOX, Topic.LEVELS, "hakuna.rekeyed.orders.placed"])
@pytest.mark.parametrize("prefix", ["", "eu."])
def test_the_place_of_another_record_is_no_letters(topic: str, prefix: str) -> None:
    with pytest.raises(Refused, match=r"/0/5 is no letter's place: those are on .*dead-letters"):
        resolved(f"{prefix}{topic}/0/5", prefix=prefix)


@pytest.mark.parametrize("named", ["eu.hakuna.dead-letters/0/5", "hakuna.dead-letters/0/5"])
def test_a_letter_is_named_with_the_prefix_of_its_topic_or_without(named: str) -> None:
    topics, selection = resolved(named, prefix="eu.")
    assert topics == ["eu.hakuna.dead-letters"]
    assert selection.letters == ("eu.hakuna.dead-letters/0/5",)


def test_a_topic_beside_letters_selects_among_them() -> None:
    letters = ("hakuna.dead-letters/0/5", "orders.dead-letters/0/5")
    assert resolved(*letters)[0] == ["hakuna.dead-letters", "orders.dead-letters"]
    assert resolved(*letters, topics=("hakuna.dead-letters",))[0] == ["hakuna.dead-letters"]
    topics, selection = resolved("orders.dead-letters/0/5", topics=("orders.placed",))
    assert topics == ["orders.dead-letters"]
    assert takes(selection, "orders.dead-letters", "orders.placed")
    assert not takes(selection, "orders.dead-letters", "orders.refunded")
    with pytest.raises(click.UsageError, match="none of the named letters is on a topic of --topic"):
        resolved("orders.dead-letters/0/5", topics=("hako.dead-letters",))


def test_a_topic_of_letters_beside_a_source_is_meant_with_all_its_letters() -> None:
    topics, selection = resolved(topics=("hakuna.dead-letters", "orders.placed"))
    assert topics == ["hakuna.dead-letters", "orders.dead-letters"]
    assert takes(selection, "hakuna.dead-letters", "hakuna.outbox")
    assert takes(selection, "orders.dead-letters", "orders.placed")
    assert not takes(selection, "orders.dead-letters", "orders.refunded")
    whole = resolved(topics=("orders.dead-letters", "orders.placed"))[1]
    assert takes(whole, "orders.dead-letters", "orders.refunded")
    assert resolved(topics=("orders.dead-letters", "hako.dead-letters"))[1].origins == ()


@pytest.mark.parametrize("source", ["orders.placed", "catalog.items"])
def test_a_purge_by_source_is_refused_since_it_would_delete_the_letters_of_others(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.cli.dead_letters.desk_of", lambda _file: desk())
    said = told(1, "dead-letters", "purge", "--older-than", "1d", "--topic", source)
    assert "a purge is of a whole dead-letter topic: name" in said

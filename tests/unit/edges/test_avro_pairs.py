"""The judge and the reader agree over all that shops write: what is accepted is read, what is refused is refused."""

from __future__ import annotations

import json

import pytest

from processor.edges.avro_plan import judged, plan_of
from processor.edges.avro_reader import Refused, compiled
from processor.edges.avro_schema import NotAvro, parse
from processor.edges.avro_steps import What
from tests.support.avro_writer import encoded
from tests.unit.edges.avro_pairs import LETTER, NOT_AVRO, PAIRS, REFUSED, Pair


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_what_the_judge_says_is_what_the_reader_does(pair: Pair) -> None:
    plan = judged(json.dumps(pair.reader), json.dumps(pair.writer))
    if pair.read is NOT_AVRO:
        assert plan.refusal is not None
        assert plan.refusal.startswith("it is not an Avro schema")
        with pytest.raises(NotAvro):
            parse(json.dumps(pair.writer))
        return
    writer = parse(json.dumps(pair.writer))
    value = encoded(writer, pair.written)
    read = compiled(plan_of(parse(json.dumps(pair.reader)), writer), writer)
    if pair.read is REFUSED:
        assert plan.refusal is not None
        assert plan.refusal.startswith(f"field {pair.field}: ")
        assert len(plan.refusal) <= 500
        with pytest.raises(Refused) as refused:
            read(value, 0)
        assert str(refused.value) == plan.refusal
    elif pair.read is LETTER:
        assert plan.refusal is None
        with pytest.raises(ValueError):  # noqa: PT011  # a branch, a symbol, or a text that is none
            read(value, 0)
    else:
        assert plan.refusal is None, plan.refusal
        assert read(value, 0) == pair.read


@pytest.mark.parametrize("name", ["t12-nullable-null", "u7-brand-nullable-null", "u9-customer-nullable-null"])
def test_where_a_null_becomes_a_dead_letter_a_note_says_so(name: str) -> None:
    (pair,) = [one for one in PAIRS if one.name == name]
    notes = [
        one for one in judged(json.dumps(pair.reader), json.dumps(pair.writer)).findings if one.what is What.PARTLY
    ]
    assert [(one.path, one.why.split(":")[0]) for one in notes] == [
        (pair.field, "a value of null becomes a dead letter")
    ]


@pytest.mark.parametrize("name", ["n10-ConnectDefault", "n3-PlacedOrder"])
def test_what_is_said_of_a_record_of_another_name_holds_no_schema(name: str) -> None:
    (pair,) = [one for one in PAIRS if one.name == name]
    findings = judged(json.dumps(pair.reader), json.dumps(pair.writer)).findings
    assert findings
    assert {finding.what for finding in findings} == {What.NAMED}
    assert all("{" not in finding.why and len(finding.why) < 120 for finding in findings)

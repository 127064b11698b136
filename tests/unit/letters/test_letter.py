"""The letter keeps what it was given, byte for byte, and says why, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processor.letters.letter import OURS, LetterHead, Refusal, letter_head, letter_headers
from processor.records import Headers, Position, Reason, Record, Stage

ANY_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "traceparent", "entry-id", "__dlq.errors.other", "ü"]), st.none() | st.binary(max_size=9)
    ),
    max_size=6,
)
ANY_REFUSAL = st.builds(
    Refusal,
    stage=st.sampled_from(Stage),
    reason=st.sampled_from([*Reason, "http_404"]).map(str),
    message=st.text(max_size=20),
    group=st.text(max_size=20),
    failed_ms=st.integers(0, 2**41),
    exception=st.text(max_size=9),
    delivery_count=st.integers(0, 99),
    first_failed_ms=st.none() | st.integers(0, 2**41),
    http_status=st.none() | st.integers(100, 599),
    error_code=st.none() | st.text(max_size=9),
    validation_errors=st.lists(st.text(max_size=9), max_size=3).map(tuple),
)


def record(headers: Headers, offset: int = 7, topic: str = "hakuna.outbox") -> Record:
    return Record(topic, 3, offset, 1_000, b"ord-1", b"\x00{}", headers)


def refusal(reason: str = "http_422", **others: object) -> Refusal:
    base = {"stage": Stage.SEND, "reason": reason, "message": "refused", "group": "g", "failed_ms": 5_000}
    return Refusal(**{**base, **others})  # type: ignore[arg-type]  # a test's shorthand


def head(headers: Headers) -> LetterHead:
    found = letter_head(record(headers))
    assert found is not None
    return found


def test_an_answer_without_validation_errors_is_an_empty_array_and_no_answer_is_no_header() -> None:
    answered = dict(letter_headers(record([]), refusal(http_status=422, error_code="product_unsupported")))
    assert answered["__dlq.errors.http.validation.errors"] == b"[]"
    assert "__dlq.errors.http.validation.errors" not in dict(letter_headers(record([]), refusal()))


@given(ANY_HEADERS, ANY_REFUSAL)
def test_a_letter_says_what_it_was_told_and_keeps_all_other_headers(headers: Headers, told: Refusal) -> None:
    written = letter_headers(record(headers), told)
    assert [header for header in written if header[0] not in OURS] == headers
    ours = [name for name, _ in written if name in OURS]
    assert len(ours) == len(set(ours))
    said = head(written)
    assert said.origin == Position("hakuna.outbox", 3, 7)
    assert (said.stage, said.reason, said.last_failed_ms) == (told.stage, told.reason, told.failed_ms)
    assert said.first_failed_ms == (told.failed_ms if told.first_failed_ms is None else told.first_failed_ms)
    assert said.delivery_count == (0 if told.reason == Reason.HELD else told.delivery_count)
    assert (said.http_status, said.validation_errors) == (told.http_status, told.validation_errors)
    assert (said.message, said.group, said.exception) == (told.message, told.group, told.exception)


@given(ANY_HEADERS, st.lists(ANY_REFUSAL, min_size=2, max_size=5))
def test_a_letter_that_fails_again_keeps_its_origin_and_first_time_and_tells_of_the_last(
    headers: Headers, rounds: list[Refusal]
) -> None:
    written = headers
    for number, told in enumerate(rounds):
        written = letter_headers(record(written, offset=7 + number, topic=f"t{number}"), told)
    said = head(written)
    first, last = rounds[0], rounds[-1]
    assert said.origin == Position("t0", 3, 7)
    assert said.first_failed_ms == (first.failed_ms if first.first_failed_ms is None else first.first_failed_ms)
    assert (said.reason, said.last_failed_ms) == (last.reason, last.failed_ms)
    assert (said.http_status, said.error_code is None) == (last.http_status, last.error_code is None)
    assert len(written) == len({name for name, _ in written if name in OURS}) + len(headers)


def test_requests_are_counted_over_all_rounds_and_held_made_none() -> None:
    once = letter_headers(record([]), refusal(delivery_count=3))
    assert head(letter_headers(record(once), refusal(delivery_count=2))).delivery_count == 5
    assert head(letter_headers(record(once), refusal(Reason.HELD))).delivery_count == 0


def test_a_message_is_no_longer_than_a_header_shall_be() -> None:
    said = head(letter_headers(record([]), refusal(message="field zip: " + "x" * 10_000))).message
    assert len(said) == 500
    assert said.startswith("field zip: ")


def test_a_lone_surrogate_in_an_answer_becomes_a_question_mark() -> None:
    said = head(letter_headers(record([]), refusal(error_code="a\ud800", validation_errors=("\ud800",))))
    assert (said.error_code, said.validation_errors) == ("a?", ("?",))


def test_a_doubled_or_broken_origin_is_not_believed() -> None:
    broken: Headers = [("__dlq.errors.topic", b"t"), ("__dlq.errors.partition", b"x"), ("__dlq.errors.offset", b"1")]
    said = head(letter_headers(record(broken), refusal()))
    assert said.origin == Position("hakuna.outbox", 3, 7)
    twice = letter_headers(record([]), refusal())
    assert head(letter_headers(record([*twice, *twice]), refusal())).origin == Position("hakuna.outbox", 3, 7)


def test_a_record_without_our_headers_is_no_letter() -> None:
    assert letter_head(record([])) is None
    assert letter_head(record([("__dlq.errors.topic", b"t")])) is None

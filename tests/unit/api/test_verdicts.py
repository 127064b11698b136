"""What an answer means: the table, and that it is total."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.api.verdicts import (
    NO_HEADERS,
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    NoAnswer,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    is_kept,
    unless_final,
)
from processor.hakuna import answers
from processor.records import Reason

NOW_MS = 1_700_000_000_000


def verdict(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Verdict:
    return answers.verdict(Answer(status, headers or NO_HEADERS, body), NOW_MS)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html><title>No</title></html>", b'{"error": {"error_code": "c"}}'])
def test_every_status_has_the_verdict_of_the_table(body: bytes) -> None:
    html, envelope = body.startswith(b"<"), b"error_code" in body
    for status in range(100, 600):
        found = verdict(status, body)
        if 200 <= status < 300:
            assert isinstance(found, Doubted) if html or envelope else found == Delivered(status)
        elif status == 401:
            assert isinstance(found, KeyRefused)
        elif status == 403:
            assert isinstance(found, KeyRefused if envelope else Denied)
        elif status in (408, 409, 425, 429) or status >= 500 or status < 200:
            assert isinstance(found, RetryLater)
            assert found.pauses_destination == (status == 429)
            assert found.after_s is None
        elif status < 400 or status in (407, 421) or body in (b"", b"<html><title>No</title></html>"):
            assert isinstance(found, Doubted)
            assert (found.whole, found.rejected.reason) == (True, f"http_{status}")
        else:
            assert isinstance(found, Rejected)
            assert found.reason == f"http_{status}"
            assert found.http_status == status


@pytest.mark.parametrize("status", [0, 99, 600, 700, 999])
def test_what_is_no_http_status_counts_as_a_connection_that_broke(status: int) -> None:
    assert verdict(status) == RetryLater(RetryReason.CONNECTION, status)


@pytest.mark.parametrize(("silence", "reason"), [(NoAnswer.TIMEOUT, "timeout"), (NoAnswer.CONNECTION, "connection")])
def test_no_answer_is_retried_and_pauses_nobody_else(silence: NoAnswer, reason: str) -> None:
    assert answers.verdict(silence, NOW_MS) == RetryLater(RetryReason(reason))


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"null", b'{"event_id": 7}', b"\xff\xfe", b"{" * 5000, b'{"event_id": "x']
)
def test_accepted_is_accepted_whatever_the_body(body: bytes) -> None:
    assert verdict(200, body) == Delivered(200)


def test_the_event_id_is_read_where_there_is_one() -> None:
    assert verdict(201, b'{"event_id": "evt-1", "more": [1]}') == Delivered(201, "evt-1")


ERROR = {"error_code": "invalid_request_parameters", "validation_errors": ["zip is missing", "currency is unknown"]}


@pytest.mark.parametrize("body", [{"error": ERROR}, ERROR])
def test_hakunas_error_is_read_with_and_without_its_outer_braces(body: dict[str, object]) -> None:
    found = verdict(422, json.dumps(body).encode())
    assert isinstance(found, Rejected)
    assert found.reason == Reason.INVALID_REQUEST_PARAMETERS
    assert found.error_code == "invalid_request_parameters"
    assert found.validation_errors == ("zip is missing", "currency is unknown")
    assert "zip" not in found.message


def test_an_unknown_error_code_is_kept_and_is_no_reason() -> None:
    found = verdict(400, b'{"error": {"error_code": "brand_new"}}')
    assert isinstance(found, Rejected)
    assert (found.reason, found.error_code) == ("http_400", "brand_new")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad Gateway</html>",
        b"",
        b"null",
        b'{"error": "text"}',
        b'{"error": {"error_code": 5}}',
        b'{"error": []}',
    ],
)
def test_another_shape_of_body_gives_the_status_as_the_reason(body: bytes) -> None:
    found = verdict(404, body)
    if isinstance(found, Doubted):  # no JSON
        found = found.rejected
    assert isinstance(found, Rejected)
    assert (found.reason, found.error_code) == ("http_404", None)


def test_validation_errors_that_are_no_texts_are_written_as_json_and_bounded() -> None:
    errors = [{"field": "zip"}, "x" * 10_000, *range(200)]
    found = verdict(422, json.dumps({"error": {"error_code": "c", "validation_errors": errors}}).encode())
    assert isinstance(found, Rejected)
    assert found.validation_errors[0] == '{"field":"zip"}'
    assert len(found.validation_errors) == 50
    assert max(len(text) for text in found.validation_errors) == 500


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_retry_after_pauses_the_destination_and_wins(status: int) -> None:
    headers = {"retry-after": "7", "ratelimit": '"d";r=0;t=99'}
    found = verdict(status, headers=headers)
    assert isinstance(found, RetryLater)
    assert (found.after_s, found.pauses_destination) == (7.0, True)


def test_a_conflict_with_retry_after_speaks_of_its_own_entry_only() -> None:
    found = verdict(409, headers={"retry-after": "7"})
    assert isinstance(found, RetryLater)
    assert (found.reason, found.status, found.after_s) == (RetryReason.IN_PROGRESS, 409, 7.0)
    assert not found.pauses_destination


def test_rate_limit_headers_win_over_our_own_backoff() -> None:
    assert verdict(429, headers={"ratelimit": '"d";r=0;t=9'}) == RetryLater(RetryReason.THROTTLED, 429, 9.0, True)
    found = verdict(503, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"})
    assert found == RetryLater(RetryReason.SERVER_ERROR, 503, 9.0, False)


def test_an_accepted_request_that_was_the_last_of_the_quota_pauses_a_minute_at_most() -> None:
    assert verdict(200, headers={"ratelimit": '"d";r=0;t=9'}) == Delivered(200, None, 9.0)
    assert verdict(200, headers={"ratelimit": '"d";r=0;t=900'}) == Delivered(200, None, 60.0)
    assert verdict(200, headers={"ratelimit": '"d";r=1;t=9'}) == Delivered(200)


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": "60"}, {"retry-after-long": "60"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}],
)
def test_a_403_with_advice_to_wait_is_too_many_whatever_its_body(headers: dict[str, str]) -> None:
    for body in (b"", b"<html>Forbidden</html>", b'{"message": "API rate limit exceeded"}'):
        assert verdict(403, body, headers) == RetryLater(RetryReason.THROTTLED, 403, 60.0, True)


def test_a_403_whose_quota_has_something_left_speaks_of_something_else() -> None:
    headers = {"x-ratelimit-remaining": "57", "x-ratelimit-reset": "60"}
    assert isinstance(verdict(403, b"{}", headers), Denied)


@given(st.integers(100, 599), st.binary(max_size=200) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["error", "error_code", "validation_errors", "event_id", "message"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_body_raises_and_no_reason_is_out_of_the_closed_set(status: int, body: bytes) -> None:
    found = verdict(status, body)
    if isinstance(found, Denied | Doubted):
        found = found.rejected
    if isinstance(found, Rejected):
        assert found.reason in answers.ERROR_CODES or found.reason == f"http_{status}"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (408, RetryReason.TIMEOUT),
        (409, RetryReason.IN_PROGRESS),
        (425, RetryReason.TOO_EARLY),
        (429, RetryReason.THROTTLED),
        (500, RetryReason.SERVER_ERROR),
        (599, RetryReason.SERVER_ERROR),
        (199, RetryReason.CONNECTION),
    ],
)
def test_each_wait_says_why(status: int, reason: RetryReason) -> None:
    assert unless_final(Answer(status, NO_HEADERS, b""), NOW_MS) == RetryLater(reason, status, None, status == 429)


def test_a_moment_without_the_servers_clock_is_measured_by_ours() -> None:
    in_a_minute = "Tue, 14 Nov 2023 22:14:20 GMT"
    assert verdict(503, headers={"retry-after": in_a_minute}) == RetryLater(RetryReason.SERVER_ERROR, 503, 60.0, True)
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_MS // 1000 + 9)}
    assert verdict(429, headers=reset) == RetryLater(RetryReason.THROTTLED, 429, 9.0, True)


def test_the_headers_that_are_read_are_kept_and_no_others() -> None:
    for name in ("content-type", "server", "location", "retry-after", "date", "x-ratelimit-reset"):
        assert is_kept(name)
    for name in ("set-cookie", "authorization", "x-request-id"):
        assert not is_kept(name)


def test_200_and_399_are_the_apis_own_to_read_and_400_and_499_as_well() -> None:
    for status in (200, 399, 400, 499):
        assert unless_final(Answer(status, {"retry-after": "5"}, b""), NOW_MS) is None
    assert unless_final(Answer(500, NO_HEADERS, b""), NOW_MS) == RetryLater(RetryReason.SERVER_ERROR, 500)

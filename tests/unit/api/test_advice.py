"""When a server says that it may be asked again, and when it is not believed."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.api.advice import WAIT_S_MAX, is_advice, quota_reset_s, retry_after_s

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT

NAMES = [
    "date",
    "retry-after",
    "retry-after-ms",
    "retry-after-long",
    "x-retry-in",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-rate-limit-retry-after-seconds",
    "x-ratelimit-remaining-long",
    "x-ratelimit-reset-long",
    "x-ratelimit-userremaining",
    "x-ratelimit-userreset",
    "x-ratelimit-reset-after",
    "x-ratelimit-requests-remaining",
]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:50", 30.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("31536000", WAIT_S_MAX),
        ("999999999999999999", WAIT_S_MAX),
        ("Tue, 14 Nov 2999 22:00:00 GMT", WAIT_S_MAX),
        ("Tue, 14 Nov 2023 22:13:50 UTC", 30.0),
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-14T23:13:50.000+01:00", 30.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("498.7ms", 0.4987),
        ("59.895", 59.895),
        ("30, 30", 30.0),
        ("5\n30", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT\nTue, 14 Nov 2023 22:13:30 GMT", 30.0),
        (str(NOW_MS // 1000 + 30), 30.0),
        (str(NOW_MS + 30_000), 30.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_absurd(text: str, seconds: float) -> None:
    assert retry_after_s({"retry-after": text}, NOW_MS) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e3", "12 s", "Tue, 99 Nov 2023 22:13:50 GMT", "٣", "9" * 2000])
def test_a_malformed_retry_after_is_as_good_as_none(text: str) -> None:
    assert retry_after_s({"retry-after": text}, NOW_MS) is None


def test_a_date_is_measured_from_the_answers_own_date() -> None:
    """The two clocks may differ: the server's is an hour ahead here."""
    headers = {"retry-after": "Tue, 14 Nov 2023 23:13:50 GMT", "date": "Tue, 14 Nov 2023 23:13:20 GMT"}
    assert retry_after_s(headers, NOW_MS) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": "default; r=0; t=30"}, 30.0),
        ({"ratelimit": '"burst";r=5;t=1, "daily";r=0;t=90'}, 90.0),
        ({"ratelimit": '"a";r=0;t=5,"b";r=0;t=50'}, 50.0),
        ({"ratelimit": '"a, b; c";r=0;t=5;pk=":YWJj:"'}, 5.0),
        ({"ratelimit": '!!!, "a";r=0;t=5'}, 5.0),
        ({"ratelimit": '"default";r=0', "ratelimit-policy": '"default";q=100;w=60'}, 60.0),
        ({"ratelimit": '"default";r=3;t=30'}, None),
        ({"ratelimit": '"default";t=30'}, None),
        ({"ratelimit": "limit=10, remaining=0, reset=12"}, 12.0),
        ({"ratelimit": "limit=10;w=60,remaining=0,reset=12;x"}, 12.0),
        ({"ratelimit": "limit=10, remaining=3, reset=12"}, None),
        ({"ratelimit": "limit=10, remaining=0"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_MS // 1000 + 12)}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_MS + 12_000)}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_MS // 1000 - 12)}, 0.0),
        ({"x-ratelimit-remaining": "4", "x-ratelimit-reset": "12"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "12"}, None),
        ({"ratelimit": '"default";r=0;t=30', "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 30.0),
        ({"ratelimit": '"a";r=0;t=5\n"b";r=0;t=50'}, 50.0),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining-long": "0", "x-ratelimit-reset-long": "60"}, 60.0),
        (
            {
                "x-ratelimit-remaining-short": "0",
                "x-ratelimit-reset-short": "1",
                "x-ratelimit-remaining-long": "7",
                "x-ratelimit-reset-long": "60",
            },
            1.0,
        ),
        ({"x-ratelimit-userremaining": "-1", "x-ratelimit-userreset": str(NOW_MS + 12_000)}, 12.0),
        ({"x-ratelimit-requests-remaining": "0", "x-ratelimit-requests-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0.4", "x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "3, 0", "x-ratelimit-reset": "1, 12"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1796040168.432806"}, WAIT_S_MAX),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2023-11-14T22:13:32Z"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Tue, 14 Nov 2023 22:13:32 UTC"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "1.47"}, 1.47),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-ms": "12000"}, 12.0),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset-milliseconds": str(NOW_MS + 12_000)}, 12.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12", "x-ratelimit-remaining": "5"}, 12.0),
    ],
)
def test_a_used_up_quota_says_when_it_is_there_again(headers: dict[str, str], seconds: float | None) -> None:
    said = quota_reset_s(headers, NOW_MS, refused=False)
    assert said == (None if seconds is None else pytest.approx(seconds))


def test_a_refusal_needs_no_remainder_to_mean_none() -> None:
    assert quota_reset_s({"x-ratelimit-reset": "12"}, NOW_MS, refused=True) == 12.0
    assert quota_reset_s({"x-ratelimit-reset": "12"}, NOW_MS, refused=False) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "500"}, 0.5),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after-long": "60"}, 60.0),
        ({"retry-after-short": "1", "retry-after-long": "60"}, 60.0),
        ({"x-rate-limit-retry-after-seconds": "9"}, 9.0),
        ({"x-retry-in": "498.7ms", "retry-after": "1"}, 1.0),
    ],
)
def test_what_is_named_like_retry_after_is_read_and_the_longest_counts(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers, NOW_MS) == pytest.approx(seconds)


@pytest.mark.parametrize("ahead_s", [-300, 0, 300])
@pytest.mark.parametrize("ms", [False, True])
def test_an_epoch_is_measured_from_the_answers_own_date(ahead_s: int, ms: bool) -> None:
    """The server's clock is minutes off, and the wait is the same."""
    at_s = NOW_MS // 1000 + ahead_s
    reset = (at_s + 30) * 1000 if ms else at_s + 30
    headers = {"date": formatdate(at_s, usegmt=True), "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
    assert quota_reset_s(headers, NOW_MS, refused=False) == 30.0


def test_a_refusal_by_a_quota_that_has_something_left_waits_for_the_shortest() -> None:
    """The request cost more than what remains."""
    headers = {"ratelimit": '"burst";r=3;t=5, "daily";r=900;t=3000'}
    assert quota_reset_s(headers, NOW_MS, refused=True) == 5.0
    assert quota_reset_s(headers, NOW_MS, refused=False) is None


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_kept_of_an_answer(name: str) -> None:
    assert is_advice(name)


@pytest.mark.parametrize("name", ["content-length", "x-ratelimit-limit", "etag", "retry", "a" * 90 + "-retry-after"])
def test_what_is_not_read_is_not_kept(name: str) -> None:
    assert not is_advice(name)


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.text(max_size=60) | st.from_regex(r'"[a-z]*";r=[0-9]*;t=[0-9]*', fullmatch=True) | st.integers().map(str),
    ),
    st.booleans(),
)
def test_whatever_stands_in_the_headers_it_never_raises_and_stays_within_bounds(
    headers: dict[str, str], refused: bool
) -> None:
    for said in (retry_after_s(headers, NOW_MS), quota_reset_s(headers, NOW_MS, refused)):
        assert said is None or 0.0 <= said <= WAIT_S_MAX


def test_a_long_hostile_header_takes_no_time() -> None:
    """A pattern that tries every way to split it would take for ever."""
    assert quota_reset_s({"ratelimit": "a" + "; ;" * 330 + '"'}, NOW_MS, refused=False) is None

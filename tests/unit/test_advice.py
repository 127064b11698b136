"""When a server says that it may be asked again, and when it is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.verdicts import ADVICE_HEADERS, WAIT_S_MAX, quota_reset_s, retry_after_s

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


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
    ],
)
def test_a_used_up_quota_says_when_it_is_there_again(headers: dict[str, str], seconds: float | None) -> None:
    said = quota_reset_s(headers, NOW_MS, refused=False)
    assert said == (None if seconds is None else pytest.approx(seconds))


def test_a_refusal_needs_no_remainder_to_mean_none() -> None:
    assert quota_reset_s({"x-ratelimit-reset": "12"}, NOW_MS, refused=True) == 12.0
    assert quota_reset_s({"x-ratelimit-reset": "12"}, NOW_MS, refused=False) is None


@given(
    st.dictionaries(
        st.sampled_from(sorted(ADVICE_HEADERS)),
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

"""The watch: lag without progress is unready, then fatal, part by part."""

from __future__ import annotations

from processor.watch import FATAL_AFTER_S, UNREADY_AFTER_S, Progress, Watch, Work


def observed(watch: Watch, now_s: float, *, excused: bool = False, **parts: tuple[int, int]) -> Progress:
    work = {int(part[1:]): Work(lag, done) for part, (lag, done) in parts.items()}
    return watch.observe(work, excused, now_s)


def test_lag_without_progress_is_unready_and_then_dead() -> None:
    watch = Watch()
    assert observed(watch, 100, p0=(5, 10)) is Progress.FINE
    assert observed(watch, 100 + UNREADY_AFTER_S - 1, p0=(5, 10)) is Progress.FINE
    assert observed(watch, 100 + UNREADY_AFTER_S, p0=(7, 10)) is Progress.STALLED
    assert observed(watch, 100 + FATAL_AFTER_S, p0=(9, 10)) is Progress.DEAD
    assert watch.longest() == 0


def test_any_progress_begins_anew() -> None:
    watch = Watch()
    observed(watch, 0, p0=(5, 10))
    assert observed(watch, UNREADY_AFTER_S, p0=(5, 11)) is Progress.FINE
    assert observed(watch, 2 * UNREADY_AFTER_S - 1, p0=(5, 11)) is Progress.FINE
    assert observed(watch, 2 * UNREADY_AFTER_S, p0=(5, 11)) is Progress.STALLED
    assert observed(watch, 2 * UNREADY_AFTER_S + 1, p0=(5, 12)) is Progress.FINE


def test_nothing_to_do_is_no_standstill() -> None:
    watch = Watch()
    for now_s in range(0, 10_000, 50):
        assert observed(watch, now_s, p0=(0, 10)) is Progress.FINE
    assert observed(watch, 10_000, p0=(1, 10)) is Progress.FINE
    assert watch.observe({}, False, 20_000) is Progress.FINE


def test_a_standstill_with_a_known_reason_is_excused_and_begins_anew_after_it() -> None:
    watch = Watch()
    observed(watch, 0, p0=(5, 10))
    assert observed(watch, 1000, excused=True, p0=(5, 10)) is Progress.FINE
    assert observed(watch, 1001, p0=(5, 10)) is Progress.FINE
    assert observed(watch, 1001 + UNREADY_AFTER_S, p0=(5, 10)) is Progress.STALLED


def test_the_progress_of_others_hides_nobody() -> None:
    watch = Watch()
    for second in range(int(FATAL_AFTER_S)):
        assert observed(watch, second, p0=(5, second), p1=(1, 7)) is not Progress.DEAD
    assert observed(watch, FATAL_AFTER_S, p0=(5, 999), p1=(1, 7)) is Progress.DEAD
    assert watch.longest() == 1


def test_a_part_that_went_elsewhere_is_forgotten() -> None:
    watch = Watch()
    observed(watch, 0, p0=(5, 10))
    observed(watch, 100, p1=(5, 10))
    assert observed(watch, 130, p0=(5, 10), p1=(5, 10)) is Progress.FINE
    assert watch.longest() == 1

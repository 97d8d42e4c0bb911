"""Pace and forecast, by hand."""

import pytest

from annotate.statistics.pace import BREAK_SECONDS, RECENT_SECONDS, pace

NOW = 1_000_000_000.0


def test_breaks_are_not_work():
    # Ada: 0, 60, 120 s, then after a break 10 000, 10 040 s. Bo: one judgement. Three gaps of 60 + 60 + 40 = 160 s.
    times = [NOW - 20_000 + second for second in (0, 60, 120, 10_000, 10_040, 30)]
    found = pace(times, [0, 0, 0, 0, 0, 1], remaining=90, now=NOW)
    assert found.work_hours == pytest.approx(160 / 3600)
    assert found.per_person_hour == pytest.approx(3 / (160 / 3600))
    assert found.hours_left == pytest.approx(90 * (160 / 3600) / 3)


def test_a_gap_as_long_as_a_break_still_counts():
    found = pace([NOW - 5000, NOW - 5000 + BREAK_SECONDS], [0, 0], remaining=1, now=NOW)
    assert found.work_hours == pytest.approx(BREAK_SECONDS / 3600)
    assert pace([NOW - 5000, NOW - 4999 + BREAK_SECONDS], [0, 0], remaining=1, now=NOW).per_person_hour is None


def test_the_forecast_looks_at_the_last_seven_days():
    # Four labels in the last two days are two per day, so ten more take five days; older ones do not count.
    times = [NOW - RECENT_SECONDS - 5, NOW - 2 * 86400, NOW - 86400, NOW - 50, NOW - 20]
    assert pace(times, [0, 1, 2, 3, 4], remaining=10, now=NOW).days_left == pytest.approx(5)
    assert pace(times[:1], [0], remaining=10, now=NOW).days_left is None
    just_now = pace([NOW - 1, NOW - 1], [0, 1], remaining=48, now=NOW)
    assert just_now.days_left == pytest.approx(48 / (2 * 24))  # an hour is the shortest time that a pace is taken from


def test_nothing_left_needs_no_time():
    found = pace([NOW - 10], [0], remaining=0, now=NOW)
    assert (found.hours_left, found.days_left) == (0.0, 0.0)
    assert pace([], [], remaining=3, now=NOW).hours_left is None


@pytest.mark.parametrize(
    ("span", "width"), [(300 * 49, 300), (300 * 50, 900), (900 * 50, 3600), (86400 * 50, 7 * 86400)]
)
def test_bars_have_no_gaps_and_are_fewer_than_fifty(span, width):
    first = 86400.0 * 7 * 1000
    found = pace([first, first, first + span], [0, 1, 2], remaining=1, now=NOW)
    assert found.bucket_seconds == width
    assert found.starts == tuple(first + width * n for n in range(int(span // width) + 1))
    assert (found.counts[0], found.counts[-1], sum(found.counts)) == (2, 1, 3)


def test_no_judgement_no_bar():
    assert pace([], [], remaining=3, now=NOW).counts == ()

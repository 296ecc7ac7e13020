"""The promise: days, weeks and months of a campaign begin when its time zone says so, on every day of the year."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drops.membership import Limits, Membership, Period, Run, Scope, runs, scopes_from, scopes_text

zones = st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
moments = st.integers(1_704_067_200, 1_830_000_000).map(lambda at_s: datetime.fromtimestamp(at_s, UTC))  # 2024 to 2027
PERIODS = [Period.PER_DAY, Period.PER_WEEK, Period.PER_MONTH]


def by_calendar(period: Period, zone: str, at: datetime) -> date:
    """The first day of the period that a moment lies in, by the calendar alone."""
    day = at.astimezone(ZoneInfo(zone)).date()
    if period is Period.PER_WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.PER_MONTH else day


@given(st.sampled_from(PERIODS), zones, moments, st.integers(0, 400 * 86_400))
def test_two_moments_share_a_period_where_the_calendar_says_so(
    period: Period, zone: str, first: datetime, later_s: int
) -> None:
    later = first + timedelta(seconds=later_s)
    scope = Scope(period, 1, tuple(runs(period, zone, first, later)))
    since_ms, till_ms = scope.at(round(later.timestamp() * 1000))
    assert since_ms <= later.timestamp() * 1000 < till_ms
    begin, end = (datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in (since_ms, till_ms))
    expected = by_calendar(period, zone, later)
    assert by_calendar(period, zone, begin) == expected
    assert by_calendar(period, zone, begin - timedelta(milliseconds=1)) != expected
    assert by_calendar(period, zone, end - timedelta(milliseconds=1)) == expected
    assert by_calendar(period, zone, end) != expected


def test_days_without_a_change_of_clocks_are_one_run() -> None:
    first = datetime(2025, 9, 1, tzinfo=UTC)
    assert len(runs(Period.PER_DAY, "Asia/Shanghai", first, first + timedelta(days=300))) == 1
    # The day of 25 hours, and what comes after it.
    assert len(runs(Period.PER_DAY, "Europe/Berlin", first, first + timedelta(days=100))) == 3


@given(st.sampled_from(PERIODS), zones, moments)
def test_what_the_store_is_told_reads_back(period: Period, zone: str, first: datetime) -> None:
    limits = Limits(**{period.name.lower(): 2, "in_all": 7})
    membership = Membership(id="autumn", time_zone=zone, limits=limits, drops=("goose",))
    text = scopes_text(membership, first, first + timedelta(days=60))
    assert "|".join(str(scope) for scope in scopes_from(text)) == text
    assert [(scope.period, scope.limit) for scope in scopes_from(text)] == [(1, 7), (period, 2)]


def test_before_the_first_run_all_time_is_one_period() -> None:
    """The store's clock may be set back before the opening: then the limit counts whatever there is."""
    assert Scope(Period.PER_DAY, 1, (Run(1_000, 500),)).at(10) == (0, 1_000)


@pytest.mark.parametrize("zone", ["", "Asia/Nowhere", "../etc/passwd", "Asia/Shanghai\0", "/etc/localtime"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match=r"time zone|at least|string"):
        Membership(id="autumn", time_zone=zone, drops=("goose",))

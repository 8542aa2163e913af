"""The axis: AWS's hours, the reader's days, AWS's months, wherever the reader is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from billing.aws.window import HOUR
from billing.usage_page.periods import Grain, find, offered, places

NOW = datetime(2026, 11, 23, 12, 20, tzinfo=UTC)
SEOUL = ZoneInfo("Asia/Seoul")
# A day of 23 hours, one of 25, days that begin within an hour of AWS's, and days that begin at no midnight.
ZONES = ["UTC", "Asia/Seoul", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Asuncion"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "now", [NOW, datetime(2026, 3, 8, 23, 59, tzinfo=UTC), datetime(2026, 11, 1, 0, 0, tzinfo=UTC)]
)
def test_places_follow_each_other_without_a_gap_and_fill_the_period(zone, now):
    zone = ZoneInfo(zone)
    for period in offered(now=now, zone=zone):
        for grain in period.grains:
            axis = places(period, grain, now=now, zone=zone)
            assert (axis[0].start, axis[-1].end) == (period.start, period.end)
            assert all(one.end == other.start for one, other in pairwise(axis))
            assert len({place.key for place in axis}) == len(axis) <= 745
            assert sum(place.is_open for place in axis) == (1 if period.end > now else 0)


@pytest.mark.parametrize("zone", ZONES)
def test_an_hour_stands_in_the_day_in_which_it_begins(zone):
    zone = ZoneInfo(zone)
    period = find("31d", now=NOW, zone=zone)
    for place in places(period, Grain.DAY, now=NOW, zone=zone):
        hour = place.start
        while hour < place.end:
            assert hour.astimezone(zone).date() == place.key
            hour += HOUR


def test_the_day_on_which_clocks_change_is_a_place_of_its_own():
    zone = ZoneInfo("America/New_York")
    period = find("2026-03", now=NOW, zone=zone)
    lengths = {
        place.key: (place.end - place.start) / HOUR for place in places(period, Grain.DAY, now=NOW, zone=zone)
    }
    assert lengths[date(2026, 3, 8)] == 23
    assert lengths[date(2026, 3, 9)] == 24


def test_a_month_is_aws_s_and_cuts_the_reader_s_first_and_last_day():
    period = find("2026-10", now=NOW, zone=SEOUL)
    axis = places(period, Grain.DAY, now=NOW, zone=SEOUL)
    assert period.start == datetime(2026, 10, 1, tzinfo=UTC)
    assert (axis[0].key, axis[0].end - axis[0].start) == (date(2026, 10, 1), 15 * HOUR)
    assert (axis[-1].key, axis[-1].end - axis[-1].start) == (date(2026, 11, 1), 9 * HOUR)


def test_the_month_that_runs_ends_with_the_hour_that_runs():
    period = find("2026-11", now=NOW, zone=SEOUL)
    assert period.end == datetime(2026, 11, 23, 13, tzinfo=UTC)
    assert period.full_end == datetime(2026, 12, 1, tzinfo=UTC)


def test_last_days_are_the_reader_s_and_today_is_one_of_them():
    period = find("7d", now=datetime(2026, 11, 23, 16, 0, tzinfo=UTC), zone=SEOUL)
    assert period.start == datetime(2026, 11, 17, 15, tzinfo=UTC)  # the 18th begins in Seoul


def test_twelve_months_are_twelve_places():
    period = find("12m", now=NOW, zone=SEOUL)
    keys = [place.key for place in places(period, Grain.MONTH, now=NOW, zone=SEOUL)]
    assert (len(keys), keys[0], keys[-1]) == (
        12, datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["", "2026-12", "2026-13", "2026-00", "2015-12", "0000-01", "2026-1", "２０２６-01", "x" * 10_000],
)
def test_what_is_no_period_is_none(name):
    assert find(name, now=NOW, zone=UTC) is None


def test_thirteen_months_are_offered():
    names = [period.name for period in offered(now=NOW, zone=UTC)]
    assert names[:5] == ["24h", "7d", "31d", "12m", "2026-11"]
    assert (names[-1], len(names)) == ("2025-11", 17)
    assert timedelta(hours=24) == find("24h", now=NOW, zone=UTC).end - find("24h", now=NOW, zone=UTC).start

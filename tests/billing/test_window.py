"""When AWS takes a record."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from billing.aws.window import accepted_until, hour_of, month_of


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_the_hour_is_a_clock_hour_in_utc():
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert hour_of(utc(2026, 11, 23, 12, 59, 59, 999999)) == utc(2026, 11, 23, 12)
    assert hour_of(datetime(2026, 11, 23, 18, 10, tzinfo=kathmandu)) == utc(2026, 11, 23, 12)


def test_a_month_begins_at_midnight_utc():
    tokyo = timezone(timedelta(hours=9))
    assert month_of(datetime(2026, 12, 1, 8, 59, tzinfo=tokyo)) == utc(2026, 11, 1)
    assert month_of(datetime(2026, 12, 1, 9, 0, tzinfo=tokyo)) == utc(2026, 12, 1)


def test_a_record_is_taken_for_twenty_four_hours():
    assert accepted_until(utc(2026, 11, 23, 12), closes_at=None) == utc(2026, 11, 24, 12)


@pytest.mark.parametrize(
    ("hour", "until"),
    [
        (utc(2026, 11, 30, 5), utc(2026, 12, 1, 5)),  # older than the cut-off already
        (utc(2026, 11, 30, 6), utc(2026, 12, 1, 6)),
        (utc(2026, 11, 30, 23), utc(2026, 12, 1, 6)),
        (utc(2026, 12, 1, 0), utc(2026, 12, 2, 0)),  # the new month is not cut off
        (utc(2026, 12, 31, 23), utc(2027, 1, 1, 6)),
        (utc(2027, 1, 31, 20), utc(2027, 2, 1, 6)),
        (utc(2028, 2, 28, 23), utc(2028, 2, 29, 23)),  # a leap year goes on
        (utc(2028, 2, 29, 23), utc(2028, 3, 1, 6)),
        (utc(2027, 2, 28, 23), utc(2027, 3, 1, 6)),
    ],
)
def test_last_month_is_taken_until_six_on_the_first(hour, until):
    assert accepted_until(hour, closes_at=None) == until


def test_the_end_of_the_agreement_comes_before_the_end_of_the_window():
    closes_at = utc(2026, 11, 23, 13, 31)
    assert accepted_until(utc(2026, 11, 23, 12), closes_at=closes_at) == closes_at
    assert accepted_until(utc(2026, 11, 22, 13), closes_at=closes_at) == utc(2026, 11, 23, 13)

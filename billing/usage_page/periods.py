"""Periods of usage, and the places on their axis: AWS's hours, the reader's days, AWS's months.

AWS counts hours and months in UTC. A day is the reader's own: an hour belongs to the day in which it begins.
Pure: no database, no clock of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from billing.aws.window import HOUR, accepted_until, hour_of, month_of

# Metering did not exist before.
_FIRST_YEAR = 2016
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_MONTHS_OFFERED = 13


class Grain(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


Key = datetime | date


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` to ``end``, the end excluded: whole hours of AWS's."""

    name: str  # in an address
    label: str
    start: datetime
    end: datetime
    grains: tuple[Grain, ...]  # by which it can be told; the first is the usual one

    @property
    def is_month(self) -> bool:
        return _MONTH.fullmatch(self.name) is not None

    @property
    def full_end(self) -> datetime:
        """Of a month that still runs, when it will be over."""
        return _next_month(self.start) if self.is_month else self.end


@dataclass(frozen=True, slots=True)
class Place:
    """One hour, day or month on the axis."""

    key: Key  # as the database groups by it
    start: datetime
    end: datetime
    is_open: bool  # it goes on
    is_over: bool  # AWS takes no more usage of it


_BY_HOUR_TOO = (Grain.DAY, Grain.HOUR)
# The usual period of each grain.
USUAL = {Grain.HOUR: "24h", Grain.DAY: "31d", Grain.MONTH: "12m"}


def find(name: str, *, now: datetime, zone: tzinfo) -> Period | None:
    """The period of that name: 24h, 7d, 31d, 12m or a month as 2026-11. None: there is none, or not yet."""
    end = hour_of(now) + HOUR
    match name:
        case "24h":
            return Period(name, _("Last 24 hours"), end - 24 * HOUR, end, (Grain.HOUR,))
        case "7d":
            return Period(name, _("Last 7 days"), _days_ago(6, now, zone), end, _BY_HOUR_TOO)
        case "31d":
            return Period(name, _("Last 31 days"), _days_ago(30, now, zone), end, _BY_HOUR_TOO)
        case "12m":
            start = _months_before(month_of(now), 11)
            return Period(name, _("Last 12 months"), start, end, (Grain.MONTH, Grain.DAY))
    return _month(name, now=now)


def offered(*, now: datetime, zone: tzinfo) -> list[Period]:
    """What one can choose without writing an address."""
    this = month_of(now)
    months = (_months_before(this, back) for back in range(_MONTHS_OFFERED))
    names = ["24h", "7d", "31d", "12m", *(f"{month:%Y-%m}" for month in months)]
    found = (find(name, now=now, zone=zone) for name in names)
    return [period for period in found if period is not None]


def places(period: Period, grain: Grain, *, now: datetime, zone: tzinfo) -> list[Place]:
    """Every place of the period in order, also those without usage; the first and the last may be cut."""
    following: dict[Grain, Callable[[datetime], tuple[Key, datetime]]] = {
        Grain.HOUR: lambda start: (start, start + HOUR),
        Grain.DAY: lambda start: _day(start, zone),
        Grain.MONTH: lambda start: (month_of(start), _next_month(start)),
    }
    return list(_walk(period, following[grain], now=now))


def _walk(
    period: Period, following: Callable[[datetime], tuple[Key, datetime]], *, now: datetime
) -> Iterator[Place]:
    start = period.start
    while start < period.end:
        key, following_start = following(start)
        end = min(following_start, period.end)
        is_over = now >= accepted_until(end - HOUR, closes_at=None)
        yield Place(key, start, end, is_open=start <= now < end, is_over=is_over)
        start = end


def _day(start: datetime, zone: tzinfo) -> tuple[date, datetime]:
    """The reader's day to which the hour belongs, and the first hour of the next."""
    day = start.astimezone(zone).date()
    return day, _first_hour_of(day + timedelta(days=1), zone)


def _first_hour_of(day: date, zone: tzinfo) -> datetime:
    """The first hour that begins on that day: in some zones days begin within an hour of AWS's."""
    midnight = datetime.combine(day, time.min, zone).astimezone(UTC)
    hour = hour_of(midnight)
    return hour if hour == midnight else hour + HOUR


def _days_ago(days: int, now: datetime, zone: tzinfo) -> datetime:
    return _first_hour_of(now.astimezone(zone).date() - timedelta(days=days), zone)


def _month(name: str, *, now: datetime) -> Period | None:
    matched = _MONTH.fullmatch(name)
    if matched is None or int(matched[1]) < _FIRST_YEAR:
        return None
    start = datetime(int(matched[1]), int(matched[2]), 1, tzinfo=UTC)
    if start > now:
        return None
    label = date_format(start, "YEAR_MONTH_FORMAT")
    return Period(name, label, start, min(_next_month(start), hour_of(now) + HOUR), _BY_HOUR_TOO)


def _next_month(instant: datetime) -> datetime:
    return month_of(month_of(instant) + timedelta(days=32))


def _months_before(month: datetime, count: int) -> datetime:
    for _each in range(count):
        month = month_of(month - timedelta(days=1))
    return month

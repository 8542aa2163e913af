"""Quantities over time as bars: by hour, by day or by month, whichever tells a few dozen bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from billing.simulator.invoice import plain

MOST_HOURS = 72
MOST_DAYS = 92
MOST_MONTHS = 60
_FEWEST_PLACES = 12
"""One lonely bar should not fill the page."""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    quantity: str
    x: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Drawn in a box of ``places`` by 100; the words stand beside it, so that they keep their size."""

    unit: str
    places: int
    highest: str
    bars: tuple[Bar, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    unit: str
    start: Callable[[datetime], datetime]
    following: Callable[[datetime], datetime]
    form: str
    most: int


def _next_month(moment: datetime) -> datetime:
    return (moment.replace(day=28) + timedelta(days=4)).replace(day=1)


_SCALES = (
    _Scale(
        "hour", lambda hour: hour, lambda hour: hour + timedelta(hours=1), "%Y-%m-%d %H:00 UTC", MOST_HOURS
    ),
    _Scale(
        "day", lambda hour: hour.replace(hour=0), lambda day: day + timedelta(days=1), "%Y-%m-%d", MOST_DAYS
    ),
    _Scale("month", lambda hour: hour.replace(day=1, hour=0), _next_month, "%Y-%m", MOST_MONTHS),
)


def chart(by_hour: Mapping[datetime, Decimal]) -> Chart | None:
    """On the finest scale on which everything fits; of too many months the last ones. None without data."""
    if not by_hour:
        return None
    for scale in _SCALES:
        places = _places(scale, min(by_hour), max(by_hour))
        if len(places) <= scale.most:
            break
    is_cut = len(places) > scale.most
    places = places[-scale.most :]
    sums = dict.fromkeys(places, Decimal(0))
    for hour, quantity in by_hour.items():
        place = scale.start(hour)
        if place in sums:
            sums[place] += quantity
    highest = max(sums.values())
    bars = tuple(
        _bar(place.strftime(scale.form), quantity, number, highest)
        for number, (place, quantity) in enumerate(sums.items())
    )
    return Chart(scale.unit, max(len(bars), _FEWEST_PLACES), plain(highest), bars, is_cut)


def _places(scale: _Scale, first: datetime, last: datetime) -> list[datetime]:
    """Each place on the axis, also those without usage; stops when there are clearly too many."""
    end = scale.start(last)
    if scale.unit != "month" and end - scale.start(first) > timedelta(days=MOST_DAYS + 1):
        return [end] * (scale.most + 1)
    places = [scale.start(first)]
    while places[-1] < end:
        places.append(scale.following(places[-1]))
    return places


def _bar(label: str, quantity: Decimal, number: int, highest: Decimal) -> Bar:
    height = float(quantity / highest * 100) if highest else 0.0
    if quantity:
        height = max(height, 1.0)
    return Bar(label, plain(quantity), f"{number + 0.1:.1f}", f"{100 - height:.2f}", f"{height:.2f}")

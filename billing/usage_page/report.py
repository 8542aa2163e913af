"""What an organization used of one dimension in one period, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from billing.aws.window import HOUR, hour_of
from billing.figures import Figures
from billing.tenures import Tenures
from billing.usage_page import periods, sums, words
from billing.usage_page.choice import Choice
from billing.usage_page.periods import Key, Place
from billing.usage_page.sums import MOVED, Meter, Row
from billing.usage_page.tags import Shares, shares
from billing.usage_page.words import Line


@dataclass(frozen=True, slots=True)
class Report:
    choice: Choice
    total: Figures  # of the period
    places: list[tuple[Place, Figures]]  # in order, those without usage too
    meters: list[tuple[Meter, Figures]]  # each dimension's period, whatever was chosen
    waiting: list[Line]
    checked: list[Line]
    not_billed: list[Line]
    tags: Shares | None

    @property
    def is_final(self) -> bool:
        """Whether nothing of what AWS bills of it can change any more."""
        return self.total.is_settled and all(place.is_over for place, _ in self.places)

    @property
    def is_checked(self) -> bool:
        return any(figures.checked for _, figures in self.meters)


def read(choice: Choice, meters: Sequence[Meter], tenures: Tenures, *, now: datetime, zone: tzinfo) -> Report:
    period, grain = choice.period, choice.grain
    totals: dict[int, Figures] = defaultdict(Figures)
    by_place: dict[Key, Figures] = defaultdict(Figures)
    agreements = [choice.purchase.pk] if choice.purchase else _all_of(meters)
    late_before = hour_of(now) - HOUR
    rows = sums.by_place(agreements, tenures, period, grain, zone=zone, late_before=late_before)
    for row in rows:
        _count(row, totals[row.dimension])
        if row.dimension == choice.meter.pk:
            _count(row, by_place[row.place])
    total = totals[choice.meter.pk]
    places = periods.places(period, grain, now=now, zone=zone)
    return Report(
        choice,
        total,
        [(place, by_place[place.key]) for place in places],
        [(meter, totals[meter.pk]) for meter in meters if _has(meter, choice)],
        words.waiting(total),
        words.checked(total),
        words.not_billed(total),
        shares(choice.agreements, tenures, choice.meter.pk, period, total),
    )


def _count(row: Row, figures: Figures) -> None:
    if row.state == MOVED:
        figures.moved += row.late
        return
    figures.add(row.state, used=row.used, included=row.included, quantity=row.quantity)
    figures.late += row.late


def _all_of(meters: Sequence[Meter]) -> list[int]:
    return sorted({purchase.pk for meter in meters for purchase in meter.purchases})


def _has(meter: Meter, choice: Choice) -> bool:
    return choice.purchase is None or choice.purchase in meter.purchases

"""A month of the ledger in figures: recorded = included + billed by state + open + set aside.

Of a closed hour AWS's hour counts, in which it bills; of other usage the hour in which it occurred. Months
and days are AWS's: UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate, TruncHour

from billing.models import Dimension, MeteringRecord, UsageArchiveTotal, UsageEvent

_DAY = timedelta(days=1)

Group = tuple[Any, ...]


@dataclass(frozen=True, slots=True, order=True)
class Month:
    year: int
    number: int

    @classmethod
    def of(cls, instant: datetime) -> Month:
        at = instant.astimezone(UTC)
        return cls(at.year, at.month)

    @classmethod
    def read(cls, text: str) -> Month:
        """2026-11. Raises ValueError."""
        if len(text) != 7:
            raise ValueError(text)
        first = date.fromisoformat(f"{text}-01")
        if not 2000 <= first.year < 9999:
            raise ValueError(text)
        return cls(first.year, first.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return self.next.start

    @property
    def next(self) -> Month:
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def previous(self) -> Month:
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1)

    @property
    def days(self) -> list[date]:
        length = (self.end - self.start).days
        return [(self.start + number * _DAY).date() for number in range(length)]


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: a month, or a day of it; of a product, a purchase or some of them, a dimension."""

    month: Month
    product: int | None = None
    agreement: int | None = None
    dimension: int | None = None
    day: date | None = None
    among: tuple[int, ...] | None = None  # purchases; (): what is no purchase's of ours

    @property
    def since(self) -> datetime:
        return self.month.start if self.day is None else datetime.combine(self.day, time(), UTC)

    @property
    def until(self) -> datetime:
        return self.month.end if self.day is None else self.since + _DAY

    def of(self, **parts: Any) -> Scope:
        return replace(self, **parts)

    def rows(self, column: str) -> Q:
        """The same for a model with ``agreement`` and ``dimension``, in the time of ``column``."""
        return self._rows(Q((f"{column}__gte", self.since), (f"{column}__lt", self.until)))

    def of_days(self, column: str) -> Q:
        """The same where ``column`` is a day."""
        return self._rows(Q((f"{column}__gte", self.since.date()), (f"{column}__lt", self.until.date())))

    def _rows(self, found: Q) -> Q:
        if self.agreement is not None:
            found &= Q(agreement=self.agreement)
        if self.among is not None:
            found &= Q(agreement__in=self.among)
        if self.dimension is not None:
            found &= Q(dimension=self.dimension)
        elif self.product is not None:
            # Through its few dimensions, as the planner knows how many rows each has.
            of_it = Dimension.objects.filter(product=self.product).order_by().values("pk")
            found &= Q(dimension__in=of_it)
        return found


@dataclass(slots=True)
class Figures:
    """In millionths. ``by_state``: what is to be billed, of records that are not void."""

    recorded: int = 0
    included: int = 0
    by_state: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    open: int = 0
    aside: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by disposition
    records: int = 0

    @property
    def metered(self) -> int:
        return sum(self.by_state.values())

    @property
    def accepted(self) -> int:
        return self.by_state.get("accepted", 0)

    @property
    def on_the_way(self) -> int:
        return sum(self.by_state.get(state, 0) for state in ("due", "in_doubt", "waiting", "held"))

    @property
    def parts(self) -> int:
        """All that recorded use has become."""
        return self.included + self.metered + self.open + sum(self.aside.values())

    @property
    def is_final(self) -> bool:
        return not self.open and not self.on_the_way

    def add(self, other: Figures) -> None:
        self.recorded += other.recorded
        self.included += other.included
        self.open += other.open
        self.records += other.records
        for state, amount in other.by_state.items():
            self.by_state[state] += amount
        for disposition, amount in other.aside.items():
            self.aside[disposition] += amount


def read(scope: Scope, *by: str) -> dict[Group, Figures]:
    """The figures by ``agreement``, ``dimension``, ``day``, ``hour``: those that have any."""
    found: dict[Group, Figures] = defaultdict(Figures)
    records = MeteringRecord.objects.filter(scope.rows("hour")).exclude(state="void").order_by()
    for *group, state, used, included, quantity in records.values_list(
        *_columns(by, "hour"), "state"
    ).annotate(all_used=Sum("used"), all_included=Sum("included"), all_billed=Sum("quantity")):
        figures = found[tuple(group)]
        figures.recorded += _whole(used)
        figures.included += _whole(included)
        figures.by_state[state] += _whole(quantity)
        figures.records += 1
    events = UsageEvent.objects.filter(scope.rows("occurred_at")).order_by()
    # Each has its own small index: no month of billed events is read.
    waiting, aside = (
        rows.values_list(*_columns(by, "occurred_at"), "disposition").annotate(all_used=Sum("quantity"))
        for rows in (
            events.filter(metering_record=None, disposition="billable"),
            events.exclude(disposition="billable"),
        )
    )
    in_none = [waiting, aside]
    if "hour" not in by:
        # Archived use that is in no record. In which hour of its day it was used is not known any more.
        in_none.append(_archived(scope, by, ~Q(disposition="billable"), "disposition"))
    for *group, disposition, quantity in in_none[0].union(*in_none[1:], all=True).order_by():
        figures = found[tuple(group)]
        figures.recorded += _whole(quantity)
        if disposition == "billable":
            figures.open += _whole(quantity)
        else:
            figures.aside[disposition] += _whole(quantity)
    return found


def counted(scope: Scope, *by: str) -> dict[Group, int]:
    """What was recorded, from the events themselves: the second opinion on ``Figures.recorded``.

    By something: all of it in one row would be no group.
    """
    found: dict[Group, int] = defaultdict(int)
    in_records, in_none = (
        rows.order_by().values_list(*_columns(by, instant)).annotate(all_used=Sum("quantity"))
        for rows, instant in (
            (UsageEvent.objects.filter(scope.rows("metering_record__hour")), "metering_record__hour"),
            (UsageEvent.objects.filter(scope.rows("occurred_at"), metering_record=None), "occurred_at"),
        )
    )
    for *group, quantity in in_records.union(in_none, _archived(scope, by, Q()), all=True).order_by():
        found[tuple(group)] += _whole(quantity)
    return found


def _archived(scope: Scope, by: Sequence[str], which: Q, *more: str) -> QuerySet[Any, Any]:
    columns = {"agreement": "agreement_id", "dimension": "dimension_id", "day": "day"}
    rows = UsageArchiveTotal.objects.filter(scope.of_days("day"), which).order_by()
    groups = rows.values_list(*(columns[name] for name in by), *more)
    return groups.annotate(all_used=Sum("quantity"))


def _columns(by: Sequence[str], instant: str) -> list[Any]:
    known: dict[str, Any] = {
        "agreement": "agreement_id",
        "dimension": "dimension_id",
        "day": TruncDate(instant, tzinfo=UTC),
        "hour": TruncHour(instant, tzinfo=UTC),
    }
    return [F(known[name]) if isinstance(known[name], str) else known[name] for name in by]


def _whole(amount: Any) -> int:
    return 0 if amount is None else int(amount.scaleb(6).to_integral_exact())

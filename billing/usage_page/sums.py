"""The sums of an organization's usage, each page's in one statement.

Closed hours are read from their metering records, which are few; only usage that is in none is read event by
event, each kind by its own partial index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Case, CharField, DateTimeField, Expression, F, Func, Q, Sum, Value, When
from django.db.models.functions import Coalesce, TruncDate, TruncHour, TruncMonth

from billing import retention
from billing.aws.window import HOUR
from billing.figures import OPEN
from billing.models import (
    Agreement,
    Dimension,
    MeteringRecord,
    QuantityField,
    UsageArchiveTotal,
    UsageEvent,
)
from billing.tenures import Tenures
from billing.usage_page.periods import Grain, Key, Period

# Usage that occurred in another hour than the closed one that AWS bills it in, where it is counted already.
MOVED = "moved"
# The status of a purchase that another workspace has now: how it stands there is theirs to know.
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Purchase:
    """One that is metered."""

    pk: int
    status: str  # of the agreement, or GONE
    activated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Meter:
    """A metered dimension of something the organization bought, and the purchases that are billed by it."""

    pk: int
    key: str
    label: str
    unit: str
    product: str
    draws_on_plan: bool
    purchases: list[Purchase] = field(default_factory=list)


class Row(NamedTuple):
    dimension: int
    place: Key
    state: str  # of the record, or OPEN, a disposition, MOVED
    used: Decimal
    included: Decimal
    quantity: Decimal
    late: Decimal


def meters_of(tenures: Tenures) -> list[Meter]:
    """What the organization is billed by, by product; its newest purchase first, what it only had last."""
    metered = Agreement.objects.filter(
        tenures.agreements, product__dimensions__kind=Dimension.Kind.METERED
    ).annotate(
        stands=Case(
            When(organization=tenures.organization, then=F("status")),
            default=Value(GONE),
            output_field=CharField(),
        ),
        is_gone=Case(When(organization=tenures.organization, then=0), default=1),
    )
    in_order = ("product__title", "product__dimensions__key", "is_gone", "-created_at", "-pk")
    rows = metered.order_by(*in_order).values_list(
        *(f"product__dimensions__{name}" for name in ("pk", "key", "label", "unit")),
        "product__title",
        "product__dimensions__included_by",
        *("pk", "stands", "activated_at"),
    )
    meters: dict[int, Meter] = {}
    for pk, key, label, unit, product, included_by, *purchase in rows:
        meter = meters.setdefault(pk, Meter(pk, key, label, unit, product, included_by is not None))
        meter.purchases.append(Purchase(*purchase))
    return list(meters.values())


def by_place(
    agreements: Collection[int],
    tenures: Tenures,
    period: Period,
    grain: Grain,
    *,
    zone: tzinfo,
    late_before: datetime,
) -> Iterator[Row]:
    """Every dimension's sums by place and state. What is open from before ``late_before`` is late."""
    zero = Value(0, QuantityField())
    records = (
        MeteringRecord.objects.filter(
            tenures.in_hours(), agreement__in=agreements, hour__gte=period.start, hour__lt=period.end
        )
        .exclude(state=MeteringRecord.State.VOID)
        .annotate(place=_place(grain, "hour", zone), became=F("state"))
        .order_by()
        .values_list("dimension_id", "place", "became")
        .annotate(of_used=Sum("used"), of_included=Sum("included"), of_quantity=Sum("quantity"), of_late=zero)
    )
    usage = UsageEvent.objects.filter(
        tenures.used(), agreement__in=agreements, occurred_at__gte=period.start, occurred_at__lt=period.end
    ).annotate(place=_place(grain, "occurred_at", zone))
    late = Coalesce(Sum("quantity", filter=Q(occurred_at__lt=late_before)), zero)
    parts = [
        _sums(usage.open().annotate(became=Value(OPEN)), late=late),
        _sums(usage.exclude(disposition=BILLABLE).annotate(became=F("disposition")), late=zero),
    ]
    if grain is Grain.HOUR:
        parts.append(_moved(agreements, tenures, period, zone))
    yield from (Row(*row) for row in records.union(*parts, all=True).order_by())
    if grain is not Grain.HOUR and period.start < retention.kept_since(late_before):
        yield from _archived(agreements, tenures, period, grain)


def _archived(agreements: Collection[int], tenures: Tenures, period: Period, grain: Grain) -> Iterator[Row]:
    """What was not billed of months whose single uses are archived: by days, and those are UTC's."""
    totals = UsageArchiveTotal.objects.filter(
        tenures.used(), agreement__in=agreements, day__gte=period.start.date(), day__lt=period.end.date()
    ).exclude(disposition=BILLABLE)
    for day, dimension, disposition, quantity in totals.values_list(
        "day", "dimension_id", "disposition", "quantity"
    ):
        place = day if grain is Grain.DAY else datetime(day.year, day.month, 1, tzinfo=UTC)
        yield Row(dimension, place, disposition, quantity, Decimal(0), quantity, Decimal(0))


BILLABLE = UsageEvent.Disposition.BILLABLE


def _sums(usage: Any, *, late: Any) -> Any:
    return (
        usage.order_by()
        .values_list("dimension_id", "place", "became")
        .annotate(
            of_used=Sum("quantity"),
            of_included=Value(0, QuantityField()),
            of_quantity=Sum("quantity"),
            of_late=late,
        )
    )


def _moved(agreements: Collection[int], tenures: Tenures, period: Period, zone: tzinfo) -> Any:
    hour = F("metering_record__hour")
    zero = Value(0, QuantityField())
    return (
        UsageEvent.objects.filter(
            Q(occurred_at__lt=hour) | Q(occurred_at__gte=hour + HOUR),
            tenures.in_hours("metering_record__"),
            metering_record__agreement__in=agreements,
            metering_record__hour__gte=period.start,
            metering_record__hour__lt=period.end,
        )
        .annotate(place=_place(Grain.HOUR, "metering_record__hour", zone), became=Value(MOVED))
        .order_by()
        .values_list("dimension_id", "place", "became")
        .annotate(of_used=zero, of_included=zero, of_quantity=zero, of_late=Sum("quantity"))
    )


class _Hour(Func):
    """AWS's hour as an instant: what TruncHour makes of it on PostgreSQL has lost its time zone."""

    template = "DATE_TRUNC('hour', %(expressions)s, 'UTC')"
    output_field = DateTimeField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        (column,) = self.get_source_expressions()
        return compiler.compile(TruncHour(column, output_field=DateTimeField(), tzinfo=UTC))


def _place(grain: Grain, column: str, zone: tzinfo) -> Expression:
    match grain:
        case Grain.HOUR:
            return TruncHour(column, tzinfo=UTC)
        case Grain.DAY:
            # The hour's day, not the instant's: usage does not change its day when its hour closes.
            return TruncDate(_Hour(column), tzinfo=zone)
        case Grain.MONTH:
            return TruncMonth(column, tzinfo=UTC)

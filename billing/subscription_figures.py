"""The figures of many purchases at once: what was used, and how much of what was bought ahead is gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, Sum, Value
from django.db.models.functions import Coalesce

from billing import terms
from billing.aws.window import month_of
from billing.figures import OPEN, ZERO, Figures
from billing.models import (
    Agreement,
    Dimension,
    Entitlement,
    MeteringRecord,
    QuantityField,
    UsageArchiveTotal,
    UsageEvent,
)
from billing.tenures import Tenures


@dataclass(slots=True)
class Drawn:
    """By one metered dimension, on what it draws on, in the allowance's term or month, whoever used it."""

    used: Decimal = ZERO
    elsewhere: Decimal = ZERO  # of it, in another workspace that had the purchase
    included: Decimal = ZERO  # of the closed hours
    open: Decimal = ZERO


@dataclass(slots=True)
class Sums:
    """By agreement and dimension."""

    figures: dict[tuple[int, int], Figures] = field(default_factory=lambda: defaultdict(Figures))
    drawn: dict[tuple[int, int], Drawn] = field(default_factory=lambda: defaultdict(Drawn))


def read(
    agreements: Sequence[Agreement],
    dimensions: Collection[Dimension],
    timelines: Mapping[int, Iterable[Entitlement]],
    tenures: Tenures,
    *,
    now: datetime,
) -> Sums:
    """Of what has ended all of its usage, of all others that of AWS's month; in one statement.

    What others used of a purchase that was moved is not told, but it has drawn on what the purchase includes.
    """
    pks = [agreement.pk for agreement in agreements]
    over = [agreement.pk for agreement in agreements if agreement.ended_at is not None]
    earlier = _earlier_terms(dimensions, timelines, now=now)

    def parts(column: str) -> tuple[Q, Q]:
        told = Q(agreement__in=over) | Q(**{f"{column}__gte": month_of(now)})
        return told, _this_term(agreements, dimensions, earlier, column, now=now)

    told, term = parts("hour")
    ours = tenures.in_hours()
    records = (
        MeteringRecord.objects.filter(agreement__in=pks)
        .exclude(state=MeteringRecord.State.VOID)
        .annotate(became=F("state"))
        .order_by()
        .values_list("agreement_id", "dimension_id", "became")
        .annotate(
            of_used=_sum("used", told & ours),
            of_included=_sum("included", told & ours),
            of_quantity=_sum("quantity", told & ours),
            drawn=_sum("used", term),
            covered=_sum("included", term),
            of_others=_sum("used", term & ~ours) if ours else _ZERO,
        )
    )
    told, term = parts("occurred_at")
    ours = tenures.used()
    told &= ours
    usage = UsageEvent.objects.filter(agreement__in=pks)
    still_open = _of_events(usage.open().annotate(became=Value(OPEN)), told, drawn=term, ours=ours)
    never = usage.exclude(disposition=UsageEvent.Disposition.BILLABLE).annotate(became=F("disposition"))
    archived = UsageArchiveTotal.objects.filter(ours, agreement__in=over)
    gone = archived.exclude(disposition=UsageEvent.Disposition.BILLABLE).annotate(became=F("disposition"))
    sums = Sums()
    for agreement, dimension, state, used, included, quantity, drawn, covered, others in records.union(
        still_open, _of_events(never, told), _of_events(gone, Q(pk__isnull=False)), all=True
    ).order_by():
        key = agreement, dimension
        sums.figures[key].add(state, used=used, included=included, quantity=quantity)
        sums.drawn[key].used += drawn
        sums.drawn[key].elsewhere += others
        sums.drawn[key].included += covered
        sums.drawn[key].open += drawn if state == OPEN else 0
    return sums


_ZERO = Value(0, QuantityField())


def _sum(column: str, condition: Q) -> Any:
    return Coalesce(Sum(column, filter=condition), _ZERO)


def _of_events(usage: Any, told: Q, *, drawn: Q | None = None, ours: Q | None = None) -> Any:
    amount = _sum("quantity", told)
    rows = usage.order_by().values_list("agreement_id", "dimension_id", "became")
    return rows.annotate(
        of_used=amount,
        of_included=_ZERO,
        of_quantity=amount,
        drawn=_sum("quantity", drawn) if drawn is not None else _ZERO,
        covered=_ZERO,
        of_others=_sum("quantity", drawn & ~ours) if drawn is not None and ours else _ZERO,
    )


def _earlier_terms(
    dimensions: Collection[Dimension], timelines: Mapping[int, Iterable[Entitlement]], *, now: datetime
) -> list[tuple[int, list[int], datetime]]:
    """Of contracts that renewed in place: the agreement, what draws on the pool, and when this term began."""
    drawing: dict[str, list[int]] = defaultdict(list)
    for dimension in dimensions:
        if dimension.included_by is not None:
            drawing[dimension.included_by.key].append(dimension.pk)
    found = []
    for agreement, rows in timelines.items():
        of_key: dict[str, list[Entitlement]] = defaultdict(list)
        for row in rows:
            of_key[row.dimension_key].append(row)
        for key in of_key.keys() & drawing.keys():
            began = terms.term_began(of_key[key], now)
            if began is not None:
                found.append((agreement, drawing[key], began))
    return found


def _this_term(
    agreements: Iterable[Agreement],
    dimensions: Collection[Dimension],
    earlier: Iterable[tuple[int, list[int], datetime]],
    column: str,
    *,
    now: datetime,
) -> Q:
    by_month = [each.pk for each in dimensions if each.allowance_period == Dimension.Period.MONTH]
    this_term = Q()
    for agreement, drawing, began in earlier:
        this_term &= ~Q(agreement=agreement, dimension__in=drawing, **{f"{column}__lt": began})
    in_month = Q(**{f"{column}__gte": month_of(now)})
    for each in agreements:
        if each.ended_at is not None:  # its last month
            in_month |= Q(agreement=each, **{f"{column}__gte": month_of(each.ended_at)})
    this_month = Q(dimension__in=by_month) & in_month
    return this_month | ~Q(dimension__in=by_month) & this_term

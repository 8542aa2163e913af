"""What a closed hour drew on its allowance, told from the timeline as it is known today; overage bills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum

from billing import terms
from billing.aws.window import HOUR, month_of
from billing.models import Dimension, Entitlement, MeteringRecord


@dataclass(frozen=True, slots=True)
class Drawn:
    """``since``: the period's first hour; None: the agreement's first term."""

    pool: Dimension
    by_month: bool
    since: datetime | None
    allowance: Decimal
    entitlement: Entitlement | None  # the greatest in force during the hour
    earlier: Decimal  # what the period's records closed before it had drawn


def of(record: MeteringRecord) -> Drawn | None:
    """None: nothing is included in its dimension."""
    pool = record.dimension.included_by
    if pool is None:
        return None
    held = list(record.agreement.entitlements.filter(dimension_key=pool.key))
    by_month = record.dimension.allowance_period == Dimension.Period.MONTH
    since = month_of(record.hour) if by_month else terms.term_began(held, record.hour)
    greatest = max(_in_force(record, held), key=lambda row: row.quantity, default=None)
    return Drawn(
        pool,
        by_month,
        since,
        greatest.quantity if greatest is not None else Decimal(0),
        greatest,
        _earlier(record, pool, since),
    )


def _in_force(record: MeteringRecord, held: list[Entitlement]) -> list[Entitlement]:
    ended = record.agreement.ended_at
    # What ended with the agreement was in force until its end.
    start = min(record.hour, ended - timedelta(microseconds=1)) if ended else record.hour
    return [
        row
        for row in held
        if row.valid_from < record.hour + HOUR and (row.valid_to is None or row.valid_to > start)
    ]


def _earlier(record: MeteringRecord, pool: Dimension, since: datetime | None) -> Decimal:
    drawing = MeteringRecord.objects.filter(
        agreement=record.agreement_id, dimension__included_by=pool, pk__lt=record.pk
    ).exclude(state=MeteringRecord.State.VOID)
    if since is not None:
        drawing = drawing.filter(hour__gte=since)
    if record.dimension.allowance_period == Dimension.Period.MONTH and since is not None:
        drawing = drawing.filter(hour__lt=(since + timedelta(days=32)).replace(day=1))
    total: Decimal | None = drawing.aggregate(total=Sum("included"))["total"]
    return total or Decimal(0)

"""How much of an hour's usage is covered by what was bought ahead (contracts with consumption).

Everything that a chunk of agreements needs is read at once; then hour after hour draws on it in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from django.db.models import Min, Sum
from django.db.models.functions import TruncMonth

from billing.aws.window import HOUR, month_of
from billing.models import Agreement, Dimension, Effect, Entitlement, MeteringRecord
from billing.models.fields import PLACES

_MORE_THAN_ANYBODY_USES = Decimal(10**12)


class Allowances:
    """What is left of the pools on which the hours of some locked agreements draw, in the order closed."""

    def __init__(self, agreements: Mapping[int, Agreement], dimensions: Collection[Dimension]) -> None:
        self._agreements = agreements
        self._held: dict[tuple[int, str], list[Entitlement]] = defaultdict(list)
        self._drawn: dict[tuple[int, int], dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
        self._changed_at: dict[int, datetime] = {}
        drawing = [dimension for dimension in dimensions if dimension.included_by_id]
        if drawing:
            self._read({dimension.included_by_id for dimension in drawing if dimension.included_by_id})

    def _read(self, pools: Collection[int]) -> None:
        keys = Dimension.objects.filter(pk__in=pools).values_list("key", flat=True)
        for row in Entitlement.objects.filter(agreement__in=self._agreements, dimension_key__in=keys):
            self._held[row.agreement_id, row.dimension_key].append(row)
        drawn = (
            MeteringRecord.objects.filter(
                agreement__in=self._agreements, dimension__included_by__in=pools, included__gt=0
            )
            .exclude(state=MeteringRecord.State.VOID)
            .order_by()
            .values_list("agreement_id", "dimension__included_by_id", TruncMonth("hour"))
            .annotate(total=Sum("included"))
        )
        for agreement_pk, pool_pk, month, total in drawn:
            self._drawn[agreement_pk, pool_pk][month] += int(total.scaleb(6))
        unread = (
            Effect.objects.filter(
                agreement__in=self._agreements,
                kind=Effect.Kind.SYNC_ENTITLEMENTS,
                state=Effect.State.DUE,
            )
            .order_by()
            .values_list("agreement_id")
        )
        self._changed_at = dict(unread.annotate(first=Min("caused_at")))

    def are_unknown(self, agreement: Agreement, *, before: datetime) -> bool:
        """Whether a change of the entitlements that counts before this instant has not been read yet.

        Closing then would bill, for good, what the buyer has paid for. The usage stays open until it is read.
        """
        changed_at = self._changed_at.get(agreement.pk)
        return agreement.entitlements_read_at is None or (changed_at is not None and changed_at < before)

    def draw(self, agreement: Agreement, dimension: Dimension, hour: datetime, used: int) -> int:
        """Millionths of ``used`` that the allowance covers; what is drawn is gone for the next hour."""
        pool = dimension.included_by
        if pool is None:
            return 0
        drawn = self._drawn[agreement.pk, pool.pk]
        month = month_of(hour)
        by_month = dimension.allowance_period == Dimension.Period.MONTH
        spent = drawn[month] if by_month else sum(drawn.values())
        included = min(used, max(0, self._allowance(agreement, pool, hour) - spent))
        drawn[month] += included
        return included

    def _allowance(self, agreement: Agreement, pool: Dimension, hour: datetime) -> int:
        """The greatest entitlement in force during the hour; after the end, the one as of the end."""
        # What ended with the agreement was in force until its end.
        start = min(hour, agreement.ended_at - timedelta(microseconds=1)) if agreement.ended_at else hour
        in_force = (
            row.quantity
            for row in self._held[agreement.pk, pool.key]
            if row.valid_from < hour + HOUR and (row.valid_to is None or row.valid_to > start)
        )
        greatest = min(max(in_force, default=Decimal(0)), _MORE_THAN_ANYBODY_USES)
        # A double has more digits than AWS bills, and may be larger than any quantity.
        return max(0, int(greatest.quantize(PLACES, ROUND_DOWN).scaleb(6)))

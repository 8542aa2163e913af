"""How much of an hour's usage is covered by what was bought ahead (contracts with consumption).

Everything that a chunk of agreements needs is read at once; then hour after hour draws on it in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from django.db.models import F, Min, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing import terms
from billing.aws.window import HOUR, month_of
from billing.models import Agreement, Dimension, Effect, Entitlement, MeteringRecord
from billing.models.fields import PLACES

_MORE_THAN_ANYBODY_USES = Decimal(10**12)


@dataclass(slots=True)
class _Drawn:
    """Millionths drawn on one pool, by month and by the first hour of the term (None: the first term)."""

    by_month: dict[datetime, int] = field(default_factory=lambda: defaultdict(int))
    by_term: dict[datetime | None, int] = field(default_factory=lambda: defaultdict(int))


class Allowances:
    """What is left of the pools on which the hours of some locked agreements draw, in the order closed."""

    def __init__(self, agreements: Mapping[int, Agreement], dimensions: Collection[Dimension]) -> None:
        self._agreements = agreements
        self._held: dict[tuple[int, str], list[Entitlement]] = defaultdict(list)
        self._drawn: dict[tuple[int, int], _Drawn] = defaultdict(_Drawn)
        self._changed_at: dict[int, datetime] = {}
        drawing = [dimension for dimension in dimensions if dimension.included_by_id]
        if drawing:
            self._read({dimension.included_by_id for dimension in drawing if dimension.included_by_id})

    def _read(self, pools: Collection[int]) -> None:
        keys = Dimension.objects.filter(pk__in=pools).values_list("key", flat=True)
        for row in Entitlement.objects.filter(agreement__in=self._agreements, dimension_key__in=keys):
            self._held[row.agreement_id, row.dimension_key].append(row)
        drawing = (
            MeteringRecord.objects.filter(
                agreement__in=self._agreements, dimension__included_by__in=pools, included__gt=0
            )
            .exclude(state=MeteringRecord.State.VOID)
            .order_by()
        )
        months = drawing.values_list(
            "agreement_id", "dimension__included_by_id", TruncMonth("hour", tzinfo=UTC)
        )
        for agreement_pk, pool_pk, month, total in months.annotate(total=Sum("included")):
            drawn = self._drawn[agreement_pk, pool_pk]
            drawn.by_month[month] += int(total.scaleb(6))
            drawn.by_term[None] += int(total.scaleb(6))
        self._split_by_term(drawing)
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

    def _split_by_term(self, drawing: QuerySet[MeteringRecord]) -> None:
        """Give each term what it drew: so far all of it is the first one's. Where none renewed, no query."""
        begun: dict[int, tuple[datetime | None, datetime]] = {}  # by row: the term before, and its own
        for rows in self._held.values():
            began = terms.beginnings(rows)
            before = [None, *began]
            begun |= {row.pk: (before[place], hour) for place, (hour, row) in enumerate(began.items())}
        if not begun:
            return
        since = drawing.filter(
            agreement__entitlements__in=list(begun),
            agreement__entitlements__dimension_key=F("dimension__included_by__key"),
            hour__gt=F("agreement__entitlements__valid_from") - HOUR,  # its own hour, too
        ).values_list("agreement_id", "dimension__included_by_id", "agreement__entitlements__pk")
        for agreement_pk, pool_pk, row_pk, total in since.annotate(total=Sum("included")):
            before_it, term = begun[row_pk]
            drawn = self._drawn[agreement_pk, pool_pk]
            # The sum is of the later terms too: they take theirs off in their turn.
            drawn.by_term[term] += int(total.scaleb(6))
            drawn.by_term[before_it] -= int(total.scaleb(6))

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
        month, term = month_of(hour), terms.term_began(self._held[agreement.pk, pool.key], hour)
        by_month = dimension.allowance_period == Dimension.Period.MONTH
        spent = drawn.by_month[month] if by_month else drawn.by_term[term]
        included = min(used, max(0, self._allowance(agreement, pool, hour) - spent))
        drawn.by_month[month] += included
        drawn.by_term[term] += included
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

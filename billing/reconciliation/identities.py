"""No hour of a purchase is accepted twice: AWS would bill it under its license and under its product code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.db.models import Count, Max, Q

from billing.models import MeteringRecord
from billing.reconciliation.breach import Breach
from billing.reconciliation.reading import Span


def check(*, pks: Sequence[int] | None, span: Span) -> Iterator[Breach]:
    # The buyer's other purchases count too, whatever is asked for: one of them may be the second bill.
    accepted = MeteringRecord.objects.filter(span.holds("hour"), state="accepted").order_by()
    if pks is not None:
        accepted = accepted.filter(agreement__customer__agreements__in=pks)
    hours = accepted.values("agreement__customer_id", "dimension_id", "hour").annotate(
        licensed=Count("pk", filter=Q(wire_license_arn__isnull=False), distinct=True),
        legacy=Count("pk", filter=Q(wire_license_arn=None), distinct=True),
        record=Max("pk"),
    )
    twice = hours.filter(Q(licensed__gt=0, legacy__gt=0) | Q(legacy__gt=1)).values_list("record", flat=True)
    for pk in twice.iterator(chunk_size=2000):
        record = MeteringRecord.objects.select_related("dimension").get(pk=pk)
        yield Breach(
            "metered_twice",
            "its hour is accepted more than once for the same purchase",
            agreement=record.agreement_id,
            dimension=record.dimension.key,
            hour=record.hour,
            record=pk,
            expected="1 accepted record",
            found="2 or more",
        )

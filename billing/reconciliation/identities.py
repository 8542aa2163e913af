"""No hour of a purchase is accepted twice, and no two records are one at AWS.

AWS bills an hour under its license and under its product code; of two records under one product code it takes
the first, and may say Success to both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.db.models import Count, Max, OuterRef, Q, Subquery

from billing.models import MeteringRecord
from billing.reconciliation.breach import Breach
from billing.reconciliation.reading import Span


def check(*, pks: Sequence[int] | None, span: Span) -> Iterator[Breach]:
    yield from _metered_twice(pks, span)
    yield from _same_aws_id(pks, span)


def _metered_twice(pks: Sequence[int] | None, span: Span) -> Iterator[Breach]:
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


def _same_aws_id(pks: Sequence[int] | None, span: Span) -> Iterator[Breach]:
    # The other one may be of any purchase and hour, whatever is asked for.
    twins = MeteringRecord.objects.filter(aws_record_id=OuterRef("aws_record_id")).exclude(pk=OuterRef("pk"))
    named = MeteringRecord.objects.filter(span.holds("hour"), aws_record_id__isnull=False)
    if pks is not None:
        named = named.filter(agreement__in=pks)
    twice = named.annotate(twin=Subquery(twins.order_by("pk").values("pk")[:1])).filter(twin__isnull=False)
    for record in twice.select_related("dimension").order_by("pk").iterator(chunk_size=2000):
        yield Breach(
            "same_aws_id",
            f"AWS's id {record.aws_record_id} is also on record {record.twin}: AWS took one of them",
            agreement=record.agreement_id,
            dimension=record.dimension.key,
            hour=record.hour,
            record=record.pk,
            expected="1 record",
            found="2",
        )

"""Which hours are taken: closed already, for an agreement or for another of the same buyer and product.

AWS would bill an hour twice that is metered under a license and under a product code. Of two records under
one product code it takes the first alone: its key names no purchase. Only two licenses have an hour each. So
what a buyer has of a product is locked together unless all of it is licensed, and an hour that one of them
took is taken for the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from django.db.models import BooleanField, CharField, Exists, ExpressionWrapper, OuterRef, Q

from billing import customers
from billing.models import Agreement, MeteringRecord


def lock(agreement_pks: Collection[int]) -> dict[int, Agreement]:
    """Those agreements by key, locked together with every other that could take the same hours."""
    asked = Agreement.objects.filter(pk__in=agreement_pks)
    beside = (
        asked.filter(customer=OuterRef("customer"), product=OuterRef("product"))
        .exclude(pk=OuterRef("pk"))
        .annotate(other=ExpressionWrapper(OuterRef("identity"), output_field=CharField()))
        .exclude(identity=Agreement.Identity.LICENSE, other=Agreement.Identity.LICENSE)
    )
    others = Agreement.objects.filter(Exists(beside), customer__in=asked.values("customer"))
    # An agreement that switches meanwhile waits for its own closing: what it closed before can be seen then.
    locked = customers.lock_many({*agreement_pks, *others.order_by().values_list("pk", flat=True)})
    return {agreement.pk: agreement for agreement in locked if agreement.pk in agreement_pks}


class TakenHours:
    """The hours that some locked agreements can no longer close."""

    def __init__(self, agreements: Mapping[int, Agreement], *, since: datetime) -> None:
        self._agreements = agreements
        self._siblings = _siblings(agreements.values())
        self._taken: dict[tuple[int, int], set[datetime]] = defaultdict(set)
        records = (
            MeteringRecord.objects.filter(agreement__in={*agreements, *self._siblings}, hour__gte=since)
            .order_by()
            .annotate(
                is_licensed=ExpressionWrapper(Q(wire_license_arn__isnull=False), output_field=BooleanField())
            )
        )
        for row in records.values_list("agreement_id", "dimension_id", "hour", "is_licensed"):
            self._take(*row)

    def of(self, agreement: Agreement, dimension_pk: int) -> Collection[datetime]:
        return self._taken.get((agreement.pk, dimension_pk), ())

    def take(self, record: MeteringRecord) -> None:
        """Count a record that is not saved yet."""
        self._take(record.agreement_id, record.dimension_id, record.hour, record.wire_license_arn is not None)

    def _take(self, agreement_pk: int, dimension_pk: int, hour: datetime, is_licensed: bool) -> None:
        self._taken[agreement_pk, dimension_pk].add(hour)
        for pk in self._siblings.get(agreement_pk, ()):
            # As it was metered, not as it is now: a purchase may have changed over since.
            if not (is_licensed and self._agreements[pk].identity == Agreement.Identity.LICENSE):
                self._taken[pk, dimension_pk].add(hour)


def _siblings(agreements: Iterable[Agreement]) -> dict[int, list[int]]:
    """Of each agreement, those of ``agreements`` that the same buyer has of the same product beside it."""
    bought: dict[tuple[int, int], list[int]] = defaultdict(list)
    for agreement in agreements:
        bought[agreement.product_id, agreement.customer_id].append(agreement.pk)
    all_of_theirs = Agreement.objects.filter(customer__in={customer for _, customer in bought}).order_by()
    siblings: dict[int, list[int]] = {}
    for pk, product, customer in all_of_theirs.values_list("pk", "product_id", "customer_id"):
        beside = [other for other in bought.get((product, customer), ()) if other != pk]
        if beside:
            siblings[pk] = beside
    return siblings

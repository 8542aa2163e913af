"""What was bought, as it is shown back to a buyer: the plan, how much, the trial, the term.

What AWS has not said yet is None or empty, and the pages say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.models import Agreement, Dimension, Entitlement
from billing.models.entitlements import Value


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class Bought:
    product: str
    pricing: str
    masked_account: str
    is_ahead: bool  # a contract: quantities are bought ahead, for a term
    is_read: bool  # AWS has told which
    lines: list[Line]
    free_trial: bool
    trial_ends_at: datetime | None
    term_ends_at: datetime | None
    auto_renews: bool | None


def bought_with(agreements: Iterable[Agreement]) -> Mapping[int, Bought]:
    """For each agreement (its product and customer selected) what was bought. Two queries."""
    agreements = list(agreements)
    rows: dict[int, list[Entitlement]] = defaultdict(list)
    ahead = [agreement for agreement in agreements if agreement.product.has_entitlements]
    if ahead:
        current = Entitlement.objects.current().filter(agreement__in=[agreement.pk for agreement in ahead])
        for row in current.order_by("dimension_key"):
            rows[row.agreement_id].append(row)
    dimensions: dict[tuple[int, str], Dimension] = {}
    if rows:
        products = {agreement.product_id for agreement in ahead}
        for dimension in Dimension.objects.filter(product__in=products):
            dimensions[dimension.product_id, dimension.key] = dimension
    return {agreement.pk: _bought(agreement, rows[agreement.pk], dimensions) for agreement in agreements}


def _bought(
    agreement: Agreement, rows: list[Entitlement], dimensions: Mapping[tuple[int, str], Dimension]
) -> Bought:
    lines = []
    for row in rows:
        dimension = dimensions.get((agreement.product_id, row.dimension_key))
        label, unit = (dimension.label, dimension.unit) if dimension else (row.dimension_key, "")
        # "5 seats" under the title "Seats" says it twice.
        lines.append(Line(label, row.value, "" if unit.casefold() == label.casefold() else unit))
    expiries = [row.expires_at for row in rows if row.expires_at is not None]
    return Bought(
        product=agreement.product.title,
        pricing=agreement.product.get_pricing_display(),
        masked_account=agreement.customer.masked,
        is_ahead=agreement.product.has_entitlements,
        is_read=agreement.entitlements_read_at is not None,
        lines=lines,
        free_trial=agreement.free_trial,
        trial_ends_at=agreement.trial_ends_at,
        term_ends_at=agreement.term_ends_at or max(expiries, default=None),
        auto_renews=agreement.auto_renews,
    )

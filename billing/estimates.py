"""What a plan will cover of usage whose hour is still open, as long as nobody uses more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal

from billing.figures import ZERO
from billing.models import Agreement, Dimension, Entitlement
from billing.models.fields import PLACES
from billing.subscription_figures import Sums

_MORE_THAN_ANYBODY_USES = Decimal(10**12)  # a double may be more than a quantity can be


def drawing_on(key: str, dimensions: Mapping[str, Dimension]) -> list[Dimension]:
    """The metered dimensions that draw on the entitled one."""
    return [each for each in dimensions.values() if each.included_by and each.included_by.key == key]


def covered(
    agreement: Agreement, held: Sequence[Entitlement], dimensions: Mapping[str, Dimension], sums: Sums
) -> dict[int, Decimal]:
    """How much of each dimension's open usage the plan covers, as closing its hours now would have it."""
    found: dict[int, Decimal] = {}
    for row in held:
        drawing = drawing_on(row.dimension_key, dimensions)
        drawn = [(each, sums.drawn[agreement.pk, each.pk]) for each in drawing]
        bought = min(row.quantity, _MORE_THAN_ANYBODY_USES).quantize(PLACES, ROUND_DOWN)
        left = bought - sum((of.included for _, of in drawn), ZERO)
        for dimension, of in drawn:
            found[dimension.pk] = min(max(left, ZERO), of.open)
            left -= found[dimension.pk]
    return found

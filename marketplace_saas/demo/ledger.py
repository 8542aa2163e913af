"""The last page of the demo: what we recorded and metered beside what AWS bills."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from billing.aws.wire import quantity_text
from billing.models import MeteringRecord, UsageEvent

_HEADINGS = ("Customer", "Dimension", "Recorded", "Included", "Metered", "AWS bills")


@dataclass(frozen=True, slots=True)
class Row:
    customer: str
    dimension: str
    recorded: Decimal
    included: Decimal
    metered: Decimal  # accepted by AWS
    billed: Decimal  # on AWS's own invoice

    @property
    def agrees(self) -> bool:
        return self.recorded - self.included == self.metered == self.billed


def compare(invoice: dict[str, Any]) -> list[Row]:
    """One row per agreement and dimension, also of what only one of the two sides knows."""
    billed = {
        (total["license_arn"] or total["agreement_id"], total["dimension"]): Decimal(total["quantity"])
        for total in invoice["totals"]
    }
    used = (
        UsageEvent.objects.values(
            "agreement_id",
            "agreement__license_arn",
            "agreement__organization__name",
            "dimension_id",
            "dimension__key",
        )
        .annotate(recorded=Sum("quantity"))
        .order_by("agreement_id", "dimension_id")
    )
    rows = []
    for group in used:
        records = MeteringRecord.objects.filter(
            agreement_id=group["agreement_id"], dimension_id=group["dimension_id"]
        )
        accepted = records.filter(state=MeteringRecord.State.ACCEPTED)
        rows.append(
            Row(
                customer=group["agreement__organization__name"],
                dimension=group["dimension__key"],
                recorded=group["recorded"],
                included=records.aggregate(total=Sum("included"))["total"] or Decimal(0),
                metered=accepted.aggregate(total=Sum("quantity"))["total"] or Decimal(0),
                billed=billed.pop((group["agreement__license_arn"], group["dimension__key"]), Decimal(0)),
            )
        )
    nothing = Decimal(0)
    rows += [
        Row("unknown to us", dimension, nothing, nothing, nothing, quantity)
        for (_, dimension), quantity in billed.items()
    ]
    return rows


def table(rows: list[Row]) -> list[str]:
    """The rows as lines of text, numbers to the right."""
    cells = [
        (
            row.customer,
            row.dimension,
            *map(quantity_text, (row.recorded, row.included, row.metered, row.billed)),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (_HEADINGS, *cells)) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (_HEADINGS, *cells)
    ]
    return [lines[0], "─" * len(lines[0]), *lines[1:]]

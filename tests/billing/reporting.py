"""AWS's usage report in tests: the simulator's own, and rows by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from billing import metering, submission
from billing.reconciliation import importing
from billing.reconciliation.importing import Imported
from tests.billing.ledger import BEGIN, NOON, REGION, bought_agreement, entitle, use

COLUMNS = (
    "usage_date", "product_code", "end_user_aws_account_id", "agreement_id", "dimension_key", "region",
    "estimated_usage_units",
)  # fmt: skip
NOW = NOON + timedelta(minutes=5)

Change = Callable[[list[dict[str, str]]], Any]


def bill(aws: Any, catalog: Any, acme: Any) -> list[Any]:
    """Two purchases, three hours of usage each, all of it accepted by the simulator."""
    aws.control.set_now(NOW)
    bought = [bought_agreement(aws, catalog, acme), bought_agreement(aws, catalog, acme, "reports-flex")]
    entitle(bought[1], 100)
    for number, agreement in enumerate(bought):
        for hour in range(1, 4):
            at = NOON - timedelta(hours=hour)
            use(agreement, f"60.{number + 5}", at=at, tags={"team": "ml"} if hour == 1 else None)
    metering.close_hours(region=REGION, now=NOW)
    submission.submit_due(aws.marketplace, now=NOW)
    return bought


def told_by_aws(aws: Any, change: Change = lambda rows: None, *, by_day: bool = False) -> bytes:
    """The simulator's report, changed as asked; ``by_day`` as AWS gives it: no hours, no licenses."""
    rows = list(csv.DictReader(aws.control.usage_report().splitlines()))
    change(rows)
    if by_day:
        rows = [
            {name: value for name, value in row.items() if not name.startswith("simulator_")} for row in rows
        ]
    return text_of(rows)


def text_of(rows: Iterable[dict[str, Any]]) -> bytes:
    found = list(rows)
    written = io.StringIO()
    writer = csv.DictWriter(written, list(found[0]) if found else list(COLUMNS))
    writer.writeheader()
    writer.writerows(found)
    return written.getvalue().encode()


def row(agreement: Any = None, quantity: Any = "5", day: str = "2026-11-23", **cells: Any) -> dict[str, Any]:
    """A row as AWS writes it, of a day."""
    return {
        "usage_date": day,
        "product_code": agreement.product.code if agreement else "reports-payg",
        "end_user_aws_account_id": agreement.customer.aws_account_id if agreement else "999999999999",
        "agreement_id": "",
        "dimension_key": "pages",
        "region": REGION,
        "estimated_usage_units": str(quantity),
        **cells,
    }


def imported(text: bytes, **options: Any) -> Imported:
    return importing.import_report(
        io.BytesIO(text), **{"name": "report.csv", "by": "command", "now": NOW, **options}
    )


__all__ = ["BEGIN", "NOON", "NOW", "bill", "imported", "row", "text_of", "told_by_aws"]

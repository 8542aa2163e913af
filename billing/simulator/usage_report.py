"""The invoice as CSV, its columns named as AWS's "Marketplace Usage dataset" names them.

That is folder marketplace_daily_usage_report of a seller's data subscription (Seller Guide, page
data-subscriptions-dataset-usage). The names of accounts and line items were read there; those of usage,
revenue and agreements come from a public query over the same dataset (unconfirmed). AWS sums usage by day and
tells no license: what a comparison by license and hour needs stands last, and begins with ``simulator_``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from billing.simulator.clock import iso
from billing.simulator.invoice import Line, lines, plain
from billing.simulator.records import SELLER_ACCOUNT_ID
from billing.simulator.state import State

COLUMNS = (
    "internal_usage_line_item_id",
    "partner_aws_account_id",
    "end_user_aws_account_id",
    "usage_date",
    "product_title",
    "product_id",
    "product_code",
    "offer_id",
    "agreement_id",
    "agreement_acceptance_date",
    "agreement_start_date",
    "agreement_end_date",
    "dimension_key",
    "region",
    "estimated_usage_units",
    "usage_unit_types",
    "usage_rate_per_unit",
    "estimated_revenue",
    "currency",
    "simulator_hour",
    "simulator_license_arn",
    "simulator_metered_under",
    "simulator_billing",
)


def csv_text(state: State) -> str:
    return "".join(csv_lines(state))


def csv_lines(state: State) -> Iterator[str]:
    """The header, then a line for each billed record in the order of acceptance."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines(state):
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(_row(line))
    yield buffer.getvalue()


def _row(line: Line) -> tuple[object, ...]:
    agreement, record, product = line.agreement, line.record, line.product
    region, _, account, dimension, hour = record.key
    unit = product.dimensions[dimension].unit if dimension in product.dimensions else ""
    return (
        record.metering_record_id,
        SELLER_ACCOUNT_ID,
        account,
        hour.date().isoformat(),
        product.title,
        product.product_id,
        product.code,
        agreement.offer_id,
        agreement.agreement_id,
        iso(agreement.accepted_at),
        iso(agreement.starts_at),
        iso(agreement.ends_at) if agreement.ends_at else "",
        dimension,
        region,
        plain(record.quantity),
        unit,
        plain(line.price),
        plain(line.amount),
        "USD",
        iso(hour),
        agreement.license_arn or "",
        line.metered_under,
        line.billing,
    )

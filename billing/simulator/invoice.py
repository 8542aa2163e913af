"""What AWS would bill: every accepted record by customer, dimension and hour, and their totals in USD.

Usage of one purchase metered under its license and under its product code is billed twice (facts page §0):
both lines stand on the invoice and say so.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from billing.simulator.clock import iso
from billing.simulator.records import Agreement, BilledRecord, BillingKey
from billing.simulator.shapes import Json
from billing.simulator.state import State


def invoice(state: State) -> Json:
    with state.lock:
        billed = [
            (key, record, state.agreements[record.agreement_id]) for key, record in state.billed.data.items()
        ]
        prices = {
            (product.code, dimension.key): dimension.price
            for product in state.products.values()
            for dimension in product.dimensions.values()
        }
        generated_at = iso(state.clock.now())
    times_billed = Counter((record.agreement_id, key[3], key[4]) for key, record, _ in billed)
    lines = [
        _line(key, record, agreement, twice=times_billed[record.agreement_id, key[3], key[4]] > 1)
        for key, record, agreement in billed
    ]
    lines.sort(
        key=lambda line: (line["product_code"], line["aws_account_id"], line["hour"], line["dimension"])
    )
    return {"generated_at": generated_at, "lines": lines, "totals": _totals(billed, prices)}


def plain(number: Decimal) -> str:
    """Plain notation without trailing zeros: quantities are compared by value, 17.00 is 17."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _line(key: BillingKey, record: BilledRecord, agreement: Agreement, *, twice: bool) -> Json:
    region, _, _, dimension, hour = key
    return {
        **_customer(agreement),
        "identity": agreement.identity,
        "region": region,
        "dimension": dimension,
        "hour": iso(hour),
        "timestamp": iso(record.timestamp),
        "quantity": plain(record.quantity),
        "metering_record_id": record.metering_record_id,
        "allocations": [{"quantity": plain(share), "tags": dict(tags)} for share, tags in record.allocations],
        "billed_twice": twice,
    }


def _customer(agreement: Agreement) -> Json:
    return {
        "product_code": agreement.product_code,
        "license_arn": agreement.license_arn,
        "agreement_id": agreement.agreement_id,
        "aws_account_id": agreement.aws_account_id,
        "customer_identifier": agreement.customer_identifier,
    }


def _totals(
    billed: list[tuple[BillingKey, BilledRecord, Agreement]], prices: dict[tuple[str, str], Decimal]
) -> list[Json]:
    sums: dict[tuple[str, str], Decimal] = {}
    agreements: dict[str, Agreement] = {}
    for key, record, agreement in billed:
        agreements[agreement.agreement_id] = agreement
        total = (agreement.agreement_id, key[3])
        sums[total] = sums.get(total, Decimal(0)) + record.quantity
    totals = [
        {
            **_customer(agreements[agreement_id]),
            "dimension": dimension,
            "quantity": plain(quantity),
            "amount": format(
                quantity * prices.get((agreements[agreement_id].product_code, dimension), Decimal(0)), ".2f"
            ),
        }
        for (agreement_id, dimension), quantity in sums.items()
    ]
    totals.sort(key=lambda total: (total["product_code"], total["aws_account_id"], total["dimension"]))
    return totals

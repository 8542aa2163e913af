"""What AWS would bill: every accepted record by customer, dimension and hour, and their totals in USD.

Usage of one purchase metered under its license and under its product code is billed twice (facts page §0):
both lines stand on the invoice and say so. Usage within a free trial is priced at 0 (facts page §3.6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from billing.simulator.catalog import Product
from billing.simulator.clock import iso
from billing.simulator.records import Agreement, BilledRecord
from billing.simulator.shapes import Json
from billing.simulator.state import State

Usage = tuple[str, str, datetime]
"""Agreement, dimension, hour: what should be billed once."""


@dataclass(frozen=True, slots=True)
class Line:
    record: BilledRecord
    agreement: Agreement
    product: Product
    metered_under: Literal["LicenseArn", "ProductCode"]
    price: Decimal
    """For one unit; 0 within a free trial."""
    billing: int
    """1, or 2 and up when this hour of the purchase was billed before."""
    billed_twice: bool

    @property
    def amount(self) -> Decimal:
        return self.price * self.record.quantity


@dataclass(slots=True)
class _Total:
    quantity: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)


def lines(state: State) -> Iterator[Line]:
    """Every billed record in the order of acceptance; the lock is held for a copy only."""
    with state.lock:
        records = list(state.billed.data.values())
        agreements = dict(state.agreements.data)
        products = dict(state.products.data)
    times = Counter(_usage(record) for record in records)
    repeated: dict[Usage, int] = {usage: 0 for usage, count in times.items() if count > 1}
    del times
    for record in records:
        agreement, usage = agreements[record.agreement_id], _usage(record)
        product = products[agreement.product_code]
        # A product listed anew may have lost the dimension.
        dimension = product.dimensions.get(record.key[3])
        billed_twice = usage in repeated
        if billed_twice:
            repeated[usage] += 1
        on_trial = agreement.trial_ends_at is not None and record.key[4] < agreement.trial_ends_at
        yield Line(
            record=record,
            agreement=agreement,
            product=product,
            metered_under="LicenseArn" if record.key[1] == agreement.license_arn else "ProductCode",
            price=dimension.price if dimension and not on_trial else Decimal(0),
            billing=repeated[usage] if billed_twice else 1,
            billed_twice=billed_twice,
        )


def invoice(state: State) -> Json:
    shown: list[Json] = []
    totals: dict[tuple[str, str], _Total] = {}
    agreements: dict[str, Agreement] = {}
    for line in lines(state):
        shown.append(_shown(line))
        agreements[line.agreement.agreement_id] = line.agreement
        total = totals.setdefault((line.agreement.agreement_id, line.record.key[3]), _Total())
        total.quantity += line.record.quantity
        total.amount += line.amount
    shown.sort(
        key=lambda line: (line["product_code"], line["aws_account_id"], line["hour"], line["dimension"])
    )
    summed = [
        {
            **_customer(agreements[agreement_id]),
            "dimension": dimension,
            "quantity": plain(total.quantity),
            "amount": format(total.amount, ".2f"),
        }
        for (agreement_id, dimension), total in totals.items()
    ]
    summed.sort(key=lambda total: (total["product_code"], total["aws_account_id"], total["dimension"]))
    return {"generated_at": iso(state.clock.now()), "lines": shown, "totals": summed}


def by_hour(state: State, *, hours: int) -> list[Json]:
    """What was billed in each of the last ``hours``, over all customers; without the hours of no usage."""
    with state.lock:
        since = state.clock.now() - timedelta(hours=hours)
        records = [record for record in state.billed.data.values() if record.key[4] > since]
        agreements = state.agreements.data.copy()
    sums: dict[tuple[datetime, str, str], Decimal] = {}
    for record in records:
        name = record.key[4], agreements[record.agreement_id].product_code, record.key[3]
        sums[name] = sums.get(name, Decimal(0)) + record.quantity
    return [
        {"hour": iso(hour), "product_code": code, "dimension": dimension, "quantity": plain(quantity)}
        for (hour, code, dimension), quantity in sorted(sums.items())
    ]


def plain(number: Decimal) -> str:
    """Plain notation without trailing zeros: quantities are compared by value, 17.00 is 17."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _usage(record: BilledRecord) -> Usage:
    return record.agreement_id, record.key[3], record.key[4]


def _shown(line: Line) -> Json:
    record = line.record
    region, _, _, dimension, hour = record.key
    return {
        **_customer(line.agreement),
        "identity": line.agreement.identity,
        "metered_under": line.metered_under,
        "region": region,
        "dimension": dimension,
        "hour": iso(hour),
        "timestamp": iso(record.timestamp),
        "quantity": plain(record.quantity),
        "amount": plain(line.amount),
        "metering_record_id": record.metering_record_id,
        "allocations": [{"quantity": plain(share), "tags": dict(tags)} for share, tags in record.allocations],
        "billing": line.billing,
        "billed_twice": line.billed_twice,
    }


def _customer(agreement: Agreement) -> Json:
    return {
        "product_code": agreement.product_code,
        "license_arn": agreement.license_arn,
        "agreement_id": agreement.agreement_id,
        "aws_account_id": agreement.aws_account_id,
        "customer_identifier": agreement.customer_identifier,
    }

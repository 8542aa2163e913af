"""What AWS would bill: every accepted record by customer, dimension and hour, and their totals in USD.

Usage of one purchase metered under its license and under its product code is billed twice (facts page §0):
both lines stand on the invoice and say so. Usage within a free trial is priced at 0 (facts page §3.6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Literal

from billing.simulator.aws.shapes import Json
from billing.simulator.catalog import Product
from billing.simulator.clock import iso
from billing.simulator.control_api.reports import names
from billing.simulator.records import Agreement, BilledRecord
from billing.simulator.state import State


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


class Books:
    """What was billed, as it stood when these were opened, and the rules by which it is priced."""

    def __init__(self, state: State) -> None:
        with state.lock:
            self._billed = state.billed.data
            self.records = list(self._billed.values())
            self.agreements = dict(state.agreements.data)
            self.products = dict(state.products.data)

    @cached_property
    def _regions(self) -> set[str]:
        return {record.key[0] for record in self.records}

    def price(self, agreement: Agreement, dimension: str) -> Decimal:
        """The list price; 0 when a product listed anew has lost the dimension."""
        known = self.products[agreement.product_code].dimensions.get(dimension)
        return known.price if known else Decimal(0)

    def billings(self, record: BilledRecord) -> int:
        """How often this hour of the purchase was billed: more than once when it was metered under license
        and product code, or in two Regions.
        """
        region, reference, account, dimension, hour = record.key
        agreement = self.agreements[record.agreement_id]
        if len(self._regions) == 1 and agreement.license_arn is None:
            return 1
        found = 0
        for region in self._regions:
            for name in {reference, agreement.license_arn or reference, agreement.product_code}:
                other = self._billed.get((region, name, account, dimension, hour))
                found += other is not None and other.agreement_id == record.agreement_id
        return found


def is_on_trial(agreement: Agreement, hour: datetime) -> bool:
    return agreement.trial_ends_at is not None and hour < agreement.trial_ends_at


def lines(state: State) -> Iterator[Line]:
    """Every billed record in the order of acceptance; the lock is held for a copy only."""
    books = Books(state)
    repeated: Counter[tuple[str, str, datetime]] = Counter()
    for record in books.records:
        agreement = books.agreements[record.agreement_id]
        _, _, _, dimension, hour = record.key
        billing, billed_twice = 1, books.billings(record) > 1
        if billed_twice:
            usage = record.agreement_id, dimension, hour
            repeated[usage] += 1
            billing = repeated[usage]
        yield Line(
            record=record,
            agreement=agreement,
            product=books.products[agreement.product_code],
            metered_under="LicenseArn" if record.key[1] == agreement.license_arn else "ProductCode",
            price=Decimal(0) if is_on_trial(agreement, hour) else books.price(agreement, dimension),
            billing=billing,
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


def plain(number: Decimal) -> str:
    """Plain notation without trailing zeros: quantities are compared by value, 17.00 is 17."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


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
    return {"product_code": agreement.product_code, **names(agreement)}

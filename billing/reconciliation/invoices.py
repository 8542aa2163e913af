"""What AWS billed, against what the ledger says that AWS accepted: by purchase, dimension and hour.

Reads the simulator's invoice.json, or a CSV with the columns of AWS's usage report. AWS's own report has days
and no licenses: then days are compared, of all that an account bought of a product, and it is said so.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from billing.models import MeteringRecord
from billing.reconciliation.breach import Breach
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.reading import Account, Span

Purchase = tuple[str, ...]
"""A license, or a product code and the buyer's account."""
Key = tuple[Purchase, str, datetime]

_BOUND = 10**13


class InvoiceUnusable(ValueError):
    """The file cannot be compared; the message says what is wrong with it."""


@dataclass(slots=True)
class Invoice:
    by_hour: bool
    by_license: bool
    lines: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    twice: list[Key] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Invoice:
        """Raises InvoiceUnusable."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise InvoiceUnusable(f"{path}: {error}") from error
        if text.lstrip().startswith(("{", "[")):
            return cls._from_rows(_json_rows(text), first=1)
        reader = csv.DictReader(text.splitlines())
        known = set(reader.fieldnames or ())
        wanted = {"dimension_key", "estimated_usage_units", "product_code", "end_user_aws_account_id"}
        absent = sorted(wanted - known) + ([] if {"usage_date", "simulator_hour"} & known else ["usage_date"])
        if absent:
            raise InvoiceUnusable(f"{path} is not AWS's usage report: it has no {', '.join(absent)}")
        return cls._from_rows((_csv_row(row) for row in reader), first=2)

    @classmethod
    def _from_rows(cls, rows: Iterable[Mapping[str, Any]], *, first: int) -> Invoice:
        invoice = cls(by_hour=True, by_license=True)
        times: Counter[tuple[str, str, datetime]] = Counter()
        read = []
        for number, row in enumerate(rows, first):
            try:
                read.append(_line(row))
            except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
                raise InvoiceUnusable(f"Line {number} of the invoice cannot be read: {error!r}") from error
        invoice.by_hour = all(line.hour is not None for line in read)
        invoice.by_license = all(line.by_license for line in read)
        for line in read:
            instant = line.hour if invoice.by_hour and line.hour is not None else line.day
            purchase = line.purchase if invoice.by_license else line.buyer
            key = (purchase, line.dimension, instant)
            if invoice.by_hour:
                billed = (line.agreement or "/".join(purchase), line.dimension, instant)
                times[billed] += 1
                if times[billed] > 1:
                    invoice.twice.append(key)
            invoice.lines[key] += line.millionths
        return invoice

    def key(self, record: MeteringRecord, account: Account) -> Key:
        hour = record.hour.astimezone(UTC)
        instant = hour if self.by_hour else hour.replace(hour=0)
        found = [(purchase, record.dimension.key, instant) for purchase in self._purchases(record, account)]
        return next((key for key in found if key in self.lines), found[0])

    def _purchases(self, record: MeteringRecord, account: Account) -> Iterator[Purchase]:
        if self.by_license and record.wire_license_arn is not None:
            yield (_license_id(record.wire_license_arn),)
            return
        customer = account.agreement.customer
        ids = (
            record.wire_account_id,
            record.wire_customer_identifier,
            customer.aws_account_id,
            customer.customer_identifier,
        )
        for known in ids:
            if known:
                yield (account.agreement.product.code, known)


@dataclass(frozen=True, slots=True)
class _Line:
    purchase: Purchase
    buyer: Purchase
    by_license: bool
    agreement: str
    dimension: str
    hour: datetime | None
    day: datetime
    millionths: int


@dataclass(slots=True)
class _Ours:
    """The ledger's side of one line: what was accepted, and what AWS may hold without our knowing."""

    agreement: int
    records: list[int] = field(default_factory=list)
    accepted: int = 0
    in_doubt: int = 0


class Comparison:
    """Collects the ledger's side agreement by agreement, then tells the differences."""

    def __init__(self, invoice: Invoice, *, span: Span) -> None:
        self._invoice = invoice
        self._span = span
        self._ours: dict[Key, _Ours] = {}
        self._purchases: set[Purchase] = set()

    def add(self, account: Account) -> None:
        for record in account.checked():
            key = self._invoice.key(record, account)
            self._purchases.add(key[0])
            if not self._covers(key[2]):
                continue
            accepted = record.state == "accepted"
            taken = any(line.maybe_taken for line in account.lines.get(record.pk, ()))
            if not accepted and not taken:
                continue
            ours = self._ours.setdefault(key, _Ours(account.agreement.pk))
            ours.records.append(record.pk)
            if accepted:
                ours.accepted += millionths(record.quantity)
            else:
                ours.in_doubt += millionths(record.quantity)
        arn = account.agreement.license_arn
        if arn is not None and self._invoice.by_license:
            self._purchases.add((_license_id(arn),))
        customer = account.agreement.customer
        for known in (customer.aws_account_id, customer.customer_identifier):
            if known:
                self._purchases.add((account.agreement.product.code, known))

    def differences(self, *, all_agreements: bool) -> Iterator[Breach]:
        for key in self._invoice.twice:
            if self._covers(key[2]) and (all_agreements or key[0] in self._purchases):
                yield self._breach("billed_twice", key, "the invoice has this hour more than once")
        for key, ours in self._ours.items():
            if key not in self._invoice.lines and ours.accepted:
                yield self._breach("not_on_invoice", key, "AWS accepted it, and did not bill it", found="0")
        for key, billed in self._invoice.lines.items():
            if not self._covers(key[2]) or not (all_agreements or key[0] in self._purchases):
                continue
            our = self._ours.get(key)
            accepted = our.accepted if our else 0
            if billed == accepted:
                continue
            if our is not None and our.in_doubt and accepted < billed <= accepted + our.in_doubt:
                text = "AWS billed what the ledger has in doubt"
                yield self._breach("not_in_ledger", key, text, is_information=True)
            elif accepted:
                yield self._breach(
                    "differs_from_invoice", key, "AWS billed another quantity than it accepted"
                )
            else:
                yield self._breach("not_in_ledger", key, "AWS billed it, and the ledger has it not accepted")

    def _covers(self, instant: datetime) -> bool:
        # A day that the span cuts is not whole in the ledger's part.
        last = instant if self._invoice.by_hour else instant + timedelta(hours=23)
        return instant in self._span and last in self._span

    def _breach(
        self, kind: str, key: Key, text: str, *, found: str = "", is_information: bool = False
    ) -> Breach:
        ours = self._ours.get(key)
        purchase, dimension, instant = key
        return Breach(
            kind,
            f"{text} ({' · '.join(purchase)})",
            agreement=ours.agreement if ours else None,
            dimension=dimension,
            hour=instant,
            record=ours.records[0] if ours and len(ours.records) == 1 else None,
            expected=plain(ours.accepted if ours else 0),
            found=found or plain(self._invoice.lines.get(key, 0)),
            is_information=is_information,
        )


def _json_rows(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        rows = json.loads(text, parse_float=Decimal)["lines"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvoiceUnusable(f"The invoice is neither the simulator's JSON nor CSV: {error!r}") from error
    if not isinstance(rows, list):
        raise InvoiceUnusable("The invoice's lines are not a list.")
    return iter(rows)


def _csv_row(row: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "license_arn": row.get("simulator_license_arn"),
        "metered_under": row.get("simulator_metered_under"),
        "product_code": row["product_code"],
        "aws_account_id": row["end_user_aws_account_id"],
        "agreement_id": row.get("agreement_id"),
        "dimension": row["dimension_key"],
        "hour": row.get("simulator_hour"),
        "day": row.get("usage_date"),
        "quantity": row["estimated_usage_units"],
    }


def _line(row: Mapping[str, Any]) -> _Line:
    buyer = (row["product_code"], row["aws_account_id"] or row.get("customer_identifier") or "")
    arn, under = row.get("license_arn"), row.get("metered_under")
    hour = datetime.fromisoformat(row["hour"]) if row.get("hour") else None
    if hour is not None:
        if hour.tzinfo is None:
            raise ValueError(f"{row['hour']} has no time zone")
        hour = hour.astimezone(UTC)
    day = hour if hour is not None else datetime.fromisoformat(row["day"])
    quantity = Decimal(row["quantity"])
    if not quantity.is_finite() or abs(quantity) >= _BOUND:
        raise ValueError(f"{quantity} is no quantity")
    return _Line(
        purchase=(_license_id(arn),) if arn and under == "LicenseArn" else buyer,
        buyer=buyer,
        by_license=under is not None,
        agreement=row.get("agreement_id") or "",
        dimension=row["dimension"],
        hour=hour,
        day=datetime.combine(day.date(), time(), UTC),
        millionths=millionths(quantity),
    )


def _license_id(arn: str) -> str:
    return arn.replace("/", ":").rsplit(":", 1)[-1]

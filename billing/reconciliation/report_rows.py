"""Reading AWS's usage report, a row at a time. What cannot be read is told by its line, and what to do.

Three kinds of file have these columns: an export of the usage dashboard and the simulator's CSV tell all of
their days anew; a file of AWS's data subscription (with ``row_type``) tells what changed, line by line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from hashlib import sha256
from io import TextIOWrapper
from typing import BinaryIO

from django.utils.translation import gettext as _

from billing.reconciliation.exact import plain

MOST_BYTES = 100 * 1024 * 1024

_WANTED = ("product_code", "end_user_aws_account_id", "dimension_key", "estimated_usage_units")
_DAYS = ("usage_date", "simulator_hour")
_FEED, _ID, _MODIFIED = "row_type", "internal_usage_line_item_id", "row_modified_date"
_BOUND = Decimal(10**12)
_PLACES = Decimal("0.000001")
_BOUNDS = {"agreement_id": 64, "region": 30}
_LONGEST = 255
_OTHER_FILES = {b"PK": "Excel", b"\x1f\x8b": "gzip", b"PAR1": "Parquet"}


class ReportUnusable(ValueError):
    """The file cannot be imported; the message says what is wrong with it, and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    number: int  # its line in the file
    product_code: str
    account: str
    agreement_number: str
    license_id: str
    dimension_key: str
    region: str
    day: date
    hour: datetime | None
    millionths: int
    line_id: str  # AWS's own, in a feed
    modified_at: datetime | None

    @property
    def identity(self) -> str:
        """What it tells of; rows of a feed are told apart by AWS's id of them alone."""
        if self.line_id:
            return f"id\x1f{self.line_id}"
        instant = self.hour.isoformat() if self.hour is not None else self.day.isoformat()
        return "\x1f".join(
            [
                self.product_code,
                self.account,
                self.agreement_number,
                self.license_id,
                self.dimension_key,
                self.region,
                instant,
            ]
        )

    @property
    def digest(self) -> int:
        text = f"{self.identity}\x1f{self.day}\x1f{plain(self.millionths)}\x1f{self.modified_at or ''}"
        return int.from_bytes(sha256(text.encode()).digest(), "big")


def check_size(size: int) -> None:
    """Raises ReportUnusable."""
    if size > MOST_BYTES:
        raise ReportUnusable(
            _("The file has more than 100 MB. Export a month at a time, or fewer products, and import each.")
        )


def read(file: BinaryIO) -> Iterator[Row]:
    """Every row from the beginning. Raises ReportUnusable."""
    file.seek(0)
    head = file.read(4)
    for magic, name in _OTHER_FILES.items():
        if head.startswith(magic):
            raise ReportUnusable(
                _("This is a file of %(kind)s. Export the report as CSV and import that.") % {"kind": name}
            )
    file.seek(0)
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        yield from _rows(reader)
    except UnicodeDecodeError as error:
        raise ReportUnusable(
            _("After line %(line)d the file is not UTF-8. Export the report again, as CSV in UTF-8.")
            % {"line": reader.line_num}
        ) from error
    except csv.Error as error:
        raise ReportUnusable(
            _("Line %(line)d is no line of a CSV file: a quotation mark may be missing. Export it again.")
            % {"line": reader.line_num + 1}
        ) from error
    finally:
        text.detach()  # the file is the caller's, to read again


def _rows(reader: csv.DictReader[str]) -> Iterator[Row]:
    names = reader.fieldnames or ()
    absent = [name for name in _WANTED if name not in names]
    if not set(_DAYS) & set(names):
        absent.append("usage_date")
    if _FEED in names and _ID not in names:
        absent.append(_ID)
    if absent:
        raise ReportUnusable(
            _(
                "This is not AWS's usage report: it has no column %(columns)s. Export the report with all of "
                "its columns, their names in the first line, separated by commas."
            )
            % {"columns": ", ".join(absent)}
        )
    for cells in reader:
        yield _row(reader.line_num, cells)


def _row(line: int, cells: Mapping[str, str | None]) -> Row:
    if None in cells or None in cells.values():
        raise ReportUnusable(
            _("Line %(line)d has another number of columns than the first. Export the report again.")
            % {"line": line}
        )

    def text(name: str) -> str:
        value = (cells.get(name) or "").strip()
        if len(value) > _BOUNDS.get(name, _LONGEST) or "\x00" in value:
            raise _unreadable(line, name, value)
        return value

    kind = text(_FEED).upper()
    if kind not in ("", "INSERT", "UPDATE", "DELETE"):
        raise _unreadable(line, _FEED, kind)
    hour = _instant(line, "simulator_hour", text("simulator_hour"))
    product_code, dimension = text("product_code"), text("dimension_key")
    for name, value in (("product_code", product_code), ("dimension_key", dimension)):
        if not value:
            raise _unreadable(line, name, value)
    return Row(
        number=line,
        product_code=product_code,
        account=text("end_user_aws_account_id"),
        agreement_number=text("agreement_id"),
        license_id=_license(text("simulator_metered_under"), cells.get("simulator_license_arn") or "", line),
        dimension_key=dimension,
        region=text("region"),
        day=hour.date() if hour is not None else _day(line, text("usage_date")),
        hour=hour,
        # What was taken back stays known, as nothing.
        millionths=0 if kind == "DELETE" else _millionths(line, text("estimated_usage_units")),
        line_id=text(_ID) if kind else "",
        modified_at=_instant(line, _MODIFIED, text(_MODIFIED)) if kind else None,
    )


def _license(metered_under: str, arn: str, line: int) -> str:
    if metered_under != "LicenseArn":
        return ""
    found = arn.strip().replace("/", ":").rsplit(":", 1)[-1]
    if not found or len(found) > _LONGEST or "\x00" in found:
        raise _unreadable(line, "simulator_license_arn", arn)
    return found


def _day(line: int, text: str) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise ReportUnusable(
            _(
                "Line %(line)d: usage_date is “%(value)s”, not a day like 2026-11-23. A spreadsheet may have "
                "changed it: import the file as AWS gave it."
            )
            % {"line": line, "value": text[:40]}
        ) from error


def _instant(line: int, name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise _unreadable(line, name, text) from error
    return instant.astimezone(UTC) if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _millionths(line: int, text: str) -> int:
    try:
        quantity = Decimal(text)
        if not quantity.is_finite() or abs(quantity) >= _BOUND:
            raise InvalidOperation
    except InvalidOperation as error:
        raise ReportUnusable(
            _(
                "Line %(line)d: estimated_usage_units is “%(value)s”, not a number like 1204.5. A "
                "spreadsheet may have changed it: import the file as AWS gave it."
            )
            % {"line": line, "value": text[:40]}
        ) from error
    return int(quantity.quantize(_PLACES, ROUND_HALF_EVEN).scaleb(6))


def _unreadable(line: int, name: str, value: str) -> ReportUnusable:
    return ReportUnusable(
        _("Line %(line)d: “%(value)s” cannot stand in column %(column)s. Export the report again.")
        % {"line": line, "value": value[:40], "column": name}
    )

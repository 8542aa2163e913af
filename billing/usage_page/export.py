"""The usage page's figures as CSV: exact, in UTC, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from billing.usage_page.report import Report

HEADER = (
    "from", "until", "product", "dimension", "unit", "used", "included_in_plan", "billed_by_aws",
    "being_reported", "not_reported_yet", "being_checked", "not_billed", "is_final",
)  # fmt: skip


class _Echo:
    """csv writes to it what the caller wants to have."""

    def write(self, line: str) -> str:
        return line


def lines(report: Report) -> Iterator[str]:
    """One line for each hour, day or month of the period, those without usage too."""
    writer = csv.writer(_Echo())
    meter = report.choice.meter
    names = [_text(each) for each in (meter.product, meter.key, meter.unit)]
    yield writer.writerow(HEADER)
    for place, figures in report.places:
        amounts = (
            figures.used, figures.included, figures.billed, figures.sending, figures.open, figures.checked,
            figures.not_billed,
        )  # fmt: skip
        is_final = place.is_over and figures.is_settled
        yield writer.writerow(
            [
                _instant(place.start),
                _instant(place.end),
                *names,
                *(_exact(amount) for amount in amounts),
                "yes" if is_final else "no",
            ]
        )


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exact(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _text(value: str) -> str:
    """A spreadsheet runs what looks like a formula."""
    return f"'{value}" if value.lstrip().startswith(("=", "+", "-", "@")) else value

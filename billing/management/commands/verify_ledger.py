"""`manage.py verify_ledger`: prove the ledger from its sources, and compare it with what AWS billed."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from billing import reconciliation
from billing.customers import license_id
from billing.models import Agreement

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Recompute every metering record from usage, entitlements and AWS's answers. Prints each breach; "
        "exits with 1 on any, with 2 on input that cannot be used."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kinds = "\n".join(f"  {kind:<22}{text}" for kind, text in reconciliation.KINDS.items())
        return super().create_parser(
            prog_name,
            subcommand,
            epilog=f"kinds of breach:\n{kinds}",
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs,
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--agreement", help="our number, AWS's agreement id, or a license id or ARN")
        parser.add_argument(
            "--since", type=_instant, help="only hours from then on: 2026-11-01[T06:00] (UTC)"
        )
        parser.add_argument(
            "--until", type=_instant, help="only hours before then: 2026-12-01, with a report of November"
        )
        parser.add_argument(
            "--invoice", type=Path, metavar="FILE", help="invoice.json, or AWS's usage report as CSV"
        )

    def handle(
        self,
        *args: Any,
        agreement: str | None,
        since: datetime | None,
        until: datetime | None,
        invoice: Path | None,
        **options: Any,
    ) -> None:
        try:
            billed = None if invoice is None else reconciliation.Invoice.read(invoice)
        except reconciliation.InvoiceUnusable as error:
            raise CommandError(str(error), returncode=_UNUSABLE) from error
        agreements = None if agreement is None else _agreements(agreement)
        if billed is not None and not billed.by_hour:
            self.stdout.write("The invoice has no hours: whole days are compared.")
        if billed is not None and not billed.by_license:
            self.stdout.write("The invoice has no licenses: all that an account bought is compared together.")
        breaches: Counter[str] = Counter()
        notes = 0
        for found in reconciliation.findings(agreements=agreements, since=since, until=until, invoice=billed):
            self.stdout.write(_line(found))
            if found.is_information:
                notes += 1
            else:
                breaches[found.kind] += 1
        summary = ", ".join(f"{kind}: {count}" for kind, count in sorted(breaches.items()))
        self.stdout.write(f"{breaches.total()} breaches{f' ({summary})' if summary else ''}, {notes} notes.")
        if breaches:
            sys.exit(1)


def _line(found: reconciliation.Breach) -> str:
    what = "note" if found.is_information else "BREACH"
    where = [
        f"agreement {found.agreement}" if found.agreement is not None else "",
        found.dimension,
        f"{found.hour:%Y-%m-%dT%H:%MZ}" if found.hour is not None else "",
        f"record {found.record}" if found.record is not None else "",
    ]
    figures = f" [expected {found.expected or '-'}, found {found.found or '-'}]"
    return f"{what} {found.kind}: {', '.join(part for part in where if part)}: {found.text}{figures}"


def _agreements(name: str) -> list[Agreement]:
    known = Q(agreement_id=name)
    if name.isdecimal() and len(name) < 19:
        known |= Q(pk=int(name))
    try:
        known |= Q(license_id=license_id(name if ":" in name else f":{name}"))
    except ValueError:
        pass  # not a license
    found = list(Agreement.objects.filter(known))
    if not found:
        raise CommandError(f"There is no agreement {name!r}.", returncode=_UNUSABLE)
    return found


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)

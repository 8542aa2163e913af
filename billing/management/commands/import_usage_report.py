"""`manage.py import_usage_report FILE`: import AWS's usage report, for the reconciliation page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.reconciliation import importing
from billing.reconciliation.report_rows import ReportUnusable
from billing.trail import acting

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Import AWS's usage report (CSV) from a file. The same rows once more change nothing; a newer report "
        "takes the place of what older ones told of its products from its first day to its last. Exits with "
        "2 on a file that cannot be used: then nothing of it is imported."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--again", action="store_true", help="let it count again where newer reports have replaced it"
        )

    def handle(self, *args: Any, file: Path, again: bool, **options: Any) -> None:
        try:
            with file.open("rb") as opened:
                imported = importing.import_report(
                    opened, name=file.name, by=acting.COMMAND, now=timezone.now(), again=again
                )
        except ReportUnusable as unusable:
            raise CommandError(str(unusable), returncode=_UNUSABLE) from unusable
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.", returncode=_UNUSABLE) from error
        report = imported.report
        days = f"{report.first_day:%Y-%m-%d} to {report.last_day:%Y-%m-%d}"
        if not imported.is_new and not imported.replaced:
            self.stdout.write(f"These rows were imported before, as report {report.pk}: nothing changed.")
            if imported.is_outdated:
                self.stdout.write(
                    "Newer reports have replaced some of them: add --again to let them count again."
                )
        else:
            self.stdout.write(f"Report {report.pk}: {report.line_count} lines, of {days}.")
        if imported.replaced:
            self.stdout.write(f"{imported.replaced} lines of earlier reports are replaced.")
        if imported.unmatched:
            self.stdout.write(f"{imported.unmatched} lines match no purchase: see the reconciliation page.")

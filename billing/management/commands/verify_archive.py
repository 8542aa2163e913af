"""`manage.py verify_archive`: prove the files of archived usage from what is kept of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.reconciliation import archives
from billing.reconciliation.verification import one_instant

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Read every file of archived usage: checksum, sums, keys, and the metering records that its uses "
        "made. Prints each breach; exits with 1 on any, with 2 without a directory to read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dir", type=Path, help="where the files are, if not in USAGE_ARCHIVE_DIR")

    def handle(self, *args: Any, dir: Path | None, **options: Any) -> None:
        if dir is None and not settings.USAGE_ARCHIVE_DIR:
            raise CommandError("Set USAGE_ARCHIVE_DIR, or give --dir.", returncode=_UNUSABLE)
        breaches = notes = 0
        with one_instant():
            for found in archives.check(dir or Path(settings.USAGE_ARCHIVE_DIR)):
                breaches, notes = breaches + (not found.is_information), notes + found.is_information
                what = "note" if found.is_information else "BREACH"
                figures = f" [expected {found.expected}, found {found.found}]" if found.expected else ""
                self.stdout.write(f"{what} {found.kind}: {found.text}{figures}")
        self.stdout.write(f"{breaches} breaches, {notes} notes.")
        if breaches:
            sys.exit(1)

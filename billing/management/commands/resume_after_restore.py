"""`manage.py resume_after_restore`: once after a restore, before the worker and beat start again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import restoring

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "After a restore from a backup: take every unsettled record for sent, close usage in its own hour, "
        "and set aside what would be billed under another hour than the first time. docs/backup.md has the "
        "steps around it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--everything-is-stopped",
            action="store_true",
            help="no worker and no beat runs, and what was used since the backup is recorded again",
        )

    def handle(self, *args: Any, everything_is_stopped: bool, **options: Any) -> None:
        if not everything_is_stopped:
            raise CommandError(
                "Stop every worker and beat, record again what was used since the backup, and say so with "
                "--everything-is-stopped. docs/backup.md.",
                returncode=_UNUSABLE,
            )
        assumed = restoring.assume_sent(now=timezone.now())
        self.stdout.write(
            f"{assumed.records} records are in doubt: they go out again as they are, and AWS bills each once."
        )
        self.stdout.write(
            f"{assumed.hours} hours were closed as they are recorded now: AWS bills each once, and keeps its "
            "own figure where it has another (a conflict)."
        )
        self.stdout.write(
            f"{assumed.uses} uses came too late for their own hour: compare with AWS's report, then bill "
            "them late or write them off."
        )
        if assumed.late:
            self.stdout.write(
                f"{assumed.late} uses were too late already: an operator may have billed them since the "
                "backup. Bill none of them before AWS's report tells what it billed."
            )
        if assumed.undecided:
            self.stdout.write(
                f"{assumed.undecided} records are parked, expired or in conflict, as they were when the "
                "backup was made: decide nothing about them before AWS's report tells what it billed."
            )

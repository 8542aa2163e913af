"""`manage.py archive_usage`: the one way by which settled usage of old months leaves the database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import leases, retention
from billing.archiving.archive_files import FileUnusable
from billing.models import Agreement

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Move settled usage that is older than USAGE_KEPT_MONTHS to compressed files in USAGE_ARCHIVE_DIR. "
        "Sums by day and every key stay: an old key still cannot bill twice. `verify_archive` proves the "
        "files. Run it as often as you like, best once a month at a quiet hour."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be archived")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        if not settings.USAGE_ARCHIVE_DIR:
            raise CommandError(
                "Set USAGE_ARCHIVE_DIR to a directory that lasts and is backed up.", returncode=_UNUSABLE
            )
        now = timezone.now()
        with leases.hold(retention.LEASE, length=retention.LEASE_LENGTH) as held:
            if held is None:
                raise CommandError("Another run is at work.")
            try:
                outcome = retention.archive(now=now, held=held, is_dry_run=dry_run)
            except leases.LeaseLost:
                raise CommandError("It took too long, and another run is at work by now.") from None
            except (OSError, FileUnusable) as error:
                raise CommandError(f"The archive cannot be written: {error}", returncode=_UNUSABLE) from error
        names = dict(
            Agreement.objects.filter(pk__in={pk for pk, _ in outcome.waiting}).values_list(
                "pk", "agreement_id"
            )
        )
        for (agreement, month), why in outcome.waiting.items():
            self.stdout.write(f"Agreement {agreement} ({names[agreement]}) keeps {month:%Y-%m}: {why}.")
        done = "would leave" if dry_run else "left"
        since = f"{retention.kept_since(now):%Y-%m}"
        self.stdout.write(
            f"{outcome.events} uses from before {since} {done}, in {len(outcome.files)} files; "
            f"{len(outcome.waiting)} months wait."
        )

"""`manage.py export_audit`: the audit trail as JSON lines, and the one way by which old links leave."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.trail import archive
from billing.trail.archive import Exported

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Write the links of the audit trail from before a day as JSON lines, with a closing line that holds "
        "their count and the head of each stream. `verify_audit --file` proves such a file. Exits with 1 if "
        "a chain does not hold."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until", type=_instant, required=True, help="a day, in UTC: 2026-12-01")
        parser.add_argument("--out", type=Path, metavar="FILE", help="a new file; else standard output")
        parser.add_argument(
            "--remove",
            action="store_true",
            help="then remove these links, leaving a checkpoint of each stream: for links older than "
            "AUDIT_KEPT_DAYS",
        )

    def handle(self, *args: Any, until: datetime, out: Path | None, remove: bool, **options: Any) -> None:
        now = timezone.now()
        if remove and out is None:
            raise CommandError("--remove needs --out: what is removed must be kept.", returncode=_UNUSABLE)
        if remove and until > archive.may_remove_until(now):
            oldest = archive.may_remove_until(now)
            raise CommandError(
                f"Links from {oldest:%Y-%m-%d} on are kept: nothing younger is removed.", returncode=_UNUSABLE
            )
        if out is None:
            exported = archive.export(until, self.stdout)  # type: ignore[arg-type]  # Django's wrapper writes
        else:
            exported = _to_file(until, out)
            self.stderr.write(f"{exported.count} links of {len(exported.heads)} streams are in {out}.")
        if remove:
            self.stderr.write(f"{archive.remove(exported, now=now)} links are removed.")
        for broken in exported.broken:
            self.stderr.write(f"BROKEN {broken.stream} #{broken.sequence} {broken.reason}")
        if exported.broken:
            sys.exit(1)


def _to_file(until: datetime, path: Path) -> Exported:
    """The file has its name only when it is whole and on the disk."""
    if path.exists():
        raise CommandError(f"{path} exists already.", returncode=_UNUSABLE)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            exported = archive.export(until, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}", returncode=_UNUSABLE) from error
    return exported


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)

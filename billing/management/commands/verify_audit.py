"""`manage.py verify_audit`: prove that nobody edited the audit trail, or cut something off it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import audit
from billing.models import AuditEvent
from billing.trail import archive, heads

_UNUSABLE = 2


class Command(BaseCommand):
    help = (
        "Find the first broken, missing or cut-off link of each stream of the audit trail. Prints each; "
        "exits with 1 on any, with 2 on input that cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--stream", help='only this one: "agreement:12", "organization:3", "staff", "system"'
        )
        parser.add_argument("--file", type=Path, help="an export instead of the database")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="the result as one JSON object"
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="first vouch for the ends of streams that an older version of this software wrote: once, "
            "after the upgrade that brought heads, when the old version has stopped everywhere",
        )

    def handle(
        self,
        *args: Any,
        stream: str | None,
        file: Path | None,
        as_json: bool,
        adopt: bool,
        **options: Any,
    ) -> None:
        if file is not None and (stream is not None or adopt):
            raise CommandError("--file stands alone.", returncode=_UNUSABLE)
        if stream is not None and not _is_known(stream):
            raise CommandError(f"There is no stream {stream!r}.", returncode=_UNUSABLE)
        if adopt:
            self._adopt(quietly=as_json)
        found = audit.verify(stream) if file is None else _verified(file)
        broken = list(found) if as_json else list(self._printed(found))
        if as_json:
            self.stdout.write(_as_json(broken, of_database=file is None))
        elif file is None:
            standing = heads.standing()
            self.stdout.write(f"{standing.streams} streams, digest of their heads {standing.digest}.")
        if not as_json:
            self.stdout.write(f"{len(broken)} broken." if broken else "Every chain is whole.")
        if broken:
            sys.exit(1)

    def _printed(self, found: Iterator[audit.BrokenLink]) -> Iterator[audit.BrokenLink]:
        """Each as soon as it is found: a long trail takes a while."""
        for link in found:
            where = f"{link.stream} #{link.sequence}" if link.stream else f"Line {link.sequence}"
            self.stdout.write(f"BROKEN {where} {link.reason}")
            yield link

    def _adopt(self, *, quietly: bool) -> None:
        adopted, refused = heads.adopt(now=timezone.now())
        if not quietly:
            self.stdout.write(f"Adopted the heads of {len(adopted)} streams.")
            for stream in refused:
                self.stdout.write(f"Not adopted, because its chain does not hold: {stream}")


def _is_known(stream: str) -> bool:
    return stream in (audit.STAFF, audit.SYSTEM) or heads.is_known(stream)


def _verified(file: Path) -> Iterator[audit.BrokenLink]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from archive.verify_file(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", returncode=_UNUSABLE) from error


def _as_json(broken: list[audit.BrokenLink], *, of_database: bool) -> str:
    told: dict[str, Any] = {
        "whole": not broken,
        "broken": [
            {"stream": link.stream, "sequence": link.sequence, "reason": link.reason} for link in broken
        ],
    }
    if of_database:
        standing = heads.standing()
        told |= {"streams": standing.streams, "digest": standing.digest, "links": AuditEvent.objects.count()}
    return json.dumps(told, indent=2)

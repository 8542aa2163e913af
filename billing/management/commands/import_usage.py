"""`manage.py import_usage FILE.csv`: record usage from a file; a dry run tells first what would happen."""

from __future__ import annotations

import csv
import sys
from argparse import RawTextHelpFormatter
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.recording import csv_files
from billing.recording.csv_files import Line

_BAR = 40  # characters


class Command(BaseCommand):
    help = """Record usage from a CSV file in UTF-8 whose first line names the columns, in any order:

  organization  its slug, as in /o/<slug>/
  dimension     the API name of a metered dimension
  quantity      such as 3 or 0.25
  key           names this use: the same line again counts once
  occurred_at   such as 2026-11-23T12:00:00Z, with a time zone
  agreement     optional: the AWS agreement id or license ARN that pays
  tag:<name>    optional, any number: a cost allocation tag; an empty cell is none

Without --commit nothing is stored: it tells what would be. With it, usage is stored in pieces; if the
import is stopped, run it again: what is stored already is known and left alone. Rejected lines go to
FILE.rejects.csv with their numbers and reasons; mended there, that file can be imported itself."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawTextHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--commit", action="store_true", help="store the usage")
        parser.add_argument("--piece", type=int, default=10_000, help="lines that commit together (10000)")

    def handle(self, *args: Any, file: Path, commit: bool, piece: int, **options: Any) -> None:
        if piece < 1:
            raise CommandError("--piece: give 1 or more.")
        stem = file.stem if file.suffix == ".csv" else file.name
        rejects = file.with_name(f"{stem}.rejects.csv")
        try:
            csv_files.check_file(file)
            accepted, known, rejected = self._import(file, rejects, size=piece, dry_run=not commit)
        except csv_files.UnreadableFile as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from error
        done = "stored" if commit else "would be stored"
        for disposition, count in sorted(accepted.items()):
            self.stdout.write(f"{count} {done} as {disposition}")
        self.stdout.write(f"{known} known already, left alone")
        if rejected:
            raise CommandError(f"{rejected} rejected: see {rejects}")
        if not commit:
            self.stdout.write("Nothing is stored yet: add --commit.")

    def _import(
        self, path: Path, rejects: Path, *, size: int, dry_run: bool
    ) -> tuple[Counter[str], int, int]:
        accepted: Counter[str] = Counter()
        known = rejected = 0
        bar = _Bar(path.stat().st_size)
        # utf-8-sig: a spreadsheet puts a mark first. newline: a quoted cell may hold line ends.
        with path.open("rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            names = csv_files.columns(file)
            with _rejects(rejects, names) as reject:
                for lines in csv_files.pieces(file, names, size):
                    outcome = csv_files.import_piece(lines, now=timezone.now(), dry_run=dry_run)
                    accepted += outcome.accepted
                    known += outcome.known
                    rejected += len(outcome.rejected)
                    for line, reason in outcome.rejected:
                        reject(line, reason)
                    bar.show(raw.tell(), f"{accepted.total() + known} ok, {rejected} rejected")
        bar.end()
        if not rejected:
            rejects.unlink()
        return accepted, known, rejected


@contextmanager
def _rejects(path: Path, names: list[str]) -> Iterator[Any]:
    columns = ["line", "reason", *(name for name in names if name not in ("line", "reason"))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()

        def reject(line: Line, reason: str) -> None:
            writer.writerow({**line.cells, "line": line.number, "reason": reason})

        yield reject


class _Bar:
    """How far it is, on a terminal."""

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total, self._stream = max(total, 1), stream

    def show(self, done: int, text: str) -> None:
        if self._stream.isatty():
            share = min(done / self._total, 1)
            self._stream.write(f"\r{'█' * int(_BAR * share):░<{_BAR}} {share:4.0%}  {text}")
            self._stream.flush()

    def end(self) -> None:
        if self._stream.isatty():
            self._stream.write("\n")

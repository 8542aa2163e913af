"""Usage from a CSV file: what each line says, in the words of ``record_many``, and what became of it."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

from django.db.models import Q

from accounts.models import Organization
from billing.models import Agreement
from billing.recording.many import Report, Use, record_many

REQUIRED = ("organization", "dimension", "quantity", "key", "occurred_at")
TAG = "tag:"
_OPTIONAL = ("agreement",)
_OURS = ("line", "reason")  # of a file of rejects, which may be imported once it is mended


class UnreadableFile(Exception):
    """Nothing of it was imported; the text says what to change."""


class Line(NamedTuple):
    number: int
    cells: Mapping[str, str]
    problem: str = ""


@dataclass(slots=True)
class Outcome:
    accepted: Counter[str] = field(default_factory=Counter)
    known: int = 0
    rejected: list[tuple[Line, str]] = field(default_factory=list)


def check_file(path: Path) -> None:
    """Raises UnreadableFile unless it is a file of UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    if path.exists() and not path.is_file():
        raise UnreadableFile(f"{path} is no file.")
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                decoder.decode(block)
                line += block.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path} is not UTF-8 (see line {line} and on). Save it as UTF-8.") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}.") from error


def columns(file: TextIO) -> list[str]:
    """The header. Raises UnreadableFile when it is not one of ours."""
    try:
        names = [name.strip() for name in next(csv.reader(file), [])]
    except csv.Error as error:
        raise UnreadableFile(f"The header cannot be read: {error}.") from error
    if not names:
        raise UnreadableFile("The file is empty. Its first line names the columns.")
    if missing := [name for name in REQUIRED if name not in names]:
        raise UnreadableFile(f"The first line names no column {missing[0]!r}. Needed: {', '.join(REQUIRED)}.")
    known = (*REQUIRED, *_OPTIONAL, *_OURS)
    tags = {name for name in names if name.startswith(TAG) and name != TAG}
    if unknown := [name for name in names if name not in known and name not in tags]:
        raise UnreadableFile(f"The column {unknown[0]!r} is unknown. Tags are columns like {TAG}team.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UnreadableFile(f"The column {twice[0]!r} is there twice.")
    return names


def lines(file: TextIO, names: Sequence[str]) -> Iterator[Line]:
    """Each line after the header that is not blank."""
    reader = csv.reader(file, strict=True)
    while True:
        number = reader.line_num + 2  # a quoted cell may go on over several
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, {}, f"This line is no CSV: {error}.")
            continue
        if not cells:
            continue
        problem = "" if len(cells) == len(names) else f"{len(cells)} cells under {len(names)} columns."
        yield Line(number, dict(zip(names, cells, strict=False)), problem)


def import_piece(piece: Sequence[Line], *, now: datetime, dry_run: bool) -> Outcome:
    """Record some lines, which commit together."""
    outcome = Outcome()
    names = _Names(piece)
    sent: list[Line] = []
    uses: list[Use] = []
    for line in piece:
        use = line.problem or names.use(line.cells)
        if isinstance(use, str):
            outcome.rejected.append((line, use))
        else:
            sent.append(line)
            uses.append(use)
    report: Report = record_many(uses, now=now, dry_run=dry_run)
    outcome.accepted, outcome.known = report.accepted, len(report.known)
    outcome.rejected += [(sent[refusal.number - 1], refusal.reason) for refusal in report.refused]
    outcome.rejected.sort(key=lambda rejected: rejected[0].number)
    return outcome


def pieces(file: TextIO, names: Sequence[str], size: int) -> Iterator[list[Line]]:
    rest = lines(file, names)
    while piece := list(islice(rest, size)):
        yield piece


class _Names:
    """What the names in a piece stand for: one query for organizations, one for agreements."""

    def __init__(self, piece: Sequence[Line]) -> None:
        slugs = {line.cells.get("organization", "").strip() for line in piece}
        asked = {line.cells.get("agreement", "").strip() for line in piece} - {""}
        self._organizations = dict(
            Organization.objects.filter(slug__in=_storable(slugs)).values_list("slug", "pk")
        )
        self._agreements: dict[str | None, int] = {}
        if asked:
            by_name = Q(agreement_id__in=_storable(asked)) | Q(license_arn__in=_storable(asked))
            for pk, *ids in Agreement.objects.filter(by_name).values_list(
                "pk", "agreement_id", "license_arn"
            ):
                self._agreements.update(dict.fromkeys(ids, pk))

    def use(self, cells: Mapping[str, str]) -> Use | str:
        """The line's use, or why it is none."""
        slug, bought = cells["organization"].strip(), cells.get("agreement", "").strip()
        if slug not in self._organizations:
            return f"organization: there is none with the slug {slug!r}."
        if bought and bought not in self._agreements:
            return f"agreement: none has the agreement id or license ARN {bought!r}."
        try:
            occurred_at = datetime.fromisoformat(cells["occurred_at"].strip())
        except ValueError:
            return "occurred_at: give a time such as 2026-11-23T12:00:00Z."
        return Use(
            self._organizations[slug],
            cells["dimension"].strip(),
            cells["quantity"].strip(),
            cells["key"],
            {name.removeprefix(TAG): text for name, text in cells.items() if name.startswith(TAG) and text},
            occurred_at,
            self._agreements[bought] if bought else None,
        )


def _storable(names: set[str]) -> list[str]:
    return [name for name in names if "\x00" not in name]

"""Importing AWS's usage report: all of a file or nothing of it, and the same rows once.

A file that tells its days anew takes the place of what earlier files told of its products from its first day
to its last. A file of changes takes the place of the lines that it names. What is replaced is kept.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import islice
from typing import BinaryIO

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts.models import User
from billing import audit
from billing.models import UsageReport, UsageReportLine
from billing.reconciliation import report_rows
from billing.reconciliation.matching import Match, Matcher, match_again
from billing.reconciliation.report_rows import ReportUnusable, Row

_AT_ONCE = 1000
_KEYS_AT_ONCE = 500
_LOCK = "usage_reports"


@dataclass(frozen=True, slots=True)
class Imported:
    report: UsageReport
    is_new: bool  # False: these rows were imported before
    replaced: int  # lines of earlier reports
    unmatched: int  # lines that are no purchase's of ours

    @property
    def is_outdated(self) -> bool:
        """It was imported before, and newer reports have told some of it anew."""
        return not self.is_new and _is_outdated(self.report)


@dataclass(slots=True)
class _Survey:
    """What a first look through the file tells of all of it."""

    lines: int = 0
    digest: int = 0
    is_feed: bool = False
    days: dict[str, tuple[date, date]] = field(default_factory=dict)
    # Of a feed: the line of the file that stands, by key.
    newest: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.lines += 1
        self.digest = (self.digest + row.digest) % 2**256
        first, last = self.days.get(row.product_code, (row.day, row.day))
        self.days[row.product_code] = (min(first, row.day), max(last, row.day))
        if row.line_id:
            self.is_feed = True
            rank = (row.modified_at.timestamp() if row.modified_at else 0.0, row.number)
            self.newest[row.identity] = max(rank, self.newest.get(row.identity, rank))


def import_report(
    file: BinaryIO, *, name: str, by: User | str, now: datetime, again: bool = False
) -> Imported:
    """Import ``file``. The same rows once more change nothing; with ``again`` they stand anew where newer
    reports have replaced them. Raises ReportUnusable.
    """
    size = file.seek(0, os.SEEK_END)
    report_rows.check_size(size)
    survey = _Survey()
    for row in report_rows.read(file):
        survey.add(row)
    if not survey.lines:
        raise ReportUnusable(_("The report has no lines: choose the days that you want and export it again."))
    with transaction.atomic():
        audit.lock(_LOCK)
        matcher = Matcher()
        match_again(matcher)
        known = UsageReport.objects.filter(digest=f"{survey.digest:064x}").first()
        # Changes stand in the order in which AWS made them, whenever they are imported.
        if known is not None and (not again or known.is_feed or not _is_outdated(known)):
            return Imported(known, False, 0, _unmatched(known))
        report = known or _new(survey, name=name, size=size, by=by, now=now)
        replaced = _replace(report, survey)
        if known is None:
            _store(report, file, survey, matcher)
        else:
            report.lines.update(replaced_by=None)
        imported = Imported(report, known is None, replaced, _unmatched(report))
        audit.record(
            audit.STAFF if isinstance(by, User) else audit.SYSTEM,
            "usage_report_imported",
            by=by,
            at=now,
            report=report.pk,
            digest=report.digest,
            lines=report.line_count,
            replaced=replaced,
            unmatched=imported.unmatched,
        )
    return imported


def _new(survey: _Survey, *, name: str, size: int, by: User | str, now: datetime) -> UsageReport:
    return UsageReport.objects.create(
        digest=f"{survey.digest:064x}",
        name=name.replace("\x00", "")[-255:],
        size=size,
        line_count=survey.lines,
        first_day=min(first for first, _last in survey.days.values()),
        last_day=max(last for _first, last in survey.days.values()),
        is_feed=survey.is_feed,
        covers=[[code, f"{first}", f"{last}"] for code, (first, last) in sorted(survey.days.items())],
        imported_at=now,
        imported_by=by if isinstance(by, User) else None,
    )


def _replace(report: UsageReport, survey: _Survey) -> int:
    """Mark what the report tells anew; returns how many lines."""
    others = UsageReportLine.objects.current().exclude(report=report)
    replaced = 0
    for code, (first, last) in survey.days.items():
        told = others.filter(product_code=code, day__gte=first, day__lte=last)
        if report.is_feed:
            # A day is told whole or by its changes: the two would count it twice.
            told = told.filter(report__is_feed=False)
        replaced += told.update(replaced_by=report)
    identities = iter(survey.newest)
    while some := list(islice(identities, _KEYS_AT_ONCE)):
        newest = {_key(identity): survey.newest[identity][0] for identity in some}
        for line in others.filter(key__in=newest):
            told_at = line.modified_at.timestamp() if line.modified_at else 0.0
            if told_at <= newest[line.key]:
                replaced += others.filter(pk=line.pk).update(replaced_by=report)
    return replaced


def _store(report: UsageReport, file: BinaryIO, survey: _Survey, matcher: Matcher) -> None:
    rows = _standing(file, survey)
    while some := list(islice(rows, _AT_ONCE)):
        matcher.learn(row for _key, row in some)
        lines = [_line(report, key, row, matcher.match(row)) for key, row in some]
        if report.is_feed:
            _leave_out_older(lines)
        UsageReportLine.objects.bulk_create(lines)


def _standing(file: BinaryIO, survey: _Survey) -> Iterator[tuple[str, Row]]:
    """The rows that count, each with its key."""
    times: Counter[bytes] = Counter()
    for row in report_rows.read(file):
        if not row.line_id:
            # AWS may tell a day in several rows: they add up.
            short = sha256(row.identity.encode()).digest()[:12]
            times[short] += 1
            yield _key(f"{row.identity}\x1f{times[short]}"), row
        elif survey.newest[row.identity][1] == row.number:  # else the file tells the same line later
            yield _key(row.identity), row


def _line(report: UsageReport, key: str, row: Row, match: Match) -> UsageReportLine:
    return UsageReportLine(
        report=report,
        number=row.number,
        key=key,
        product_code=row.product_code,
        account=row.account,
        agreement_number=row.agreement_number,
        license_id=row.license_id,
        dimension_key=row.dimension_key,
        region=row.region,
        day=row.day,
        hour=row.hour,
        quantity=Decimal(row.millionths).scaleb(-6),
        modified_at=row.modified_at,
        product_id=match.product,
        agreement_id=match.agreement,
        dimension_id=match.dimension,
    )


def _leave_out_older(lines: list[UsageReportLine]) -> None:
    """What is current still was told later than these: they are replaced from the beginning."""
    there = UsageReportLine.objects.current().filter(key__in=[line.key for line in lines])
    newer = {line.key: line.report_id for line in there.only("key", "report_id")}
    for line in lines:
        line.replaced_by_id = newer.get(line.key)


def _is_outdated(report: UsageReport) -> bool:
    return report.lines.exclude(replaced_by=None).exists()


def _key(identity: str) -> str:
    return sha256(identity.encode()).hexdigest()


def _unmatched(report: UsageReport) -> int:
    return report.lines.current().filter(Q(agreement=None) | Q(dimension=None)).count()

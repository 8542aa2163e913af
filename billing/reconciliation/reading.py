"""The ledger's rows, one agreement at a time: streams in the order of agreements, so memory stays small."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from django.db.models import BigIntegerField, Q, QuerySet, Sum, TextField
from django.db.models.functions import Cast

from billing.models import (
    Agreement,
    Entitlement,
    MeteringRecord,
    SubmissionLine,
    UsageArchiveTotal,
    UsageEvent,
)
from billing.reconciliation.breach import Breach
from billing.reconciliation.exact import millionths

Tags = tuple[tuple[str, str], ...]
_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """The hours asked for: from ``since`` on, before ``until``; without bounds all of them."""

    since: datetime | None = None
    until: datetime | None = None

    def __contains__(self, hour: datetime) -> bool:
        return (self.since is None or hour >= self.since) and (self.until is None or hour < self.until)

    def has_whole(self, day: date) -> bool:
        start = datetime.combine(day, time(), UTC)
        is_begun = self.since is None or self.since <= start
        return is_begun and (self.until is None or self.until >= start + timedelta(days=1))

    def holds(self, column: str) -> Q:
        """The same for a column of instants."""
        after = Q() if self.since is None else Q(**{f"{column}__gte": self.since})
        return after if self.until is None else after & Q(**{f"{column}__lt": self.until})


class Uses(NamedTuple):
    """Events of one agreement, dimension, record (None: in none), disposition and set of tags."""

    dimension: int
    record: int | None
    disposition: str
    tags: Tags
    millionths: int


class Archived(NamedTuple):
    """Uses of a day and disposition that left the database: "billable" ones stood in records of that day."""

    dimension: int
    day: date
    disposition: str
    millionths: int


class Line(NamedTuple):
    pk: int
    status: str
    aws_record_id: str | None
    outcome: str  # of the call

    @property
    def maybe_taken(self) -> bool:
        """AWS may hold the record since this call: accepted, unanswered, or answered in unknown words."""
        if self.status in ("", "Success"):
            return True
        known = ("CustomerNotSubscribed", "DuplicateRecord", "Unprocessed")
        return self.outcome == "answered" and self.status not in known


@dataclass(frozen=True, slots=True)
class Account:
    """All that is known of one agreement. Its records in the order closed, also those not asked for."""

    agreement: Agreement
    records: Sequence[MeteringRecord]
    uses: Sequence[Uses]
    lines: dict[int, list[Line]]
    entitlements: Sequence[Entitlement]
    span: Span
    archived: Sequence[Archived] = ()  # of whole days asked for, and of those that are there in part

    def archived_records(self) -> dict[tuple[int, date], list[MeteringRecord]]:
        """Records whose uses left, by dimension and day: they leave together, so none of them is here."""
        days = {(one.dimension, one.day) for one in self.archived if one.disposition == "billable"}
        present = {uses.record for uses in self.uses}
        found: dict[tuple[int, date], list[MeteringRecord]] = {day: [] for day in days}
        for record in self.records:
            place = record.dimension_id, record.hour.astimezone(UTC).date()
            if place in found and record.pk not in present and record.state != "void" and record.used:
                found[place].append(record)
        return found

    def checked(self) -> Iterator[MeteringRecord]:
        return (each for each in self.records if each.hour in self.span)

    def breach(self, kind: str, record: MeteringRecord, text: str, **values: Any) -> Breach:
        return Breach(
            kind,
            text,
            agreement=self.agreement.pk,
            dimension=record.dimension.key,
            hour=record.hour,
            record=record.pk,
            **values,
        )


def accounts(*, pks: Sequence[int] | None, span: Span) -> Iterator[Account]:
    agreements = Agreement.objects.select_related("product", "customer").order_by("pk")
    if pks is not None:
        agreements = agreements.filter(pk__in=pks)
    records = _Stream(_records(pks), lambda record: record.agreement_id)
    uses = _Stream(_uses(pks, span), lambda row: row[0])
    lines = _Stream(_lines(pks, span), lambda row: row[0])
    entitlements = _Stream(_entitlements(pks), lambda row: row.agreement_id)
    archived = _Stream(_archived(pks), lambda row: row[0])
    for agreement in agreements.iterator(chunk_size=_AT_ONCE):
        sent: dict[int, list[Line]] = defaultdict(list)
        for row in lines.of(agreement.pk):
            sent[row[1]].append(Line(*row[2:]))
        yield Account(
            agreement,
            list(records.of(agreement.pk)),
            [Uses(row[1], row[2], row[3], _tags(row[4]), int(row[5])) for row in uses.of(agreement.pk)],
            sent,
            list(entitlements.of(agreement.pk)),
            span,
            [Archived(row[1], row[2], row[3], millionths(row[4])) for row in archived.of(agreement.pk)],
        )


class _Stream:
    """Rows in the order of their agreements, handed out agreement by agreement."""

    def __init__(self, rows: Iterable[Any], agreement_of: Callable[[Any], int]) -> None:
        self._groups = groupby(rows, agreement_of)
        self._next = next(self._groups, None)

    def of(self, agreement: int) -> Iterator[Any]:
        while self._next is not None and self._next[0] < agreement:
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == agreement:
            yield from self._next[1]


def _records(pks: Sequence[int] | None) -> Iterator[MeteringRecord]:
    # All closings of an agreement are under its lock, so its records' keys grow in the order of closing.
    rows = MeteringRecord.objects.select_related("dimension__included_by").order_by("agreement_id", "pk")
    return _of(rows, pks, "agreement").iterator(chunk_size=_AT_ONCE)


def _uses(pks: Sequence[int] | None, span: Span) -> Iterator[tuple[Any, ...]]:
    rows = _of(UsageEvent.objects.all(), pks, "agreement")
    if span != Span():
        in_none = Q(metering_record=None) & span.holds("occurred_at")
        rows = rows.filter(in_none | Q(metering_record__isnull=False) & span.holds("metering_record__hour"))
    names = ("agreement_id", "dimension_id", "metering_record_id", "disposition", "labels")
    found: Iterator[tuple[Any, ...]] = (
        rows.annotate(labels=Cast("tags", TextField()))
        .order_by(*names)
        .values_list(*names)
        .annotate(total=Sum(Cast("quantity", BigIntegerField())))
        .iterator(chunk_size=_AT_ONCE)
    )
    return found


def _lines(pks: Sequence[int] | None, span: Span) -> Iterator[tuple[Any, ...]]:
    rows = _of(SubmissionLine.objects.filter(span.holds("record__hour")), pks, "record__agreement")
    return (
        rows.order_by("record__agreement_id", "record_id", "pk")
        .values_list(
            "record__agreement_id", "record_id", "pk", "status", "aws_record_id", "submission__outcome"
        )
        .iterator(chunk_size=_AT_ONCE)
    )


def _entitlements(pks: Sequence[int] | None) -> Iterator[Entitlement]:
    rows = Entitlement.objects.order_by("agreement_id", "dimension_key", "valid_from", "pk")
    return _of(rows, pks, "agreement").iterator(chunk_size=_AT_ONCE)


def _archived(pks: Sequence[int] | None) -> Iterator[tuple[Any, ...]]:
    names = ("agreement_id", "dimension_id", "day", "disposition")
    rows = _of(UsageArchiveTotal.objects.all(), pks, "agreement").order_by(*names).values_list(*names)
    found: Iterator[tuple[Any, ...]] = rows.annotate(total=Sum("quantity")).iterator(chunk_size=_AT_ONCE)
    return found


def _of(rows: QuerySet[Any], pks: Sequence[int] | None, agreement: str) -> QuerySet[Any]:
    return rows if pks is None else rows.filter(**{f"{agreement}__in": pks})


def _tags(labels: str) -> Tags:
    return () if labels == "{}" else tuple(sorted(json.loads(labels).items()))

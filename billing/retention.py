"""Retention: settled usage of old months leaves the database for compressed files.

What stays is what money and questions need: every metering record, the sums by day, and each key. The order
is file, rows, deletion: the file is on the disk before the one transaction that writes the rows from what the
file says, and removes the uses. Dying anywhere leaves a file too many at most; the next run makes it again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Coalesce, TruncMonth

from accounts import log_context
from billing import archive_files, archived_keys, audit, crashpoints, customers
from billing.archive_files import Archived, File
from billing.leases import Held
from billing.models import (
    Agreement,
    ArchivedUsageKey,
    MeteringRecord,
    UsageArchive,
    UsageArchiveTotal,
    UsageEvent,
)

logger = logging.getLogger(__name__)

LEASE = "archive_usage"
LEASE_LENGTH = timedelta(minutes=15)

# Kept whatever the setting says: AWS's reports tell of a month well into the next one, and buyers ask later.
LEAST_MONTHS = 3
# Of one file and one transaction, under its agreement's lock; more only where one record has more.
PART_EVENTS = 50_000
_AT_ONCE = 500  # rows: SQLite takes no more parameters

POINTS = (
    "archiving.written",
    "archiving.locked",
    "archiving.kept",
    "archiving.removed",
    "archiving.committed",
)

State, Disposition = MeteringRecord.State, UsageEvent.Disposition
SETTLED = (State.ACCEPTED, State.NOT_DUE, State.WRITTEN_OFF)
# Nobody bills it any more. What came too late is not among it: an operator may yet bill it.
NEVER_BILLED = (Disposition.CANCELLED, Disposition.OUTSIDE_AGREEMENT, Disposition.WRITTEN_OFF)


@dataclass(slots=True)
class Outcome:
    """``waiting``: agreements and months in which something is unsettled, and what."""

    files: list[File] = field(default_factory=list)
    events: int = 0
    waiting: dict[tuple[int, date], str] = field(default_factory=dict)


def kept_since(now: datetime) -> datetime:
    """The first month that is kept whole: usage of earlier ones may leave."""
    at = now.astimezone(UTC)
    months = at.year * 12 + at.month - 1 - max(LEAST_MONTHS, settings.USAGE_KEPT_MONTHS)
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def due(*, now: datetime) -> list[tuple[int, datetime]]:
    """Agreements and months (their first instants) with usage that is old enough, the oldest first."""
    before = kept_since(now)
    old = UsageEvent.objects.filter(occurred_at__lt=before)
    rows = (
        old.annotate(month=TruncMonth(Coalesce("metering_record__hour", "occurred_at"), tzinfo=UTC))
        .order_by()
        .values_list("month", "agreement_id")
        .distinct()
    )
    return [(agreement, month) for month, agreement in sorted(rows) if month < before]


def archive(*, now: datetime, held: Held | None = None, is_dry_run: bool = False) -> Outcome:
    """Archive what is due. ``held``: the lease of the only runner; raises LeaseLost when it is another's."""
    outcome = Outcome()
    for agreement, month in due(now=now):
        with log_context.about(agreement=agreement):
            why = unsettled(agreement, month)
            if why:
                outcome.waiting[agreement, month.date()] = why
                continue
            for events in _parts(agreement, month):
                if held is not None:
                    held.renew()
                outcome.events += (
                    events.count() if is_dry_run else _archive(agreement, month, events, outcome, now)
                )
    return outcome


def unsettled(agreement: int, month: datetime) -> str:
    """What of a month waits for AWS or for a person; '' if nothing does."""
    end = _next(month)
    records = MeteringRecord.objects.filter(agreement=agreement, hour__gte=month, hour__lt=end)
    waiting = records.exclude(state__in=(*SETTLED, State.VOID)).order_by("state")
    states = ", ".join(waiting.values_list("state", flat=True).distinct())
    if states:
        return f"records that are {states}"
    is_open = UsageEvent.objects.open().filter(
        agreement=agreement, occurred_at__gte=month, occurred_at__lt=end
    )
    return "open usage" if is_open.exists() else ""


def _parts(agreement: int, month: datetime) -> Iterator[QuerySet[UsageEvent]]:
    """The uses of a month in parts: those of a record together, then those that are in none."""
    end = _next(month)
    of_theirs = UsageEvent.objects.filter(agreement=agreement).select_related("dimension", "metering_record")
    has_uses = UsageEvent.objects.filter(metering_record=OuterRef("pk"))
    records = MeteringRecord.objects.filter(
        Exists(has_uses), agreement=agreement, hour__gte=month, hour__lt=end, state__in=SETTLED
    )
    counted = records.order_by("hour", "pk").annotate(uses=Count("usage_events")).values_list("pk", "uses")
    for pks in _packed(list(counted)):
        yield of_theirs.filter(metering_record__in=pks).order_by("pk")
    aside = of_theirs.filter(
        metering_record=None, disposition__in=NEVER_BILLED, occurred_at__gte=month, occurred_at__lt=end
    ).order_by("pk")
    while pks := list(aside.values_list("pk", flat=True)[:PART_EVENTS]):
        yield aside.filter(pk__gte=pks[0], pk__lte=pks[-1])
        aside = aside.filter(pk__gt=pks[-1])


def _packed(records: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    part: list[int] = []
    events = 0
    for pk, count in records:
        if part and events + count > PART_EVENTS:
            yield part
            part, events = [], 0
        part.append(pk)
        events += count
    if part:
        yield part


def _archive(
    agreement: int, month: datetime, events: QuerySet[UsageEvent], outcome: Outcome, now: datetime
) -> int:
    """One file and what it stands for. Returns how many uses left."""
    file = archive_files.write(
        _head(Agreement.objects.select_related("product").get(pk=agreement), month),
        map(_told, events.iterator(chunk_size=2000)),
        prefix=f"{agreement}/{month:%Y-%m}",
    )
    crashpoints.reached("archiving.written")
    if not file.count:
        return 0  # another run was faster
    with transaction.atomic():
        locked = customers.lock(agreement)
        crashpoints.reached("archiving.locked")
        _replace(locked, month, file, now=now)
    crashpoints.reached("archiving.committed")
    outcome.files.append(file)
    return file.count


def _replace(agreement: Agreement, month: datetime, file: File, *, now: datetime) -> None:
    """Put what the file says in the place of its uses, which must still be as it says."""
    made = UsageArchive.objects.create(
        agreement=agreement,
        month=month.date(),
        name=file.name,
        sha256=file.sha256,
        size=file.size,
        event_count=file.count,
        made_at=now,
    )
    totals = _totals(made, archive_files.read(file.name, sha256=file.sha256))
    removed = 0
    for portion in _portions(archive_files.read(file.name, sha256=file.sha256)):
        _keep(portion, totals)
        crashpoints.reached("archiving.kept")
        removed += _remove(portion)
    if removed != file.count:
        raise Changed(f"{file.name}: {removed} uses of {file.count} were there to be removed")
    crashpoints.reached("archiving.removed")
    audit.record(
        agreement,
        "usage_archived",
        by="job:archive_usage",
        at=now,
        archive=made.pk,
        month=f"{month:%Y-%m}",
        events=file.count,
        sha256=file.sha256,
    )


class Changed(Exception):
    """Uses are not what was written a moment ago: nothing of this part is archived."""


Place = tuple[int, int, date, str]  # organization, dimension, day, disposition


def _place(one: Archived) -> Place:
    return one.organization, one.dimension, one.day, one.disposition


def _totals(made: UsageArchive, uses: Iterator[Archived]) -> dict[Place, UsageArchiveTotal]:
    sums: dict[Place, list[int]] = defaultdict(lambda: [0, 0])
    for one in uses:
        of = sums[_place(one)]
        of[0] += one.millionths
        of[1] += 1
    rows = {
        place: UsageArchiveTotal(
            archive=made,
            agreement_id=made.agreement_id,
            organization_id=place[0],
            dimension_id=place[1],
            day=place[2],
            disposition=place[3],
            quantity=Decimal(amount).scaleb(-6),
            event_count=count,
        )
        for place, (amount, count) in sums.items()
    }
    UsageArchiveTotal.objects.bulk_create(rows.values())
    return rows


def _keep(uses: Collection[Archived], totals: dict[Place, UsageArchiveTotal]) -> None:
    ArchivedUsageKey.objects.bulk_create(
        ArchivedUsageKey(
            id=one.id,
            organization_id=one.organization,
            digest=archived_keys.digest(one.key),
            content=archived_keys.content(one.name, one.millionths, one.tags),
            occurred_at=one.occurred_at,
            total=totals[_place(one)],
        )
        for one in uses
    )


def _remove(uses: Collection[Archived]) -> int:
    """Only what still is as it was written: a use is written once but for its record and disposition."""
    told = {one.id: (one.record, one.disposition) for one in uses}
    rows = UsageEvent.objects.filter(pk__in=list(told)).order_by()
    found = {pk: tuple(of) for pk, *of in rows.values_list("pk", "metering_record_id", "disposition")}
    if found != told:
        raise Changed(f"{len(told.items() - found.items())} uses changed while they were written")
    return rows.delete()[0]


def _portions(uses: Iterator[Archived]) -> Iterator[list[Archived]]:
    while portion := list(islice(uses, _AT_ONCE)):
        yield portion


def _told(event: UsageEvent) -> Archived:
    record = event.metering_record
    return Archived(
        event.pk,
        event.organization_id,
        event.dimension_id,
        event.dimension.key,
        archived_keys.millionths(event.quantity),
        event.occurred_at,
        event.recorded_at,
        event.key,
        event.tags,
        event.disposition,
        event.metering_record_id,
        event.occurred_at if record is None else record.hour,
    )


def _head(agreement: Agreement, month: datetime) -> dict[str, Any]:
    """For whoever finds the file without its database."""
    return {
        "agreement": agreement.pk,
        "agreement_id": agreement.agreement_id,
        "license_id": agreement.license_id,
        "product": agreement.product.code,
        "month": f"{month:%Y-%m}",
        "columns": Archived._fields,
    }


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)

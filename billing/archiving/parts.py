"""One part of a month's usage leaves the database: its file first, then one transaction for the rest.

The file is on the disk before the transaction that writes the rows from what the file says, and removes the
uses. Dying anywhere leaves a file too many at most; the next run makes it again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from billing import audit, crashpoints, customers
from billing.archiving import archive_files, archived_keys
from billing.archiving.archive_files import Archived, File
from billing.models import Agreement, ArchivedUsageKey, UsageArchive, UsageArchiveTotal, UsageEvent

# The named lines at which a test kills its own process.
POINTS = (
    "archiving.written",
    "archiving.locked",
    "archiving.kept",
    "archiving.removed",
    "archiving.committed",
)

_AT_ONCE = 500  # rows: SQLite takes no more parameters


def take_out(agreement: int, month: datetime, events: QuerySet[UsageEvent], *, now: datetime) -> File | None:
    """Put uses of one month into a file, and what stands for them in their place. None: there are none."""
    file = archive_files.write(
        _head(Agreement.objects.select_related("product").get(pk=agreement), month),
        map(_told, events.iterator(chunk_size=2000)),
        prefix=f"{agreement}/{month:%Y-%m}",
    )
    crashpoints.reached("archiving.written")
    if not file.count:
        return None  # another run was faster
    with transaction.atomic():
        locked = customers.lock(agreement)
        crashpoints.reached("archiving.locked")
        _replace(locked, month, file, now=now)
    crashpoints.reached("archiving.committed")
    return file


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

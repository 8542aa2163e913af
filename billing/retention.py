"""Retention: settled usage of old months leaves the database for compressed files.

What stays is what money and questions need: every metering record, the sums by day, and each key. Here is
which usage leaves and when; how, without losing any, is in billing.archiving.parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Coalesce, TruncMonth

from accounts import log_context
from billing.archiving import parts
from billing.archiving.archive_files import File
from billing.leases import Held
from billing.models import MeteringRecord, UsageEvent

LEASE = "archive_usage"
LEASE_LENGTH = timedelta(minutes=15)

# Kept whatever the setting says: AWS's reports tell of a month well into the next one, and buyers ask later.
LEAST_MONTHS = 3
# Of one file and one transaction, under its agreement's lock; more only where one record has more.
PART_EVENTS = 50_000

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
                if is_dry_run:
                    outcome.events += events.count()
                elif file := parts.take_out(agreement, month, events, now=now):
                    outcome.files.append(file)
                    outcome.events += file.count
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


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)

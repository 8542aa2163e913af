"""Hours that ought to have a record and have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Exists, FilteredRelation, OuterRef, Q, Sum
from django.db.models.functions import TruncHour

from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent
from billing.reconciliation.exact import millionths
from billing.reconciliation.months import Scope

_HOUR = timedelta(hours=1)
_CLOSED_AFTER = timedelta(minutes=10)  # an hour is closed at five past the next


@dataclass(frozen=True, slots=True)
class Gap:
    """An hour in which something was used, that is closed for neither."""

    agreement: int
    dimension: int
    hour: datetime
    events: int
    millionths: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Hours of an active purchase without any record, where each should have a zero at least."""

    agreement: int
    expected: int
    present: int

    @property
    def missing(self) -> int:
        return self.expected - self.present


def closed_until(now: datetime) -> datetime:
    """Hours before it should have been closed."""
    return (now - _CLOSED_AFTER).astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def with_usage(scope: Scope, *, now: datetime, most: int) -> list[Gap]:
    """Hours with open usage and without a record, the oldest first; at most ``most`` of them."""
    end = min(scope.until, closed_until(now))
    if end <= scope.since:
        return []
    has_record = MeteringRecord.objects.filter(
        agreement=OuterRef("agreement"), dimension=OuterRef("dimension"), hour=OuterRef("in_hour")
    )
    rows = (
        UsageEvent.objects.filter(
            scope.rows("occurred_at"), occurred_at__lt=end, metering_record=None, disposition="billable"
        )
        .order_by()
        .annotate(in_hour=TruncHour("occurred_at", tzinfo=UTC))
        .filter(~Exists(has_record))
        .values_list("agreement_id", "dimension_id", "in_hour")
        .annotate(events=Count("pk"), used=Sum("quantity"))
        .order_by("in_hour", "agreement_id", "dimension_id")
    )
    return [
        Gap(agreement, dimension, hour, events, millionths(used))
        for agreement, dimension, hour, events, used in rows[:most]
    ]


def silent(scope: Scope, *, now: datetime, most: int) -> list[Silence]:
    """Active purchases with hours without any record, those with the most of them first."""
    end = min(scope.until, closed_until(now))
    if end <= scope.since:
        return []
    metered = Dimension.objects.filter(product=OuterRef("product"), kind="metered")
    active = Agreement.objects.filter(
        Exists(metered), Q(ended_at=None) | Q(ended_at__gt=scope.since), activated_at__lt=end
    )
    if scope.product is not None:
        active = active.filter(product=scope.product)
    of_time = Q(metering_records__hour__gte=scope.since, metering_records__hour__lt=end)
    rows = (
        active.annotate(of_time=FilteredRelation("metering_records", condition=of_time))
        .annotate(present=Count("of_time__hour", distinct=True))
        .order_by()
        .values_list("pk", "activated_at", "ended_at", "present")
    )
    found = [
        Silence(pk, len(_expected(scope.since, end, since, ended)), present)
        for pk, since, ended, present in rows
        if since is not None
    ]
    found = [each for each in found if each.missing > 0]
    found.sort(key=lambda each: (-each.missing, each.agreement))
    return found[:most]


def silent_hours(agreement: Agreement, scope: Scope, *, now: datetime) -> list[datetime]:
    """Which hours those are, of one purchase."""
    end = min(scope.until, closed_until(now))
    if agreement.activated_at is None or end <= scope.since:
        return []
    records = MeteringRecord.objects.filter(agreement=agreement, hour__gte=scope.since, hour__lt=end)
    present = set(records.values_list("hour", flat=True))
    expected = _expected(scope.since, end, agreement.activated_at, agreement.ended_at)
    hours = (scope.since + number * _HOUR for number in expected)
    return [hour for hour in hours if hour not in present]


def runs(hours: Iterable[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Hours that follow each other as one: the first and the last of them."""
    first = last = None
    for hour in hours:
        if last is not None and first is not None and hour != last + _HOUR:
            yield first, last
            first = hour
        first, last = first or hour, hour
    if first is not None and last is not None:
        yield first, last


def _expected(since: datetime, end: datetime, activated: datetime, ended: datetime | None) -> Sequence[int]:
    """The numbers of the hours, from ``since`` on, in which a purchase was active."""
    count = int((end - since) / _HOUR)
    first = max(0, int((activated - since) // _HOUR))
    # An hour counts in which it began or was active; not the one at whose start it was over.
    after = count if ended is None else min(count, -int((since - ended) // _HOUR))
    return range(first, max(first, after))

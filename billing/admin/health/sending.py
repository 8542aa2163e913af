"""Records submitted per hour for a week, by what AWS said of each."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Count
from django.db.models.functions import TruncHour
from django.utils.translation import gettext as _

from billing.admin.charts import Bar, Chart, Series, stacked
from billing.admin.columns import list_url
from billing.admin.health.figures import remembered
from billing.aws.window import HOUR, hour_of
from billing.models import Submission, SubmissionLine

HOURS = 7 * 24
_FRESH = timedelta(minutes=1)

_ACCEPTED, _AGAIN, _UNANSWERED, _REFUSED = range(4)
_SENT_AGAIN = ("Unprocessed", "CustomerNotSubscribed")


class Group(NamedTuple):
    """Records of the calls of an hour of which AWS said the same."""

    hour: datetime
    outcome: str
    status: str
    records: int


def chart(*, now: datetime) -> Chart:
    first = hour_of(now) - (HOURS - 1) * HOUR
    groups = remembered(f"sending:{first:%Y%m%d%H}", lambda: _read(first), now=now, length=_FRESH)
    sums: dict[datetime, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 4)
    for group in groups:
        sums[group.hour][_series(group)] += group.records
    hours = [first + number * HOUR for number in range(HOURS)]
    return stacked(
        _("Records submitted per hour"),
        [
            Series(_("Accepted"), "success"),
            Series(_("To be sent again"), "warning"),
            Series(_("No answer"), "info"),
            Series(_("Refused, or a duplicate"), "danger"),
        ],
        [Bar(_name(hour), _url(hour), sums[hour]) for hour in hours],
        place=_("Hour (UTC)"),
        table_title=_("Each hour in figures"),
        note=_("The last 7 days, by the hour in which they were sent"),
    )


def _read(since: datetime) -> list[Group]:
    lines = (
        SubmissionLine.objects.filter(submission__started_at__gte=since)
        .order_by()
        .values_list(TruncHour("submission__started_at", tzinfo=UTC), "submission__outcome", "status")
        .annotate(records=Count("pk"))
    )
    return [Group(*row) for row in lines]


def _series(group: Group) -> int:
    if group.outcome in (Submission.Outcome.SENT, Submission.Outcome.FAILED) or not group.status:
        return _UNANSWERED
    if group.status == "Success":
        return _ACCEPTED
    return _AGAIN if group.status in _SENT_AGAIN else _REFUSED


def _name(hour: datetime) -> str:
    return f"{hour:%Y-%m-%d %H}:00"


def _url(hour: datetime) -> str:
    return list_url(Submission, started_at__gte=hour.isoformat(), started_at__lt=(hour + HOUR).isoformat())

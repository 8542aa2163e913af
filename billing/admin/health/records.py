"""Metering records: the nearest deadline, how many are in which state, what is not sent yet."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Count, Min, Q, Sum
from django.utils.html import format_html
from django.utils.translation import gettext as _

from billing.admin.columns import instant, list_url, plain, stamp
from billing.admin.health.figures import Breakdown, Figure, by_state, duration, grouped
from billing.admin.tones import RECORD_STATE
from billing.models import MeteringRecord

# Each half is what a partial index holds; what is accepted, as almost all is, is not read.
OPEN = Q(state__in=MeteringRecord.SENDABLE) | Q(state__in=MeteringRecord.UNUSUAL)


class Group(NamedTuple):
    """Records of one state and dimension."""

    state: str
    product: int
    title: str
    dimension: int
    label: str
    records: int
    submit_by: datetime
    quantity: Decimal


def read() -> list[Group]:
    groups = (
        MeteringRecord.objects.filter(OPEN)
        .order_by()
        .values_list(
            "state", "dimension__product", "dimension__product__title", "dimension", "dimension__label"
        )
        .annotate(records=Count("pk"), first=Min("submit_by"), owed=Sum("quantity"))
    )
    return [Group(*row) for row in groups]


def deadline(groups: list[Group], *, now: datetime) -> Figure:
    url = list_url(MeteringRecord, state__in=",".join(MeteringRecord.UNSETTLED))
    deadlines = [group.submit_by for group in groups if group.state in MeteringRecord.UNSETTLED]
    nearest = min(deadlines, default=None)
    title = _("Nearest deadline")
    if nearest is None:
        return Figure(title, _("None"), _("Nothing waits to be sent"), url, "")
    left = nearest - now
    tone = "danger" if left < timedelta(hours=1) else "warning" if left < timedelta(hours=4) else ""
    value = duration(left) if left > timedelta(0) else _("Missed")
    return Figure(title, value, _("%(time)s UTC") % {"time": stamp(nearest)}, url, tone)


def states(groups: list[Group], settled: dict[str, int]) -> Breakdown:
    """``settled``: how many of late, of the states in which nothing is left to do."""
    counts: dict[str, int] = defaultdict(int, settled)
    for group in groups:
        counts[group.state] += group.records
    rows = by_state(MeteringRecord, "state", MeteringRecord.State, counts, RECORD_STATE)
    return Breakdown(
        _("Metering records"),
        {"headers": [_("State"), _("Records")], "rows": rows},
        _("Those accepted or with nothing to bill are counted for the last 30 days."),
    )


def unsent(groups: list[Group]) -> Breakdown:
    """What AWS has not been told, or has not answered, by product and dimension: units do not add up."""
    owed: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in groups:
        if group.state in MeteringRecord.UNSETTLED:
            owed[group.title, group.label].append(group)
    rows: list[list[Any]] = [
        [
            title,
            dimension,
            format_html(
                '<a href="{}" class="text-link">{}</a>',
                list_url(
                    MeteringRecord,
                    dimension=of_it[0].dimension,
                    state__in=",".join(MeteringRecord.UNSETTLED),
                ),
                plain(sum((group.quantity for group in of_it), Decimal(0))),
            ),
            grouped(sum(group.records for group in of_it)),
            instant(min(group.submit_by for group in of_it)),
        ]
        for (title, dimension), of_it in sorted(owed.items())
    ]
    return Breakdown(
        _("Not sent yet"),
        {
            "headers": [_("Product"), _("Dimension"), _("Quantity"), _("Records"), _("First deadline (UTC)")],
            "rows": rows,
        },
        _("Due, in doubt, waiting or held."),
    )

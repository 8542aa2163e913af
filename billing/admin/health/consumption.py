"""Usage by dimension for thirty days, read from closed hours: a few records stand for many events."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDay
from django.utils.html import format_html
from django.utils.translation import gettext as _

from billing.admin.charts import Bar, Chart, Series, stacked
from billing.admin.columns import list_url, plain
from billing.admin.health.figures import Breakdown, remembered
from billing.models import MeteringRecord

DAYS = 30
MOST_CHARTS = 8
_DAY = timedelta(days=1)
_FRESH = timedelta(minutes=5)
_State = MeteringRecord.State


class Group(NamedTuple):
    """A day of a dimension."""

    product: str
    dimension: int
    label: str
    unit: str
    day: datetime
    included: Decimal
    billed: Decimal
    accepted: int
    not_due: int


def read(*, now: datetime) -> list[Group]:
    first = _first_day(now)
    return remembered(f"consumption:{first:%Y%m%d}", lambda: _read(first), now=now, length=_FRESH)


def _first_day(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - (DAYS - 1) * _DAY


def _read(since: datetime) -> list[Group]:
    records = (
        MeteringRecord.objects.filter(hour__gte=since)
        .exclude(state=_State.VOID)
        .order_by()
        .values_list(
            "dimension__product__title",
            "dimension",
            "dimension__label",
            "dimension__unit",
            TruncDay("hour", tzinfo=UTC),
        )
        .annotate(
            covered=Sum("included"),
            billed=Sum("quantity"),
            accepted=Count("pk", filter=Q(state=_State.ACCEPTED)),
            not_due=Count("pk", filter=Q(state=_State.NOT_DUE)),
        )
    )
    return [Group(*row) for row in records]


def settled(groups: list[Group]) -> dict[str, int]:
    """How many records of these days have nothing left to do."""
    return {
        _State.ACCEPTED: sum(group.accepted for group in groups),
        _State.NOT_DUE: sum(group.not_due for group in groups),
    }


def charts(groups: list[Group], *, now: datetime) -> list[Chart]:
    """One for each dimension, as units do not add up; of many, the first."""
    first = _first_day(now)
    return [_chart(of_it, first) for _, of_it in _by_dimension(groups)[:MOST_CHARTS]]


def table(groups: list[Group], *, now: datetime) -> Breakdown:
    since = _first_day(now).isoformat()
    rows: list[list[Any]] = []
    for pk, of_it in _by_dimension(groups):
        included = sum((group.included for group in of_it), Decimal(0))
        billed = sum((group.billed for group in of_it), Decimal(0))
        url = list_url(MeteringRecord, dimension=pk, hour__gte=since)
        total = format_html('<a href="{}" class="text-link">{}</a>', url, plain(included + billed))
        rows.append([of_it[0].product, of_it[0].label, total, plain(included), plain(billed)])
    headers = [_("Product"), _("Dimension"), _("Used"), _("Included"), _("Billed")]
    return Breakdown(
        _("Usage of the last 30 days"),
        {"headers": headers, "rows": rows},
        _("Of hours that are closed."),
    )


def _by_dimension(groups: list[Group]) -> list[tuple[int, list[Group]]]:
    found: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        found[group.dimension].append(group)
    return sorted(found.items(), key=lambda item: (item[1][0].product, item[1][0].label, item[0]))


def _chart(groups: list[Group], first: datetime) -> Chart:
    one = groups[0]
    sums = {group.day: (group.included, group.billed) for group in groups}
    days = [first + number * _DAY for number in range(DAYS)]
    return stacked(
        _("%(dimension)s of %(product)s, per day") % {"dimension": one.label, "product": one.product},
        [Series(_("Included"), "calm"), Series(_("Billed"), "success")],
        [
            Bar(f"{day:%Y-%m-%d}", _url(one.dimension, day), sums.get(day, (Decimal(0), Decimal(0))))
            for day in days
        ],
        place=_("Day (UTC)"),
        table_title=_("Each day in figures"),
        note=one.unit,
    )


def _url(dimension: int, day: datetime) -> str:
    return list_url(
        MeteringRecord, dimension=dimension, hour__gte=day.isoformat(), hour__lt=(day + _DAY).isoformat()
    )

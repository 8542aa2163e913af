"""The charts of variance: of a month's dimensions, of a dimension's days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from django.utils.translation import gettext as _

from billing.admin.charts import Chart
from billing.admin.columns import EMPTY
from billing.admin.reconciliation import access, cells
from billing.admin.reconciliation.drawing import Place, variance_chart
from billing.admin.reconciliation.tables import Found
from billing.models import Dimension
from billing.reconciliation.comparing import Told, Variance
from billing.reconciliation.exact import plain
from billing.reconciliation.months import Group, Scope

_MOST = 4


def weight(variance: Variance | None) -> tuple[int, int]:
    """Those that differ most first, then those that are billed most."""
    found = variance or Variance()
    return -(abs(found.missing) + found.extra + abs(found.other)), -found.accepted


def of_dimensions(rows: Sequence[Found], known: Mapping[int, Dimension]) -> Chart:
    """Units do not add up: each dimension by its own share."""
    places = []
    for _name_of, scope, _figures, variance, _is_told in rows:
        assert scope.dimension is not None
        dimension = known[scope.dimension]
        url = access.url(scope.of(dimension=None))
        places.append(Place(f"{dimension.product} · {dimension.label}", url, variance, variance.accepted))
    table = [_row(place, is_told=True) for place in places]
    return variance_chart(
        _("Variance of each dimension"),
        places,
        note=_("Billed by AWS less accepted by AWS, in per cent of what was accepted"),
        table_title=_("Each dimension in figures"),
        table={"headers": _chart_headers(_("Product and dimension")), "rows": table},
    )


def of_days(
    scope: Scope, variances: Mapping[Group, Variance], known: Mapping[int, Dimension], told: Told
) -> Iterator[Chart]:
    """A chart for each dimension, of the first few: every day of the month, those without usage too."""
    by_dimension: dict[int, dict[date, Variance]] = defaultdict(dict)
    for (dimension, day), variance in variances.items():
        by_dimension[dimension][day] = variance
    order = sorted(by_dimension, key=lambda pk: weight(_sum(by_dimension[pk].values())))
    for pk in order[:_MOST]:
        of_it = scope.of(dimension=pk)
        places = [
            Place(f"{day:%Y-%m-%d}", _day_url(of_it, day), by_dimension[pk].get(day, Variance()))
            for day in scope.month.days
        ]
        until = told.until.get(pk)
        table = [
            _row(place, is_told=until is not None and place.label <= until.isoformat())
            for place in places
            if place.variance != Variance()
        ]
        yield variance_chart(
            _("Variance of %(dimension)s by day") % {"dimension": known[pk].label},
            places,
            note=_("Billed by AWS less accepted by AWS"),
            table_title=_("Each day in figures"),
            table={"headers": _chart_headers(_("Day (UTC)")), "rows": table},
        )


def _row(place: Place, *, is_told: bool) -> list[str]:
    found = place.variance
    return [
        cells.link(place.label, place.url),
        cells.number(plain(found.accepted)),
        cells.number(plain(found.billed)) if is_told else EMPTY,
        cells.number(cells.signed(found.difference)) if is_told else EMPTY,
        cells.why(found, is_told=is_told),
    ]


def _day_url(scope: Scope, day: date) -> str:
    of_day = scope.of(day=day)
    return access.url(of_day) if scope.agreement is not None else cells.records_url(of_day)


def _chart_headers(first: str) -> list[str]:
    return [first, _("Accepted"), _("Billed by AWS"), _("Variance"), _("Why")]


def _sum(variances: Iterable[Variance]) -> Variance:
    whole = Variance()
    for variance in variances:
        whole += variance
    return whole

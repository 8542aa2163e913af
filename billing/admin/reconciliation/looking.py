"""What a reconciliation page shows: month, product, agreement, dimension, and a day's hours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from billing.admin.charts import Chart
from billing.admin.columns import purchase
from billing.admin.health.figures import Figure
from billing.admin.panels import Panel
from billing.admin.reconciliation import access, cards, cells, hours, tables
from billing.admin.reconciliation import variances as charts
from billing.admin.reconciliation.tables import Found
from billing.models import Agreement, Dimension, UsageReportLine
from billing.reconciliation import comparing, gaps, months
from billing.reconciliation.comparing import Told, Variance
from billing.reconciliation.months import Figures, Scope
from billing.reconciliation.verification import one_instant


@dataclass(slots=True)
class Page:
    scope: Scope
    told: Told
    figures: list[Figure] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    scope: Scope
    known: dict[int, Dimension]
    told: Told
    now: datetime


def look(scope: Scope, *, agreement: Agreement | None, now: datetime) -> Page:
    """All of it as of one instant."""
    with one_instant():
        known = access.dimensions()
        reading = _Reading(scope, known, comparing.told(scope.month, known.values()), now)
        page = Page(scope, reading.told, agreement=agreement)
        if agreement is None:
            _by_dimension(page, reading) if scope.product is None else _by_agreement(page, reading)
        elif scope.dimension is None:
            _of_agreement(page, reading, agreement)
        elif scope.day is None:
            _of_days(page, reading)
        else:
            page.panels.append(hours.panel(scope, reading.told.until.get(scope.dimension)))
    return page


# --- The month, and a product of it


def _by_dimension(page: Page, reading: _Reading) -> None:
    scope = reading.scope
    figures = months.read(scope, "dimension")
    variances = comparing.compare(scope, reading.told.until, "dimension")
    rows = []
    for pk, dimension in reading.known.items():
        if (pk,) in figures or (pk,) in variances:
            of_it = scope.of(product=dimension.product_id, dimension=pk)
            name = cells.link(
                f"{dimension.product} · {dimension.label}", access.url(of_it.of(dimension=None))
            )
            rows.append(_row(name, of_it, figures, variances, (pk,), reading.told))
    page.panels.append(tables.side_by_side(_("The month by dimension"), _("Product and dimension"), rows))
    if reading.told.is_any:
        page.charts.append(charts.of_dimensions(rows, reading.known))
    page.panels.append(tables.equation(rows))
    missing = _missing(reading)
    _tell_missing(page, reading, rows, missing, _names(missing.agreements))


def _by_agreement(page: Page, reading: _Reading) -> None:
    scope = reading.scope
    figures = months.read(scope, "agreement", "dimension")
    variances: dict[months.Group, Variance] = defaultdict(Variance)
    of_days: dict[months.Group, Variance] = defaultdict(Variance)
    for key, variance in comparing.compare(
        scope, reading.told.until, "agreement", "dimension", "day"
    ).items():
        pk, dimension, day = key
        variances[pk, dimension] += variance
        of_days[dimension, day] += variance
    keys = sorted(
        figures.keys() | variances.keys(), key=lambda key: (charts.weight(variances.get(key)), str(key))
    )
    shown = keys[: tables.MOST]
    missing = _missing(reading)
    names = _names([*(pk for pk, _dimension in shown), *missing.agreements])
    rows = []
    for key in shown:
        pk, dimension = key
        of_it = scope.of(product=None, agreement=pk, dimension=dimension)
        text = _("%(purchase)s · %(dimension)s") % {
            "purchase": _who(names.get(pk)) if pk is not None else _("No purchase of ours"),
            "dimension": reading.known[dimension].label,
        }
        name = cells.link(text, access.url(of_it)) if pk is not None else text
        if pk is None:
            of_it = scope.of(dimension=dimension, among=())
        rows.append(_row(name, of_it, figures, variances, key, reading.told))
    is_cut = len(keys) > len(shown)
    page.panels.append(
        tables.side_by_side(_("The month by purchase"), _("Purchase and dimension"), rows, is_cut=is_cut)
    )
    if reading.told.is_any:
        page.charts += charts.of_days(scope, of_days, reading.known, reading.told)
    _tell_missing(page, reading, rows, missing, names)


@dataclass(frozen=True, slots=True)
class _Missing:
    used: list[gaps.Gap]
    silences: list[gaps.Silence]

    @property
    def agreements(self) -> list[int]:
        return [*(each.agreement for each in self.used), *(each.agreement for each in self.silences)]


def _missing(reading: _Reading) -> _Missing:
    scope, now = reading.scope, reading.now
    found = gaps.with_usage(scope, now=now, most=tables.LISTED + 1)
    beats = settings.METERING_HEARTBEAT
    return _Missing(found, gaps.silent(scope, now=now, most=tables.LISTED) if beats else [])


def _tell_missing(
    page: Page, reading: _Reading, rows: Sequence[Found], missing: _Missing, names: dict[int, Agreement]
) -> None:
    """Missing hours, of the whole month lines of nobody, and the cards that tell of all of it."""
    scope = reading.scope
    page.panels.append(tables.gaps(missing.used, names, reading.known, tables.LISTED))
    if settings.METERING_HEARTBEAT:
        page.panels.append(tables.silences(missing.silences, names, Scope(scope.month)))
    page.figures = [
        cards.differences(rows),
        cards.reported(reading.told),
        cards.counted(_("Missing hours"), missing.used, "#missing", _("Used, and not closed")),
    ]
    if scope.product is None:
        nobodys = list(_unmatched(scope)[: tables.LISTED + 1])
        page.panels.append(tables.unmatched(nobodys, scope, tables.LISTED))
        note = _("On AWS's report, unknown here")
        page.figures.append(cards.counted(_("Lines of no purchase"), nobodys, "#unmatched", note))
    page.figures.append(cards.settled(rows, scope, reading.now))


def _unmatched(scope: Scope) -> QuerySet[UsageReportLine]:
    lines = UsageReportLine.objects.current().filter(
        Q(agreement=None) | Q(dimension=None), day__gte=scope.since.date(), day__lt=scope.until.date()
    )
    return lines.order_by("day", "pk")


# --- A purchase


def _of_agreement(page: Page, reading: _Reading, agreement: Agreement) -> None:
    scope, told = reading.scope, reading.told
    figures = months.read(scope, "dimension")
    of_days = comparing.compare(scope, told.until, "dimension", "day")
    variances: dict[months.Group, Variance] = defaultdict(Variance)
    for (dimension, _day), variance in of_days.items():
        variances[dimension,] += variance
    rows = []
    for pk, dimension in reading.known.items():
        if (pk,) in figures or (pk,) in variances:
            of_it = scope.of(dimension=pk)
            name = cells.link(dimension.label, access.url(of_it))
            rows.append(_row(name, of_it, figures, variances, (pk,), told))
    counted = {pk: amount for (pk,), amount in months.counted(scope, "dimension").items()}
    page.panels.append(tables.side_by_side(_("The month by dimension"), _("Dimension"), rows))
    if told.is_any:
        page.charts += charts.of_days(scope, of_days, reading.known, told)
    page.panels.append(tables.equation(rows, counted=counted))
    found = gaps.with_usage(scope, now=reading.now, most=tables.LISTED + 1)
    page.panels.append(tables.gaps(found, {agreement.pk: agreement}, reading.known, tables.LISTED))
    if settings.METERING_HEARTBEAT:
        silent = gaps.silent_hours(agreement, scope, now=reading.now)
        page.panels.append(tables.silent_hours(silent, agreement))
    page.figures = [
        cards.differences(rows),
        cards.reported(told),
        cards.counted(_("Missing hours"), found, "#missing", _("Used, and not closed")),
        cards.settled(rows, scope, reading.now),
    ]


def _of_days(page: Page, reading: _Reading) -> None:
    scope, told = reading.scope, reading.told
    assert scope.dimension is not None
    until = told.until.get(scope.dimension)
    figures = months.read(scope, "day")
    variances = comparing.compare(scope, told.until, "day")
    rows = tables.days(scope, figures, variances, until)
    if until is not None:
        of_days = {(scope.dimension, *key): value for key, value in variances.items()}
        page.charts += charts.of_days(scope, of_days, reading.known, told)
    page.panels.append(tables.side_by_side(_("Each day, in UTC"), _("Day"), rows))


# --- Parts of these


def _row(
    name: str,
    scope: Scope,
    figures: dict[months.Group, Figures],
    variances: dict[months.Group, Variance],
    key: months.Group,
    told: Told,
) -> Found:
    is_told = scope.dimension in told.until
    return name, scope, figures.get(key, Figures()), variances.get(key, Variance()), is_told


def _names(pks: Iterable[int | None]) -> dict[int, Agreement]:
    wanted = {pk for pk in pks if pk is not None}
    return {row.pk: row for row in access.agreements().filter(pk__in=wanted)} if wanted else {}


def _who(agreement: Agreement | None) -> str:
    return purchase(agreement)

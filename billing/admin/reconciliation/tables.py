"""The parts of a reconciliation page, below each other: figures, the equation, gaps, lines of nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from django.utils.translation import gettext as _

from billing.admin.columns import EMPTY, label, list_url, purchase, unbroken
from billing.admin.columns import link as link_to
from billing.admin.panels import Panel
from billing.admin.reconciliation import access, cells
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent, UsageReportLine
from billing.reconciliation.comparing import Variance
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.gaps import Gap, Silence, runs
from billing.reconciliation.months import Figures, Month, Scope

LISTED = 50  # gaps, and lines of nobody
MOST = 200  # rows of a table; those that differ most come first

Found = tuple[str, Scope, Figures, Variance, bool]
"""A row: its first cell, what it is of, what stands on either side, and whether AWS has told of it."""


def side_by_side(title: str, first: str, rows: Sequence[Found], *, is_cut: bool = False) -> Panel:
    note = _("The first %(most)d, those that differ most before the others.") % {"most": MOST}
    table = [
        [name, *cells.row(scope, figures, variance, is_told=is_told)]
        for name, scope, figures, variance, is_told in rows[:MOST]
    ]
    return Panel(
        title,
        {"headers": [first, *cells.headers()], "rows": table},
        note=note if is_cut or len(rows) > MOST else "",
        anchor="figures",
    )


def equation(rows: Sequence[Found], *, counted: Mapping[int, int] | None = None) -> Panel:
    """Recorded = included + billed by state + open + each other disposition, a row for each dimension."""
    states = [state for state in MeteringRecord.State if any(row[2].by_state.get(state) for row in rows)]
    asides = [each for each in UsageEvent.Disposition if any(row[2].aside.get(each) for row in rows)]
    headers = [
        _("Dimension"),
        _("Recorded"),
        _("= Included"),
        *(f"+ {state.label.partition('(')[0].strip()}" for state in states),
        _("+ Not closed yet"),
        *(f"+ {each.label}" for each in asides),
        _("Adds up"),
    ]
    table = []
    for name, scope, figures, _variance, _is_told in rows[:MOST]:
        told = None if counted is None or scope.dimension is None else counted.get(scope.dimension, 0)
        table.append(
            [
                name,
                cells.linked(figures.recorded, cells.events_url(scope)),
                cells.linked(figures.included, cells.records_url(scope)),
                *(
                    cells.linked(figures.by_state.get(state, 0), cells.records_url(scope, state__exact=state))
                    for state in states
                ),
                cells.linked(
                    figures.open,
                    cells.events_url(scope, disposition__exact="billable", metering_record__isempty=1),
                ),
                *(
                    cells.linked(figures.aside.get(each, 0), cells.events_url(scope, disposition__exact=each))
                    for each in asides
                ),
                _adds_up(figures, told),
            ]
        )
    note = (
        _("Recorded is what records hold, and what is in none yet. A purchase's page counts its events.")
        if counted is None
        else _("Recorded is counted once more from the usage events themselves.")
    )
    return Panel(_("What became of it"), {"headers": headers, "rows": table}, note=note, anchor="equation")


def _adds_up(figures: Figures, counted: int | None) -> str:
    if figures.recorded != figures.parts:
        return label(_("%(amount)s off") % {"amount": plain(figures.parts - figures.recorded)}, "danger")
    if counted is not None and counted != figures.recorded:
        text = _("The events are %(amount)s (not what the records hold)") % {"amount": plain(counted)}
        return label(text, "danger")
    return label(_("Yes"), "success")


def gaps(
    found: Sequence[Gap], names: Mapping[int, Agreement], known: Mapping[int, Dimension], most: int
) -> Panel:
    rows = [
        [
            cells.link(f"{gap.hour:%Y-%m-%d %H}:00", _hour_url(gap)),
            link_to(names.get(gap.agreement), purchase(names.get(gap.agreement))),
            known[gap.dimension].label,
            str(gap.events),
            cells.number(plain(gap.millionths)),
        ]
        for gap in found[:most]
    ]
    note = _("These hours should have been closed, and something was used in them: AWS has not been told.")
    if len(found) > most:
        note = _("The first %(most)d hours in which something was used, and that are not closed.") % {
            "most": most
        }
    headers = [_("Hour (UTC)"), _("Agreement"), _("Dimension"), _("Usage events"), _("Used")]
    return Panel(
        _("Missing hours"),
        {"headers": headers, "rows": rows} if rows else None,
        note=note if rows else _("No hour with usage is without its record."),
        anchor="missing",
    )


def _hour_url(gap: Gap) -> str:
    day = Scope(Month.of(gap.hour), agreement=gap.agreement, dimension=gap.dimension, day=gap.hour.date())
    return cells.events_url(day, disposition__exact="billable", metering_record__isempty=1)


def silences(found: Sequence[Silence], names: Mapping[int, Agreement], scope: Scope) -> Panel:
    rows = [
        [
            cells.link(purchase(names.get(each.agreement)), access.url(scope.of(agreement=each.agreement))),
            str(each.expected),
            str(each.present),
            label(str(each.missing), "warning"),
        ]
        for each in found
    ]
    headers = [_("Agreement"), _("Active hours"), _("Hours with a record"), _("Without one")]
    return Panel(
        _("Hours without any record"),
        {"headers": headers, "rows": rows} if rows else None,
        note=_("With the heartbeat, each hour of an active purchase has a record, be it zero.")
        if rows
        else _("Each active hour has a record."),
        anchor="silent",
    )


def silent_hours(hours: Sequence[datetime], agreement: Agreement) -> Panel:
    rows = []
    for first, last in list(runs(hours))[:MOST]:
        url = list_url(
            MeteringRecord, agreement=agreement.pk, hour__gte=first.isoformat(), hour__lte=last.isoformat()
        )
        count = int((last - first).total_seconds() // 3600) + 1
        rows.append([cells.link(f"{first:%Y-%m-%d %H}:00", url), f"{last:%Y-%m-%d %H}:00", str(count)])
    return Panel(
        _("Hours without any record"),
        {"headers": [_("From (UTC)"), _("Through (UTC)"), _("Hours")], "rows": rows} if rows else None,
        note=_("With the heartbeat, each hour of an active purchase has a record, be it zero.")
        if rows
        else _("Each active hour has a record."),
        anchor="silent",
    )


def unmatched(lines: Sequence[UsageReportLine], scope: Scope, most: int) -> Panel:
    rows = [
        [
            unbroken(link_to(line, f"{line.day:%Y-%m-%d}")),
            unbroken(line.account or EMPTY),
            line.product_code,
            line.dimension_key,
            cells.number(plain(millionths(line.quantity))),
            _why_unmatched(line),
        ]
        for line in lines[:most]
    ]
    headers = [
        _("Day"), _("AWS account"), _("Product code"), _("Dimension"), _("Billed by AWS"), _("Why"),
    ]  # fmt: skip
    note = _("AWS billed these, and they are no purchase's of ours: find out whose they are.")
    return Panel(
        _("Lines that match no purchase"),
        {"headers": headers, "rows": rows} if rows else None,
        cells.lines_url(Scope(scope.month), agreement__isempty=1) if len(lines) > most else "",
        _("See all"),
        note=note if rows else _("Each line of AWS's reports is a purchase's of ours."),
        anchor="unmatched",
    )


def _why_unmatched(line: UsageReportLine) -> str:
    if line.product_id is None:
        return _("The product is not in the catalog")
    if line.dimension_id is None:
        return _("The product has no such dimension")
    if line.license_id or line.agreement_number:
        return _("No purchase has this license or agreement id")
    return _("The account has no purchase of the product, or several")


def days(
    scope: Scope, figures: Mapping[Any, Figures], variances: Mapping[Any, Variance], until: date | None
) -> list[Found]:
    """A row for each day that has anything, of one purchase and dimension."""
    found = []
    for day in scope.month.days:
        key = (day,)
        if key in figures or key in variances:
            of_day = scope.of(day=day)
            name = cells.link(f"{day:%Y-%m-%d}", access.url(of_day))
            is_told = until is not None and day <= until
            found.append((name, of_day, figures.get(key, Figures()), variances.get(key, Variance()), is_told))
    return found

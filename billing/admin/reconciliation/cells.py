"""Cells of the reconciliation's tables: each figure a link to the rows that it counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from billing.admin.columns import EMPTY, label, list_url
from billing.models import MeteringRecord, UsageEvent, UsageReportLine
from billing.reconciliation.comparing import Variance
from billing.reconciliation.exact import plain
from billing.reconciliation.months import Figures, Scope

HEADERS = ("recorded", "included", "metered", "accepted", "billed", "variance", "why")


def headers() -> list[str]:
    words = {
        "recorded": _("Recorded"),
        "included": _("Included"),
        "metered": _("Metered"),
        "accepted": _("Accepted"),
        "billed": _("Billed by AWS"),
        "variance": _("Variance"),
        "why": _("Why"),
    }
    return [words[name] for name in HEADERS]


def row(scope: Scope, figures: Figures, variance: Variance, *, is_told: bool) -> list[str]:
    """Recorded, included, metered, accepted, billed, variance, why."""
    return [
        linked(figures.recorded, events_url(scope)),
        linked(figures.included, records_url(scope)),
        linked(figures.metered, records_url(scope)),
        linked(figures.accepted, records_url(scope, state__exact="accepted")),
        linked(variance.billed, lines_url(scope)) if is_told or variance.billed else EMPTY,
        number(signed(variance.difference)) if is_told or variance.billed else EMPTY,
        why(variance, is_told=is_told),
    ]


def why(variance: Variance, *, is_told: bool) -> str:
    """In what way they differ, each with its amount."""
    told = list(_ways(variance))
    if told:
        labels = format_html_join("", "{}", ((label(text, tone),) for text, tone in told))
        return format_html('<span class="recon-why">{}</span>', labels)
    if not is_told:
        return EMPTY if not variance.accepted else label(_("Not reported yet"), "info")
    return label(_("The same"), "success")


def _ways(variance: Variance) -> Iterator[tuple[str, str]]:
    if variance.missing:
        yield _("%(amount)s missing at AWS") % {"amount": plain(-variance.missing)}, "warning"
    if variance.extra:
        yield _("%(amount)s extra at AWS") % {"amount": plain(variance.extra)}, "danger"
    if variance.other > 0:
        yield _("%(amount)s more at AWS") % {"amount": plain(variance.other)}, "danger"
    if variance.other < 0:
        yield _("%(amount)s less at AWS") % {"amount": plain(-variance.other)}, "warning"
    if variance.not_reported:
        yield _("%(amount)s not reported yet") % {"amount": plain(-variance.not_reported)}, "info"


def number(text: str) -> str:
    return format_html('<span class="recon-number">{}</span>', text)


def signed(amount: int) -> str:
    return f"+{plain(amount)}" if amount > 0 else plain(amount)


def linked(amount: int, url: str) -> str:
    return format_html('<a href="{}" class="text-link recon-number">{}</a>', url, plain(amount))


def link(text: str, url: str) -> str:
    return format_html('<a href="{}" class="text-link">{}</a>', url, text)


def records_url(scope: Scope, **filters: str | int) -> str:
    return list_url(MeteringRecord, **_between(scope, "hour"), **_of(scope), **filters)


def events_url(scope: Scope, **filters: str | int) -> str:
    return list_url(UsageEvent, **_between(scope, "occurred_at"), **_of(scope), **filters)


def lines_url(scope: Scope, **filters: str | int) -> str:
    days: dict[str, str | int] = {
        "day__gte": scope.since.date().isoformat(),
        "day__lt": scope.until.date().isoformat(),
        "replaced_by__isempty": 1,
    }
    if scope.among == ():
        days["agreement__isempty"] = 1
    return list_url(UsageReportLine, **days, **_of(scope), **filters)


def _between(scope: Scope, column: str) -> dict[str, str | int]:
    return {f"{column}__gte": _iso(scope.since), f"{column}__lt": _iso(scope.until)}


def _of(scope: Scope) -> dict[str, Any]:
    known = {"agreement": scope.agreement, "dimension": scope.dimension}
    if scope.dimension is None:
        known["product"] = scope.product
    return {name: value for name, value in known.items() if value is not None}


def _iso(at: datetime) -> str:
    return at.isoformat()

"""What hangs on a row, below its fields: short tables with links to their lists, charts, raw texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from billing.admin.charts import Chart

_NEWEST = 10

Words = str | Promise


@dataclass(frozen=True, slots=True)
class Fold:
    """A text as it came or went, shown when it is asked for."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: Words
    table: dict[str, Any] | None  # unfold's table component: headers and rows
    more: str = ""  # where the rest of it is
    more_text: Words = ""
    anchor: str = ""
    note: Words = ""
    chart: Chart | None = None
    folds: tuple[Fold, ...] = ()


def panel(
    title: Words, rows: QuerySet[Any], columns: Mapping[Any, Callable[[Any], object]], *, more: str
) -> Panel:
    """The first rows of ``rows``, never counted: a ledger may hold thousands of them."""
    found = list(rows[: _NEWEST + 1])
    shown = [[show(row) for show in columns.values()] for row in found[:_NEWEST]]
    is_cut = len(found) > _NEWEST
    more_text = _("The first %(rows)s are here: see all") % {"rows": _NEWEST} if is_cut else _("As a list")
    return Panel(title, {"headers": list(columns), "rows": shown}, more, more_text)


class WithPanels(ModelAdmin):
    change_form_outer_after_template = "admin/billing/panels.html"  # type: ignore[assignment]  # unfold declares None

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return []

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        may_see = row is not None and self.has_view_permission(request, row)
        panels = self.panels(request, row) if may_see else []
        # Django's history tells of edits made here: a row that nobody may edit has none.
        context = {"panels": panels, "show_history": self.has_change_permission(request, row)}
        response: HttpResponse = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), **context}
        )
        return response

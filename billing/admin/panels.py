"""What hangs on a row, below its fields: short tables, each with a link to its whole list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

_NEWEST = 10


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    table: dict[str, Any]  # unfold's table component: headers and rows
    more: str = ""  # where the rest of it is
    more_text: str = ""
    anchor: str = ""


def panel(
    title: str, rows: QuerySet[Any], columns: Mapping[str, Callable[[Any], object]], *, more: str
) -> Panel:
    """The first rows of ``rows``, never counted: a ledger may hold thousands of them."""
    found = list(rows[: _NEWEST + 1])
    shown = [[show(row) for show in columns.values()] for row in found[:_NEWEST]]
    more_text = f"The first {_NEWEST} are here: see all" if len(found) > _NEWEST else "As a list"
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

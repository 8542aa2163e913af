"""What became of each repair: how far it is, what was refused, and who asked for it why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.admin.actions import asking
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import EMPTY, badge, link, linked, list_url, when
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.models import Agreement, OperatorTask
from billing.repairs.known import REPAIRS

TASK_STATE: dict[str, str] = {
    OperatorTask.State.WAITING: "info",
    OperatorTask.State.RUNNING: "info",
    OperatorTask.State.DONE: "success",
    OperatorTask.State.FAILED: "danger",
}
_REFRESHED_EVERY = 3  # seconds
_LISTED = 200  # rows that an address can name


@admin.display(description=gettext_lazy("repair"))
def _title(row: OperatorTask) -> str:
    repair = REPAIRS.get(row.kind)
    return str(repair.title) if repair else row.kind


@admin.display(description=gettext_lazy("told"))
def _told(row: OperatorTask) -> str:
    return ", ".join(row.parameters.values()) or EMPTY


@admin.register(OperatorTask, site=admin_site)
class OperatorTaskAdmin(ReadOnlyAdmin):
    list_display = (
        when("asked_at", gettext_lazy("asked at")),
        _title,
        linked("asked_by", gettext_lazy("by")),
        badge("state", TASK_STATE),
        "done",
        "unchanged",
        "refused",
        "reason",
    )
    list_select_related = ("asked_by",)
    list_filter = ("state", "asked_at")
    search_fields = ("asked_by__email__exact", "kind__exact")
    search_help_text = gettext_lazy("The e-mail of who asked for it, or the repair's number")
    sections = {
        "": (
            (_title, linked("asked_by", gettext_lazy("by"))),
            "reason",
            _told,
            (when("asked_at", gettext_lazy("asked at")), when("started_at", gettext_lazy("started at"))),
            when("finished_at", gettext_lazy("finished at")),
        ),
    }
    change_form_outer_before_template = "admin/billing/progress.html"  # type: ignore[assignment]  # as panels

    def get_urls(self) -> list[URLPattern]:
        ask = self.admin_site.admin_view(asking.view)
        return [path("ask/<str:name>/", ask, name="billing_operatortask_ask"), *super().get_urls()]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may repair, but not see all repairs, sees their own."""
        is_own = isinstance(obj, OperatorTask) and obj.asked_by_id == request.user.pk
        return is_own or bool(super().has_view_permission(request, obj))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        response = super().change_view(request, object_id, form_url, extra_context)
        task = self.get_object(request, object_id)
        if response.status_code == 200 and isinstance(task, OperatorTask) and not task.is_finished:
            response["Refresh"] = str(_REFRESHED_EVERY)
        return response

    def panels(self, request: HttpRequest, row: OperatorTask) -> list[Panel]:
        return [_refused(row)] if row.refusals else []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **options: Any
    ) -> HttpResponse:
        task = options.get("obj")
        if isinstance(task, OperatorTask):
            context |= {"task": task, "task_title": _title(task), "rows_url": _rows_url(request, task)}
            context["percent"] = 100 * task.position // task.total if task.total else None
        response: HttpResponse = super().render_change_form(request, context, *arguments, **options)
        return response


def _rows_url(request: HttpRequest, task: OperatorTask) -> str:
    """Its rows, where an address can name them."""
    repair = REPAIRS.get(task.kind)
    if repair is None or repair.model is None or not 0 < task.total <= _LISTED:
        return ""
    if not admin_site.get_model_admin(repair.model).has_view_permission(request):
        return ""
    return list_url(repair.model, id__in=",".join(str(pk) for pk, _seen in task.rows))


def _refused(task: OperatorTask) -> Panel:
    repair = REPAIRS.get(task.kind)
    rows: dict[int, Any] = {}
    if repair is not None and repair.model is not None:
        found = repair.model._default_manager.filter(pk__in=[pk for pk, _why in task.refusals])
        if repair.model is Agreement:
            found = found.select_related("product", "customer", "organization")
        rows = {row.pk: row for row in found}
    shown = [
        [link(rows[pk], asking.name_of(rows[pk])) if pk in rows else str(pk), why]
        for pk, why in task.refusals
    ]
    return Panel(_("What was not done"), {"headers": [_("Row"), _("Why")], "rows": shown})

"""The repairs of a model, on its lists and pages, for those who may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from accounts.models import User
from billing.admin.actions import asking
from billing.repairs.kinds import Repair
from billing.repairs.known import REPAIRS

_PREFIX = "repair_"


class WithRepairs(ModelAdmin):
    """``repairs`` are those of its rows, ``list_repairs`` those that need none: names of billing.repairs."""

    repairs: ClassVar[tuple[str, ...]] = ()
    list_repairs: ClassVar[tuple[str, ...]] = ()
    change_form_outer_before_template = "admin/billing/row_repairs.html"  # type: ignore[assignment]  # as panels

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        mine = {
            f"{_PREFIX}{repair.name}": (_action(repair), f"{_PREFIX}{repair.name}", str(repair.title))
            for repair in allowed(request, self.repairs)
        }
        return {**actions, **mine}

    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> TemplateResponse:
        buttons = [asking.button(repair) for repair in allowed(request, self.list_repairs)]
        context = {**(extra_context or {}), "list_repairs": buttons, "most_rows": asking.MOST}
        response: TemplateResponse = super().changelist_view(request, context)
        return response

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        may_see = row is not None and self.has_view_permission(request, row)
        fitting = [
            asking.button(repair, row)
            for repair in (allowed(request, self.repairs) if may_see else ())
            if repair.fits(row)
        ]
        context = {**(extra_context or {}), "row_repairs": fitting}
        response: HttpResponse = super().change_view(request, object_id, form_url, context)
        return response


def allowed(request: HttpRequest, names: Iterable[str]) -> list[Repair]:
    user = request.user
    known = (REPAIRS[name] for name in names)
    return [repair for repair in known if isinstance(user, User) and user.has_perm(repair.needs)]


def _action(repair: Repair) -> Callable[..., HttpResponseBase]:
    def act(model_admin: ModelAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase:
        return asking.of_rows(request, repair, queryset)

    return act

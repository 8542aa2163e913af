"""The operators' site: Django admin in unfold's theme, entered through allauth, with a policy of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from allauth.account.decorators import secure_admin_login
from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from unfold.dataclasses import Favicon
from unfold.sites import UnfoldAdminSite

from billing.admin import front_page, second_factor

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

# What unfold's pages cannot do without: Alpine evaluates attributes, styles stand in the markup. Added to the
# buyers' policy, for the admin's own responses only.
POLICY = {"script-src": [UNSAFE_EVAL], "style-src": [UNSAFE_INLINE]}


def _staff_only(view: View) -> View:
    """Strangers go to allauth's sign-in and come back; people who are not staff are refused."""
    return cast(View, secure_admin_login(view))  # type: ignore[no-untyped-call]  # allauth's is untyped


class OperatorSite(UnfoldAdminSite):
    index_template = "admin/billing/front_page.html"
    index_title = "Front page"
    enable_nav_sidebar = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.pages: list[URLPattern] = []  # that are no model's, behind admin_view

    def get_urls(self) -> list[URLPattern]:  # type: ignore[override]  # as unfold declares it
        return [*self.pages, *super().get_urls()]

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        inner = second_factor.required(super().admin_view(view, cacheable))
        return cast(View, csp_update(POLICY)(_staff_only(inner)))

    @method_decorator(_staff_only)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Django's own form would let a password in past the second factor: allauth's is the only door."""
        return redirect("admin:index")

    def password_change(  # type: ignore[override]  # elsewhere, so not a page of the admin
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("account_change_password")

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = super().each_context(request)
        return {
            **context,
            "site_title": settings.SITE_NAME,
            "site_header": f"{settings.SITE_NAME} operators",
            "site_favicons": [Favicon(static("favicon.svg"), rel="icon", type="image/svg+xml")],
            "styles": [*context["styles"], static("operators.css")],
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        response: TemplateResponse = super().index(
            request, {**(extra_context or {}), "health": front_page.look(request.user)}
        )
        return response


admin_site = OperatorSite(name="admin")

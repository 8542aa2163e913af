"""The reconciliation page: a month, and the way down to the hours of one purchase."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from billing.admin.reconciliation import access, looking
from billing.admin.site import admin_site
from billing.models import Agreement, Product
from billing.reconciliation.months import Month, Scope

_KEPT = ("product", "agreement", "dimension")
_MONTHS = 24  # to choose from


def view(request: HttpRequest) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    access.check_may_look(request)
    now = timezone.now()
    month = access.month_of(request.GET, now=now)
    product: Product | None = access.row_of(access.products(), request.GET.get("product", ""))
    agreement: Agreement | None = access.row_of(access.agreements(), request.GET.get("agreement", ""))
    dimension, day = request.GET.get("dimension", ""), access.day_of(request.GET, month)
    if (dimension or day) and agreement is None or day and not dimension:
        raise Http404  # a dimension is looked at within a purchase, a day within its dimension
    scope = Scope(
        month,
        product=product.pk if product is not None and agreement is None else None,
        agreement=agreement.pk if agreement is not None else None,
    )
    known = None
    if agreement is not None and dimension:
        known = access.row_of(agreement.product.dimensions.all(), dimension)
        scope = scope.of(dimension=known.pk, day=day)
    page = looking.look(scope, agreement=agreement, now=now)
    context = {
        **admin_site.each_context(request),
        "title": _("Reconciliation"),
        "page": page,
        "month_name": month_name(month),
        "crumbs": _crumbs(scope, product, agreement, known.label if known else ""),
        "previous": access.url(scope.of(month=month.previous, day=None)),
        "next": access.url(scope.of(month=month.next, day=None)) if month < Month.of(now) else "",
        "months": _months(now, month),
        "kept": [(name, request.GET[name]) for name in _KEPT if request.GET.get(name)],
        "upload_url": access.upload_url(),
        "may_import": access.may_import(request),
        "statements": _statements(scope, agreement),
    }
    return TemplateResponse(request, "admin/billing/reconciliation.html", context)


def month_name(month: Month) -> str:
    return date_format(month.start.date(), "YEAR_MONTH_FORMAT")


def _months(now: datetime, chosen: Month) -> list[tuple[str, str, bool]]:
    """The newest first, and the one that is looked at."""
    months = [Month.of(now)]
    while len(months) < _MONTHS:
        months.append(months[-1].previous)
    if chosen not in months:
        months.append(chosen)
    return [(str(month), month_name(month), month == chosen) for month in months]


def _crumbs(
    scope: Scope, product: Product | None, agreement: Agreement | None, dimension: str
) -> list[tuple[str, str]]:
    """The way here, each step with its address; the last has none."""
    month = Scope(scope.month)
    steps = [(month_name(scope.month), access.url(month))]
    of = agreement.product if agreement is not None else product
    if of is not None:
        steps.append((of.title, access.url(month.of(product=of.pk))))
    if agreement is not None:
        name = str(agreement.organization or agreement.customer)
        steps.append((name, access.url(month.of(agreement=agreement.pk))))
        if dimension:
            steps.append((dimension, access.url(scope.of(day=None))))
    if scope.day is not None:
        steps.append((scope.day.isoformat(), ""))
    return [*steps[:-1], (steps[-1][0], "")]


def _statements(scope: Scope, agreement: Agreement | None) -> list[dict[str, Any]]:
    """Of the purchase, and of all that its buyer bought."""
    if agreement is None:
        return []
    asked = Scope(scope.month)
    found = [{"title": _("Statement of this purchase"), "links": _links(asked, agreement=agreement.pk)}]
    if agreement.organization is not None:
        name = agreement.organization.name
        found.append(
            {
                "title": _("Statement of all that %(organization)s bought") % {"organization": name},
                "links": _links(asked, organization=agreement.organization.pk),
            }
        )
    return found


def _links(scope: Scope, **of: int) -> list[tuple[str, str]]:
    kinds = (("html", _("To print")), ("csv", "CSV"), ("json", "JSON"))
    return [(text, access.url(scope, name="statement", kind=kind, **of)) for kind, text in kinds]


admin_site.pages.append(
    path("billing/reconciliation/", admin_site.admin_view(view), name="billing_reconciliation")
)

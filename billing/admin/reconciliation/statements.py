"""A month's statement to take away: to print, as CSV, as JSON."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from billing import audit, statements
from billing.admin.columns import EMPTY, stamp
from billing.admin.reconciliation import access
from billing.admin.reconciliation.pages import month_name
from billing.admin.site import admin_site
from billing.models import Agreement
from billing.reconciliation.exact import plain
from billing.statements import Part, Statement, Sum


def view(request: HttpRequest, kind: str) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    access.check_may_look(request)
    now = timezone.now()
    month = access.month_of(request.GET, now=now)
    agreement: Agreement | None = access.row_of(access.agreements(), request.GET.get("agreement", ""))
    organization: Organization | None = access.row_of(
        Organization.objects.all(), request.GET.get("organization", "")
    )
    if agreement is not None and organization is None:
        statement = statements.of_agreement(agreement, month, now=now)
        subject = {"agreement": agreement.pk}
    elif organization is not None and agreement is None:
        statement = statements.of_organization(organization, month, now=now)
        subject = {"organization": organization.pk}
    else:
        raise Http404
    if kind == "html":
        return _to_print(request, statement)
    _note(request, kind, month=str(month), **subject)
    return _download(statement, kind, "-".join(f"{name}-{pk}" for name, pk in subject.items()))


def _to_print(request: HttpRequest, statement: Statement) -> TemplateResponse:
    context = {
        "statement": statement,
        "month_name": month_name(statement.month),
        "as_of": stamp(statement.as_of),
        "headers": [
            _("Recorded"),
            _("Included"),
            _("Metered"),
            _("Accepted"),
            _("On the way"),
            _("Open"),
            _("Set aside"),
            _("Billed by AWS"),
        ],
        "parts": [_part(part) for part in statement.parts],
    }
    return TemplateResponse(request, "admin/billing/reconciliation_statement.html", context)


def _part(part: Part) -> dict[str, Any]:
    agreement, customer = part.agreement, part.agreement.customer
    ids = [
        (_("AWS account"), customer.aws_account_id or customer.customer_identifier),
        (_("Agreement"), agreement.agreement_id),
        (_("License"), agreement.license_id),
    ]
    unit = part.dimension.unit
    return {
        "product": agreement.product.title,
        "label": part.dimension.label,
        "unit": unit,
        "reported_until": f"{part.reported_until:%Y-%m-%d}" if part.reported_until else "",
        "ids": [(name, value) for name, value in ids if value],
        "days": [(f"{day:%Y-%m-%d}", _figures(of_day)) for day, of_day in part.days],
        "total": _figures(part.total),
        "tags": [
            (statements.tags_text(tags) or _("Without tags"), plain(amount)) for tags, amount in part.tags
        ],
    }


def _figures(one: Sum) -> list[str]:
    return [EMPTY if text is None else text for text in one.as_texts().values()]


def _download(statement: Statement, kind: str, subject: str) -> HttpResponseBase:
    headers = {
        "Content-Disposition": f'attachment; filename="statement-{statement.month}-{subject}.{kind}"',
        "Cache-Control": "no-store",
    }
    if kind == "csv":
        return StreamingHttpResponse(
            statements.as_csv(statement), content_type="text/csv; charset=utf-8", headers=headers
        )
    return HttpResponse(statements.as_json(statement), content_type="application/json", headers=headers)


def _note(request: HttpRequest, kind: str, **data: str | int) -> None:
    """Before the first row leaves."""
    assert isinstance(request.user, User)
    with transaction.atomic():
        audit.record(
            audit.STAFF, "statement_exported", by=request.user, at=timezone.now(), format=kind, **data
        )


for _kind in ("html", "csv", "json"):
    admin_site.pages.append(
        path(
            f"billing/reconciliation/statement.{_kind}",
            admin_site.admin_view(view),
            {"kind": _kind},
            name="billing_statement",
        )
    )

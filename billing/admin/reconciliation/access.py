"""Who may look at the reconciliation, and what an address asks for."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, QueryDict
from django.urls import reverse
from django.utils.http import urlencode

from billing.models import Agreement, Dimension, Product
from billing.reconciliation.months import Month, Scope

_SEEN = ("meteringrecord", "usageevent", "agreement", "usagereport", "usagereportline")
IMPORT = "billing.import_usagereport"


def may_look(request: HttpRequest) -> bool:
    """Who may see all that it is made of."""
    return request.user.has_perms([f"billing.view_{model}" for model in _SEEN])


def may_import(request: HttpRequest) -> bool:
    return may_look(request) and request.user.has_perm(IMPORT)


def check_may_look(request: HttpRequest) -> None:
    if not may_look(request):
        raise PermissionDenied


def month_of(asked: QueryDict, *, now: datetime) -> Month:
    """The month asked for, else this one."""
    text = asked.get("month", "")
    try:
        return Month.read(text) if text else Month.of(now)
    except ValueError as error:
        raise Http404 from error


def day_of(asked: QueryDict, month: Month) -> date | None:
    text = asked.get("day", "")
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise Http404 from error
    if day not in month.days:
        raise Http404
    return day


def row_of(rows: QuerySet[Any], text: str) -> Any:
    """The row of that key, None where none is asked for; no such row is no such page."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Http404
    row: Model | None = rows.filter(pk=int(text)).first()
    if row is None:
        raise Http404
    return row


def url(scope: Scope, *, name: str = "reconciliation", kind: str = "", **more: str | int) -> str:
    """The page of what is looked at."""
    parts: dict[str, str | int] = {"month": str(scope.month)}
    for part in ("product", "agreement", "dimension", "day"):
        if (value := getattr(scope, part)) is not None:
            parts[part] = str(value)
    address = reverse(f"admin:billing_{name}", kwargs={"kind": kind} if kind else None)
    return f"{address}?{urlencode({**parts, **more})}"


def upload_url() -> str:
    return reverse("admin:billing_reconciliation_import")


def products() -> QuerySet[Product]:
    return Product.objects.all()


def agreements() -> QuerySet[Agreement]:
    return Agreement.objects.select_related("product", "customer", "organization")


def dimensions() -> dict[int, Dimension]:
    """All: they are few."""
    return {
        row.pk: row for row in Dimension.objects.select_related("product").order_by("product__title", "key")
    }

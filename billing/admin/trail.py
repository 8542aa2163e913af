"""Who changed what, and who holds which job."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from billing.admin import search
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import block, link, when
from billing.admin.site import admin_site
from billing.models import Agreement, AuditEvent, Lease

_STREAM = "agreement:"


@admin.display(description="details")
def _details(row: AuditEvent) -> str:
    return ", ".join(f"{name}: {value}" for name, value in row.data.items())


@admin.display(description="data")
def _data(row: AuditEvent) -> str:
    return block(json.dumps(row.data, indent=2, sort_keys=True, ensure_ascii=False))


@admin.display(description="agreement")
def _agreement(row: AuditEvent) -> str:
    """The trail has no foreign keys: it outlives what it tells of."""
    number = row.stream.removeprefix(_STREAM)
    return link(Agreement(pk=int(number)), row.stream) if number.isdecimal() else row.stream


@admin.register(AuditEvent, site=admin_site)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = (when("occurred_at", "at"), _agreement, "sequence", "actor", "action", _details)
    list_filter = ("occurred_at",)
    search_fields = ("stream__exact",)
    search_help_text = "Stream, AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            (_agreement, "sequence"),
            (when("occurred_at", "at"), "actor"),
            "action",
            _data,
            "previous_mac",
            "mac",
        ),
    }

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search.normalized(search_term)
        if not term:
            return queryset, False
        streams = [f"{_STREAM}{pk}" for pk in search.agreements(term)]
        return queryset.filter(Q(stream=term) | Q(stream__in=streams)), False


@admin.register(Lease, site=admin_site)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "token", when("expires_at", "held until"))
    sections = {
        "": (("name", "holder"), ("token", when("expires_at", "held until"))),
    }

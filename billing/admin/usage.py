"""What was used, event by event."""

from __future__ import annotations

from django.contrib import admin

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, bought, linked, quantity, when
from billing.admin.site import admin_site
from billing.admin.tones import DISPOSITION
from billing.models import UsageEvent


@admin.register(UsageEvent, site=admin_site)
class UsageEventAdmin(ReadOnlyAdmin):
    list_display = (
        when("occurred_at", "used at"),
        bought(),
        linked("organization"),
        "dimension",
        quantity("quantity"),
        "key",
        badge("disposition", DISPOSITION),
        linked("metering_record", "record"),
    )
    list_select_related = (
        "organization",
        "agreement__product",
        "agreement__customer",
        "agreement__organization",
        "dimension",
        "metering_record",
    )
    list_filter = (
        "disposition",
        ("metering_record", admin.EmptyFieldListFilter),
        "agreement__product",
        "occurred_at",
        "recorded_at",
    )
    search_agreement = "agreement"
    search_fields = ("key__exact",)
    search_help_text = "Usage key, AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            (quantity("quantity"), linked("dimension")),
            (bought(), linked("organization")),
            (when("occurred_at", "used at"), when("recorded_at")),
            ("disposition", linked("metering_record")),
            "key",
            "tags",
        ),
    }

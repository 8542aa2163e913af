"""What was bought ahead, and when it was in force."""

from __future__ import annotations

from django.contrib import admin

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import bought, when
from billing.admin.site import admin_site
from billing.models import Entitlement


@admin.display(description="value")
def _value(row: Entitlement) -> str:
    return str(row.value)


@admin.register(Entitlement, site=admin_site)
class EntitlementAdmin(ReadOnlyAdmin):
    list_display = (
        "dimension_key",
        _value,
        bought(),
        when("valid_from", "from"),
        when("valid_to", "until"),
        when("expires_at", "expires"),
        "opened_because",
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = (("valid_to", admin.EmptyFieldListFilter), "agreement__product", "expires_at")
    search_agreement = "agreement"
    search_fields = ("agreement__license_id__exact",)
    search_help_text = "AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            (bought(), "dimension_key"),
            (_value, when("expires_at", "expires")),
            (when("valid_from", "in force from"), when("valid_to", "in force until")),
            ("opened_because", "closed_because"),
        ),
    }

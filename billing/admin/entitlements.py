"""What was bought ahead, and when it was in force."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import bought, text, when
from billing.admin.filters import Between
from billing.admin.site import admin_site
from billing.models import Entitlement


@admin.display(description=_("value"))
def _value(row: Entitlement) -> str:
    return str(row.value)


@admin.register(Entitlement, site=admin_site)
class EntitlementAdmin(ReadOnlyAdmin):
    list_display = (
        text("dimension_key", _("dimension")),
        _value,
        bought(),
        when("valid_from", _("from")),
        when("valid_to", _("until")),
        when("expires_at", _("expires")),
        text("opened_because", _("opened because")),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = (("valid_to", admin.EmptyFieldListFilter), "agreement__product", ("expires_at", Between))
    search_agreement = "agreement"
    search_help_text = _("AWS account, license, agreement id, organization or e-mail")
    export_more = ("string_value", "agreement__license_id", "agreement__agreement_id")
    sections = {
        "": (
            (bought(), text("dimension_key", _("dimension"))),
            (_value, when("expires_at", _("expires"))),
            (when("valid_from", _("in force from")), when("valid_to", _("in force until"))),
            (text("opened_because", _("opened because")), text("closed_because", _("closed because"))),
        ),
    }

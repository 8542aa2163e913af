"""What was used, event by event."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.admin import search
from billing.admin.actions.attached import WithRepairs
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import EMPTY, badge, bought, choice, linked, quantity, text, when
from billing.admin.filters import Between, OfProduct
from billing.admin.site import admin_site
from billing.admin.tones import DISPOSITION
from billing.models import UsageEvent


@admin.display(description=_("tags"))
def _tags(row: UsageEvent) -> str:
    return ", ".join(f"{name}: {value}" for name, value in sorted(row.tags.items())) or EMPTY


@admin.register(UsageEvent, site=admin_site)
class UsageEventAdmin(WithRepairs, ReadOnlyAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    repairs = ("bill_late_usage", "write_off_usage")
    list_display = (
        when("occurred_at", _("used at")),
        bought(),
        linked("organization", _("organization")),
        linked("dimension", _("dimension")),
        quantity("quantity", _("quantity")),
        text("key", _("key")),
        badge("disposition", DISPOSITION, _("disposition")),
        linked("metering_record", _("record")),
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
        OfProduct,
        ("occurred_at", Between),
    )
    search_agreement = "agreement"
    search_help_text = _("Usage key, AWS account, license, agreement id, or a member's e-mail")
    sections = {
        "": (
            (quantity("quantity", _("quantity")), linked("dimension", _("dimension"))),
            (bought(), linked("organization", _("organization"))),
            (when("occurred_at", _("used at")), when("recorded_at", _("recorded at"))),
            (choice("disposition", _("disposition")), linked("metering_record", _("metering record"))),
            text("key", _("key")),
            _tags,
        ),
    }
    # By their own index, whatever part of five million events a range of time leaves.
    ordering = ("-occurred_at", "-pk")
    export_more = ("agreement__license_id", "agreement__agreement_id", "dimension__key", "organization__name")

    def search_by(self, term: str) -> Q:
        return Q(pk__in=search.events_with_key(term))

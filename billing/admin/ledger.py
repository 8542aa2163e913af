"""Metering records: an hour of a dimension, from the usage in it to AWS's answer."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from billing.admin import record_page, search
from billing.admin.actions.attached import WithRepairs
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, block, bought, choice, linked, quantity, text, text_block, when
from billing.admin.filters import Between, OfProduct, OfRecordState
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import RECORD_STATE
from billing.models import MeteringRecord


@admin.display(description=_("allocations"))
def _allocations(row: MeteringRecord) -> str:
    return block(json.dumps(json.loads(row.wire_allocations), indent=2) if row.wire_allocations else "")


@admin.register(MeteringRecord, site=admin_site)
class MeteringRecordAdmin(WithRepairs, ReadOnlyAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    repairs = ("retry", "hold", "resume", "void", "write_off")
    list_repairs = ("submit_now",)
    list_display = (
        when("hour", _("hour (UTC)")),
        bought(),
        linked("dimension", _("dimension")),
        quantity("used", _("used")),
        quantity("included", _("included")),
        quantity("quantity", _("billed")),
        badge("state", RECORD_STATE, _("state")),
        when("submit_by", _("send by")),
        text("error_code", _("error")),
    )
    list_select_related = (
        "agreement__product",
        "agreement__customer",
        "agreement__organization",
        "dimension",
    )
    list_filter = (("state", OfRecordState), OfProduct, ("hour", Between))
    search_agreement = "agreement"
    search_fields = ("aws_record_id__exact",)
    search_help_text = _(
        "AWS record id or request id, AWS account, license, agreement id, organization, e-mail, or number"
    )
    sections = {
        "": (
            (bought(), linked("dimension", _("dimension"))),
            (when("hour", _("hour (UTC)")), when("closed_at", _("closed"))),
            (quantity("used", _("used")), quantity("included", _("included in the contract"))),
            (quantity("quantity", _("billed")), choice("state", _("state"))),
        ),
        _("Sending"): (
            (when("submit_by", _("send by")), when("settled_at", _("settled"))),
            (text("attempts", _("attempts")), when("next_attempt_at", _("next attempt"))),
            (text("aws_record_id", _("AWS record id")), text("error_code", _("error"))),
            text_block("error_message", _("error message")),
        ),
        _("As AWS gets it: frozen when the hour closed"): (
            text("wire_license_arn", _("license ARN")),
            (
                text("wire_product_code", _("product code")),
                text("wire_customer_identifier", _("customer identifier")),
            ),
            (text("wire_account_id", _("AWS account")), text("wire_region", _("Region"))),
            (when("wire_timestamp", _("timestamp")), text("wire_quantity", _("quantity"))),
            _allocations,
        ),
    }

    ordering = ("-hour", "-pk")
    export_more = (
        "agreement__license_id",
        "agreement__agreement_id",
        "agreement__organization__name",
        "dimension__key",
    )

    def search_by(self, term: str) -> Q:
        return Q(pk__in=search.records_sent_in(term))

    def panels(self, request: HttpRequest, row: MeteringRecord) -> list[Panel]:
        return record_page.panels(row)

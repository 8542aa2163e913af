"""Metering records: an hour of a dimension, from the usage in it to AWS's answer."""

from __future__ import annotations

import json

from django.contrib import admin
from django.http import HttpRequest

from billing.admin import panels_of
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, block, bought, linked, list_url, quantity, text, text_block, when
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import RECORD_STATE
from billing.models import MeteringRecord, SubmissionLine, UsageEvent


@admin.display(description="allocations")
def _allocations(row: MeteringRecord) -> str:
    return block(json.dumps(json.loads(row.wire_allocations), indent=2) if row.wire_allocations else "")


@admin.register(MeteringRecord, site=admin_site)
class MeteringRecordAdmin(ReadOnlyAdmin):
    list_display = (
        when("hour", "hour (UTC)"),
        bought(),
        "dimension",
        quantity("used"),
        quantity("included"),
        quantity("quantity", "billed"),
        badge("state", RECORD_STATE),
        when("submit_by", "send by"),
        "error_code",
    )
    list_select_related = (
        "agreement__product",
        "agreement__customer",
        "agreement__organization",
        "dimension",
    )
    list_filter = ("state", "agreement__product", "hour", "submit_by")
    search_agreement = "agreement"
    search_fields = ("aws_record_id__exact",)
    search_help_text = (
        "AWS record id, AWS account, license, agreement id, a member's e-mail, or the record's number"
    )
    sections = {
        "": (
            (bought(), linked("dimension")),
            (when("hour", "hour (UTC)"), when("closed_at", "closed")),
            (quantity("used"), quantity("included", "included in the contract")),
            (quantity("quantity", "billed"), "state"),
        ),
        "Sending": (
            (when("submit_by", "send by"), when("settled_at", "settled")),
            ("attempts", when("next_attempt_at", "next attempt")),
            (text("aws_record_id", "AWS record id"), "error_code"),
            text_block("error_message"),
        ),
        "As AWS gets it: frozen when the hour closed": (
            text("wire_license_arn", "license ARN"),
            (
                text("wire_product_code", "product code"),
                text("wire_customer_identifier", "customer identifier"),
            ),
            (text("wire_account_id", "AWS account"), text("wire_region", "Region")),
            (when("wire_timestamp", "timestamp"), text("wire_quantity", "quantity")),
            _allocations,
        ),
    }

    def panels(self, request: HttpRequest, row: MeteringRecord) -> list[Panel]:
        return [
            panels_of.usage(
                row.usage_events.order_by("-pk"), more=list_url(UsageEvent, metering_record=row.pk)
            ),
            panels_of.answers(row.submission_lines.all(), more=list_url(SubmissionLine, record=row.pk)),
        ]

"""BatchMeterUsage calls, and what each said of each record."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from billing.admin import panels_of
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, bought, linked, list_url, text, text_block, when
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import SUBMISSION_OUTCOME
from billing.models import Submission, SubmissionLine


@admin.register(Submission, site=admin_site)
class SubmissionAdmin(ReadOnlyAdmin):
    list_display = (
        when("started_at", "sent at"),
        "record_count",
        badge("outcome", SUBMISSION_OUTCOME),
        "error_code",
        text("aws_request_id", "AWS request id"),
        linked("parent", "half of"),
    )
    list_select_related = ("parent",)
    list_filter = ("outcome", "started_at")
    search_fields = ("aws_request_id__exact",)
    search_help_text = "AWS request id, or the submission's number"
    sections = {
        "": (
            ("outcome", "record_count"),
            (when("started_at", "sent at"), when("finished_at", "answered at")),
            (text("aws_request_id", "AWS request id"), "token"),
            ("error_code", linked("parent", "half of")),
            text_block("error_message"),
        ),
    }

    def panels(self, request: HttpRequest, row: Submission) -> list[Panel]:
        return [
            panels_of.lines(row),
            panels_of.calls("Halves, sent apart", row.halves.all(), more=list_url(Submission, parent=row.pk)),
        ]


@admin.register(SubmissionLine, site=admin_site)
class SubmissionLineAdmin(ReadOnlyAdmin):
    list_display = (
        when("submission__started_at", "sent at"),
        linked("submission"),
        linked("record"),
        bought("record__agreement"),
        text("status", "AWS said"),
        text("aws_record_id", "AWS record id"),
    )
    list_select_related = (
        "submission",
        "record__agreement__product",
        "record__agreement__customer",
        "record__agreement__organization",
    )
    list_filter = ("submission__outcome", "submission__started_at")
    search_fields = ("submission__aws_request_id__exact",)
    search_agreement = "record__agreement"
    search_help_text = "AWS request id, AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            (linked("submission"), linked("record")),
            (text("status", "AWS said"), text("aws_record_id", "AWS record id")),
            bought("record__agreement"),
        ),
    }

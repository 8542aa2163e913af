"""BatchMeterUsage calls, and what each said of each record."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from billing.admin import submission_page
from billing.admin.actions.attached import WithRepairs
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, bought, choice, linked, text, text_block, when
from billing.admin.filters import Between, OfSubmissionTime
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import SUBMISSION_OUTCOME
from billing.models import MeteringRecord, Submission, SubmissionLine


@admin.register(Submission, site=admin_site)
class SubmissionAdmin(WithRepairs, ReadOnlyAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    list_repairs = ("submit_now",)
    list_display = (
        when("started_at", _("sent at")),
        text("record_count", _("records")),
        badge("outcome", SUBMISSION_OUTCOME, _("outcome")),
        text("error_code", _("error")),
        text("aws_request_id", _("AWS request id")),
        linked("parent", _("half of")),
    )
    list_select_related = ("parent",)
    list_filter = ("outcome", ("started_at", Between))
    ordering = ("-started_at", "-pk")
    search_fields = ("aws_request_id__exact",)
    search_help_text = _("AWS request id, or the submission's number")
    sections = {
        "": (
            (choice("outcome", _("outcome")), text("record_count", _("records"))),
            (when("started_at", _("sent at")), when("finished_at", _("answered at"))),
            (text("aws_request_id", _("AWS request id")), text("token", _("submitter's token"))),
            (text("error_code", _("error")), linked("parent", _("half of"))),
            text_block("error_message", _("error message")),
        ),
    }

    def panels(self, request: HttpRequest, row: Submission) -> list[Panel]:
        return submission_page.panels(row)


@admin.register(SubmissionLine, site=admin_site)
class SubmissionLineAdmin(ReadOnlyAdmin):
    list_display = (
        when("submission__started_at", _("sent at")),
        linked("submission", _("submission")),
        linked("record", _("record")),
        bought("record__agreement"),
        text("status", _("AWS said")),
        text("aws_record_id", _("AWS record id")),
    )
    list_select_related = (
        "submission",
        "record__agreement__product",
        "record__agreement__customer",
        "record__agreement__organization",
    )
    list_filter = ("submission__outcome", ("submission__started_at", OfSubmissionTime))
    # By the index of their calls.
    ordering = ("-submission_id", "-record_id")
    export_more = ("submission__started_at", "submission__aws_request_id", "record__agreement__license_id")
    search_agreement = "record__agreement"
    search_help_text = _(
        "AWS request id or record id, AWS account, license, agreement id, organization or e-mail"
    )
    sections = {
        "": (
            (linked("submission", _("submission")), linked("record", _("record"))),
            (text("status", _("AWS said")), text("aws_record_id", _("AWS record id"))),
            bought("record__agreement"),
        ),
    }

    def search_by(self, term: str) -> Q:
        calls = Submission.objects.filter(aws_request_id=term).order_by().values_list("pk", flat=True)
        records = MeteringRecord.objects.filter(aws_record_id=term).order_by().values_list("pk", flat=True)
        return Q(submission__in=list(calls)) | Q(record__in=list(records))

"""The tables that pages share: the same rows look the same wherever they hang."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from billing.admin import advice
from billing.admin.columns import (
    badge,
    instant,
    label,
    link,
    list_url,
    plain,
    purchase,
    unbroken,
)
from billing.admin.panels import Panel, panel
from billing.admin.tones import (
    AGREEMENT_STATUS,
    DISPOSITION,
    EFFECT_STATE,
    EVENT_CHANNEL,
    EVENT_STATE,
    RECORD_STATE,
    SUBMISSION_OUTCOME,
)
from billing.models import (
    Agreement,
    AuditEvent,
    Effect,
    Entitlement,
    MarketplaceEvent,
    MeteringRecord,
    Registration,
    Submission,
    SubmissionLine,
    UsageEvent,
)


def agreements(rows: QuerySet[Agreement], *, more: str) -> Panel:
    return panel(
        _("Agreements"),
        rows.select_related("product", "customer", "organization"),
        {
            _("Agreement"): lambda row: link(row, purchase(row)),
            _("License"): lambda row: row.license_id or _("legacy"),
            _("Status"): badge("status", AGREEMENT_STATUS),
            _("Active from"): lambda row: instant(row.activated_at),
            _("Ended"): lambda row: instant(row.ended_at),
        },
        more=more,
    )


def entitlements(agreement: Agreement) -> Panel:
    return panel(
        _("Entitlements, in force first"),
        agreement.entitlements.order_by(F("valid_to").desc(nulls_first=True), "dimension_key", "-valid_from"),
        {
            _("Dimension"): lambda row: link(row, row.dimension_key),
            _("Value"): lambda row: row.value,
            _("From"): lambda row: instant(row.valid_from),
            _("Until"): lambda row: (
                instant(row.valid_to) if row.valid_to else label(_("in force"), "success")
            ),
            _("Expires"): lambda row: instant(row.expires_at),
            _("Opened because"): lambda row: row.opened_because,
            _("Closed because"): lambda row: row.closed_because,
        },
        more=list_url(Entitlement, agreement=agreement.pk),
    )


def records(rows: QuerySet[MeteringRecord], *, more: str) -> Panel:
    return panel(
        _("Metering records"),
        rows.select_related("dimension"),
        {
            _("Hour (UTC)"): lambda row: link(row, f"{row.hour:%Y-%m-%d %H}:00"),
            _("Dimension"): lambda row: row.dimension,
            _("Used"): lambda row: plain(row.used),
            _("Included"): lambda row: plain(row.included),
            _("Billed"): lambda row: plain(row.quantity),
            _("State"): badge("state", RECORD_STATE),
            _("Send by"): lambda row: instant(row.submit_by),
        },
        more=more,
    )


def usage(rows: QuerySet[UsageEvent], *, more: str) -> Panel:
    return panel(
        _("Usage"),
        rows.select_related("dimension", "metering_record"),
        {
            _("Used at"): lambda row: link(row, instant(row.occurred_at)),
            _("Recorded at"): lambda row: instant(row.recorded_at),
            _("Dimension"): lambda row: row.dimension,
            _("Quantity"): lambda row: plain(row.quantity),
            _("Key"): lambda row: row.key,
            _("Disposition"): badge("disposition", DISPOSITION),
            _("Record"): lambda row: link(row.metering_record) if row.metering_record else _("not closed"),
        },
        more=more,
    )


def answers(rows: QuerySet[SubmissionLine], *, more: str) -> Panel:
    """What AWS said of a record, call by call."""
    return panel(
        _("Submissions"),
        rows.select_related("submission", "record").order_by("-pk"),
        {
            _("Sent at"): lambda row: link(row.submission, instant(row.submission.started_at)),
            _("Call"): lambda row: badge("outcome", SUBMISSION_OUTCOME)(row.submission),
            _("AWS request id"): lambda row: row.submission.aws_request_id,
            _("Said of this record"): lambda row: link(row, unbroken(row.status or _("no answer"))),
            _("AWS record id"): lambda row: row.aws_record_id or "",
            _("What to do"): lambda row: advice.of(row.status, row.record),
        },
        more=more,
    )


def lines(submission: Submission) -> Panel:
    return panel(
        _("Records in this call"),
        submission.lines.select_related(
            "record__dimension",
            "record__agreement__product",
            "record__agreement__customer",
            "record__agreement__organization",
        ),
        {
            _("Hour (UTC)"): lambda row: link(row.record, instant(row.record.hour)),
            _("Billed"): lambda row: plain(row.record.quantity),
            _("Agreement"): lambda row: link(row.record.agreement, purchase(row.record.agreement)),
            _("Dimension"): lambda row: row.record.dimension,
            _("AWS said"): lambda row: link(row, unbroken(row.status or _("no answer"))),
            _("AWS record id"): lambda row: row.aws_record_id or "",
            _("State now"): lambda row: badge("state", RECORD_STATE)(row.record),
            _("What to do"): lambda row: advice.of(row.status, row.record),
        },
        more=list_url(SubmissionLine, submission=submission.pk),
    )


def calls(title: str, rows: QuerySet[Submission], *, more: str) -> Panel:
    return panel(
        title,
        rows,
        {
            _("Sent at"): lambda row: link(row, instant(row.started_at)),
            _("Records"): lambda row: row.record_count,
            _("Outcome"): badge("outcome", SUBMISSION_OUTCOME),
            _("Error"): lambda row: row.error_code,
            _("AWS request id"): lambda row: row.aws_request_id,
        },
        more=more,
    )


def events(rows: QuerySet[MarketplaceEvent], *, more: str) -> Panel:
    return panel(
        _("Events"),
        rows.defer("body", "payload"),
        {
            _("At"): lambda row: link(row, instant(row.occurred_at)),
            _("Event"): lambda row: row.kind,
            _("Channel"): badge("channel", EVENT_CHANNEL),
            _("Received"): lambda row: instant(row.received_at),
            _("State"): badge("state", EVENT_STATE),
            _("Error"): lambda row: row.error,
        },
        more=more,
    )


def effects(rows: QuerySet[Effect], *, more: str) -> Panel:
    return panel(
        _("Effects"),
        rows,
        {
            _("Due"): lambda row: link(row, instant(row.due_at)),
            _("What"): lambda row: row.get_kind_display(),
            _("Because of"): lambda row: row.cause,
            _("State"): badge("state", EFFECT_STATE),
            _("Done"): lambda row: instant(row.done_at),
            _("Outcome"): lambda row: row.error or row.outcome,
        },
        more=more,
    )


def registrations(agreement: Agreement) -> Panel:
    return panel(
        _("Arrivals"),
        agreement.registrations.select_related("user"),
        {
            _("Arrived"): lambda row: link(row, instant(row.created_at)),
            _("Person"): lambda row: link(row.user),
            _("Claimed"): lambda row: instant(row.claimed_at),
            _("Expires"): lambda row: instant(row.expires_at),
        },
        more=list_url(Registration, agreement=agreement.pk),
    )


def audit(agreement: Agreement) -> Panel:
    def details(row: AuditEvent) -> Any:
        return ", ".join(f"{name}: {value}" for name, value in row.data.items())

    return panel(
        _("Audit trail"),
        AuditEvent.objects.filter(stream=agreement.audit_stream).order_by("-sequence"),
        {
            _("#"): lambda row: link(row, str(row.sequence)),
            _("At"): lambda row: instant(row.occurred_at),
            _("By"): lambda row: row.actor,
            _("Did"): lambda row: row.action,
            _("Details"): details,
        },
        more=list_url(AuditEvent, stream=agreement.audit_stream),
    )

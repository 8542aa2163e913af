"""The tables that pages share: the same rows look the same wherever they hang."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet

from billing import history as billing_history
from billing.admin.columns import (
    badge,
    dotted,
    instant,
    label,
    link,
    list_url,
    page_url,
    plain,
    purchase,
    stamp,
    unbroken,
)
from billing.admin.panels import Panel, panel
from billing.admin.tones import (
    AGREEMENT_STATUS,
    DISPOSITION,
    DOT,
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

_ENTRIES = 40  # of a history, on one page


def whole_history(agreement: Agreement, *, before: datetime | None = None) -> list[Panel]:
    """Everything known of one purchase: what happened and why, and the rows that tell of it."""
    pk = agreement.pk
    return [
        history(agreement, before=before),
        entitlements(agreement),
        records(agreement.metering_records.order_by("-pk"), more=list_url(MeteringRecord, agreement=pk)),
        usage(agreement.usage_events.order_by("-pk"), more=list_url(UsageEvent, agreement=pk)),
        events(
            agreement.events.order_by("-occurred_at", "-pk"), more=list_url(MarketplaceEvent, agreement=pk)
        ),
        effects(agreement.effects.order_by("-pk"), more=list_url(Effect, agreement=pk)),
        registrations(agreement),
        audit(agreement),
    ]


def history(agreement: Agreement, *, before: datetime | None = None) -> Panel:
    """What happened ``before``, newest first; the way back in time is the same page, asked anew."""
    page = billing_history.page(agreement, limit=_ENTRIES, before=before)
    rows = [
        [instant(entry.at), dotted(entry.what, DOT[entry.tone], entry.link_to), entry.why, unbroken(entry.by)]
        for entry in page.entries
    ]
    return Panel(
        f"History before {stamp(before)}" if before else "History",
        {"headers": ["At (UTC)", "What", "Why", "By"], "rows": rows},
        f"{page_url(agreement, before=page.older.isoformat())}#history" if page.older else "",
        "What was before that",
        anchor="history",
    )


def agreements(rows: QuerySet[Agreement], *, more: str) -> Panel:
    return panel(
        "Agreements",
        rows.select_related("product", "customer", "organization"),
        {
            "Agreement": lambda row: link(row, purchase(row)),
            "License": lambda row: row.license_id or "legacy",
            "Status": badge("status", AGREEMENT_STATUS),
            "Active from": lambda row: instant(row.activated_at),
            "Ended": lambda row: instant(row.ended_at),
        },
        more=more,
    )


def entitlements(agreement: Agreement) -> Panel:
    return panel(
        "Entitlements, in force first",
        agreement.entitlements.order_by(F("valid_to").desc(nulls_first=True), "dimension_key", "-valid_from"),
        {
            "Dimension": lambda row: link(row, row.dimension_key),
            "Value": lambda row: row.value,
            "From": lambda row: instant(row.valid_from),
            "Until": lambda row: instant(row.valid_to) if row.valid_to else label("in force", "success"),
            "Expires": lambda row: instant(row.expires_at),
            "Opened because": lambda row: row.opened_because,
            "Closed because": lambda row: row.closed_because,
        },
        more=list_url(Entitlement, agreement=agreement.pk),
    )


def records(rows: QuerySet[MeteringRecord], *, more: str) -> Panel:
    return panel(
        "Metering records",
        rows.select_related("dimension"),
        {
            "Hour (UTC)": lambda row: link(row, f"{row.hour:%Y-%m-%d %H}:00"),
            "Dimension": lambda row: row.dimension,
            "Used": lambda row: plain(row.used),
            "Included": lambda row: plain(row.included),
            "Billed": lambda row: plain(row.quantity),
            "State": badge("state", RECORD_STATE),
            "Send by": lambda row: instant(row.submit_by),
        },
        more=more,
    )


def usage(rows: QuerySet[UsageEvent], *, more: str) -> Panel:
    return panel(
        "Usage",
        rows.select_related("dimension", "metering_record"),
        {
            "Used at": lambda row: link(row, instant(row.occurred_at)),
            "Recorded at": lambda row: instant(row.recorded_at),
            "Dimension": lambda row: row.dimension,
            "Quantity": lambda row: plain(row.quantity),
            "Key": lambda row: row.key,
            "Disposition": badge("disposition", DISPOSITION),
            "Record": lambda row: link(row.metering_record) if row.metering_record else "not closed",
        },
        more=more,
    )


def answers(rows: QuerySet[SubmissionLine], *, more: str) -> Panel:
    """What AWS said of a record, call by call."""
    return panel(
        "Submissions",
        rows.select_related("submission").order_by("-pk"),
        {
            "Sent at": lambda row: link(row.submission, instant(row.submission.started_at)),
            "Call": lambda row: badge("outcome", SUBMISSION_OUTCOME)(row.submission),
            "AWS request id": lambda row: row.submission.aws_request_id,
            "Said of this record": lambda row: link(row, row.status or "no answer"),
            "AWS record id": lambda row: row.aws_record_id or "",
        },
        more=more,
    )


def lines(submission: Submission) -> Panel:
    return panel(
        "Records in this call",
        submission.lines.select_related(
            "record__dimension",
            "record__agreement__product",
            "record__agreement__customer",
            "record__agreement__organization",
        ),
        {
            "Record": lambda row: link(row.record),
            "Agreement": lambda row: link(row.record.agreement, purchase(row.record.agreement)),
            "Dimension": lambda row: row.record.dimension,
            "AWS said": lambda row: link(row, row.status or "no answer"),
            "AWS record id": lambda row: row.aws_record_id or "",
            "State now": lambda row: badge("state", RECORD_STATE)(row.record),
        },
        more=list_url(SubmissionLine, submission=submission.pk),
    )


def calls(title: str, rows: QuerySet[Submission], *, more: str) -> Panel:
    return panel(
        title,
        rows,
        {
            "Sent at": lambda row: link(row, instant(row.started_at)),
            "Records": lambda row: row.record_count,
            "Outcome": badge("outcome", SUBMISSION_OUTCOME),
            "Error": lambda row: row.error_code,
            "AWS request id": lambda row: row.aws_request_id,
        },
        more=more,
    )


def events(rows: QuerySet[MarketplaceEvent], *, more: str) -> Panel:
    return panel(
        "Events",
        rows.defer("body", "payload"),
        {
            "At": lambda row: link(row, instant(row.occurred_at)),
            "Event": lambda row: row.kind,
            "Channel": badge("channel", EVENT_CHANNEL),
            "Received": lambda row: instant(row.received_at),
            "State": badge("state", EVENT_STATE),
            "Error": lambda row: row.error,
        },
        more=more,
    )


def effects(rows: QuerySet[Effect], *, more: str) -> Panel:
    return panel(
        "Effects",
        rows,
        {
            "Due": lambda row: link(row, instant(row.due_at)),
            "What": lambda row: row.get_kind_display(),
            "Because of": lambda row: row.cause,
            "State": badge("state", EFFECT_STATE),
            "Done": lambda row: instant(row.done_at),
            "Outcome": lambda row: row.error or row.outcome,
        },
        more=more,
    )


def registrations(agreement: Agreement) -> Panel:
    return panel(
        "Arrivals",
        agreement.registrations.select_related("user"),
        {
            "Arrived": lambda row: link(row, instant(row.created_at)),
            "Person": lambda row: link(row.user),
            "Claimed": lambda row: instant(row.claimed_at),
            "Expires": lambda row: instant(row.expires_at),
        },
        more=list_url(Registration, agreement=agreement.pk),
    )


def audit(agreement: Agreement) -> Panel:
    def details(row: AuditEvent) -> Any:
        return ", ".join(f"{name}: {value}" for name, value in row.data.items())

    return panel(
        "Audit trail",
        AuditEvent.objects.filter(stream=agreement.audit_stream).order_by("-sequence"),
        {
            "#": lambda row: link(row, str(row.sequence)),
            "At": lambda row: instant(row.occurred_at),
            "By": lambda row: row.actor,
            "Did": lambda row: row.action,
            "Details": details,
        },
        more=list_url(AuditEvent, stream=agreement.audit_stream),
    )

"""What an agreement's beginning and end do to its usage: deadlines, the last hour, usage in or out of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from billing import audit
from billing.aws.window import accepted_until, hour_of
from billing.models import Agreement, MeteringRecord, UsageEvent

logger = logging.getLogger(__name__)

# After an end: late usage of the last hour may still come in, but the window closes in an hour.
SETTLE_TIME = timedelta(minutes=10)
SETTLE_MARGIN = timedelta(minutes=15)

_REOPENED_FOR = timedelta(hours=25)  # AWS's window, and the hour in which the usage stands

State = MeteringRecord.State
Disposition = UsageEvent.Disposition


def settled_at(agreement: Agreement) -> datetime:
    """When an ending agreement's last hour is closed: late usage has settled, AWS's window is still open."""
    assert agreement.ended_at is not None
    settled = agreement.ended_at + SETTLE_TIME
    if agreement.metering_closes_at is not None:
        settled = min(settled, agreement.metering_closes_at - SETTLE_MARGIN)
    return max(settled, agreement.ended_at)


def last_call(agreement: Agreement) -> datetime:
    """From here on the last usage goes out whatever is unknown: AWS's window is about to close."""
    assert agreement.ended_at is not None
    last_hour = hour_of(agreement.ended_at)
    return accepted_until(last_hour, closes_at=agreement.metering_closes_at) - SETTLE_MARGIN


def recompute_deadlines(agreement: Agreement) -> None:
    """Set ``submit_by`` of the unsettled records anew, in the transaction that moved the agreement's end."""
    # In the order in which the submitter locks them, or the two could wait for each other.
    for record in agreement.metering_records.filter(state__in=MeteringRecord.UNSETTLED).order_by("pk"):
        record.submit_by = accepted_until(record.hour, closes_at=agreement.metering_closes_at)
        # A pause that was right for the old deadline may reach past the new one.
        record.next_attempt_at = None
        record.save(update_fields=["submit_by", "next_attempt_at"])


def misplaced_usage(*, now: datetime) -> QuerySet[UsageEvent]:
    """Usage recorded as outside its agreement before we heard when that really began or ended.

    Only what AWS may still take: the rest is history.
    """
    return UsageEvent.objects.filter(
        Q(agreement__ended_at=None) | Q(occurred_at__lt=F("agreement__ended_at")),
        disposition=Disposition.OUTSIDE_AGREEMENT,
        occurred_at__gte=F("agreement__activated_at"),
        occurred_at__gt=now - _REOPENED_FOR,
    )


def reopen_usage(agreements: Iterable[Agreement], *, now: datetime) -> None:
    """Take misplaced usage back in. The caller holds the agreements' locks.

    Usage recorded inside an agreement that is no longer so needs nothing: the last hour claims it.
    """
    misplaced = misplaced_usage(now=now).filter(agreement__in=list(agreements))
    found = misplaced.order_by("agreement_id").values_list("agreement_id", flat=True).distinct()
    for agreement in Agreement.objects.filter(pk__in=list(found)):
        reopened = misplaced.filter(agreement=agreement).update(disposition=Disposition.BILLABLE)
        audit.record(agreement, "usage_reopened", by="aws", at=now, events=reopened)


def put_outside(agreement: Agreement, *, now: datetime) -> None:
    """Events that came late say that the agreement was never active: no usage of it can be billed."""
    stranded = agreement.usage_events.open().update(disposition=Disposition.OUTSIDE_AGREEMENT)
    if stranded:
        logger.error("Agreement %s was never active: %s uses cannot be billed", agreement.pk, stranded)
        audit.record(agreement, "usage_outside", by="job:close_hours", at=now, events=stranded)

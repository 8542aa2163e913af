"""What happens because time has passed and nobody says so: windows close, terms run out, trials end.

Each is stored as an event of the agreement, so that the fold stays the whole truth, and is said once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from billing import customers, lifecycle, owed
from billing.inbox.notifications import Notification, Type
from billing.models import Agreement, Effect, Entitlement, MarketplaceEvent
from billing.owed import Debt

logger = logging.getLogger(__name__)

Status = Agreement.Status

_TRIAL_OVER = "Free trial over"


def advance(*, now: datetime) -> None:
    """Let the clock speak of all that has come to pass by ``now``."""
    _each(Agreement.objects.filter(status=Status.ENDING, metering_closes_at__lte=now), _end_window, now=now)
    said = MarketplaceEvent.objects.filter(
        agreement=OuterRef("pk"), kind=_TRIAL_OVER, occurred_at=OuterRef("trial_ends_at")
    )
    trials = Agreement.objects.filter(~Exists(said), status=Status.ACTIVE, trial_ends_at__lte=now)
    _each(trials, _end_trial, now=now)
    _each(Agreement.objects.filter(pk__in=_expired(now).values("agreement")), _reread, now=now)


def _each(agreements: QuerySet[Agreement], say: Callable[..., None], *, now: datetime) -> None:
    for pk in list(agreements.values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                say(customers.lock(pk), now=now)
        except Exception:  # one agreement's trouble must not keep the others from ending
            logger.exception("The end of agreement %s could not be applied", pk)


def _end_window(agreement: Agreement, *, now: datetime) -> None:
    closes_at = agreement.metering_closes_at
    if agreement.status != Status.ENDING or closes_at is None or closes_at > now:
        return  # it was called off, or put off, while we waited for the lock
    lifecycle.tell(agreement, window_over(agreement, closes_at), now=now)


def _end_trial(agreement: Agreement, *, now: datetime) -> None:
    ends_at = agreement.trial_ends_at
    if agreement.status != Status.ACTIVE or ends_at is None or ends_at > now:
        return
    lifecycle.tell(agreement, _said(agreement, Type.TRIAL_OVER, _TRIAL_OVER, ends_at), now=now)


def window_over(agreement: Agreement, at: datetime) -> Notification:
    """That AWS takes no usage any more."""
    return _said(agreement, Type.WINDOW_OVER, "Metering window over", at)


def _said(agreement: Agreement, kind: Type, what: str, at: datetime) -> Notification:
    return Notification(
        channel=MarketplaceEvent.Channel.CLOCK,
        source_id=f"{kind}:{agreement.pk}:{at.isoformat()}",
        type=kind,
        name=what,
        occurred_at=at,
    )


def _expired(now: datetime) -> QuerySet[Entitlement]:
    """What ran out since it was last read: AWS may have renewed it."""
    unread = Q(agreement__entitlements_read_at=None) | Q(agreement__entitlements_read_at__lt=F("expires_at"))
    return Entitlement.objects.current().filter(unread, agreement__status=Status.ACTIVE, expires_at__lte=now)


def _reread(agreement: Agreement, *, now: datetime) -> None:
    rows = _expired(now).filter(agreement=agreement).values_list("expires_at", flat=True)
    owed.owe(
        agreement,
        [
            Debt(Effect.Kind.SYNC_ENTITLEMENTS, f"expired {at.isoformat()}", at, now)
            for at in sorted({at for at in rows if at is not None})
        ],
    )

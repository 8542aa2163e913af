"""What was read at AWS rather than told by it, stored as events so that the fold stays the whole truth."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import transaction

from billing import customers, lifecycle
from billing.aws.types import AgreementDetails
from billing.inbox.notifications import Notification, Type
from billing.models import Agreement, MarketplaceEvent

_READING = MarketplaceEvent.Channel.READING


@transaction.atomic
def described(agreement: Agreement, details: AgreementDetails, *, now: datetime) -> bool:
    """What DescribeAgreement tells beyond the events. Returns whether it is something new."""
    agreement = customers.lock(agreement.pk)
    told = (details.initial_agreement_id, details.starts_at, details.ends_at, details.trial_ends_at)
    digest = hashlib.sha256(repr(told).encode()).hexdigest()[:24]
    return lifecycle.tell(
        agreement,
        Notification(
            channel=_READING,
            source_id=f"described:{agreement.pk}:{digest}",
            type=Type.DESCRIBED,
            name="DescribeAgreement",
            occurred_at=now,
            agreement_id=agreement.agreement_id,
            initial_agreement_id=details.initial_agreement_id,
            starts_at=details.starts_at,
            ends_at=details.ends_at,
            trial_ends_at=details.trial_ends_at,
        ),
        now=now,
    )


def entitled(agreement: Agreement, *, at: datetime) -> None:
    """AWS lists entitlements of a purchase that no event has made active. The caller holds its lock."""
    _of_entitlements(agreement, Type.ENTITLED, "Entitlements found", at=at, now=at)


def entitlements_gone(agreement: Agreement, *, at: datetime, now: datetime) -> None:
    """AWS lists none any more, and no event said why. The caller holds the agreement's lock."""
    _of_entitlements(agreement, Type.ENTITLEMENTS_GONE, "Entitlements gone", at=at, now=now)


def _of_entitlements(agreement: Agreement, kind: Type, name: str, *, at: datetime, now: datetime) -> None:
    lifecycle.tell(
        agreement,
        Notification(
            channel=_READING,
            source_id=f"{kind}:{agreement.pk}:{at.isoformat()}",
            type=kind,
            name=name,
            occurred_at=at,
        ),
        now=now,
    )

"""A flag says that an agreement needs a person, and why. It changes nothing of what the buyer may do."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from billing import audit, customers
from billing.decision_rules import Refused, changed_since
from billing.models import Agreement, AuditEvent

logger = logging.getLogger(__name__)

NOT_SUBSCRIBED = "AWS says the customer is not subscribed."
ADVISORY = "AWS has issued an advisory about this purchase: see Manage agreements in AWS Marketplace."
VET_FAILED = "AWS could not vet this buyer: see the agreement in AWS Marketplace."
NO_SUCCESSOR = "AWS said that another agreement continues this one, and none came in 24 hours."
UNCLEAR_SUCCESSION = (
    "It continues another purchase of this AWS account, and AWS did not say which of several."
)


def raise_flag(agreement: Agreement, reason: str, *, at: datetime, by: str = "aws") -> bool:
    """Flag it (its lock is held), once for each reason: what was flagged first stays to be seen.

    Returns whether it was said: another reason is told and audited too.
    """
    if agreement.flagged_at is None:
        agreement.flagged_at, agreement.flag_reason = at, reason
        agreement.save(update_fields=["flagged_at", "flag_reason"])
    elif agreement.flag_reason == reason or _was_told(agreement, reason):
        return False
    audit.record(agreement, "flagged", by=by, at=at, reason=reason)
    logger.error("Agreement %s is flagged: %s", agreement.pk, reason)
    return True


def _was_told(agreement: Agreement, reason: str) -> bool:
    """Whether the flag was raised for this too, since it was first raised."""
    links = AuditEvent.objects.filter(stream=agreement.audit_stream, action="flagged", data__reason=reason)
    return links.filter(occurred_at__gte=agreement.flagged_at).exists()


def lower_flag(agreement: Agreement, reason: str, *, by: User | str, at: datetime) -> None:
    """Take the flag away if this is why it is there. The caller holds the agreement's lock."""
    if agreement.flagged_at is None or agreement.flag_reason != reason:
        return
    agreement.flagged_at, agreement.flag_reason = None, ""
    agreement.save(update_fields=["flagged_at", "flag_reason"])
    audit.record(agreement, "flag_lowered", by=by, at=at, reason=reason)


def settle(agreement_pk: int, *, by: User, reason: str, now: datetime, seen: str | None = None) -> bool:
    """A person has seen to it: take the flag away, whatever it was raised for. Returns whether there was one.

    ``seen`` is why it was flagged when they looked: another flag is not theirs to settle. Raises Refused.
    """
    with transaction.atomic():
        agreement = customers.lock(agreement_pk)
        if agreement.flagged_at is None:
            return False
        if seen is not None and seen != agreement.flag_reason:
            raise Refused(changed_since(seen or _("not flagged"), agreement.flag_reason))
        flag = agreement.flag_reason
        agreement.flagged_at, agreement.flag_reason = None, ""
        agreement.save(update_fields=["flagged_at", "flag_reason"])
        audit.record(agreement, "flag_settled", by=by, at=now, reason=reason, flag=flag)
    return True

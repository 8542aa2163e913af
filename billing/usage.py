"""The only way usage enters or leaves: ``record``, ``record_many`` and ``cancel``.

Recording never talks to AWS. It is idempotent by (organization, key): give every use a key of your own, and a
retried request counts once.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from billing import audit, customers
from billing.archiving import archived_keys
from billing.models import UsageEvent
from billing.recording.many import KnownUse, Refusal, Report, Use, record_many
from billing.recording.one import record
from billing.recording.payers import agreements_with
from billing.recording.rules import AmbiguousAgreement, KeyReused, UsageRefused

__all__ = [
    "AlreadyMetered",
    "AmbiguousAgreement",
    "KeyReused",
    "KnownUse",
    "Refusal",
    "Report",
    "UsageRefused",
    "Use",
    "agreements_with",
    "cancel",
    "record",
    "record_many",
]


class AlreadyMetered(Exception):
    """The use is in a closed hour and may have been billed: only AWS can give the money back."""


@transaction.atomic
def cancel(organization: Organization, key: str, *, reason: str, now: datetime | None = None) -> UsageEvent:
    """Take back a use whose hour is still open. Cancelling twice changes nothing.

    Raises UsageRefused for an unknown key, AlreadyMetered once the hour is closed.
    """
    known = UsageEvent.objects.filter(organization=organization, key=key).first()
    if known is None:
        if archived_keys.find(organization, key) is not None:
            raise AlreadyMetered("It is settled and archived. A refund is AWS's to make: ask their support.")
        raise UsageRefused(f"There is no usage with the key {key!r}.")
    # The agreement's lock is the one that closing holds: the hour is either closed before this or after.
    customers.lock(known.agreement_id)
    event = UsageEvent.objects.get(pk=known.pk)
    if event.metering_record_id is not None:
        raise AlreadyMetered(
            "Its hour is closed and may be billed. Refund it in the AWS Marketplace Management Portal "
            "(Billing → refund request)."
        )
    if event.disposition != UsageEvent.Disposition.CANCELLED:
        event.disposition = UsageEvent.Disposition.CANCELLED
        event.save(update_fields=["disposition"])
        audit.record(
            event.agreement,
            "usage_cancelled",
            by="product",
            at=now or timezone.now(),
            event=event.pk,
            reason=reason,
        )
    return event

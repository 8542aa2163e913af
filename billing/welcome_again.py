"""The buyer's welcome, sent once more because somebody asks for it: who joined later, or lost the first."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from billing import audit, customers, owed
from billing.decision_rules import Refused
from billing.mailing import letters
from billing.models import Agreement, Effect

_OVER = (Agreement.Status.ENDING, Agreement.Status.ENDED, Agreement.Status.FAILED)
_NAME = "buyer_welcome"


def check(agreement: Agreement) -> bool:
    """Whether it can be sent (False: one is on its way). Raises Refused."""
    if agreement.organization_id is None:
        raise Refused(_("Nobody has set it up yet: the welcome is sent as soon as somebody does."))
    if agreement.status in _OVER:
        raise Refused(_("It is “%(status)s”.") % {"status": agreement.get_status_display()})
    due = letters.mails_of(agreement).filter(cause__startswith=f"{_NAME}:", state=Effect.State.DUE)
    return not due.exists()


def send(agreement_pk: int, *, by: User, reason: str, now: datetime, seen: str | None = None) -> bool:
    """Owe it to the administrators of the workspace, which is ``seen``. Raises Refused."""
    with transaction.atomic():
        agreement = customers.lock(agreement_pk)
        if seen is not None and seen != str(agreement.organization_id or ""):
            raise Refused(_("It has moved to another workspace since you looked at it. Look at it again."))
        if not check(agreement):
            return False
        owed.owe(agreement, [letters.owe(_NAME, now.isoformat(), now)])
        audit.record(agreement, "welcome_sent_again", by=by, at=now, reason=reason)
    return True

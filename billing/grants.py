"""What a gate answers: whether, why, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from django.utils.translation import gettext_lazy as _


class Reason(StrEnum):
    """Why a gate answers as it does, for code; ``Grant.reason`` says it to people."""

    INCLUDED = "included"
    OUTAGE = "outage"  # it ran out, AWS cannot be asked whether it was renewed, and the feature goes on
    GRACE = "grace"  # it has ended, and another agreement may be on its way
    PENDING = "pending"
    NOT_INCLUDED = "not_included"
    EXPIRED = "expired"
    QUOTA = "quota"
    FAILED = "failed"
    ENDED = "ended"
    NO_SUBSCRIPTION = "no_subscription"


_FOR_NOW = (Reason.GRACE, Reason.OUTAGE)
ALLOWED = (Reason.INCLUDED, *_FOR_NOW)  # of several, the first is told
_MENDED_AT_AWS = (Reason.EXPIRED, Reason.QUOTA, Reason.FAILED, Reason.ENDED)
_SENTENCES = {
    Reason.INCLUDED: _("Included in your subscription."),
    Reason.OUTAGE: _(
        "AWS has not told yet whether your contract was renewed. Everything stays open for now."
    ),
    Reason.GRACE: _("Your subscription is changing over at AWS. Everything stays open meanwhile."),
    Reason.PENDING: _("AWS has not confirmed your purchase yet. This usually takes a few minutes."),
    Reason.NOT_INCLUDED: _("Your subscription does not include this."),
    Reason.EXPIRED: _("Your contract has expired. Renew it in the AWS console."),
    Reason.FAILED: _("AWS could not complete your purchase. Check the payment method of your AWS account."),
    Reason.ENDED: _("Your subscription has ended."),
    Reason.NO_SUBSCRIPTION: _("Your organization has no subscription yet."),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """Truthy when allowed. ``limit`` is how much, where the feature has a quota."""

    code: Reason
    limit: Decimal | None = None
    left: Decimal | None = None  # of the limit, where a reservation asked for more

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def allowed(self) -> bool:
        return self.code in ALLOWED

    @property
    def reason(self) -> str:
        """A sentence for people."""
        if self.code is not Reason.QUOTA:
            return str(_SENTENCES[self.code])
        sentence = _("Only %(left)s of %(limit)s are left.") if self.left else _("All %(limit)s are taken.")
        return sentence % {"left": _plain(self.left), "limit": _plain(self.limit)}

    @property
    def waiting(self) -> bool:
        """Whether AWS has yet to tell what was bought: the answer may be another in a minute."""
        return self.code is Reason.PENDING

    @property
    def is_mended_at_aws(self) -> bool:
        """Whether the console of the AWS account that bought it is the place to act."""
        return self.code in _MENDED_AT_AWS

    @property
    def is_for_now(self) -> bool:
        """Allowed, but only until AWS is heard of again: worth a banner."""
        return self.code in _FOR_NOW


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a feature was bought and used, over all live agreements."""

    limit: Decimal
    used: Decimal

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.limit - self.used)

    @property
    def beyond(self) -> Decimal:
        """What was used on top of it, and is billed by use."""
        return max(Decimal(0), self.used - self.limit)


def _plain(number: Decimal | None) -> str:
    return f"{(number or Decimal(0)).normalize():f}"

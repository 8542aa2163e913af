"""How an organization's purchases stand, in a line each: for its first page."""

from __future__ import annotations

from typing import Literal

from django.db.models import Case, Value, When
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.adapter import Fact
from accounts.models import Membership
from billing import registration
from billing.models import Agreement

Status = Agreement.Status
Tone = Literal["", "success", "warning", "danger"]

# So many fit on the page; the subscription page has all.
_SHOWN = 3
_WORDS: dict[str, tuple[Promise, Tone]] = {
    Status.PENDING: (gettext_lazy("Waiting for AWS"), "warning"),
    Status.ACTIVE: (gettext_lazy("Active"), "success"),
    Status.ENDING: (gettext_lazy("Ending"), "warning"),
    Status.ENDED: (gettext_lazy("Ended"), ""),
    Status.FAILED: (gettext_lazy("Payment failed"), "danger"),
}


def of(membership: Membership) -> list[Fact]:
    """What lives, newest first; of what is over only the newest. One query."""
    organization = membership.organization
    url = reverse("billing:subscription", args=[organization.slug]) if membership.is_administrator else ""
    agreements = organization.agreements.select_related("product")
    is_over = Case(When(status__in=registration.OVER, then=Value(1)), default=Value(0))
    newest = list(agreements.order_by(is_over, "-created_at", "-pk")[:_SHOWN])
    living = [agreement for agreement in newest if agreement.status not in registration.OVER]
    shown = living or newest[:1]
    if not shown:
        return [Fact(_("Subscription"), _("None yet"), url=url)]
    return [
        Fact(agreement.product.title, str(word), tone, url)
        for agreement in shown
        for word, tone in [_WORDS[agreement.status]]
    ]

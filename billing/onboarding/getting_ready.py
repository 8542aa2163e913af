"""What happens between a claim and the first day of work: is AWS done with what the organization bought?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.models import Organization
from billing import holdings
from billing.models import Agreement
from billing.onboarding.bought import Bought, bought_with

Status = Agreement.Status

# AWS takes minutes as a rule. After that nobody is made to watch.
GIVES_UP_AFTER = timedelta(hours=1)
# How often the page looks again, while the purchase is young and later.
_EVERY, _LATER_EVERY = timedelta(seconds=10), timedelta(seconds=30)
_YOUNG = timedelta(minutes=5)
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Purchase:
    bought: Bought
    is_confirmed: bool  # active, and what it entitles to is about to be read


@dataclass(frozen=True, slots=True)
class Progress:
    """``waiting``: what AWS is not done with, the newest first. ``failed``: what AWS could not complete."""

    waiting: list[Purchase]
    failed: list[Purchase]
    looks_again_in: timedelta | None  # None: it has taken too long to watch

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for, and nothing to mend: on to the product."""
        return not self.waiting and not self.failed


def is_unsettled(agreement: Agreement) -> bool:
    """Whether AWS has yet to tell that it was bought, or what was."""
    unread = agreement.product.has_entitlements and agreement.entitlements_read_at is None
    return agreement.status == Status.PENDING or (agreement.status == Status.ACTIVE and unread)


def progress_of(organization: Organization, *, now: datetime) -> Progress:
    """How far AWS is with what ``organization`` bought. What works already hides what failed before."""
    bought = organization.agreements.select_related("product", "customer").order_by("-claimed_at", "-pk")
    agreements = list(bought[:_SHOWN])
    unsettled = [agreement for agreement in agreements if is_unsettled(agreement)]
    failed = []
    if not unsettled and not holdings.live(holdings.holdings_of(organization), now):
        failed = [agreement for agreement in agreements[:1] if agreement.status == Status.FAILED]
    told = bought_with([*unsettled, *failed])
    return Progress(
        waiting=[Purchase(told[each.pk], each.status == Status.ACTIVE) for each in unsettled],
        failed=[Purchase(told[each.pk], is_confirmed=False) for each in failed],
        looks_again_in=_looks_again_in(unsettled, now=now),
    )


def _looks_again_in(unsettled: list[Agreement], *, now: datetime) -> timedelta | None:
    claimed = [agreement.claimed_at or agreement.created_at for agreement in unsettled]
    if not claimed or now - max(claimed) >= GIVES_UP_AFTER:
        return None
    return _EVERY if now - max(claimed) < _YOUNG else _LATER_EVERY

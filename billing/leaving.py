"""What purchases mean for an organization or an account that is to be closed (accounts.closing asks)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils.translation import ngettext

from accounts.models import Organization, User
from billing import audit
from billing.models import Agreement, JoinRequest, Registration

Status = Agreement.Status

# AWS charges for these, or may from the next minute on.
_BILLED = (Status.PENDING, Status.ACTIVE)


def why_not(organization: Organization, *, now: datetime) -> str | None:
    """What stands against closing it: a purchase that AWS bills, or whose end is not settled.

    The grace after an end counts too: a renewal on its way would go to a workspace with nobody in it.
    """
    unsettled = Q(status__in=[*_BILLED, Status.ENDING]) | Q(access_until__gt=now)
    living = list(organization.agreements.filter(unsettled).select_related("product"))
    billed = [agreement for agreement in living if agreement.status in _BILLED]
    if billed:
        return ngettext(
            "AWS goes on billing %(products)s until you cancel it in the AWS console, under Manage "
            "subscriptions. The workspace can be closed once AWS has ended it.",
            "AWS goes on billing %(products)s until you cancel them in the AWS console, under Manage "
            "subscriptions. The workspace can be closed once AWS has ended them.",
            len(billed),
        ) % {"products": _titles(billed)}
    if living:
        return ngettext(
            "The last usage of %(products)s is still being settled with AWS. This takes up to a day: close "
            "the workspace after that.",
            "The last usage of %(products)s is still being settled with AWS. This takes up to a day: close "
            "the workspace after that.",
            len(living),
        ) % {"products": _titles(living)}
    return None


def organization_closed(organization: Organization, *, by: User, now: datetime) -> None:
    """Nobody is in it any more who could answer; what people wrote into the onboarding form goes."""
    _refuse(organization.join_requests.all(), by=by, now=now)
    _forget_answers(Registration.objects.filter(agreement__organization=organization))
    audit.record(audit.SYSTEM, "organization_closed", by=by, at=now, organization=organization.pk)


def account_closed(user: User, *, now: datetime) -> None:
    """A purchase that nobody has claimed waits for its buyer's next arrival, not for this person."""
    theirs = user.marketplace_registrations.all()
    _forget_answers(theirs)
    theirs.filter(agreement__organization=None).update(user=None)
    _refuse(user.join_requests.all(), by=user, now=now)
    audit.record(audit.SYSTEM, "account_closed", by=user, at=now)


def _refuse(requests: QuerySet[JoinRequest], *, by: User, now: datetime) -> None:
    """Those that are being answered at this moment are left to whoever answers: they hold what we would wait
    for, and would wait for what we hold.
    """
    unanswered = requests.filter(is_approved=None).order_by()
    pks = unanswered.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
    JoinRequest.objects.filter(pk__in=list(pks)).update(is_approved=False, answered_at=now, answered_by=by)


def _forget_answers(registrations: QuerySet[Registration]) -> None:
    registrations.exclude(answers={}).update(answers={})


def _titles(agreements: Iterable[Agreement]) -> str:
    return ", ".join(dict.fromkeys(agreement.product.title for agreement in agreements))

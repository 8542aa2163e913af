"""What purchases mean for an organization or an account that is to be closed (accounts.closing asks)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils.translation import ngettext

from accounts.models import Organization, User
from billing import audit, tenures
from billing.models import Agreement, JoinRequest, Registration

Status = Agreement.Status

# AWS charges for these, or may from the next minute on.
_BILLED = (Status.PENDING, Status.ACTIVE)


def why_not(organization: Organization, *, now: datetime) -> str | None:
    """What stands against closing it: a purchase that AWS bills, or whose end is not settled.

    The grace after an end counts too: a renewal on its way would go to a workspace with nobody in it.
    """
    return why_not_each([organization], now=now).get(organization.pk)


def why_not_each(organizations: Sequence[Organization], *, now: datetime) -> dict[int, str]:
    """``why_not`` of those that something stands against. One query."""
    unsettled = Q(status__in=[*_BILLED, Status.ENDING]) | Q(access_until__gt=now)
    living: dict[int, list[Agreement]] = {}
    found = Agreement.objects.filter(unsettled, organization__in=organizations).select_related("product")
    for agreement in found:
        assert agreement.organization_id is not None
        living.setdefault(agreement.organization_id, []).append(agreement)
    return {pk: _told(agreements) for pk, agreements in living.items()}


def _told(living: Sequence[Agreement]) -> str:
    billed = [agreement for agreement in living if agreement.status in _BILLED]
    if billed:
        return ngettext(
            "AWS goes on billing %(products)s until you cancel it in the AWS console, under Manage "
            "subscriptions. The workspace can be closed once AWS has ended it.",
            "AWS goes on billing %(products)s until you cancel them in the AWS console, under Manage "
            "subscriptions. The workspace can be closed once AWS has ended them.",
            len(billed),
        ) % {"products": _titles(billed)}
    return ngettext(
        "The last usage of %(products)s is still being settled with AWS. This takes up to a day: close "
        "the workspace after that.",
        "The last usage of %(products)s is still being settled with AWS. This takes up to a day: close "
        "the workspace after that.",
        len(living),
    ) % {"products": _titles(living)}


def organization_closed(organization: Organization, *, by: User, now: datetime) -> None:
    """Nobody is in it any more who could answer; what people wrote into the onboarding form goes."""
    _refuse(organization.join_requests.all(), by=by, now=now)
    _forget_answers(tenures.read(organization).arrivals())
    audit.record(audit.SYSTEM, "organization_closed", by=by, at=now, organization=organization.pk)


def account_closed(user: User, *, now: datetime) -> None:
    """A purchase that nobody has claimed waits for its buyer's next arrival, not for this person."""
    theirs = user.marketplace_registrations.all()
    _forget_answers(theirs)
    unclaimed = theirs.filter(agreement__organization=None)
    Registration.objects.filter(pk__in=_free(unclaimed)).update(user=None)
    _refuse(user.join_requests.all(), by=user, now=now)
    audit.record(audit.SYSTEM, "account_closed", by=user, at=now)


def _refuse(requests: QuerySet[JoinRequest], *, by: User, now: datetime) -> None:
    unanswered = _free(requests.filter(is_approved=None))
    JoinRequest.objects.filter(pk__in=unanswered).update(is_approved=False, answered_at=now, answered_by=by)


def _forget_answers(registrations: QuerySet[Registration]) -> None:
    Registration.objects.filter(pk__in=_free(registrations.exclude(answers={}))).update(answers={})


def _free(rows: QuerySet[JoinRequest] | QuerySet[Registration]) -> list[int]:
    """Those that nobody holds at this moment: whoever holds one closes something too, or takes it over.

    Who answers or claims holds the person and the organization before, as who closes them does. Without
    waiting here, two who close things that have a row in common never wait for each other.
    """
    held = rows.order_by().select_for_update(skip_locked=True, no_key=True, of=("self",))
    return list(held.values_list("pk", flat=True))


def _titles(agreements: Iterable[Agreement]) -> str:
    return ", ".join(dict.fromkeys(agreement.product.title for agreement in agreements))

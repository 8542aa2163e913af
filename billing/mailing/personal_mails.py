"""Mails to persons rather than a workspace: who left a purchase unfinished, is asked or answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.urls import reverse

from accounts import mail
from accounts.models import Membership, User
from billing.mailing.letters import Letter, Situation, by_now, owe
from billing.models import Agreement, JoinRequest, Registration
from billing.owed import Debt

Status = Agreement.Status

UNFINISHED_AFTER = timedelta(hours=24)


def unfinished(user: User, *, at: datetime) -> Debt:
    """To who was signed in with a purchase and did not set it up: one reminder each."""
    return owe("buyer_unfinished", str(user.pk), at, at + UNFINISHED_AFTER)


def join_requested(request: JoinRequest, *, at: datetime) -> Debt:
    return owe("buyer_join_requested", str(request.pk), at)


def join_answered(request: JoinRequest, *, at: datetime) -> Debt:
    return owe("buyer_join_answered", str(request.pk), at)


def _unless_finished(case: Situation) -> str:
    if case.agreement.organization_id is not None:
        return "the buyer has registered"
    if case.agreement.status in (Status.ENDED, Status.FAILED):
        return by_now(case.agreement)
    return "" if _came_with(case).exists() else "nobody has left it unfinished"


def _came_with(case: Situation) -> QuerySet[Registration]:
    """Arrivals remembered for the person, if they have left it at that."""
    asked = JoinRequest.objects.filter(registration__agreement=case.agreement).values("user")
    return case.agreement.registrations.filter(user=int(case.which)).exclude(user__in=asked)


def _who_came(case: Situation) -> Q:
    return Q(pk=int(case.which))


def _request(case: Situation) -> JoinRequest:
    return JoinRequest.objects.select_related("user", "organization").get(pk=int(case.which))


def _unless_answered(case: Situation) -> str:
    return "it was answered by then" if _request(case).is_approved is not None else ""


def _owners(case: Situation) -> Q:
    organization = _request(case).organization_id
    return Q(memberships__organization=organization, memberships__role=Membership.Role.OWNER)


def _who_asked(case: Situation) -> Q:
    return Q(pk=_request(case).user_id)


def _asked(case: Situation) -> dict[str, Any]:
    request = _request(case)
    organization = request.organization
    return {
        "request": request,
        "organization": mail.one_line(organization.name),
        "asker": mail.one_line(request.user.name),
        "asker_email": request.user.email,
        "is_attached": case.agreement.organization_id == organization.pk,
        "requests_url": settings.SITE_URL + reverse("billing:requests", args=[organization.slug]),
        "workspace_url": settings.SITE_URL + organization.get_absolute_url(),
        **_came(case),
    }


def _came(case: Situation) -> dict[str, Any]:
    return {"welcome_url": settings.SITE_URL + reverse("billing:welcome")}


LETTERS = {
    "buyer_unfinished": Letter("buyer", _unless_finished, _who_came, _came),
    "buyer_join_requested": Letter("buyer", _unless_answered, _owners, _asked),
    "buyer_join_answered": Letter("buyer", lambda case: "", _who_asked, _asked),
}

"""Mails about a purchase that an operator moved, to both workspaces. Neither is told the other's name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.urls import reverse

from accounts import mail
from accounts.models import Membership, Organization
from billing.mailing.letters import Letter, Situation, owe
from billing.owed import Debt


def moved(old: Organization, new: Organization, *, at: datetime) -> Iterator[Debt]:
    """``which`` is the organization that the letter is for, and when: it may go and come more than once."""
    yield owe("buyer_moved_away", f"{old.pk}/{at.isoformat()}", at)
    yield owe("buyer_moved_in", f"{new.pk}/{at.isoformat()}", at)


def _organization_id(case: Situation) -> int:
    return int(case.which.partition("/")[0])


def _unless_back(case: Situation) -> str:
    is_back = case.agreement.organization_id == _organization_id(case)
    return "the purchase has come back to this workspace since" if is_back else ""


def _unless_gone(case: Situation) -> str:
    is_here = case.agreement.organization_id == _organization_id(case)
    return "" if is_here else "the purchase has moved on since"


def _administrators(case: Situation) -> Q:
    return Q(
        memberships__organization=_organization_id(case), memberships__role__in=Membership.ADMINISTRATORS
    )


def _workspace(case: Situation) -> dict[str, Any]:
    organization = Organization.objects.get(pk=_organization_id(case))
    return {
        "organization": mail.one_line(organization.name),
        "workspace_url": settings.SITE_URL + organization.get_absolute_url(),
        "subscription_url": settings.SITE_URL + reverse("billing:subscription", args=[organization.slug]),
    }


LETTERS = {
    "buyer_moved_away": Letter("buyer", _unless_back, _administrators, _workspace),
    "buyer_moved_in": Letter("buyer", _unless_gone, _administrators, _workspace),
}

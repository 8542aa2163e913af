"""What the welcome page shows of the purchases that wait for a visitor: read as sets, however many wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.http import HttpRequest

from accounts.models import Membership, Organization, User
from billing.forms import ClaimForm, onboarding_form, reference
from billing.models import Agreement, JoinRequest, Registration
from billing.onboarding import joining, visitors
from billing.onboarding.bought import Bought, bought_with
from billing.onboarding.households import households, whom_to_ask


@dataclass(frozen=True, slots=True)
class Arrival:
    """A purchase, and how it stands for who looks at it.

    ``workspace`` is one of the person's own that they may not attach it to. ``ask`` names an owner, masked,
    of the one that they are to ask: of ``workspace``, of a stranger's, or of who has set the purchase up.
    """

    registration_id: str
    bought: Bought
    confirmed: bool
    failed: bool
    ended: bool
    free_trial: bool
    claimed_organization: Organization | None = None
    claimed_elsewhere: bool = False
    workspace: Organization | None = None
    ask: str = ""
    may_ask: bool = False
    asked_at: datetime | None = None
    refused_at: datetime | None = None
    form: ClaimForm | None = None

    @property
    def over(self) -> bool:
        return self.failed or self.ended


@dataclass(slots=True)
class _Person:
    """What is known of who is signed in, once for all of their arrivals."""

    memberships: dict[int, Membership] = field(default_factory=dict)
    households: Mapping[int, Organization] = field(default_factory=dict)
    owners: Mapping[int, str] = field(default_factory=dict)
    requests: Mapping[int, JoinRequest] = field(default_factory=dict)

    @property
    def administered(self) -> list[Organization]:
        mine = (each for each in self.memberships.values() if each.is_administrator)
        return sorted((each.organization for each in mine), key=lambda each: (each.name, each.pk))


def arrivals_of(
    request: HttpRequest, *, now: datetime, bound: ClaimForm | None = None, bound_pk: int | None = None
) -> list[Arrival]:
    """One arrival per purchase, newest first. ``bound`` replaces the form of the one it was sent for."""
    waiting: dict[int, Registration] = {}
    for each in visitors.waiting_for(request, chosen=bound_pk):
        waiting.setdefault(each.agreement_id, each)
        if each.pk == bound_pk:  # of two of one purchase, that whose form was sent
            waiting[each.agreement_id] = each
    bought = bought_with(each.agreement for each in waiting.values())
    user = request.user if isinstance(request.user, User) else None
    person = _person(user, waiting.values()) if user is not None and waiting else None
    return [
        _arrival(
            each, bought[each.agreement_id], person, bound=bound if each.pk == bound_pk else None, now=now
        )
        for each in waiting.values()
    ]


def administered_by(user: User) -> list[Organization]:
    """Where ``user`` may take a purchase to."""
    return list(Organization.objects.administered_by(user).filter(closed_at=None))


def _person(user: User, waiting: Iterable[Registration]) -> _Person:
    agreements = [each.agreement for each in waiting]
    mine = user.memberships.select_related("organization").filter(organization__closed_at=None)
    person = _Person({membership.organization_id: membership for membership in mine})
    free = {agreement.customer_id for agreement in agreements if agreement.organization_id is None}
    if free:
        person.households = households(free, memberships=person.memberships.values())
    held = {agreement.organization_id for agreement in agreements if agreement.organization_id is not None}
    asked = held | {organization.pk for organization in person.households.values()}
    if asked:
        person.owners = whom_to_ask(asked)
        person.requests = joining.latest_of(user, asked)
    return person


def _arrival(
    waiting: Registration, bought: Bought, person: _Person | None, *, bound: ClaimForm | None, now: datetime
) -> Arrival:
    agreement = waiting.agreement
    holder = agreement.organization
    seen = Arrival(
        registration_id=reference(waiting),
        bought=bought,
        confirmed=agreement.status in (Agreement.Status.ACTIVE, Agreement.Status.ENDING),
        failed=agreement.status == Agreement.Status.FAILED,
        ended=agreement.status == Agreement.Status.ENDED,
        free_trial=waiting.free_trial_hint or agreement.free_trial,
        claimed_elsewhere=holder is not None,
    )
    return seen if person is None else _as_seen_by(person, seen, waiting, bound=bound, now=now)


def _as_seen_by(
    person: _Person, seen: Arrival, waiting: Registration, *, bound: ClaimForm | None, now: datetime
) -> Arrival:
    agreement = waiting.agreement
    holder = agreement.organization
    organization = holder or person.households.get(agreement.customer_id)
    membership = person.memberships.get(organization.pk) if organization is not None else None
    fields: dict[str, Any] = {}
    if holder is not None and membership is not None:
        fields |= {"claimed_organization": holder, "claimed_elsewhere": False}
    elif organization is not None and (membership is None or not membership.is_administrator):
        fields |= {"workspace": organization if membership else None}
        fields |= {"ask": person.owners.get(organization.pk, "")}
        fields |= _asking(organization, person.requests.get(organization.pk), now=now)
    if holder is None and not seen.over:
        fields["form"] = bound or onboarding_form()(
            organizations=person.administered, registration=waiting, preferred=organization
        )
    return replace(seen, **fields)


def _asking(organization: Organization, latest: JoinRequest | None, *, now: datetime) -> dict[str, Any]:
    """Whether the person may ask, has asked, or was refused too short a while ago."""
    if organization.closed_at is not None:
        return {}
    if latest is not None and latest.is_approved is None:
        return {"asked_at": latest.created_at}
    if latest is not None and latest.was_refused_since(now - joining.ASKED_AGAIN_AFTER):
        return {"refused_at": latest.answered_at}
    return {"may_ask": True}

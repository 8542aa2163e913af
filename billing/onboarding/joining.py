"""Asking to join the workspace that an AWS account has: by who came with a purchase, answered by its owners.

Asked once while it is open, answered once. What was asked and answered is on the agreement's audit trail, and
mailed as what the agreement owes (billing.mails), so that a crash loses neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts import locks, organizations
from accounts.models import Membership, Organization, User
from accounts.organizations import NotAllowed, RuleBroken
from billing import audit, customers, owed, registration
from billing.mailing import personal_mails
from billing.models import Agreement, JoinRequest, Registration
from billing.onboarding.households import household

# Who was refused may not ask again at once: the owners' answer is to count for something.
ASKED_AGAIN_AFTER = timedelta(days=7)


class NobodyToAsk(RuleBroken):
    message = _("This AWS account has no workspace here. Set up a new one for your purchase.")


class NothingToAsk(RuleBroken):
    message = _("You are a member of this workspace, and the purchase is attached to it already.")


class AttachItYourself(RuleBroken):
    message = _("You may attach this purchase to the workspace yourself: nobody needs to be asked.")


class RefusedBefore(RuleBroken):
    message = _("Your request was refused a short while ago. Speak to an owner of the workspace.")


def ask(arrival: Registration, *, user: User, now: datetime) -> JoinRequest:
    """Ask the workspace that has the purchase, or others of its AWS account, to let ``user`` in.

    The caller has seen to it that the arrival is the person's. Asking again while it is open is the same
    request. Raises Unverified, PurchaseOver, or a RuleBroken with a sentence for people.
    """
    with transaction.atomic():
        agreement = customers.lock(arrival.agreement_id)
        registration.require_proven(user)
        if agreement.status in registration.OVER:
            raise registration.PurchaseOver("The purchase failed or has ended.")
        organization = _asked(agreement, user)
        open_one = organization.join_requests.filter(user=user, is_approved=None)
        known = open_one.first()
        if known is not None:
            return known
        latest = organization.join_requests.filter(user=user).first()
        if latest is not None and latest.was_refused_since(now - ASKED_AGAIN_AFTER):
            raise RefusedBefore
        try:
            with transaction.atomic():
                request = JoinRequest.objects.create(
                    registration=arrival, organization=organization, user=user, created_at=now
                )
        except IntegrityError:  # by another purchase of the same AWS account, at the same moment
            return open_one.get()
        # So that it is found again in another browser.
        Registration.objects.filter(pk=arrival.pk, user=None).update(user=user)
        ids = {"request": request.pk, "organization": organization.pk}
        audit.record(agreement, "join_requested", by=user, at=now, **ids)
        owed.owe(agreement, [personal_mails.join_requested(request, at=now)])
    return request


def _asked(agreement: Agreement, user: User) -> Organization:
    """Whom the request is for: who has the purchase, else who has others of the same AWS account."""
    found = agreement.organization or household(agreement, user=user)
    organization = locks.organization(found.pk) if found else None
    if organization is None or organization.closed_at is not None:
        raise NobodyToAsk
    membership = organization.memberships.filter(user=user).first()
    if membership is not None and agreement.organization is not None:
        raise NothingToAsk
    if membership is not None and membership.is_administrator:
        raise AttachItYourself
    return organization


def answer(request: JoinRequest, *, approve: bool, by: User, now: datetime) -> JoinRequest:
    """An owner's or admin's answer, once: a second one changes nothing.

    Approved, the person is a member, and a purchase that is nobody's yet is the workspace's. Who has closed
    their account is refused, whatever the answer. Raises NotAllowed, and NoSeat or Unverified, which leave
    the request open.
    """
    with transaction.atomic():
        # In the order of accounts.locks; both people, as a claim holds who claims.
        agreement = customers.lock(request.registration.agreement_id)
        people = locks.people(request.user_id, by.pk)
        locks.organization(request.organization_id)
        locked = JoinRequest.objects.select_for_update(no_key=True, of=("self",))
        current = locked.select_related("registration", "organization", "user").get(pk=request.pk)
        organization = current.organization
        if not Organization.objects.administered_by(by).filter(pk=organization.pk, closed_at=None).exists():
            raise NotAllowed
        if current.is_approved is not None:
            return current
        approve = approve and people[current.user_id].closed_at is None
        if approve:
            organizations.admit(current.user, into=organization, role=Membership.Role.MEMBER, by=by, now=now)
            if agreement.organization_id is None and agreement.status not in registration.OVER:
                registration.claim(current.registration, by=by, organization=organization, now=now)
        current.is_approved, current.answered_at, current.answered_by = approve, now, by
        current.save(update_fields=["is_approved", "answered_at", "answered_by"])
        ids = {"request": current.pk, "organization": organization.pk}
        audit.record(agreement, "join_answered", by=by, at=now, approved=approve, **ids)
        owed.owe(agreement, [personal_mails.join_answered(current, at=now)])
    return current


def latest_of(user: User, organizations: Iterable[int]) -> Mapping[int, JoinRequest]:
    """The person's newest request to each of the organizations. One query."""
    asked = JoinRequest.objects.filter(user=user, organization__in=organizations).order_by("created_at", "pk")
    return {request.organization_id: request for request in asked}


def open_of(user: User) -> QuerySet[JoinRequest]:
    """What the person has asked and nobody has answered."""
    return _that_matter(JoinRequest.objects.filter(user=user, is_approved=None))


def open_to(organization: Organization | OuterRef) -> QuerySet[JoinRequest]:
    """What waits for an answer of the organization's owners and admins."""
    return _that_matter(JoinRequest.objects.filter(organization=organization, is_approved=None))


def _that_matter(requests: QuerySet[JoinRequest]) -> QuerySet[JoinRequest]:
    """But for those of people who came in otherwise meanwhile, and whose purchase is attached."""
    member = Membership.objects.filter(organization=OuterRef("organization"), user=OuterRef("user"))
    is_attached = Q(registration__agreement__organization=F("organization"))
    return requests.annotate(is_member=Exists(member)).exclude(is_attached, is_member=True)

"""How people come into an organization: an address is invited, and its owner accepts.

The secret of an invitation's link is stored nowhere. Who holds only the link learns who invited whom where;
coming in takes the invited address, proven.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts import addresses, locks, organizations
from accounts.models import Invitation, Membership, Organization, User
from accounts.organizations import AlreadyMember, NotAllowed, RuleBroken

Role = Membership.Role


class InvitationRefused(RuleBroken):
    """An invitation that its link does not open any more, or not for this person."""


class InvitationUnknown(InvitationRefused):
    message = _(
        "This invitation does not exist, or a newer one has replaced it. Use the newest link you got."
    )


class InvitationForAnother(InvitationRefused):
    message = _(
        "This invitation was sent to another email address. "
        "Sign in with that address, or add it to your account and confirm it."
    )


class InvitationUsed(InvitationRefused):
    message = _("This invitation has been accepted already.")


class InvitationRevoked(InvitationRefused):
    message = _("This invitation has been withdrawn. Ask the workspace for a new one.")


class InvitationExpired(InvitationRefused):
    message = _("This invitation has expired. Ask the workspace for a new one.")


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one of several addresses: an invitation with its token, or the sentence that refuses."""

    email: str
    invitation: Invitation | None = None
    token: str = ""
    was_renewed: bool = False
    refusal: str = ""


def roles_to_give(own: str) -> list[str]:
    """The roles in which somebody with the role ``own`` may invite others."""
    return [role for role in Invitation.ROLES if organizations.decides_about(own, role)]


def invite(
    organization: Organization, *, email: str, role: str, by: User, now: datetime
) -> tuple[Invitation, str]:
    """Keep a place for the owner of ``email``; answers the invitation and its token, which is stored nowhere.

    Inviting the address again renews its open invitation: the old link ends, and no second place is taken.
    Raises NotAllowed, AlreadyMember, or NoSeat.
    """
    email = email.strip().lower()
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        organization = locks.organization(organization.pk)
        invitation = organization.invitations.open().filter(email=email).first()
        organizations.authorize(by, organization, role, *([invitation.role] if invitation else []))
        if role not in Invitation.ROLES:
            raise NotAllowed(_("Nobody is invited as an owner. Invite them as an admin first."))
        if _is_member(organization, email):
            raise AlreadyMember
        if invitation is None or invitation.expires_at <= now:
            organizations.ask_for_a_place(organization, now=now)
        if invitation is None:
            invitation = Invitation(organization=organization, email=email, created_at=now)
        invitation.role = role
        invitation.invited_by = by
        invitation.digest = _digest(token)
        invitation.expires_at = now + Invitation.LIFETIME
        invitation.save()
    return invitation, token


def invite_each(
    organization: Organization, *, emails: Iterable[str], role: str, by: User, now: datetime
) -> list[Judged]:
    """Invite several addresses, each judged on its own: what is wrong with one keeps no other from coming.

    An address that was invited in this role a moment ago keeps its invitation, without a token: the form was
    sent twice, and the first mail's link must stay good.
    """
    return [_judge(organization, email, role=role, by=by, now=now) for email in emails]


def renew(invitation: Invitation, *, by: User, now: datetime) -> tuple[Invitation, str]:
    """A fresh link and a week more for an open invitation. Raises what ``invite`` does, and InvitationUsed or
    InvitationRevoked when it is not open any more.
    """
    with transaction.atomic():
        organization = locks.organization(invitation.organization_id)
        current = organization.invitations.get(pk=invitation.pk)
        if current.accepted_at is not None:
            raise InvitationUsed
        if current.revoked_at is not None:
            raise InvitationRevoked
        return invite(organization, email=current.email, role=current.role, by=by, now=now)


def find(token: str) -> Invitation:
    """The invitation that a link names, with its organization and inviter. Raises InvitationUnknown."""
    rows = Invitation.objects.select_related("organization", "invited_by")
    invitation = rows.filter(digest=_digest(token)).first()
    if invitation is None:
        raise InvitationUnknown
    return invitation


def accept(token: str, *, user: User, now: datetime) -> Membership:
    """Make ``user`` a member by the invitation sent to an address that they have verified.

    Accepting again changes nothing, and a member keeps their role. Raises the kinds of InvitationRefused,
    AccountClosed, or NoSeat when the place that was kept is not there any more: the invitation then stays
    good.
    """
    digest = _digest(token)
    with transaction.atomic():
        organizations.lock_person(user)
        locked = Organization.objects.select_for_update(no_key=True, of=("self",))
        organization = locked.filter(invitations__digest=digest).first()
        invitation = organization.invitations.filter(digest=digest).first() if organization else None
        if organization is None or invitation is None:
            raise InvitationUnknown
        membership = organization.memberships.filter(user=user).first()
        if membership is not None and invitation.accepted_by_id == user.pk:
            return membership
        require_for(invitation, user=user)
        require_open(invitation, now=now)
        invitation.accepted_at = now
        invitation.accepted_by = user
        invitation.save(update_fields=["accepted_at", "accepted_by"])
        if membership is None:
            organizations.ask_for_a_place(organization, now=now)
            membership = Membership.objects.create(
                organization=organization, user=user, role=invitation.role, created_at=now
            )
    return membership


def revoke(invitation: Invitation, *, by: User, now: datetime) -> None:
    """End an invitation that is not accepted; its place is free. Again changes nothing.

    Raises NotAllowed, or InvitationUsed when its person was faster.
    """
    with transaction.atomic():
        organization = locks.organization(invitation.organization_id)
        current = organization.invitations.get(pk=invitation.pk)
        organizations.authorize(by, organization, current.role)
        if current.accepted_at is not None:
            raise InvitationUsed
        if current.revoked_at is None:
            current.revoked_at = now
            current.save(update_fields=["revoked_at"])


def require_for(invitation: Invitation, *, user: User) -> None:
    """Raises InvitationForAnother. Asked first: what became of an invitation is nobody else's to know."""
    proven = user.emailaddress_set.filter(verified=True).values_list("email", flat=True)
    if not any(addresses.are_same(email, invitation.email) for email in proven):
        raise InvitationForAnother


def require_open(invitation: Invitation, *, now: datetime) -> None:
    """Raises InvitationUsed, InvitationRevoked or InvitationExpired.

    It is good as long as who sent it could still send it.
    """
    if invitation.accepted_at is not None:
        raise InvitationUsed
    if invitation.revoked_at is not None:
        raise InvitationRevoked
    own = organizations.role_of(invitation.invited_by, invitation.organization)
    if own is None or not organizations.decides_about(own, invitation.role):
        raise InvitationRevoked
    if invitation.expires_at <= now:
        raise InvitationExpired


def _judge(organization: Organization, email: str, *, role: str, by: User, now: datetime) -> Judged:
    try:
        Invitation._meta.get_field("email").run_validators(email)  # its length too
    except ValidationError:
        return Judged(email, refusal=str(_("This is not an email address.")))
    moment_ago = now + Invitation.LIFETIME - organizations.PRESSED_TWICE
    sent = organization.invitations.open().filter(
        email=email.lower(), role=role, invited_by=by, expires_at__gt=moment_ago
    )
    kept = sent.first()
    if kept is not None:
        return Judged(kept.email, kept)
    try:
        invitation, token = invite(organization, email=email, role=role, by=by, now=now)
    except RuleBroken as refusal:
        return Judged(email, refusal=str(refusal))
    return Judged(invitation.email, invitation, token, was_renewed=invitation.created_at < now)


def _is_member(organization: Organization, email: str) -> bool:
    by_address = Q(user__email=email)
    by_further_address = Q(user__emailaddress__email=email, user__emailaddress__verified=True)
    return organization.memberships.filter(by_address | by_further_address).exists()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()

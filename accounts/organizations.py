"""What may happen to an organization: the rules by which its members come and go.

Roles and places are read under the lock of the organization's row, never from what a request loaded: of two
people who want the last place, or two owners who leave at once, the second sees what the first did.
"""

import hashlib
import secrets
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.crypto import get_random_string
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from accounts.adapter import get_adapter
from accounts.models import Invitation, Membership, Organization, User

Role = Membership.Role

# Words that would read as a page of ours under /o/.
_RESERVED_SLUGS = frozenset({"new", "admin", "settings"})


class RuleBroken(Exception):
    """What somebody wants is against a rule. ``str(error)`` is a sentence for them, in their language."""

    message = _("That is not possible in this workspace.")

    def __str__(self) -> str:
        return str(self.args[0] if self.args else self.message)


class NotAllowed(RuleBroken):
    message = _("You may not do this. Ask an owner of the workspace.")


class AlreadyMember(RuleBroken):
    message = _("This person is a member of the workspace already.")


class NotMember(RuleBroken):
    message = _("This person is not a member of the workspace any more.")


class LastOwner(RuleBroken):
    message = _("A workspace always has an owner. Make somebody else an owner first.")


class NoSeat(RuleBroken):
    """Nobody can be added now; the sentence is the adapter's."""


class InvitationRefused(RuleBroken):
    """An invitation that its link does not open any more, or not for this person."""


class InvitationUnknown(InvitationRefused):
    message = _(
        "This invitation does not exist, or a newer one has replaced it. Use the newest link you got."
    )


class InvitationForAnother(InvitationRefused):
    message = _(
        "This invitation was sent to another e-mail address. "
        "Sign in with that address, or add it to your account and confirm it."
    )


class InvitationUsed(InvitationRefused):
    message = _("This invitation has been accepted already.")


class InvitationRevoked(InvitationRefused):
    message = _("This invitation has been withdrawn. Ask the workspace for a new one.")


class InvitationExpired(InvitationRefused):
    message = _("This invitation has expired. Ask the workspace for a new one.")


def create(*, name: str, owner: User) -> Organization:
    """Make an organization with ``owner`` in it. Its address is the name, made unique if taken."""
    base = slugify(name)[:50].strip("-") or "team"
    slug = f"{base}-{get_random_string(4).lower()}" if base in _RESERVED_SLUGS else base
    while True:
        try:
            with transaction.atomic():
                organization = Organization.objects.create(name=name, slug=slug)
                Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
        except IntegrityError:
            if not Organization.objects.filter(slug=slug).exists():
                raise
            slug = f"{base}-{get_random_string(6).lower()}"
        else:
            return organization


def places_taken(organization: Organization, *, now: datetime) -> int:
    """How many people are in, or may come in by an invitation that is still good. One query."""
    members = organization.memberships.order_by().values("pk")
    invited = organization.invitations.pending(now).order_by().values("pk")
    return members.union(invited, all=True).count()


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
        organization = _lock(organization.pk)
        invitation = organization.invitations.open().filter(email=email).first()
        _authorize(by, organization, role, *([invitation.role] if invitation else []))
        if role not in Invitation.ROLES:
            raise NotAllowed(_("Nobody is invited as an owner. Invite them as an admin first."))
        if _is_member(organization, email):
            raise AlreadyMember
        if invitation is None or invitation.expires_at <= now:
            _ask_for_a_place(organization, now=now)
        if invitation is None:
            invitation = Invitation(organization=organization, email=email, created_at=now)
        invitation.role = role
        invitation.invited_by = by
        invitation.digest = _digest(token)
        invitation.expires_at = now + Invitation.LIFETIME
        invitation.save()
    return invitation, token


def accept(token: str, *, user: User, now: datetime) -> Membership:
    """Make ``user`` a member by the invitation sent to an address that they have verified.

    Accepting again changes nothing, and a member keeps their role. Raises the kinds of InvitationRefused, or
    NoSeat when the place that was kept is not there any more: the invitation then stays good.
    """
    digest = _digest(token)
    with transaction.atomic():
        locked = Organization.objects.select_for_update(no_key=True, of=("self",))
        organization = locked.filter(invitations__digest=digest).first()
        invitation = organization.invitations.filter(digest=digest).first() if organization else None
        if organization is None or invitation is None:
            raise InvitationUnknown
        membership = organization.memberships.filter(user=user).first()
        if membership is not None and invitation.accepted_by_id == user.pk:
            return membership
        _require_acceptable(invitation, user=user, now=now)
        invitation.accepted_at = now
        invitation.accepted_by = user
        invitation.save(update_fields=["accepted_at", "accepted_by"])
        if membership is None:
            _ask_for_a_place(organization, now=now)
            membership = Membership.objects.create(
                organization=organization, user=user, role=invitation.role, created_at=now
            )
    return membership


def revoke(invitation: Invitation, *, by: User, now: datetime) -> None:
    """End an invitation that is not accepted; its place is free. Again changes nothing.

    Raises NotAllowed, or InvitationUsed when its person was faster.
    """
    with transaction.atomic():
        organization = _lock(invitation.organization_id)
        current = organization.invitations.get(pk=invitation.pk)
        _authorize(by, organization, current.role)
        if current.accepted_at is not None:
            raise InvitationUsed
        if current.revoked_at is None:
            current.revoked_at = now
            current.save(update_fields=["revoked_at"])


def change_role(membership: Membership, *, role: str, by: User) -> Membership:
    """Give a member another role: for owners to do. Raises NotAllowed, NotMember, or LastOwner."""
    with transaction.atomic():
        organization = _lock(membership.organization_id)
        current = organization.memberships.filter(pk=membership.pk).first()
        if current is None:
            raise NotMember
        _authorize(by, organization, Role.OWNER)
        if current.role == Role.OWNER and role != Role.OWNER:
            _keep_an_owner(organization)
        current.role = role
        current.save(update_fields=["role"])
    return current


def remove(membership: Membership, *, by: User, now: datetime) -> None:
    """Take somebody out; to leave is to remove oneself. Raises NotAllowed or LastOwner.

    An invitation still open for one of their addresses ends too, so that no old link leads them back in.
    Removing somebody who is gone changes nothing.
    """
    with transaction.atomic():
        organization = _lock(membership.organization_id)
        current = organization.memberships.filter(pk=membership.pk).first()
        if current is None:
            return
        if current.user_id != by.pk:
            _authorize(by, organization, current.role)
        if current.role == Role.OWNER:
            _keep_an_owner(organization)
        addresses = current.user.emailaddress_set.filter(verified=True).values("email")
        organization.invitations.open().filter(email__in=addresses).update(revoked_at=now)
        current.delete()


def _lock(organization_pk: int) -> Organization:
    """The organization, locked against who else changes its people, but not against rows that name it."""
    return Organization.objects.select_for_update(no_key=True).get(pk=organization_pk)


def _authorize(by: User, organization: Organization, *roles: str) -> None:
    """Owners decide about everybody, admins about people who are members only, members about nobody."""
    own = organization.memberships.filter(user=by).values_list("role", flat=True).first()
    if own == Role.OWNER or (own == Role.ADMIN and set(roles) == {Role.MEMBER}):
        return
    raise NotAllowed


def _keep_an_owner(organization: Organization) -> None:
    """Refuse to take the role from the last one who has it."""
    if organization.memberships.filter(role=Role.OWNER).count() == 1:
        raise LastOwner


def _is_member(organization: Organization, email: str) -> bool:
    by_address = Q(user__email__iexact=email)
    by_further_address = Q(user__emailaddress__email__iexact=email, user__emailaddress__verified=True)
    return organization.memberships.filter(by_address | by_further_address).exists()


def _ask_for_a_place(organization: Organization, *, now: datetime) -> None:
    refusal = get_adapter().may_add_member(organization, now=now)
    if refusal is not None:
        raise NoSeat(refusal)


def _require_acceptable(invitation: Invitation, *, user: User, now: datetime) -> None:
    """Whose it is comes first: others learn nothing of what became of it."""
    if not user.emailaddress_set.filter(email__iexact=invitation.email, verified=True).exists():
        raise InvitationForAnother
    if invitation.accepted_at is not None:
        raise InvitationUsed
    if invitation.revoked_at is not None:
        raise InvitationRevoked
    if invitation.expires_at <= now:
        raise InvitationExpired


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""What may happen to an organization: the rules by which its members come and go.

Roles and places are read under the lock of the organization's row, never from what a request loaded: of two
people who want the last place, or two owners who leave at once, the second sees what the first did. Who comes
in is locked before (accounts.locks).
``accounts.invitations`` brings people in, ``accounts.closing`` ends it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from accounts import locks
from accounts.adapter import get_adapter
from accounts.models import Invitation, Membership, Organization, User

Role = Membership.Role

# Words that would read as a page of ours under /o/.
_RESERVED_SLUGS = frozenset({"new", "admin", "settings"})

# The same wish of the same person within this time is the same click.
PRESSED_TWICE = timedelta(minutes=1)


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


class OwnerAlready(RuleBroken):
    message = _("This person is an owner of the workspace already.")


class AccountClosed(RuleBroken):
    message = _("This account is closed.")


class NoSeat(RuleBroken):
    """Nobody can be added now; the sentence is the adapter's."""


def decides_about(own: str, *roles: str) -> bool:
    """Owners decide about everybody, admins about people who are members only, members about nobody."""
    return own == Role.OWNER or (own == Role.ADMIN and set(roles) == {Role.MEMBER})


def create(*, name: str, owner: User) -> Organization:
    """Make an organization with ``owner`` in it. Its address is the name, made unique if taken.

    Raises AccountClosed.
    """
    base = slugify(name)[:50].strip("-") or "team"
    slug = f"{base}-{get_random_string(4).lower()}" if base in _RESERVED_SLUGS else base
    with transaction.atomic():
        lock_person(owner)
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


def start(*, name: str, owner: User, now: datetime) -> Organization:
    """``create`` for somebody who asks on their own: a form that is sent twice makes one organization.

    Raises AccountClosed.
    """
    with transaction.atomic():
        lock_person(owner)
        owned = Organization.objects.filter(memberships__user=owner, memberships__role=Role.OWNER)
        made = owned.filter(name=name, created_at__gt=now - PRESSED_TWICE).first()
        return made or create(name=name, owner=owner)


def rename(organization: Organization, *, name: str, by: User) -> Organization:
    """Owners and admins give it another name. Its address stays: links and bookmarks hold it."""
    with transaction.atomic():
        organization = locks.organization(organization.pk)
        if role_of(by, organization) not in Membership.ADMINISTRATORS:
            raise NotAllowed
        organization.name = name
        organization.save(update_fields=["name"])
    return organization


def places_taken(organization: Organization, *, now: datetime) -> int:
    """How many people are in, or may come in by an invitation that is still good. One query."""
    members = organization.memberships.order_by().values("pk")
    invited = organization.invitations.pending(now).order_by().values("pk")
    return members.union(invited, all=True).count()


def admit(user: User, *, into: Organization, role: str, by: User, now: datetime) -> Membership:
    """Make somebody who asked a member. Who is one already keeps their role.

    Raises AccountClosed, NotAllowed or NoSeat. Their invitation, if one is open, ends: its place is the one
    they take.
    """
    with transaction.atomic():
        lock_person(user)
        organization = locks.organization(into.pk)
        authorize(by, organization, role)
        membership = organization.memberships.filter(user=user).first()
        if membership is None:
            _end_invitations(organization, user, now=now)
            ask_for_a_place(organization, now=now)
            membership = organization.memberships.create(user=user, role=role, created_at=now)
    return membership


def change_role(membership: Membership, *, role: str, by: User, now: datetime) -> Membership:
    """Give a member another role: for owners to do. Raises NotAllowed, NotMember, or LastOwner.

    What they invited others to and may not any more ends with the role that allowed it.
    """
    with transaction.atomic():
        organization = locks.organization(membership.organization_id)
        current = organization.memberships.filter(pk=membership.pk).first()
        if current is None:
            raise NotMember
        authorize(by, organization, Role.OWNER)
        if current.role == Role.OWNER and role != Role.OWNER:
            _keep_an_owner(organization)
        current.role = role
        current.save(update_fields=["role"])
        end_invitations_by(current.user, organization, role=role, now=now)
    return current


def hand_over(membership: Membership, *, by: User, now: datetime) -> Membership:
    """Make a member an owner and oneself an admin, in one go. Again changes nothing.

    Raises NotAllowed, NotMember, or OwnerAlready.
    """
    with transaction.atomic():
        organization = locks.organization(membership.organization_id)
        heir = organization.memberships.filter(pk=membership.pk).first()
        if heir is None:
            raise NotMember
        own = organization.memberships.filter(user=by).first()
        if own is None or own.pk == heir.pk:
            raise NotAllowed
        if own.is_administrator and heir.role == Role.OWNER:
            raise OwnerAlready
        authorize(by, organization, Role.OWNER)
        heir.role, own.role = Role.OWNER, Role.ADMIN
        heir.save(update_fields=["role"])
        own.save(update_fields=["role"])
        end_invitations_by(by, organization, role=own.role, now=now)
    return heir


def remove(membership: Membership, *, by: User, now: datetime) -> None:
    """Take somebody out; to leave is to remove oneself. Raises NotAllowed or LastOwner.

    An invitation still open for one of their addresses ends too, and so do those that they sent: no old link
    leads them back in. Removing somebody who is gone changes nothing.
    """
    with transaction.atomic():
        organization = locks.organization(membership.organization_id)
        current = organization.memberships.filter(pk=membership.pk).first()
        if current is None:
            return
        if current.user_id != by.pk:
            authorize(by, organization, current.role)
        if current.role == Role.OWNER:
            _keep_an_owner(organization)
        _end_invitations(organization, current.user, now=now)
        end_invitations_by(current.user, organization, role=None, now=now)
        current.delete()


def lock_person(user: User) -> None:
    """Hold somebody who is to come into an organization. Before its lock. Raises AccountClosed."""
    if locks.people(user.pk)[user.pk].closed_at is not None:
        raise AccountClosed


def role_of(user: User, organization: Organization) -> str | None:
    return organization.memberships.filter(user=user).values_list("role", flat=True).first()


def authorize(by: User, organization: Organization, *roles: str) -> None:
    """Raise NotAllowed unless ``by`` decides about all of these roles there. Under its lock."""
    own = role_of(by, organization)
    if own is None or not decides_about(own, *roles):
        raise NotAllowed


def ask_for_a_place(organization: Organization, *, now: datetime) -> None:
    """Raise NoSeat unless one more person fits in. Under its lock."""
    refusal = get_adapter().may_add_member(organization, now=now)
    if refusal is not None:
        raise NoSeat(refusal)


def _end_invitations(organization: Organization, user: User, *, now: datetime) -> None:
    addresses = user.emailaddress_set.filter(verified=True).values("email")
    organization.invitations.open().filter(email__in=addresses).update(revoked_at=now)


def end_invitations_by(person: User, organization: Organization, *, role: str | None, now: datetime) -> None:
    """Those that ``person`` sent and in ``role`` (None: gone) could not send: a way back in, or up."""
    may_give = [each for each in Invitation.ROLES if role and decides_about(role, each)]
    sent = organization.invitations.open().filter(invited_by=person)
    sent.exclude(role__in=may_give).update(revoked_at=now)


def _keep_an_owner(organization: Organization) -> None:
    """Refuse to take the role from the last one who has it."""
    if organization.memberships.filter(role=Role.OWNER).count() == 1:
        raise LastOwner

"""The end of an organization or an account: its row stays, because others hang on it, and names nobody.

What was bought and used stays with the organization's row, as long as the seller must keep it. Everything is
one transaction; closing again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.base import SessionBase
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat, Lower
from django.utils.crypto import get_random_string
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from accounts import organizations
from accounts.adapter import get_adapter
from accounts.models import Invitation, Membership, Organization, User
from accounts.organizations import NotAllowed, RuleBroken

Role = Membership.Role

# What is left of a name, in the language of the operators, who alone see it.
CLOSED_WORKSPACE = "Closed workspace"
CLOSED_ACCOUNT = "Closed account"


class StillNeeded(RuleBroken):
    """An organization that cannot be closed now; the sentence is the adapter's."""


class StaffAccount(RuleBroken):
    message = _(
        "You work for us: another operator must take your rights away before you can close this account."
    )


class WorkspacesFirst(RuleBroken):
    message = _("Some of your workspaces need you first. This page says which, and what to do.")


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an organization when a member closes their account, or why it stands against that."""

    organization: Organization
    is_closed: bool = False  # with the account, as nobody else is in it
    needs_an_heir: bool = False  # others are in it, and none of them is an owner
    refusal: str = ""

    @property
    def stands_against(self) -> bool:
        return self.needs_an_heir or bool(self.refusal)


def close_organization(organization: Organization, *, by: User, now: datetime) -> None:
    """For owners. Raises NotAllowed, or StillNeeded while the adapter says so."""
    with transaction.atomic():
        locked = organizations.lock(organization.pk)
        if locked.closed_at is not None:
            return
        if organizations.role_of(by, locked) != Role.OWNER:
            raise NotAllowed
        refusal = get_adapter().may_close(locked, now=now)
        if refusal is not None:
            raise StillNeeded(refusal)
        _close(locked, by=by, now=now)


def close_account(user: User, *, now: datetime) -> None:
    """Raises StaffAccount or WorkspacesFirst. Organizations with nobody else in them are closed with it."""
    with transaction.atomic():
        # In one order, so that two who leave the same organizations never wait for each other.
        for pk in user.memberships.order_by("organization").values_list("organization", flat=True):
            organizations.lock(pk)
        # Only who changes the row waits, not who writes a row that names it.
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if user.closed_at is not None:
            return
        if user.is_staff or user.is_superuser:
            raise StaffAccount
        fates = fates_of(user, now=now)
        if any(fate.stands_against for fate in fates):
            raise WorkspacesFirst
        for fate in fates:
            if fate.is_closed:
                _close(fate.organization, by=user, now=now)
        get_adapter().forget(user, now=now)
        _forget_addresses(user, now=now)
        user.memberships.all().delete()
        _end_access(user)
        _anonymize(user, now=now)


def fates_of(user: User, *, now: datetime) -> list[Fate]:
    """What closing the account would do to each of its organizations. Decided on under their locks."""
    others = Membership.objects.filter(organization=OuterRef("organization")).exclude(user=user)
    memberships = (
        user.memberships.select_related("organization")
        .order_by("organization__name", "organization")
        .annotate(has_others=Exists(others), has_another_owner=Exists(others.filter(role=Role.OWNER)))
    )
    return [_fate(membership, now=now) for membership in memberships]


def _fate(membership: Any, *, now: datetime) -> Fate:
    organization: Organization = membership.organization
    if membership.role != Role.OWNER or membership.has_another_owner:
        return Fate(organization)
    if membership.has_others:
        return Fate(organization, needs_an_heir=True)
    refusal = get_adapter().may_close(organization, now=now)
    return Fate(organization, is_closed=refusal is None, refusal=refusal or "")


def _close(organization: Organization, *, by: User, now: datetime) -> None:
    organization.invitations.open().update(revoked_at=now)
    _anonymize_invitations(organization.invitations.all())
    organization.memberships.all().delete()
    organization.name = CLOSED_WORKSPACE
    organization.slug = f"closed-{get_random_string(16).lower()}"
    organization.closed_at = now
    organization.save(update_fields=["name", "slug", "closed_at"])
    _anonymize_operators_log(organization, CLOSED_WORKSPACE)
    get_adapter().close(organization, by=by, now=now)


def _forget_addresses(user: User, *, now: datetime) -> None:
    """Of invitations, those that went to the person. An address they only claimed is another's."""
    proven = user.emailaddress_set.filter(verified=True).values_list(Lower("email"), flat=True)
    theirs = Invitation.objects.annotate(address=Lower("email")).filter(
        Q(address__in=list(proven)) | Q(accepted_by=user)
    )
    theirs.filter(accepted_at=None, revoked_at=None).update(revoked_at=now)
    _anonymize_invitations(theirs)


def _end_access(user: User) -> None:
    """Sessions, second factors, accounts elsewhere, addresses, rights."""
    store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    for key in UserSession.objects.filter(user=user).values_list("session_key", flat=True):
        store().delete(key)
    for related in ("usersession_set", "authenticator_set", "socialaccount_set", "emailaddress_set"):
        getattr(user, related).all().delete()
    user.groups.clear()
    user.user_permissions.clear()


def _anonymize(user: User, *, now: datetime) -> None:
    user.email = _nobodys_address(user.pk)
    user.name = user.language = user.time_zone = ""
    user.is_active = False
    user.set_unusable_password()
    user.closed_at = now
    user.save()
    _anonymize_operators_log(user, CLOSED_ACCOUNT)


def _anonymize_invitations(invitations: QuerySet[Invitation]) -> None:
    pk = Cast(F("pk"), models.CharField())
    invitations.update(email=Concat(Value("closed-"), pk, Value("@closed.invalid")))


def _anonymize_operators_log(row: models.Model, name: str) -> None:
    """The trace of what operators did to it stays, under another name."""
    kind = ContentType.objects.get_for_model(row)
    LogEntry.objects.filter(content_type=kind, object_id=str(row.pk)).update(object_repr=name)


def _nobodys_address(pk: int) -> str:
    return f"closed-{pk}@closed.invalid"

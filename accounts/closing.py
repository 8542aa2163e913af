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
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat, Lower
from django.utils.crypto import get_random_string
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from accounts import locks, organizations
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
        locked = locks.organization(organization.pk)
        if locked.closed_at is not None:
            return
        if organizations.role_of(by, locked) != Role.OWNER:
            raise NotAllowed
        refusal = get_adapter().may_close(locked, now=now)
        if refusal is not None:
            raise StillNeeded(refusal)
        _end_invitations(Q(organization=locked), now=now)
        _close(locked, now=now)
        get_adapter().close(locked, by=by, now=now)


def close_account(user: User, *, now: datetime) -> None:
    """Raises StaffAccount or WorkspacesFirst. Organizations with nobody else in them are closed with it."""
    with transaction.atomic():
        # Nobody is let in any more who is held here, so that what follows finds all that they are in.
        user = locks.people(user.pk)[user.pk]
        if user.closed_at is not None:
            return
        if user.is_staff or user.is_superuser:
            raise StaffAccount
        for pk in user.memberships.order_by("organization").values_list("organization", flat=True):
            locks.organization(pk)
        fates = fates_of(user, now=now)
        if any(fate.stands_against for fate in fates):
            raise WorkspacesFirst
        ended = [fate.organization for fate in fates if fate.is_closed]
        _end_invitations(_sent_to(user) | Q(organization__in=ended), now=now, sent_by=user)
        for organization in ended:
            _close(organization, now=now)
        # What others note of it comes last, once nothing is left to wait for: their chains are one for all.
        for organization in ended:
            get_adapter().close(organization, by=user, now=now)
        get_adapter().forget(user, now=now)
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
    found = list(memberships)
    alone = [each.organization for each in found if _is_only_owner(each) and not each.has_others]
    refusals = get_adapter().may_close_each(alone, now=now)
    return [_fate(each, refusal=refusals.get(each.organization_id)) for each in found]


def _fate(membership: Any, *, refusal: str | None) -> Fate:
    organization: Organization = membership.organization
    if not _is_only_owner(membership):
        return Fate(organization)
    if membership.has_others:
        return Fate(organization, needs_an_heir=True)
    return Fate(organization, is_closed=refusal is None, refusal=refusal or "")


def _is_only_owner(membership: Any) -> bool:
    return membership.role == Role.OWNER and not membership.has_another_owner


def _close(organization: Organization, *, now: datetime) -> None:
    organization.memberships.all().delete()
    organization.name = CLOSED_WORKSPACE
    organization.slug = f"closed-{get_random_string(16).lower()}"
    organization.closed_at = now
    organization.save(update_fields=["name", "slug", "closed_at"])
    _anonymize_operators_log(organization, CLOSED_WORKSPACE)


def _sent_to(user: User) -> Q:
    """An address that they only claimed is another's."""
    proven = user.emailaddress_set.filter(verified=True).values_list(Lower("email"), flat=True)
    return Q(email__in=list(proven)) | Q(accepted_by=user)


def _end_invitations(ended: Q, *, now: datetime, sent_by: User | None = None) -> None:
    """They end and name nobody any more. Those that ``sent_by`` sent only end: the addresses are others'."""
    concerned = ended | Q(invited_by=sent_by) if sent_by else ended
    # Some are of organizations that are not locked here: held in the one order of whoever ends several.
    held = Invitation.objects.filter(concerned).order_by("pk").select_for_update(no_key=True)
    pks = list(held.values_list("pk", flat=True))
    Invitation.objects.open().filter(pk__in=pks).update(revoked_at=now)
    nobody = Concat(Value("closed-"), Cast(F("pk"), models.CharField()), Value("@closed.invalid"))
    Invitation.objects.filter(ended, pk__in=pks).update(email=nobody)


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


def _anonymize_operators_log(row: models.Model, name: str) -> None:
    """The trace of what operators did to it stays, under another name."""
    kind = ContentType.objects.get_for_model(row)
    LogEntry.objects.filter(content_type=kind, object_id=str(row.pk)).update(object_repr=name)


def _nobodys_address(pk: int) -> str:
    return f"closed-{pk}@closed.invalid"

"""Who came into an organization, left it, or got another role in it, on the organization's own audit stream.

accounts knows nothing of this: its rows' signals tell. Ids only; a name or an address never gets here. What a
bulk ``QuerySet.update()`` changes is not told: invitations that end because their organization is closed, or
their person was removed, or who sent them was or has a lesser role now, which are all told themselves.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from accounts.models import Invitation, Membership, Organization
from billing import audit
from billing.trail import acting


def connect() -> None:
    """Called once, when the apps are loaded."""
    post_save.connect(_organization_saved, sender=Organization)
    post_save.connect(_membership_saved, sender=Membership)
    post_delete.connect(_membership_deleted, sender=Membership)
    post_save.connect(_invitation_saved, sender=Invitation)


def _record(organization_pk: int, action: str, **ids: Any) -> None:
    # With the change, if it has a transaction.
    with transaction.atomic():
        stream = audit.organization_stream(organization_pk)
        audit.record(stream, action, by=acting.actor(), at=timezone.now(), **ids)


def _organization_saved(
    instance: Organization, created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    if raw:
        return
    if created:
        _record(instance.pk, "organization_created")
    elif update_fields is not None and "closed_at" in update_fields:
        _record(instance.pk, "organization_closed")
    elif update_fields is None or "name" in update_fields:
        _record(instance.pk, "organization_renamed")


def _membership_saved(instance: Membership, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    action = "member_added" if created else "role_changed"
    _record(instance.organization_id, action, user=instance.user_id, role=instance.role)


def _membership_deleted(instance: Membership, **kwargs: Any) -> None:
    _record(instance.organization_id, "member_removed", user=instance.user_id)


def _invitation_saved(instance: Invitation, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    ids: dict[str, Any] = {"invitation": instance.pk, "role": instance.role}
    if instance.accepted_at is not None:
        action = "invitation_accepted"
        ids["user"] = instance.accepted_by_id
    elif instance.revoked_at is not None:
        action = "invitation_revoked"
    else:
        action = "invited" if created else "invited_again"
    _record(instance.organization_id, action, **ids)

"""Sign-ins of staff, and what staff may do, on the audit stream "staff": whoever changes it, admin or shell.

Only a bulk ``QuerySet.update()`` goes unseen here, as it does by every signal. No address and no IP is kept:
who looks for those has the web server's log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.db.models import Model, Q
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts.models import User
from billing import audit
from billing.trail import acting

# What decides about a person's access, besides groups and permissions.
_RIGHTS = ("is_active", "is_staff", "is_superuser")


def connect() -> None:
    """Called once, when the apps are loaded."""
    user_logged_in.connect(_signed_in)
    user_logged_out.connect(_signed_out)
    user_login_failed.connect(_sign_in_failed)
    authentication_failed.connect(_second_factor_failed)
    post_save.connect(_second_factor_saved, sender=Authenticator)
    post_delete.connect(_second_factor_removed, sender=Authenticator)
    pre_save.connect(_remember_user, sender=User)
    post_save.connect(_user_saved, sender=User)
    m2m_changed.connect(_groups_of_users_changed, sender=User.groups.through)
    m2m_changed.connect(_permissions_of_users_changed, sender=User.user_permissions.through)
    m2m_changed.connect(_permissions_of_groups_changed, sender=Group.permissions.through)
    pre_delete.connect(_remember_members, sender=Group)
    post_delete.connect(_group_deleted, sender=Group)


def _record(action: str, *, by: User | str, **data: Any) -> None:
    # With the change, if it has a transaction.
    with transaction.atomic():
        audit.record(audit.STAFF, action, by=by, at=timezone.now(), **data)


def _is_operator(user: object) -> bool:
    return isinstance(user, User) and (user.is_staff or user.is_superuser)


# --- Signing in


def _signed_in(user: User, **kwargs: Any) -> None:
    """After the second factor, if there is one."""
    if _is_operator(user):
        _record("signed_in", by=user, user=user.pk)


def _signed_out(user: User | None, **kwargs: Any) -> None:
    if user is not None and _is_operator(user):
        _record("signed_out", by=user, user=user.pk)


def _sign_in_failed(credentials: dict[str, Any], **kwargs: Any) -> None:
    """A wrong password to an operator's address: whose it was nobody knows."""
    address = str(credentials.get("email") or credentials.get("username") or "")
    operators = User.objects.filter(Q(is_staff=True) | Q(is_superuser=True))
    named = Q(email__iexact=address) | Q(emailaddress__email__iexact=address)
    user = operators.filter(named).first() if address else None
    if user is not None:
        _record("sign_in_failed", by=acting.actor(), user=user.pk)


def _second_factor_failed(user: User, **kwargs: Any) -> None:
    if _is_operator(user):
        _record("second_factor_failed", by=acting.actor(), user=user.pk)


def _second_factor_saved(instance: Authenticator, created: bool, **kwargs: Any) -> None:
    if created and _is_operator(instance.user):
        _record("second_factor_added", by=acting.actor(), user=instance.user_id, kind=instance.type)


def _second_factor_removed(instance: Authenticator, **kwargs: Any) -> None:
    if _is_operator(instance.user):
        _record("second_factor_removed", by=acting.actor(), user=instance.user_id, kind=instance.type)


# --- What somebody may do


def _remember_user(instance: User, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    watched = (*_RIGHTS, "password")
    touched = update_fields is None or not update_fields.isdisjoint(watched)
    before = None
    if instance.pk is not None and touched and not raw:
        before = User.objects.filter(pk=instance.pk).values(*watched).first()
    instance._before = before  # type: ignore[attr-defined]  # for _user_saved, which follows at once


def _user_saved(
    instance: User, created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    if raw:
        return
    user, before = instance, getattr(instance, "_before", None)
    if created and _is_operator(user):
        _record(
            "access_changed",
            by=acting.actor(),
            user=user.pk,
            **{name: getattr(user, name) for name in _RIGHTS},
        )
    if before is None:
        return
    changed = {name: getattr(user, name) for name in _RIGHTS if getattr(user, name) != before[name]}
    if changed:
        _record("access_changed", by=acting.actor(), user=user.pk, **changed)
    # A newer hash of the same password is no change: Django saves one when somebody signs in.
    is_rehash = getattr(user, "_password", None) is None and set(update_fields or ()) == {"password"}
    if user.password != before["password"] and not is_rehash:
        _password_changed(user)


def _password_changed(user: User) -> None:
    by = acting.actor()
    if isinstance(by, User) and by.pk != user.pk:
        _record("password_set", by=by, user=user.pk)
    elif _is_operator(user):
        _record("password_changed", by=by, user=user.pk)


def _groups_of_users_changed(**kwargs: Any) -> None:
    _held_changed("groups", "user_set", User, "access_changed", "user", **kwargs)


def _permissions_of_users_changed(**kwargs: Any) -> None:
    _held_changed("user_permissions", "user_set", User, "access_changed", "user", **kwargs)


def _permissions_of_groups_changed(**kwargs: Any) -> None:
    _held_changed("permissions", "group_set", Group, "group_changed", "group", **kwargs)


def _held_changed(
    held: str,
    holders: str,
    holder: type[Model],
    action_name: str,
    name: str,
    *,
    instance: Any,
    action: str,
    reverse: bool,
    pk_set: set[int] | None,
    **kwargs: Any,
) -> None:
    """Record what each holder holds now, from whichever side it was changed."""
    if action == "pre_clear":
        there = set(getattr(instance, holders if reverse else held).values_list("pk", flat=True))
        instance._cleared = there
        return
    if action == "post_clear":
        pk_set = instance._cleared
    if action not in ("post_add", "post_remove", "post_clear") or not pk_set:
        return
    changed = holder._default_manager.filter(pk__in=sorted(pk_set)).order_by("pk") if reverse else [instance]
    for each in changed:
        now = sorted(getattr(each, held).values_list("pk", flat=True))
        _record(action_name, by=acting.actor(), **{name: each.pk, held: now})


def _remember_members(instance: Group, **kwargs: Any) -> None:
    instance._members = sorted(  # type: ignore[attr-defined]  # for _group_deleted
        instance.user_set.values_list("pk", flat=True)
    )


def _group_deleted(instance: Group, **kwargs: Any) -> None:
    members = getattr(instance, "_members", [])
    _record("group_deleted", by=acting.actor(), group=instance.pk, users=members)


def reset_second_factor(user: User, *, reason: str, now: datetime) -> int:
    """Take ``user``'s second factors away and end their sessions: the way back for who has lost them.

    For a command on the machine itself. Returns how many factors there were; recovery codes are one.
    """
    store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    with transaction.atomic():
        factors = list(user.authenticator_set.all())
        for factor in factors:
            factor.delete()
        data = {"user": user.pk, "reason": reason} if reason else {"user": user.pk}
        audit.record(audit.STAFF, "second_factor_reset", by=acting.COMMAND, at=now, **data)
        for session in user.usersession_set.all():
            store().delete(session.session_key)
            session.delete()
    return len(factors)

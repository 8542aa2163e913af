"""Who of the seller's staff may do what: four groups, kept current after every migrate.

They are ours: what was changed in one of them is set back, so that an upgrade brings its new permissions to
the people who need them. A seller who wants it otherwise makes a group of another name; those are left alone.
Being in a group makes nobody staff.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q, QuerySet

from billing.models import OperatorTask

AUDITOR, SUPPORT, BILLING_OPERATOR, OWNER = "Auditor", "Support", "Billing operator", "Owner"

_APPS = ("accounts", "billing")
# Seen on the pages of people and organizations: addresses, and which groups there are.
_SEEN_BESIDE = (("account", "view_emailaddress"), ("auth", "view_group"))

_SUPPORT = ("sync_entitlements", "replay_event", "resend_mail", "settle_flag", "link_renewal")
_BILLING = (
    "submit_usage",
    "retry_record",
    "hold_record",
    "void_record",
    "write_off",
    "bill_late_usage",
    "import_usagereport",
)
_OWNER = ("transfer_agreement", "manage_staff")
# What is edited in the console, and nowhere else: accounts, workspaces' names, the catalog.
_EDITED = (
    "add_user",
    "change_user",
    "change_organization",
    "add_product",
    "change_product",
    "delete_product",
    "add_dimension",
    "change_dimension",
    "delete_dimension",
)

MORE: dict[str, tuple[str, ...]] = {
    AUDITOR: (),
    SUPPORT: _SUPPORT,
    BILLING_OPERATOR: (*_SUPPORT, *_BILLING),
    OWNER: (*_SUPPORT, *_BILLING, *_OWNER, *_EDITED),
}
"""What each may beside seeing everything."""


def is_ours(group: Group) -> bool:
    return group.name in MORE


def bring_up_to_date() -> None:
    """Make what is missing, and set back what was changed. Permissions that are not made yet are left out."""
    for name, more in MORE.items():
        with transaction.atomic():
            group, is_new = Group.objects.get_or_create(name=name)
            wanted = set(_permissions(more).values_list("pk", flat=True))
            if is_new:
                _give(group, wanted)
            elif wanted != set(group.permissions.values_list("pk", flat=True)):
                group.permissions.set(wanted)  # told by its signal: billing.trail.staff


def _permissions(more: Iterable[str]) -> QuerySet[Permission]:
    seen = Q(content_type__app_label__in=_APPS, codename__startswith="view_")
    for app, codename in _SEEN_BESIDE:
        seen |= Q(content_type__app_label=app, codename=codename)
    return Permission.objects.filter(
        seen | Q(content_type__app_label__in=_APPS, codename__in=list(more))
    ).order_by()


def _give(group: Group, permissions: Iterable[int]) -> None:
    """Without a signal: that a new site has its groups is no change of anybody's rights."""
    held = Group.permissions.through
    held.objects.bulk_create(held(group=group, permission_id=pk) for pk in sorted(permissions))


def tables_are_there(tables: Iterable[str]) -> bool:
    """Not yet in the middle of older migrations."""
    return {Group._meta.db_table, OperatorTask._meta.db_table} <= set(tables)

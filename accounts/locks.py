"""Whose rows are held while something about people is decided, and in which order.

One order everywhere, so that nobody waits in a ring: a purchase (billing.customers.lock), then people, then
organizations, each by their keys, then the rows that hang on them. Who comes into an organization is held as
a person: nobody comes in while they close their account, which goes through all that they are in.
"""

from __future__ import annotations

from accounts.models import Organization, User


def people(*pks: int) -> dict[int, User]:
    """Locked against who else changes them, but not against rows that name them."""
    locked = User.objects.select_for_update(no_key=True).filter(pk__in=pks).order_by("pk")
    return {user.pk: user for user in locked}


def organization(pk: int) -> Organization:
    """Locked against who else changes its people, but not against rows that name it."""
    return Organization.objects.select_for_update(no_key=True).get(pk=pk)

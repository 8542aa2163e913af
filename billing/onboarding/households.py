"""Whose an AWS account's purchases are here, and how they are spoken of to people who may not know it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from accounts.addresses import masked as masked_address
from accounts.models import Membership, Organization, User
from billing.models import Agreement


def households(
    customers: Collection[int], *, memberships: Iterable[Membership] = ()
) -> Mapping[int, Organization]:
    """For each customer the organization that holds purchases of the same AWS account. One query.

    Of several it is the one that the person with these ``memberships`` administers, else one they are in,
    else the one that was first. Closed ones hold nothing.
    """
    mine = {membership.organization_id: membership for membership in memberships}
    held = Agreement.objects.filter(
        customer__in=customers, organization__isnull=False, organization__closed_at=None
    )
    found: dict[int, tuple[int, Organization]] = {}
    for agreement in held.select_related("organization").order_by("claimed_at", "pk"):
        organization = agreement.organization
        assert organization is not None
        rank = _rank(mine.get(organization.pk))
        known = found.get(agreement.customer_id)
        if known is None or rank > known[0]:
            found[agreement.customer_id] = (rank, organization)
    return {customer: organization for customer, (_, organization) in found.items()}


def household(agreement: Agreement, *, user: User) -> Organization | None:
    """As ``households``, of one purchase."""
    found = households([agreement.customer_id], memberships=user.memberships.all())
    return found.get(agreement.customer_id)


def _rank(membership: Membership | None) -> int:
    if membership is None:
        return 0
    return 2 if membership.is_administrator else 1


def whom_to_ask(organizations: Collection[int]) -> Mapping[int, str]:
    """For each organization its first owner's address, masked. Not in it: those without one. One query."""
    owners = Membership.objects.filter(organization__in=organizations, role=Membership.Role.OWNER)
    asked: dict[int, str] = {}
    for owner in owners.select_related("user"):
        asked.setdefault(owner.organization_id, masked_address(owner.user.email))
    return asked

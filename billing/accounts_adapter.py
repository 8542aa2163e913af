"""What billing decides about people: see accounts/adapter.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.adapter import AccountsAdapter, Fact, NavItem, Notice, Part, Places
from accounts.models import Membership, Organization, User
from billing import exporting, gates, leaving, notices, standing
from billing.grants import Reason
from billing.onboarding import joining, visitors

# The feature whose quota is the number of members.
SEATS = "seats"


class BillingAccountsAdapter(AccountsAdapter):
    def may_sign_up(self, request: HttpRequest) -> bool:
        """A purchase opens sign-up, even where it is closed to others."""
        return super().may_sign_up(request) or bool(visitors.in_browser(request))

    def after_sign_in(self, request: HttpRequest, user: User) -> str | None:
        """To the purchase that this browser came for; a remembered one keeps nobody from their workspace."""
        if visitors.came_for_something(request):
            return reverse("billing:welcome")
        has_something = visitors.unclaimed_of(user).exists() or joining.open_of(user).exists()
        if has_something and not Organization.objects.of(user).exists():
            return reverse("billing:welcome")
        return None

    def nav_items(self, membership: Membership) -> list[NavItem]:
        items = []
        if membership.is_administrator:
            slug = membership.organization.slug
            items.append(NavItem(_("Subscription"), reverse("billing:subscription", args=[slug])))
            items.append(NavItem(_("Usage"), reverse("billing:usage", args=[slug])))
        return items

    def notices(self, membership: Membership) -> list[Notice]:
        return notices.of(membership)

    def may_add_member(self, organization: Organization, *, now: datetime) -> str | None:
        """Seats are bought: a member takes one, and so does a pending invitation."""
        if SEATS not in settings.FEATURES:
            return None
        grant = gates.reserve(organization, SEATS, now=now)
        if grant.code is Reason.QUOTA:
            return _(
                "%(reason)s Remove a member or an invitation first, or add seats in AWS Marketplace, under "
                "Manage subscriptions."
            ) % {"reason": grant.reason}
        return None if grant else grant.reason

    def places(self, organization: Organization, *, now: datetime) -> Places | None:
        quota = gates.quota(organization, SEATS, now=now) if SEATS in settings.FEATURES else None
        return Places(int(quota.limit), int(quota.used)) if quota is not None else None

    def summary(self, membership: Membership) -> list[Fact]:
        return standing.of(membership)

    def may_close(self, organization: Organization, *, now: datetime) -> str | None:
        return leaving.why_not(organization, now=now)

    def may_close_each(self, organizations: Sequence[Organization], *, now: datetime) -> Mapping[int, str]:
        return leaving.why_not_each(organizations, now=now)

    def close(self, organization: Organization, *, by: User, now: datetime) -> None:
        leaving.organization_closed(organization, by=by, now=now)

    def forget(self, user: User, *, now: datetime) -> None:
        leaving.account_closed(user, now=now)

    def export(self, organization: Organization) -> Iterator[Part]:
        return exporting.of_organization(organization)

    def export_of(self, user: User) -> Iterator[Part]:
        return exporting.of_person(user)

"""What billing decides about people: see accounts/adapter.py."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.adapter import AccountsAdapter, NavItem, Notice
from accounts.models import Membership, Organization, User
from billing import gates, registration
from billing.grants import Reason

# The feature whose quota is the number of members.
SEATS = "seats"


class BillingAccountsAdapter(AccountsAdapter):
    def may_sign_up(self, request: HttpRequest) -> bool:
        """A purchase opens sign-up, even where it is closed to others."""
        return super().may_sign_up(request) or bool(registration.in_browser(request))

    def after_sign_in(self, request: HttpRequest, user: User) -> str | None:
        """To the purchase that this browser came for; a remembered one keeps nobody from their workspace."""
        waiting = [
            arrival.pk
            for arrival in registration.waiting_for(request)
            if arrival.agreement.organization is None and arrival.agreement.status not in registration.OVER
        ]
        if not waiting:
            return None
        came_for_it = not set(registration.in_browser(request)).isdisjoint(waiting)
        if came_for_it or not Organization.objects.of(user).exists():
            return reverse("billing:welcome")
        return None

    def nav_items(self, membership: Membership) -> list[NavItem]:
        items = []
        if membership.is_administrator:
            slug = membership.organization.slug
            items.append(NavItem(_("Subscription"), reverse("billing:subscription", args=[slug])))
        if registration.unclaimed_of(membership.user).exists():
            items.append(NavItem(_("A purchase is waiting to be set up"), reverse("billing:welcome")))
        return items

    def notices(self, membership: Membership) -> list[Notice]:
        """That something is open only for now, because AWS has yet to say how it goes on."""
        grant = gates.temporary(membership.organization)
        return [Notice(grant.reason, "warning")] if grant is not None else []

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

"""What billing decides about people: see accounts/adapter.py."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.adapter import AccountsAdapter, NavItem
from accounts.models import Organization, User
from billing import registration


class BillingAccountsAdapter(AccountsAdapter):
    def may_sign_up(self, request: HttpRequest) -> bool:
        """A purchase opens sign-up, even where it is closed to others."""
        return super().may_sign_up(request) or bool(registration.in_browser(request))

    def after_sign_in(self, request: HttpRequest, user: User) -> str | None:
        waiting = any(arrival.agreement.organization is None for arrival in registration.waiting_for(request))
        return reverse("billing:welcome") if waiting else None

    def nav_items(self, organization: Organization, user: User) -> list[NavItem]:
        if not Organization.objects.administered_by(user).filter(pk=organization.pk).exists():
            return []
        return [NavItem(_("Subscription"), reverse("billing:subscription", args=[organization.slug]))]

"""May this organization use that feature? The answer always carries its reason.

``FEATURES`` in the settings says what grants what. One query per organization, cached for the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import wraps
from typing import Any

from django.conf import settings
from django.db.models import Prefetch, Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.access import TenantRequest
from accounts.models import Organization
from billing.models import Agreement, Entitlement, UsageEvent


@dataclass(frozen=True, slots=True)
class Grant:
    """Truthy when allowed. ``reason`` is for the person; ``limit`` is how much, where the feature has a quota."""

    allowed: bool
    reason: str
    limit: Decimal | None = None

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a feature was bought and used, over all live agreements."""

    limit: Decimal
    used: Decimal

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.limit - self.used)


def allows(organization: Organization, feature: str, *, now: datetime | None = None) -> Grant:
    """Whether ``organization`` may use ``feature`` at ``now``. Raises LookupError for an unknown feature."""
    try:
        rule = settings.FEATURES[feature]
    except KeyError:
        raise LookupError(f"{feature!r} is not in FEATURES; known: {', '.join(settings.FEATURES)}.") from None
    now = now or timezone.now()
    agreements = _agreements(organization)
    live = [agreement for agreement in agreements if agreement.status == Agreement.Status.ACTIVE]
    granting = [
        entitlement
        for agreement in live
        for entitlement in agreement.current_entitlements  # type: ignore[attr-defined]
        if entitlement.dimension_key in rule.get("dimensions", ()) and entitlement.grants
    ]
    in_force = [row for row in granting if row.expires_at is None or row.expires_at > now]
    subscribed = any(agreement.product.code in rule.get("products", ()) for agreement in live)
    if in_force or subscribed:
        limits = [row.quantity for row in in_force if row.dimension_key == rule.get("quota")]
        return Grant(True, _("Included in your subscription."), sum(limits, Decimal(0)) if limits else None)
    return Grant(False, _refusal(agreements, live, expired=bool(granting)))


def quota(organization: Organization, feature: str, *, now: datetime | None = None) -> Quota | None:
    """What is bought and used of the feature's quota dimension; None where there is no quota."""
    limit = allows(organization, feature, now=now).limit
    if limit is None:
        return None
    used = organization.usage_events.filter(
        disposition=UsageEvent.Disposition.BILLABLE,
        agreement__status=Agreement.Status.ACTIVE,
        dimension__included_by__key=settings.FEATURES[feature]["quota"],
    ).aggregate(total=Sum("quantity"))["total"]
    return Quota(limit, used or Decimal(0))


def requires(feature: str) -> Callable[..., Any]:
    """Decorate a tenant view (below ``@organization_required``): without the feature, the paywall answers."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def gated(request: TenantRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            organization = request.membership.organization
            grant = allows(organization, feature)
            if not grant:
                return render(
                    request,
                    "billing/paywall.html",
                    {"grant": grant, "feature": feature, "organization": organization},
                    status=403,
                )
            return view(request, *args, **kwargs)

        return gated

    return decorate


def _agreements(organization: Organization) -> list[Agreement]:
    """Read once per organization object, that is once per request."""
    cached: list[Agreement] | None = getattr(organization, "_gate_agreements", None)
    if cached is None:
        cached = list(
            organization.agreements.select_related("product").prefetch_related(
                Prefetch("entitlements", Entitlement.objects.current(), to_attr="current_entitlements")
            )
        )
        organization._gate_agreements = cached  # type: ignore[attr-defined]
    return cached


def _refusal(agreements: list[Agreement], live: list[Agreement], *, expired: bool) -> str:
    statuses = {agreement.status for agreement in agreements}
    if expired:
        return _("Your contract has expired. Renew it in the AWS console.")
    if live:
        return _("Your subscription does not include this.")
    if Agreement.Status.PENDING in statuses:
        return _("AWS has not confirmed your purchase yet. This usually takes a few minutes.")
    if Agreement.Status.FAILED in statuses:
        return _("AWS could not complete your purchase. Check the payment method of your AWS account.")
    if statuses:
        return _("Your subscription has ended.")
    return _("Your organization has no subscription yet.")

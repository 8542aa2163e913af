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
from django.db.models import FilteredRelation, Q, QuerySet, Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.access import TenantRequest, workspace
from accounts.models import Organization
from billing.aws.window import month_of
from billing.models import Agreement, Dimension, Entitlement, Product, UsageEvent


@dataclass(frozen=True, slots=True)
class Grant:
    """Truthy when allowed. ``reason`` is for people; ``limit`` is how much, where the feature has a quota.

    ``waiting`` says that AWS has yet to tell what was bought: the answer may be another in a minute.
    """

    allowed: bool
    reason: str
    limit: Decimal | None = None
    waiting: bool = False

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

    @property
    def beyond(self) -> Decimal:
        """What was used on top of it, and is billed by use."""
        return max(Decimal(0), self.used - self.limit)


def allows(organization: Organization, feature: str, *, now: datetime | None = None) -> Grant:
    """Whether ``organization`` may use ``feature`` at ``now``. Raises LookupError for an unknown feature."""
    try:
        rule = settings.FEATURES[feature]
    except KeyError:
        raise LookupError(f"{feature!r} is not in FEATURES; known: {', '.join(settings.FEATURES)}.") from None
    now = now or timezone.now()
    holdings = _holdings(organization)
    live = [holding for holding in holdings if holding.status == Agreement.Status.ACTIVE]
    held = [holding.entitlement for holding in live if holding.entitlement is not None]
    in_force = [row for row in held if row.expires_at is None or row.expires_at > now]
    granting = [row for row in held if row.dimension_key in rule.get("dimensions", ()) and row.grants]
    subscribed = any(holding.product_code in rule.get("products", ()) for holding in live)
    if subscribed or any(row in in_force for row in granting):
        # A quota of nothing is a limit too: it must not read as "no quota".
        limits = [row.quantity for row in in_force if row.dimension_key == rule.get("quota")]
        return Grant(True, _("Included in your subscription."), sum(limits, Decimal(0)) if limits else None)
    if not granting and any(holding.is_unsettled for holding in holdings):
        reason = _("AWS has not confirmed your purchase yet. This usually takes a few minutes.")
        return Grant(False, reason, waiting=True)
    statuses = {holding.status for holding in holdings}
    return Grant(False, _refusal(statuses, expired=bool(granting)))


def quota(organization: Organization, feature: str, *, now: datetime | None = None) -> Quota | None:
    """What is bought and used of the feature's quota dimension; None where there is no quota."""
    now = now or timezone.now()
    limit = allows(organization, feature, now=now).limit
    if limit is None:
        return None
    live = organization.usage_events.filter(agreement__status=Agreement.Status.ACTIVE)
    return Quota(limit, drawn_from(settings.FEATURES[feature]["quota"], live, now=now))


def drawn_from(entitled_key: str, usage: QuerySet[UsageEvent], *, now: datetime) -> Decimal:
    """How much of ``usage``, open usage too, has drawn on the entitled dimension in the current period."""
    in_period = Q(dimension__allowance_period=Dimension.Period.TERM) | Q(occurred_at__gte=month_of(now))
    billable = usage.filter(
        in_period, dimension__included_by__key=entitled_key, disposition=UsageEvent.Disposition.BILLABLE
    )
    return billable.aggregate(total=Sum("quantity"))["total"] or Decimal(0)


def requires(feature: str) -> Callable[..., Any]:
    """Decorate a tenant view (below ``@organization_required``): without the feature, the paywall answers."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def gated(request: TenantRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            grant = allows(request.membership.organization, feature)
            if not grant:
                refusal = {**workspace(request), "grant": grant, "feature": feature}
                return render(request, "billing/paywall.html", refusal, status=403)
            return view(request, *args, **kwargs)

        return gated

    return decorate


@dataclass(frozen=True, slots=True)
class _Holding:
    """An agreement with one of its current entitlements, or with None where it has none."""

    status: str
    product_code: str
    pricing: str
    read_at: datetime | None
    entitlement: Entitlement | None

    @property
    def is_unsettled(self) -> bool:
        """Not confirmed by AWS yet, or a contract whose entitlements were never read."""
        never_read = self.read_at is None and self.pricing != Product.Pricing.SUBSCRIPTION
        return self.status == Agreement.Status.PENDING or (
            self.status == Agreement.Status.ACTIVE and never_read
        )


_VALUES = (
    "dimension_key", "integer_value", "double_value", "boolean_value", "string_value", "expires_at",
)  # fmt: skip


def _holdings(organization: Organization) -> list[_Holding]:
    """Read once per organization object, that is once per request, with one query."""
    cached: list[_Holding] | None = getattr(organization, "_gate_holdings", None)
    if cached is None:
        current = FilteredRelation("entitlements", condition=Q(entitlements__valid_to=None))
        rows = organization.agreements.annotate(current=current).values_list(
            "status",
            "product__code",
            "product__pricing",
            "entitlements_read_at",
            "current__pk",
            *(f"current__{name}" for name in _VALUES),
        )
        cached = [_holding(*row) for row in rows]
        organization._gate_holdings = cached  # type: ignore[attr-defined]
    return cached


def _holding(
    status: str, product_code: str, pricing: str, read_at: datetime | None, pk: int | None, *values: Any
) -> _Holding:
    entitlement = Entitlement(pk=pk, **dict(zip(_VALUES, values, strict=True))) if pk else None
    return _Holding(status, product_code, pricing, read_at, entitlement)


def _refusal(statuses: set[str], *, expired: bool) -> str:
    if expired:
        return _("Your contract has expired. Renew it in the AWS console.")
    if Agreement.Status.ACTIVE in statuses:
        return _("Your subscription does not include this.")
    if Agreement.Status.FAILED in statuses:
        return _("AWS could not complete your purchase. Check the payment method of your AWS account.")
    if statuses:
        return _("Your subscription has ended.")
    return _("Your organization has no subscription yet.")

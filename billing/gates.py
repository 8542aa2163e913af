"""May this organization use that feature? The answer always carries its reason.

``FEATURES`` in the settings says what grants what. One query per organization, cached for the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from itertools import groupby
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts.access import TenantRequest, workspace
from accounts.models import Organization
from billing import holdings, terms
from billing.aws.window import month_of
from billing.grants import ALLOWED, Grant, Quota, Reason
from billing.holdings import Entitled, Holding
from billing.models import Agreement, Dimension, Entitlement, MeteringRecord, UsageEvent

# What a feature's `outage` may be beside a timedelta: access while nobody knows whether it was renewed.
OPEN, CLOSED = "open", "closed"
_OUTAGE = timedelta(hours=24)


def allows(organization: Organization, feature: str, *, now: datetime | None = None) -> Grant:
    """Whether ``organization`` may use ``feature`` at ``now``. Raises LookupError for an unknown feature."""
    return _decide(holdings.holdings_of(organization), _rule(feature), now=now or timezone.now())


def quota(organization: Organization, feature: str, *, now: datetime | None = None) -> Quota | None:
    """What is bought and used of the feature's quota dimension; None where there is no quota."""
    now = now or timezone.now()
    limit = allows(organization, feature, now=now).limit
    if limit is None:
        return None
    rule = _rule(feature)
    if "count" in rule:
        return Quota(limit, Decimal(_counted(rule, organization, now=now)))
    live = holdings.live(holdings.holdings_of(organization), now)
    drawing = [holding.agreement for holding, row in _pools(live, rule, now=now)]
    return Quota(limit, drawn_from(rule["quota"], drawing, now=now))


def reserve(
    organization: Organization, feature: str, amount: int = 1, *, now: datetime | None = None
) -> Grant:
    """Whether ``amount`` more of a countable thing fits into the quota: two that ask for the last, one wins.

    Call it in the transaction that then makes the thing (a membership, a project): it locks the organization
    until that ends, so whoever asks next counts it too. The feature's ``count`` counts what exists.
    Raises TransactionManagementError outside a transaction, LookupError for a feature without ``count``.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("A reservation lasts as long as its transaction.")
    now = now or timezone.now()
    rule = _rule(feature)
    if "count" not in rule:
        raise LookupError(f"FEATURES[{feature!r}] has no 'count': nothing says how many there are.")
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    grant = _decide(holdings.read(organization), rule, now=now)
    if not grant or grant.limit is None:
        return grant
    left = grant.limit - _counted(rule, organization, now=now)
    return grant if amount <= left else Grant(Reason.QUOTA, grant.limit, max(Decimal(0), left))


def drawn_from(entitled_key: str, agreements: Sequence[int], *, now: datetime) -> Decimal:
    """How much of the agreements' usage, open usage too, drew on the entitled dimension in this period."""
    began = _terms_began(entitled_key, agreements, now=now)

    def sums(rows: Any, column: str, instant: str) -> Any:
        this_month = Q(
            dimension__allowance_period=Dimension.Period.MONTH, **{f"{instant}__gte": month_of(now)}
        )
        this_term = Q(dimension__allowance_period=Dimension.Period.TERM)
        for agreement, at in began:
            this_term &= ~Q(agreement=agreement, **{f"{instant}__lt": at})
        drawing = rows.filter(
            this_month | this_term, agreement__in=agreements, dimension__included_by__key=entitled_key
        )
        return drawing.order_by().values_list("agreement_id").annotate(total=Sum(column))

    # What is closed stands in records, also where its single uses were archived. The hour in which it is
    # billed says to which month or term it belongs.
    closed = sums(MeteringRecord.objects.exclude(state=MeteringRecord.State.VOID), "used", "hour")
    still_open = sums(UsageEvent.objects.open(), "quantity", "occurred_at")
    return sum((total for _, total in closed.union(still_open, all=True).order_by()), Decimal(0))


def _terms_began(
    entitled_key: str, agreements: Sequence[int], *, now: datetime
) -> list[tuple[int, datetime]]:
    """When this term began, of contracts that renewed in place."""
    rows = Entitlement.objects.filter(agreement__in=agreements, dimension_key=entitled_key)
    by_agreement = groupby(rows.order_by("agreement"), key=lambda row: row.agreement_id)
    found = ((agreement, terms.term_began(of, now)) for agreement, of in by_agreement)
    return [(agreement, began) for agreement, began in found if began is not None]


def temporary(organization: Organization, *, now: datetime | None = None) -> Grant | None:
    """A feature that is open only until AWS is heard of again, if there is one."""
    now = now or timezone.now()
    held = holdings.holdings_of(organization)
    if not held:
        return None
    grants = (_decide(held, rule, now=now) for rule in settings.FEATURES.values())
    return next((grant for grant in grants if grant.is_for_now), None)


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


def _rule(feature: str) -> dict[str, Any]:
    try:
        rule: dict[str, Any] = settings.FEATURES[feature]
    except KeyError:
        raise LookupError(f"{feature!r} is not in FEATURES; known: {', '.join(settings.FEATURES)}.") from None
    return rule


def _counted(rule: dict[str, Any], organization: Organization, *, now: datetime) -> int:
    count: Callable[..., int] = import_string(rule["count"])
    return count(organization, now=now)


def _decide(held: Sequence[Holding], rule: dict[str, Any], *, now: datetime) -> Grant:
    live = holdings.live(held, now)
    keys, products = rule.get("dimensions", ()), rule.get("products", ())
    found = {
        _standing(holding, row, rule, now=now)
        for holding in live
        for row in holding.entitled
        if row.dimension_key in keys and row.grants
    }
    found |= {_standing_of(holding, now) for holding in live if holding.product_code in products}
    code = next((code for code in ALLOWED if code in found), None)
    if code is None:
        return Grant(_refusal(held, expired=bool(found)))
    # A quota of nothing is a limit too: it must not read as "no quota".
    limits = [row.quantity for _, row in _pools(live, rule, now=now)]
    return Grant(code, sum(limits, Decimal(0)) if limits else None)


def _pools(
    live: Iterable[Holding], rule: dict[str, Any], *, now: datetime
) -> Iterator[tuple[Holding, Entitled]]:
    """What was bought of the feature's quota dimension, and counts."""
    for holding in live:
        for row in holding.entitled:
            if row.dimension_key == rule.get("quota") and _standing(holding, row, rule, now=now) in ALLOWED:
                yield holding, row


def _standing(holding: Holding, row: Entitled, rule: dict[str, Any], *, now: datetime) -> Reason:
    """As what an entitlement counts at ``now``; EXPIRED if it does not."""
    if row.expires_at is None or now < row.expires_at:
        return _standing_of(holding, now)
    if holding.keeps(row, now):
        return Reason.GRACE
    outage = rule.get("outage", _OUTAGE)
    goes_on = outage == OPEN or (isinstance(outage, timedelta) and now < row.expires_at + outage)
    return Reason.OUTAGE if goes_on and not holding.was_read_since(row.expires_at) else Reason.EXPIRED


def _standing_of(holding: Holding, now: datetime) -> Reason:
    return Reason.GRACE if holding.is_in_grace(now) else Reason.INCLUDED


def _refusal(held: Iterable[Holding], *, expired: bool) -> Reason:
    # First of all, or who has just bought again would be sent to buy once more.
    if any(holding.is_unsettled for holding in held):
        return Reason.PENDING
    if expired:
        return Reason.EXPIRED
    statuses = {holding.status for holding in held}
    if Agreement.Status.ACTIVE in statuses:
        return Reason.NOT_INCLUDED
    if Agreement.Status.FAILED in statuses:
        return Reason.FAILED
    return Reason.ENDED if statuses else Reason.NO_SUBSCRIPTION

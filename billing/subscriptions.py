"""What a buyer's administrators see of their purchases: how they stand, what they include, what was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Case, IntegerField, Prefetch, Value, When

from accounts.models import Organization
from billing import estimates, subscription_figures, tenures
from billing import subscription_words as words
from billing.aws.window import month_of
from billing.figures import ZERO, Figures
from billing.models import Agreement, Dimension, Entitlement
from billing.subscription_figures import Sums

AT_ONCE = 50  # on one page
_OVER = (Agreement.Status.ENDED, Agreement.Status.FAILED)


@dataclass(frozen=True, slots=True)
class EntitlementLine:
    label: str
    key: str
    unit: str
    value: int | float | bool | str
    expires_at: datetime | None
    used: Decimal | None  # None: nothing draws on it
    remaining: Decimal | None
    beyond: Decimal | None = None  # used on top of it, and billed by use
    elsewhere: Decimal = ZERO  # of what is used, in the workspace that had the purchase before
    is_monthly: bool = False


@dataclass(frozen=True, slots=True)
class UsageLine:
    dimension: int
    label: str
    unit: str
    figures: Figures
    open_included: Decimal  # of the open usage, what the plan covers as it looks now

    @property
    def is_estimate(self) -> bool:
        return bool(self.figures.waiting or self.figures.checked)

    @property
    def included_so_far(self) -> Decimal:
        return self.figures.included + self.open_included

    @property
    def to_bill_so_far(self) -> Decimal:
        """What AWS bills if nothing more is used."""
        return self.figures.billed + self.figures.waiting - self.open_included


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The purchase before or after in a chain of renewals."""

    pk: int
    product: str
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscription:
    pk: int
    product: str
    pricing: Any
    status: str
    status_label: Any
    tone: str
    masked_account: str
    agreement_id: str | None
    license_id: str | None
    started_at: datetime | None
    term_ends_at: datetime | None  # None: AWS has not told
    auto_renews: bool | None  # None: AWS has not told
    ended_at: datetime | None
    why_ended: Any
    metering_closes_at: datetime | None
    free_trial: bool
    trial_ends_at: datetime | None  # None: AWS has not told
    is_contract: bool
    is_over: bool
    is_open_for_now: bool  # it has ended, and access goes on for a while
    is_continued: bool
    previous: Neighbour | None
    next: Neighbour | None
    entitlements: list[EntitlementLine]
    usage: list[UsageLine]  # of this month; of what has ended, all of it

    @property
    def is_checked(self) -> bool:
        return any(line.figures.checked for line in self.usage)


@dataclass(frozen=True, slots=True)
class Page:
    running: list[Subscription]
    over: list[Subscription]
    month: datetime  # of the usage that is told of those that run: AWS's, in UTC
    number: int
    has_more: bool


def subscriptions_of(organization: Organization, *, now: datetime) -> list[Subscription]:
    """The first page of them: those that run, then those that are over, the newest first."""
    page = page_of(organization, 1, now=now)
    return [*page.running, *page.over]


def page_of(organization: Organization, number: int, *, now: datetime) -> Page:
    start = (number - 1) * AT_ONCE
    found = list(_bought(organization)[start : start + AT_ONCE + 1])
    agreements = found[:AT_ONCE]
    metered = {
        dimension.pk: dimension
        for agreement in agreements
        for dimension in agreement.product.dimensions.all()
        if dimension.kind == Dimension.Kind.METERED
    }
    timelines = {agreement.pk: list(agreement.entitlements.all()) for agreement in agreements}
    held = tenures.read_from(agreements, organization)
    sums = subscription_figures.read(agreements, metered.values(), timelines, held, now=now)
    told = [_subscription(each, timelines[each.pk], sums, now=now) for each in agreements]
    return Page(
        [each for each in told if not each.is_over],
        [each for each in told if each.is_over],
        month_of(now),
        number,
        len(found) > AT_ONCE,
    )


def _bought(organization: Organization) -> Any:
    is_over = Case(When(status__in=_OVER, then=Value(1)), default=Value(0), output_field=IntegerField())
    dimensions = Dimension.objects.select_related("included_by")
    return (
        tenures.with_moves(organization.agreements.all())
        .select_related("product", "customer", "previous__product", "successor__product")
        .prefetch_related(
            Prefetch("product__dimensions", dimensions),
            Prefetch("entitlements", Entitlement.objects.order_by("dimension_key", "valid_from")),
        )
        .order_by(is_over, "-created_at", "-pk")
    )


def _subscription(
    agreement: Agreement, timeline: Sequence[Entitlement], sums: Sums, *, now: datetime
) -> Subscription:
    dimensions = {dimension.key: dimension for dimension in agreement.product.dimensions.all()}
    successor: Agreement | None = getattr(agreement, "successor", None)
    goes_on = successor is not None and successor.status == Agreement.Status.ACTIVE
    held = _held(agreement, timeline)
    return Subscription(
        pk=agreement.pk,
        product=agreement.product.title,
        pricing=words.PRICING[agreement.product.pricing],
        status=agreement.status,
        status_label=words.STATUS[agreement.status],
        tone=words.TONE[agreement.status],
        masked_account=agreement.customer.masked,
        agreement_id=agreement.agreement_id,
        license_id=agreement.license_id,
        started_at=agreement.activated_at,
        term_ends_at=agreement.term_ends_at,
        auto_renews=agreement.auto_renews,
        ended_at=agreement.ended_at,
        why_ended=words.why_ended(agreement),
        metering_closes_at=agreement.metering_closes_at,
        free_trial=agreement.free_trial,
        trial_ends_at=agreement.trial_ends_at,
        is_contract=agreement.product.has_entitlements,
        is_over=agreement.status in _OVER,
        is_open_for_now=agreement.ended_at is not None and agreement.gives_access_at(now) and not goes_on,
        is_continued=agreement.is_continued,
        previous=_neighbour(agreement, agreement.previous),
        next=_neighbour(agreement, successor),
        entitlements=[_entitlement(agreement, row, dimensions, sums) for row in held],
        usage=_usage(agreement, held, dimensions, sums),
    )


def _neighbour(agreement: Agreement, other: Agreement | None) -> Neighbour | None:
    """None for a purchase that is somebody else's."""
    if other is None or other.organization_id != agreement.organization_id:
        return None
    return Neighbour(other.pk, other.product.title, other.activated_at, other.ended_at)


def _held(agreement: Agreement, timeline: Sequence[Entitlement]) -> list[Entitlement]:
    """What is in force; of an agreement that has ended, what was until then."""
    end = agreement.ended_at
    return [row for row in timeline if row.valid_to is None or (end is not None and row.valid_to >= end)]


def _entitlement(
    agreement: Agreement, row: Entitlement, dimensions: Mapping[str, Dimension], sums: Sums
) -> EntitlementLine:
    dimension = dimensions.get(row.dimension_key)
    drawing = estimates.drawing_on(row.dimension_key, dimensions)
    used = sum((sums.drawn[agreement.pk, each.pk].used for each in drawing), ZERO) if drawing else None
    return EntitlementLine(
        label=dimension.label if dimension else row.dimension_key,
        key=row.dimension_key,
        unit=dimension.unit if dimension else "",
        value=row.value,
        expires_at=row.expires_at,
        used=used,
        remaining=max(ZERO, row.quantity - used) if used is not None else None,
        beyond=max(ZERO, used - row.quantity) if used is not None else None,
        elsewhere=sum((sums.drawn[agreement.pk, each.pk].elsewhere for each in drawing), ZERO),
        is_monthly=any(each.allowance_period == Dimension.Period.MONTH for each in drawing),
    )


def _usage(
    agreement: Agreement, held: Sequence[Entitlement], dimensions: Mapping[str, Dimension], sums: Sums
) -> list[UsageLine]:
    covered = estimates.covered(agreement, held, dimensions, sums)
    return [
        UsageLine(
            dimension.pk,
            dimension.label,
            dimension.unit,
            figures := sums.figures[agreement.pk, dimension.pk],
            min(covered.get(dimension.pk, ZERO), figures.open),
        )
        for dimension in dimensions.values()
        if dimension.kind == Dimension.Kind.METERED
    ]

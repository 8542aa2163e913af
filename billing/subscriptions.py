"""What a buyer's administrators see of their purchases: the contract, and the figures AWS bills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Q, QuerySet, Sum

from accounts.models import Organization
from billing import gates
from billing.models import Agreement, Dimension, Entitlement, MeteringRecord, UsageEvent

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class EntitlementLine:
    label: str
    key: str
    unit: str
    value: int | float | bool | str
    expires_at: datetime | None
    used: Decimal | None
    remaining: Decimal | None
    beyond: Decimal | None = None  # used on top of it, and billed by use


@dataclass(frozen=True, slots=True)
class UsageLine:
    label: str
    unit: str
    recorded: Decimal
    included: Decimal
    billed: Decimal  # AWS has accepted it
    waiting: Decimal  # open, or on its way
    not_billed: Decimal


@dataclass(frozen=True, slots=True)
class RecordLine:
    hour: datetime
    label: str
    used: Decimal
    included: Decimal
    quantity: Decimal
    state_label: str


@dataclass(frozen=True, slots=True)
class Subscription:
    product: str
    pricing: str
    status: str
    status_label: str
    masked_account: str
    license_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    metering_closes_at: datetime | None
    free_trial: bool
    trial_ends_at: datetime | None  # None: AWS has not told
    is_open_for_now: bool  # it has ended, and access goes on for a while
    is_continued: bool
    entitlements: list[EntitlementLine]
    usage: list[UsageLine]
    recent: list[RecordLine]


def subscriptions_of(organization: Organization, *, now: datetime) -> list[Subscription]:
    bought = organization.agreements.select_related("product", "customer", "successor")
    agreements = bought.prefetch_related("product__dimensions")
    return [_subscription(agreement, now=now) for agreement in agreements[:50]]


def _subscription(agreement: Agreement, *, now: datetime) -> Subscription:
    dimensions = {dimension.key: dimension for dimension in agreement.product.dimensions.all()}
    recent = agreement.metering_records.select_related("dimension")[:24]
    return Subscription(
        product=agreement.product.title,
        pricing=agreement.product.get_pricing_display(),
        status=agreement.status,
        status_label=agreement.get_status_display(),
        masked_account=agreement.customer.masked,
        license_id=agreement.license_id,
        started_at=agreement.activated_at,
        ended_at=agreement.ended_at,
        metering_closes_at=agreement.metering_closes_at,
        free_trial=agreement.free_trial,
        trial_ends_at=agreement.trial_ends_at,
        is_open_for_now=agreement.ended_at is not None
        and agreement.gives_access_at(now)
        and not _goes_on(agreement),
        is_continued=agreement.is_continued,
        entitlements=[_entitlement(agreement, row, dimensions, now=now) for row in _held(agreement)],
        usage=[
            _usage(agreement, dimension)
            for dimension in dimensions.values()
            if dimension.kind == Dimension.Kind.METERED
        ],
        recent=[
            RecordLine(
                record.hour,
                record.dimension.label,
                record.used,
                record.included,
                record.quantity,
                record.get_state_display(),
            )
            for record in recent
        ],
    )


def _goes_on(agreement: Agreement) -> bool:
    """Whether the agreement that continues it is there."""
    successor: Agreement | None = getattr(agreement, "successor", None)
    return successor is not None and successor.status == Agreement.Status.ACTIVE


def _held(agreement: Agreement) -> QuerySet[Entitlement]:
    """What is in force; of an agreement that has ended, what was until then."""
    last = Q(valid_to=None)
    if agreement.ended_at is not None:
        last |= Q(valid_to__gte=agreement.ended_at)
    return agreement.entitlements.filter(last)


def _entitlement(
    agreement: Agreement, row: Entitlement, dimensions: dict[str, Dimension], *, now: datetime
) -> EntitlementLine:
    dimension = dimensions.get(row.dimension_key)
    is_drawn_on = dimension is not None and any(
        other.included_by_id == dimension.pk for other in dimensions.values()
    )
    used = gates.drawn_from(row.dimension_key, [agreement.pk], now=now) if is_drawn_on else None
    return EntitlementLine(
        label=dimension.label if dimension else row.dimension_key,
        key=row.dimension_key,
        unit=dimension.unit if dimension else "",
        value=row.value,
        expires_at=row.expires_at,
        used=used,
        remaining=max(_ZERO, row.quantity - used) if used is not None else None,
        beyond=max(_ZERO, used - row.quantity) if used is not None else None,
    )


def _usage(agreement: Agreement, dimension: Dimension) -> UsageLine:
    billable = Q(disposition=UsageEvent.Disposition.BILLABLE)
    events = agreement.usage_events.filter(dimension=dimension).aggregate(
        recorded=Sum("quantity"), open=Sum("quantity", filter=billable & Q(metering_record=None)),
        never=Sum("quantity", filter=~billable),
    )  # fmt: skip
    state = MeteringRecord.State
    # A void record's usage is back among the events.
    records = (
        agreement.metering_records.filter(dimension=dimension)
        .exclude(state=state.VOID)
        .aggregate(
            included=Sum("included"),
            accepted=Sum("quantity", filter=Q(state=state.ACCEPTED)),
            sent=Sum("quantity", filter=Q(state__in=MeteringRecord.SENDABLE)),
            other=Sum("quantity", filter=~Q(state__in=[*MeteringRecord.SENDABLE, state.ACCEPTED])),
        )
    )
    return UsageLine(
        label=dimension.label,
        unit=dimension.unit,
        recorded=events["recorded"] or _ZERO,
        included=records["included"] or _ZERO,
        billed=records["accepted"] or _ZERO,
        waiting=(events["open"] or _ZERO) + (records["sent"] or _ZERO),
        not_billed=(events["never"] or _ZERO) + (records["other"] or _ZERO),
    )

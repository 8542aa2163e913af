"""What our own rows prove of AWS's test path: purchase, arrival, entitlement, usage, end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.models import (
    Agreement,
    Entitlement,
    MarketplaceEvent,
    MeteringRecord,
    Product,
    Registration,
    SubmissionLine,
)

_ACTIVATING = ("License Updated", "subscribe-success", "Purchase Agreement Created")
_ENDING = ("Purchase Agreement Ended", "License Deprovisioned", "unsubscribe-pending", "unsubscribe-success")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the test path; ``proof`` is empty while nothing proves it."""

    text: str
    proof: str
    todo: str


def of(product: Product) -> list[Step]:
    agreements = Agreement.objects.filter(product=product)
    steps = [
        Step(
            "A test account has bought it, and AWS told us",
            _event(product, _ACTIVATING),
            "Subscribe with an allow-listed account: a seller cannot buy its own product.",
        ),
        Step(
            "The buyer's browser arrived, and ResolveCustomer named the buyer",
            _arrival(product),
            'Press "Set up your account" at AWS.',
        ),
        Step(
            "The buyer registered, and the purchase belongs to a workspace",
            _at(
                agreements.exclude(claimed_at=None)
                .order_by("claimed_at")
                .values_list("claimed_at", flat=True)
            ),
            "Create an account on the welcome page, or sign in, and attach the purchase.",
        ),
    ]
    if product.has_entitlements:
        steps.append(
            Step(
                "GetEntitlements was read, and what was bought is granted",
                _entitlement(product),
                "Wait for the reading after activation, or use the admin's button on the agreement.",
            )
        )
    if product.pricing != Product.Pricing.CONTRACT:
        steps.append(
            Step(
                "BatchMeterUsage was accepted",
                _metered(product),
                "Use the product from the test account, and wait for the hour to close.",
            )
        )
    steps += [
        Step(
            "The buyer unsubscribed, and access ended",
            _event(product, _ENDING),
            "Cancel the test subscription at AWS, and see access end.",
        ),
        Step(
            "A failed subscription gave no access",
            _failed(product),
            "With SNS, AWS sends subscribe-fail. On EventBridge no event tells: show a purchase that stayed"
            " pending.",
        ),
    ]
    return steps


def running_tests(product: Product) -> int:
    """Subscriptions that bill by use, and are to be cancelled before the listing goes public."""
    return Agreement.objects.filter(product=product, status=Agreement.Status.ACTIVE).count()


def _event(product: Product, kinds: Sequence[str]) -> str:
    events = MarketplaceEvent.objects.filter(
        agreement__product=product,
        state=MarketplaceEvent.State.APPLIED,
        channel__in=[MarketplaceEvent.Channel.EVENTBRIDGE, MarketplaceEvent.Channel.SNS],
    ).order_by("occurred_at")
    # The first kind that came is the one that says most.
    for kind in kinds:
        event = events.filter(kind__startswith=kind).first()
        if event is not None:
            return f"{event.kind} of {_instant(event.occurred_at)}, event {event.source_id}"
    return ""


def _arrival(product: Product) -> str:
    first = Registration.objects.filter(agreement__product=product).order_by("created_at").first()
    return f"POST of {_instant(first.created_at)}" if first else ""


def _entitlement(product: Product) -> str:
    row = (
        Entitlement.objects.filter(agreement__product=product)
        .exclude(agreement__entitlements_read_at=None)
        .select_related("agreement")
        .order_by("agreement__entitlements_read_at", "pk")
        .first()
    )
    if row is None:
        return ""
    return f"{row.dimension_key} = {row.value}, last read {_instant(row.agreement.entitlements_read_at)}"


def _metered(product: Product) -> str:
    line = (
        SubmissionLine.objects.filter(
            record__agreement__product=product,
            record__state=MeteringRecord.State.ACCEPTED,
            status="Success",
        )
        .select_related("submission", "record__dimension")
        .order_by("pk")
        .first()
    )
    if line is None:
        return ""
    sent = line.submission
    return (
        f"{line.record.quantity.normalize():f} {line.record.dimension.key} at {_instant(sent.started_at)},"
        f" request {sent.aws_request_id}, MeteringRecordId {line.aws_record_id}"
    )


def _failed(product: Product) -> str:
    if not Agreement.objects.filter(product=product, status=Agreement.Status.FAILED).exists():
        return ""
    return _event(product, ("subscribe-fail",)) or "a purchase is marked as failed"


def _at(instants: object) -> str:
    first = next(iter(instants), None)  # type: ignore[call-overload]  # of a values_list
    return _instant(first) if first else ""


def _instant(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"

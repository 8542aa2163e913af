"""The only way usage enters or leaves: ``record`` and ``cancel``.

Recording is one insert and never talks to AWS. It is idempotent by (organization, key): give every use a key
of your own, and a retried request counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Organization
from billing import audit, customers
from billing.aws import limits, window
from billing.models import Agreement, Dimension, QuantityField, UsageEvent

_QUANTITY = QuantityField()
_FUTURE_TOLERANCE = timedelta(minutes=5)  # clocks differ between the machines that record

Disposition = UsageEvent.Disposition


class UsageRefused(ValueError):
    """The usage is malformed; the message says what to change. Nothing was stored."""


class AmbiguousAgreement(UsageRefused):
    """Several agreements could pay for it: pass ``agreement``."""


class KeyReused(UsageRefused):
    """The key already names another use."""


class AlreadyMetered(Exception):
    """The use is in a closed hour and may have been billed: only AWS can give the money back."""


def record(
    organization: Organization,
    dimension: str,
    quantity: Decimal | int | str,
    *,
    key: str,
    tags: Mapping[str, str] | None = None,
    occurred_at: datetime | None = None,
    agreement: Agreement | None = None,
    now: datetime | None = None,
) -> UsageEvent:
    """Record that ``organization`` used ``quantity`` of the metered ``dimension`` (its AWS API name).

    The same key with the same content returns the first event, whatever agreement it went to. Usage that is
    well-formed but cannot be billed (too late, outside the agreement) is stored with that ``disposition``:
    product code does not break because a buyer cancelled.

    ``tags`` become the buyer's cost allocation tags (at most 5). Raises UsageRefused.
    """
    now = now or timezone.now()
    amount = _quantity(quantity)
    labels = _tags(tags or {})
    _check_key(key)
    if occurred_at is not None:
        _check_instant(occurred_at, now=now)
    known = _known(organization, key)
    if known is not None:
        return _same(known, dimension, amount, labels, occurred_at)
    instant = occurred_at or now
    paying = _paying_agreement(organization, dimension, instant, agreement)
    event = UsageEvent(
        organization=organization,
        agreement=paying,
        dimension=_dimension(paying, dimension),
        quantity=amount,
        occurred_at=instant,
        recorded_at=now,
        key=key,
        tags=labels,
        disposition=_disposition(paying, instant, now=now),
    )
    try:
        with transaction.atomic():
            event.save(force_insert=True)
    except IntegrityError:
        known = _known(organization, key)
        if known is None:
            raise
        return _same(known, dimension, amount, labels, occurred_at)
    return event


def agreements_with(organization: Organization, dimension: str) -> list[Agreement]:
    """Every agreement of ``organization`` whose product meters ``dimension``, the newest first."""
    return list(
        organization.agreements.select_related("product").filter(
            product__dimensions__key=dimension, product__dimensions__kind=Dimension.Kind.METERED
        )
    )


@transaction.atomic
def cancel(organization: Organization, key: str, *, reason: str, now: datetime | None = None) -> UsageEvent:
    """Take back a use whose hour is still open. Cancelling twice changes nothing.

    Raises UsageRefused for an unknown key, AlreadyMetered once the hour is closed.
    """
    known = _known(organization, key)
    if known is None:
        raise UsageRefused(f"There is no usage with the key {key!r}.")
    # The agreement's lock is the one that closing holds: the hour is either closed before this or after.
    customers.lock(known.agreement_id)
    event = UsageEvent.objects.get(pk=known.pk)
    if event.metering_record_id is not None:
        raise AlreadyMetered(
            "Its hour is closed and may be billed. Refund it in the AWS Marketplace Management Portal "
            "(Billing → refund request)."
        )
    if event.disposition != Disposition.CANCELLED:
        event.disposition = Disposition.CANCELLED
        event.save(update_fields=["disposition"])
        audit.record(
            event.agreement,
            "usage_cancelled",
            by="product",
            at=now or timezone.now(),
            event=event.pk,
            reason=reason,
        )
    return event


def _known(organization: Organization, key: str) -> UsageEvent | None:
    return UsageEvent.objects.select_related("dimension").filter(organization=organization, key=key).first()


def _same(
    known: UsageEvent, dimension: str, quantity: Decimal, tags: dict[str, str], occurred_at: datetime | None
) -> UsageEvent:
    wanted = (dimension, quantity, tags, occurred_at or known.occurred_at)
    if (known.dimension.key, known.quantity, known.tags, known.occurred_at) != wanted:
        raise KeyReused(
            f"The key {known.key!r} was used before with other content. Give every use its own key."
        )
    return known


def _quantity(quantity: Decimal | int | str) -> Decimal:
    if isinstance(quantity, float):
        raise UsageRefused(f"quantity: {quantity} is a float and has lost digits already. Send it as text.")
    try:
        amount = None if isinstance(quantity, bool) else _QUANTITY.to_python(quantity)
    except ValidationError as error:
        raise UsageRefused(f"quantity: {' '.join(error.messages)}") from error
    if amount is None:
        raise UsageRefused("quantity: give a Decimal, an int or text.")
    if not 0 <= amount <= limits.MAX_QUANTITY:
        raise UsageRefused(f"quantity: {amount} is not between 0 and {limits.MAX_QUANTITY}.")
    return amount


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > limits.MAX_TAGS:
        raise UsageRefused(f"tags: AWS takes at most {limits.MAX_TAGS}, not {len(tags)}.")
    for name, value in tags.items():
        for what, text, longest in (
            ("key", name, limits.MAX_TAG_KEY_LENGTH),
            ("value", value, limits.MAX_TAG_VALUE_LENGTH),
        ):
            if not isinstance(text, str) or len(text) > longest or not limits.TAG_TEXT.fullmatch(text):
                raise UsageRefused(
                    f"tags: the {what} {text!r} must be 1 to {longest} letters, digits, spaces or +-=._:/@"
                )
    return dict(tags)


def _check_key(key: str) -> None:
    longest = UsageEvent._meta.get_field("key").max_length
    if not isinstance(key, str) or not 0 < len(key) <= (longest or 0) or "\x00" in key:
        raise UsageRefused(f"key: give 1 to {longest} characters that name this use.")


def _check_instant(occurred_at: datetime, *, now: datetime) -> None:
    if not isinstance(occurred_at, datetime):
        raise UsageRefused("occurred_at: give a datetime with a time zone.")
    if timezone.is_naive(occurred_at):
        raise UsageRefused("occurred_at: has no time zone. Use timezone.now(), or give it UTC.")
    if occurred_at > now + _FUTURE_TOLERANCE:
        raise UsageRefused(f"occurred_at: {occurred_at.isoformat()} is in the future.")


def _paying_agreement(
    organization: Organization, dimension: str, instant: datetime, given: Agreement | None
) -> Agreement:
    if given is not None:
        # Read anew: the caller may have held it since before it was activated, or ended.
        fresh = organization.agreements.select_related("product").filter(pk=given.pk).first()
        if fresh is None:
            raise UsageRefused("agreement: belongs to another organization.")
        return fresh
    candidates = agreements_with(organization, dimension)
    if not candidates:
        raise UsageRefused(
            f"dimension: no product that {organization} bought has the metered dimension {dimension!r}."
        )
    active = [agreement for agreement in candidates if agreement.is_metered_at(instant)]
    if len(active) > 1:
        raise AmbiguousAgreement(
            f"agreement: {len(active)} active agreements have the dimension {dimension!r}; say which one."
        )
    # None was active then: the newest keeps the usage, outside of its time.
    return (active or candidates)[0]


def _dimension(agreement: Agreement, key: str) -> Dimension:
    found = agreement.product.dimensions.filter(key=key).first()
    if found is None:
        raise UsageRefused(
            f"dimension: {agreement.product} has no dimension {key!r}. Names are case-sensitive."
        )
    if found.kind != Dimension.Kind.METERED:
        raise UsageRefused(f"dimension: {key!r} is bought ahead, not metered.")
    return found


def _disposition(agreement: Agreement, instant: datetime, *, now: datetime) -> Disposition:
    if not agreement.is_metered_at(instant):
        return Disposition.OUTSIDE_AGREEMENT
    if now >= window.accepted_until(window.hour_of(instant), closes_at=agreement.metering_closes_at):
        return Disposition.TOO_LATE
    return Disposition.BILLABLE

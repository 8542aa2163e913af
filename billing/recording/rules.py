"""What a well-formed use is: every bound that AWS or the ledger sets, and the words for what breaks one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.utils import timezone

from billing.aws import limits
from billing.models import QuantityField, UsageEvent

_QUANTITY = QuantityField()
SINCE = datetime(2016, 1, 1, tzinfo=UTC)  # metering did not exist before; PostgreSQL's years have other ends
_FUTURE_TOLERANCE = timedelta(minutes=5)  # clocks differ between the machines that record
MAX_KEY_LENGTH = UsageEvent._meta.get_field("key").max_length or 0


class UsageRefused(ValueError):
    """The usage is malformed; the message says what to change. Nothing was stored."""


class AmbiguousAgreement(UsageRefused):
    """Several agreements could pay for it: pass ``agreement``."""


class KeyReused(UsageRefused):
    """The key already names another use."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The key {key!r} was used before with other content. Give every use its own key.")


def quantity_of(value: object) -> Decimal:
    if isinstance(value, float):
        raise UsageRefused(f"quantity: {value} is a float and has lost digits already. Send it as text.")
    try:
        amount = None if isinstance(value, bool) else _QUANTITY.to_python(value)
    except ValidationError as error:
        raise UsageRefused(f"quantity: {' '.join(error.messages)}") from error
    if amount is None:
        raise UsageRefused("quantity: give a Decimal, an int or text.")
    if not 0 <= amount <= limits.MAX_QUANTITY:
        raise UsageRefused(f"quantity: {amount} is not between 0 and {limits.MAX_QUANTITY}.")
    return amount


def tags_of(tags: object) -> dict[str, str]:
    if not isinstance(tags, Mapping):
        raise UsageRefused("tags: give a mapping of names to values.")
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


def check_key(key: object) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not _is_storable(key):
        raise UsageRefused(f"key: give 1 to {MAX_KEY_LENGTH} characters that name this use.")


def check_dimension(dimension: object) -> None:
    if (
        not isinstance(dimension, str)
        or not 0 < len(dimension) <= limits.MAX_DIMENSION_LENGTH
        or not _is_storable(dimension)
    ):
        raise UsageRefused("dimension: give the API name of a metered dimension.")


def check_instant(occurred_at: object, *, now: datetime) -> None:
    if not isinstance(occurred_at, datetime):
        raise UsageRefused("occurred_at: give a datetime with a time zone.")
    if timezone.is_naive(occurred_at):
        raise UsageRefused("occurred_at: has no time zone. Use timezone.now(), or give it UTC.")
    if occurred_at > now + _FUTURE_TOLERANCE:
        raise UsageRefused(f"occurred_at: {occurred_at.isoformat()} is in the future.")
    if occurred_at < SINCE:
        raise UsageRefused(f"occurred_at: {occurred_at.isoformat()} is before there was any usage.")


def _is_storable(text: str) -> bool:
    """Not so: NUL, which PostgreSQL refuses, and half a surrogate pair, which has no UTF-8."""
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text))

"""AWS's notifications as one typed value, whichever way they came.

EventBridge events (Seller Guide "Amazon EventBridge events"), and SNS messages ("Amazon SNS notifications for
SaaS products") in SQS: enveloped, raw, or in a hand-made envelope whose Message is an object. Parsing is
tolerant of the documented oddities: stray spaces, string booleans, older key names, role suffixes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.utils.dateparse import parse_datetime

from billing.aws.types import QueueMessage
from billing.aws.words import storable


class Type(StrEnum):
    """What happened, in the order that breaks a tie between events of one instant."""

    CREATED = "created"
    SUBSCRIBED = "subscribed"
    LICENSE_UPDATED = "license_updated"
    ENTITLED = "entitled"
    ENTITLEMENT_UPDATED = "entitlement_updated"
    AMENDED = "amended"
    DESCRIBED = "described"
    SUBSCRIBE_FAILED = "subscribe_failed"
    ADVISORY_ISSUED = "advisory_issued"
    ADVISORY_RESOLVED = "advisory_resolved"
    VET_FAILED = "vet_failed"
    TRIAL_OVER = "trial_over"
    ENDED = "ended"
    UNSUBSCRIBE_PENDING = "unsubscribe_pending"
    DEPROVISIONED = "deprovisioned"
    ENTITLEMENTS_GONE = "entitlements_gone"
    UNSUBSCRIBED = "unsubscribed"
    WINDOW_OVER = "window_over"
    NOTICE = "notice"
    OTHER = "other"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(Type)}

# EventBridge detail-types without their " - Manufacturer" or " - Proposer".
_DETAIL_TYPES = {
    "Purchase Agreement Created": Type.CREATED,
    "Purchase Agreement Amended": Type.AMENDED,
    "Purchase Agreement Ended": Type.ENDED,
    "License Updated": Type.LICENSE_UPDATED,
    "License Deprovisioned": Type.DEPROVISIONED,
    "Purchase Agreement Advisory Issued": Type.ADVISORY_ISSUED,
    "Purchase Agreement Advisory Resolved": Type.ADVISORY_RESOLVED,
    "Vet Failed": Type.VET_FAILED,
}
# Known, and shown in an agreement's history; they change nothing of its state.
_NOTICES = (
    "Purchase Agreement Ending",
    "Purchase Agreement Renewal",
    "Purchase Agreement Billing Adjustment",
    "Agreement Cancellation Request",
    "Spend Threshold Reached",
    "Vet Succeeded",
)

_ACTIONS = {
    "subscribe-success": Type.SUBSCRIBED,
    "subscribe-fail": Type.SUBSCRIBE_FAILED,
    "unsubscribe-pending": Type.UNSUBSCRIBE_PENDING,
    "unsubscribe-success": Type.UNSUBSCRIBED,
    "entitlement-updated": Type.ENTITLEMENT_UPDATED,
}


class Unparsable(Exception):
    """The message is neither an EventBridge event nor an SNS notification of AWS Marketplace."""


@dataclass(frozen=True, slots=True)
class Notification:
    channel: str  # of MarketplaceEvent.Channel
    source_id: str  # the same notification delivered twice has the same one
    type: Type
    name: str  # AWS's own word for it
    occurred_at: datetime
    agreement_id: str | None = None
    license_arn: str | None = None
    product_code: str | None = None
    product_id: str | None = None
    aws_account_id: str | None = None
    customer_identifier: str | None = None
    offer_id: str | None = None
    agreement_status: str | None = None
    intent: str | None = None
    previous_agreement_id: str | None = None
    initial_agreement_id: str | None = None
    auto_renews: bool | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    trial_ends_at: datetime | None = None
    free_trial: bool = False

    @property
    def order(self) -> tuple[datetime, int, str]:
        return (self.occurred_at, self.type.rank, self.source_id)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` is the way back."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_json(cls, payload: dict[str, Any]) -> Notification:
        times: dict[str, Any] = {
            name: datetime.fromisoformat(payload[name])
            for name in ("occurred_at", "starts_at", "ends_at", "trial_ends_at")
            if name in payload
        }
        return cls(**{**payload, "type": Type(payload["type"]), **times})


def parse(message: QueueMessage) -> Notification:
    """The notification in an SQS message. Raises Unparsable."""
    try:
        body = json.loads(message.body)
    except (ValueError, RecursionError) as error:
        raise Unparsable("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Unparsable("The body is not a JSON object.")
    try:
        if "detail-type" in body:
            return _from_eventbridge(body)
        return _from_sns(body, message)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise Unparsable(f"A part is missing or malformed: {error!r}") from error


def _from_eventbridge(body: dict[str, Any]) -> Notification:
    detail = body["detail"]
    agreement = detail.get("agreement") or {}
    return Notification(
        channel="eventbridge",
        source_id=_required(body["id"]),
        type=_type_of(body["detail-type"]),
        name=_required(body["detail-type"]),
        occurred_at=_time(body["time"]),
        agreement_id=_text(agreement.get("id")),
        license_arn=_text((detail.get("license") or {}).get("arn")),
        product_code=_text((detail.get("product") or {}).get("code")),
        product_id=_text((detail.get("product") or {}).get("id")),
        aws_account_id=_text((detail.get("acceptor") or {}).get("accountId")),
        offer_id=_text((detail.get("offer") or {}).get("id")),
        agreement_status=_upper(agreement.get("status")),
        intent=_upper(agreement.get("intent")),
        previous_agreement_id=_text(agreement.get("previousAgreementId")),
        auto_renews=_boolean(agreement.get("autoRenewalEnabled")),
        starts_at=_optional_time(agreement.get("startTime")),
        ends_at=_optional_time(agreement.get("endTime")),
    )


def _from_sns(body: dict[str, Any], message: QueueMessage) -> Notification:
    enveloped = "Message" in body
    inner = body["Message"] if enveloped else body
    if isinstance(inner, str):
        inner = json.loads(inner)
    # Raw delivery has no id or time of its own: SQS's are the nearest thing.
    source_id = _text(body.get("MessageId")) if enveloped else None
    occurred_at = _optional_time(body.get("Timestamp")) if enveloped else None
    occurred_at = occurred_at or message.sent_at
    if occurred_at is None:
        raise ValueError("no time")
    action = _required(inner["action"]).lower()
    return Notification(
        channel="sns",
        source_id=source_id or message.message_id,
        type=_ACTIONS.get(action, Type.OTHER),
        name=action,
        occurred_at=occurred_at,
        product_code=_text(inner.get("product-code") or inner.get("ProductCode")),
        customer_identifier=_text(inner.get("customer-identifier") or inner.get("CustomerIdentifier")),
        offer_id=_text(inner.get("offer-identifier")),
        free_trial=_boolean(inner.get("isFreeTrialTermPresent")) is True,
    )


def _type_of(detail_type: str) -> Type:
    """AWS puts at its end whose copy it is: of the manufacturer, or of the proposer."""
    stem = (detail_type.rpartition(" - ")[0] or detail_type).strip()
    if stem.startswith(_NOTICES):
        return Type.NOTICE
    # As the spend events' schema was not seen: with or without the words before.
    return _DETAIL_TYPES.get(stem) or _DETAIL_TYPES.get(stem.removeprefix("Purchase Agreement "), Type.OTHER)


def _text(value: Any) -> str | None:
    """What a column can hold of it."""
    return None if value is None else storable(str(value)).strip() or None


def _upper(value: Any) -> str | None:
    text = _text(value)
    return text.upper() if text else None


def _boolean(value: Any) -> bool | None:
    """AWS sends "true" and " True" as well as true."""
    return {"true": True, "false": False}.get(str(value).strip().lower())


def _required(value: Any) -> str:
    text = _text(value)
    if text is None:
        raise ValueError("a part is empty")
    return text


def _time(value: str) -> datetime:
    instant = parse_datetime(value.strip())
    if instant is None:
        raise ValueError(f"not a time: {value!r}")
    try:
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"not a time of this calendar: {value!r}") from error


def _optional_time(value: Any) -> datetime | None:
    # Pay-as-you-go agreements "end" on 9999-01-01.
    if not value or str(value).strip().startswith("9999"):
        return None
    return _time(str(value))

"""SNS notifications of legacy purchases, as they lie in a queue (facts page §4.1).

Scheduled in their envelope; the switches decide at delivery whether they arrive so.
"""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from billing.simulator.records import Agreement
from billing.simulator.state import State
from billing.simulator.switches import Switches

SUBSCRIBE_SUCCESS = "subscribe-success"
SUBSCRIBE_FAIL = "subscribe-fail"
UNSUBSCRIBE_PENDING = "unsubscribe-pending"
UNSUBSCRIBE_SUCCESS = "unsubscribe-success"
ENTITLEMENT_UPDATED = "entitlement-updated"
TOPIC_OWNER = "287250355862"
_OLD_KEYS = {"customer-identifier": "CustomerIdentifier", "product-code": "ProductCode"}


def notification(state: State, agreement: Agreement, action: str, *, due: datetime) -> None:
    message = {
        "action": action,
        "customer-identifier": agreement.customer_identifier,
        "product-code": agreement.product_code,
    }
    if action != ENTITLEMENT_UPDATED:
        message["isFreeTrialTermPresent"] = "true" if agreement.trial_ends_at else "false"
    if action in (SUBSCRIBE_SUCCESS, SUBSCRIBE_FAIL):
        message["offer-identifier"] = agreement.offer_id
    body = json.dumps(_envelope(agreement.product_code, action, message, due=due))
    state.schedule(agreement.agreement_id, action, body, due=due, channel="sns")


def as_delivered(body: str, switches: Switches) -> str:
    """The message in the form the switches ask for: raw delivery leaves no trace of SNS, not even its id."""
    envelope: dict[str, Any] = json.loads(body)
    message = json.loads(envelope["Message"])
    if switches.sns_old_keys:
        message = {_OLD_KEYS.get(key, key): f" {value} " for key, value in message.items()}
    if switches.sns_body == "raw":
        return json.dumps(message)
    return json.dumps(
        {**envelope, "Message": message if switches.sns_body == "object" else json.dumps(message)}
    )


def _envelope(product_code: str, action: str, message: dict[str, Any], *, due: datetime) -> dict[str, str]:
    topic = "entitlement" if action == ENTITLEMENT_UPDATED else "subscription"
    arn = f"arn:aws:sns:us-east-1:{TOPIC_OWNER}:aws-mp-{topic}-notification-{product_code}"
    host = "https://sns.us-east-1.amazonaws.com"
    moment = due.astimezone(UTC)
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": arn,
        "Message": json.dumps(message),
        "Timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
        "SignatureVersion": "1",
        # Nothing can sign as AWS here; a queue consumer does not check it, only HTTP endpoints do.
        "Signature": base64.b64encode(b"simulated").decode(),
        "SigningCertURL": f"{host}/SimpleNotificationService-00000000000000000000000000000000.pem",
        "UnsubscribeURL": f"{host}/?Action=Unsubscribe&SubscriptionArn={arn}:{uuid.UUID(int=0)}",
    }

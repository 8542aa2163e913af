"""The messages AWS sends a seller: EventBridge events (facts page §4.2) and enveloped SNS messages (§4.1).

License purchases speak EventBridge, legacy ones SNS. A direct offer gets the Proposer copy of agreement
events and the Manufacturer copy of license events.
"""

from __future__ import annotations

import base64
import json
import uuid
from datetime import datetime
from typing import Any

from billing.simulator.catalog import Product
from billing.simulator.clock import iso
from billing.simulator.records import SELLER_ACCOUNT_ID, Agreement
from billing.simulator.state import State

CREATED = "Purchase Agreement Created - Proposer"
AMENDED = "Purchase Agreement Amended - Proposer"
ENDED = "Purchase Agreement Ended - Proposer"
LICENSE_UPDATED = "License Updated - Manufacturer"
LICENSE_DEPROVISIONED = "License Deprovisioned - Manufacturer"
PAY_AS_YOU_GO_END = "9999-01-01T00:00:00Z"

SUBSCRIBE_SUCCESS = "subscribe-success"
UNSUBSCRIBE_PENDING = "unsubscribe-pending"
UNSUBSCRIBE_SUCCESS = "unsubscribe-success"
ENTITLEMENT_UPDATED = "entitlement-updated"
SNS_OWNER = "287250355862"


def agreement_event(state: State, agreement: Agreement, kind: str, *, due: datetime, **facts: Any) -> None:
    """Created, Amended or Ended: agreement events carry neither product nor license."""
    detail: dict[str, Any] = {"agreement": {"id": agreement.agreement_id, **facts}}
    if kind != ENDED:
        detail["offer"] = {"id": agreement.offer_id}
        detail["resaleAuthorization"] = {"id": None}
    _event_bridge(state, agreement, kind, detail, due=due)


def term(agreement: Agreement) -> dict[str, str]:
    """The agreement facts of Created and Amended; without an end date AWS prints the year 9999."""
    return {
        "status": "ACTIVE",
        "acceptanceTime": iso(agreement.accepted_at),
        "startTime": iso(agreement.starts_at),
        "endTime": iso(agreement.ends_at) if agreement.ends_at else PAY_AS_YOU_GO_END,
    }


def license_event(state: State, agreement: Agreement, kind: str, *, due: datetime) -> None:
    product = state.product(agreement.product_code)
    detail = {
        "agreement": {"id": agreement.agreement_id},
        "offer": {"id": agreement.offer_id},
        "product": {"id": product.product_id, "code": product.code},
        "license": {"arn": agreement.license_arn},
    }
    _event_bridge(state, agreement, kind, detail, due=due)


def _event_bridge(
    state: State, agreement: Agreement, kind: str, detail: dict[str, Any], *, due: datetime
) -> None:
    body = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.agreement-marketplace",
        "account": SELLER_ACCOUNT_ID,
        "time": iso(due),
        "region": "us-east-1",
        "resources": [f"arn:aws:aws-marketplace::aws:agreement:{agreement.agreement_id}"],
        "detail": {
            "requestId": str(uuid.uuid4()),
            "catalog": "AWSMarketplace",
            **detail,
            "acceptor": {"accountId": agreement.aws_account_id},
            "proposer": {"accountId": SELLER_ACCOUNT_ID},
        },
    }
    state.schedule(agreement.agreement_id, kind, json.dumps(body), due=due)


def notification(state: State, agreement: Agreement, action: str, *, due: datetime) -> None:
    """A legacy purchase's SNS message, enveloped as SNS puts it into a queue."""
    product = state.product(agreement.product_code)
    message = {
        "action": action,
        "customer-identifier": agreement.customer_identifier,
        "product-code": product.code,
    }
    if action != ENTITLEMENT_UPDATED:
        message["isFreeTrialTermPresent"] = "true" if agreement.trial_ends_at else "false"
    if action == SUBSCRIBE_SUCCESS:
        message["offer-identifier"] = agreement.offer_id
    body = json.dumps(_envelope(product, action, message, due=due))
    state.schedule(agreement.agreement_id, action, body, due=due, channel="sns")


def _envelope(product: Product, action: str, message: dict[str, Any], *, due: datetime) -> dict[str, str]:
    topic = "entitlement" if action == ENTITLEMENT_UPDATED else "subscription"
    arn = f"arn:aws:sns:us-east-1:{SNS_OWNER}:aws-mp-{topic}-notification-{product.code}"
    host = "https://sns.us-east-1.amazonaws.com"
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": arn,
        "Message": json.dumps(message),
        "Timestamp": iso(due).replace("Z", ".000Z"),
        "SignatureVersion": "1",
        # Nothing can sign as AWS here; a queue consumer does not check it, only HTTP endpoints do.
        "Signature": base64.b64encode(b"simulated").decode(),
        "SigningCertURL": f"{host}/SimpleNotificationService-00000000000000000000000000000000.pem",
        "UnsubscribeURL": f"{host}/?Action=Unsubscribe&SubscriptionArn={arn}:{uuid.UUID(int=0)}",
    }

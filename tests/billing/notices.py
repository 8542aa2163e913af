"""AWS's notifications, as bodies of SQS messages."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from typing import Any

from billing.aws.types import QueueMessage

_numbers = itertools.count(1)

ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def eventbridge(
    detail_type: str,
    at: datetime,
    *,
    agreement_id: str | None = "agmt-1",
    arn: str | None = ARN,
    product: str | None = "reports-flex",
    account: str = "222222222222",
    source_id: str | None = None,
    status: str | None = None,
    facts: dict[str, Any] | None = None,
    **envelope: Any,
) -> str:
    """An event as EventBridge puts it into a queue. Agreement events carry neither product nor license.

    ``facts`` are what it says of the agreement beyond its status, by AWS's own names.
    """
    of_license = detail_type.startswith("License")
    detail: dict[str, Any] = {
        "requestId": "r", "catalog": "AWSMarketplace",
        "agreement": {"id": agreement_id, **({"status": status} if status else {}), **(facts or {})},
        "acceptor": {"accountId": account}, "proposer": {"accountId": "111111111111"},
    }  # fmt: skip
    if of_license:
        detail |= {
            "license": {"arn": arn},
            "product": {"id": "prod-x", "code": product},
            "offer": {"id": "offer-1"},
        }
    return json.dumps(
        {
            "version": "0", "id": source_id or f"event-{next(_numbers)}", "detail-type": detail_type,
            "source": "aws.agreement-marketplace", "account": "111111111111", "time": iso(at),
            "region": "us-east-1", "resources": [], "detail": detail, **envelope,
        }
    )  # fmt: skip


def created(at: datetime, **options: Any) -> str:
    return eventbridge("Purchase Agreement Created - Proposer", at, **options)


def license_updated(at: datetime, **options: Any) -> str:
    return eventbridge("License Updated - Manufacturer", at, **options)


def ended(at: datetime, *, status: str = "CANCELLED", **options: Any) -> str:
    return eventbridge("Purchase Agreement Ended - Proposer", at, status=status, **options)


def deprovisioned(at: datetime, **options: Any) -> str:
    return eventbridge("License Deprovisioned - Manufacturer", at, **options)


def sns(
    action: str, at: datetime, *, customer: str = "cust1", product: str = "reports-classic", **message: Any
) -> str:
    """An SNS message in its envelope."""
    inner = {"action": action, "customer-identifier": customer, "product-code": product, **message}
    return json.dumps(
        {
            "Type": "Notification", "MessageId": f"sns-{next(_numbers)}", "TopicArn": "arn:aws:sns:x",
            "Message": json.dumps(inner), "Timestamp": iso(at).replace("Z", ".000Z"),
        }
    )  # fmt: skip


def message(body: str, *, sent_at: datetime | None = None, message_id: str | None = None) -> QueueMessage:
    number = next(_numbers)
    return QueueMessage("queue", message_id or f"message-{number}", f"receipt-{number}", body, sent_at)

"""A usage record's exact form on the wire.

What AWS receives is built here and nowhere else, from values that were frozen when the hour closed. License
records carry LicenseArn and account and no product code; legacy records carry the batch's ProductCode and one
customer id. Mixing the two bills a customer twice (botocore: BatchMeterUsageRequest).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from typing import Any

from billing.aws.types import Allocation, UsageLine


def quantity_text(quantity: Decimal) -> str:
    """QuantityAsDecimal: digits, at most six decimals, never an exponent, no trailing zeros."""
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def allocations_json(parts: Iterable[tuple[Decimal, Mapping[str, str]]]) -> str:
    """The text in which a record's allocations are frozen; '' for none."""
    allocations = [{"quantity": quantity_text(quantity), "tags": dict(tags)} for quantity, tags in parts]
    return json.dumps(allocations, sort_keys=True, separators=(",", ":")) if allocations else ""


def allocations_from_json(text: str) -> tuple[Allocation, ...]:
    return tuple(
        Allocation(part["quantity"], tuple(sorted(part["tags"].items()))) for part in json.loads(text or "[]")
    )


def batch_request(lines: Sequence[UsageLine]) -> dict[str, Any]:
    """BatchMeterUsage's parameters. All lines must be of one product and one identity."""
    product_codes = {line.product_code for line in lines}
    if len(product_codes) != 1:
        raise ValueError("A batch is of one product and one identity.")
    (product_code,) = product_codes
    request: dict[str, Any] = {"UsageRecords": [_record(line) for line in lines]}
    if product_code is not None:
        request["ProductCode"] = product_code
    return request


def key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the records of one batch apart, in a request and in its echo."""
    return (
        record.get("LicenseArn"),
        record.get("CustomerAWSAccountId"),
        record.get("CustomerIdentifier"),
        record["Dimension"],
        record["Timestamp"].astimezone(UTC),
    )


def _record(line: UsageLine) -> dict[str, Any]:
    record: dict[str, Any] = {
        "Timestamp": line.timestamp,
        "Dimension": line.dimension,
        "QuantityAsDecimal": line.quantity,
    }
    if line.license_arn is not None:
        record["LicenseArn"] = line.license_arn
    if line.aws_account_id is not None:
        record["CustomerAWSAccountId"] = line.aws_account_id
    if line.customer_identifier is not None:
        record["CustomerIdentifier"] = line.customer_identifier
    if line.allocations:
        record["UsageAllocations"] = [_allocation(part) for part in line.allocations]
    return record


def _allocation(part: Allocation) -> dict[str, Any]:
    allocation: dict[str, Any] = {"AllocatedUsageQuantityAsDecimal": part.quantity}
    if part.tags:
        allocation["Tags"] = [{"Key": name, "Value": value} for name, value in part.tags]
    return allocation

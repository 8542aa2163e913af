"""A usage record's exact form on the wire.

What AWS receives is built here and nowhere else, from values that were frozen when the hour closed. License
records carry LicenseArn and account and no product code; legacy records carry the batch's ProductCode and one
customer id. Mixing the two bills a customer twice (botocore: BatchMeterUsageRequest).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.aws.types import Allocation, UsageLine
from billing.aws.window import hour_of


def quantity_text(quantity: Decimal) -> str:
    """QuantityAsDecimal: digits, at most six decimals, never an exponent, no trailing zeros."""
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def allocations_json(parts: Iterable[tuple[Decimal, Mapping[str, str]]]) -> str:
    """The text in which a record's allocations are frozen; '' for none."""
    allocations = [{"quantity": quantity_text(quantity), "tags": dict(tags)} for quantity, tags in parts]
    return json.dumps(allocations, sort_keys=True, separators=(",", ":")) if allocations else ""


def allocations_from_json(text: str) -> tuple[Allocation, ...]:
    if not text:
        return ()
    return tuple(
        Allocation(part["quantity"], tuple(sorted(part["tags"].items()))) for part in json.loads(text)
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


def matcher(lines: Sequence[UsageLine]) -> Callable[[Mapping[str, Any]], int | None]:
    """Tells which of the sent ``lines`` an echoed UsageRecord is; None if that cannot be told.

    No source says that AWS echoes a record unchanged. Dimension and hour must agree, and so must the ids that
    both name: an id that AWS adds or leaves out is no reason to forget that the record was accepted. An echo
    of the very ids that one line was sent with is that line's.
    """
    of_hour: dict[tuple[str, datetime], list[UsageLine]] = defaultdict(list)
    exact: dict[tuple[Any, ...], list[UsageLine]] = defaultdict(list)
    for line in lines:
        key = line.dimension, hour_of(line.timestamp)
        of_hour[key].append(line)
        exact[(*key, *_named(line))].append(line)

    def reference_of(echo: Mapping[str, Any]) -> int | None:
        if "Dimension" not in echo or "Timestamp" not in echo:
            return None
        key = echo["Dimension"], hour_of(echo["Timestamp"])
        found = exact.get((*key, *map(echo.get, _ID_NAMES)))
        if found is None:
            found = [line for line in of_hour.get(key, ()) if _agree(line, echo)]
        return found[0].reference if len(found) == 1 else None

    return reference_of


_ID_NAMES = ("LicenseArn", "CustomerAWSAccountId", "CustomerIdentifier")


def _named(line: UsageLine) -> tuple[str | None, str | None, str | None]:
    return line.license_arn, line.aws_account_id, line.customer_identifier


def _agree(line: UsageLine, echo: Mapping[str, Any]) -> bool:
    return all(
        sent is None or sent == echo.get(name, sent)
        for name, sent in zip(_ID_NAMES, _named(line), strict=True)
    )


def size_of(line: UsageLine) -> int:
    """Bytes of the record in the request as botocore serializes it, its timestamp at the longest."""
    return len(json.dumps({**_record(line), "Timestamp": "0000000000.000000"}).encode()) + len(", ")


def allocations_size(frozen: str) -> int:
    """Bytes of frozen allocations in the request: longer than the frozen text, AWS's names are."""
    return len(json.dumps([_allocation(part) for part in allocations_from_json(frozen)]).encode())


def _record(line: UsageLine) -> dict[str, Any]:
    record: dict[str, Any] = {
        "Timestamp": line.timestamp,
        "Dimension": line.dimension,
        "QuantityAsDecimal": line.quantity,
    }
    record |= {name: value for name, value in zip(_ID_NAMES, _named(line), strict=True) if value is not None}
    if line.allocations:
        record["UsageAllocations"] = [_allocation(part) for part in line.allocations]
    return record


def _allocation(part: Allocation) -> dict[str, Any]:
    allocation: dict[str, Any] = {"AllocatedUsageQuantityAsDecimal": part.quantity}
    if part.tags:
        allocation["Tags"] = [{"Key": name, "Value": value} for name, value in part.tags]
    return allocation

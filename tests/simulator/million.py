"""Bills a million records in a process of its own, which it must be run in, and prints what they took."""

from __future__ import annotations

import gc
import json
import resource
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.simulator.aws import metering
from billing.simulator.aws.call import Call
from billing.simulator.catalog import read_product
from billing.simulator.errors import AwsError
from billing.simulator.lifecycle import purchases
from billing.simulator.records import Agreement, BilledRecord
from billing.simulator.state import State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIMENSIONS = 25
RECORDS = 1_000_000
PURCHASES = 1740
"""With 23 hours of each, just enough for all records."""
REPEATS = 8_000
CALL = Call(
    region="us-east-1",
    access_key="k",
    base_url="http://x",
    unprocessed_share=0.0,
    empty_page=False,
    gone=lambda: False,
)


def main() -> None:
    dimensions = [{"key": f"d{number}", "kind": "metered"} for number in range(DIMENSIONS)]
    state = State([read_product({"code": "p", "product_id": "prod-p", "dimensions": dimensions})])
    state.move_clock(now=NOW, freeze=True)
    since = NOW - timedelta(days=2)
    bought = [
        purchases.subscribe(state, product_code="p", started_at=since).agreement for _ in range(PURCHASES)
    ]
    batches = ((agreement, hour) for hour in range(23) for agreement in bought)
    half_resident = half = 0
    for number, (agreement, hour) in zip(range(DIMENSIONS, RECORDS + 1, DIMENSIONS), batches, strict=False):
        metering.batch_meter_usage(state, batch(agreement, hour, number), CALL)
        if number == RECORDS // 2:
            half_resident, half = resident(), size(state)
    resident_full = resident()
    repeat(state, bought)
    resident_after = resident()
    figures = {
        "records": len(state.billed),
        "grew": resident_full - half_resident,
        "added": size(state) - half,
        "repeats_grew": resident_after - resident_full,
    }
    print(json.dumps(figures))


def repeat(state: State, bought: list[Agreement]) -> None:
    """What is billed already, and what is refused, each call of which must leave nothing behind."""
    for number in range(REPEATS):
        place = number % len(bought)
        again = batch(bought[place], 0, DIMENSIONS * (place + 1))
        answer = metering.batch_meter_usage(state, again, CALL)
        assert answer["Results"][0]["Status"] == "Success"
        refusal = ""
        try:
            metering.batch_meter_usage(state, batch(bought[place], 40, number), CALL)
        except AwsError as error:
            refusal = error.code
        assert refusal == "TimestampOutOfBoundsException"


def batch(agreement: Agreement, hour: int, quantity: int) -> dict[str, Any]:
    at = int((NOW - timedelta(hours=hour)).timestamp())
    who = {"LicenseArn": agreement.license_arn, "CustomerAWSAccountId": agreement.aws_account_id}
    records = [
        {"Timestamp": at, "Dimension": f"d{number}", "QuantityAsDecimal": f"{quantity}.{number}", **who}
        for number in range(DIMENSIONS)
    ]
    # Through JSON, so that no string is shared by accident.
    read: dict[str, Any] = json.loads(json.dumps({"UsageRecords": records}))
    return read


def resident() -> int:
    """Bytes of memory this process holds."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def size(state: State) -> int:
    """Bytes of the billed records and all they consist of, each counted once."""
    seen: set[int] = set()
    total = sys.getsizeof(state.billed.data)
    left: list[object] = list(state.billed.data.values())
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, tuple):
            left.extend(value)
        elif isinstance(value, BilledRecord):
            left.extend(getattr(value, name) for name in BilledRecord.__slots__)
    return total


if __name__ == "__main__":
    main()

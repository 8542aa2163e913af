"""A process that billed a million records holds little more than the records."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PROGRAM = """
import gc, json, sys
from datetime import UTC, datetime, timedelta
from billing.simulator import metering, purchases
from billing.simulator.call import Call
from billing.simulator.catalog import read_product
from billing.simulator.errors import AwsError
from billing.simulator.state import State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
state = State([read_product({"code": "p", "product_id": "prod-p",
    "dimensions": [{"key": f"d{n}", "kind": "metered"} for n in range(25)]})])
state.move_clock(now=NOW, freeze=True)
bought = [purchases.subscribe(state, product_code="p", started_at=NOW - timedelta(days=2)).agreement
          for _ in range(1740)]
call = Call(region="us-east-1", access_key="k", base_url="http://x", unprocessed_share=0.0, empty_page=False,
            gone=lambda: False)

def rss():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def batch(agreement, hour, quantity):
    at = int((NOW - timedelta(hours=hour)).timestamp())
    who = {"LicenseArn": agreement.license_arn, "CustomerAWSAccountId": agreement.aws_account_id}
    records = [{"Timestamp": at, "Dimension": f"d{n}", "QuantityAsDecimal": f"{quantity}.{n}", **who}
               for n in range(25)]
    # Through JSON, so that no string is shared by accident.
    return json.loads(json.dumps({"UsageRecords": records}))

def size():
    seen, total = set(), sys.getsizeof(state.billed.data)
    stack = list(state.billed.data.values())
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, tuple):
            stack.extend(value)
        elif hasattr(value, "metering_record_id"):
            stack.extend(getattr(value, name) for name in type(value).__slots__)
    return total

number = 0
for hour in range(23):
    for agreement in bought:
        number += 25
        metering.batch_meter_usage(state, batch(agreement, hour, number), call)
        if number == 500_000:
            half_rss, half = rss(), size()
        if number == 1_000_000:
            break
    if number == 1_000_000:
        break
before = full_rss = rss()
for n in range(8_000):
    agreement = bought[n % len(bought)]
    first = 25 + 25 * (n % len(bought))
    answer = metering.batch_meter_usage(state, batch(agreement, 0, first), call)
    assert answer["Results"][0]["Status"] == "Success"
    refused = batch(agreement, 40, n)
    try:
        metering.batch_meter_usage(state, refused, call)
    except AwsError as error:
        assert error.code == "TimestampOutOfBoundsException"
    else:
        raise AssertionError("not refused")
repeats_grew = rss() - before
print(json.dumps({"records": len(state.billed), "grew": full_rss - half_rss, "added": size() - half,
                  "repeats_grew": repeats_grew}))
"""


@pytest.mark.slow
def test_a_million_records_need_little_more_than_themselves():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["records"] == 1_000_000
    assert figures["grew"] <= 1.3 * figures["added"]
    # A few pages of the allocator's own; a record held per call would be 100 MB.
    assert figures["repeats_grew"] < 8 * 2**20

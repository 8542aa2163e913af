"""How fast the simulator is: calls of 25 records over one connection, and the start of the fixture."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

from billing.simulator.client import SimulatorControl
from billing.simulator.pytest_plugin import RunningSimulator
from tests.bench import world
from tests.bench.compare import PAIRS, Measure, peak_mib
from tests.bench.world import NOW, SINCE, THIS_HOUR

CALLS_A_SECOND = 400
START_MS = 50
HOURS = 22  # that AWS still takes
HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "AWSMPMeteringService.BatchMeterUsage",
    "Authorization": "AWS4-HMAC-SHA256 Credential=k/20261118/us-east-1/aws-marketplace/aws4_request,"
    " SignedHeaders=host, Signature=" + "0" * 64,
}


def calls(*, quick: bool) -> Iterator[Measure]:
    """Every record is new, so each is billed. The bare loop of a client is part of the time."""
    each = 100 if quick else 800
    with TemporaryDirectory() as folder:
        journaled = f"--state={Path(folder) / 'state'}"
        for name, options, hold in (("simulator", (), ">= 1"), ("journaled", (journaled,), ">= 0")):
            with world.simulator("--no-quotas", *options) as url:
                rates = list(_rates(url, each))
            value = statistics.median(rates[1:])
            yield Measure(name, value, CALLS_A_SECOND, value / CALLS_A_SECOND, hold, "calls/s", peak_mib())


def _rates(url: str, each: int) -> Iterator[float]:
    control = SimulatorControl(url)
    control.freeze(NOW)
    turns = 1 + PAIRS
    sold = [
        control.subscribe("reports-payg", started_at=SINCE) for _ in range(turns * each * 25 // HOURS + 1)
    ]
    records = (
        {
            "LicenseArn": each.license_arn,
            "CustomerAWSAccountId": each.aws_account_id,
            "Dimension": "pages",
            "Timestamp": (THIS_HOUR - timedelta(hours=hour)).timestamp(),
            "QuantityAsDecimal": "1.5",
        }
        for hour in range(HOURS)
        for each in sold
    )
    connection = HTTPConnection(url.removeprefix("http://").rstrip("/"))
    for _ in range(turns):
        bodies = [
            json.dumps({"UsageRecords": list(itertools.islice(records, 25))}).encode() for _ in range(each)
        ]
        start = time.perf_counter()
        for body in bodies:
            connection.request("POST", "/", body, HEADERS)
            answer = connection.getresponse().read()
            if answer.count(b'"Success"') != 25:
                raise ValueError(f"The simulator did not bill a batch: {answer[:500]!r}")
        yield each / (time.perf_counter() - start)
    connection.close()


def fixture_start(*, quick: bool) -> Iterator[Measure]:
    """From nothing to a simulator that has answered its first call, as each test that asks pays for it."""
    times = []
    for _ in range(1 + PAIRS * (1 if quick else 4)):
        start = time.perf_counter()
        with RunningSimulator() as simulator:
            simulator.control.state()
            times.append(1000 * (time.perf_counter() - start))
    value = statistics.median(times[1:])
    yield Measure("fixture", value, START_MS, value / START_MS, "<= 1", "ms", peak_mib())

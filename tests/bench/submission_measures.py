"""How fast due records reach AWS: beside a bare loop of full calls, and beside AWS's own quota."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from billing import submission
from billing.aws.client import get_marketplace
from billing.models import MeteringRecord
from billing.simulator.client import SimulatorControl
from tests.bench import references, world
from tests.bench.compare import Measure, compare, peak_mib
from tests.bench.world import NOW, REGION, SINCE, THIS_HOUR

QUOTA = 250  # records a second: ten calls of twenty-five
HOURS = 20


class Aws:
    """A simulator in a process of its own, and buyers that it knows."""

    def __init__(self, url: str, *, buyers: int, quotas: bool) -> None:
        self.url = url
        self.control = SimulatorControl(url)
        self.control.freeze(NOW)
        self.control.switch(quotas=quotas)
        sold = [self.control.subscribe("reports-payg", started_at=SINCE) for _ in range(buyers)]
        licenses = {each.license_arn or "": each.aws_account_id for each in sold}
        self._bought = world.agreements("reports-payg", licenses)

    def close(self) -> None:
        """Every buyer's hours are closed again, and none of them sent."""
        world.use(self._bought, hours=HOURS, each=1)
        references.close(region=REGION, end=THIS_HOUR, now=NOW)
        world.settle()


@contextmanager
def _aws(*, quotas: bool, buyers: int) -> Iterator[Aws]:
    """AWS, and a submitter that keeps to its quota where there is one."""
    known = settings.METERING_CALLS_PER_SECOND
    with world.simulator() as url:
        os.environ["AWS_ENDPOINT_URL_MARKETPLACE_METERING"] = url
        get_marketplace.cache_clear()
        settings.METERING_CALLS_PER_SECOND = 10.0 if quotas else None
        try:
            yield Aws(url, buyers=buyers, quotas=quotas)
        finally:
            settings.METERING_CALLS_PER_SECOND = known
            get_marketplace.cache_clear()


def submitting(*, quick: bool) -> Iterator[Measure]:
    """Due records reach an AWS that answers at once and counts no calls, and are settled."""
    with _aws(quotas=False, buyers=25 if quick else 500) as aws:
        client = references.metering_client(aws.url, region=REGION)
        requests: list[references.Json] = []

        def prepare() -> None:
            # After the warm-up AWS knows all of it: both sides send the same records, again and again.
            aws.close()
            requests[:] = references.batches(MeteringRecord.objects.order_by("submit_by", "pk"))

        def ours() -> int:
            return submission.submit_due(get_marketplace(), now=NOW)

        def reference() -> int:
            return references.submit(client, requests)

        yield compare("submitting", ours, reference, hold=">= 0.8", unit="records/s", prepare=prepare)


def submitting_at_quota(*, quick: bool) -> Iterator[Measure]:
    """AWS as it is: ten calls a second, each answered after 300 ms; a call too many would be refused."""
    with _aws(quotas=True, buyers=160 if quick else 250) as aws:
        aws.control.fault("BatchMeterUsage", "latency", seconds=0.3, count=None)
        rates = []
        for _ in range(1 if quick else 5):
            aws.close()
            owed = MeteringRecord.objects.sendable().count()
            started = time.perf_counter()
            accepted = submission.submit_due(get_marketplace(), now=NOW)
            rates.append(accepted / (time.perf_counter() - started))
            if accepted != owed:
                raise ValueError(f"submitting: {accepted} of {owed} were accepted, so times say nothing")
        rate = statistics.median(rates)
        yield Measure("at quota", rate, QUOTA, rate / QUOTA, ">= 0.95", "records/s", peak_mib())


ALL = (submitting, submitting_at_quota)

"""What is measured. A new measure is a function here that yields Measures, and its name in ``ALL``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from billing import gates, metering, submission, usage
from billing.aws.client import get_marketplace
from billing.models import Entitlement, MeteringRecord
from billing.simulator.client import SimulatorControl
from tests.bench import references, simulating, world
from tests.bench.compare import Measure, compare, peak_mib
from tests.bench.world import NOW, REGION, SINCE, THIS_HOUR


def record(*, quick: bool) -> Iterator[Measure]:
    """A use of each buyer, recorded and committed."""
    licenses = world.invented(range(100_000, 100_150 if quick else 102_000))
    bought = world.agreements("reports-payg", licenses)
    buyers = [Organization(pk=each.organization_id) for each in bought]
    pages = bought[0].product.dimensions.get(key="pages")
    keys = (f"use-{number}" for number in itertools.count())

    def ours() -> int:
        made = (usage.record(buyer, "pages", 3, key=next(keys), now=NOW) for buyer in buyers)
        return sum(event.disposition == "billable" for event in made)

    def reference() -> int:
        uses = ((each.organization_id, each.pk, pages.pk, next(keys)) for each in bought)
        return references.record(uses, at=NOW)

    yield compare("record", ours, reference, hold=">= 0.5", unit="uses/s", prepare=world.settle)


def gate(*, quick: bool) -> Iterator[Measure]:
    """A feature asked for once per request: nothing is cached yet."""
    licenses = world.invented(range(200_000, 200_300 if quick else 205_000))
    bought = world.agreements("reports-flex", licenses)
    row = {"dimension_key": "included_pages", "integer_value": 100, "valid_from": SINCE}
    Entitlement.objects.bulk_create(Entitlement(agreement=each, **row) for each in bought)
    world.settle()
    pks = [each.organization_id for each in bought]

    def ours() -> int:
        return sum(bool(gates.allows(Organization(pk=pk), "reports", now=NOW)) for pk in pks)

    yield compare("gate", ours, lambda: references.gate(pks), hold="<= 3", unit="ms")
    with CaptureQueriesContext(connection) as queries:
        gates.allows(Organization(pk=pks[0]), "reports", now=NOW)
    yield Measure("gate queries", len(queries), 1, len(queries), "== 1", "queries", peak_mib())


def closing(*, quick: bool) -> Iterator[Measure]:
    """Open events become records, ten to one: a million in full."""
    licenses = world.invented(range(300_000, 300_075 if quick else 312_500))
    bought = world.agreements("reports-payg", licenses)

    def ours() -> int:
        return metering.close_hours(region=REGION, now=NOW)

    def reference() -> int:
        return references.close(region=REGION, end=THIS_HOUR, now=NOW)

    def prepare() -> None:
        world.use(bought, hours=8, each=10)

    yield compare("closing", ours, reference, hold="<= 3", unit="s", prepare=prepare)


def submitting(*, quick: bool) -> Iterator[Measure]:
    """Due records reach an AWS that answers at once, and are settled."""
    with world.simulator() as url:
        os.environ["AWS_ENDPOINT_URL_MARKETPLACE_METERING"] = url
        control = SimulatorControl(url)
        control.freeze(NOW)
        sold = [control.subscribe("reports-payg", started_at=SINCE) for _ in range(25 if quick else 500)]
        licenses = {each.license_arn or "": each.aws_account_id for each in sold}
        bought = world.agreements("reports-payg", licenses)
        client = references.metering_client(url, region=REGION)
        requests: list[references.Json] = []

        def prepare() -> None:
            # After the warm-up AWS knows all of it: both sides send the same records, again and again.
            world.use(bought, hours=20, each=1)
            references.close(region=REGION, end=THIS_HOUR, now=NOW)
            world.settle()
            requests[:] = references.batches(MeteringRecord.objects.order_by("submit_by", "pk"))

        def ours() -> int:
            return submission.submit_due(get_marketplace(), now=NOW)

        def reference() -> int:
            return references.submit(client, requests)

        yield compare("submitting", ours, reference, hold=">= 0.8", unit="records/s", prepare=prepare)


ALL = (record, gate, closing, submitting, simulating.calls, simulating.fixture_start)

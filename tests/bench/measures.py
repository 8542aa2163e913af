"""What is measured. A new measure is a function here that yields Measures, and its name in ``ALL``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from billing import gates, metering, usage
from billing.models import Entitlement
from tests.bench import (
    console_measures,
    page_measures,
    references,
    simulating,
    submission_measures,
    walk_measures,
    world,
)
from tests.bench.compare import Measure, compare, growth, peak_mib, turn
from tests.bench.world import NOW, REGION, SINCE, THIS_HOUR


def record(*, quick: bool) -> Iterator[Measure]:
    """A use of each buyer, recorded and committed."""
    licenses = world.invented(150 if quick else 2_000)
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


def record_many(*, quick: bool) -> Iterator[Measure]:
    """Uses of a thousand buyers in the last two hours, half of them with tags, in one call."""
    size = 20_000 if quick else 300_000
    bought = world.agreements("reports-payg", world.invented(1_000))
    pages = bought[0].product.dimensions.get(key="pages")

    def uses(count: int) -> Iterator[usage.Use]:
        for number in range(count):
            tags = {"team": "ml"} if number % 2 else None
            at = NOW - timedelta(seconds=number % 7200)
            yield usage.Use(bought[number % 1000].organization_id or 0, "pages", 3, f"use-{number}", tags, at)

    def ours(count: int = size) -> int:
        return usage.record_many(uses(count), now=NOW).accepted["billable"]

    # First, as the reference's text stays in memory.
    few, many = (turn(partial(ours, count), world.forget_usage) for count in (size // 10, size))
    yield growth("10x uses peak", few, many, of="MiB", hold="<= 1.2")
    text = references.copy_text(bought, pages, uses(size), at=NOW)
    yield compare(
        "record_many",
        ours,
        lambda: references.copy(text),
        hold=">= 0.6",
        unit="uses/s",
        prepare=world.forget_usage,
    )


def gate(*, quick: bool) -> Iterator[Measure]:
    """A feature asked for once per request: nothing is cached yet."""
    licenses = world.invented(300 if quick else 5_000)
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
    licenses = world.invented(75 if quick else 12_500)
    bought = world.agreements("reports-payg", licenses)

    def ours() -> int:
        return metering.close_hours(region=REGION, now=NOW)

    def reference() -> int:
        return references.close(region=REGION, end=THIS_HOUR, now=NOW)

    def prepare(each: int = 10) -> None:
        world.use(bought, hours=8, each=each)

    few, many = (turn(ours, partial(prepare, each)) for each in (1, 10))
    yield growth("10x events", few, many, of="s", hold="<= 11")
    yield growth("10x events peak", few, many, of="MiB", hold="<= 1.2")
    yield compare("closing", ours, reference, hold="<= 3", unit="s", prepare=prepare)


ALL = (
    record,
    record_many,
    gate,
    closing,
    *page_measures.ALL,
    *submission_measures.ALL,
    *walk_measures.ALL,
    simulating.calls,
    simulating.fixture_start,
    *console_measures.ALL,  # last: it leaves millions of rows behind
)

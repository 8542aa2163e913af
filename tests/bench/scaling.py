"""How the hot paths fare on top of millions of events: `python -m tests.bench.scaling --events 10000000`.

Prints one line a figure for docs/scaling.md. Not part of `make bench`: it compares with nothing, takes a
while and leaves only what it prints.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import django

from tests.run import POSTGRES_URL

DATABASE = "marketplace_saas_scaling"  # made, and dropped again
os.environ.update(DATABASE_URL=POSTGRES_URL, REDIS_URL="", DJANGO_SETTINGS_MODULE="tests.settings")


def main(events: int) -> None:
    django.setup()
    logging.disable(logging.CRITICAL)
    from django.conf import settings
    from django.db import connection

    from billing import catalog

    served = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = DATABASE
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        catalog.load(json.loads(settings.MARKETPLACE_CATALOG.read_text()))
        measure(events)
    finally:
        connection.creation.destroy_test_db(served, verbosity=0)


def measure(events: int) -> None:
    from accounts.models import Organization
    from billing import metering, reconciliation, retention, usage
    from billing.models import MeteringRecord, UsageArchive, UsageEvent
    from billing.tenures import Tenures
    from billing.usage_page import sums
    from billing.usage_page.periods import Grain, Period
    from tests.bench import references, world

    now = datetime.now(UTC)
    bought = world.agreements("reports-payg", world.invented(2_000))
    pages = bought[0].product.dimensions.get(key="pages")
    keys = (f"new-{number}" for number in itertools.count())
    hours = max(1, events // (len(bought) * 10))
    with told(f"{events:,} uses in {len(bought) * hours:,} records written by SQL"):
        world.ledger(bought, hours=hours, each=10)
        make_whole()
    print(f"  database: {size()}")

    def record(count: int = 1000) -> None:
        for each in itertools.islice(itertools.cycle(bought[20:]), count):
            usage.record(Organization(pk=each.organization_id), "pages", 1, key=next(keys))

    def bare(count: int = 1000) -> None:
        some = itertools.islice(itertools.cycle(bought[20:]), count)
        references.record(((each.organization_id, each.pk, pages.pk, next(keys)) for each in some), at=now)

    def many(count: int = 50_000) -> None:
        at = now.replace(minute=0, second=0) - timedelta(minutes=30)
        uses = (
            usage.Use(each.organization_id or 0, "pages", 1, next(keys), None, at)
            for each in itertools.islice(itertools.cycle(bought[20:]), count)
        )
        usage.record_many(uses)

    per(record, 1000, "record, one after the other on one connection")
    per(bare, 1000, "  a bare INSERT … ON CONFLICT beside it")
    per(many, 50_000, "record_many")
    with told("closing 50,000 uses of 2,000 purchases"):
        metering.close_hours(region=world.REGION, now=now)
    period = Period("2026-11", "", now - timedelta(days=30), now, tuple(Grain))
    buyer = bought[7]
    held = Tenures(Organization(pk=buyer.organization_id))
    for grain in Grain:
        per(
            lambda grain=grain: list(
                sums.by_place([buyer.pk], held, period, grain, zone=UTC, late_before=now)
            ),
            1,
            f"the sums of a buyer's usage page by {grain}",
        )
    per(lambda: list(UsageEvent.objects.all()[:100]), 1, "the newest 100 uses")
    per(lambda: list(MeteringRecord.objects.all()[:100]), 1, "the newest 100 records")
    per(lambda: list(UsageEvent.objects.filter(agreement=bought[9])[:100]), 1, "the newest 100 uses of one")
    with told("verify_ledger over all of it"):
        breaches = sum(1 for _ in reconciliation.verify(agreements=None))
    print(f"  breaches: {breaches}")
    quiet = {one.pk for one in bought[:20]}  # nothing of theirs is open
    few = [each for each in retention.due(now=now + timedelta(days=800)) if each[0] in quiet]
    retention.due = lambda *, now: few  # type: ignore[assignment]
    with told(f"archiving {len(few)} months of purchases") as outcome:
        outcome["done"] = retention.archive(now=now + timedelta(days=800)).events
    print(f"  uses: {outcome['done']:,}, files: {UsageArchive.objects.count()}")
    with told(f"{events:,} archived keys written by SQL"):
        archived_keys(events)
    per(record, 1000, "record, beside as many archived keys")
    per(bare, 1000, "  a bare INSERT … ON CONFLICT beside it")
    per(many, 50_000, "record_many, beside as many archived keys")


def make_whole() -> None:
    """The bench's world is not one that closing and submitting would have left. Now it is."""
    from django.db import connection

    from tests.bench import world

    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE billing_agreement SET activated_at = '2026-01-01'")
        cursor.execute(
            """UPDATE billing_meteringrecord record
            SET wire_account_id = customer.aws_account_id, state = 'accepted', used = 10000000,
                quantity = 10000000, wire_quantity = '10'
            FROM billing_agreement agreement
            JOIN billing_marketplacecustomer customer ON customer.id = agreement.customer_id
            WHERE agreement.id = record.agreement_id"""
        )
        cursor.execute("RESET session_replication_role")
    world.settle()


def archived_keys(count: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO billing_archivedusagekey
                (id, organization_id, digest, content, occurred_at, total_id)
            SELECT 1000000000 + n, (SELECT min(id) FROM accounts_organization) + n %% 2000,
                md5(n::text)::uuid, md5(n::text)::uuid, now(), (SELECT min(id) FROM billing_usagearchivetotal)
            FROM generate_series(1, %s) n""",
            [count],
        )
        cursor.execute("VACUUM ANALYZE billing_archivedusagekey")


@contextmanager
def told(what: str) -> Iterator[dict[str, int]]:
    begun, more = time.perf_counter(), dict[str, int]()
    yield more
    print(f"{what}: {time.perf_counter() - begun:,.1f} s", flush=True)


def per(work: Callable[[], object], count: int, what: str) -> None:
    """The median of five."""
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    median = sorted(seconds)[2]
    print(f"{what}: {f'{count / median:,.0f}/s' if count > 1 else f'{median * 1000:,.1f} ms'}", flush=True)


def size() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        return str(cursor.fetchone()[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    main(**vars(parser.parse_args()))

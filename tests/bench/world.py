"""What the measures run on: buyers, open usage, and AWS in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, islice

from django.conf import settings
from django.db import connection

from accounts.models import Organization
from billing.models import Agreement, MarketplaceCustomer, Product

NOW = datetime(2026, 11, 18, 12, 30, tzinfo=UTC)  # no month ends nearby: AWS would take less
THIS_HOUR = NOW.replace(minute=0)
SINCE = NOW - timedelta(days=2)
REGION = "us-east-1"


def agreements(product_code: str, licenses: Mapping[str, str]) -> list[Agreement]:
    """An active one for each license (ARN: the account that holds it), with an organization of its own."""
    product = Product.objects.get(code=product_code)
    buyers = [Organization(name=account, slug=account) for account in licenses.values()]
    customers = [MarketplaceCustomer(aws_account_id=account) for account in licenses.values()]
    Organization.objects.bulk_create(buyers)
    MarketplaceCustomer.objects.bulk_create(customers)
    common = {"product": product, "identity": "license", "status": "active", "activated_at": SINCE}
    return Agreement.objects.bulk_create(
        Agreement(
            **common, organization=buyer, customer=customer, license_arn=arn, license_id=arn.split(":")[-1]
        )
        for arn, buyer, customer in zip(licenses, buyers, customers, strict=True)
    )


_numbers = count(100_000)


def invented(how_many: int) -> dict[str, str]:
    """Licenses that no AWS knows, and the account of each. Measures share a database: none comes twice."""
    numbers = islice(_numbers, how_many)
    return {f"arn:aws:license-manager::000000000000:license:l-bench{n}": f"{n:012}" for n in numbers}


def settle() -> None:
    """What autovacuum does in time: the planner knows the tables as they are."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def forget_usage() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_usageevent, billing_meteringrecord CASCADE")


def use(bought: Sequence[Agreement], *, hours: int, each: int) -> None:
    """``each`` open events per agreement and finished hour, stored in order of time; no other usage."""
    pages = bought[0].product.dimensions.get(key="pages")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_usageevent, billing_meteringrecord CASCADE")
        cursor.execute(
            """INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity,
                                               occurred_at, recorded_at, key, tags, disposition)
            SELECT organization_id, id, %s, 1500000 + minute, at, at, id || ' ' || at, '{}', 'billable'
            FROM generate_series(1, %s) AS hour, generate_series(1, %s) AS minute, billing_agreement,
                 LATERAL (SELECT %s - hour * interval '1 hour' + minute * interval '1 minute' AS at) moment
            WHERE id = ANY(%s) ORDER BY at, id""",
            [pages.pk, hours, each, THIS_HOUR, [agreement.pk for agreement in bought]],
        )
    settle()


def use_densely(agreement: Agreement, *, hours: int, each: int, until: datetime) -> None:
    """``each`` open events in every hour before ``until``, stored in order of time; no other usage."""
    pages = agreement.product.dimensions.get(key="pages")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_usageevent, billing_meteringrecord CASCADE")
        cursor.execute(
            """INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity,
                                               occurred_at, recorded_at, key, tags, disposition)
            SELECT %s, %s, %s, 1500000 + number, at, at, hour || ' ' || number, '{}', 'billable'
            FROM generate_series(%s, 1, -1) AS hour, generate_series(1, %s) AS number,
                 LATERAL (SELECT %s - hour * interval '1 h' + number * interval '1 s' AS at) moment""",
            [agreement.organization_id, agreement.pk, pages.pk, hours, each, until],
        )


def ledger(bought: Sequence[Agreement], *, hours: int, each: int) -> None:
    """``each`` uses in each of the last ``hours``, closed, sent and accepted but for one in ten thousand.

    Written as a restore would: triggers and foreign keys are not asked, or five million rows took an hour.
    """
    pages = bought[0].product.dimensions.get(key="pages")
    values = {"pages": pages.pk, "hours": hours, "each": each, "bought": [one.pk for one in bought]}
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for statement in _LEDGER:
            cursor.execute(statement, values)
        cursor.execute("RESET session_replication_role")
    settle()


_LEDGER = (
    "TRUNCATE billing_usageevent, billing_meteringrecord, billing_submission CASCADE",
    """INSERT INTO billing_meteringrecord (agreement_id, dimension_id, hour, used, included, quantity,
        wire_license_arn, wire_account_id, wire_region, wire_timestamp, wire_quantity, wire_allocations,
        state, submit_by, attempts, aws_record_id, error_code, error_message, closed_at, settled_at)
    SELECT id, %(pages)s, hour, 5000000, 0, 5000000, license_arn, '1', 'us-east-1', hour, '5', '',
        CASE WHEN (id + number * 7919) %% 10000 = 0 THEN 'parked' ELSE 'accepted' END,
        hour + interval '1 day', 1, md5(id || ' ' || number), '', '', hour + interval '65 min',
        hour + interval '70 min'
    FROM generate_series(1, %(hours)s) number, billing_agreement,
        LATERAL (SELECT date_trunc('hour', now()) - (%(hours)s + 1 - number) * interval '1 h' AS hour) moment
    WHERE id = ANY(%(bought)s) ORDER BY hour, id""",
    """INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity, occurred_at,
        recorded_at, key, tags, disposition, metering_record_id)
    SELECT agreement.organization_id, record.agreement_id, record.dimension_id, 1000000, at, at,
        record.id || ' ' || minute, '{}', 'billable', record.id
    FROM billing_meteringrecord record JOIN billing_agreement agreement ON agreement.id = record.agreement_id,
        generate_series(1, %(each)s) minute, LATERAL (SELECT hour + minute * interval '1 minute' AS at) moment
    ORDER BY hour, minute, record.id""",
    """INSERT INTO billing_submission (token, record_count, started_at, finished_at, outcome, aws_request_id,
        error_code, error_message)
    SELECT 1, 25, min(closed_at), min(settled_at), 'answered', md5(call::text), '', ''
    FROM (SELECT (row_number() OVER (ORDER BY id) - 1) / 25 AS call, * FROM billing_meteringrecord) record
    GROUP BY call ORDER BY call""",
    """INSERT INTO billing_submissionline (submission_id, record_id, status, aws_record_id)
    SELECT (SELECT min(id) FROM billing_submission) + (row_number() OVER (ORDER BY id) - 1) / 25, id,
        'Success', aws_record_id
    FROM billing_meteringrecord ORDER BY id""",
)


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """Its address. In a process of its own it does not share our interpreter's time."""
    command = [sys.executable, "manage.py", "marketplace_simulator", "--port=0", *options]
    command.append(f"--catalog={settings.MARKETPLACE_CATALOG}")
    with subprocess.Popen(command, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
        finally:
            process.terminate()

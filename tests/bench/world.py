"""What the measures run on: buyers, open usage, and AWS in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

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


def invented(accounts: range) -> dict[str, str]:
    """Licenses that no AWS knows."""
    return {f"arn:aws:license-manager::000000000000:license:l-bench{n}": f"{n:012}" for n in accounts}


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

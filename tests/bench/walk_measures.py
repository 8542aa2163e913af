"""How many calls the scheduled reading of a product takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from typing import Any

import boto3

from billing import walk
from billing.aws.client import get_marketplace
from billing.models import Agreement, Entitlement, Product
from billing.simulator.client import SimulatorControl
from tests.bench import world
from tests.bench.compare import Measure, peak_mib
from tests.bench.world import NOW, SINCE

PER_CALL = 25
ROWS_EACH = 2  # reports and seats


def walking(*, quick: bool) -> Iterator[Measure]:
    """Every contract of a product is read, and none has changed."""
    buyers = 60 if quick else 2000
    with world.simulator("--no-quotas") as url:
        os.environ["AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE"] = url
        get_marketplace.cache_clear()
        control = SimulatorControl(url)
        control.freeze(NOW)
        sold = [control.subscribe("reports-team", started_at=SINCE) for _ in range(buyers)]
        licenses = {each.license_arn or "": each.aws_account_id for each in sold}
        bought = world.agreements("reports-team", licenses)
        product = Product.objects.get(code="reports-team")
        walk.walk(product, get_marketplace(), now=NOW)
        assert Entitlement.objects.filter(agreement__in=bought).count() == buyers * ROWS_EACH
        before = len(control.requests("GetEntitlements"))
        walk.walk(product, get_marketplace(), now=NOW.replace(minute=59))
        calls = len(control.requests("GetEntitlements")) - before
        assert calls == before == len(list(_pages(url, product.code)))
        assert not Agreement.objects.filter(pk__in=[each.pk for each in bought]).exclude(
            entitlements_read_at=NOW.replace(minute=59)
        )
        get_marketplace.cache_clear()
    fewest = ceil(buyers * ROWS_EACH / PER_CALL)
    yield Measure("walk calls", calls, fewest, calls / fewest, "== 1", "calls", peak_mib())


def _pages(url: str, product_code: str) -> Iterator[Any]:
    client = boto3.client("marketplace-entitlement", region_name="us-east-1", endpoint_url=url)
    pages = client.get_paginator("get_entitlements")
    return iter(pages.paginate(ProductCode=product_code, PaginationConfig={"PageSize": PER_CALL}))


ALL = (walking,)

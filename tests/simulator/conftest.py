"""Two products, their purchases, and real boto3 pointed at a fresh simulator by environment alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config

from billing.simulator.client import Subscription
from billing.simulator.pytest_plugin import RunningSimulator
from tests.simulator.conformance import conforms

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FLEX = {
    "code": "reports-flex",
    "product_id": "prod-flex00000001",
    "title": "Acme Reports Flex",
    "pricing": "contract_with_consumption",
    "dimensions": [
        {
            "key": "included_pages",
            "label": "Included pages",
            "kind": "entitled",
            "default_quantity": 100,
            "price": "2",
        },
        {"key": "sso", "kind": "entitled", "value_type": "boolean", "default_quantity": True},
        {"key": "ratio", "kind": "entitled", "value_type": "double", "default_quantity": 1},
        {"key": "tier", "kind": "entitled", "value_type": "string", "default_quantity": "gold"},
        {"key": "pages", "kind": "metered", "included_by": "included_pages", "price": "0.10"},
    ],
}
PAYG = {
    "code": "reports-payg",
    "product_id": "prod-payg00000001",
    "pricing": "subscription",
    "dimensions": [{"key": "pages", "kind": "metered", "price": "0.12"}],
}
LEGACY = {
    "code": "reports-legacy",
    "product_id": "prod-legacy000001",
    "pricing": "contract_with_consumption",
    "identity": "legacy",
    "dimensions": [
        {"key": "seats", "kind": "entitled", "default_quantity": 5},
        {"key": "pages", "kind": "metered", "price": "0.12"},
    ],
}

Client = Callable[..., Any]


@pytest.fixture
def shop(simulator: RunningSimulator) -> RunningSimulator:
    """The simulator with three products, its clock frozen at noon."""
    for product in (FLEX, PAYG, LEGACY):
        simulator.control.add_product(product)
    simulator.control.freeze(NOON)
    return simulator


@cache
def _session() -> boto3.Session:
    """Loading the service models is slow; a client made of them is told its endpoint anew."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


@pytest.fixture
def aws(simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Makes a boto3 client that was told nothing but the environment; ``careless`` ones send anything."""
    for name, value in simulator.endpoint_env.items():
        monkeypatch.setenv(name, value)

    def client(service: str, *, region: str = "us-east-1", careless: bool = False) -> Any:
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=not careless)
        made = _session().client(service, region_name=region, config=config)
        made.meta.events.register("after-call", conforms)
        return made

    return client


@pytest.fixture
def metering(aws: Client) -> Any:
    return aws("meteringmarketplace")


@pytest.fixture
def entitlements(aws: Client) -> Any:
    return aws("marketplace-entitlement")


@pytest.fixture
def license_(shop: RunningSimulator) -> Subscription:
    """An active license of the flexible product, bought at noon; it is ten past."""
    subscription = shop.control.subscribe("reports-flex", aws_account_id="123456789012")
    shop.control.advance(timedelta(minutes=10))
    return subscription


@pytest.fixture
def legacy(shop: RunningSimulator) -> Subscription:
    subscription = shop.control.subscribe("reports-legacy", aws_account_id="222233334444")
    shop.control.advance(timedelta(minutes=10))
    return subscription


def usage(subscription: Subscription, **members: Any) -> dict[str, Any]:
    """A well-formed record of one page at noon; members given replace it, None removes."""
    record = {"Timestamp": NOON, "Dimension": "pages", "CustomerAWSAccountId": subscription.aws_account_id}
    if subscription.license_arn:
        record["LicenseArn"] = subscription.license_arn
    if not {"Quantity", "QuantityAsDecimal"} & members.keys():
        record["QuantityAsDecimal"] = "1"
    return {key: value for key, value in (record | members).items() if value is not None}


def code_of(error: pytest.ExceptionInfo[Any]) -> str:
    code: str = error.value.response["Error"]["Code"]
    return code


def billed(simulator: RunningSimulator) -> list[tuple[str, str]]:
    """(hour, quantity) of every invoice line."""
    return [(line["hour"], line["quantity"]) for line in simulator.control.invoice()["lines"]]

"""Fixtures for every test: AWS on this machine, the catalog, the standing cast.

The cast: ``acme`` is an organization, ``acme_admin`` owns it, ``acme_member`` is on the team, ``outsider``
must see nothing of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.test import TransactionTestCase
from django.utils import timezone, translation

from accounts import organizations
from accounts.models import Membership, Organization, User
from billing import catalog as catalogs
from billing import registration
from billing.aws.client import BotoMarketplace, get_marketplace
from billing.inbox import polling
from billing.models import Agreement, Dimension, Product
from billing.simulator.client import Subscription
from billing.simulator.pytest_plugin import RunningSimulator
from tests import emptying

PASSWORD = "correct horse battery staple"


# Whatever committed is deleted row by row: see there.
TransactionTestCase._fixture_teardown = emptying.empty  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _nobody_is_rate_limited_yet() -> None:
    cache.clear()  # always this process's own: see CACHES in tests/settings.py


@pytest.fixture(autouse=True)
def _the_site_speaks_its_own_language() -> None:
    translation.deactivate()  # a request's language stays active after it


@pytest.fixture
def catalog(db: None) -> dict[str, Product]:
    """The products of tests/catalog.json, by code."""
    return {product.code: product for product in _products_of(settings.MARKETPLACE_CATALOG.read_text())}


_known: dict[str, tuple[list[Product], list[Dimension]]] = {}


def _products_of(text: str) -> list[Product]:
    """Copies of what ``catalog.load`` makes, which is asked once: half the tests wait for this."""
    if text not in _known:
        _known[text] = _loaded(text)
    known_products, known_dimensions = _known[text]
    products = Product.objects.bulk_create(map(_unsaved, known_products))
    product_of = {product.code: product for product in products}
    made: dict[int, Dimension] = {}
    for _, of_a_kind in groupby(known_dimensions, key=lambda known: known.kind):
        knowns = list(of_a_kind)
        copies = [
            _unsaved(
                known,
                product=product_of[known.product.code],
                included_by=made.get(known.included_by_id or 0),
            )
            for known in knowns
        ]
        made |= dict(zip((known.pk for known in knowns), Dimension.objects.bulk_create(copies), strict=True))
    return products


def _loaded(text: str) -> tuple[list[Product], list[Dimension]]:
    """Loaded and taken back: the audit trail, which tells of a catalog, is the same for every test."""
    with transaction.atomic():
        products = catalogs.load(json.loads(text))
        # Those that others draw on come first.
        dimensions = Dimension.objects.select_related("product").order_by("kind", "pk")
        found = list(dimensions.filter(product__in=products))
        transaction.set_rollback(True)
    return products, found


def _unsaved(row: Any, **changes: Any) -> Any:
    names = {field.name for field in row._meta.concrete_fields if not field.primary_key} - changes.keys()
    return type(row)(**{name: getattr(row, name) for name in names}, **changes)


class Aws:
    """AWS Marketplace as a test sees it: the simulator to steer, and real boto3 to call it with."""

    def __init__(self, simulator: RunningSimulator) -> None:
        self.simulator = simulator
        self.control = simulator.control
        self.marketplace: BotoMarketplace = get_marketplace()

    def list_products(self) -> None:
        for entry in json.loads(settings.MARKETPLACE_CATALOG.read_text())["products"]:
            self.control.add_product(entry)

    def buy(self, product_code: str = "reports-flex", **options: Any) -> Subscription:
        return self.control.subscribe(product_code, **options)

    def deliver(self, *, now: datetime | None = None) -> None:
        """Take in every event that AWS has sent by now."""
        for queue_url in settings.MARKETPLACE_EVENT_QUEUES:
            polling.poll(self.marketplace, queue_url, now=now or timezone.now())

    def billed(self, dimension: str = "pages") -> str:
        """The one total of ``dimension`` on AWS's invoice."""
        totals = [row for row in self.control.invoice()["totals"] if row["dimension"] == dimension]
        assert len(totals) <= 1, totals
        return str(totals[0]["quantity"]) if totals else "0"


@pytest.fixture
def aws(
    simulator: RunningSimulator,
    catalog: dict[str, Product],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Aws]:
    for name, value in simulator.endpoint_env.items():
        monkeypatch.setenv(name, value)
    settings.MARKETPLACE_EVENT_QUEUES = [f"{simulator.url}/000000000000/marketplace-events"]
    get_marketplace.cache_clear()
    aws = Aws(simulator)
    aws.list_products()
    yield aws
    get_marketplace.cache_clear()


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(email: str, *, verified: bool = True, **fields: Any) -> User:
        user = User.objects.create_user(email, PASSWORD, **fields)
        EmailAddress.objects.create(user=user, email=user.email, verified=verified, primary=True)
        return user

    return make


@pytest.fixture
def acme_admin(make_user: Callable[..., User]) -> User:
    return make_user("ada@acme.example", name="Ada")


@pytest.fixture
def acme(acme_admin: User) -> Organization:
    return organizations.create(name="Acme", owner=acme_admin)


@pytest.fixture
def acme_member(acme: Organization, make_user: Callable[..., User]) -> User:
    user = make_user("bob@acme.example", name="Bob")
    Membership.objects.create(organization=acme, user=user, role=Membership.Role.MEMBER)
    return user


@pytest.fixture
def operator(make_user: Callable[..., User]) -> User:
    """Staff with a second factor, which production asks for."""
    user = make_user("olga@seller.example", name="Olga", is_staff=True, is_superuser=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    return user


@pytest.fixture
def outsider(make_user: Callable[..., User]) -> User:
    user = make_user("charlie@other.example", name="Charlie")
    organizations.create(name="Other", owner=user)
    return user


@pytest.fixture
def purchase(aws: Aws, acme: Organization, acme_admin: User) -> Callable[..., Agreement]:
    """Buy, arrive, activate and claim for ``acme``: the purchase began ``ago`` (3 hours) before now."""

    def make(
        product_code: str = "reports-flex", *, ago: timedelta = timedelta(hours=3), **options: Any
    ) -> Agreement:
        now = timezone.now()
        aws.control.set_now(now - ago)
        bought = aws.buy(product_code, **options)
        arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=now)
        registration.claim(arrival, by=acme_admin, organization=acme, now=now)
        aws.control.set_now(now)
        aws.deliver(now=now)
        return Agreement.objects.get(pk=arrival.agreement_id)

    return make


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if connection.vendor != "postgresql":
        elsewhere = [item for item in items if item.get_closest_marker("postgresql")]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    # The longest files first: two workers, each with a file at a time, then end together.
    long = {
        item.path for item in items if item.get_closest_marker("browser") or "journeys" in item.path.parts
    }
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """CI proves everything: a skip there is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_report_header() -> str:
    return f"database: {settings.DATABASES['default']['ENGINE'].rpartition('.')[2]} (pid {os.getpid()})"

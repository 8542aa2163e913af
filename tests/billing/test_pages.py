"""The buyer's pages of an organization: who sees them, and what they show."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from billing import effects, metering, submission, usage
from billing.aws.window import HOUR, hour_of
from tests.billing.arriving import WELCOME


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["", "subscription/"])
def test_an_outsider_finds_no_page_of_the_organization(client, purchase, acme, outsider, method, page):
    purchase()
    client.force_login(outsider)

    assert getattr(client, method)(f"/o/acme/{page}").status_code == 404
    assert getattr(client, method)(f"/o/never-existed/{page}").status_code == 404


@pytest.mark.parametrize("page", ["subscription/"])
def test_an_anonymous_visitor_is_sent_to_sign_in(client, acme, page):
    assert client.get(f"/o/acme/{page}")["Location"] == f"/accounts/login/?next=/o/acme/{page}"


def test_the_subscription_is_for_administrators(client, purchase, acme_admin, acme_member):
    purchase()
    client.force_login(acme_member)
    assert client.get("/o/acme/subscription/").status_code == 403
    assert "/o/acme/subscription/" not in client.get("/o/acme/").content.decode()

    client.force_login(acme_admin)
    assert "/o/acme/subscription/" in client.get("/o/acme/").content.decode()
    assert client.get("/o/acme/subscription/").status_code == 200


def test_an_organization_sees_its_own_purchases_only(client, aws, purchase, acme_admin, outsider):
    agreement = purchase()
    client.force_login(acme_admin)
    assert agreement.license_id in client.get("/o/acme/subscription/").content.decode()

    client.force_login(outsider)
    page = client.get("/o/other/subscription/").content.decode()
    assert agreement.license_id not in page
    assert "No subscription yet" in page


def test_the_subscription_shows_the_contract_and_the_figures_that_aws_bills(
    client, aws, purchase, acme, acme_admin
):
    agreement = purchase(quantities={"included_pages": 100})
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    last_hour = hour_of(now) - HOUR + timedelta(minutes=30)
    usage.record(acme, "pages", "130.5", key="a", occurred_at=last_hour)
    usage.record(acme, "pages", 7, key="b", occurred_at=now)
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)
    client.force_login(acme_admin)

    response = client.get("/o/acme/subscription/")

    page = response.content.decode()
    assert "Acme Reports Flex" in page
    assert agreement.customer.aws_account_id[-4:] in page
    assert agreement.customer.aws_account_id not in page
    [shown] = response.context["page"].running
    [entitlement] = shown.entitlements
    assert (entitlement.label, entitlement.value, entitlement.used) == (
        "Included pages",
        100,
        Decimal("137.5"),
    )
    assert entitlement.remaining == 0
    figures = client.get("/o/acme/usage/").context["report"].total
    assert (figures.used, figures.included, figures.billed) == (Decimal("137.5"), 100, Decimal("30.5"))
    assert (figures.waiting, figures.not_billed) == (7, 0)
    assert figures.billed == Decimal(aws.billed())


def test_the_welcome_page_without_a_purchase_says_what_to_do(client, acme_admin):
    page = client.get(WELCOME)
    assert "No purchase is waiting here" in page.content.decode()
    assert "no-store" in page["Cache-Control"]

    client.force_login(acme_admin)
    assert "Go to your workspace" in client.get(WELCOME).content.decode()

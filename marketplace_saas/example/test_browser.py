"""Real Chromium, from AWS's Subscribe button to the example product's page."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from billing import effects
from tests.browser_story import Buyer

pytestmark = pytest.mark.browser


@pytest.fixture
def buyer(aws, page, live_server):
    aws.simulator.state.change_conditions(fulfillment_url=f"{live_server.url}/marketplace/register/")
    aws.control.set_offset(-600)  # what happens at AWS has happened by our clock
    return Buyer(page, aws, live_server.url)


def activate(aws):
    """AWS confirms the purchase, and the worker's turn comes."""
    aws.control.advance(timedelta(seconds=30))
    aws.deliver()
    effects.run_due(aws.marketplace, now=timezone.now() + timedelta(minutes=1))


def test_a_new_buyer_walks_from_the_storefront_to_the_product(buyer, aws, page):
    buyer.subscribe("reports-flex", account="210987654321", included_pages=100)
    buyer.sign_up("ada@northwind.example")
    buyer.set_up_workspace("Northwind")

    expect(page).to_have_url(re.compile("/o/northwind/getting-ready/"))
    activate(aws)
    # The page looks again by itself.
    expect(page.get_by_role("heading", level=1)).to_have_text("Reports", timeout=20_000)

    page.get_by_role("spinbutton", name="Pages").fill("7")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("status").first).to_contain_text("7 pages were counted")
    expect(page.get_by_role("main")).to_contain_text("93")


def test_a_signed_in_buyer_is_still_signed_in_after_the_cross_site_post(buyer, aws, page, acme, acme_admin):
    buyer.sign_in(acme_admin.email)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Acme")
    session_before = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}["sessionid"]

    posted_cookies = []
    page.on(
        "request",
        lambda request: (
            request.method == "POST"
            and "/marketplace/register/" in request.url
            and posted_cookies.append(request.all_headers().get("cookie", ""))
        ),
    )
    buyer.subscribe("reports-payg", account="345678901234")

    # The browser did not send the session with AWS's POST, and yet it is still there.
    assert posted_cookies == [""]
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    assert cookies["sessionid"] == session_before
    expect(page.get_by_role("banner")).to_contain_text(acme_admin.email)

    page.get_by_label("Acme").check()
    page.get_by_role("button", name="Set up this workspace").click()
    activate(aws)
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Reports")

"""Every page in real Chromium: no accessibility violation, nothing wider than a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.simulator.conftest import NOON, usage

pytestmark = pytest.mark.browser
AXE = Axe()


@pytest.fixture
def busy(shop, metering, license_):
    """A shop in which something of everything happened."""
    shop.state.change_conditions(fulfillment_url="http://localhost:1/")
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=2)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, LicenseArn=None)])
    shop.control.subscribe("reports-legacy", free_trial=True)
    shop.control.fault("*", "throttle", count=2)
    return shop


def addresses(shop, purchase):
    agreement = f"/subscriptions/{purchase.agreement_id}"
    request = shop.state.requests.entries[-1]["request_id"]
    return [
        *("/", "/products/reports-flex", "/subscriptions", agreement, f"{agreement}/bought"),
        *(f"{agreement}/amend", f"{agreement}/cancel", "/nothing", "/invoice"),
        *("/control", "/control/reset", "/control/faults", "/control/queues", "/control/switches"),
        *("/control/queues/marketplace-events", "/control/requests", f"/control/requests/{request}"),
    ]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_every_page_is_accessible_and_fits(busy, license_, page: Page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for address in addresses(busy, license_):
        page.goto(busy.url + address)
        closed = page.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        found = AXE.run(page)
        assert found.violations_count == 0, f"{address}: {found.generate_report()}"
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), address


def test_a_purchase_is_corrected_renewed_and_cancelled(shop, page: Page):
    page.goto(f"{shop.url}/products/reports-flex")
    page.get_by_label("Included pages").fill("250")
    page.get_by_text("Advanced options").click()
    page.get_by_label("Channel partner's AWS account").fill("123456789012")
    page.get_by_label("Buyer AWS account").fill("123456789012")
    page.get_by_role("button", name="Subscribe").click()
    partner = page.get_by_label("Channel partner's AWS account")
    expect(partner).to_have_attribute("aria-invalid", "true")
    partner.fill("")
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Congratulations!")

    page.get_by_role("link", name="Control room").click()
    page.get_by_role("button", name="+ 1 minute").click()
    page.get_by_role("link", name="Subscriptions").click()
    page.get_by_role("link", name="Acme Reports Flex").click()
    page.get_by_role("link", name="Renew now").click()
    page.get_by_label("Included pages").fill("300")
    page.get_by_role("button", name="Renew now").click()
    expect(page.get_by_role("status")).to_have_text("Done: Renew now.")
    expect(page.get_by_role("main")).to_contain_text("Renewal: this agreement")
    page.get_by_role("link", name="Cancel subscription").click()
    page.get_by_role("button", name="Cancel subscription").click()
    expect(page.get_by_role("status")).to_have_text("Done: Cancel subscription.")
    assert [agreement["status"] for agreement in shop.control.state()["agreements"]] == [
        "RENEWED",
        "CANCELLED",
    ]
    assert shop.control.now() > NOON


def test_the_first_key_leads_past_the_navigation(shop, page: Page):
    page.goto(f"{shop.url}/control")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()

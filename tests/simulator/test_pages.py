from __future__ import annotations

import html
import http.client
import re
from urllib.parse import urlencode

import pytest

from tests.simulator.conftest import NOON, usage


@pytest.fixture
def browse(simulator):
    """Fetches a page, or posts a form; returns status, location and text."""

    def _browse(path, form=None, origin=None):
        host = simulator.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if origin:
            headers["Origin"] = origin
        body = None if form is None else urlencode(form)
        connection.request("GET" if form is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("Location"), response.read().decode()

    return _browse


PAGES = ("/", "/products/reports-flex", "/products/reports-payg", "/subscriptions", "/control", "/invoice")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_that_it_is_a_simulation(shop, browse, path):
    status, _, text = browse(path)
    assert status == 200
    assert "This is not AWS" in text
    assert "<script" not in text


def test_an_empty_store_says_how_to_fill_it(browse):
    _, _, text = browse("/")
    assert "--catalog" in text
    assert "/_simulator/products" in text


def test_a_buyer_subscribes_and_is_sent_to_the_seller(shop, browse):
    shop.state.change_conditions(fulfillment_url="http://localhost:8000/marketplace/register/")
    form = {
        "quantity-included_pages": "250",
        "quantity-ratio": "0.5",
        "quantity-tier": "x",
        "aws_account_id": "123456789012",
    }
    status, location, _ = browse("/products/reports-flex", {**form, "free_trial": "on"}, origin=shop.url)
    assert status == 303
    (agreement,) = shop.control.state()["agreements"]
    assert agreement["quantities"] == {"included_pages": 250, "sso": False, "ratio": 0.5, "tier": "x"}
    assert location == f"/subscriptions/{agreement['agreement_id']}/bought"
    _, _, text = browse(location)
    assert "Congratulations" in text
    assert '<form method="post" action="http://localhost:8000/marketplace/register/">' in text
    assert 'name="x-amzn-marketplace-offer-type" value="free-trial"' in text


def test_the_token_on_the_page_resolves(shop, browse, metering):
    shop.state.change_conditions(fulfillment_url="http://localhost:8000/")
    purchase = shop.control.subscribe("reports-flex")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    token = html.unescape(re.search(r'name="x-amzn-marketplace-token" value="([^"]+)"', text)[1])
    assert token != purchase.token
    assert "offer-type" not in text
    assert metering.resolve_customer(RegistrationToken=token)["LicenseArn"] == purchase.license_arn


def test_without_a_fulfillment_url_the_page_names_the_option(shop, browse):
    purchase = shop.control.subscribe("reports-flex")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    assert "--fulfillment-url" in text
    assert "x-amzn-marketplace-token" not in text


def test_a_product_may_have_a_fulfillment_url_of_its_own(simulator, browse):
    simulator.state.change_conditions(fulfillment_url="http://localhost:1/")
    simulator.control.add_product({"code": "own", "fulfillment_url": "http://localhost:2/"})
    purchase = simulator.control.subscribe("own")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    assert 'action="http://localhost:2/"' in text


def test_each_look_at_a_product_offers_a_new_buyer(shop, browse):
    account = re.compile(r'name="aws_account_id" value="(\d{12})"')
    first, second = (account.search(browse("/products/reports-payg")[2])[1] for _ in range(2))
    assert first != second


def test_a_buyer_cancels_once(shop, browse):
    purchase = shop.control.subscribe("reports-flex", free_trial=True)
    shop.control.subscribe("reports-legacy")
    assert "Cancel subscription" in browse("/subscriptions")[2]
    cancel = f"/subscriptions/{purchase.agreement_id}/cancel"
    assert browse(cancel, {})[:2] == (303, "/subscriptions")
    assert "CANCELLED" in browse("/subscriptions")[2]
    status, _, text = browse(cancel, {})
    assert (status, "CANCELLED already" in text) == (400, True)


def test_forms_of_other_sites_are_refused(shop, browse):
    status, _, _ = browse("/products/reports-payg", {}, origin="https://evil.example")
    assert status == 403
    assert shop.control.state()["agreements"] == []


def test_what_was_typed_wrong_is_explained(shop, browse):
    status, _, text = browse("/products/reports-payg", {"aws_account_id": "12"})
    assert (status, "12 digits" in text) == (400, True)
    status, _, text = browse("/products/reports-flex", {"quantity-included_pages": "many"})
    assert (status, "included_pages takes" in text) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/products",
        "/products/none",
        "/subscriptions/a/b",
        "/control/x",
        "/subscriptions/none/setup",
    ],
)
def test_unknown_pages_are_pages_too(shop, browse, path):
    status, _, text = browse(path)
    assert status in (400, 404)
    assert "That did not work" in text


@pytest.mark.parametrize("path", ["/nothing", "/subscriptions", "/control/none"])
def test_unknown_forms_are_pages_too(shop, browse, path):
    assert browse(path, {})[0] == 404


def test_the_control_room_moves_the_clock_and_clears_faults(shop, browse):
    shop.control.fault("*", "throttle", count=None)
    shop.control.subscribe("reports-payg")
    assert "until cleared" in browse("/control")[2]
    assert browse("/control/clock", {"move": "3600"})[:2] == (303, "/control")
    assert (shop.control.now() - NOON).total_seconds() == 3600
    browse("/control/clock", {"move": "resume"})
    assert shop.control.state()["clock"]["frozen"] is False
    browse("/control/clock", {"move": "freeze"})
    assert "frozen" in browse("/control")[2]
    assert browse("/control/clock", {"move": "7"})[0] == 400
    browse("/control/clear-faults", {})
    assert shop.control.state()["faults"] == []


def test_the_control_room_and_invoice_show_what_was_metered(shop, browse, metering, license_):
    split = [
        {"AllocatedUsageQuantity": 1, "Tags": [{"Key": "team", "Value": "ml"}]},
        {"AllocatedUsageQuantity": 1},
    ]
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=2, UsageAllocations=split)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, Quantity=2)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, LicenseArn=None)])
    room = browse("/control")[2]
    assert "BatchMeterUsage" in room
    assert "double billing" in room
    page = browse("/invoice")[2]
    assert "team=ml" in page
    assert "untagged" in page
    assert "billed twice" in page


def test_a_long_invoice_is_cut_on_the_page_only(shop, browse, metering, license_, monkeypatch):
    monkeypatch.setattr("billing.simulator.seller_pages.LINES_SHOWN", 1)
    shop.control.advance(3600)
    for minutes in (0, 60):
        record = usage(license_, Timestamp=NOON.replace(hour=12 + minutes // 60))
        metering.batch_meter_usage(UsageRecords=[record])
    assert "of 2 lines" in browse("/invoice")[2]
    assert len(shop.control.invoice()["lines"]) == 2


def test_what_sellers_write_is_escaped(simulator, browse):
    simulator.control.add_product({"code": "p/:@", "title": "<script>x</script>", "summary": "<b>"})
    status, _, text = browse("/")
    assert "<script>" not in text
    assert browse("/products/p%2F%3A%40")[0] == 200


def test_the_stylesheet_is_served(browse):
    status, _, text = browse("/simulator.css")
    assert status == 200
    assert "prefers-color-scheme" in text

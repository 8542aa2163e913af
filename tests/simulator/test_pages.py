"""Every page in every state, and what its forms do."""

from __future__ import annotations

import html
import http.client
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest

from billing.simulator import queues
from billing.simulator.queues import Queue
from billing.simulator.switches import describe_switches
from tests.simulator.conftest import NOON, usage


@pytest.fixture
def browse(simulator):
    """Fetches a page, or posts a form; returns status, location and text."""

    def _browse(path, form=None, origin=None, method=None):
        host = simulator.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if origin:
            headers["Origin"] = origin
        body = None if form is None else urlencode(form)
        connection.request(method or ("GET" if form is None else "POST"), path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            assert response.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert_sound(text)
        return response.status, response.headers.get("Location"), text

    return _browse


def assert_sound(text):
    """Marked as a simulation; no script, no inline style, one heading, no id twice, no template left."""
    assert "This is not AWS" in text
    assert "<script" not in text
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)\s*=", text)
    assert len(re.findall(r"<h1[\s>]", text)) == 1
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), sorted(ids)
    assert not re.search(r"{[{%#]", text)


def words(text):
    """What a reader sees, without tags and runs of space."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


PAGES = (
    "/",
    "/products/reports-flex",
    "/products/reports-payg",
    "/subscriptions",
    "/control",
    "/control/faults",
    "/control/queues",
    "/control/queues/marketplace-events",
    "/control/requests",
    "/control/switches",
    "/control/reset",
    "/invoice",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_before_anything_happened(shop, browse, path):
    status, _, text = browse(path)
    assert status == 200
    assert "aria-current=" in text


def test_an_empty_store_says_how_to_fill_it(simulator, browse):
    _, _, text = browse("/")
    assert "--catalog" in text
    assert f"{simulator.url}/_simulator/products" in text
    assert "Nothing is on sale yet" in words(browse("/control")[2])


def test_the_store_says_what_things_cost(shop, browse):
    text = words(browse("/")[2])
    assert "Included pages USD 2.00 per unit, up front, per term" in text
    assert "pages USD 0.10 per unit, as used, by the hour" in text
    assert "Legacy listing" in text


UNITS = {"quantity-included_pages": "80", "quantity-ratio": "1", "quantity-tier": "gold"}
ORDER = {
    "quantity-included_pages": "250",
    "quantity-ratio": "0.5",
    "quantity-tier": "x",
    "aws_account_id": "123456789012",
}


def test_a_buyer_subscribes_and_is_sent_to_the_seller(shop, browse):
    shop.state.change_conditions(fulfillment_url="http://localhost:8000/marketplace/register/")
    form = {**ORDER, "free_trial": "on", "trial_days": "14"}
    status, location, _ = browse("/products/reports-flex", form, origin=shop.url)
    assert status == 303
    (agreement,) = shop.control.state()["agreements"]
    assert agreement["quantities"] == {"included_pages": 250, "sso": False, "ratio": 0.5, "tier": "x"}
    assert agreement["trial_ends_at"] == "2026-12-07T12:00:00Z"
    assert location == f"/subscriptions/{agreement['agreement_id']}/bought"
    _, _, text = browse(location)
    assert "Congratulations" in text
    assert '<form method="post" action="http://localhost:8000/marketplace/register/">' in text
    assert 'name="x-amzn-marketplace-offer-type" value="free-trial"' in text
    assert "x-amzn-marketplace-agreement-id" not in text
    assert "good until 2026-11-23 16:00 UTC" in words(text)


def test_every_option_of_a_purchase_has_a_field(shop, browse):
    form = {
        **ORDER,
        "started_at": "2026-12-24T08:30",
        "channel_partner": " 999988887777 ",
        "auto_renew": "on",
        "private_offer": "on",
        "identity": "legacy",
    }
    assert browse("/products/reports-flex", form)[0] == 303
    (bought,) = shop.state.agreements.values()
    assert bought.starts_at == datetime(2026, 12, 24, 8, 30, tzinfo=UTC)
    assert bought.proposer_account_id == "999988887777"
    assert (bought.auto_renew, bought.private_offer, bought.identity) == (True, True, "legacy")
    text = words(browse("/subscriptions")[2])
    assert "Waiting to start" in text
    assert "Private offer Through a partner Renews automatically Legacy" in text


def test_a_payment_may_be_ordered_to_fail(shop, browse):
    browse("/products/reports-payg", {"payment_fails": "on", "free_trial": "on", "trial_days": ""})
    shop.control.advance(60)
    assert "Payment failed" in words(browse("/subscriptions")[2])


def test_a_buyer_who_bought_before_can_be_chosen(shop, browse):
    shop.control.subscribe("reports-payg", aws_account_id="123456789012")
    assert '<option value="123456789012">' in browse("/products/reports-payg")[2]
    form = {"aws_account_id": "555555555555", "known_account": "123456789012"}
    assert browse("/products/reports-payg", form)[0] == 303
    assert {a["aws_account_id"] for a in shop.control.state()["agreements"]} == {"123456789012"}


def test_each_look_at_a_product_offers_a_new_buyer(shop, browse):
    account = re.compile(r'name="aws_account_id" value="(\d{12})"')
    first, second = (account.search(browse("/products/reports-payg")[2])[1] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"aws_account_id": "12"}, "An AWS account id has 12 digits."),
        ({"channel_partner": "12"}, "An AWS account id has 12 digits."),
        ({"channel_partner": "123456789012"}, "channel_partner"),
        ({"quantity-included_pages": "many"}, "Type a whole number, not below zero."),
        ({"quantity-ratio": "-1"}, "Type a number, not below zero."),
        ({"free_trial": "on", "trial_days": "6"}, "A free trial lasts 7 to 90 days."),
        ({"free_trial": "on", "trial_days": "x"}, "A free trial lasts 7 to 90 days."),
        ({"started_at": "tomorrow"}, "Write it like 2026-11-23T10:00, in UTC"),
        ({"started_at": "1999-01-01T00:00"}, "The clock runs from the year 2000"),
        ({"identity": "magic"}, "Choose license or legacy."),
    ],
)
def test_what_was_typed_wrong_is_said_beside_its_field(shop, browse, wrong, text):
    status, _, page = browse("/products/reports-flex", {**ORDER, "quantity-tier": "typed", **wrong})
    assert status == 422
    assert text in html.unescape(page)
    assert 'value="typed"' in page
    (field,) = wrong.keys() - {"free_trial"}
    assert re.search(
        rf'name="{field}"[^>]* aria-invalid="true" aria-describedby="[^"]*form-{field}-error', page
    )
    assert shop.control.state()["agreements"] == []


def test_a_refusal_of_no_field_stands_above_the_form(shop, browse):
    shop.control.subscribe("reports-legacy", aws_account_id="123456789012")
    form = {"quantity-seats": "5", "aws_account_id": "123456789012"}
    status, _, text = browse("/products/reports-legacy", form)
    assert (status, "bought once per account" in text) == (422, True)


def test_the_token_on_the_page_resolves(shop, browse, metering):
    shop.state.change_conditions(fulfillment_url="http://localhost:8000/")
    purchase = shop.control.subscribe("reports-flex")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    token = html.unescape(re.search(r'name="x-amzn-marketplace-token" value="([^"]+)"', text)[1])
    assert token != purchase.token
    assert "offer-type" not in text
    assert metering.resolve_customer(RegistrationToken=token)["LicenseArn"] == purchase.license_arn


def test_undocumented_hints_are_posted_when_switched_on(shop, browse):
    shop.state.change_conditions(
        fulfillment_url="http://localhost:8000/",
        switches=replace(shop.state.switches, registration_hints=True),
    )
    purchase = shop.control.subscribe("reports-flex")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    assert f'name="x-amzn-marketplace-agreement-id" value="{purchase.agreement_id}"' in text
    assert 'name="x-amzn-marketplace-product-id" value="prod-flex00000001"' in text


def test_without_a_fulfillment_url_the_page_names_the_option(shop, browse):
    purchase = shop.control.subscribe("reports-flex")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    assert "--fulfillment-url" in text
    assert "<form" not in text


def test_a_product_may_have_a_fulfillment_url_of_its_own(simulator, browse):
    simulator.state.change_conditions(fulfillment_url="http://localhost:1/")
    simulator.control.add_product({"code": "own", "fulfillment_url": "http://localhost:2/"})
    purchase = simulator.control.subscribe("own")
    _, _, text = browse(f"/subscriptions/{purchase.agreement_id}/setup")
    assert 'action="http://localhost:2/"' in text


def test_a_buyer_is_asked_before_a_subscription_is_cancelled(shop, browse):
    purchase = shop.control.subscribe("reports-flex", free_trial=True)
    shop.control.subscribe("reports-legacy")
    shop.control.advance(60)
    agreement = f"/subscriptions/{purchase.agreement_id}"
    assert f'href="{agreement}/cancel"' in browse("/subscriptions")[2]
    assert "What will happen:" in browse(f"{agreement}/cancel")[2]
    assert shop.control.state()["agreements"][0]["status"] == "ACTIVE"
    assert browse(f"{agreement}/cancel", {})[:2] == (303, f"{agreement}?done=cancel")
    text = words(browse(f"{agreement}?done=cancel")[2])
    assert "Done: Cancel subscription." in text
    assert "In its final metering hour" in text
    assert "the buyer cancelled" in text
    shop.control.advance(2 * 3600)
    assert "Ended Free trial Acme Reports Flex It ended on" in words(browse("/subscriptions")[2])
    status, _, text = browse(f"{agreement}/cancel", {})
    assert (status, 'role="alert"' in text) == (422, True)
    assert browse(f"{agreement}/cancel")[0] == 409


def test_units_are_added_on_a_form_with_what_is_bought_already(shop, browse):
    purchase = shop.control.subscribe("reports-flex", quantities={"included_pages": 250})
    amend = f"/subscriptions/{purchase.agreement_id}/amend"
    assert 'name="quantity-included_pages" value="250"' in browse(amend)[2]
    form = {
        "quantity-included_pages": "300",
        "quantity-sso": "on",
        "quantity-ratio": "1",
        "quantity-tier": "gold",
    }
    status, _, text = browse(amend, {**form, "quantity-included_pages": "x"})
    assert (status, "Type a whole number" in text) == (422, True)
    status, _, text = browse(amend, {**form, "quantity-included_pages": "1"})
    assert (status, 'role="alert"' in text) == (422, True)
    assert browse(amend, form)[0] == 303
    shop.control.advance(10)
    assert shop.control.state()["agreements"][0]["quantities"]["included_pages"] == 300
    story = words(browse(f"/subscriptions/{purchase.agreement_id}")[2])
    assert "New quantities take effect: Included pages 300, sso yes, ratio 1, tier gold" in story


def test_a_renewal_shows_the_chain_and_opens_the_new_agreement(shop, browse):
    purchase = shop.control.subscribe("reports-flex")
    shop.control.advance(60)
    old = f"/subscriptions/{purchase.agreement_id}"
    form = {
        "quantity-included_pages": "80",
        "quantity-ratio": "1",
        "quantity-tier": "gold",
        "private_offer": "on",
    }
    status, location, _ = browse(f"{old}/replace", form)
    assert (status, location.startswith(old)) == (303, False)
    text = words(browse(location)[2])
    assert "Renewals and replacements" in text
    assert "Replacement: this agreement" in text
    assert f'href="{old}"' in browse(location)[2]
    assert "private_offer" in browse(location.partition("?")[0] + "/replace")[2]


@pytest.mark.parametrize(
    ("product", "renewing"),
    [("reports-flex", "a renewal follows it"), ("reports-legacy", "The term is over")],
)
def test_automatic_renewal_is_switched_on_and_off(shop, browse, product, renewing):
    purchase = shop.control.subscribe(product)
    page = f"/subscriptions/{purchase.agreement_id}"
    for on, told in (("true", renewing), ("false", "The agreement ends: its term is over")):
        assert f'name="on" value="{on}"' in browse(f"{page}/auto_renew")[2]
        assert browse(f"{page}/auto_renew", {"on": on})[0] == 303
        assert shop.state.agreement(purchase.agreement_id).auto_renew is (on == "true")
        shop.control.advance(60)
        text = words(browse(page)[2])
        assert told in text
        assert ("Renews itself on" in text) is (on == "true")


def test_suspension_and_advisory_are_marked(shop, browse):
    purchase = shop.control.subscribe("reports-payg")
    page = f"/subscriptions/{purchase.agreement_id}"
    shop.control.advance(60)
    for action in ("suspend", "issue_advisory"):
        browse(f"{page}/{action}", {})
    text = words(browse(page)[2])
    assert "Active Buyer suspended Advisory open" in text
    assert "It has no end date." in text
    assert f'href="{page}/reinstate"' in browse(page)[2]


def test_an_agreement_tells_its_whole_story(shop, browse, metering, license_):
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=20)])
    shop.control.subscribe("reports-legacy", aws_account_id="123456789012")
    text = words(browse(f"/subscriptions/{license_.agreement_id}")[2])
    assert "2026-11-23 12:00:05 UTC The license becomes active" in text
    assert "still to come The agreement ends: its term is over" in text
    assert "Purchase Agreement Ended - Proposer" in text
    assert "License Updated - Manufacturer marketplace-events, waiting" in text
    assert "pages 20 2.00" in text


def test_a_free_trial_says_until_when(shop, browse):
    shop.control.subscribe("reports-payg", free_trial=True)
    assert "Being activated" in words(browse("/subscriptions")[2])
    shop.control.advance(60)
    assert "Free trial until 2026-12-23 12:00 UTC." in words(browse("/subscriptions")[2])
    shop.control.advance(timedelta(days=40))
    assert "Free trial over" in words(browse("/subscriptions")[2])


def test_a_long_list_of_subscriptions_is_paged_and_filtered(shop, browse):
    for number in range(21):
        shop.control.subscribe("reports-payg", aws_account_id=f"{100000000000 + number}")
    first = browse("/subscriptions")[2]
    assert "1–20 of 21" in first
    assert "100000000000" not in first
    assert "100000000000" in browse("/subscriptions?page=2")[2]
    assert "21–21 of 21" in browse("/subscriptions?page=99")[2]
    assert "1–20 of 21" in browse("/subscriptions?page=x")[2]
    only = browse("/subscriptions?account=100000000003")[2]
    assert "100000000003" in only
    assert "100000000004" not in only
    assert "Show every buyer" in only


def test_the_control_room_moves_the_clock(shop, browse):
    assert browse("/control/clock", {"move": "3600"})[:2] == (303, "/control")
    assert (shop.control.now() - NOON).total_seconds() == 3600
    browse("/control/clock", {"move": "resume"})
    assert shop.control.state()["clock"]["frozen"] is False
    browse("/control/clock", {"move": "freeze"})
    assert "frozen" in browse("/control")[2]
    assert browse("/control/clock", {"move": "7"})[0] == 400


def test_the_clock_leaps_to_what_matters(shop, browse):
    shop.control.advance(90)
    browse("/control/clock", {"move": "next-hour"})
    assert shop.control.now() == NOON + timedelta(hours=1)
    assert browse("/control/clock", {"move": "next-event"})[0] == 400
    shop.control.subscribe("reports-payg")
    browse("/control/clock", {"move": "next-event"})
    assert shop.control.now() == NOON + timedelta(hours=1, seconds=2)
    for month in ("2026-12-01", "2027-01-01"):
        browse("/control/clock", {"move": "month-end"})
        assert shop.control.now().isoformat() == f"{month}T05:59:00+00:00"
    shop.control.freeze(datetime(2027, 2, 1, 3, tzinfo=UTC))
    browse("/control/clock", {"move": "month-end"})
    assert shop.control.now() == datetime(2027, 2, 1, 5, 59, tzinfo=UTC)


def test_the_clock_is_set_and_sped_up(shop, browse):
    assert browse("/control/clock", {"at": "2026-02-03T04:05:06"})[0] == 303
    assert shop.control.now() == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert browse("/control/clock", {"at": "2026-02-03 05:00 UTC"})[0] == 303
    assert browse("/control/clock", {"at": "2026-02-03T06:00:00+02:00"})[0] == 303
    assert shop.control.now() == datetime(2026, 2, 3, 4, 0, tzinfo=UTC)
    assert browse("/control/clock", {"speed": "60"})[0] == 303
    assert "60× speed" in browse("/control")[2]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"at": ""}, "Type when it should be"),
        ({"at": "soon"}, "Write it like"),
        ({"at": "9999-12-31T23:59:00-23:00"}, "Write it like"),
        ({"speed": ""}, "A speed is above 0"),
        ({"speed": "-1"}, "A speed is above 0"),
        ({"speed": "fast"}, "'fast' is not a number"),
    ],
)
def test_a_clock_set_wrong_says_so_beside_the_field(shop, browse, form, text):
    status, _, page = browse("/control/clock", form)
    assert (status, text in html.unescape(page)) == (422, True)
    assert shop.control.now() == NOON


def test_a_leap_beyond_the_calendar_is_refused(shop, browse):
    browse("/control/clock", {"at": "2999-12-31T23:30:00"})
    status, _, text = browse("/control/clock", {"move": "86400"})
    assert (status, "The clock runs from the year 2000" in text) == (422, True)


def test_reset_asks_first(shop, browse):
    shop.control.subscribe("reports-payg")
    assert "cannot be undone" in browse("/control/reset")[2]
    assert len(shop.state.agreements) == 1
    assert browse("/control/reset", {})[:2] == (303, "/control")
    assert len(shop.state.agreements) == 0


def test_faults_are_ordered_listed_and_cleared(shop, browse):
    calls = {
        "operation": "*",
        "count": "",
        "seconds": "2",
        "share": "0.5",
        "code": "",
        "status": "400",
        "message": "",
    }
    for fault in ("throttle", "unprocessed", "empty", "latency"):
        assert browse("/control/faults", {**calls, "fault": fault})[0] == 303
    named = {**calls, "fault": "error", "code": "AccessDeniedException", "status": "403", "count": "2"}
    assert browse("/control/faults", named)[0] == 303
    events = {"operation": "events", "fault": "delay", "count": "1", "seconds": "90"}
    assert browse("/control/faults", events)[0] == 303
    text = words(browse("/control/faults")[2])
    for told in (
        "Throttled , every operation, until cleared",
        "UnprocessedRecords (BatchMeterUsage), 50% of the records , BatchMeterUsage",
        "Empty answer {} (GetEntitlements) , GetEntitlements",
        "Slow answer, 2 seconds",
        "AccessDeniedException (HTTP 403) , every operation, 2 times",
        "Late, 90 seconds , events, once",
    ):
        assert told in text
    assert "Throttled" in browse("/control")[2]
    assert browse("/control/faults/clear", {})[:2] == (303, "/control/faults")
    assert shop.control.state()["faults"] == []


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"fault": "throttle", "count": "x"}, "form-count"),
        ({"fault": "throttle", "count": "-1"}, "form-count"),
        ({"fault": "unprocessed", "operation": "ResolveCustomer", "count": "1"}, "form-operation"),
        ({"fault": "error", "code": "no spaces", "count": "1"}, "form-code"),
        ({"fault": "delay", "operation": "events", "count": "0"}, "events-count"),
    ],
)
def test_a_fault_ordered_wrong_says_so_beside_the_field(shop, browse, form, field):
    status, _, text = browse("/control/faults", form)
    assert status == 422
    assert f'id="{field}-error"' in text
    assert shop.control.state()["faults"] == []


def test_a_fault_that_cannot_be_says_so_above_the_forms(shop, browse):
    status, _, text = browse("/control/faults", {"operation": "events", "fault": "throttle", "count": "1"})
    assert (status, 'role="alert"' in text) == (422, True)


def test_messages_can_be_read_without_receiving_them(shop, browse, aws):
    shop.control.subscribe("reports-legacy")
    shop.control.subscribe("reports-payg")
    shop.control.advance(60)
    queues.send(shop.state.messages, "marketplace-events", "not JSON", sent_at=NOON)
    queues.send(shop.state.messages, "marketplace-events", "[1]", sent_at=NOON)
    text = words(browse("/control/queues/marketplace-events")[2])
    assert "Purchase Agreement Created - Proposer waiting" in text
    assert "subscribe-success waiting" in text
    assert '"action": "subscribe-success"' in text
    assert "not JSON" in text
    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName="marketplace-events")["QueueUrl"]
    assert sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"]
    text = words(browse("/control/queues/marketplace-events")[2])
    assert re.search(r"in flight for \d+ s more, received once", text)
    assert "In flight 1" in words(browse("/control/queues")[2])
    assert browse("/control/queues/none")[0] == 404


def test_dead_letters_are_redriven_from_the_page(shop, browse):
    shop.state.queues["main"] = Queue("main", dead_letter_queue="dead")
    shop.state.queues["dead"] = Queue("dead", receives=())
    message = queues.send(shop.state.messages, "dead", "{}", sent_at=NOON)
    shop.state.messages[message.message_id] = replace(message, moved_from="main", receive_count=2)
    text = words(browse("/control/queues")[2])
    assert "dead after being received 5 times" in text
    assert "Redrive 1 dead letter" in text
    assert "received 2 times, dead letter of main" in words(browse("/control/queues/dead")[2])
    assert "1 dead letters" in words(browse("/control")[2])
    assert browse("/control/queues/dead/redrive", {})[0] == 303
    assert [found.body for found in queues.of(shop.state.messages, "main")] == ["{}"]
    assert browse("/control/queues/none/redrive", {})[0] == 404


def test_a_redrive_of_a_queue_nobody_buries_in_changes_nothing(shop, browse):
    shop.state.queues["lone"] = Queue("lone", receives=())
    queues.send(shop.state.messages, "lone", "{}", sent_at=NOON)
    assert browse("/control/queues/lone/redrive", {})[0] == 303
    assert len(list(queues.of(shop.state.messages, "lone"))) == 1


def test_scheduled_events_and_messages_are_paged(shop, browse):
    for _ in range(26):
        shop.control.subscribe("reports-payg")
    assert "1–50 of 52" in browse("/control/queues")[2]
    shop.control.advance(60)
    assert "21–40 of 52" in browse("/control/queues/marketplace-events?page=2")[2]


def test_requests_are_shown_side_by_side_and_filtered(shop, browse, aws, license_):
    metering = aws("meteringmarketplace")
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=2)])
    with pytest.raises(metering.exceptions.InvalidTokenException):
        metering.resolve_customer(RegistrationToken="nonsense")
    text = browse("/control/requests")[2]
    assert "400 InvalidTokenException" in words(text)
    assert "(masked, 8 characters)" in text
    assert words(text).index("ResolveCustomer 400") < words(text).index("BatchMeterUsage 200")
    only = words(browse("/control/requests?operation=BatchMeterUsage")[2])
    assert "InvalidTokenException" not in only
    failed = words(browse("/control/requests?failed=on")[2])
    assert "InvalidTokenException" in failed
    assert "BatchMeterUsage 200" not in failed
    assert "No request is like that" in browse("/control/requests?operation=BatchMeterUsage&failed=on")[2]
    (url,) = set(re.findall(r"/control/requests/[0-9a-f-]{36}", browse("/control/requests?failed=on")[2]))
    assert "InvalidTokenException" in browse(url)[2]
    assert browse("/control/requests/none")[0] == 404


def test_a_long_body_is_cut_in_the_list_only(shop, browse, metering, license_):
    records = [usage(license_, Quantity=2, Timestamp=NOON - timedelta(seconds=0)) for _ in range(25)]
    metering.batch_meter_usage(UsageRecords=records)
    text = browse("/control/requests")[2]
    assert "Cut here." in text
    url = re.search(r"/control/requests/[0-9a-f-]{36}", text)[0]
    assert words(browse(url)[2]).count(license_.license_arn) >= 25


def test_many_requests_are_paged(shop, browse, aws):
    sqs = aws("sqs")
    for _ in range(26):
        sqs.get_queue_url(QueueName="marketplace-events")
    assert "1–25 of 26" in browse("/control/requests")[2]
    text = browse("/control/requests?operation=GetQueueUrl&page=2")[2]
    assert "26–26 of 26" in text
    assert "?operation=GetQueueUrl&amp;page=1" in text


def test_a_call_without_an_operation_is_logged_too(shop, browse):
    browse("/", {"a": "b"})
    assert "(no operation)" in browse("/control/requests")[2]


def test_switches_are_saved_together(shop, browse):
    text = browse("/control/switches")[2]
    assert all(switch["name"] in text for switch in describe_switches(shop.state.switches))
    form = {
        "identical_repeat": "DuplicateRecord",
        "token_reuse": "false",
        "future_tolerance_seconds": "1.5",
        "disabled_regions": "eu-west-1, eu-west-2",
        "shape_error_code": "OtherException",
        "final_hour": "60",
    }
    assert browse("/control/switches", form)[:2] == (303, "/control/switches?saved=1")
    switches = shop.state.switches
    assert (switches.identical_repeat, switches.token_reuse) == ("DuplicateRecord", False)
    assert (switches.future_tolerance_seconds, switches.shape_error_code) == (1.5, "OtherException")
    assert switches.disabled_regions == ("eu-west-1", "eu-west-2")
    assert shop.state.timings.final_hour == timedelta(seconds=60)
    text = words(browse("/control/switches?saved=1")[2])
    assert "Saved." in text
    assert "Default: Success (changed)" in text
    assert "identical_repeat : DuplicateRecord" in words(browse("/control")[2])
    assert browse("/control/switches/reset", {})[0] == 303
    assert shop.state.switches.token_reuse is True
    assert shop.state.timings.final_hour == timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("identical_repeat", "Maybe"),
        ("token_reuse", "perhaps"),
        ("future_tolerance_seconds", "long"),
        ("final_hour", "-1"),
        ("token_lifetime", ""),
    ],
)
def test_a_switch_set_wrong_saves_nothing_and_says_so(shop, browse, name, typed):
    before = shop.state.conditions[""]
    status, _, text = browse("/control/switches", {name: typed, "sns_old_keys": "true"})
    assert status == 422
    assert f'-{name}-error"' in text
    assert shop.state.conditions[""] == before


def test_the_control_room_and_invoice_show_what_was_metered(shop, browse, metering, license_):
    split = [
        {"AllocatedUsageQuantity": 1, "Tags": [{"Key": "team", "Value": "ml"}]},
        {"AllocatedUsageQuantity": 1},
    ]
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=2, UsageAllocations=split)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, Quantity=2)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, LicenseArn=None)])
    room = words(browse("/control")[2])
    assert "BatchMeterUsage" in room
    assert "Double billing" in room
    assert "stop the first before starting the second" in room
    page = words(browse("/invoice")[2])
    assert "1: team=ml" in page
    assert "1: untagged" in page
    assert page.count("billed twice") == 2
    assert "Together 0.30" in page


def test_usage_on_trial_is_free(shop, browse, metering):
    trial = shop.control.subscribe("reports-payg", free_trial=True, aws_account_id="123456789012")
    shop.control.advance(600)
    metering.batch_meter_usage(UsageRecords=[usage(trial, Quantity=20)])
    shop.control.advance(timedelta(days=30))
    after = usage(trial, Quantity=5, Timestamp=shop.control.now())
    metering.batch_meter_usage(UsageRecords=[after])
    page = words(browse("/invoice")[2])
    assert "25 20 on trial, free 0.60" in page
    assert "20 free trial" in page
    assert "pages by day" in page


def test_the_invoice_is_filtered_and_paged(shop, browse, metering):
    one, other = (
        shop.control.subscribe("reports-payg", aws_account_id=account)
        for account in ("111122223333", "444455556666")
    )
    shop.control.advance(600)
    for _ in range(26):
        shop.control.advance(3600)
        records = [usage(bought, Quantity=1, Timestamp=shop.control.now()) for bought in (one, other)]
        metering.batch_meter_usage(UsageRecords=records)
    page = browse("/invoice")[2]
    assert "1–50 of 52" in page
    assert "51–52 of 52" in browse("/invoice?page=2")[2]
    assert page.count("<rect ") == 26
    page = words(browse(f"/invoice?agreement={one.agreement_id}&dimension=pages")[2])
    assert "1–26 of 26" in page
    assert "Together 3.12" in page
    nothing = browse("/invoice?agreement=none&dimension=other")[2]
    assert "No usage was billed for that" in nothing
    assert '<option value="none" selected>' in nothing
    assert '<option value="other" selected>' in nothing


def test_a_chart_is_drawn_of_one_dimension_and_links_the_others(simulator, browse, metering):
    dimensions = [{"key": key, "kind": "metered", "price": "1"} for key in ("a", "b")]
    simulator.control.add_product({"code": "p/:@", "dimensions": dimensions})
    simulator.control.freeze(NOON)
    bought = simulator.control.subscribe("p/:@", aws_account_id="123456789012")
    simulator.control.advance(600)
    metering.batch_meter_usage(UsageRecords=[usage(bought, Dimension=key, Quantity=0) for key in "ab"])
    page = browse("/invoice")[2]
    assert "a by hour" in page
    assert 'href="?dimension=b"' in page
    assert "b by hour" in browse("/invoice?dimension=b")[2]


def test_many_allocations_are_cut(shop, browse, metering, license_):
    split = [
        {"AllocatedUsageQuantity": 1, "Tags": [{"Key": "team", "Value": f"t{number}"}]} for number in range(7)
    ]
    metering.batch_meter_usage(UsageRecords=[usage(license_, Quantity=7, UsageAllocations=split)])
    page = words(browse("/invoice")[2])
    assert "1: team=t4 and 2 more" in page


def test_forms_of_other_sites_are_refused(shop, browse):
    for origin in ("https://evil.example", "null"):
        assert browse("/products/reports-payg", {}, origin=origin)[0] == 403
        assert browse("/control/reset", {}, origin=origin)[0] == 403
    assert shop.control.state()["agreements"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/products",
        "/products/none",
        "/subscriptions/none",
        "/subscriptions/a/b",
        "/control/x",
        "/subscriptions/none/setup",
        "/subscriptions/none/cancel",
    ],
)
def test_unknown_pages_are_pages_too(shop, browse, path):
    status, _, text = browse(path)
    assert status in (400, 404)
    assert "That did not work" in text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/subscriptions", "/control/none", "/control/faults/x", "/control/switches/x", "/invoice"],
)
def test_unknown_forms_are_pages_too(shop, browse, path):
    assert browse(path, {})[0] == 404


def test_other_methods_are_refused(shop, browse):
    assert browse("/control", method="DELETE")[0] == 405


def test_a_form_of_thousands_of_fields_is_not_read(shop, browse):
    status, _, _ = browse("/products/reports-flex", {f"a{number}": "1" for number in range(1001)})
    assert status == 422


def test_what_sellers_write_is_escaped(simulator, browse):
    code = "p/:@"
    simulator.control.add_product(
        {
            "code": code,
            "title": "<script>x</script>",
            "summary": "<b>",
            "pricing": "contract",
            "dimensions": [{"key": '"><i>', "kind": "entitled", "default_quantity": 1}],
        }
    )
    for path in ("/", f"/products/{quote(code, safe='')}", f"/products/{code}"):
        status, _, text = browse(path)
        assert (status, "<script>" in text, "<i>" in text, "<b>" in text) == (200, False, False, False)
    status, location, _ = browse(f"/products/{quote(code, safe='')}", {'quantity-"><i>': "3"})
    assert status == 303
    assert "<i>" not in browse(location.removesuffix("/bought"))[2]
    assert "<i>" not in browse("/subscriptions")[2]


def test_the_stylesheet_is_served(browse):
    status, _, text = browse("/simulator.css")
    assert status == 200
    assert "prefers-color-scheme" in text


def test_messages_are_readable_json(shop, browse):
    purchase = shop.control.subscribe("reports-payg")
    shop.control.advance(60)
    text = browse("/control/queues/marketplace-events")[2]
    body = html.unescape(re.search(r"<pre[^>]*><code>(.*?)</code>", text, re.DOTALL)[1])
    assert json.loads(body)["detail"]["agreement"]["id"] == purchase.agreement_id

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.simulator.client import ControlError
from billing.simulator.lifecycle.actions import ACTIONS
from tests.simulator.conftest import NOON, PAYG


def call(simulator, method, path, body=None, **headers):
    url = f"{simulator.url}/_simulator/{path}"
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_subscribe_answers_what_the_buyer_and_the_tests_need(shop):
    status, answer = call(shop, "POST", "subscribe", b'{"product_code": "reports-flex"}')
    assert status == 200
    assert set(answer) == {"token", "license_arn", "agreement_id", "aws_account_id", "customer_identifier"}
    assert answer["customer_identifier"] is None
    assert len(answer["aws_account_id"]) == 12
    other = shop.control.subscribe("reports-flex")
    assert other.aws_account_id != answer["aws_account_id"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"product_code": "none"}',
        b'{"product_code": 1}',
        b'{"product_code": "reports-flex", "aws_account_id": "12"}',
        b'{"product_code": "reports-flex", "quantities": []}',
        b'{"product_code": "reports-flex", "quantities": {"nothing": 1}}',
        b'{"product_code": "reports-flex", "quantities": {"included_pages": -1}}',
        b'{"product_code": "reports-flex", "quantities": {"included_pages": "many"}}',
        b'{"product_code": "reports-flex", "quantities": {"included_pages": true}}',
        b'{"product_code": "reports-flex", "quantities": {"sso": 1}}',
        b'{"product_code": "reports-payg", "quantities": {"pages": 1}}',
        b'{"product_code": "reports-flex", "free_trial": "yes"}',
        b'{"product_code": "reports-flex", "identity": "other"}',
        b'{"product_code": "reports-flex", "started_at": "yesterday"}',
        b'{"product_code": "reports-flex", "started_at": "2026-11-23T12:00:00"}',
        b'{"product_code": "reports-flex", "started_at": "0001-01-01T00:00:00Z"}',
        b'{"product_code": "reports-flex", "license_updated_after": -1}',
        b'{"product_code": "reports-flex", "license_updated_after": 1e300}',
        b'{"product_code": "reports-flex", "license_updated_after": NaN}',
        b'{"product_code": "reports-flex", "quantities": {"ratio": 1e999}}',
        b'{"product_code": "reports-flex", "free_trail": true}',
        b'{"product_code": "reports-flex", "free_trial": 1.5}',
        b'{"product_code": "reports-flex", "private_offer": 1}',
    ],
    ids=lambda body: body[:90].decode(),
)
def test_a_bad_subscription_is_a_400_that_says_why(shop, body):
    status, answer = call(shop, "POST", "subscribe", body)
    assert status == 400
    assert set(answer) == {"error"}
    assert shop.control.state()["agreements"] == []


def test_a_typo_is_named_and_so_is_what_there_is(shop, license_):
    status, answer = call(shop, "POST", "subscribe", b'{"product_code": "reports-flex", "free_trail": 1}')
    assert status == 400
    assert answer["error"].startswith("free_trail is not known here. It takes product_code, ")
    for path in ("clock", "faults", "switches", "timings", "queues", "reset"):
        status, answer = call(shop, "POST", path, b'{"typo": 1}')
        assert (status, "typo" in answer["error"]) == (400, True)
    path = f"agreements/{license_.agreement_id}"
    for action in ("cancel", "token", "renew"):
        assert call(shop, "POST", f"{path}/{action}", b'{"typo": 1}')[0] == 400
    assert shop.control.state()["agreements"][0]["status"] == "ACTIVE"


def test_every_address_is_listed_with_a_line_on_it(shop):
    status, answer = call(shop, "GET", "")
    assert status == 200
    addresses = answer["addresses"]
    assert all(about.endswith(".") for about in addresses.values())
    for address in addresses:
        method, path = address.split()
        if method == "GET" and path != "invoice.csv":
            assert call(shop, method, path)[0] == 200
    assert "POST agreements/AGREEMENT_ID/opt_in" in addresses


def test_pages_of_other_sites_may_not_drive_it(shop):
    for method, path in (("POST", "reset"), ("DELETE", "faults")):
        status, answer = call(shop, method, path, Origin="https://elsewhere.example")
        assert (status, set(answer)) == (403, {"error"})
    assert call(shop, "POST", "clock", Origin=shop.url)[0] == 200


def test_products_can_be_read_and_posted_back(shop):
    products = shop.control.products()
    assert [product["code"] for product in products] == ["reports-flex", "reports-payg", "reports-legacy"]
    assert products[0]["dimensions"][4]["price"] == "0.10"
    for product in products:
        shop.control.add_product(product)
    assert shop.control.products() == products


def test_the_invoice_is_also_a_csv(shop):
    with urllib.request.urlopen(f"{shop.url}/_simulator/invoice.csv") as response:
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.read().decode() == shop.control.usage_report()


class TestQueues:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": "a b"},
            {"name": "mine", "receives": "sns"},
            {"name": "mine", "receives": ["smoke"]},
            {"name": "mine", "receives": [["sns"]]},
            {"name": "mine", "visibility_seconds": -1},
            {"name": "mine", "visibility_seconds": 1.5},
            {"name": "mine", "max_receives": 0},
            {"name": "mine", "max_receives": True},
            {"name": "mine", "dead_letter_queue": "none"},
            {"name": "marketplace-events", "dead_letter_queue": "marketplace-events"},
        ],
        ids=str,
    )
    def test_a_bad_queue_is_refused(self, shop, body):
        status, answer = call(shop, "POST", "queues", json.dumps(body).encode())
        assert (status, set(answer)) == (400, {"error"})
        assert len(shop.control.state()["queues"]) == 2

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("none/messages", {"body": "text"}),
            ("marketplace-events/messages", {}),
            ("marketplace-events/messages", {"body": ""}),
            ("marketplace-events/messages", {"body": {"an": "object"}}),
            ("marketplace-events/messages", {"body": "x" * (1024 * 1024 + 1)}),
            ("marketplace-events/messages", {"body": "\ud800"}),
            ("marketplace-events/explode", {}),
        ],
    )
    def test_a_bad_message_is_refused(self, shop, path, body):
        status, answer = call(shop, "POST", f"queues/{path}", json.dumps(body).encode())
        assert (status, set(answer)) == (400, {"error"})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = (
    "product_code",
    "aws_account_id",
    "quantities",
    "free_trial",
    "started_at",
    "identity",
    "channel_partner",
    "auto_renew",
    "on",
    "now",
    "advance_seconds",
    "freeze",
    "speed",
    "offset_seconds",
    "operation",
    "fault",
    "count",
    "seconds",
    "share",
    "code",
    "message",
    "status",
    "name",
    "receives",
    "visibility_seconds",
    "max_receives",
    "dead_letter_queue",
    "body",
    "private_offer",
    "payment_fails",
    "quotas",
    "sns_body",
    "disabled_regions",
    "contract_term",
    "dimensions",
    "pricing",
    "title",
    "key",
    "price",
    "license_updated_after",
)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_whatever_breaks_it(shop, data):
    purchase = shop.control.subscribe("reports-flex")
    paths = (
        *("subscribe", "clock", "faults", "products", "switches", "timings", "queues"),
        *(f"agreements/{purchase.agreement_id}/{action}" for action in (*ACTIONS, "token")),
        "queues/marketplace-events/messages",
        "queues/marketplace-events-dead/redrive",
    )
    path = data.draw(st.sampled_from(paths))
    known = {"product_code": "reports-flex", "code": "p", "name": "q", "fault": "throttle", "on": True}
    start = data.draw(st.dictionaries(st.sampled_from(list(known)), st.none()))
    body = {name: known[name] for name in start}
    body |= data.draw(st.dictionaries(st.sampled_from(MEMBERS), JSON_VALUES, max_size=3))
    status, answer = call(shop, "POST", path, json.dumps(body).encode())
    assert status in (200, 400), answer
    assert status == 200 or set(answer) == {"error"}
    assert call(shop, "GET", "state")[0] == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_a_number_beyond_every_number_is_refused(shop, number):
    body = f'{{"future_tolerance_seconds": {number}}}'.encode()
    status, answer = call(shop, "POST", "switches", body)
    assert (status, answer) == (400, {"error": "The body is not JSON"})
    assert shop.control.switches()["future_tolerance_seconds"] == 0


def test_half_a_character_is_refused(shop):
    assert call(shop, "POST", "products", b'{"code": "a", "title": "\\ud800"}')[0] == 400


def test_unknown_addresses_say_what_there_is(simulator):
    for method, path in (("GET", "nothing"), ("POST", "state"), ("PUT", "clock"), ("DELETE", "state")):
        status, answer = call(simulator, method, path)
        assert status == 400
        assert "POST subscribe" in answer["error"]


class TestClock:
    def test_it_runs_with_real_time(self, simulator):
        assert abs(simulator.control.now() - datetime.now(UTC)) < timedelta(seconds=5)

    def test_it_can_be_offset(self, simulator):
        simulator.control.set_offset(-7200)
        assert abs(simulator.control.now() - datetime.now(UTC) + timedelta(hours=2)) < timedelta(seconds=5)
        assert abs(simulator.control.state()["clock"]["offset_seconds"] + 7200) < 1

    def test_it_can_be_set_and_frozen_and_resumed(self, simulator):
        assert simulator.control.freeze(NOON) == NOON
        assert simulator.control.now() == NOON
        assert simulator.control.advance(timedelta(hours=1)) == NOON + timedelta(hours=1)
        resumed = simulator.control.resume()
        assert timedelta() <= resumed - NOON - timedelta(hours=1) < timedelta(seconds=5)
        assert simulator.control.state()["clock"]["frozen"] is False
        simulator.control.resume()
        assert simulator.control.set_now(NOON) - NOON < timedelta(seconds=5)

    def test_it_can_go_backwards_and_what_was_true_then_is_true_again(self, shop, license_):
        shop.control.advance(-605)
        (agreement,) = shop.control.state()["agreements"]
        assert agreement["license_active"] is False
        shop.control.advance(605)
        (agreement,) = shop.control.state()["agreements"]
        assert agreement["license_active"] is True

    @pytest.mark.parametrize(
        "body",
        [
            {"advance_seconds": "1"},
            {"advance_seconds": 1e12},
            {"advance_seconds": 1e300},
            {"advance_seconds": True},
            {"now": "2026-11-23T12:00:00"},
            {"now": "2026-11-23T12:00:00Z", "offset_seconds": 1},
            {"offset_seconds": 1e12},
            {"freeze": 1},
        ],
        ids=str,
    )
    def test_a_bad_move_is_refused_and_moves_nothing(self, shop, body):
        status, answer = call(shop, "POST", "clock", json.dumps(body).encode())
        assert (status, set(answer)) == (400, {"error"})
        assert shop.control.now() == NOON


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "Nothing", "fault": "throttle"},
        {"operation": "*", "fault": "nothing"},
        {"operation": "ResolveCustomer", "fault": "unprocessed"},
        {"operation": "*", "fault": "empty"},
        {"operation": "*", "fault": "throttle", "count": 0},
        {"operation": "*", "fault": "throttle", "count": "1"},
        {"operation": "*", "fault": "latency", "seconds": 61},
        {"operation": "BatchMeterUsage", "fault": "unprocessed", "share": 2},
        {"operation": "BatchMeterUsage", "fault": "unprocessed", "share": "all"},
    ],
    ids=str,
)
def test_a_bad_fault_is_refused(simulator, body):
    status, answer = call(simulator, "POST", "faults", json.dumps(body).encode())
    assert (status, set(answer)) == (400, {"error"})
    assert simulator.control.state()["faults"] == []


class TestProducts:
    def test_a_product_is_listed_and_replaced(self, simulator):
        assert simulator.control.add_product({**PAYG, "unknown": 1}) == "reports-payg"
        simulator.control.add_product({**PAYG, "title": "Again"})
        assert simulator.control.state()["products"] == ["reports-payg"]
        assert simulator.state.products["reports-payg"].title == "Again"

    @pytest.mark.parametrize(
        "product",
        [
            {},
            {"code": ""},
            {"code": "spa ce"},
            {"code": "p", "pricing": "free"},
            {"code": "p", "identity": "other"},
            {"code": "p", "title": 1},
            {"code": "p", "dimensions": {}},
            {"code": "p", "dimensions": [1]},
            {"code": "p", "dimensions": [{}]},
            {"code": "p", "dimensions": [{"key": "a b"}]},
            {"code": "p", "dimensions": [{"key": "a"}, {"key": "a"}]},
            {"code": "p", "dimensions": [{"key": "a", "kind": "other"}]},
            {"code": "p", "dimensions": [{"key": "a", "price": "cheap"}]},
            {"code": "p", "dimensions": [{"key": "a", "price": "-1"}]},
            {"code": "p", "dimensions": [{"key": "a", "default_quantity": "many"}]},
        ],
        ids=str,
    )
    def test_a_bad_product_is_refused(self, simulator, product):
        with pytest.raises(ControlError):
            simulator.control.add_product(product)
        assert simulator.control.state()["products"] == []


class TestAgreements:
    def test_what_does_not_exist_or_cannot_be_done_is_refused(self, shop, license_):
        with pytest.raises(ControlError, match="no agreement"):
            shop.control.cancel("agmt-nothing")
        status, answer = call(shop, "POST", f"agreements/{license_.agreement_id}/explode")
        assert (status, "An agreement knows amend, renew" in answer["error"]) == (400, True)

    def test_it_is_cancelled_once(self, shop, license_):
        assert shop.control.cancel(license_.agreement_id)["status"] == "CANCELLED"
        with pytest.raises(ControlError, match="CANCELLED already"):
            shop.control.cancel(license_.agreement_id)
        with pytest.raises(ControlError, match="CANCELLED already"):
            shop.control.amend(license_.agreement_id, {"included_pages": 200})

    def test_units_are_added_and_never_reduced(self, shop, license_):
        shop.control.amend(license_.agreement_id, {"included_pages": 200})
        shop.control.advance(5)
        (agreement,) = shop.control.state()["agreements"]
        assert agreement["quantities"] == {"included_pages": 200, "sso": True, "ratio": 1.0, "tier": "gold"}
        with pytest.raises(ControlError, match="not reduce"):
            shop.control.amend(license_.agreement_id, {"included_pages": 199})

    def test_pay_as_you_go_is_not_amended(self, shop):
        purchase = shop.control.subscribe("reports-payg")
        with pytest.raises(ControlError, match="cannot be amended"):
            shop.control.amend(purchase.agreement_id, {})


def test_reset_goes_back_to_the_start(shop, license_):
    shop.control.fault("*", "throttle")
    shop.control.reset()
    state = shop.control.state()
    assert state["agreements"] == state["products"] == state["faults"] == state["scheduled_events"] == []
    empty = {"visible": 0, "in_flight": 0}
    assert state["queues"] == {"marketplace-events": empty, "marketplace-events-dead": empty}
    assert state["clock"]["frozen"] is False
    assert shop.control.invoice()["lines"] == []

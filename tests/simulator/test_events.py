from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import pairwise

import pytest

from billing.simulator.client import ControlError
from tests.simulator.conftest import NOON
from tests.simulator.messages import actions, kinds, received

__all__ = ["received"]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_purchase_is_announced_then_licensed(shop, received):
    purchase = shop.control.subscribe("reports-payg", aws_account_id="123456789012")
    assert received() == []
    shop.control.advance(2)
    (created,) = received()
    shop.control.advance(2.9)
    assert received() == []
    shop.control.advance(0.1)
    (licensed,) = received()
    assert created["detail"] == {
        "requestId": created["detail"]["requestId"],
        "catalog": "AWSMarketplace",
        "agreement": {
            "id": purchase.agreement_id,
            "intent": "NEW",
            "status": "ACTIVE",
            "acceptanceTime": "2026-11-23T12:00:00Z",
            "startTime": "2026-11-23T12:00:00Z",
            "endTime": "9999-01-01T00:00:00Z",
        },
        "offer": {"id": created["detail"]["offer"]["id"]},
        "resaleAuthorization": {"id": None},
        "acceptor": {"accountId": "123456789012"},
        "proposer": {"accountId": "111111111111"},
    }
    assert licensed == {
        "version": "0",
        "id": licensed["id"],
        "detail-type": "License Updated - Manufacturer",
        "source": "aws.agreement-marketplace",
        "account": "111111111111",
        "time": "2026-11-23T12:00:05Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:aws-marketplace::aws:agreement:{purchase.agreement_id}"],
        "detail": {
            "requestId": licensed["detail"]["requestId"],
            "catalog": "AWSMarketplace",
            "agreement": {"id": purchase.agreement_id},
            "offer": created["detail"]["offer"],
            "product": {"id": "prod-payg00000001", "code": "reports-payg"},
            "license": {"arn": purchase.license_arn},
            "acceptor": {"accountId": "123456789012"},
            "proposer": {"accountId": "111111111111"},
        },
    }
    assert created["detail-type"] == "Purchase Agreement Created - Proposer"
    assert UUID.fullmatch(created["id"])
    assert created["id"] != licensed["id"]
    assert re.fullmatch(r"arn:aws:license-manager::\d{12}:license:l-[0-9a-f]{32}", purchase.license_arn)


def test_a_cancellation_ends_the_agreement_at_once_and_the_license_half_a_minute_later(
    shop, received, license_
):
    received()
    shop.control.cancel(license_.agreement_id)
    (ended,) = received()
    assert ended["detail-type"] == "Purchase Agreement Ended - Proposer"
    assert ended["detail"]["agreement"] == {"id": license_.agreement_id, "status": "CANCELLED"}
    assert "offer" not in ended["detail"]
    shop.control.advance(30)
    (gone,) = received()
    assert (gone["detail-type"], gone["time"]) == (
        "License Deprovisioned - Manufacturer",
        "2026-11-23T12:10:30Z",
    )
    assert gone["detail"]["license"] == {"arn": license_.license_arn}
    shop.control.advance(timedelta(days=400))
    assert received() == []


def test_a_contract_that_runs_out_is_announced_and_says_so(shop, received, license_):
    received()
    shop.control.advance(timedelta(days=366))
    *notices, ended, gone = received()
    assert [notice["detail"]["agreement"]["daysBeforeEndTime"] for notice in notices] == [
        180,
        120,
        90,
        60,
        30,
    ]
    assert notices[0]["detail-type"] == "Purchase Agreement Ending - Proposer"
    assert notices[0]["time"] == "2027-05-27T12:00:00Z"
    assert notices[0]["detail"]["agreement"] == {
        "id": license_.agreement_id,
        "startTime": "2026-11-23T12:00:00Z",
        "endTime": "2027-11-23T12:00:00Z",
        "status": "ACTIVE",
        "daysBeforeEndTime": 180,
        "autoRenewalEnabled": False,
    }
    assert notices[0]["detail"]["renewalSummary"] == {"lockoutStartTime": None, "disabledBy": "ACCEPTOR"}
    assert notices[0]["detail"]["product"] == {"id": "prod-flex00000001", "title": "Acme Reports Flex"}
    assert ended["detail"]["agreement"]["status"] == "EXPIRED"
    assert gone["detail-type"] == "License Deprovisioned - Manufacturer"


def test_advancing_by_hours_delivers_all_that_fell_due_in_order(shop, received):
    first = shop.control.subscribe("reports-payg")
    shop.control.advance(3)
    shop.control.subscribe("reports-payg")
    shop.control.cancel(first.agreement_id)
    shop.control.advance(timedelta(hours=3))
    times = [body["time"] for body in received()]
    assert len(times) == 6
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_the_delays_of_one_purchase_can_be_chosen(shop, received):
    shop.control.subscribe("reports-payg", agreement_created_after=60, license_updated_after=0)
    assert kinds(received()) == ["License Updated - Manufacturer"]
    shop.control.advance(60)
    assert kinds(received()) == ["Purchase Agreement Created - Proposer"]


def test_a_purchase_in_the_past_has_its_events_in_the_past(shop, received):
    shop.control.subscribe("reports-payg", started_at=NOON - timedelta(days=3))
    assert [body["time"] for body in received()] == ["2026-11-20T12:00:02Z", "2026-11-20T12:00:05Z"]


def test_a_purchase_with_a_future_start_is_silent_until_then(shop, received):
    shop.control.subscribe("reports-payg", started_at=NOON + timedelta(days=3))
    shop.control.advance(timedelta(days=3) - timedelta(seconds=1))
    assert received() == []
    shop.control.advance(10)
    created, licensed = received()
    assert created["time"] == "2026-11-26T12:00:02Z"
    assert created["detail"]["agreement"]["acceptanceTime"] == "2026-11-23T12:00:00Z"
    assert created["detail"]["agreement"]["startTime"] == "2026-11-26T12:00:00Z"
    assert licensed["time"] == "2026-11-26T12:00:05Z"


def test_a_purchase_with_a_future_start_may_be_announced_at_its_acceptance(shop, received):
    shop.control.switch(future_purchase_created="acceptance")
    purchase = shop.control.subscribe("reports-payg", started_at=NOON + timedelta(days=3))
    shop.control.advance(10)
    assert kinds(received()) == ["Purchase Agreement Created - Proposer"]
    shop.control.cancel(purchase.agreement_id)
    shop.control.advance(timedelta(days=4))
    assert kinds(received()) == ["Purchase Agreement Ended - Proposer"]


def test_an_amendment_is_announced_and_licensed(shop, received, license_):
    received()
    shop.control.amend(license_.agreement_id, {"included_pages": 101})
    shop.control.advance(5)
    amended, licensed = received()
    assert amended["detail-type"] == "Purchase Agreement Amended - Proposer"
    assert amended["detail"]["agreement"]["intent"] == "AMEND"
    assert licensed["detail-type"] == "License Updated - Manufacturer"


def test_a_legacy_purchase_speaks_sns_in_its_envelope(shop, received):
    purchase = shop.control.subscribe("reports-legacy", free_trial=True)
    shop.control.advance(5)
    subscribed, entitled = received()
    assert set(subscribed) == {
        "Type",
        "MessageId",
        "TopicArn",
        "Message",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
        "UnsubscribeURL",
    }
    topic = "arn:aws:sns:us-east-1:287250355862:aws-mp-"
    assert subscribed["TopicArn"] == f"{topic}subscription-notification-reports-legacy"
    assert entitled["TopicArn"] == f"{topic}entitlement-notification-reports-legacy"
    assert subscribed["Timestamp"] == "2026-11-23T12:00:05.000Z"
    message = json.loads(subscribed["Message"])
    assert message == {
        "action": "subscribe-success",
        "customer-identifier": purchase.customer_identifier,
        "product-code": "reports-legacy",
        "offer-identifier": message["offer-identifier"],
        "isFreeTrialTermPresent": "true",
    }
    assert json.loads(entitled["Message"]) == {
        "action": "entitlement-updated",
        "customer-identifier": purchase.customer_identifier,
        "product-code": "reports-legacy",
    }


def test_a_legacy_purchase_without_contract_has_no_entitlement_message(shop, received):
    purchase = shop.control.subscribe("reports-payg", identity="legacy")
    shop.control.advance(5)
    assert actions(received()) == ["subscribe-success"]
    shop.control.cancel(purchase.agreement_id)
    assert actions(received()) == ["unsubscribe-pending"]


def test_a_legacy_cancellation_takes_an_hour(shop, received, legacy):
    received()
    shop.control.cancel(legacy.agreement_id)
    assert actions(received()) == ["unsubscribe-pending", "entitlement-updated"]
    shop.control.advance(timedelta(minutes=60))
    assert actions(received()) == ["unsubscribe-success"]
    shop.control.advance(timedelta(days=400))
    assert received() == []


def test_a_quick_resubscription_swallows_unsubscribe_success(shop, received, legacy):
    received()
    shop.control.cancel(legacy.agreement_id)
    shop.control.subscribe("reports-legacy", aws_account_id=legacy.aws_account_id)
    shop.control.advance(timedelta(hours=2))
    assert actions(received()) == [
        "unsubscribe-pending",
        "entitlement-updated",
        "subscribe-success",
        "entitlement-updated",
    ]


def test_a_legacy_amendment_is_an_entitlement_message(shop, received, legacy):
    received()
    shop.control.amend(legacy.agreement_id, {"seats": 8})
    shop.control.advance(5)
    assert actions(received()) == ["entitlement-updated"]


def test_a_legacy_product_is_bought_once_per_account(shop, legacy):
    with pytest.raises(ControlError, match="once per account"):
        shop.control.subscribe("reports-legacy", aws_account_id=legacy.aws_account_id)

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.simulator.catalog import read_product
from billing.simulator.client import ControlError
from billing.simulator.lifecycle import changes, delivery, purchases
from billing.simulator.state import State
from tests.simulator.conftest import FLEX, NOON, PAYG, usage
from tests.simulator.messages import actions, kinds, received, told

__all__ = ["received"]

BUYER = "123456789012"
PARTNER = "333344445555"


def agreements(shop):
    return {agreement["agreement_id"]: agreement for agreement in shop.control.state()["agreements"]}


def agreement(shop, purchase):
    return agreements(shop)[purchase.agreement_id]


def status_of(metering, purchase):
    return metering.batch_meter_usage(UsageRecords=[usage(purchase)])["Results"][0]["Status"]


class TestSubscribing:
    def test_one_free_trial_per_account_and_product(self, shop):
        shop.control.subscribe("reports-payg", aws_account_id=BUYER, free_trial=True)
        shop.control.subscribe("reports-flex", aws_account_id=BUYER, free_trial=90)
        with pytest.raises(ControlError, match="one per account"):
            shop.control.subscribe("reports-payg", aws_account_id=BUYER, free_trial=7)

    @pytest.mark.parametrize("days", [0, 6, 91, -1])
    def test_a_trial_has_7_to_90_days(self, shop, days):
        with pytest.raises(ControlError, match="7 to 90"):
            shop.control.subscribe("reports-flex", free_trial=days)

    def test_a_contract_trial_expires(self, shop, received):
        trial = shop.control.subscribe("reports-flex", free_trial=10)
        shop.control.advance(timedelta(days=11))
        assert told(received())[-2:] == ["Purchase Agreement Ended", "License Deprovisioned"]
        assert agreement(shop, trial)["status"] == "EXPIRED"

    def test_a_contract_trial_may_convert(self, shop, received):
        shop.control.switch(contract_trial_converts=True)
        trial = shop.control.subscribe("reports-flex", free_trial=10, auto_renew=True)
        shop.control.advance(timedelta(days=11))
        assert told(received()) == ["Purchase Agreement Created", "License Updated"]
        assert agreement(shop, trial)["ends_at"] == "2027-12-03T12:00:00Z"

    def test_a_pay_as_you_go_trial_runs_on(self, shop, received):
        trial = shop.control.subscribe("reports-payg", free_trial=True)
        shop.control.advance(timedelta(days=400))
        assert told(received()) == ["Purchase Agreement Created", "License Updated"]
        assert agreement(shop, trial)["license_active"] is True

    def test_a_private_offer_can_be_told_by_its_id(self, shop, received):
        shop.control.subscribe("reports-flex", private_offer=True)
        shop.control.subscribe("reports-legacy", private_offer=True)
        shop.control.advance(5)
        bodies = received()
        offers = [body["detail"]["offer"]["id"] for body in bodies if "detail" in body]
        assert [offer.startswith("offer-private-") for offer in offers] == [True, True]
        assert any("offer-private-" in body["Message"] for body in bodies if "Message" in body)

    def test_a_channel_partner_sells_and_the_seller_is_the_manufacturer(self, shop, received):
        sold = shop.control.subscribe("reports-flex", channel_partner=PARTNER)
        shop.control.advance(5)
        shop.control.amend(sold.agreement_id, {"included_pages": 200})
        shop.control.advance(timedelta(days=400))
        bodies = received()
        assert kinds(bodies) == [
            "Purchase Agreement Created - Manufacturer",
            "License Updated - Manufacturer",
            "Purchase Agreement Amended - Manufacturer",
            "License Updated - Manufacturer",
            "Purchase Agreement Ended - Manufacturer",
            "License Deprovisioned - Manufacturer",
        ]
        assert {body["detail"]["proposer"]["accountId"] for body in bodies} == {PARTNER}
        assert bodies[0]["detail"]["resaleAuthorization"]["id"].startswith("resaleauthz-")
        assert "renewalSummary" not in bodies[2]["detail"]

    def test_a_payment_that_fails_is_told_in_sns_alone(self, shop, received, metering):
        failed = shop.control.subscribe("reports-flex", payment_fails=True)
        legacy = shop.control.subscribe("reports-legacy", aws_account_id=BUYER, payment_fails=True)
        shop.control.advance(timedelta(days=400))
        bodies = received()
        assert told(bodies) == ["Purchase Agreement Created", "subscribe-fail"]
        assert '"offer-identifier"' in bodies[1]["Message"]
        assert agreement(shop, failed)["status"] == "TERMINATED"
        assert agreement(shop, failed)["license_active"] is False
        again = shop.control.subscribe("reports-legacy", aws_account_id=BUYER)
        assert again.customer_identifier == legacy.customer_identifier

    @pytest.mark.parametrize(
        ("order", "reason"),
        [
            ({"aws_account_id": "111111111111"}, "cannot buy its own product"),
            ({"channel_partner": "12"}, "channel_partner is 12 digits"),
            ({"channel_partner": "111111111111"}, "neither the seller's nor the buyer's"),
            ({"aws_account_id": PARTNER, "channel_partner": PARTNER}, "neither the seller's nor the buyer's"),
            ({"free_trial": 7, "auto_renew": True}, "ends without renewal"),
            ({"quantities": {"included_pages": 2**31}}, "2147483647"),
        ],
    )
    def test_what_cannot_be_bought_is_refused(self, shop, order, reason):
        with pytest.raises(ControlError, match=reason):
            shop.control.subscribe("reports-flex", **order)
        assert shop.control.state()["agreements"] == []

    def test_pay_as_you_go_does_not_renew(self, shop):
        with pytest.raises(ControlError, match="has no end"):
            shop.control.subscribe("reports-payg", auto_renew=True)

    def test_a_contract_may_show_its_entitlements_without_license_updated(self, shop, received):
        shop.control.switch(contract_license_updated=False)
        contract = shop.control.subscribe("reports-flex")
        shop.control.subscribe("reports-payg")
        shop.control.advance(5)
        assert told(received()).count("License Updated") == 1
        assert agreement(shop, contract)["license_active"] is True


class TestCallingOff:
    def test_what_has_not_started_leaves_no_trace(self, shop, received, metering):
        for product in ("reports-flex", "reports-legacy"):
            purchase = shop.control.subscribe(product, started_at=NOON + timedelta(days=3))
            assert shop.control.cancel(purchase.agreement_id)["status"] == "CANCELLED"
            with pytest.raises(ControlError, match="CANCELLED already"):
                shop.control.renew(purchase.agreement_id)
        shop.control.advance(timedelta(days=800))
        assert received() == []

    def test_what_has_not_started_cannot_change(self, shop):
        purchase = shop.control.subscribe("reports-flex", started_at=NOON + timedelta(days=3))
        with pytest.raises(ControlError, match="Move the clock"):
            shop.control.amend(purchase.agreement_id, {"included_pages": 200})

    def test_a_license_that_is_slower_than_the_cancellation_never_appears(self, shop, received):
        purchase = shop.control.subscribe("reports-payg", license_updated_after=3600)
        shop.control.cancel(purchase.agreement_id)
        shop.control.advance(timedelta(days=1))
        assert told(received()) == ["Purchase Agreement Ended", "Purchase Agreement Created"]
        assert agreement(shop, purchase)["license_active"] is False

    def test_a_subscription_that_is_slower_than_the_cancellation_is_never_told(self, shop, received):
        purchase = shop.control.subscribe("reports-legacy", license_updated_after=3600)
        shop.control.cancel(purchase.agreement_id)
        shop.control.advance(timedelta(days=1))
        assert received() == []


class TestRenewal:
    def test_a_license_is_followed_by_another(self, shop, received, entitlements, license_):
        received()
        shop.control.advance(timedelta(days=100))
        renewed = shop.control.renew(license_.agreement_id, {"included_pages": 50})
        assert renewed.agreement_id != license_.agreement_id
        assert renewed.license_arn != license_.license_arn
        assert renewed.aws_account_id == license_.aws_account_id
        shop.control.advance(60)
        created, ended, licensed, gone = received()
        assert created["detail"]["agreement"]["intent"] == "RENEW"
        assert created["detail"]["agreement"]["previousAgreementId"] == license_.agreement_id
        assert created["detail"]["product"] == {"id": "prod-flex00000001", "title": "Acme Reports Flex"}
        assert ended["detail"]["agreement"] == {"id": license_.agreement_id, "status": "RENEWED"}
        assert licensed["detail"]["license"]["arn"] == renewed.license_arn
        assert gone["detail"]["license"]["arn"] == license_.license_arn
        assert gone["detail-type"] == "License Deprovisioned - Manufacturer"
        found = entitlements.get_entitlements(ProductCode="reports-flex")["Entitlements"]
        assert {entitlement["LicenseArn"] for entitlement in found} == {renewed.license_arn}
        assert {e["Value"].get("IntegerValue") for e in found} == {50, None}
        now = agreements(shop)
        assert now[renewed.agreement_id]["initial_agreement_id"] == license_.agreement_id
        assert now[license_.agreement_id]["status"] == "RENEWED"
        with pytest.raises(ControlError, match="RENEWED already"):
            shop.control.renew(license_.agreement_id)

    def test_a_replacement_may_be_less_and_of_another_offer(self, shop, received, license_):
        (offer,) = {body["detail"]["offer"]["id"] for body in received()}
        replaced = shop.control.replace(license_.agreement_id, {"included_pages": 1}, private_offer=True)
        shop.control.advance(60)
        created, ended, licensed, _ = received()
        assert created["detail"]["agreement"]["intent"] == "REPLACE"
        assert "previousAgreementId" not in created["detail"]["agreement"]
        assert created["detail"]["offer"]["id"] != offer
        assert created["detail"]["offer"]["id"].startswith("offer-private-")
        assert ended["detail"]["agreement"]["status"] == "REPLACED"
        assert licensed["detail"]["license"]["arn"] == replaced.license_arn
        assert agreement(shop, replaced)["quantities"]["included_pages"] == 1
        assert agreement(shop, license_)["private_offer"] is False

    def test_a_partners_renewal_is_the_partners(self, shop, received):
        sold = shop.control.subscribe("reports-flex", channel_partner=PARTNER, auto_renew=True)
        shop.control.advance(timedelta(days=366))
        created = [b for b in received() if b["detail-type"].startswith("Purchase Agreement Created")]
        assert [b["detail"]["agreement"]["intent"] for b in created] == ["NEW", "RENEW"]
        assert created[1]["detail"]["resaleAuthorization"] == created[0]["detail"]["resaleAuthorization"]
        replaced = shop.control.replace(created[1]["detail"]["agreement"]["id"])
        assert agreement(shop, replaced)["private_offer"] is True
        assert agreement(shop, sold)["status"] == "RENEWED"

    def test_a_legacy_purchase_runs_on_under_its_names(self, shop, received, legacy):
        received()
        renewed = shop.control.renew(legacy.agreement_id, {"seats": 7})
        assert (renewed.agreement_id, renewed.customer_identifier) == (
            legacy.agreement_id,
            legacy.customer_identifier,
        )
        shop.control.advance(5)
        assert actions(received()) == ["entitlement-updated"]
        assert agreement(shop, legacy)["ends_at"] == "2028-11-22T12:00:00Z"
        assert agreement(shop, legacy)["quantities"] == {"seats": 7}
        shop.control.advance(timedelta(days=728))
        assert received() == []
        shop.control.advance(timedelta(days=3))
        assert actions(received()) == ["unsubscribe-pending", "entitlement-updated", "unsubscribe-success"]

    def test_a_legacy_replacement_subscribes_again_with_the_new_offer(self, shop, received, legacy):
        first = next(b["Message"] for b in received() if "subscribe-success" in b["Message"])
        replaced = shop.control.replace(legacy.agreement_id, {"seats": 1})
        assert replaced.agreement_id == legacy.agreement_id
        shop.control.advance(5)
        bodies = received()
        assert actions(bodies) == ["subscribe-success", "entitlement-updated"]
        assert bodies[0]["Message"] != first
        assert agreement(shop, legacy)["quantities"] == {"seats": 1}

    def test_an_automatic_renewal_can_be_switched_on_and_off(self, shop, received, license_):
        received()
        shop.control.auto_renew(license_.agreement_id)
        with pytest.raises(ControlError, match="by itself already"):
            shop.control.auto_renew(license_.agreement_id)
        shop.control.advance(2)
        (amended,) = received()
        assert amended["detail"]["agreement"]["intent"] == "AMEND"
        assert amended["detail"]["agreement"]["autoRenewalEnabled"] is True
        assert amended["detail"]["renewalSummary"] == {"lockoutStartTime": None, "disabledBy": None}
        shop.control.auto_renew(license_.agreement_id, on=False)
        shop.control.advance(2)
        (amended,) = received()
        assert amended["detail"]["agreement"]["autoRenewalEnabled"] is False
        shop.control.advance(timedelta(days=400))
        assert [b["detail"]["agreement"].get("autoRenewalEnabled") for b in received()] == [
            *[False] * 5,
            None,
            None,
        ]
        assert len(agreements(shop)) == 1

    def test_a_legacy_purchase_renews_silently_but_for_its_entitlements(self, shop, received, legacy):
        received()
        shop.control.auto_renew(legacy.agreement_id)
        shop.control.advance(timedelta(days=3 * 365))
        bodies = received()
        assert actions(bodies) == ["entitlement-updated"] * 3
        assert bodies[2]["Timestamp"] == "2029-11-22T12:00:00.000Z"
        assert agreement(shop, legacy)["status"] == "ACTIVE"
        shop.control.auto_renew(legacy.agreement_id, on=False)
        shop.control.advance(timedelta(days=366))
        assert actions(received())[0] == "unsubscribe-pending"

    def test_a_private_offer_gives_way_to_the_public_one(self, shop, received):
        shop.control.subscribe("reports-flex", private_offer=True, auto_renew=True)
        shop.control.advance(timedelta(days=366))
        created = [b["detail"] for b in received() if "Created" in b["detail-type"]]
        assert [detail["agreement"]["intent"] for detail in created] == ["NEW", "REPLACE"]
        assert not created[1]["offer"]["id"].startswith("offer-private-")

    def test_a_term_of_nothing_renews_daily_at_most(self, shop):
        shop.control.time(contract_term=0)
        shop.control.subscribe("reports-flex", auto_renew=True)
        shop.control.advance(timedelta(days=3))
        assert 4 <= len(agreements(shop)) <= 6


def test_one_leap_of_the_clock_tells_the_same_as_many_steps(shop, received):
    def told_by_steps_of(step):
        shop.control.reset()
        shop.control.add_product(FLEX)
        shop.control.add_product(
            {**FLEX, "code": "old", "identity": "legacy", "dimensions": FLEX["dimensions"][:1]}
        )
        shop.control.freeze(NOON)
        shop.control.time(contract_term=40 * 86400)
        shop.control.subscribe("reports-flex", auto_renew=True)
        shop.control.subscribe("reports-flex", auto_renew=True, private_offer=True)
        shop.control.subscribe("reports-flex", free_trial=30)
        shop.control.subscribe("old", auto_renew=True)
        shop.control.subscribe("reports-flex", started_at=NOON + timedelta(days=50))
        bodies = []
        while shop.control.now() < NOON + timedelta(days=132):
            shop.control.advance(step)
            bodies += received()
        return [(told([body])[0], body.get("time") or body["Timestamp"]) for body in bodies]

    leap = told_by_steps_of(timedelta(days=132))
    assert told_by_steps_of(timedelta(hours=11)) == leap
    assert len(leap) > 40
    times = [time[:19] for _, time in leap]
    assert times == sorted(times)


def test_a_renewal_that_fell_due_unasked_is_there_when_asked_about(shop, entitlements):
    purchase = shop.control.subscribe("reports-flex", auto_renew=True)
    with shop.state.lock:
        # Nothing but time passes: no request brings the simulator up to date.
        shop.state.move_clock(advance=timedelta(days=366))
    found = entitlements.get_entitlements(ProductCode="reports-flex")["Entitlements"]
    assert purchase.license_arn not in {entitlement["LicenseArn"] for entitlement in found}
    assert found


def test_a_clock_that_goes_back_and_forth_breaks_nothing(shop, received, legacy, license_):
    renewed = shop.control.renew(license_.agreement_id)
    shop.control.advance(timedelta(days=200))
    received()
    shop.control.set_now(NOON - timedelta(days=1))
    for purchase in (license_, renewed):
        state = agreement(shop, purchase)
        assert (state["status"], state["license_active"]) == ("ACTIVE", False)
    shop.control.cancel(renewed.agreement_id)
    shop.control.cancel(legacy.agreement_id)
    shop.control.set_now(NOON + timedelta(days=500))
    assert agreement(shop, renewed)["status"] == "CANCELLED"
    assert shop.control.state()["scheduled_events"] == []


class TestEnding:
    def test_a_contract_expires_now_when_told_to(self, shop, received, entitlements, license_):
        received()
        assert shop.control.expire(license_.agreement_id)["status"] == "EXPIRED"
        shop.control.advance(timedelta(days=400))
        assert told(received()) == ["Purchase Agreement Ended", "License Deprovisioned"]
        assert "Entitlements" not in entitlements.get_entitlements(ProductCode="reports-flex")

    def test_a_legacy_contract_expires_now_when_told_to(self, shop, received, legacy):
        received()
        shop.control.expire(legacy.agreement_id)
        shop.control.advance(timedelta(days=400))
        assert told(received()) == ["unsubscribe-pending", "entitlement-updated", "unsubscribe-success"]

    def test_pay_as_you_go_has_no_term_to_end(self, shop):
        purchase = shop.control.subscribe("reports-payg")
        for change in (shop.control.expire, shop.control.renew, shop.control.replace):
            with pytest.raises(ControlError, match="Cancel it instead"):
                change(purchase.agreement_id)

    def test_a_payment_fails_before_activation_only(self, shop, received):
        purchase = shop.control.subscribe("reports-flex")
        legacy = shop.control.subscribe("reports-legacy")
        for one in (purchase, legacy):
            assert shop.control.fail_payment(one.agreement_id)["status"] == "TERMINATED"
        paid = shop.control.subscribe("reports-payg")
        shop.control.advance(timedelta(days=400))
        with pytest.raises(ControlError, match="Cancel the agreement"):
            shop.control.fail_payment(paid.agreement_id)
        assert told(received()) == [
            "subscribe-fail",
            "Purchase Agreement Created",
            "Purchase Agreement Created",
            "License Updated",
        ]
        assert agreement(shop, purchase)["license_active"] is False

    def test_the_final_hour_may_open_with_the_agreements_end(self, shop, received, metering, license_):
        received()
        shop.control.switch(final_hour_opens_with="Purchase Agreement Ended")
        shop.control.cancel(license_.agreement_id)
        shop.control.advance(timedelta(minutes=59))
        assert told(received()) == ["Purchase Agreement Ended"]
        assert status_of(metering, license_) == "Success"
        shop.control.advance(timedelta(minutes=1))
        assert told(received()) == ["License Deprovisioned"]
        assert status_of(metering, license_) == "CustomerNotSubscribed"


class TestTheBuyer:
    def test_a_suspended_account_can_be_reinstated(self, shop, license_):
        suspended = shop.control.suspend(license_.agreement_id)
        assert suspended["buyer_suspended"] is True
        assert shop.control.state()["suspended_accounts"] == [BUYER]
        with pytest.raises(ControlError, match="already suspended"):
            shop.control.suspend(license_.agreement_id)
        assert shop.control.reinstate(license_.agreement_id)["buyer_suspended"] is False
        with pytest.raises(ControlError, match="not suspended"):
            shop.control.reinstate(license_.agreement_id)

    def test_an_advisory_is_issued_and_resolved(self, shop, received, license_):
        received()
        shop.control.issue_advisory(license_.agreement_id)
        with pytest.raises(ControlError, match="open already"):
            shop.control.issue_advisory(license_.agreement_id)
        shop.control.advance(60)
        assert shop.control.resolve_advisory(license_.agreement_id)["advisory_issued_at"] is None
        with pytest.raises(ControlError, match="no open advisory"):
            shop.control.resolve_advisory(license_.agreement_id)
        issued, resolved = received()
        assert issued["detail-type"] == "Purchase Agreement Advisory Issued - Manufacturer"
        assert issued["detail"]["product"] == {"id": "prod-flex00000001"}
        assert issued["detail"]["advisory"] == {"issuedAt": "2026-11-23T12:10:00Z"}
        assert resolved["detail-type"] == "Purchase Agreement Advisory Resolved - Manufacturer"
        assert resolved["detail"]["advisory"] == {"resolvedAt": "2026-11-23T12:11:00Z"}

    def test_sns_has_no_advisories(self, shop, legacy):
        with pytest.raises(ControlError, match="opt_in"):
            shop.control.issue_advisory(legacy.agreement_id)


class TestOptIn:
    def test_a_legacy_purchase_gets_a_license_and_keeps_its_names(self, shop, received, aws, legacy):
        received()
        moved = shop.control.opt_in(legacy.agreement_id)
        assert moved["customer_identifier"] == legacy.customer_identifier
        shop.control.advance(5)
        (licensed,) = received()
        assert licensed["detail"]["license"]["arn"] == moved["license_arn"]
        resolved = aws("meteringmarketplace").resolve_customer(
            RegistrationToken=shop.control.token(legacy.agreement_id)
        )
        assert resolved["LicenseArn"] == moved["license_arn"]
        with pytest.raises(ControlError, match="has a license already"):
            shop.control.opt_in(legacy.agreement_id)
        shop.control.advance(timedelta(days=400))
        assert told(received()) == [
            *["Purchase Agreement Ending"] * 5,
            "Purchase Agreement Ended",
            "License Deprovisioned",
        ]

    def test_it_waits_for_activation(self, shop):
        purchase = shop.control.subscribe("reports-legacy")
        with pytest.raises(ControlError, match="not active yet"):
            shop.control.opt_in(purchase.agreement_id)


class TestRefusals:
    def test_an_empty_amendment_says_what_it_takes(self, shop, license_):
        with pytest.raises(ControlError, match="how many there are to be"):
            shop.control.amend(license_.agreement_id, {})

    def test_a_switch_of_renewal_says_which_way(self, shop, license_):
        with pytest.raises(ControlError, match='Say {"on": true}'):
            shop.control._act(license_.agreement_id, "auto_renew")

    def test_speed_is_above_zero(self, shop):
        with pytest.raises(ControlError, match="above 0"):
            shop.control.set_speed(0)


def test_an_amendment_of_what_was_never_paid_activates_nothing(shop):
    unpaid = shop.control.subscribe("reports-flex", payment_fails=True, license_updated_after=60)
    shop.control.amend(unpaid.agreement_id, {"included_pages": 200})
    shop.control.advance(3600)
    assert agreement(shop, unpaid)["license_active"] is False


def test_a_license_beside_a_legacy_purchase_is_not_in_its_way(shop, legacy):
    shop.control.opt_in(legacy.agreement_id)
    again = shop.control.subscribe("reports-legacy", aws_account_id=legacy.aws_account_id)
    assert again.customer_identifier == legacy.customer_identifier
    assert again.agreement_id != legacy.agreement_id


def test_unless_told_to_be_quick_events_take_as_long_as_in_the_live_purchase():
    state = State([read_product(PAYG)])
    state.move_clock(now=NOON, freeze=True)
    bought = purchases.subscribe(state, product_code="reports-payg").agreement
    assert due(state) == {"Purchase Agreement Created": 11, "License Updated": 72}
    with state.lock:
        state.move_clock(advance=timedelta(seconds=72))
        delivery.catch_up(state)
        changes.cancel(state, bought)
    assert due(state) == {"Purchase Agreement Ended": 72, "License Deprovisioned": 72 + 31}


def due(state):
    """Seconds after noon of what is scheduled."""
    return {
        event.kind.partition(" - ")[0]: (event.due - NOON).total_seconds()
        for event in state.upcoming.in_order
    }

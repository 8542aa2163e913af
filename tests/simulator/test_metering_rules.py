"""The rules of metering that depend on a switch, an exact instant, or several purchases of one account."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.simulator.conftest import NOON, billed, usage
from tests.simulator.test_metering import part, refusal, send, status

MICROSECOND = timedelta(microseconds=1)


def test_a_day_less_a_microsecond_is_accepted(shop, metering, license_):
    shop.control.freeze(NOON + timedelta(hours=24) - MICROSECOND)
    assert status(metering, usage(license_)) == "Success"


def test_the_window_may_be_measured_from_the_start_of_the_hour(shop, metering, license_):
    shop.control.freeze(NOON + timedelta(hours=24, minutes=59))
    inside = usage(license_, Timestamp=NOON + timedelta(seconds=1))
    assert refusal(metering, inside) == "TimestampOutOfBoundsException"
    shop.control.switch(window_from_hour_start=True)
    assert status(metering, inside) == "Success"
    assert refusal(metering, usage(license_)) == "TimestampOutOfBoundsException"


@pytest.mark.parametrize("first", [datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)])
def test_the_month_closes_at_six_to_the_microsecond(shop, metering, license_, first):
    last_instant = usage(license_, Timestamp=first - timedelta(seconds=1))
    shop.control.freeze(first + timedelta(hours=6))
    assert refusal(metering, last_instant) == "TimestampOutOfBoundsException"
    assert status(metering, usage(license_, Timestamp=first)) == "Success"
    shop.control.freeze(first + timedelta(hours=6) - MICROSECOND)
    assert status(metering, last_instant) == "Success"


def test_the_months_grace_may_take_what_is_older_than_a_day(shop, metering, license_):
    shop.control.freeze(datetime(2026, 12, 1, 5, 59, tzinfo=UTC))
    old = usage(license_, Timestamp=datetime(2026, 11, 29, tzinfo=UTC))
    assert refusal(metering, old) == "TimestampOutOfBoundsException"
    shop.control.switch(month_end_grace_extends_window=True)
    assert status(metering, old) == "Success"
    shop.control.freeze(datetime(2026, 12, 1, 6, tzinfo=UTC))
    assert refusal(metering, old) == "TimestampOutOfBoundsException"


def test_the_license_starts_at_its_very_instant(metering, license_):
    early = usage(license_, Timestamp=NOON - MICROSECOND)
    assert refusal(metering, early) == "TimestampOutOfBoundsException"
    assert status(metering, usage(license_)) == "Success"


def test_a_repeat_may_get_an_id_of_its_own(shop, metering, license_):
    shop.control.switch(repeat_keeps_metering_record_id=False)
    first = send(metering, usage(license_))["Results"][0]
    again = send(metering, usage(license_))["Results"][0]
    assert again["Status"] == "Success"
    assert again["MeteringRecordId"] != first["MeteringRecordId"]
    assert len(billed(shop)) == 1


def test_other_allocations_of_the_same_quantity_are_success_or_a_duplicate(shop, metering, license_):
    def split(*shares):
        return usage(license_, QuantityAsDecimal="10", UsageAllocations=list(shares))

    first = split(part("4", team="a"), part("6", team="b"))
    assert status(metering, first) == "Success"
    changed = split(part("5", team="a"), part("5", team="b"))
    assert status(metering, changed) == "Success"
    shop.control.switch(changed_allocations_repeat="DuplicateRecord")
    assert status(metering, changed) == "DuplicateRecord"
    turned_round = split(part("6", team="b"), part("4.0", team="a"))
    assert status(metering, turned_round) == "Success"


def test_the_code_of_two_customer_ids_can_be_switched(shop, metering, license_):
    both = usage(license_, CustomerIdentifier="abc")
    assert refusal(metering, both) == "ValidationException"
    shop.control.switch(both_customer_ids_code="InvalidCustomerIdentifierException")
    assert refusal(metering, both) == "InvalidCustomerIdentifierException"


def test_the_code_of_no_identity_can_be_switched(shop, metering, license_):
    shop.control.switch(no_identity_code="InvalidLicenseException")
    assert refusal(metering, usage(license_, LicenseArn=None)) == "InvalidLicenseException"


def test_product_code_beside_a_license_can_be_refused(shop, metering, license_):
    shop.control.switch(product_code_with_license="refuse")
    assert refusal(metering, usage(license_), ProductCode="reports-flex") == "ValidationException"
    assert status(metering, usage(license_)) == "Success"


def test_a_customer_of_a_new_integration_has_no_identifier(metering, shop, legacy):
    shop.control.subscribe("reports-flex", aws_account_id=legacy.aws_account_id, started_at=NOON)
    record = usage(legacy, CustomerAWSAccountId=None, CustomerIdentifier=legacy.customer_identifier)
    assert refusal(metering, record, ProductCode="reports-flex") == "InvalidCustomerIdentifierException"


def test_a_suspended_buyer_is_not_subscribed_until_reinstated(shop, metering, license_):
    shop.control.suspend(license_.agreement_id)
    assert status(metering, usage(license_)) == "CustomerNotSubscribed"
    shop.control.reinstate(license_.agreement_id)
    assert status(metering, usage(license_)) == "Success"


def test_a_purchase_whose_payment_failed_is_not_subscribed(shop, metering, license_):
    with shop.state.lock:
        failed = replace(shop.state.agreement(license_.agreement_id), activates_at=None)
        shop.state.put(failed)
    assert status(metering, usage(license_)) == "CustomerNotSubscribed"
    assert billed(shop) == []


def test_legacy_usage_goes_to_the_purchase_that_held_its_instant(shop, metering, legacy):
    shop.control.cancel(legacy.agreement_id)
    shop.control.advance(timedelta(minutes=20))
    again = shop.control.subscribe("reports-legacy", aws_account_id=legacy.aws_account_id)
    shop.control.advance(timedelta(minutes=1))
    # Of the first purchase, in its last hour; then of the second; then between the two.
    for minutes, agreement in ((5, legacy), (31, again)):
        record = usage(legacy, Timestamp=NOON + timedelta(minutes=minutes), Quantity=minutes)
        send(metering, record, ProductCode="reports-legacy")
        with shop.state.lock:
            (billed_record,) = shop.state.billed.values()
            assert billed_record.agreement_id == agreement.agreement_id
            shop.state.billed.clear()
    between = usage(legacy, Timestamp=NOON + timedelta(minutes=20))
    assert status(metering, between, ProductCode="reports-legacy") == "Success"
    before = usage(legacy, Timestamp=NOON - MICROSECOND)
    assert refusal(metering, before, ProductCode="reports-legacy") == "TimestampOutOfBoundsException"


def test_a_renewed_license_meters_its_last_hour_beside_the_new_one(shop, metering, license_):
    renewed = shop.control.renew(license_.agreement_id)
    shop.control.advance(timedelta(minutes=10))
    new = usage(renewed, Timestamp=NOON + timedelta(minutes=15))
    results = send(metering, usage(license_), new)["Results"]
    assert [result["Status"] for result in results] == ["Success", "Success"]
    shop.control.advance(timedelta(minutes=61))
    late = usage(license_, Timestamp=NOON + timedelta(minutes=1), Quantity=9, QuantityAsDecimal=None)
    assert status(metering, late) == "CustomerNotSubscribed"

"""The client says what it means to the simulator, and tells refusals in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.simulator.client import ControlError, SimulatorControl, Subscription
from tests.simulator.conftest import NOON, usage


def test_each_action_is_a_method(shop, license_):
    control = shop.control
    license_id = license_.agreement_id
    assert control.amend(license_id, {"included_pages": 150})["agreement_id"] == license_id
    assert control.suspend(license_id)["buyer_suspended"] is True
    assert control.reinstate(license_id)["buyer_suspended"] is False
    assert control.issue_advisory(license_id)["advisory_issued_at"] == "2026-11-23T12:10:00Z"
    assert control.resolve_advisory(license_id)["advisory_issued_at"] is None
    assert control.auto_renew(license_id)["auto_renew"] is True
    assert control.auto_renew(license_id, on=False)["auto_renew"] is False
    renewed = control.renew(license_id)
    assert isinstance(renewed, Subscription)
    replaced = control.replace(renewed.agreement_id)
    assert replaced.token
    assert control.expire(replaced.agreement_id)["status"] == "EXPIRED"
    unpaid = control.subscribe("reports-flex")
    assert control.fail_payment(unpaid.agreement_id)["status"] == "TERMINATED"
    assert control.cancel(control.subscribe("reports-payg").agreement_id)["status"] == "CANCELLED"


def test_a_renewals_token_resolves_to_the_new_license(shop, metering, license_):
    renewed = shop.control.renew(license_.agreement_id)
    resolved = metering.resolve_customer(RegistrationToken=renewed.token)
    assert resolved["LicenseArn"] == renewed.license_arn


def test_switches_timings_speed_and_clock_can_be_read_and_set(shop):
    assert shop.control.switches()["token_reuse"] is True
    shop.control.switch(token_reuse=False)
    assert shop.control.switches()["token_reuse"] is False
    shop.control.time(license_updated=61)
    assert shop.control.timings()["license_updated"] == 61
    assert shop.control.set_speed(60) == NOON
    assert shop.control.state()["clock"]["speed"] == 60
    assert shop.control.advance(timedelta(hours=1)) == NOON + timedelta(hours=1)


def test_a_fault_may_have_any_code(shop, metering, license_):
    shop.control.fault("BatchMeterUsage", "error", code="ExpiredTokenException", message="Gone", status=403)
    (fault,) = shop.control.state()["faults"]
    assert (fault["code"], fault["status"], fault["message"]) == ("ExpiredTokenException", 403, "Gone")
    with pytest.raises(metering.exceptions.ClientError, match="Gone"):
        metering.batch_meter_usage(UsageRecords=[usage(license_)])
    shop.control.fault("*", "throttle")
    shop.control.clear_faults()
    assert shop.control.state()["faults"] == []


def test_the_requests_of_one_operation_can_be_picked(shop, metering, license_):
    metering.resolve_customer(RegistrationToken=license_.token)
    metering.batch_meter_usage(UsageRecords=[usage(license_)])
    assert len(shop.control.requests()) == 2
    (entry,) = shop.control.requests("ResolveCustomer")
    assert entry["status"] == 200


def test_the_invoice_and_the_usage_report_tell_the_same(shop, metering, license_):
    metering.batch_meter_usage(UsageRecords=[usage(license_, QuantityAsDecimal="3")])
    (line,) = shop.control.invoice()["lines"]
    assert line["quantity"] == "3"
    assert license_.license_arn in shop.control.usage_report()


def test_a_refusal_is_told_in_words(shop):
    with pytest.raises(ControlError, match="No product has the code 'nothing'"):
        shop.control.subscribe("nothing")


def test_it_needs_only_the_address(shop):
    assert SimulatorControl(f"{shop.url}/").now() == NOON


@pytest.mark.parametrize("agreement_id", ["agmt with space", "a?b", "a#b", "a%b", "ä"])
def test_a_name_that_a_url_would_read_otherwise_arrives_as_it_is(shop, agreement_id):
    with pytest.raises(ControlError) as refused:
        shop.control.cancel(agreement_id)
    assert str(refused.value) == f"There is no agreement {agreement_id!r}"

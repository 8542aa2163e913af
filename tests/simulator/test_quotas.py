from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from billing.simulator.aws.quotas import Quotas
from billing.simulator.state import State
from tests.simulator.conftest import code_of


def admitted(quotas, operation, *, region="us-east-1", moment, calls):
    return sum(quotas.admits(operation, region, moment=moment) for _ in range(calls))


@pytest.mark.parametrize(("operation", "rate"), [("BatchMeterUsage", 10), ("GetEntitlements", 20)])
def test_one_call_more_than_a_seconds_worth_is_throttled(operation, rate):
    quotas = Quotas()
    assert admitted(quotas, operation, moment=5.0, calls=rate) == rate
    assert not quotas.admits(operation, "us-east-1", moment=5.0)


def test_a_second_later_there_is_room_for_as_many_again_and_never_for_more():
    quotas = Quotas()
    admitted(quotas, "BatchMeterUsage", moment=5.0, calls=11)
    assert admitted(quotas, "BatchMeterUsage", moment=6.0, calls=99) == 10
    assert admitted(quotas, "BatchMeterUsage", moment=600.0, calls=99) == 10


def test_room_comes_back_call_by_call():
    quotas = Quotas()
    admitted(quotas, "BatchMeterUsage", moment=5.0, calls=99)
    assert admitted(quotas, "BatchMeterUsage", moment=5.05, calls=99) == 0
    assert admitted(quotas, "BatchMeterUsage", moment=5.125, calls=99) == 1


def test_regions_and_operations_have_quotas_of_their_own():
    quotas = Quotas()
    admitted(quotas, "BatchMeterUsage", moment=5.0, calls=11)
    assert quotas.admits("BatchMeterUsage", "eu-west-1", moment=5.0)
    assert quotas.admits("GetEntitlements", "us-east-1", moment=5.0)
    assert admitted(quotas, "ResolveCustomer", moment=5.0, calls=99) == 99


@pytest.fixture
def exhausted(simulator):
    """Quotas are on and those of us-east-1 used up for as long as any test runs."""
    simulator.control.switch(quotas=True)
    for operation in ("BatchMeterUsage", "GetEntitlements"):
        admitted(simulator.state.quotas, operation, moment=10.0**12, calls=99)
    return simulator


def refusal(call, **members):
    with pytest.raises(ClientError) as error:
        call(**members)
    return code_of(error)


def test_beyond_its_quota_an_operation_is_throttled_and_others_are_not(exhausted, aws):
    assert refusal(aws("meteringmarketplace").batch_meter_usage, UsageRecords=[]) == "ThrottlingException"
    assert refusal(aws("marketplace-entitlement").get_entitlements, ProductCode="x") == "ThrottlingException"
    assert aws("meteringmarketplace", region="eu-west-1").batch_meter_usage(UsageRecords=[])["Results"] == []
    resolve = aws("meteringmarketplace").resolve_customer
    assert refusal(resolve, RegistrationToken="x") == "InvalidTokenException"
    log = exhausted.control.requests()
    assert [entry["over_quota"] for entry in log] == [True, True, False, False]


def test_a_fault_waits_for_a_call_within_the_quota(exhausted, aws):
    exhausted.control.fault("BatchMeterUsage", "internal_error")
    assert refusal(aws("meteringmarketplace").batch_meter_usage, UsageRecords=[]) == "ThrottlingException"
    west = aws("meteringmarketplace", region="us-west-2")
    assert refusal(west.batch_meter_usage, UsageRecords=[]) == "InternalServiceErrorException"


def test_refused_and_spoiled_calls_count_too(simulator, aws):
    simulator.control.switch(quotas=True)
    careless = aws("meteringmarketplace", careless=True)
    simulator.control.fault("BatchMeterUsage", "throttle")
    before = time.monotonic()
    assert refusal(careless.batch_meter_usage) == "ThrottlingException"
    assert refusal(careless.batch_meter_usage) == "ValidationException"
    # Seen from before them, no time has passed in which room could have come back.
    assert admitted(simulator.state.quotas, "BatchMeterUsage", moment=before, calls=99) <= 8


def test_quotas_are_on_unless_switched_off(simulator):
    assert State().switches.quotas
    assert not simulator.state.switches.quotas

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from billing.simulator.client import ControlError
from billing.simulator.connection import Connection


@pytest.fixture
def order(simulator):
    """Orders a fault with any members."""
    connection = Connection(simulator.url, timeout=10)
    return lambda **body: connection.post("faults", body=body)


def refused(call, **members):
    with pytest.raises(ClientError) as error:
        call(**members)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDeniedException", "not authorized"),
        ("UnrecognizedClientException", "security token included in the request is invalid"),
        ("InvalidSignatureException", "does not match"),
        ("ExpiredTokenException", "security token included in the request is expired"),
        ("SomethingElseException", "SomethingElseException"),
    ],
)
def test_any_error_can_be_ordered_and_says_what_aws_says(order, metering, code, message):
    order(operation="ResolveCustomer", fault="error", code=code)
    status, got, text = refused(metering.resolve_customer, RegistrationToken="x")
    assert (status, got) == (400, code)
    assert message in text
    assert refused(metering.resolve_customer, RegistrationToken="x")[1] == "InvalidTokenException"


def test_an_error_may_bring_its_own_words_and_status(order, metering):
    order(fault="error", code="ServiceUnavailable", message="Come back later.", status=503)
    answer = refused(metering.batch_meter_usage, UsageRecords=[])
    assert answer == (503, "ServiceUnavailable", "Come back later.")


def test_a_modelled_error_has_the_status_of_its_model(order, aws, metering):
    order(fault="error", code="AccessDeniedException")
    assert refused(aws("marketplace-agreement").describe_agreement, agreementId="x")[0] == 403
    order(fault="error", code="InternalServiceErrorException")
    assert refused(metering.resolve_customer, RegistrationToken="x")[0] == 500


def test_errors_of_sqs_carry_the_code_of_old(order, aws):
    order(fault="error", code="QueueDoesNotExist")
    queues = aws("sqs")
    status, code, _ = refused(queues.get_queue_url, QueueName="x")
    assert (status, code) == (400, "AWS.SimpleQueueService.NonExistentQueue")


@pytest.mark.parametrize(
    "body",
    [
        {"code": "no code"},
        {"code": ""},
        {"message": 1},
        {"status": 200},
        {"status": "500"},
        {"status": True},
    ],
    ids=str,
)
def test_an_error_that_cannot_be_is_refused(order, body):
    with pytest.raises(ControlError, match=next(iter(body))):
        order(fault="error", **body)


def test_an_empty_page_comes_with_a_token_that_goes_on(order, shop, entitlements, license_):
    order(operation="GetEntitlements", fault="empty_page")
    first = entitlements.get_entitlements(ProductCode="reports-flex", MaxResults=3)
    assert first["Entitlements"] == []
    second = entitlements.get_entitlements(
        ProductCode="reports-flex", MaxResults=3, NextToken=first["NextToken"]
    )
    assert len(second["Entitlements"]) == 3
    order(operation="GetEntitlements", fault="empty_page")
    between = entitlements.get_entitlements(
        ProductCode="reports-flex", MaxResults=3, NextToken=second["NextToken"]
    )
    assert between["Entitlements"] == []
    last = entitlements.get_entitlements(
        ProductCode="reports-flex", MaxResults=3, NextToken=between["NextToken"]
    )
    assert [entitlement["Dimension"] for entitlement in last["Entitlements"]] == ["tier"]


def test_an_empty_page_happens_to_entitlements_only(order):
    with pytest.raises(ControlError, match="GetEntitlements only"):
        order(operation="BatchMeterUsage", fault="empty_page")

"""Walks botocore's service models: what they say is written down, enforced, and held to in every answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from botocore.exceptions import ClientError

from billing.simulator.aws.services import SERVICES
from tests.simulator.conformance import conforms
from tests.simulator.conftest import NOON, code_of, usage
from tests.simulator.service_models import SERVED, cases, model, rules

KNOWN = Path(__file__).with_name("known_model.txt")
SHAPE_CODE = "ShapeIsRefused"
"""What the switch shape_error_code is set to, to tell a broken shape from every other refusal."""

# Members whose broken bounds are answered with an error of their own, and why.
OWN_ERRORS = {
    "UsageRecords[].UsageAllocations[].Tags": (
        "InvalidTagException",
        "the model has the error for more than 5 tags, and facts page §1.4 says so",
    ),
    "UsageRecords[].UsageAllocations[].Tags[].Key": ("InvalidTagException", "a bad tag has its own error"),
    "UsageRecords[].UsageAllocations[].Tags[].Value": ("InvalidTagException", "a bad tag has its own error"),
    "AttributeNames[]": ("InvalidAttributeName", "SQS's model has an error for it"),
    "MessageSystemAttributeNames[]": ("InvalidAttributeName", "SQS's model has an error for it"),
}
# Of those, what is a broken shape all the same.
STILL_SHAPE = {("UsageRecords[].UsageAllocations[].Tags", "is shorter than the least")}


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        read: Any = cbor2.loads if self.headers["Content-Type"] == "application/cbor" else json.loads
        body: dict[str, Any] = read(self.content)
        return body

    @property
    def code(self) -> str | None:
        """The error's; a broken rule between members is not one of a member's shape."""
        if self.status_code == 200:
            return None
        code: str = self.body["__type"].partition("#")[2]
        return code if code != SHAPE_CODE or " detected: " in self.body["message"] else "between members"


def sender(url: str, service: str, operation: str, protocol: str) -> Callable[[Any], Answer]:
    """Sends any request as no careful SDK would, over one connection, and holds the answer to the model."""
    told = model(service)
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    prefix = told.metadata["targetPrefix"]
    scope = f"Credential=AKID/20261123/us-east-1/{told.signing_name}/aws4_request, SignedHeaders=host"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, Signature={'0' * 64}"}
    if protocol == "json":
        path = "/"
        headers["X-Amz-Target"] = f"{prefix}.{operation}"
        headers["Content-Type"] = f"application/x-amz-json-{told.metadata['jsonVersion']}"
    else:
        path = f"/service/{prefix}/operation/{operation}"
        headers |= {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}

    def send(request: Any) -> Answer:
        body = json.dumps(request).encode() if protocol == "json" else cbor2.dumps(request)
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        conforms(answer, told.operation_model(operation))
        return answer

    return send


@pytest.mark.parametrize("service", SERVED)
def test_the_model_says_what_is_written_down_of_it(service):
    """A new botocore with another member, bound, error or operation fails here, and says which."""
    known = {line for line in KNOWN.read_text().splitlines() if line.startswith(f"{service} ")}
    told = set(rules(service))
    assert not told - known, (
        f"botocore's model says what the simulator does not know yet; teach bounds.py, then write it into"
        f" {KNOWN.name}: {sorted(told - known)}"
    )
    assert not known - told, f"{KNOWN.name} says what botocore's model no longer does: {sorted(known - told)}"


def test_every_protocol_of_a_model_is_spoken_and_no_other():
    names = {"json 1.0": "json", "json 1.1": "json", "cbor": "smithy-rpc-v2-cbor"}
    for service, operations in SERVED.items():
        told = model(service)
        ours = SERVICES[told.metadata["targetPrefix"]]
        assert {names[protocol.name] for protocol in ours.protocols} == set(told.metadata["protocols"])
        assert ours.protocols[0].name == f"json {told.metadata['jsonVersion']}"
        assert ours.signing_name == told.signing_name
        assert set(ours.operations) == set(operations)


def requests_of(shop: Any, license_: Any) -> dict[str, dict[str, Any]]:
    """A request of each operation that is refused for nothing."""
    queue = f"{shop.url}/000000000000/marketplace-events"
    allocation = {"AllocatedUsageQuantityAsDecimal": "1", "Tags": [{"Key": "team", "Value": "blue"}]}
    record = {
        "Timestamp": NOON.timestamp(),
        "Dimension": "pages",
        "CustomerAWSAccountId": license_.aws_account_id,
        "LicenseArn": license_.license_arn,
        "QuantityAsDecimal": "1",
        "UsageAllocations": [allocation],
    }
    return {
        "ResolveCustomer": {"RegistrationToken": license_.token},
        "BatchMeterUsage": {"UsageRecords": [record]},
        "GetEntitlements": {
            "ProductCode": "reports-flex",
            "Filter": {"LICENSE_ARN": [license_.license_arn]},
            "MaxResults": 2,
        },
        "DescribeAgreement": {"agreementId": license_.agreement_id},
        "GetQueueUrl": {"QueueName": "marketplace-events"},
        "GetQueueAttributes": {"QueueUrl": queue, "AttributeNames": ["All"]},
        "ReceiveMessage": {
            "QueueUrl": queue,
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["x"],
            "VisibilityTimeout": 0,
        },
        "DeleteMessage": {"QueueUrl": queue, "ReceiptHandle": "x"},
        "DeleteMessageBatch": {"QueueUrl": queue, "Entries": [{"Id": "1", "ReceiptHandle": "x"}]},
        "ChangeMessageVisibility": {"QueueUrl": queue, "ReceiptHandle": "x", "VisibilityTimeout": 0},
    }


@pytest.mark.parametrize(
    ("service", "operation", "protocol"),
    [
        (service, operation, protocol)
        for service, operations in SERVED.items()
        for operation in operations
        for protocol in model(service).metadata["protocols"]
    ],
)
def test_every_rule_of_the_model_is_enforced(shop, license_, service, operation, protocol):
    shop.control.switch(shape_error_code=SHAPE_CODE)
    shape_code = {"marketplace-agreement": "ValidationException", "sqs": "MissingParameter"}.get(
        service, SHAPE_CODE
    )
    send = sender(shop.url, service, operation, protocol)
    base = requests_of(shop, license_)[operation]
    wrong = []
    tried = 0
    for case in cases(model(service).operation_model(operation).input_shape, base):
        got = send(case.request)
        tried += 1
        if case.fault is None:
            fine = got.code not in (shape_code, "SerializationException")
        elif case.fault == "type":
            fine = (got.status_code, got.code) == (400, "SerializationException")
        else:
            own, _ = OWN_ERRORS.get(case.path, (shape_code, ""))
            expected = shape_code if (case.path, case.label) in STILL_SHAPE else own
            fine = (got.status_code, got.code) == (400, expected)
        if not fine:
            wrong.append(f"{case.path or 'the request'} {case.label}: {got.status_code} {got.code}")
    assert not wrong
    assert tried > 8


def resolve_spent(shop, aws, license_):
    shop.control.switch(token_reuse=False)
    aws("meteringmarketplace").resolve_customer(RegistrationToken=license_.token)
    resolve(shop, aws, license_)


def resolve(shop, aws, license_):
    aws("meteringmarketplace").resolve_customer(RegistrationToken=license_.token)


def resolve_unknown(shop, aws, license_):
    aws("meteringmarketplace").resolve_customer(RegistrationToken="nobody's")


def meter(shop, aws, license_, product_code=None, **members):
    request = {"UsageRecords": [usage(license_, **members)]}
    if product_code:
        request["ProductCode"] = product_code
    aws("meteringmarketplace").batch_meter_usage(**request)


def disabled(operation):
    def produce(shop, aws, license_):
        shop.control.switch(disabled_regions=["us-east-1"])
        operation(shop, aws, license_)

    return produce


def faulty(fault, operation):
    def produce(shop, aws, license_):
        shop.control.fault("*", fault)
        operation(shop, aws, license_)

    return produce


def metered(**members):
    return lambda shop, aws, license_: meter(shop, aws, license_, **members)


def entitlements(shop, aws, license_):
    aws("marketplace-entitlement").get_entitlements(ProductCode="reports-flex")


def entitlements_of_another(shop, aws, license_):
    aws("marketplace-entitlement").get_entitlements(ProductCode="somebody's")


def allocated(quantity, **tag):
    return [{"AllocatedUsageQuantityAsDecimal": quantity, "Tags": [{"Key": "team", "Value": "blue"} | tag]}]


REFUSED = {
    ("ResolveCustomer", "InvalidTokenException"): resolve_unknown,
    ("ResolveCustomer", "ExpiredTokenException"): resolve_spent,
    ("ResolveCustomer", "ThrottlingException"): faulty("throttle", resolve),
    ("ResolveCustomer", "InternalServiceErrorException"): faulty("internal_error", resolve),
    ("ResolveCustomer", "DisabledApiException"): disabled(resolve),
    ("BatchMeterUsage", "ThrottlingException"): faulty("throttle", meter),
    ("BatchMeterUsage", "InternalServiceErrorException"): faulty("internal_error", meter),
    ("BatchMeterUsage", "DisabledApiException"): disabled(meter),
    ("BatchMeterUsage", "InvalidProductCodeException"): metered(product_code="somebody", LicenseArn=None),
    ("BatchMeterUsage", "InvalidUsageDimensionException"): metered(Dimension="Pages"),
    ("BatchMeterUsage", "InvalidTagException"): metered(UsageAllocations=allocated("1", Value="{")),
    ("BatchMeterUsage", "InvalidUsageAllocationsException"): metered(UsageAllocations=allocated("2")),
    ("BatchMeterUsage", "InvalidCustomerIdentifierException"): metered(
        product_code="reports-flex", LicenseArn=None, CustomerAWSAccountId=None, CustomerIdentifier="nobody"
    ),
    ("BatchMeterUsage", "TimestampOutOfBoundsException"): metered(Timestamp=NOON - timedelta(days=2)),
    ("BatchMeterUsage", "InvalidLicenseException"): metered(CustomerAWSAccountId="999999999999"),
    ("GetEntitlements", "InvalidParameterException"): entitlements_of_another,
    ("GetEntitlements", "ThrottlingException"): faulty("throttle", entitlements),
    ("GetEntitlements", "InternalServiceErrorException"): faulty("internal_error", entitlements),
}


def test_every_modelled_error_has_a_way_to_be_seen():
    modelled = {
        (operation, shape.name)
        for service in ("meteringmarketplace", "marketplace-entitlement")
        for operation in SERVED[service]
        for shape in model(service).operation_model(operation).error_shapes
    }
    assert set(REFUSED) == modelled


@pytest.mark.parametrize(("operation", "code"), REFUSED)
def test_a_modelled_error_is_answered(shop, aws, license_, operation, code):
    with pytest.raises(ClientError) as error:
        REFUSED[operation, code](shop, aws, license_)
    assert code_of(error) == code
    assert error.value.operation_name == operation

"""The services whose models list Smithy RPC v2 CBOR, asked by botocore over nothing else."""

from __future__ import annotations

import gzip
import http.client
import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import botocore
import cbor2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.simulator.conformance import conforms
from tests.simulator.conftest import NOON, code_of

SERVICES = {"marketplace-entitlement": "2017-01-11", "marketplace-agreement": "2020-03-01"}
SCOPE = (
    "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/aws-marketplace/aws4_request, SignedHeaders=host,"
)
SIGNED = f"{SCOPE} Signature={'0' * 64}"
ENTITLEMENTS = "/service/AWSMPEntitlementService/operation/GetEntitlements"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of service models as AWS_DATA_PATH takes them: botocore's own, that list only CBOR."""
    folder = tmp_path_factory.mktemp("models")
    data = Path(botocore.__file__).parent / "data"
    for service, version in SERVICES.items():
        ours = folder / service / version
        ours.mkdir(parents=True)
        told = json.loads(gzip.decompress((data / service / version / "service-2.json.gz").read_bytes()))
        told["metadata"]["protocols"] = ["smithy-rpc-v2-cbor"]
        (ours / "service-2.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def cbor(simulator, models, monkeypatch):
    """Makes boto3 clients that speak CBOR."""
    monkeypatch.setenv("AWS_DATA_PATH", str(models))
    session = boto3.Session("test", "test", region_name="us-east-1")

    def client(service, *, careless=False):
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=not careless)
        made = session.client(service, endpoint_url=simulator.url, config=config)
        assert made.meta.service_model.resolved_protocol == "smithy-rpc-v2-cbor"
        made.meta.events.register("after-call", conforms)
        return made

    return client


def refusal(call, **members):
    with pytest.raises(ClientError) as error:
        call(**members)
    return code_of(error), error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_entitlements_come_with_their_types(cbor, shop, license_):
    found = cbor("marketplace-entitlement").get_entitlements(ProductCode="reports-flex")
    assert [entitlement["Value"] for entitlement in found["Entitlements"]] == [
        {"IntegerValue": 100},
        {"BooleanValue": True},
        {"DoubleValue": 1.0},
        {"StringValue": "gold"},
    ]
    assert isinstance(found["Entitlements"][2]["Value"]["DoubleValue"], float)
    assert found["Entitlements"][0]["ExpirationDate"] == datetime(2027, 11, 23, 12, tzinfo=UTC)
    assert found["ResponseMetadata"]["RequestId"] == shop.control.requests("GetEntitlements")[0]["request_id"]


def test_pages_follow_each_other(cbor, shop, license_):
    pages = cbor("marketplace-entitlement").get_paginator("get_entitlements")
    found = [
        [entitlement["Dimension"] for entitlement in page["Entitlements"]]
        for page in pages.paginate(
            ProductCode="reports-flex",
            Filter={"LICENSE_ARN": [license_.license_arn]},
            PaginationConfig={"PageSize": 3},
        )
    ]
    assert found == [["included_pages", "sso", "ratio"], ["tier"]]


def test_nothing_found_is_an_empty_structure(cbor, shop):
    assert "Entitlements" not in cbor("marketplace-entitlement").get_entitlements(ProductCode="reports-flex")


def test_an_agreement_is_told_with_its_instants(cbor, shop, license_):
    agreement = cbor("marketplace-agreement").describe_agreement(agreementId=license_.agreement_id)
    assert agreement["startTime"] == NOON
    assert agreement["acceptor"] == {"accountId": license_.aws_account_id}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("throttle", ("ThrottlingException", 400)), ("internal_error", ("InternalServiceErrorException", 500))],
)
def test_faults_of_entitlements_are_modelled_errors(cbor, shop, fault, expected):
    client = cbor("marketplace-entitlement")
    shop.control.fault("GetEntitlements", fault)
    assert refusal(client.get_entitlements, ProductCode="reports-flex") == expected


def test_refusals_of_entitlements_have_their_codes(cbor, shop):
    client = cbor("marketplace-entitlement", careless=True)
    assert refusal(client.get_entitlements, ProductCode="x") == ("InvalidParameterException", 400)
    assert refusal(client.get_entitlements) == ("ValidationException", 400)
    assert refusal(client.get_entitlements, ProductCode="x", MaxResults=26) == ("ValidationException", 400)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("throttle", ("ThrottlingException", 429)), ("internal_error", ("InternalServerException", 500))],
)
def test_faults_of_agreements_have_the_statuses_of_the_model(cbor, shop, license_, fault, expected):
    client = cbor("marketplace-agreement")
    shop.control.fault("DescribeAgreement", fault)
    assert refusal(client.describe_agreement, agreementId=license_.agreement_id) == expected


def test_refusals_of_agreements_have_the_statuses_of_the_model(cbor, shop):
    client = cbor("marketplace-agreement", careless=True)
    assert refusal(client.describe_agreement, agreementId="nobody") == ("ResourceNotFoundException", 404)
    assert refusal(client.describe_agreement, agreementId="x" * 65) == ("ValidationException", 400)


@pytest.fixture
def post(shop):
    """Posts bytes as no SDK would; returns status, headers and what the body says."""

    def _post(body, *, path=ENTITLEMENTS, method="POST", **headers):
        connection = http.client.HTTPConnection(shop.url.removeprefix("http://"), timeout=10)
        given = {
            "Authorization": SIGNED,
            "smithy-protocol": "rpc-v2-cbor",
            "Content-Type": "application/cbor",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {name: value for name, value in given.items() if value})
        response = connection.getresponse()
        return response.status, response.headers, cbor2.loads(response.read())

    return _post


def code(answer):
    status, headers, body = answer
    assert headers["Content-Type"] == "application/cbor"
    assert headers["smithy-protocol"] == "rpc-v2-cbor"
    assert body.keys() == {"__type", "message"}
    return status, body["__type"].partition("#")[2]


def test_items_of_indefinite_length_are_read(post):
    product = b"\x7f" + b"".join(cbor2.dumps(part) for part in ("reports", "-flex")) + b"\xff"
    filters = b"\xbf" + cbor2.dumps("DIMENSION") + b"\x9f" + cbor2.dumps("tier") + b"\xff\xff"
    body = b"\xbf" + cbor2.dumps("ProductCode") + product + cbor2.dumps("Filter") + filters + b"\xff"
    assert post(body)[0] == 200


def test_nulls_undefined_and_unknown_members_are_ignored(post):
    body = {"ProductCode": "reports-flex", "MaxResults": None, "NextToken": cbor2.undefined, "Extra": [b"x"]}
    assert post(cbor2.dumps(body))[0] == 200


def test_an_empty_body_lacks_the_required_members(post):
    assert code(post(b"")) == (400, "ValidationException")
    assert code(post(b"", Content_Type=None)) == (400, "ValidationException")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"\xff",
        b"\xa1",
        b"\xa0\xa0",
        b"\x80",
        b"\x01",
        b"\xf6",
        b"\x81" * 100_000,
        b"\xa1\x61a" * 5_000 + b"\xa0",
        b"\xa1\x61a\x9b\x00\x00\x00\xff\xff\xff\xff\xff",
        b"\xa1\x61\xff\x01",
        b"\xa1\x01\x01",
        b"\xa1\x41a\x01",
        b"\xa1\x80\x01",
        b"\xa1\x61a\xd8\x1c\x81\xd8\x1d\x00",
        b"\xa1\x61a\xc4\x82\x19\xff\xff\x01",
        b"\xa1\x61a\xc2\x59\x10\x00" + b"\xff" * 4096,
        b"\xa1\x61a\xf9\x7e\x00",
        b"\xa1\x61a\xc1\xf9\x7c\x00",
        b"\xa1\x61a\xe0",
        b"\xa1\x61a\xd9\xff\xff\x01",
    ],
    ids=lambda body: body[:12].hex(),
)
def test_what_is_no_structure_of_cbor_is_refused(post, body):
    assert code(post(body)) == (400, "SerializationException")


def test_a_request_that_breaks_the_protocol_is_refused(post):
    body = cbor2.dumps({"ProductCode": "reports-flex"})
    unknown = (400, "UnknownOperationException")
    assert code(post(body, smithy_protocol=None)) == unknown
    assert code(post(body, smithy_protocol="rpc-v2-json")) == unknown
    assert code(post(body, X_Amz_Target="AWSMPEntitlementService.GetEntitlements")) == unknown
    assert code(post(body, Content_Type="application/json")) == unknown
    assert code(post(body, method="PUT")) == unknown
    assert code(post(body, path="/service/AWSMPEntitlementService/operation/None")) == unknown
    assert code(post(body, path="/service/AWSMPEntitlementService")) == unknown
    assert code(post(body, path="/service/Nobody/operation/GetEntitlements")) == unknown


def test_a_service_whose_model_lists_no_cbor_does_not_speak_it(post):
    for path in ("AWSMPMeteringService/operation/ResolveCustomer", "AmazonSQS/operation/GetQueueUrl"):
        assert code(post(cbor2.dumps({}), path=f"/service/{path}")) == (400, "UnknownOperationException")


def test_the_signature_is_asked_for(post):
    assert code(post(b"\xa0", Authorization=None)) == (400, "MissingAuthenticationTokenException")


def test_the_request_log_reads_it(post, shop):
    post(cbor2.dumps({"ProductCode": "reports-flex", "Instant": cbor2.CBORTag(1, 5), "Blob": b"abc"}))
    post(b"\xa1")
    read, unread = shop.control.requests("GetEntitlements")
    assert read["protocol"] == "cbor"
    assert read["request"] == {"ProductCode": "reports-flex", "Instant": 5, "Blob": "(3 bytes)"}
    assert read["response"] == {}
    assert unread["request"] == "(1 bytes that are not cbor)"

from __future__ import annotations

import http.client
import json

import pytest

SCOPE = (
    "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/{}/aws4_request, SignedHeaders=host, Signature="
    + "0" * 64
)
METERING = "AWSMPMeteringService.ResolveCustomer"
SIGNED = SCOPE.format("aws-marketplace")


@pytest.fixture
def post(simulator):
    """Posts bytes as no careful SDK would; returns status, headers and parsed body."""

    def _post(body=b"{}", *, target=METERING, authorization=SIGNED, path="/"):
        connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
        headers = {"X-Amz-Target": target, "Authorization": authorization}
        connection.request("POST", path, body, {key: value for key, value in headers.items() if value})
        response = connection.getresponse()
        return response.status, dict(response.headers), json.loads(response.read())

    return _post


def refusal(answer):
    status, _, body = answer
    assert status == 400
    assert set(body) == {"__type", "message"}
    return body["__type"].partition("#")[2]


def test_every_answer_has_a_request_id_and_its_content_type(post):
    _, first, _ = post()
    _, second, _ = post(target="AmazonSQS.GetQueueUrl", authorization=SCOPE.format("sqs"))
    assert first["Content-Type"] == "application/x-amz-json-1.1"
    assert second["Content-Type"] == "application/x-amz-json-1.0"
    assert first["X-Amzn-Requestid"] != second["X-Amzn-Requestid"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"a": NaN}', b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:9])
)
def test_what_is_not_a_json_object_is_refused(post, body):
    assert refusal(post(body)) == "SerializationException"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (METERING, {"RegistrationToken": 1}),
        ("AWSMPMeteringService.BatchMeterUsage", {"UsageRecords": {}}),
        ("AWSMPMeteringService.BatchMeterUsage", {"UsageRecords": [1]}),
        ("AWSMPMeteringService.BatchMeterUsage", {"UsageRecords": [{"Timestamp": "now", "Dimension": "d"}]}),
        ("AWSMPMeteringService.BatchMeterUsage", {"UsageRecords": [{"Timestamp": True, "Dimension": "d"}]}),
        (
            "AWSMPMeteringService.BatchMeterUsage",
            {"UsageRecords": [{"Timestamp": 1, "Dimension": "d", "Quantity": 1.5}]},
        ),
        ("AWSMPEntitlementService.GetEntitlements", {"ProductCode": "p", "Filter": []}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_members_of_the_wrong_type_are_refused(post, target, body):
    assert refusal(post(json.dumps(body).encode(), target=target)) == "SerializationException"


def test_missing_members_are_named(post):
    status, _, body = post()
    assert (status, body["__type"].partition("#")[2]) == (400, "ValidationException")
    assert "'registrationToken'" in body["message"]
    status, _, body = post(b'{"UsageRecords": [{}]}', target="AWSMPMeteringService.BatchMeterUsage")
    assert "2 validation errors" in body["message"]
    assert "'usageRecords.1.member.timestamp'" in body["message"]


def test_unknown_members_and_nulls_are_ignored(post):
    body = b'{"UsageRecords": [], "ProductCode": null, "Something": 1}'
    status, _, answer = post(body, target="AWSMPMeteringService.BatchMeterUsage")
    assert (status, answer) == (200, {"Results": [], "UnprocessedRecords": []})


def test_unknown_operations_are_refused(post):
    for target in ("AWSMPMeteringService.MeterNothing", "Nobody.Nothing", "nonsense", ""):
        assert refusal(post(target=target)) == "UnknownOperationException"


def test_unsigned_and_wrongly_signed_calls_are_refused(post):
    assert refusal(post(authorization="")) == "MissingAuthenticationTokenException"
    assert refusal(post(authorization="Bearer x")) == "IncompleteSignatureException"
    assert refusal(post(authorization=SCOPE.format("sqs"))) == "InvalidSignatureException"
    assert refusal(post(authorization=SCOPE.format("metering.marketplace"))) == "InvalidSignatureException"


def test_a_body_no_service_takes_is_refused(post):
    status, _, body = post(b" " * (5 * 1024 * 1024))
    assert status == 413
    assert "too large" in body["error"]


def test_the_request_log_is_a_ring_and_keeps_no_giants(simulator, post):
    for _ in range(505):
        simulator.state.requests.add({"operation": "x"})
    post(json.dumps({"RegistrationToken": "t" * 100_000}).encode())
    entries = simulator.control.requests()
    assert len(entries) == 500
    assert "not kept" in entries[-1]["request"]
    assert entries[-1]["status"] == 400

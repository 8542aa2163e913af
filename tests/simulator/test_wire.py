from __future__ import annotations

import http.client
import json

import pytest
from botocore.exceptions import ClientError

from billing.simulator.aws.protocols import JSON_1_1
from billing.simulator.request_log import LARGEST_LOG, RequestLog
from tests.simulator.conftest import PAYG, code_of

SCOPE = (
    "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/{}/aws4_request, SignedHeaders=host, Signature="
    + "0" * 64
)
METERING = "AWSMPMeteringService.ResolveCustomer"
SIGNED = SCOPE.format("aws-marketplace")


@pytest.fixture
def post(simulator):
    """Posts bytes as no careful SDK would; returns status, headers and parsed body."""

    def _post(
        body=b"{}", *, target=METERING, authorization=SIGNED, path="/", method="POST", content_type=None
    ):
        connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
        headers = {"X-Amz-Target": target, "Authorization": authorization, "Content-Type": content_type}
        connection.request(method, path, body, {key: value for key, value in headers.items() if value})
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
    "body",
    [b"{", b"[]", b"null", b'{"a": NaN}', b'{"a": "\\ud800"}', b"{} x", b"\xff", b"[" * 100_000],
    ids=lambda body: repr(body[:9]),
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
    status, headers, body = post(b" " * (5 * 1024 * 1024))
    assert status == 413
    assert body["__type"].endswith("#RequestEntityTooLargeException")
    assert "x-amzn-requestid" in {name.lower() for name in headers}


def test_a_content_type_of_another_protocol_is_refused(post):
    assert refusal(post(content_type="application/cbor")) == "UnknownOperationException"
    assert refusal(post(content_type="application/x-www-form-urlencoded")) == "UnknownOperationException"
    assert refusal(post(content_type="Application/X-Amz-JSON-1.0; charset=utf-8")) == "ValidationException"


def test_only_posts_are_calls(post):
    assert refusal(post(method="PUT")) == "UnknownOperationException"


@pytest.mark.parametrize(
    "timestamp", ["NaN", "1e400", "9" * 400, "9" * 5000, '"2026-11-23T12:00:00Z"', "[1]"], ids=lambda t: t[:9]
)
def test_what_is_no_timestamp_is_refused(post, timestamp):
    body = f'{{"UsageRecords": [{{"Dimension": "d", "Timestamp": {timestamp}}}]}}'
    answer = post(body.encode(), target="AWSMPMeteringService.BatchMeterUsage")
    assert refusal(answer) == "SerializationException"


@pytest.mark.parametrize("timestamp", ["1e300", "-1e300", "9" * 30, "-62135596801"])
def test_an_instant_of_no_calendar_is_out_of_bounds(post, license_, timestamp):
    record = f'{{"Dimension": "pages", "CustomerAWSAccountId": "123456789012", "Timestamp": {timestamp}}}'
    body = f'{{"ProductCode": "reports-flex", "UsageRecords": [{record}]}}'
    answer = post(body.encode(), target="AWSMPMeteringService.BatchMeterUsage")
    assert refusal(answer) == "TimestampOutOfBoundsException"


def test_switches_choose_the_codes_no_model_names(simulator, post):
    simulator.control.switch(shape_error_code="InvalidInput", oversize_error_code="RequestEntityTooLarge")
    assert refusal(post()) == "InvalidInput"
    large = post(b" " * (1024 * 1024), target="AWSMPMeteringService.BatchMeterUsage")
    assert refusal(large) == "RequestEntityTooLarge"
    described = post(target="AWSMPCommerceService_v20200301.DescribeAgreement")
    assert described[2]["__type"].endswith("#ValidationException")


def test_a_region_without_the_metering_api_has_the_others_all_the_same(simulator, aws):
    simulator.control.switch(disabled_regions=["eu-west-1"])
    for call, members in (
        ("resolve_customer", {"RegistrationToken": "x"}),
        ("batch_meter_usage", {"UsageRecords": []}),
    ):
        with pytest.raises(ClientError) as error:
            getattr(aws("meteringmarketplace", region="eu-west-1"), call)(**members)
        assert code_of(error) == "DisabledApiException"
    assert aws("meteringmarketplace").batch_meter_usage(UsageRecords=[])["Results"] == []
    assert "QueueUrl" in aws("sqs", region="eu-west-1").get_queue_url(QueueName="marketplace-events")


class TestRequestLog:
    def test_it_is_a_ring(self, simulator, post):
        for number in range(505):
            remember(simulator.state.requests, number)
        assert [entry["number"] for entry in simulator.control.requests()] == list(range(5, 505))

    def test_it_is_bounded_in_bytes(self):
        log = RequestLog()
        for number in range(300):
            remember(log, number, sent=b'"' + b"x" * 60_000 + b'"', answered=b'"' + b"y" * 60_000 + b'"')
        kept = [entry["number"] for entry in log.entries]
        assert kept == list(range(300 - len(kept), 300))
        assert 120 <= len(kept) <= LARGEST_LOG // 120_000

    def test_it_keeps_no_giants(self, simulator, post):
        post(json.dumps({"RegistrationToken": "t" * 100_000}).encode())
        entry = simulator.control.requests()[-1]
        assert entry["request"] == "(100025 bytes, not kept)"
        assert entry["status"] == 400

    def test_it_tells_how_a_call_was_made_and_ended(self, simulator, post):
        post()
        post(authorization="", target="AmazonSQS.GetQueueUrl")
        first, second = simulator.control.requests()
        assert (first["protocol"], first["region"], first["status"]) == ("json 1.1", "us-east-1", 400)
        assert (first["request"], first["over_quota"], first["times"]) == ({}, False, 1)
        assert first["response"]["__type"].endswith("#ValidationException")
        assert (second["protocol"], second["region"]) == ("json 1.0", "")
        assert first["request_id"] != second["request_id"]

    def test_tokens_are_masked_however_they_are_spelled(self, simulator, post):
        sent = {"registrationToken": "secret", "a": [{"Token": "secret"}], "NextToken": "page"}
        post(json.dumps(sent).encode())
        (entry,) = simulator.control.requests()
        assert "secret" not in str(entry)
        assert entry["request"]["NextToken"] == "page"

    def test_what_cannot_be_read_is_not_shown(self, simulator, post):
        post(b'{"RegistrationToken": "secret"')
        post(b'{"a":' * 60 + b"1" + b"}" * 60)
        unread, deep = simulator.control.requests()
        assert unread["request"] == "(30 bytes that are not json 1.1)"
        assert "nested too deeply" in str(deep["request"])

    def test_polls_that_find_nothing_share_a_line(self, simulator, aws):
        simulator.control.add_product(PAYG)
        worker, other = aws("sqs"), aws("sqs", region="eu-west-1")
        queue = worker.get_queue_url(QueueName="marketplace-events")["QueueUrl"]
        for _ in range(3):
            worker.receive_message(QueueUrl=queue)
            other.receive_message(QueueUrl=queue)
        _, ours, theirs = simulator.control.requests()
        assert (ours["region"], ours["times"]) == ("us-east-1", 3)
        assert (theirs["region"], theirs["times"]) == ("eu-west-1", 3)
        assert ours["last_at"] >= ours["at"]

        simulator.control.subscribe("reports-payg", agreement_created_after=0, license_updated_after=0)
        worker.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        worker.receive_message(QueueUrl=queue)
        assert [entry["times"] for entry in simulator.control.requests()] == [1, 3, 3, 1, 1]

    def test_a_first_poll_has_a_line_of_its_own(self, simulator, aws):
        queue = f"{simulator.url}/0/marketplace-events"
        aws("sqs").receive_message(QueueUrl=queue)
        simulator.control.fault("ReceiveMessage", "latency", seconds=0.001)
        aws("sqs").receive_message(QueueUrl=queue)
        assert [entry["fault"] for entry in simulator.control.requests()] == [None, "latency"]


def remember(log, number, *, sent=b"", answered=b"{}"):
    log.add(
        {"number": number, "region": "", "operation": "x"}, protocol=JSON_1_1, sent=sent, answered=answered
    )

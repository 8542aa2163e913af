"""The seam: real boto3 over the wire, to the simulator or to a stub that says what the simulator cannot."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from django.utils import timezone

from billing.aws.client import BotoMarketplace, get_marketplace
from billing.aws.errors import NOT_TAKEN, MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.types import Allocation, Connection, EntitlementFilter, Marketplace, QueueMessage, UsageLine
from billing.aws.window import HOUR, hour_of

FEW_SECONDS = timedelta(seconds=30)


@pytest.fixture
def marketplace(aws):
    return BotoMarketplace(Connection(read_timeout=5))


def usage_line(bought, quantity="5", *, reference=1, dimension="pages", **fields):
    return UsageLine(
        **{
            "reference": reference,
            "license_arn": bought.license_arn,
            "product_code": None if bought.license_arn else "reports-classic",
            "aws_account_id": bought.aws_account_id,
            "customer_identifier": None,
            "dimension": dimension,
            "timestamp": hour_of(timezone.now()) - HOUR,
            "quantity": quantity,
            **fields,
        }
    )


def buy_long_ago(aws, product_code, **options):
    bought = aws.buy(product_code, started_at=timezone.now() - timedelta(hours=5), **options)
    return bought


def test_the_process_has_one_client_made_from_the_settings(settings):
    get_marketplace.cache_clear()
    settings.MARKETPLACE = {**settings.MARKETPLACE, "metering_region": "eu-west-1"}
    marketplace: Marketplace = get_marketplace()
    assert marketplace.metering_region == "eu-west-1"
    assert get_marketplace() is marketplace
    get_marketplace.cache_clear()


# --- ResolveCustomer


def test_a_license_token_resolves_to_its_purchase(aws, marketplace):
    bought = aws.buy("reports-flex")
    resolved = marketplace.resolve_customer(bought.token)
    assert resolved.product_code == "reports-flex"
    assert resolved.aws_account_id == bought.aws_account_id
    assert resolved.license_arn == bought.license_arn
    assert resolved.agreement_id == bought.agreement_id
    assert resolved.customer_identifier is None


def test_a_legacy_token_resolves_to_a_customer_without_a_license(aws, marketplace):
    bought = aws.buy("reports-classic")
    resolved = marketplace.resolve_customer(bought.token)
    assert resolved.customer_identifier == bought.customer_identifier
    assert resolved.license_arn is None
    assert resolved.agreement_id is None


def test_unknown_and_expired_tokens_are_the_buyers_matter(aws, marketplace):
    with pytest.raises(MarketplaceError) as unknown:
        marketplace.resolve_customer("no such token")
    bought = aws.buy()
    aws.control.advance(timedelta(hours=5))
    with pytest.raises(MarketplaceError) as expired:
        marketplace.resolve_customer(bought.token)
    assert (unknown.value.code, unknown.value.scope) == ("InvalidTokenException", Scope.BUYER)
    assert (expired.value.code, expired.value.scope) == ("ExpiredTokenException", Scope.BUYER)
    assert unknown.value.request_id


# --- GetEntitlements


def test_entitlements_come_with_their_kind_of_value_and_their_license(aws, marketplace):
    bought = aws.buy("reports-team", quantities={"seats": 7})
    aws.control.advance(FEW_SECONDS)
    rows = marketplace.get_entitlements(EntitlementFilter("reports-team", license_arn=bought.license_arn))
    values = {row.dimension: row.value for row in rows}
    assert values == {"reports": True, "seats": 7}
    assert values["reports"] is True
    assert {row.license_arn for row in rows} == {bought.license_arn}
    assert all(row.expires_at > timezone.now() + timedelta(days=300) for row in rows)


def test_one_license_is_asked_for_even_where_the_account_has_two(aws, marketplace):
    first = aws.buy("reports-flex", aws_account_id="111122223333", quantities={"included_pages": 1})
    second = aws.buy("reports-flex", aws_account_id="111122223333", quantities={"included_pages": 2})
    aws.control.advance(FEW_SECONDS)
    of_first = marketplace.get_entitlements(EntitlementFilter("reports-flex", license_arn=first.license_arn))
    of_both = marketplace.get_entitlements(EntitlementFilter("reports-flex", aws_account_id="111122223333"))
    assert [row.value for row in of_first] == [1]
    assert {row.license_arn: row.value for row in of_both} == {first.license_arn: 1, second.license_arn: 2}


def test_a_legacy_customer_is_asked_for_by_identifier(aws, marketplace):
    bought = aws.buy("reports-flex", identity="legacy", quantities={"included_pages": 3})
    aws.control.advance(FEW_SECONDS)
    rows = marketplace.get_entitlements(
        EntitlementFilter("reports-flex", customer_identifier=bought.customer_identifier)
    )
    assert [(row.value, row.customer_identifier) for row in rows] == [(3, bought.customer_identifier)]


def test_nobody_is_never_asked_for(aws, marketplace):
    with pytest.raises(ValueError, match="names a license or a customer"):
        marketplace.get_entitlements(EntitlementFilter("reports-flex"))
    assert aws.control.requests("GetEntitlements") == []


def test_an_empty_answer_means_no_entitlement(aws, marketplace):
    bought = aws.buy("reports-flex")
    aws.control.fault("GetEntitlements", "empty")
    assert (
        marketplace.get_entitlements(EntitlementFilter("reports-flex", license_arn=bought.license_arn)) == []
    )
    assert aws.control.requests("GetEntitlements")[0]["response"] == {}


def test_all_pages_are_read(aws, marketplace):
    keys = [f"part-{number:02}" for number in range(26)]
    aws.control.add_product(
        {
            "code": "wide",
            "product_id": "prod-wide000000001",
            "title": "Wide",
            "pricing": "contract",
            "dimensions": [{"key": key, "kind": "entitled", "default_quantity": 1} for key in keys],
        }
    )
    bought = aws.buy("wide")
    aws.control.advance(FEW_SECONDS)
    rows = marketplace.get_entitlements(EntitlementFilter("wide", license_arn=bought.license_arn))
    assert sorted(row.dimension for row in rows) == keys
    assert len(aws.control.requests("GetEntitlements")) == 2


# --- BatchMeterUsage


def test_usage_is_accepted_and_billed(aws, marketplace):
    bought = buy_long_ago(aws, "reports-payg")
    line = usage_line(bought, "10", allocations=(Allocation("4", (("team", "ml"),)), Allocation("6", ())))
    answer = marketplace.batch_meter_usage([line], region="us-east-1")
    (outcome,) = answer.outcomes
    assert (outcome.reference, outcome.status) == (1, "Success")
    assert outcome.metering_record_id
    assert answer.unprocessed == ()
    assert answer.request_id == aws.control.requests("BatchMeterUsage")[0]["request_id"]
    (billed,) = aws.control.invoice()["lines"]
    assert billed["quantity"] == "10"
    assert {"quantity": "4", "tags": {"team": "ml"}} in billed["allocations"]


def test_a_legacy_batch_carries_the_product_and_no_license(aws, marketplace):
    bought = buy_long_ago(aws, "reports-classic")
    marketplace.batch_meter_usage([usage_line(bought)], region="us-east-1")
    sent = aws.control.requests("BatchMeterUsage")[0]["request"]
    assert sent["ProductCode"] == "reports-classic"
    assert "LicenseArn" not in sent["UsageRecords"][0]
    assert aws.control.state()["lints"] == {}


def test_each_line_gets_its_own_outcome(aws, marketplace):
    active = buy_long_ago(aws, "reports-payg")
    cancelled = buy_long_ago(aws, "reports-payg")
    aws.control.cancel(cancelled.agreement_id)
    aws.control.advance(timedelta(hours=2))
    marketplace.batch_meter_usage([usage_line(active, "1")], region="us-east-1")
    answer = marketplace.batch_meter_usage(
        [usage_line(cancelled, reference=10), usage_line(active, "2", reference=11)], region="us-east-1"
    )
    said = {outcome.reference: outcome.status for outcome in answer.outcomes}
    assert said == {10: "CustomerNotSubscribed", 11: "DuplicateRecord"}


def test_unprocessed_lines_are_named(aws, marketplace):
    bought = buy_long_ago(aws, "reports-payg")
    aws.control.fault("BatchMeterUsage", "unprocessed", share=0.5)
    early = usage_line(bought, reference=2, timestamp=hour_of(timezone.now()) - 2 * HOUR)
    answer = marketplace.batch_meter_usage([usage_line(bought), early], region="us-east-1")
    assert [outcome.reference for outcome in answer.outcomes] == [1]
    assert answer.unprocessed == (2,)


def test_a_record_goes_to_its_own_region_whatever_the_settings_say(aws, marketplace):
    bought = buy_long_ago(aws, "reports-payg")
    marketplace.batch_meter_usage([usage_line(bought)], region="eu-west-1")
    marketplace.batch_meter_usage([usage_line(bought)], region="us-east-1")
    assert [call["region"] for call in aws.control.requests("BatchMeterUsage")] == ["eu-west-1", "us-east-1"]


def test_a_refused_batch_says_awss_code(aws, marketplace):
    bought = buy_long_ago(aws, "reports-payg")
    with pytest.raises(MarketplaceError) as refused:
        marketplace.batch_meter_usage([usage_line(bought, dimension="nothing")], region="us-east-1")
    assert (refused.value.code, refused.value.scope) == ("InvalidUsageDimensionException", Scope.RECORD)


def test_a_malformed_record_is_judged_by_aws_and_concerns_itself_not_the_network(aws, marketplace):
    bought = buy_long_ago(aws, "reports-payg")
    with pytest.raises(MarketplaceError) as refused:
        marketplace.batch_meter_usage([usage_line(bought, dimension="")], region="us-east-1")
    assert (refused.value.code, refused.value.scope) == ("ValidationException", Scope.RECORD)
    (call,) = aws.control.requests("BatchMeterUsage")
    assert call["request"]["UsageRecords"][0]["Dimension"] == ""


def test_what_the_sdk_refuses_to_send_is_not_the_networks_fault(aws, marketplace):
    with pytest.raises(MarketplaceError) as refused:
        marketplace.get_entitlements(EntitlementFilter(product_code="", license_arn="x"))
    assert (refused.value.code, refused.value.scope) == ("ParamValidation", Scope.RECORD)
    assert aws.control.requests("GetEntitlements") == []


# --- DescribeAgreement


def test_an_agreement_is_described_only_where_that_is_permitted(aws):
    bought = aws.buy("reports-flex", free_trial=True)
    assert BotoMarketplace(Connection()).describe_agreement(bought.agreement_id) is None
    assert aws.control.requests("DescribeAgreement") == []
    details = BotoMarketplace(Connection(describe_agreements=True)).describe_agreement(bought.agreement_id)
    assert details.status == "ACTIVE"
    assert details.initial_agreement_id == bought.agreement_id
    # A contract's trial ends, and with it the agreement.
    assert details.starts_at < details.trial_ends_at == details.ends_at
    payg = aws.buy("reports-payg")
    details = BotoMarketplace(Connection(describe_agreements=True)).describe_agreement(payg.agreement_id)
    assert (details.ends_at, details.trial_ends_at) == (None, None)


def test_a_trial_that_converts_ends_before_its_agreement_and_all_instants_are_utc(aws):
    aws.control.switch(contract_trial_converts=True)
    bought = aws.buy("reports-flex", free_trial=True)
    details = BotoMarketplace(Connection(describe_agreements=True)).describe_agreement(bought.agreement_id)
    assert details.starts_at < details.trial_ends_at < details.ends_at
    assert {details.starts_at.tzinfo, details.trial_ends_at.tzinfo, details.ends_at.tzinfo} == {UTC}


def test_an_unknown_agreement_is_an_error(aws):
    with pytest.raises(MarketplaceError) as unknown:
        BotoMarketplace(Connection(describe_agreements=True)).describe_agreement("agmt-none")
    assert unknown.value.code == "ResourceNotFoundException"


# --- SQS


def test_messages_are_received_with_their_time_and_gone_once_deleted(aws, marketplace, settings):
    (queue_url,) = settings.MARKETPLACE_EVENT_QUEUES
    aws.buy("reports-flex")
    aws.control.advance(FEW_SECONDS)
    messages = marketplace.receive_messages(queue_url, wait_seconds=0, visibility_seconds=60)
    assert {json.loads(message.body)["detail-type"] for message in messages} == {
        "Purchase Agreement Created - Proposer",
        "License Updated - Manufacturer",
    }
    assert all(abs(message.sent_at - timezone.now()) < timedelta(minutes=1) for message in messages)
    marketplace.delete_messages(messages)
    assert aws.control.state()["queues"]["marketplace-events"] == {"visible": 0, "in_flight": 0}
    assert marketplace.receive_messages(queue_url, wait_seconds=0, visibility_seconds=60) == []


def test_deleting_nothing_asks_nothing(aws, marketplace):
    marketplace.delete_messages([])
    assert aws.control.requests() == []


@pytest.fixture
def receive(aws, marketplace, settings):
    """Messages of a queue that others do not get for so long; all of them, ten at a time."""

    def receive(*, visibility_seconds):
        found = []
        while batch := marketplace.receive_messages(
            settings.MARKETPLACE_EVENT_QUEUES[0], wait_seconds=0, visibility_seconds=visibility_seconds
        ):
            found += batch
        return found

    return receive


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_messages_are_deleted_ten_at_a_time_and_of_one_queue(aws, marketplace, receive):
    other = aws.control.queue("other")["name"]
    for number in range(12):
        aws.control.send("marketplace-events", str(number))
    aws.control.send(other, "of another queue")
    messages = receive(visibility_seconds=60)
    elsewhere = messages[0].queue_url.replace("marketplace-events", other)
    messages[5:5] = marketplace.receive_messages(elsewhere, wait_seconds=0, visibility_seconds=60)
    marketplace.delete_messages(messages)
    assert [queue["in_flight"] for queue in aws.control.state()["queues"].values()] == [0, 0, 0]
    sizes = [len(call["request"]["Entries"]) for call in aws.control.requests("DeleteMessageBatch")]
    assert sizes == [10, 2, 1]


def test_a_message_that_is_not_deleted_is_named_and_the_others_of_its_batch_are(
    aws, marketplace, receive, caplog
):
    for number in range(3):
        aws.control.send("marketplace-events", str(number))
    first, second, third = receive(visibility_seconds=60)
    marketplace.delete_messages([first, replace(second, receipt="forged"), third])
    assert aws.control.state()["queues"]["marketplace-events"] == {"visible": 0, "in_flight": 1}
    assert warnings(caplog) == [
        f"Message {second.message_id} was not deleted and comes again: ReceiptHandleIsInvalid"
    ]


def test_messages_in_hand_stay_hidden_but_for_those_that_others_may_have(aws, marketplace, receive, caplog):
    for number in range(3):
        aws.control.send("marketplace-events", str(number))
    first, gone, third = receive(visibility_seconds=5)
    marketplace.delete_messages([gone])
    marketplace.extend_visibility([first, gone, third], seconds=60)
    hidden_for = [message.visible_at - time.time() for message in aws.simulator.state.messages.values()]
    assert [round(seconds, -1) for seconds in hidden_for] == [60, 60]
    (warning,) = warnings(caplog)
    assert warning.startswith(f"Message {gone.message_id} is hidden no longer: ")
    assert warning.endswith("MessageNotInflight")


def test_who_may_not_hide_messages_asks_once(aws, marketplace, receive):
    for number in range(3):
        aws.control.send("marketplace-events", str(number))
    aws.control.fault("ChangeMessageVisibility", "error", count=None)
    with pytest.raises(MarketplaceError, match="AccessDenied"):
        marketplace.extend_visibility(receive(visibility_seconds=60), seconds=60)
    assert len(aws.control.requests("ChangeMessageVisibility")) == 1


# --- Faults: attempts, time-outs, Regions


@pytest.fixture
def calls(aws, settings):
    """One call of each operation."""
    (queue_url,) = settings.MARKETPLACE_EVENT_QUEUES
    bought = buy_long_ago(aws, "reports-payg")
    return {
        "ResolveCustomer": lambda m: m.resolve_customer(bought.token),
        "GetEntitlements": lambda m: m.get_entitlements(
            EntitlementFilter("reports-payg", license_arn=bought.license_arn)
        ),
        "BatchMeterUsage": lambda m: m.batch_meter_usage([usage_line(bought)], region="us-east-1"),
        "DescribeAgreement": lambda m: m.describe_agreement(bought.agreement_id),
        "ReceiveMessage": lambda m: m.receive_messages(queue_url, wait_seconds=0, visibility_seconds=60),
        "DeleteMessageBatch": lambda m: m.delete_messages([QueueMessage(queue_url, "m", "receipt", "{}")]),
    }


@pytest.mark.parametrize(
    ("operation", "attempts"),
    [("BatchMeterUsage", 1), ("ResolveCustomer", 3), ("GetEntitlements", 3), ("ReceiveMessage", 3)],
)
def test_metering_is_tried_once_and_the_rest_three_times(aws, calls, operation, attempts):
    aws.control.fault(operation, "internal_error", count=None)
    with pytest.raises(MarketplaceUnavailable):
        calls[operation](BotoMarketplace(Connection()))
    assert len(aws.control.requests(operation)) == attempts


def test_a_throttled_call_succeeds_by_itself_where_it_may_be_repeated(aws, calls):
    aws.control.fault("ResolveCustomer", "throttle", count=2)
    assert calls["ResolveCustomer"](BotoMarketplace(Connection())).product_code == "reports-payg"
    assert [call["status"] for call in aws.control.requests("ResolveCustomer")] == [400, 400, 200]


def test_throttled_metering_was_not_looked_at(aws, calls):
    aws.control.fault("BatchMeterUsage", "throttle")
    with pytest.raises(MarketplaceUnavailable) as throttled:
        calls["BatchMeterUsage"](BotoMarketplace(Connection()))
    assert throttled.value.code == "ThrottlingException"


@pytest.mark.parametrize("operation", ["BatchMeterUsage", "GetEntitlements", "DescribeAgreement"])
def test_a_slow_answer_is_not_waited_for(aws, calls, operation):
    aws.control.fault(operation, "latency", count=None, seconds=0.5)
    with pytest.raises(MarketplaceUnavailable) as unanswered:
        calls[operation](BotoMarketplace(Connection(read_timeout=0.1, describe_agreements=True)))
    assert unanswered.value.code == "NoAnswer"


def test_an_answer_that_is_lost_on_the_way_is_no_answer(aws, calls):
    aws.control.fault("BatchMeterUsage", "drop_after_accept")
    with pytest.raises(MarketplaceUnavailable) as lost:
        calls["BatchMeterUsage"](BotoMarketplace(Connection()))
    assert lost.value.code == "NoAnswer"
    assert aws.billed() == "5"


@pytest.mark.parametrize("operation", ["BatchMeterUsage", "ResolveCustomer", "ReceiveMessage"])
def test_a_call_that_never_left_is_told_from_one_without_an_answer(calls, monkeypatch, operation):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for service in ("MARKETPLACE_METERING", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", closed)
    with pytest.raises(MarketplaceUnavailable) as unreachable:
        calls[operation](BotoMarketplace(Connection(connect_timeout=0.5)))
    assert unreachable.value.code == "Unreachable"


def test_entitlement_agreement_and_events_are_always_in_us_east_1(aws, calls):
    marketplace = BotoMarketplace(Connection(metering_region="eu-west-1", describe_agreements=True))
    for operation in ("ResolveCustomer", "GetEntitlements", "DescribeAgreement", "ReceiveMessage"):
        calls[operation](marketplace)
    assert {call["operation"]: call["region"] for call in aws.control.requests()} == {
        "ResolveCustomer": "eu-west-1",
        "GetEntitlements": "us-east-1",
        "DescribeAgreement": "us-east-1",
        "ReceiveMessage": "us-east-1",
    }


# --- What the simulator cannot say


class Stub:
    """An endpoint that gives the answers it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.bodies: list[bytes] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def says(self, *answers: object, status: int = 200) -> None:
        self.answers = [
            (status, body if isinstance(body, bytes) else json.dumps(body).encode()) for body in answers
        ]


@pytest.fixture
def stub(monkeypatch):
    stub = Stub()
    for service in ("MARKETPLACE_METERING", "MARKETPLACE_ENTITLEMENT_SERVICE", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stub.url)
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


ROW = {"Dimension": "seats", "Value": {"IntegerValue": 5}}
ANY = EntitlementFilter("reports-flex", aws_account_id="123456789012")


def test_an_empty_page_with_a_token_is_not_the_last(stub):
    stub.says({"Entitlements": [ROW], "NextToken": "a"}, {"NextToken": "b"}, {"Entitlements": [ROW]})
    rows = BotoMarketplace(Connection()).get_entitlements(ANY)
    assert [row.value for row in rows] == [5, 5]
    assert [json.loads(body).get("NextToken") for body in stub.bodies] == [None, "a", "b"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"IntegerValue": 0}, 0),
        ({"DoubleValue": 1.5}, 1.5),
        ({"BooleanValue": False}, False),
        ({"StringValue": ""}, ""),
    ],
)
def test_every_kind_of_value_is_read_even_when_it_is_nothing(stub, value, read):
    stub.says({"Entitlements": [{"Dimension": "d", "Value": value}]})
    (row,) = BotoMarketplace(Connection()).get_entitlements(ANY)
    assert row.value == read
    assert type(row.value) is type(read)


@pytest.mark.parametrize(
    "row", [{"Dimension": "d"}, {"Dimension": "d", "Value": {}}, {"Value": {"IntegerValue": 1}}]
)
def test_an_entitlement_that_cannot_be_read_is_an_error_not_a_guess(stub, row):
    stub.says({"Entitlements": [ROW, row]})
    with pytest.raises(MarketplaceError) as unreadable:
        BotoMarketplace(Connection()).get_entitlements(ANY)
    assert (unreadable.value.code, unreadable.value.scope) == ("UnreadableAnswer", Scope.UNKNOWN)


_HOUR = datetime(2026, 11, 18, 12, tzinfo=UTC)
_LINE = UsageLine(1, "arn:aws:license-manager::1:license:l-1", None, "1" * 12, None, "pages", _HOUR, "1")


def told(**changes):
    record = {
        "Timestamp": _HOUR.timestamp(), "Dimension": "pages", "CustomerAWSAccountId": "1" * 12,
        "LicenseArn": _LINE.license_arn, "Quantity": 1,
    }  # fmt: skip
    return {"UsageRecord": {**record, **changes}, "Status": "Success", "MeteringRecordId": "id"}


@pytest.mark.parametrize(
    "body",
    [
        {"Results": [told(Timestamp=_HOUR.timestamp() * 1000)]},
        {"Results": [told(Timestamp="yesterday")]},
        {"Results": [None]},
        {"Results": "x"},
        {"Results": [{"UsageRecord": "x"}]},
        {"Results": [], "UnprocessedRecords": [None]},
        [],
    ],
    ids=str,
)
def test_an_answer_to_usage_that_cannot_be_read_is_no_answer(stub, body):
    """So its records are in doubt, and go out again."""
    stub.says(body)
    with pytest.raises(MarketplaceUnavailable) as unreadable:
        BotoMarketplace(Connection()).batch_meter_usage([_LINE], region="us-east-1")
    assert unreadable.value.code == "UnreadableAnswer"
    assert unreadable.value.code not in NOT_TAKEN


def test_text_that_no_database_keeps_is_left_out_of_an_answer(stub):
    stub.says({"Results": [{**told(), "MeteringRecordId": "a\x00b\ud800"}]})
    answer = BotoMarketplace(Connection()).batch_meter_usage([_LINE], region="us-east-1")
    assert [outcome.metering_record_id for outcome in answer.outcomes] == ["ab?"]


class Bought:
    license_arn = "arn:aws:license-manager::294406891311:license:l-1"
    aws_account_id = "123456789012"


@pytest.mark.parametrize(
    ("status", "body", "code", "scope"),
    [
        (400, {"__type": "aws#BrandNewException", "message": "?"}, "BrandNewException", Scope.UNKNOWN),
        (503, b"<html>Service Unavailable</html>", None, None),
        (400, {"__type": "x#AccessDeniedException"}, "AccessDeniedException", Scope.ACCOUNT),
        (
            400,
            {"__type": "x#ExpiredTokenException", "message": "The security token included is expired"},
            "ExpiredCredentials",
            Scope.ACCOUNT,
        ),
    ],
)
def test_errors_are_told_by_code_and_status(stub, status, body, code, scope):
    stub.says(body, status=status)
    with pytest.raises(MarketplaceError) as error:
        BotoMarketplace(Connection()).batch_meter_usage([usage_line(Bought)], region="us-east-1")
    if code is None:
        assert isinstance(error.value, MarketplaceUnavailable)
    else:
        assert (error.value.code, error.value.scope) == (code, scope)
        assert not isinstance(error.value, MarketplaceUnavailable)


@pytest.mark.parametrize("body", [{}, {"Results": [{}]}, {"Results": [{"Status": "Success"}]}, b"not JSON"])
def test_an_answer_that_names_no_line_answers_none(stub, body):
    stub.says(body)
    answer = BotoMarketplace(Connection()).batch_meter_usage([usage_line(Bought)], region="us-east-1")
    assert (answer.outcomes, answer.unprocessed) == ((), ())


def test_a_token_without_a_product_is_of_no_product(stub):
    stub.says({"CustomerAWSAccountId": "123456789012", "CustomerIdentifier": ""})
    resolved = BotoMarketplace(Connection()).resolve_customer("token")
    assert (resolved.product_code, resolved.customer_identifier) == ("", None)


# --- Credentials


ASSUMED = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASSUMEDKEY</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""
ROLE = "arn:aws:iam::111111111111:role/seller"


def test_a_role_in_the_sellers_account_is_assumed_once_with_its_external_id(aws, stub, monkeypatch):
    for name, value in aws.simulator.endpoint_env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    stub.says(ASSUMED)
    bought = aws.buy()
    marketplace = BotoMarketplace(Connection(role_arn=ROLE, role_external_id="kit-42"))
    assert stub.bodies == []
    assert marketplace.resolve_customer(bought.token).agreement_id == bought.agreement_id
    assert marketplace.resolve_customer(bought.token).agreement_id == bought.agreement_id
    (asked,) = stub.bodies
    form = {name: values[0] for name, values in parse_qs(asked.decode()).items()}
    assert (form["Action"], form["RoleArn"], form["ExternalId"]) == ("AssumeRole", ROLE, "kit-42")


def test_the_assumed_credentials_sign_the_calls(stub):
    stub.says(ASSUMED, {"ProductCode": "p"})
    marketplace = BotoMarketplace(Connection(role_arn=ROLE))
    assert marketplace.resolve_customer("token").product_code == "p"
    credentials = marketplace._session.get_credentials()
    assert credentials.access_key == "ASSUMEDKEY"
    assert b"ExternalId" not in stub.bodies[0]


def test_a_role_that_may_not_be_assumed_concerns_the_account(stub):
    stub.says(
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
        status=403,
    )
    with pytest.raises(MarketplaceError) as denied:
        BotoMarketplace(Connection(role_arn=ROLE)).resolve_customer("token")
    assert (denied.value.code, denied.value.scope) == ("AccessDenied", Scope.ACCOUNT)


@pytest.mark.parametrize("role_arn", [None, ROLE])
def test_missing_credentials_concern_the_account(stub, monkeypatch, tmp_path, role_arn):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(MarketplaceError) as missing:
        BotoMarketplace(Connection(role_arn=role_arn)).resolve_customer("token")
    assert (missing.value.code, missing.value.scope) == ("NoCredentials", Scope.ACCOUNT)

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from tests.simulator.conftest import NOON, billed, code_of, usage

ARN = "arn:aws:license-manager::294406891311:license:l-" + "0" * 32


def send(metering, *records, **request):
    return metering.batch_meter_usage(UsageRecords=list(records), **request)


def status(metering, record, **request):
    (result,) = send(metering, record, **request)["Results"]
    return result["Status"]


def refusal(metering, *records, **request):
    with pytest.raises(ClientError) as error:
        send(metering, *records, **request)
    return code_of(error)


def test_accepted_usage_is_echoed_with_an_id_and_stands_on_the_invoice(shop, metering, license_):
    answer = send(metering, usage(license_, QuantityAsDecimal="17.42"))
    (result,) = answer["Results"]
    assert result["Status"] == "Success"
    assert result["UsageRecord"]["QuantityAsDecimal"] == "17.42"
    assert result["UsageRecord"]["Timestamp"] == NOON
    assert answer["UnprocessedRecords"] == []
    (line,) = shop.control.invoice()["lines"]
    assert line == {
        "product_code": "reports-flex",
        "license_arn": license_.license_arn,
        "agreement_id": license_.agreement_id,
        "aws_account_id": "123456789012",
        "customer_identifier": None,
        "identity": "license",
        "metered_under": "LicenseArn",
        "region": "us-east-1",
        "dimension": "pages",
        "hour": "2026-11-23T12:00:00Z",
        "timestamp": "2026-11-23T12:00:00Z",
        "quantity": "17.42",
        "amount": "1.742",
        "metering_record_id": result["MeteringRecordId"],
        "allocations": [],
        "billing": 1,
        "billed_twice": False,
    }


def test_a_zero_record_stands_on_the_invoice(shop, metering, license_):
    assert status(metering, usage(license_, QuantityAsDecimal="0")) == "Success"
    assert billed(shop) == [("2026-11-23T12:00:00Z", "0")]


def test_a_record_without_quantity_means_zero(shop, metering, license_):
    assert status(metering, usage(license_, QuantityAsDecimal=None)) == "Success"
    assert billed(shop) == [("2026-11-23T12:00:00Z", "0")]


def test_totals_multiply_by_the_price(shop, metering, license_):
    shop.control.advance(timedelta(hours=1))
    send(
        metering,
        usage(license_, Quantity=10),
        usage(license_, Timestamp=NOON + timedelta(hours=1), Quantity=5),
    )
    (total,) = shop.control.invoice()["totals"]
    assert (total["dimension"], total["quantity"], total["amount"]) == ("pages", "15", "1.50")
    assert total["agreement_id"] == license_.agreement_id


def test_the_same_record_again_is_success_with_the_same_id_and_billed_once(shop, metering, license_):
    first = send(metering, usage(license_))["Results"][0]
    again = send(metering, usage(license_))["Results"][0]
    assert again == first
    assert len(billed(shop)) == 1


def test_an_identical_repeat_is_a_duplicate_when_so_switched(shop, metering, license_):
    shop.control.switch(identical_repeat="DuplicateRecord")
    assert status(metering, usage(license_)) == "Success"
    assert status(metering, usage(license_)) == "DuplicateRecord"


def test_another_quantity_for_the_same_hour_is_a_duplicate_and_the_first_stays(shop, metering, license_):
    send(metering, usage(license_, QuantityAsDecimal="10"))
    (result,) = send(
        metering, usage(license_, QuantityAsDecimal="11", Timestamp=NOON + timedelta(minutes=5))
    )["Results"]
    assert result["Status"] == "DuplicateRecord"
    assert "MeteringRecordId" not in result
    assert billed(shop) == [("2026-11-23T12:00:00Z", "10")]


def test_quantities_are_compared_by_value(shop, metering, license_):
    assert status(metering, usage(license_, Quantity=17)) == "Success"
    assert status(metering, usage(license_, QuantityAsDecimal="17.00")) == "Success"
    assert billed(shop) == [("2026-11-23T12:00:00Z", "17")]


def test_records_of_one_batch_are_compared_with_each_other(shop, metering, license_):
    results = send(metering, usage(license_, Quantity=1), usage(license_, Quantity=2))["Results"]
    assert [result["Status"] for result in results] == ["Success", "DuplicateRecord"]


def test_each_region_bills_for_itself(shop, aws, metering, license_):
    other = aws("meteringmarketplace", region="eu-west-1")
    assert status(metering, usage(license_, Quantity=1)) == "Success"
    assert status(other, usage(license_, Quantity=2)) == "Success"
    assert [line["billed_twice"] for line in shop.control.invoice()["lines"]] == [True, True]


def test_a_batch_takes_25_records_and_not_26(metering, license_):
    shape = [usage(license_)] * 26
    assert len(send(metering, *shape[:25])["Results"]) == 25
    assert refusal(metering, *shape) == "ValidationException"


def test_an_empty_batch_is_empty(metering, license_):
    assert send(metering)["Results"] == []


@pytest.mark.parametrize(
    "members",
    [
        {"QuantityAsDecimal": "-1"},
        {"QuantityAsDecimal": "1e3"},
        {"QuantityAsDecimal": "01"},
        {"QuantityAsDecimal": ".5"},
        {"QuantityAsDecimal": "1."},
        {"QuantityAsDecimal": "0.1234567"},
        {"QuantityAsDecimal": "10000000000"},
        {"QuantityAsDecimal": "1\n"},
        {"Quantity": 2147483648},
        {"Quantity": 1, "QuantityAsDecimal": "1"},
        {"CustomerAWSAccountId": "12345678901x"},
        {"CustomerAWSAccountId": "1" * 256},
        {"CustomerAWSAccountId": None},
        {"CustomerIdentifier": "abc"},
        {"LicenseArn": "l-123"},
        {"Dimension": "d" * 256},
        {"Dimension": ""},
        {"Dimension": None},
        {"Timestamp": None},
        {"Quantity": -1},
        {"UsageAllocations": []},
        {"UsageAllocations": [{"AllocatedUsageQuantityAsDecimal": "1", "Tags": []}]},
        {"UsageAllocations": [{"AllocatedUsageQuantityAsDecimal": "1", "Tags": [{"Key": "a"}]}]},
    ],
    ids=str,
)
def test_what_the_model_forbids_is_refused(shop, aws, license_, members):
    careless = aws("meteringmarketplace", careless=True)
    assert refusal(careless, usage(license_), usage(license_, **members)) == "ValidationException"
    assert billed(shop) == []


def test_the_largest_quantities_are_accepted(metering, license_):
    assert status(metering, usage(license_, QuantityAsDecimal="9999999999.999999")) == "Success"


def test_an_unknown_or_entitled_dimension_is_refused_and_nothing_of_the_batch_is_billed(
    shop, metering, license_
):
    for key in ("nothing", "included_pages", "Pages"):
        assert (
            refusal(metering, usage(license_), usage(license_, Dimension=key))
            == "InvalidUsageDimensionException"
        )
    assert billed(shop) == []


class TestWindow:
    def test_usage_younger_than_24_hours_is_accepted(self, shop, metering, license_):
        shop.control.freeze(NOON + timedelta(hours=24, seconds=-1))
        assert status(metering, usage(license_)) == "Success"

    def test_usage_of_24_hours_is_refused_with_its_whole_batch(self, shop, metering, license_):
        shop.control.freeze(NOON + timedelta(hours=24))
        young = usage(license_, Timestamp=NOON + timedelta(hours=23))
        assert refusal(metering, young, usage(license_)) == "TimestampOutOfBoundsException"
        assert billed(shop) == []

    def test_the_other_records_are_billed_once_the_bad_one_is_gone(self, shop, metering, license_):
        shop.control.freeze(NOON + timedelta(hours=25))
        good = [usage(license_, Timestamp=NOON + timedelta(hours=hour)) for hour in range(2, 26)]
        assert refusal(metering, usage(license_), *good) == "TimestampOutOfBoundsException"
        send(metering, *good)
        assert len(billed(shop)) == 24

    def test_usage_in_the_future_is_refused(self, shop, metering, license_):
        ahead = usage(license_, Timestamp=NOON + timedelta(minutes=10, seconds=1))
        assert refusal(metering, ahead) == "TimestampOutOfBoundsException"
        shop.control.switch(future_tolerance_seconds=300)
        assert status(metering, ahead) == "Success"

    def test_usage_before_the_license_starts_is_refused(self, metering, license_):
        early = usage(license_, Timestamp=NOON - timedelta(seconds=1))
        assert refusal(metering, early) == "TimestampOutOfBoundsException"

    def test_an_instant_of_no_calendar_is_refused(self, shop, license_):
        assert raw(shop, timestamp="1e300") == "TimestampOutOfBoundsException"

    @pytest.mark.parametrize(("hour", "minute", "accepted"), [(5, 59, True), (6, 0, False)])
    def test_last_month_closes_at_six_on_the_first(self, shop, metering, license_, hour, minute, accepted):
        shop.control.freeze(datetime(2026, 12, 1, hour, minute, tzinfo=UTC))
        late = usage(license_, Timestamp=datetime(2026, 11, 30, 23, tzinfo=UTC))
        if accepted:
            assert status(metering, late) == "Success"
        else:
            assert refusal(metering, late) == "TimestampOutOfBoundsException"
        assert status(metering, usage(license_, Timestamp=datetime(2026, 12, 1, 5, tzinfo=UTC))) == "Success"


def raw(shop, *, timestamp):
    """Send a timestamp no SDK would write; returns the error code."""
    record = f'{{"Timestamp": {timestamp}, "Dimension": "pages", "CustomerAWSAccountId": "123456789012"}}'
    request = urllib.request.Request(
        shop.url,
        data=f'{{"ProductCode": "reports-flex", "UsageRecords": [{record}]}}'.encode(),
        headers={
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "AWSMPMeteringService.BatchMeterUsage",
            "Authorization": "AWS4-HMAC-SHA256 Credential=k/20261123/us-east-1/aws-marketplace/aws4_request,"
            f" SignedHeaders=host, Signature={'0' * 64}",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    return json.load(error.value)["__type"].partition("#")[2]


class TestIdentity:
    def test_an_unknown_license_is_refused(self, metering, license_):
        assert refusal(metering, usage(license_, LicenseArn=ARN)) == "InvalidLicenseException"

    def test_a_license_of_another_customer_is_refused(self, metering, license_):
        stranger = usage(license_, CustomerAWSAccountId="999999999999")
        assert refusal(metering, stranger) == "InvalidLicenseException"

    def test_licenses_of_two_products_do_not_go_together(self, shop, metering, license_):
        other = shop.control.subscribe("reports-payg", started_at=NOON)
        assert refusal(metering, usage(license_), usage(other)) == "InvalidLicenseException"

    def test_two_licenses_of_one_account_are_billed_apart(self, shop, metering, license_):
        second = shop.control.subscribe(
            "reports-flex", aws_account_id=license_.aws_account_id, started_at=NOON
        )
        results = send(metering, usage(license_, Quantity=1), usage(second, Quantity=2))["Results"]
        assert [result["Status"] for result in results] == ["Success", "Success"]
        assert len(billed(shop)) == 2

    def test_a_license_record_names_no_customer_identifier(self, metering, license_):
        record = usage(license_, CustomerAWSAccountId=None, CustomerIdentifier="abc")
        assert refusal(metering, record) == "InvalidCustomerIdentifierException"

    def test_neither_product_code_nor_license_is_refused(self, metering, license_):
        assert refusal(metering, usage(license_, LicenseArn=None)) == "InvalidProductCodeException"

    def test_an_unknown_product_code_is_refused(self, metering, legacy):
        assert refusal(metering, usage(legacy), ProductCode="nothing") == "InvalidProductCodeException"

    def test_legacy_usage_names_account_or_identifier_and_means_the_same(self, shop, metering, legacy):
        by_account = usage(legacy, Quantity=3)
        by_identifier = usage(
            legacy, CustomerAWSAccountId=None, CustomerIdentifier=legacy.customer_identifier, Quantity=3
        )
        first = send(metering, by_account, ProductCode="reports-legacy")["Results"][0]
        again = send(metering, by_identifier, ProductCode="reports-legacy")["Results"][0]
        assert again["MeteringRecordId"] == first["MeteringRecordId"]
        (line,) = shop.control.invoice()["lines"]
        assert (line["identity"], line["license_arn"]) == ("legacy", None)
        assert line["customer_identifier"] == legacy.customer_identifier

    def test_a_customer_identifier_that_does_not_exist_is_refused(self, metering, legacy):
        record = usage(legacy, CustomerAWSAccountId=None, CustomerIdentifier="nobody")
        assert refusal(metering, record, ProductCode="reports-legacy") == "InvalidCustomerIdentifierException"

    def test_an_account_that_bought_nothing_is_not_subscribed(self, metering, legacy):
        record = usage(legacy, CustomerAWSAccountId="999999999999")
        assert status(metering, record, ProductCode="reports-legacy") == "CustomerNotSubscribed"

    def test_product_code_and_license_for_one_hour_bill_twice(self, shop, metering, license_):
        assert status(metering, usage(license_)) == "Success"
        assert status(metering, usage(license_, LicenseArn=None), ProductCode="reports-flex") == "Success"
        assert [line["billed_twice"] for line in shop.control.invoice()["lines"]] == [True, True]

    def test_product_code_and_license_in_one_request_are_noted(self, shop, metering, license_):
        assert status(metering, usage(license_), ProductCode="reports-flex") == "Success"
        assert any("double billing" in lint for lint in shop.control.state()["lints"])
        assert refusal(metering, usage(license_), ProductCode="reports-payg") == "InvalidLicenseException"


class TestSubscribed:
    def test_usage_is_not_taken_before_activation_and_then_is(self, shop, metering):
        subscription = shop.control.subscribe("reports-payg")
        result = send(metering, usage(subscription))["Results"][0]
        assert result["Status"] == "CustomerNotSubscribed"
        assert "MeteringRecordId" not in result
        shop.control.advance(4.9)
        assert status(metering, usage(subscription)) == "CustomerNotSubscribed"
        shop.control.advance(0.1)
        assert status(metering, usage(subscription)) == "Success"

    def test_usage_is_taken_until_sixty_minutes_after_deprovisioning(self, shop, metering, license_):
        shop.control.cancel(license_.agreement_id)
        shop.control.advance(timedelta(seconds=30) + timedelta(minutes=60, milliseconds=-1))
        assert status(metering, usage(license_)) == "Success"
        shop.control.advance(timedelta(milliseconds=1))
        assert status(metering, usage(license_)) == "CustomerNotSubscribed"
        late = usage(license_, Timestamp=NOON + timedelta(hours=1))
        assert status(metering, late) == "CustomerNotSubscribed"

    def test_usage_after_the_license_ended_is_outside_its_period(self, shop, metering, license_):
        shop.control.cancel(license_.agreement_id)
        shop.control.advance(timedelta(minutes=30))
        after = usage(license_, Timestamp=NOON + timedelta(minutes=10, seconds=31))
        assert refusal(metering, after) == "InvalidLicenseException"
        shop.control.switch(usage_after_deprovisioning_refused=False)
        assert status(metering, after) == "Success"

    def test_other_licenses_go_on_when_one_ends(self, shop, metering, license_):
        second = shop.control.subscribe(
            "reports-flex", aws_account_id=license_.aws_account_id, started_at=NOON
        )
        shop.control.cancel(license_.agreement_id)
        shop.control.advance(timedelta(minutes=70))
        assert status(metering, usage(second)) == "Success"

    def test_a_legacy_customer_has_an_hour_after_unsubscribe_pending(self, shop, metering, legacy):
        shop.control.cancel(legacy.agreement_id)
        shop.control.advance(timedelta(minutes=60, milliseconds=-1))
        assert status(metering, usage(legacy), ProductCode="reports-legacy") == "Success"
        shop.control.advance(timedelta(milliseconds=1))
        assert status(metering, usage(legacy), ProductCode="reports-legacy") == "CustomerNotSubscribed"

    def test_a_legacy_customer_who_comes_back_is_metered_again(self, shop, metering, legacy):
        shop.control.cancel(legacy.agreement_id)
        shop.control.advance(timedelta(hours=2))
        again = shop.control.subscribe("reports-legacy", aws_account_id=legacy.aws_account_id)
        shop.control.advance(timedelta(minutes=1))
        assert again.customer_identifier == legacy.customer_identifier
        now = usage(again, Timestamp=NOON + timedelta(hours=2, minutes=11))
        assert status(metering, now, ProductCode="reports-legacy") == "Success"


def part(quantity, **tags):
    allocation = {"AllocatedUsageQuantityAsDecimal": quantity}
    if tags:
        allocation["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return allocation


class TestAllocations:
    def test_a_split_that_adds_up_is_billed_and_shown(self, shop, metering, license_):
        split = [part("9.5", team="ml", env="prod"), part("0.5")]
        assert status(metering, usage(license_, QuantityAsDecimal="10", UsageAllocations=split)) == "Success"
        (line,) = shop.control.invoice()["lines"]
        assert line["allocations"] == [
            {"quantity": "9.5", "tags": {"env": "prod", "team": "ml"}},
            {"quantity": "0.5", "tags": {}},
        ]

    def test_integers_are_split_in_integers(self, metering, license_):
        split = [
            {"AllocatedUsageQuantity": 4},
            {"AllocatedUsageQuantity": 6, "Tags": [{"Key": "a", "Value": "b"}]},
        ]
        assert status(metering, usage(license_, Quantity=10, UsageAllocations=split)) == "Success"

    @pytest.mark.parametrize(
        "split",
        [
            [part("9")],
            [part("5", team="a"), part("5", team="a")],
            [part("5"), part("5")],
            [{"AllocatedUsageQuantity": 10}],
            [{"AllocatedUsageQuantity": 10, "AllocatedUsageQuantityAsDecimal": "10"}],
            [{"Tags": [{"Key": "a", "Value": "b"}]}],
        ],
        ids=["sum", "same tags", "untagged twice", "mixed kinds", "both kinds", "no quantity"],
    )
    def test_a_wrong_split_is_refused(self, shop, metering, license_, split):
        record = usage(license_, QuantityAsDecimal="10", UsageAllocations=split)
        later = usage(license_, Timestamp=NOON + timedelta(minutes=1))
        assert refusal(metering, later, record) == "InvalidUsageAllocationsException"
        assert billed(shop) == []

    @pytest.mark.parametrize(
        "tags",
        [{str(n): "x" for n in range(6)}, {"team": "{ml}"}, {"k" * 101: "v"}, {"k": "v" * 257}],
        ids=["six tags", "brace", "long key", "long value"],
    )
    def test_a_bad_tag_is_refused(self, metering, license_, tags):
        record = usage(license_, QuantityAsDecimal="10", UsageAllocations=[part("10", **tags)])
        assert refusal(metering, record) == "InvalidTagException"

    def test_2501_allocations_are_refused(self, metering, license_):
        split = [part("1", n=str(number)) for number in range(2501)]
        assert (
            status(metering, usage(license_, QuantityAsDecimal="2500", UsageAllocations=split[:2500]))
            == "Success"
        )
        record = usage(license_, QuantityAsDecimal="2501", UsageAllocations=split)
        assert refusal(metering, record) == "ValidationException"

    def test_a_request_of_a_megabyte_is_refused(self, metering, license_):
        split = [part("1", **{f"{n}{'k' * 90}": "v" * 256}) for n in range(2500)]
        record = usage(license_, QuantityAsDecimal="2500", UsageAllocations=split)
        assert refusal(metering, record) == "ValidationException"


class TestFaults:
    def test_throttling_comes_as_often_as_ordered(self, shop, metering, license_):
        shop.control.fault("BatchMeterUsage", "throttle", count=2)
        assert refusal(metering, usage(license_)) == "ThrottlingException"
        assert refusal(metering, usage(license_)) == "ThrottlingException"
        assert status(metering, usage(license_)) == "Success"

    def test_an_internal_error_is_a_500_and_bills_nothing(self, shop, metering, license_):
        shop.control.fault("*", "internal_error")
        with pytest.raises(ClientError) as error:
            send(metering, usage(license_))
        assert code_of(error) == "InternalServiceErrorException"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert billed(shop) == []

    def test_a_share_of_a_batch_stays_unprocessed(self, shop, metering, license_):
        shop.control.advance(timedelta(hours=4))
        batch = [usage(license_, Timestamp=NOON + timedelta(hours=hour)) for hour in range(4)]
        shop.control.fault("BatchMeterUsage", "unprocessed", share=0.5)
        answer = send(metering, *batch)
        assert [result["UsageRecord"] for result in answer["Results"]] == batch[:2]
        assert answer["UnprocessedRecords"] == batch[2:]
        assert len(billed(shop)) == 2
        assert send(metering, *answer["UnprocessedRecords"])["UnprocessedRecords"] == []
        assert len(billed(shop)) == 4

    def test_an_answer_lost_after_acceptance_was_billed_and_the_repeat_is_harmless(
        self, shop, metering, license_
    ):
        shop.control.fault("BatchMeterUsage", "drop_after_accept")
        with pytest.raises(HTTPClientError):
            send(metering, usage(license_))
        assert len(billed(shop)) == 1
        assert status(metering, usage(license_)) == "Success"
        assert len(billed(shop)) == 1
        assert shop.control.requests("BatchMeterUsage")[0]["fault"] == "drop_after_accept"

    def test_latency_goes_together_with_another_fault(self, shop, metering, license_):
        shop.control.fault("BatchMeterUsage", "latency", seconds=0.2, count=None)
        shop.control.fault("BatchMeterUsage", "throttle")
        assert refusal(metering, usage(license_)) == "ThrottlingException"
        assert status(metering, usage(license_)) == "Success"
        assert all(entry["milliseconds"] >= 200 for entry in shop.control.requests("BatchMeterUsage"))
        shop.control.clear_faults()
        send(metering, usage(license_))
        assert shop.control.requests("BatchMeterUsage")[-1]["milliseconds"] < 200


def test_many_senders_at_once_bill_each_key_once(shop, metering, license_):
    shop.control.advance(timedelta(hours=5))
    statuses: list[str] = []

    def post(quantity):
        batch = [
            usage(license_, Timestamp=NOON + timedelta(hours=hour), Quantity=quantity) for hour in range(5)
        ]
        statuses.extend(result["Status"] for result in send(metering, *batch)["Results"])

    senders = [threading.Thread(target=post, args=(number % 4,)) for number in range(16)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(statuses) == 80
    assert set(statuses) == {"Success", "DuplicateRecord"}
    assert len(billed(shop)) == 5
    assert re.fullmatch(r"[0-3]", billed(shop)[0][1])

"""A record's exact form."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import botocore.session
import pytest
from botocore.validate import ParamValidator

from billing.aws import wire
from billing.aws.types import Allocation, UsageLine
from billing.simulator.aws.bounds import BATCH_METER_USAGE
from billing.simulator.aws.shapes import parse

ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"
LICENSE = UsageLine(
    reference=7,
    license_arn=ARN,
    product_code=None,
    aws_account_id="123456789012",
    customer_identifier=None,
    dimension="pages",
    timestamp=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
    quantity="17.42",
    allocations=(Allocation("17", (("team", "ml"),)), Allocation("0.42", ())),
)
LEGACY = replace(LICENSE, reference=8, license_arn=None, product_code="pc1", allocations=())
OLDEST = replace(LEGACY, reference=9, aws_account_id=None, customer_identifier="abc")


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Decimal("0"), "0"),
        (Decimal("0.000000"), "0"),
        (Decimal("100"), "100"),
        (Decimal("1E+3"), "1000"),
        (Decimal("17.00"), "17"),
        (Decimal("0.000001"), "0.000001"),
        (Decimal("1E-6"), "0.000001"),
        (Decimal("9999999999.999999"), "9999999999.999999"),
        (Decimal("1200.500"), "1200.5"),
    ],
)
def test_a_quantity_is_plain_digits(quantity, text):
    assert wire.quantity_text(quantity) == text


def test_a_license_record_names_license_and_account_and_no_product():
    assert wire.batch_request([LICENSE]) == {
        "UsageRecords": [
            {
                "Timestamp": LICENSE.timestamp,
                "Dimension": "pages",
                "QuantityAsDecimal": "17.42",
                "LicenseArn": ARN,
                "CustomerAWSAccountId": "123456789012",
                "UsageAllocations": [
                    {"AllocatedUsageQuantityAsDecimal": "17", "Tags": [{"Key": "team", "Value": "ml"}]},
                    {"AllocatedUsageQuantityAsDecimal": "0.42"},
                ],
            }
        ]
    }


def test_a_legacy_record_names_one_customer_id_under_the_product_of_the_batch():
    by_account, by_identifier = (wire.batch_request([line]) for line in (LEGACY, OLDEST))
    assert by_account["ProductCode"] == by_identifier["ProductCode"] == "pc1"
    (first,), (second,) = by_account["UsageRecords"], by_identifier["UsageRecords"]
    assert (first.get("CustomerAWSAccountId"), first.get("CustomerIdentifier")) == ("123456789012", None)
    assert (second.get("CustomerAWSAccountId"), second.get("CustomerIdentifier")) == (None, "abc")
    assert "LicenseArn" not in first
    assert "LicenseArn" not in second


def test_products_and_identities_are_never_mixed():
    with pytest.raises(ValueError, match="one product"):
        wire.batch_request([LICENSE, LEGACY])


@pytest.mark.parametrize("line", [LICENSE, LEGACY, OLDEST])
def test_the_request_is_valid_by_botocores_model_and_by_awss_bounds(line):
    request = wire.batch_request([line])
    model = botocore.session.get_session().get_service_model("meteringmarketplace")
    report = ParamValidator().validate(request, model.operation_model("BatchMeterUsage").input_shape)
    assert not report.has_errors(), report.generate_report()
    request["UsageRecords"][0]["Timestamp"] = request["UsageRecords"][0]["Timestamp"].timestamp()
    assert parse(BATCH_METER_USAGE, json.loads(json.dumps(request)))


def test_frozen_allocations_come_back_as_they_were():
    frozen = wire.allocations_json([(Decimal("17"), {"b": "2", "a": "1"}), (Decimal("0.42"), {})])
    assert frozen == '[{"quantity":"17","tags":{"a":"1","b":"2"}},{"quantity":"0.42","tags":{}}]'
    assert wire.allocations_from_json(frozen) == (
        Allocation("17", (("a", "1"), ("b", "2"))),
        Allocation("0.42", ()),
    )
    assert wire.allocations_json([]) == ""
    assert wire.allocations_from_json("") == ()


def echo(line, **changes):
    (record,) = wire.batch_request([line])["UsageRecords"]
    return {name: value for name, value in (record | changes).items() if value is not None}


def test_an_echo_names_its_line():
    other = replace(LICENSE, reference=70, dimension="seats")
    assert wire.matcher([other, LICENSE])(echo(LICENSE)) == 7


def test_an_echo_may_bring_ids_that_were_not_sent_and_lack_some_that_were():
    assert wire.matcher([OLDEST])(echo(OLDEST, CustomerAWSAccountId="123456789012")) == 9
    assert wire.matcher([LICENSE])(echo(LICENSE, LicenseArn=None)) == 7


def test_an_echo_may_name_the_hour_instead_of_the_instant_and_another_zone():
    late = replace(LICENSE, timestamp=LICENSE.timestamp + timedelta(minutes=17, microseconds=5))
    assert wire.matcher([late])(echo(LICENSE)) == 7
    there = timezone(timedelta(hours=2))
    assert wire.matcher([LICENSE])(echo(LICENSE, Timestamp=LICENSE.timestamp.astimezone(there))) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"CustomerAWSAccountId": "999999999999"},
        {"LicenseArn": ARN.replace("0123", "9999")},
        {"Dimension": "Pages"},
        {"Timestamp": LICENSE.timestamp + timedelta(hours=1)},
        {"Dimension": None},
        {"Timestamp": None},
    ],
)
def test_an_echo_of_something_else_names_nothing(changes):
    assert wire.matcher([LICENSE])(echo(LICENSE, **changes)) is None


def test_an_echo_that_fits_two_lines_names_neither():
    twin = replace(LICENSE, reference=70, license_arn=ARN.replace("0123", "9999"))
    assert wire.matcher([LICENSE, twin])(echo(LICENSE)) == 7
    assert wire.matcher([LICENSE, twin])(echo(LICENSE, LicenseArn=None)) is None


def test_an_echo_names_its_line_where_lines_name_different_ids():
    assert OLDEST.aws_account_id is None
    newer = replace(OLDEST, reference=90, aws_account_id="123456789012", customer_identifier=None)
    both = wire.matcher([OLDEST, newer])
    assert both(echo(OLDEST)) == OLDEST.reference
    assert both(echo(newer, CustomerIdentifier="somebody else")) == 90
    assert both(echo(newer, CustomerIdentifier=OLDEST.customer_identifier)) is None  # it fits both


def test_two_lines_that_are_the_same_on_the_wire_are_told_apart_by_nothing():
    assert wire.matcher([LICENSE, replace(LICENSE, reference=70)])(echo(LICENSE)) is None


def test_sizes_are_those_of_the_request():
    many = tuple(Allocation("0.000001", ((f"k{n}", "v"), ("b", "1"))) for n in range(100))
    line = replace(LICENSE, allocations=many)
    (record,) = wire.batch_request([line])["UsageRecords"]
    sent = len(json.dumps({**record, "Timestamp": 1793511000}).encode())
    assert sent <= wire.size_of(line) <= sent + 20
    frozen = json.dumps([{"quantity": part.quantity, "tags": dict(part.tags)} for part in many])
    assert wire.allocations_size(frozen) == len(json.dumps(record["UsageAllocations"]).encode())

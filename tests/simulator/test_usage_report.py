from __future__ import annotations

import csv
from datetime import timedelta
from decimal import Decimal

from billing.simulator import usage_report
from tests.simulator.conftest import NOON, usage


def rows(shop):
    return list(csv.DictReader(usage_report.csv_text(shop.state).splitlines()))


def test_an_empty_report_has_its_header(shop):
    assert usage_report.csv_text(shop.state) == ",".join(usage_report.COLUMNS) + "\n"


def test_the_report_names_license_dimension_hour_and_exact_quantity(shop, metering, license_):
    metering.batch_meter_usage(UsageRecords=[usage(license_, QuantityAsDecimal="9999999999.999999")])
    (row,) = rows(shop)
    assert row["end_user_aws_account_id"] == license_.aws_account_id
    assert row["agreement_id"] == license_.agreement_id
    assert (row["dimension_key"], row["usage_date"], row["region"]) == ("pages", "2026-11-23", "us-east-1")
    assert (row["estimated_usage_units"], row["estimated_revenue"]) == (
        "9999999999.999999",
        "999999999.9999999",
    )
    assert (row["simulator_hour"], row["simulator_license_arn"]) == (
        "2026-11-23T12:00:00Z",
        license_.license_arn,
    )


def test_a_legacy_row_has_no_license(shop, metering, legacy):
    metering.batch_meter_usage(ProductCode="reports-legacy", UsageRecords=[usage(legacy, Quantity=3)])
    (row,) = rows(shop)
    assert (row["simulator_license_arn"], row["simulator_metered_under"]) == ("", "ProductCode")


def test_both_billings_of_one_hour_are_told_apart(shop, metering, license_):
    metering.batch_meter_usage(UsageRecords=[usage(license_)])
    metering.batch_meter_usage(ProductCode="reports-flex", UsageRecords=[usage(license_, LicenseArn=None)])
    told = [(row["simulator_metered_under"], row["simulator_billing"]) for row in rows(shop)]
    assert told == [("LicenseArn", "1"), ("ProductCode", "2")]
    lints = shop.control.state()["lints"]
    assert "double billing: one purchase metered under ProductCode and LicenseArn for one hour" in lints


def test_usage_within_a_trial_costs_nothing_and_after_it_does(shop, metering):
    trial = shop.control.subscribe("reports-payg", free_trial=True)
    shop.control.advance(timedelta(minutes=10))
    metering.batch_meter_usage(UsageRecords=[usage(trial, Quantity=10)])
    shop.control.advance(timedelta(days=100))
    after = usage(trial, Quantity=10, Timestamp=NOON + timedelta(days=100))
    metering.batch_meter_usage(UsageRecords=[after])
    assert [Decimal(row["estimated_revenue"]) for row in rows(shop)] == [Decimal(0), Decimal("1.20")]
    (total,) = shop.control.invoice()["totals"]
    assert (total["quantity"], total["amount"]) == ("20", "1.20")

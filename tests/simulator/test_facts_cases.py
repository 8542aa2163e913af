"""Every case of the facts page §8 that concerns AWS's side: the tests here, or the test that proves it."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest

from billing.simulator.aws.quotas import Quotas
from tests.simulator.conftest import NOON, billed, code_of, usage
from tests.simulator.test_metering import refusal, status

HERE = Path(__file__).parent
PROVED_BY = {
    2: "test_registration.test_a_token_resolves_again_within_four_hours",
    4: "test_registration.test_a_token_expires_after_four_hours_and_a_fresh_one_resolves_to_the_same",
    5: "test_registration.test_an_unknown_token_is_invalid",
    10: "test_registration.test_a_license_product_answers_its_license_and_no_customer_identifier",
    11: "test_registration.test_a_legacy_product_answers_a_customer_identifier_and_no_license",
    12: "test_registration.test_the_same_account_buys_twice_and_gets_two_licenses",
    13: "test_facts_cases.test_throttling_leaves_the_token_good",
    16: "test_registration.test_tokens_are_not_in_the_request_log_or_the_state",
    17: "test_facts_cases.test_license_updated_comes_before_the_buyer_registers",
    20: "test_entitlement.test_nothing_is_a_bare_object",
    21: "test_entitlement.test_pages_hold_25_and_lead_to_all",
    22: "test_entitlement.test_both_customer_filters_are_refused",
    23: "test_entitlement.test_values_of_one_filter_are_alternatives_and_filters_narrow",
    24: "test_facts_cases.test_an_entitlement_past_its_expiration_is_gone_soon_after",
    25: "test_entitlement.test_each_value_type_has_its_member",
    26: "test_entitlement.test_an_upgrade_shows_when_its_event_falls_due",
    27: "test_metering.test_a_batch_takes_25_records_and_not_26",
    28: "test_metering.test_licenses_of_two_products_do_not_go_together",
    29: "test_metering.test_a_request_of_a_megabyte_is_refused",
    30: "test_metering.test_the_same_record_again_is_success_with_the_same_id_and_billed_once",
    31: "test_metering.test_another_quantity_for_the_same_hour_is_a_duplicate_and_the_first_stays",
    32: "test_metering.test_quantities_are_compared_by_value",
    34: "test_facts_cases.test_age_23_59_is_accepted_and_24_00_refuses_the_batch",
    35: "test_metering.test_the_other_records_are_billed_once_the_bad_one_is_gone",
    36: "test_metering.test_last_month_closes_at_six_on_the_first",
    38: "test_metering.test_a_share_of_a_batch_stays_unprocessed",
    39: "test_metering.test_an_answer_lost_after_acceptance_was_billed_and_the_repeat_is_harmless",
    40: "test_metering.test_an_account_that_bought_nothing_is_not_subscribed",
    41: "test_metering.test_an_unknown_or_entitled_dimension_is_refused_and_nothing_of_the_batch_is_billed",
    42: "test_metering.test_what_the_model_forbids_is_refused",
    43: "test_metering.test_what_the_model_forbids_is_refused",
    44: "test_metering.test_a_wrong_split_is_refused",
    45: "test_metering.test_2501_allocations_are_refused",
    46: "test_metering.test_a_zero_record_stands_on_the_invoice",
    47: "test_metering.test_product_code_and_license_for_one_hour_bill_twice",
    51: "test_facts_cases.test_the_eleventh_call_of_a_second_is_throttled",
    53: "test_metering.test_other_licenses_go_on_when_one_ends",
    54: "test_metering.test_usage_is_taken_until_sixty_minutes_after_deprovisioning",
    55: "test_metering_rules.test_a_renewed_license_meters_its_last_hour_beside_the_new_one",
    59: "test_events.test_a_quick_resubscription_swallows_unsubscribe_success",
    65: "test_sqs.test_it_does_not_hold_up_others",
}
"""Those left out are the seller's own: its pages, its ledger, its reducer, how it reads messages."""


@pytest.mark.parametrize(("case", "name"), PROVED_BY.items())
def test_the_case_is_proved_by_a_test_that_is_there(case, name):
    module, _, test = name.partition(".")
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_throttling_leaves_the_token_good(shop, metering, license_):
    """Case 13."""
    shop.control.fault("ResolveCustomer", "throttle")
    with pytest.raises(metering.exceptions.ThrottlingException) as error:
        metering.resolve_customer(RegistrationToken=license_.token)
    assert code_of(error) == "ThrottlingException"
    assert metering.resolve_customer(RegistrationToken=license_.token)["LicenseArn"] == license_.license_arn


def test_license_updated_comes_before_the_buyer_registers(shop, metering, license_):
    """Case 17: usage is taken before anybody resolved the token."""
    assert status(metering, usage(license_)) == "Success"
    assert shop.control.requests("ResolveCustomer") == []
    assert metering.resolve_customer(RegistrationToken=license_.token)["LicenseArn"] == license_.license_arn


def test_an_entitlement_past_its_expiration_is_gone_soon_after(shop, entitlements, license_):
    """Case 24: for a moment it is still there, with a date that has passed."""
    shop.control.freeze(NOON + timedelta(days=365, seconds=1))
    rows = entitlements.get_entitlements(ProductCode="reports-flex")["Entitlements"]
    assert {row["ExpirationDate"] for row in rows} == {NOON + timedelta(days=365)}
    shop.control.advance(30)
    assert "Entitlements" not in entitlements.get_entitlements(ProductCode="reports-flex")


def test_age_23_59_is_accepted_and_24_00_refuses_the_batch(shop, metering, license_):
    """Case 34."""
    shop.control.freeze(NOON + timedelta(hours=24))
    young = usage(license_, Timestamp=NOON + timedelta(minutes=1))
    assert refusal(metering, young, usage(license_)) == "TimestampOutOfBoundsException"
    assert billed(shop) == []
    assert status(metering, young) == "Success"


def test_the_eleventh_call_of_a_second_is_throttled():
    """Case 51: of a burst; each Region for itself."""
    quotas = Quotas()
    admitted = [quotas.admits("BatchMeterUsage", "us-east-1", moment=0.0) for _ in range(11)]
    assert admitted == [True] * 10 + [False]
    assert quotas.admits("BatchMeterUsage", "eu-west-1", moment=0.0)

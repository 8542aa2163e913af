"""Every case of docs/aws-marketplace.md §8, on our side: here, or where it is proved."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing import clock, effects, metering, submission, usage
from billing.aws.window import HOUR
from billing.models import Agreement, MeteringRecord
from tests.billing.ledger import NOON, REGION, bought_agreement, use

HERE = Path(__file__).parent
PROVED_BY = {
    1: "test_registration.test_a_landing_resolves_once_keeps_the_arrival_and_goes_on_to_a_plain_page",
    2: "test_registration.test_a_landing_posted_twice_is_one_purchase",
    3: "test_registration.test_a_landing_posted_twice_at_once_is_one_purchase",
    4: "test_registration.test_an_expired_token_leads_back_to_aws",
    5: "test_registration.test_a_garbled_token_is_refused_and_leaves_nothing",
    6: "test_registration.test_the_fulfillment_url_answers_200_to_whoever_looks",
    7: "test_registration.test_aws_posts_without_a_csrf_token_and_nobody_else_does",
    8: "test_claiming.test_a_signed_in_person_confirms_at_once",
    9: "test_registration.test_another_sellers_product_is_refused_and_a_person_is_told",
    10: "test_aws_client.test_a_license_token_resolves_to_its_purchase",
    11: "test_registration.test_a_legacy_answer_is_known_by_its_product_and_customer",
    12: "test_registration.test_a_second_license_of_the_same_account_is_a_second_purchase",
    13: "test_registration.test_a_throttled_call_is_tried_again_before_the_buyer_sees_anything",
    14: "test_registration.test_the_free_trial_is_a_hint_and_no_other_field_is_believed",
    15: "test_registration.test_the_free_trial_is_a_hint_and_no_other_field_is_believed",
    16: "test_registration.test_the_token_is_in_no_url_cookie_log_line_or_row",
    17: "test_lifecycle.test_17_an_event_before_the_buyer_makes_the_arrival_active",
    18: "test_lifecycle.test_18_before_the_event_access_is_pending",
    19: "test_lifecycle.test_19_a_failed_payment_gives_no_access",
    20: "test_entitlements.test_20_a_bare_answer_is_no_entitlement",
    21: "test_entitlements.test_21_26_entitlements_are_all_read_an_empty_page_in_between",
    22: "test_entitlements.test_22_aws_is_never_asked_by_both_names_of_a_customer",
    23: "test_entitlements.test_23_of_two_licenses_each_has_its_own_values",
    24: "test_clock.test_24_a_contract_that_runs_out_ends_at_its_expiry_without_an_event",
    25: "test_entitlements.test_25_each_kind_of_value_is_read_off_the_wire",
    26: "test_entitlements.test_26_an_upgrade_counts_from_its_event",
    27: "test_submission.test_sixty_records_of_three_customers_are_three_calls",
    28: "test_submission.test_products_identities_and_regions_are_never_mixed",
    29: "test_submission.test_a_call_stays_below_one_megabyte",
    30: "test_submission.test_after_a_fault_the_identical_record_is_sent_again_and_billed_once",
    31: "test_submission.test_somebody_elses_quantity_for_the_hour_is_a_conflict_and_an_alarm",
    32: "test_facts_cases.test_17_and_17_00_are_the_same_use_and_the_same_record",
    33: "test_closing.test_the_uses_of_an_hour_become_one_record_of_their_sum",
    34: "test_facts_cases.test_usage_is_sent_until_its_hour_is_24_hours_old",
    35: "test_submission.test_a_poison_record_is_parked_alone_and_its_neighbours_are_billed",
    36: "test_facts_cases.test_the_last_hour_of_march_is_billed_until_six_on_the_first_of_april",
    37: "test_usage.test_an_instant_that_is_none_is_refused",
    38: "test_submission.test_unprocessed_records_are_sent_again_unchanged_and_the_rest_is_not",
    39: "test_submission.test_after_a_fault_the_identical_record_is_sent_again_and_billed_once",
    40: "test_submission.test_an_unsubscribed_customers_record_waits_and_the_agreement_is_flagged_once",
    41: "test_submission.test_a_poison_record_is_parked_alone_and_its_neighbours_are_billed",
    42: "test_usage.test_a_quantity_that_is_none_is_refused_and_nothing_is_stored",
    43: "test_wire.test_a_license_record_names_license_and_account_and_no_product",
    44: "test_allocations.test_the_sets_add_up_to_the_quantity",
    45: "test_usage.test_tags_that_aws_refuses_are_refused",
    46: "test_heartbeat.test_an_idle_hour_is_a_record_of_zero_that_aws_gets",
    47: "test_wire.test_a_legacy_record_names_one_customer_id_under_the_product_of_the_batch",
    48: "../journeys/test_crashes.test_killed_at_any_named_line_the_next_run_converges",
    49: "test_closing.test_only_what_exceeds_the_allowance_is_billed",
    50: "test_closing.test_the_running_hour_stays_open",
    51: "test_outcomes.test_throttled_the_run_slows_and_everything_stays_due",
    52: "test_deadlines.test_four_hours_before_it_is_an_alert_and_one_hour_before_a_page",
    53: "test_facts_cases.test_when_one_license_ends_its_last_hour_is_billed_and_the_others_run_on",
    54: "test_facts_cases.test_an_hour_after_the_end_aws_takes_nothing_and_the_record_expires",
    55: "test_lifecycle.test_55_a_renewed_agreement_keeps_access",
    56: "test_lifecycle.test_a_purchase_ends_in_the_same_state_in_whatever_order_it_is_told",
    57: "test_lifecycle.test_57_a_late_created_does_not_activate_again",
    58: "test_lifecycle.test_58_an_event_twice_has_one_effect",
    59: "test_events.test_subscribing_again_within_the_final_hour_calls_the_ending_off",
    60: "test_lifecycle.test_60_a_license_without_its_prefix_is_the_same_one",
    61: "test_events.test_an_sns_message_is_read_enveloped_raw_and_as_an_object",
    62: "test_sns_signature.test_what_was_changed_on_the_way_is_refused",
    63: "test_events.test_an_unknown_type_is_kept_and_changes_nothing",
    64: "test_flags.test_64_an_advisory_alarms_people_and_leaves_access_as_it_is",
    65: "test_polling.test_a_message_that_cannot_be_stored_reaches_the_dead_letters_and_stops_no_other",
    66: "test_pages.test_an_outsider_finds_no_page_of_the_organization",
}

State = MeteringRecord.State


@pytest.mark.parametrize(("case", "name"), PROVED_BY.items())
def test_the_case_is_proved_by_a_test_that_is_there(case, name):
    module, _, test = name.rpartition(".")
    source = (HERE / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"^def {test}\(", source, re.MULTILINE)


def test_17_and_17_00_are_the_same_use_and_the_same_record(aws, catalog, acme):
    aws.control.freeze(NOON)
    agreement = bought_agreement(aws, catalog, acme)
    told = [use(agreement, quantity, key="same", at=NOON - HOUR) for quantity in (17, "17.00", "17.000000")]
    assert len({event.pk for event in told}) == 1
    metering.close_hours(region=REGION, now=NOON)
    assert MeteringRecord.objects.get().wire_quantity == "17"


@pytest.mark.parametrize(
    ("age", "state"),
    [(timedelta(hours=23, minutes=59, seconds=59), State.ACCEPTED), (timedelta(hours=24), State.EXPIRED)],
)
def test_usage_is_sent_until_its_hour_is_24_hours_old(aws, catalog, acme, age, state):
    aws.control.freeze(NOON)
    agreement = bought_agreement(aws, catalog, acme)
    use(agreement, 1, at=NOON - HOUR)
    metering.close_hours(region=REGION, now=NOON)
    now = NOON - HOUR + age
    aws.control.freeze(now)
    submission.submit_due(aws.marketplace, now=now)
    assert MeteringRecord.objects.get().state == state
    assert len(aws.control.invoice()["lines"]) == (state == State.ACCEPTED)


@pytest.mark.parametrize(("second", "state"), [(59, State.ACCEPTED), (60, State.EXPIRED)])
def test_the_last_hour_of_march_is_billed_until_six_on_the_first_of_april(aws, catalog, acme, second, state):
    march = datetime(2027, 3, 31, 23, tzinfo=UTC)
    aws.control.freeze(march - 3 * HOUR)
    bought = aws.buy("reports-payg", started_at=march - 3 * HOUR)
    aws.control.freeze(march)
    aws.deliver(now=march)
    agreement = Agreement.objects.get(license_arn=bought.license_arn)
    Agreement.objects.update(organization=acme)
    agreement.refresh_from_db()
    use(agreement, 4, at=march + timedelta(minutes=30))
    metering.close_hours(region=REGION, now=march + HOUR + timedelta(minutes=5))
    now = datetime(2027, 4, 1, 5, 59, tzinfo=UTC) + timedelta(seconds=second)
    aws.control.freeze(now)
    submission.submit_due(aws.marketplace, now=now)
    assert MeteringRecord.objects.get().state == state
    assert aws.billed() == ("4" if state == State.ACCEPTED else "0")


@pytest.fixture
def ended(aws, purchase, acme):
    """Two purchases, both used in the hour in which the first is cancelled; the events are in."""
    ending, other = purchase("reports-payg"), purchase("reports-payg")
    now = aws.control.freeze()
    for agreement in (ending, other):
        usage.record(
            acme,
            "pages",
            5,
            key=f"last-{agreement.pk}",
            occurred_at=now - timedelta(seconds=1),
            agreement=agreement,
            now=now,
        )
    aws.control.cancel(ending.agreement_id)
    settle(aws, now + timedelta(seconds=31))
    ending.refresh_from_db()
    assert (ending.status, ending.metering_closes_at - ending.ended_at) == (
        "ending",
        timedelta(hours=1, seconds=30),
    )
    return ending, other


def settle(aws, now):
    aws.control.freeze(now)
    aws.deliver(now=now)
    effects.run_due(aws.marketplace, now=now)
    clock.advance(now=now)


def test_when_one_license_ends_its_last_hour_is_billed_and_the_others_run_on(aws, ended):
    ending, other = ended
    now = ending.ended_at + timedelta(minutes=10)
    settle(aws, now)
    submission.submit_due(aws.marketplace, now=now)
    (line,) = aws.control.invoice()["lines"]
    assert (line["agreement_id"], line["quantity"]) == (ending.agreement_id, "5")
    other.refresh_from_db()
    assert other.status == "active"
    assert other.usage_events.open().exists()


def test_an_hour_after_the_end_aws_takes_nothing_and_the_record_expires(aws, ended):
    ending, _ = ended
    metering.close_last_hours(region=REGION, now=ending.ended_at + timedelta(minutes=10))
    now = ending.metering_closes_at + timedelta(minutes=1)
    settle(aws, now)
    submission.submit_due(aws.marketplace, now=now)
    assert ending.metering_records.get().state == State.EXPIRED
    assert aws.control.invoice()["lines"] == []
    ending.refresh_from_db()
    assert ending.status == "ended"

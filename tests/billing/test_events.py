"""The inbox: stored once, before anything is done about it; nothing is lost, nothing blocks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import pytest
from django.db import connection, transaction

from billing import customers, events, lifecycle, registration
from billing.inbox.notifications import Notification, Type, Unparsable, parse
from billing.models import Agreement, Effect, MarketplaceCustomer, MarketplaceEvent
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, make_agreement
from tests.billing.notices import (
    ARN,
    created,
    deprovisioned,
    ended,
    eventbridge,
    license_updated,
    message,
    sns,
)

State = MarketplaceEvent.State
SECOND = timedelta(seconds=1)


def take(*bodies, now=NOON):
    for body in bodies:
        events.store(message(body, sent_at=now), now=now)
    events.apply_received(now=now)


def states():
    return dict(MarketplaceEvent.objects.values_list("kind", "state"))


def states_of_all():
    return list(MarketplaceEvent.objects.values_list("state", flat=True))


# --- Parsing


def test_an_eventbridge_event_is_read_whole():
    body = eventbridge("License Updated - Manufacturer", NOON, source_id="e-1")
    found = parse(message(body))
    assert found == Notification(
        channel="eventbridge", source_id="e-1", type=Type.LICENSE_UPDATED,
        name="License Updated - Manufacturer", occurred_at=NOON, agreement_id="agmt-1", license_arn=ARN,
        product_code="reports-flex", product_id="prod-x",
        aws_account_id="222222222222", offer_id="offer-1",
    )  # fmt: skip
    assert Notification.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("detail_type", "type_"),
    [
        ("Purchase Agreement Created - Proposer", Type.CREATED),
        ("Purchase Agreement Created - Manufacturer", Type.CREATED),
        ("Purchase Agreement Created", Type.CREATED),
        ("Purchase Agreement Amended - Proposer", Type.AMENDED),
        ("Purchase Agreement Ended - Manufacturer", Type.ENDED),
        ("License Updated - Proposer", Type.LICENSE_UPDATED),
        ("License Deprovisioned - Manufacturer", Type.DEPROVISIONED),
        ("Purchase Agreement Advisory Issued - Manufacturer", Type.ADVISORY_ISSUED),
        ("Purchase Agreement Advisory Resolved - Manufacturer", Type.ADVISORY_RESOLVED),
        ("Vet Failed - Proposer", Type.VET_FAILED),
        ("Purchase Agreement Vet Failed - Proposer", Type.VET_FAILED),
        ("Purchase Agreement Ending - Proposer", Type.NOTICE),
        ("Purchase Agreement Renewal Terms Finalized - Proposer", Type.NOTICE),
        ("Agreement Cancellation Request Pending Approval - Proposer", Type.NOTICE),
        ("Purchase Agreement Billing Adjustment Completed - Proposer", Type.NOTICE),
        ("Spend Threshold Reached - Proposer", Type.NOTICE),
        ("Something New - Proposer", Type.OTHER),
    ],
)
def test_the_role_at_the_end_of_a_type_does_not_matter(detail_type, type_):
    assert parse(message(eventbridge(detail_type, NOON))).type is type_


def test_the_term_of_an_agreement_is_read_and_the_year_9999_is_no_end():
    body = json.loads(created(NOON))
    body["detail"]["agreement"] |= {"startTime": "2026-11-23T10:00:00Z", "endTime": "9999-01-01T00:00:00Z"}
    found = parse(message(json.dumps(body)))
    assert (found.starts_at, found.ends_at) == (datetime(2026, 11, 23, 10, tzinfo=UTC), None)
    body["detail"]["agreement"]["endTime"] = "2027-11-23T12:00:00+02:00"
    found = parse(message(json.dumps(body)))
    assert found.ends_at == datetime(2027, 11, 23, 10, tzinfo=UTC)
    assert Notification.from_json(found.to_json()) == found


SNS = {
    "action": " subscribe-success ",
    "customer-identifier": " cust1 ",
    "product-code": "reports-classic",
    "offer-identifier": "offer-1",
    "isFreeTrialTermPresent": " True",
}


def test_an_sns_message_is_read_enveloped_raw_and_as_an_object():
    envelope = {"Type": "Notification", "MessageId": "sns-1", "Timestamp": "2026-11-23T12:00:00.250Z"}
    quarter = NOON + timedelta(milliseconds=250)
    in_text = parse(message(json.dumps({**envelope, "Message": json.dumps(SNS)})))
    as_object = parse(message(json.dumps({**envelope, "Message": SNS})))
    raw = parse(message(json.dumps(SNS), sent_at=NOON, message_id="sqs-1"))
    assert in_text == as_object
    assert (in_text.channel, in_text.source_id, in_text.occurred_at) == ("sns", "sns-1", quarter)
    assert (raw.source_id, raw.occurred_at) == ("sqs-1", NOON)
    for found in (in_text, raw):
        assert (found.type, found.name) == (Type.SUBSCRIBED, "subscribe-success")
        assert (found.customer_identifier, found.product_code) == ("cust1", "reports-classic")
        assert (found.offer_id, found.free_trial) == ("offer-1", True)


def test_older_key_names_and_an_unknown_action_are_read_too():
    old = {"action": "something-new", "CustomerIdentifier": "cust1", "ProductCode": "pc", "more": 1}
    found = parse(message(json.dumps(old), sent_at=NOON))
    assert (found.type, found.customer_identifier, found.product_code) == (Type.OTHER, "cust1", "pc")
    assert found.free_trial is False


def test_an_envelope_without_a_time_has_the_queues():
    body = json.dumps({"Message": json.dumps(SNS)})
    found = parse(message(body, sent_at=NOON, message_id="sqs-1"))
    assert (found.source_id, found.occurred_at) == ("sqs-1", NOON)


def odd(**changes):
    return json.dumps(json.loads(license_updated(NOON)) | changes)


UNPARSABLE = {
    "not JSON": "hello",
    "not an object": "[1]",
    "empty": "",
    "a NUL": '{"a": "\x00"}',
    "nested too deep": "[" * 100_000,
    "an object nested too deep": '{"detail-type": "x", "detail": ' + '{"a":' * 100_000,
    "a number with too many digits": '{"action": ' + "9" * 5000 + "}",
    "neither kind": "{}",
    "an action without a time": json.dumps(SNS),
    "an event without an id": odd(id=" "),
    "an event without a type": odd(**{"detail-type": ""}),
    "an event whose time is none": odd(time="yesterday"),
    "an event at no hour": odd(time="2026-11-23T25:00:00Z"),
    "an event beyond the calendar": odd(time="0001-01-01T00:00:00+14:00"),
    "an event whose time is a number": odd(time=5),
    "an event without detail": odd(detail=None),
    "a message that is no message": json.dumps({"Message": "hello"}),
    "an empty action": json.dumps({"Message": {"action": ""}, "Timestamp": "2026-11-23T12:00:00Z"}),
}


@pytest.mark.parametrize("body", UNPARSABLE.values(), ids=UNPARSABLE)
def test_what_cannot_be_parsed_says_so(body):
    with pytest.raises(Unparsable):
        parse(message(body))


def test_text_that_postgresql_cannot_keep_is_kept_without_it(catalog):
    body = license_updated(NOON, source_id="e\\u00001").replace("offer-1", "offer\\u0000-\\ud800-1")
    take(body.replace("\\\\u0000", "\\u0000"))
    event = MarketplaceEvent.objects.get()
    assert event.state == State.APPLIED
    assert event.source_id == "e1"
    assert event.payload["offer_id"] == "offer-?-1"


# --- Storing


def test_an_event_is_stored_as_it_came(catalog):
    body = license_updated(NOON, source_id="e-1")
    events.store(message(body), now=NOON + SECOND)
    event = MarketplaceEvent.objects.get()
    assert (event.channel, event.source_id, event.kind) == (
        "eventbridge",
        "e-1",
        "License Updated - Manufacturer",
    )
    assert (event.body, event.state) == (body, State.RECEIVED)
    assert (event.occurred_at, event.received_at) == (NOON, NOON + SECOND)


@pytest.mark.parametrize("body", [license_updated(NOON, source_id="e-1"), sns("subscribe-success", NOON)])
def test_the_same_notification_twice_is_one_event_with_one_effect(catalog, body):
    take(body)
    take(body)
    assert MarketplaceEvent.objects.count() == 1
    assert Agreement.objects.count() == 1
    owed = Effect.objects.filter(kind="sync_entitlements")
    assert owed.count() == (1 if "License" in body else 0)
    assert Effect.objects.filter(kind="mail", cause="seller_new:").count() == 1


def test_an_unparsable_message_is_stored_as_failed_with_its_nul_escaped(db, caplog):
    events.store(message('{"a": "\x00"}', message_id="m-1", sent_at=NOON), now=NOON + SECOND)
    events.store(message('{"a": "\x00"}', message_id="m-1", sent_at=NOON), now=NOON + SECOND)
    event = MarketplaceEvent.objects.get()
    assert (event.state, event.body, event.occurred_at) == (State.FAILED, '{"a": "\\u0000"}', NOON)
    assert "not JSON" in event.error
    assert "m-1 of the event queue is unparsable" in caplog.text


def test_a_very_long_id_and_type_fit(catalog):
    take(license_updated(NOON, source_id="e" * 500).replace("License Updated", "L" * 500))
    event = MarketplaceEvent.objects.get()
    assert (len(event.source_id), len(event.kind)) == (200, 120)


# --- Applying


def test_bought_and_never_registered_is_an_agreement_without_organization(catalog):
    take(license_updated(NOON))
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.organization, agreement.identity) == ("active", None, "license")
    assert (agreement.license_arn, agreement.agreement_id, agreement.offer_id) == (ARN, "agmt-1", "offer-1")
    assert agreement.customer.aws_account_id == "222222222222"
    assert agreement.activated_at == NOON


def test_events_before_their_agreement_wait_and_are_replayed(catalog):
    take(created(NOON - SECOND), ended(NOON + 5 * SECOND))
    assert set(states().values()) == {State.WAITING}
    take(license_updated(NOON))
    assert set(states().values()) == {State.APPLIED}
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.ended_at) == ("ending", NOON + 5 * SECOND)


def test_events_of_products_that_are_not_ours_are_foreign_and_silent(catalog, caplog):
    take(
        license_updated(NOON, product="somebody-elses"),
        sns("subscribe-success", NOON, product="somebody-elses"),
    )
    assert set(states().values()) == {State.FOREIGN}
    assert not Agreement.objects.exists()
    assert caplog.records == []


def test_an_unknown_type_is_kept_and_changes_nothing(catalog):
    take(license_updated(NOON))
    take(eventbridge("Something New - Proposer", NOON + SECOND), sns("new-action", NOON))
    assert states()["Something New - Proposer"] == State.UNKNOWN
    assert states()["new-action"] == State.UNKNOWN
    agreement = Agreement.objects.get()
    assert agreement.status == "active"
    assert MarketplaceEvent.objects.get(kind__contains="Something New").agreement == agreement


def test_a_license_is_known_by_its_id_with_and_without_the_arn_prefix(catalog):
    bare = ARN.removeprefix("arn:aws:")
    take(license_updated(NOON, arn=bare))
    agreement = Agreement.objects.get()
    assert (agreement.license_arn, agreement.license_id) == (None, ARN.rpartition(":")[2])
    take(license_updated(NOON + SECOND, arn=ARN))
    agreement.refresh_from_db()
    assert agreement.license_arn == ARN
    take(deprovisioned(NOON + 2 * SECOND, arn=bare, agreement_id=None))
    agreement.refresh_from_db()
    assert agreement.status == "ending"


def test_an_agreement_learns_its_id_from_a_license_event_and_then_hears_of_its_end(catalog, acme):
    agreement = make_agreement(
        catalog, acme, "reports-flex", agreement_id=None, activated_at=None, license_arn=ARN,
        license_id=ARN.rpartition(":")[2],
    )  # fmt: skip
    take(license_updated(NOON), ended(NOON + SECOND))
    agreement.refresh_from_db()
    assert (agreement.agreement_id, agreement.status) == ("agmt-1", "ending")


def test_a_license_arn_without_an_id_fails_is_kept_and_stops_no_other(catalog, caplog):
    take(license_updated(NOON - SECOND, arn="arn:aws:nothing"), license_updated(NOON))
    failed = MarketplaceEvent.objects.get(state=State.RECEIVED)
    assert failed.error.startswith("ValueError")
    assert f"Event {failed.pk} could not be applied" in caplog.text
    assert Agreement.objects.get().status == "active"


def test_an_event_that_failed_is_tried_again(catalog, monkeypatch):
    def fails(*arguments, **options):
        raise KeyError("a payload of another version")

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "apply", fails)
        take(license_updated(NOON))
    assert MarketplaceEvent.objects.get().error.startswith("KeyError")
    assert not Agreement.objects.exists()
    events.apply_received(now=NOON + timedelta(minutes=1))
    event = MarketplaceEvent.objects.get()
    assert (event.state, event.error) == (State.APPLIED, "")


def tries_of_a_poison_event(how_long):
    """When an event that always fails is tried, and how loud each failure is, with a beat of 20 seconds."""
    take(license_updated(NOON, arn="arn:aws:nothing"))
    due = MarketplaceEvent.objects.get().next_attempt_at
    for beat in range(1, int(how_long / (20 * SECOND))):
        now = NOON + beat * 20 * SECOND
        if due <= now:
            events.apply_received(now=now)
            due = MarketplaceEvent.objects.get().next_attempt_at
            yield now - NOON


def test_a_poison_event_is_tried_less_and_less_often_but_at_least_once_an_hour(catalog, caplog):
    tries = list(tries_of_a_poison_event(timedelta(hours=12)))
    assert tries[:4] == [timedelta(seconds=seconds) for seconds in (20, 60, 140, 300)]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(hours=1)
    event = MarketplaceEvent.objects.get()
    assert (event.state, event.attempts) == (State.RECEIVED, len(tries) + 1)


def test_a_poison_event_alarms_at_once_and_then_at_most_daily(catalog, caplog):
    at = [timedelta(0), *tries_of_a_poison_event(timedelta(days=3))]
    levels = [record.levelname for record in caplog.records if "could not be applied" in record.message]
    assert len(levels) == len(at)
    alarms = [at[n] for n, level in enumerate(levels) if level == "ERROR"]
    assert alarms[0] == timedelta(0)
    assert len(alarms) >= 2
    assert min(later - earlier for earlier, later in pairwise(alarms)) >= timedelta(days=1)
    assert set(levels) == {"ERROR", "WARNING"}


def test_a_waiting_event_that_fails_is_put_off_too(catalog, acme, monkeypatch):
    take(ended(NOON))
    make_agreement(catalog, acme, "reports-flex", agreement_id="agmt-1")
    tried = []

    def fails(*arguments, **options):
        tried.append(arguments)
        raise KeyError("a payload of another version")

    monkeypatch.setattr(lifecycle, "apply", fails)
    for seconds in (1, 2, 30):
        events.apply_waiting(now=NOON + seconds * SECOND)
    assert len(tried) == 2


# --- What contradicts what is known

OTHER_ARN = f"{ARN[:-4]}ffff"


def test_an_agreement_that_failed_before_its_license_was_known_learns_it_and_is_paid(catalog, acme):
    row = make_agreement(catalog, acme, "reports-classic", activated_at=None, agreement_id="agmt-1")
    take(sns("subscribe-fail", NOON, customer=row.customer.customer_identifier))
    take(license_updated(NOON + SECOND, product="reports-classic"))
    row.refresh_from_db()
    assert (row.status, row.license_arn) == ("active", ARN)
    assert set(states().values()) == {State.APPLIED}


def test_a_second_agreement_of_a_legacy_buyer_is_a_purchase_of_its_own(catalog, acme):
    account = "222222222222"
    first = make_agreement(catalog, acme, "reports-classic", account=account, agreement_id="agmt-A")
    take(sns("subscribe-success", first.activated_at, customer=first.customer.customer_identifier))
    take(license_updated(NOON, product="reports-classic", agreement_id="agmt-B"))
    take(deprovisioned(NOON + SECOND, product="reports-classic", agreement_id="agmt-B"))
    first.refresh_from_db()
    assert (first.status, first.license_id) == ("active", None)
    second = Agreement.objects.get(agreement_id="agmt-B")
    assert (second.status, second.license_arn, second.organization) == ("ending", ARN, None)


@pytest.mark.parametrize("body", [license_updated, deprovisioned])
def test_a_known_agreement_under_another_license_is_flagged_and_not_tried_again(catalog, caplog, body):
    take(license_updated(NOON))
    take(body(NOON + SECOND, arn=OTHER_ARN, source_id="e-other"))
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.license_arn) == ("active", ARN)
    assert agreement.flag_reason == customers.OTHER_LICENSE
    event = MarketplaceEvent.objects.get(source_id="e-other")
    assert (event.state, event.agreement, event.error) == (State.FAILED, agreement, customers.OTHER_LICENSE)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("others", [[license_updated(NOON + SECOND, arn=OTHER_ARN)],
                                    [license_updated(NOON - SECOND, arn=OTHER_ARN)]])  # fmt: skip
def test_two_licenses_of_one_agreement_taken_in_together_are_flagged_too(catalog, others):
    take(license_updated(NOON), *others)
    assert sorted(states_of_all()) == [State.APPLIED, State.FAILED]
    assert Agreement.objects.get().flag_reason == customers.OTHER_LICENSE


def test_what_waited_under_another_license_is_not_taken_with_the_agreement(catalog):
    take(deprovisioned(NOON, arn=OTHER_ARN, source_id="e-other"))
    take(license_updated(NOON + SECOND))
    events.apply_received(now=NOON)
    assert Agreement.objects.get().status == "active"
    assert MarketplaceEvent.objects.get(source_id="e-other").state == State.FAILED


def test_an_arrival_leaves_no_license_unlearned_that_waits_in_the_inbox(catalog, acme):
    buyer = customers.get_customer(aws_account_id="222222222222", customer_identifier="cust1")
    events.store(message(license_updated(NOON, product="reports-classic")), now=NOON)
    with transaction.atomic():
        agreement = customers.get_agreement(
            product=catalog["reports-classic"], customer=buyer, license_arn=None, agreement_id="agmt-1",
            now=NOON, by="aws",
        )  # fmt: skip
        lifecycle.replay_waiting(agreement, now=NOON)
    events.apply_received(now=NOON)
    agreement.refresh_from_db()
    assert (agreement.status, agreement.license_arn) == ("active", ARN)


# --- Ids that no column holds


def test_an_offer_whose_id_is_too_long_stays_unknown_and_the_purchase_is_made(catalog, caplog):
    take(license_updated(NOON).replace("offer-1", "offer-" + "1" * 70))
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.offer_id) == ("active", None)
    event = MarketplaceEvent.objects.get()
    assert event.state == State.APPLIED
    assert "offer-1111" in event.body
    assert "offer_id" in caplog.text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (license_updated(NOON, agreement_id="a" * 65), "agreement_id"),
        (license_updated(NOON, arn=ARN + "0" * 255), "license_arn"),
        (license_updated(NOON, arn="x" * 1300 + ARN), "license_arn"),
        (license_updated(NOON, account="2" * 256), "aws_account_id"),
        (sns("subscribe-success", NOON, customer="c" * 256), "customer_identifier"),
    ],
)
def test_an_event_that_names_nobody_we_can_keep_fails_once_and_aloud(catalog, caplog, body, named):
    take(body)
    take(body)
    event = MarketplaceEvent.objects.get()
    assert event.state == State.FAILED
    assert event.error == f"Longer than our column: {named}"
    assert not Agreement.objects.exists()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_event_that_another_worker_applied_is_not_applied_again(catalog):
    take(license_updated(NOON))
    event = MarketplaceEvent.objects.get()
    Effect.objects.all().delete()
    events.apply(event.pk, now=NOON)
    assert not Effect.objects.exists()


def test_an_event_and_its_agreement_that_missed_each_other_meet_in_the_sweep(catalog, acme):
    take(ended(NOON))
    # Made by another process at the very moment, which did not see the event yet.
    agreement = make_agreement(catalog, acme, "reports-flex", agreement_id="agmt-1")
    events.apply_waiting(now=NOON + timedelta(minutes=1))
    event = MarketplaceEvent.objects.get()
    assert (event.state, event.agreement) == (State.APPLIED, agreement)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_an_arrival_does_not_wait_for_an_event_that_another_worker_holds(catalog):
    """That worker may be waiting for the arrival's agreement: each would wait for the other."""
    take(ended(NOON))
    event = MarketplaceEvent.objects.get()
    buyer = customers.get_customer(aws_account_id="222222222222", customer_identifier=None)

    def arrive():
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '3s'")
            agreement = customers.get_agreement(
                product=catalog["reports-flex"], customer=buyer, license_arn=ARN, agreement_id="agmt-1",
                now=NOON, by="aws",
            )  # fmt: skip
            lifecycle.replay_waiting(agreement, now=NOON)
            return agreement

    with transaction.atomic():
        MarketplaceEvent.objects.select_for_update().get()
        [agreement] = at_once(arrive)
    assert isinstance(agreement, Agreement), agreement
    event.refresh_from_db()
    assert event.state == State.WAITING

    events.apply_waiting(now=NOON + timedelta(minutes=1))
    event.refresh_from_db()
    assert (event.state, event.agreement) == (State.APPLIED, agreement)


def test_what_nobody_ever_knows_of_is_not_swept_for_ever(catalog, django_assert_num_queries):
    take(ended(NOON))
    with django_assert_num_queries(1):
        events.apply_waiting(now=NOON + timedelta(days=2))
    assert MarketplaceEvent.objects.get().state == State.WAITING


# --- Legacy: one purchase after the other


def legacy():
    return list(Agreement.objects.filter(identity="legacy").order_by("pk").values_list("status", flat=True))


def test_a_subscription_over_sns_is_made_known_by_its_first_event(catalog):
    take(sns("subscribe-success", NOON))
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.identity, agreement.license_id) == ("active", "legacy", None)
    assert agreement.customer.customer_identifier == "cust1"


def test_an_event_for_an_unknown_legacy_customer_waits(catalog):
    take(sns("unsubscribe-pending", NOON + SECOND))
    assert states() == {"unsubscribe-pending": State.WAITING}
    take(sns("subscribe-success", NOON))
    assert legacy() == ["ending"]


def test_subscribing_again_within_the_final_hour_calls_the_ending_off(catalog):
    take(sns("subscribe-success", NOON), sns("unsubscribe-pending", NOON + 10 * SECOND))
    assert legacy() == ["ending"]
    take(sns("subscribe-success", NOON + 20 * SECOND))
    assert legacy() == ["active"]
    assert Agreement.objects.get().metering_closes_at is None


def test_subscribing_again_later_is_another_purchase(catalog):
    hour = timedelta(hours=1)
    take(
        sns("subscribe-success", NOON),
        sns("unsubscribe-pending", NOON + hour),
        sns("unsubscribe-success", NOON + 2 * hour),
    )
    take(sns("subscribe-success", NOON + 3 * hour), now=NOON + 3 * hour)
    assert legacy() == ["ended", "active"]
    # Late echoes of the first purchase find the first.
    take(
        sns("subscribe-success", NOON + SECOND), sns("entitlement-updated", NOON + hour), now=NOON + 4 * hour
    )
    assert legacy() == ["ended", "active"]
    take(sns("unsubscribe-pending", NOON + 5 * hour), now=NOON + 5 * hour)
    assert legacy() == ["ended", "ending"]


def test_a_late_echo_of_an_ended_purchase_makes_no_new_one(catalog):
    hour = timedelta(hours=1)
    take(
        sns("subscribe-success", NOON),
        sns("unsubscribe-pending", NOON + hour),
        sns("unsubscribe-success", NOON + 2 * hour),
        sns("subscribe-success", NOON + SECOND),
    )
    assert legacy() == ["ended"]


def test_a_payment_that_failed_and_then_succeeded_is_one_purchase(catalog, acme):
    waiting = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON - SECOND)
    customer = waiting.customer.customer_identifier
    take(sns("subscribe-fail", NOON, customer=customer))
    assert legacy() == ["failed"]
    take(sns("subscribe-success", NOON + SECOND, customer=customer))
    assert legacy() == ["active"]
    waiting.refresh_from_db()
    assert (waiting.status, waiting.organization) == ("active", acme)


def test_after_a_failed_payment_the_purchase_that_the_buyer_made_since_is_the_one(catalog, acme):
    failed = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON - 9 * SECOND)
    take(sns("subscribe-fail", NOON - 5 * SECOND, customer=failed.customer.customer_identifier))
    second = Agreement.objects.create(
        product=failed.product, customer=failed.customer, identity="legacy", created_at=NOON + SECOND
    )
    take(sns("subscribe-success", NOON, customer=failed.customer.customer_identifier))
    second.refresh_from_db()
    assert legacy() == ["failed", "active"]
    assert second.status == "active"


def test_a_buyer_who_arrives_after_the_event_finds_the_same_purchase(aws):
    bought = aws.buy("reports-classic")
    aws.control.advance(timedelta(minutes=1))
    aws.deliver()
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON)
    assert arrival.agreement == Agreement.objects.get()
    assert MarketplaceCustomer.objects.get().aws_account_id == bought.aws_account_id


def test_a_buyer_who_arrives_before_the_event_finds_the_same_purchase(aws):
    bought = aws.buy("reports-flex", license_updated_after=30)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON)
    assert arrival.agreement.status == "pending"
    aws.control.advance(timedelta(minutes=1))
    aws.deliver()
    assert Agreement.objects.get().status == "active"


ORDERS = list(permutations(range(5)))[::7]
PURCHASES = [
    sns("subscribe-success", NOON),
    sns("unsubscribe-pending", NOON + timedelta(hours=1)),
    sns("unsubscribe-success", NOON + timedelta(hours=2)),
    sns("subscribe-success", NOON + timedelta(hours=3)),
    sns("unsubscribe-pending", NOON + timedelta(hours=5)),
]


@pytest.mark.parametrize(
    "without", [(), (2,), (4,)], ids=["all", "no unsubscribe-success", "the second goes on"]
)
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_two_purchases_told_in_any_order_are_the_same_two(catalog, order, without):
    for number in order:
        if number not in without:
            take(PURCHASES[number], now=NOON + timedelta(hours=5))
    found = Agreement.objects.order_by("activated_at").values_list("status", "activated_at", "ended_at")
    second_end = None if 4 in without else NOON + timedelta(hours=5)
    assert list(found) == [
        ("ended", NOON, NOON + timedelta(hours=1)),
        ("ending" if second_end else "active", NOON + timedelta(hours=3), second_end),
    ]
    assert set(states().values()) == {State.APPLIED}


def test_the_row_that_was_claimed_stays_the_purchase_that_lives(catalog, acme):
    """What a dead-letter queue sends days later is of the purchase before."""
    take(sns("subscribe-success", NOON))
    Agreement.objects.update(organization=acme, claimed_at=NOON)
    days = timedelta(days=1)
    take(sns("subscribe-success", NOON - 9 * days), now=NOON + days)
    take(sns("unsubscribe-pending", NOON - 8 * days), now=NOON + days)
    found = Agreement.objects.order_by("activated_at").values_list("status", "organization")
    assert list(found) == [("ended", None), ("active", acme.pk)]


def test_subscribing_again_once_aws_said_that_it_is_over_is_another_purchase(catalog):
    """AWS says "about" an hour: it may be over sooner."""
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    take(
        sns("subscribe-success", NOON - hour),
        sns("unsubscribe-pending", NOON),
        sns("unsubscribe-success", NOON + 50 * minute),
    )
    take(sns("subscribe-success", NOON + 55 * minute), now=NOON + 55 * minute)
    assert legacy() == ["ended", "active"]

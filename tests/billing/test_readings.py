"""What was read at AWS is told as events: the fold stays the whole truth."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import audit, customers, effects, events, metering, readings, registration
from billing.aws.client import BotoMarketplace
from billing.aws.types import AgreementDetails, Connection
from billing.models import Agreement, AuditEvent, Effect, MarketplaceEvent
from tests.billing.ledger import BEGIN, NOON, REGION, use
from tests.billing.notices import ended, license_updated
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, Stage, of, take

PAYG = {"product": "reports-payg"}


def details(**fields):
    return AgreementDetails(
        **{"status": "ACTIVE", "initial_agreement_id": None, "starts_at": None, "ends_at": None,
           "trial_ends_at": None, **fields}
    )  # fmt: skip


@pytest.fixture
def agreement(catalog):
    take(license_updated(BEGIN, **PAYG), now=BEGIN)
    return Agreement.objects.get()


def told():
    return MarketplaceEvent.objects.filter(channel="reading")


# --- DescribeAgreement


def test_what_describe_agreement_tells_becomes_the_agreements(agreement):
    said = details(
        initial_agreement_id="agmt-0", starts_at=BEGIN, ends_at=NOON + 9 * DAY, trial_ends_at=NOON + DAY
    )
    assert readings.described(agreement, said, now=NOON)
    agreement.refresh_from_db()
    assert (agreement.initial_agreement_id, agreement.continues_another) == ("agmt-0", True)
    assert (agreement.term_starts_at, agreement.term_ends_at) == (BEGIN, NOON + 9 * DAY)
    assert (agreement.trial_ends_at, agreement.free_trial) == (NOON + DAY, True)
    event = told().get()
    assert (event.kind, event.state, event.agreement) == ("DescribeAgreement", "applied", agreement)
    assert (event.occurred_at, event.received_at) == (NOON, NOON)


def test_the_same_told_twice_is_said_once_and_something_new_again(agreement):
    assert readings.described(agreement, details(ends_at=NOON + DAY), now=NOON)
    assert not readings.described(agreement, details(ends_at=NOON + DAY), now=NOON + HOUR)
    assert readings.described(agreement, details(ends_at=NOON + 2 * DAY), now=NOON + 2 * HOUR)
    agreement.refresh_from_db()
    assert agreement.term_ends_at == NOON + 2 * DAY
    assert told().count() == 2


def test_what_is_described_of_two_agreements_is_told_of_each(agreement):
    take(license_updated(BEGIN, arn=f"{agreement.license_arn}0", agreement_id="agmt-2", **PAYG), now=BEGIN)
    for each in Agreement.objects.all():
        assert readings.described(each, details(ends_at=NOON + DAY), now=NOON)
    assert told().count() == 2


def test_a_reading_is_folded_with_the_events_that_come_after_it(agreement):
    readings.described(agreement, details(trial_ends_at=NOON + DAY), now=NOON)
    take(ended(NOON + HOUR), now=NOON + HOUR)
    agreement.refresh_from_db()
    assert (agreement.status, agreement.trial_ends_at) == ("ending", NOON + DAY)


def test_nothing_is_guessed_where_aws_may_not_be_asked(aws, acme, acme_admin):
    stage = Stage(aws, acme_admin)
    agreement = stage.buy(acme, "reports-payg", free_trial=7)
    effect = Effect.objects.get(kind="describe_agreement")
    assert (effect.state, "stay unknown" in effect.outcome) == ("skipped", True)
    assert (agreement.trial_ends_at, agreement.initial_agreement_id) == (None, None)
    assert not aws.control.requests("DescribeAgreement")


def test_a_refusal_of_describe_agreement_leaves_it_unknown_and_a_fault_is_tried_again(
    aws, acme, acme_admin, settings
):
    aws.marketplace = BotoMarketplace(Connection(**{**settings.MARKETPLACE, "describe_agreements": True}))
    stage = Stage(aws, acme_admin)
    aws.control.fault("DescribeAgreement", "error", code="AccessDeniedException", status=403)
    refused = stage.buy(acme, "reports-payg")
    effect = refused.effects.get(kind="describe_agreement")
    assert (effect.state, "stay unknown" in effect.outcome) == ("skipped", True)

    aws.control.fault("DescribeAgreement", "error", code="ThrottlingException", status=429, count=3)
    waiting = stage.buy(acme, "reports-payg")
    assert waiting.effects.get(kind="describe_agreement").state == "due"
    stage.pass_time(MINUTE)
    waiting.refresh_from_db()
    assert waiting.effects.get(kind="describe_agreement").outcome == "told something new"
    assert waiting.initial_agreement_id == waiting.agreement_id


# --- Entitlements


def test_entitlements_that_are_listed_make_a_purchase_active_and_the_clocks_of_events_do_not_matter(catalog):
    with transaction.atomic():
        agreement = Agreement.objects.create(
            product=catalog["reports-flex"],
            customer=customers.get_customer(aws_account_id="222222222222", customer_identifier=None),
            identity="license",
            license_id="l-1",
        )
        readings.entitled(agreement, at=NOON)
        readings.entitled(agreement, at=NOON)
    agreement.refresh_from_db()
    assert (agreement.status, agreement.activated_at) == ("active", NOON)
    assert told().get().kind == "Entitlements found"
    link = AuditEvent.objects.get(action="status_changed")
    assert (link.actor, link.data) == ("job:readings", {"before": "pending", "after": "active"})


def test_gone_and_found_again_are_events_like_others(agreement):
    with transaction.atomic():
        locked = customers.lock(agreement.pk)
        readings.entitlements_gone(locked, at=NOON, now=NOON + MINUTE)
        assert (locked.status, locked.end_reason, locked.ended_at) == ("ending", "GONE", NOON)
        readings.entitled(locked, at=NOON + HOUR)
        assert (locked.status, locked.end_reason, locked.ended_at) == ("active", "", None)
    assert [event.occurred_at for event in told().order_by("occurred_at")] == [NOON, NOON + HOUR]
    assert list(audit.verify()) == []


def test_what_aws_says_of_the_end_counts_more_than_what_was_concluded(agreement):
    with transaction.atomic():
        readings.entitlements_gone(customers.lock(agreement.pk), at=NOON, now=NOON)
    take(ended(NOON - MINUTE, status="RENEWED"), now=NOON + MINUTE)
    agreement.refresh_from_db()
    assert (agreement.end_reason, agreement.access_until) == ("RENEWED", NOON + DAY)
    with transaction.atomic():
        readings.entitled(customers.lock(agreement.pk), at=NOON + HOUR)
    agreement.refresh_from_db()
    assert agreement.status == "ending"


def test_a_reading_belongs_to_its_transaction(agreement):
    with transaction.atomic():
        readings.entitlements_gone(customers.lock(agreement.pk), at=NOON, now=NOON)
        transaction.set_rollback(True)
    assert not told().exists()
    events.apply_received(now=NOON)
    agreement.refresh_from_db()
    assert agreement.status == "active"


# --- Those that an arriving buyer owes


@pytest.fixture
def unconfirmed(aws, acme, acme_admin):
    """A contract of which no License Updated comes; its buyer has come."""
    stage = Stage(aws, acme_admin)
    aws.control.switch(contract_license_updated=False)
    bought = aws.buy("reports-flex", license_updated_after=300)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON)
    registration.claim(arrival, by=acme_admin, organization=acme, now=NOON)
    return stage, bought


def test_a_buyer_of_an_unconfirmed_contract_is_looked_after_twice(unconfirmed, aws, acme):
    stage, bought = unconfirmed
    owed = Effect.objects.filter(kind="sync_entitlements").order_by("due_at")
    assert [(each.due_at, each.caused_at) for each in owed] == [
        (NOON + 2 * MINUTE, NOON + 2 * MINUTE),
        (NOON + 10 * MINUTE, NOON + 10 * MINUTE),
    ]
    stage.pass_time(2 * MINUTE)  # AWS lists nothing yet
    assert (of(bought).status, len(aws.control.requests("GetEntitlements"))) == ("pending", 1)
    assert stage.allows(acme).waiting
    stage.pass_time(8 * MINUTE - SECOND)
    assert not stage.allows(acme)
    stage.pass_time(SECOND)
    agreement = of(bought)
    assert (agreement.status, agreement.activated_at) == ("active", NOON + 10 * MINUTE)
    assert stage.allows(acme)
    stage.pass_time(DAY)
    assert len(aws.control.requests("GetEntitlements")) == 2


def test_a_look_that_is_planned_holds_up_no_closing(unconfirmed, aws, acme):
    """A buyer comes just before the hour is full; the license follows at once, and so does usage."""
    stage, _ = unconfirmed
    aws.control.switch(contract_license_updated=True)
    stage.pass_time(59 * MINUTE)
    early = aws.buy("reports-flex", license_updated_after=1)
    arrival = registration.arrive(aws.marketplace, token=early.token, free_trial_hint=False, now=stage.now)
    stage.pass_time(30 * SECOND)
    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=acme)
    agreement = Agreement.objects.get(pk=arrival.agreement_id)
    use(agreement, 130, at=stage.now, now=stage.now)
    metering.close_hours(region=REGION, now=NOON + HOUR + SECOND)
    assert agreement.metering_records.get().included == 100


def test_the_first_that_finds_something_is_enough(unconfirmed, aws):
    stage, bought = unconfirmed
    aws.control.time(license_updated=0)
    early = aws.buy("reports-flex", license_updated_after=60)
    registration.arrive(aws.marketplace, token=early.token, free_trial_hint=False, now=NOON)
    stage.pass_time(2 * MINUTE)
    assert (of(early).status, of(bought).status) == ("active", "pending")


def test_a_contract_whose_event_came_first_and_a_subscription_owe_none(aws, acme_admin):
    stage = Stage(aws, acme_admin)
    first = aws.buy("reports-flex", license_updated_after=0)
    stage.pass_time(SECOND)
    registration.arrive(aws.marketplace, token=first.token, free_trial_hint=False, now=stage.now)
    payg = aws.buy("reports-payg", license_updated_after=3600)
    registration.arrive(aws.marketplace, token=payg.token, free_trial_hint=False, now=stage.now)
    assert not Effect.objects.filter(kind="sync_entitlements", cause__contains="buyer").exists()


def test_an_arrival_posted_twice_owes_each_reading_once(unconfirmed, aws):
    stage, bought = unconfirmed
    for _ in range(2):
        registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON + SECOND)
    assert Effect.objects.filter(kind="sync_entitlements").count() == 2
    effects.run_due(aws.marketplace, now=NOON + timedelta(hours=1))
    assert not Effect.objects.filter(kind="sync_entitlements", state="due").exists()

"""What comes to pass because time has passed: nobody says so, and money and access depend on it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import audit, clock, effects, entitlements, metering, readings, reconciliation, submission, usage
from billing.aws.client import BotoMarketplace
from billing.aws.errors import MarketplaceUnavailable
from billing.aws.types import AgreementDetails, Connection
from billing.models import Agreement, Effect, Entitlement, MarketplaceEvent
from tests.billing.ledger import BEGIN, NOON, REGION, ScriptedAws, granted
from tests.billing.notices import license_updated
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, Stage, take

EXPIRY = NOON + 10 * DAY


@pytest.fixture
def stage(aws, acme_admin):
    aws.control.time(contract_term=10 * DAY.total_seconds())
    return Stage(aws, acme_admin)


@pytest.fixture
def silent(stage, aws, acme):
    """A contract at whose end no event comes; it is five minutes to its expiry."""
    agreement = stage.buy(acme)
    assert agreement.entitlements.get().expires_at == EXPIRY
    aws.control.fault("events", "lose", count=None)
    stage.pass_time(EXPIRY - 5 * MINUTE - stage.now)
    return agreement


def pages(value=100, *, key="included_pages", **fields):
    return granted(key, value, **{"expires_at": NOON, **fields})


def contract(*rows):
    """An active contract, made by events and read at BEGIN."""
    take(license_updated(BEGIN), now=BEGIN)
    agreement = Agreement.objects.get()
    entitlements.sync(agreement, marketplace=ScriptedAws(entitlements=[rows or [pages()]]), now=BEGIN)
    Effect.objects.update(state="done")
    return agreement


def readings_owed():
    return Effect.objects.filter(kind="sync_entitlements", state="due")


def as_listed(agreement, *rows, now):
    """What is due is done, and AWS lists these."""
    clock.advance(now=now)
    effects.run_due(ScriptedAws(entitlements=[rows]), now=now)
    agreement.refresh_from_db()
    return agreement


def proved():
    return list(reconciliation.verify()) == list(audit.verify()) == []


# --- Expiry


def test_what_runs_out_is_read_again_once(catalog):
    agreement = contract(pages(), pages(key="seats"), pages(key="later", expires_at=NOON + DAY))
    clock.advance(now=NOON - SECOND)
    assert not readings_owed().exists()
    for seconds in (0, 20, 40):
        clock.advance(now=NOON + seconds * SECOND)
    owed = readings_owed().get()
    assert (owed.agreement, owed.caused_at, owed.due_at) == (agreement, NOON, NOON)
    as_listed(agreement, pages(), pages(key="later", expires_at=NOON + DAY), now=NOON + MINUTE)
    clock.advance(now=NOON + HOUR)
    assert not readings_owed().exists()


@pytest.mark.parametrize("noticed_after", [timedelta(), MINUTE, 20 * MINUTE])
def test_24_a_contract_that_runs_out_ends_at_its_expiry_without_an_event(
    silent, stage, aws, acme, noticed_after
):
    usage.record(acme, "pages", 150, key="late", occurred_at=stage.now, now=stage.now)
    stage.now = EXPIRY - SECOND
    assert stage.allows(acme).code == "included"
    stage.now = EXPIRY
    assert stage.allows(acme).code == "outage"  # not asked yet
    stage.pass_time(noticed_after)

    silent.refresh_from_db()
    assert (silent.ended_at, silent.end_reason) == (EXPIRY, "GONE")
    assert (silent.access_until, silent.metering_closes_at) == (EXPIRY + 10 * MINUTE, EXPIRY + HOUR)
    told = MarketplaceEvent.objects.get(channel="reading")
    assert (told.kind, told.occurred_at, told.agreement) == ("Entitlements gone", EXPIRY, silent)
    if noticed_after < 10 * MINUTE:
        assert (silent.status, stage.allows(acme).code) == ("ending", "grace")
        stage.now = EXPIRY + 10 * MINUTE - SECOND
        assert stage.allows(acme)
        stage.pass_time(SECOND)
    assert Effect.objects.get(kind="revoke_access").state == "done"
    assert not stage.allows(acme)
    row = Entitlement.objects.get()
    assert (row.valid_to, row.closed_because) == (EXPIRY, "the agreement ended")

    # What was used in the last hour is billed within AWS's hour, less what was bought ahead.
    submission.submit_due(aws.marketplace, now=stage.now)
    assert aws.billed() == "50"
    stage.pass_time(EXPIRY + HOUR - stage.now)
    silent.refresh_from_db()
    assert silent.status == "ended"
    assert proved()


def test_while_aws_cannot_be_asked_the_outage_policy_rules_and_the_reading_stays_due(
    silent, stage, aws, acme
):
    # Not one that the SDK tries again: that takes real seconds.
    aws.control.fault("GetEntitlements", "error", code="AccessDeniedException", count=None)
    stage.pass_time(EXPIRY - stage.now)
    stage.pass_time(12 * HOUR)
    assert readings_owed().get().cause == f"expired {EXPIRY.isoformat()}"
    assert readings_owed().get().attempts == 2
    silent.refresh_from_db()
    assert (silent.status, stage.allows(acme).code) == ("active", "outage")
    stage.now = EXPIRY + DAY - SECOND
    assert stage.allows(acme)
    stage.now = EXPIRY + DAY
    assert stage.allows(acme).code == "expired"
    aws.control.clear_faults()
    aws.control.fault("events", "lose", count=None)
    stage.pass_time(HOUR)
    silent.refresh_from_db()
    assert (silent.ended_at, silent.end_reason) == (EXPIRY, "GONE")
    assert not readings_owed().exists()
    assert proved()


def test_what_aws_renewed_in_place_goes_on(catalog):
    agreement = contract()
    next_year = NOON + 365 * DAY
    as_listed(agreement, pages(120, expires_at=next_year), now=NOON + MINUTE)
    assert (agreement.status, agreement.ended_at) == ("active", None)
    old, new = agreement.entitlements.order_by("valid_from")
    assert (old.value, old.valid_to, new.value, new.valid_from) == (100, NOON, 120, NOON)
    assert (new.expires_at, new.opened_because) == (next_year, f"expired {NOON.isoformat()}")
    assert not MarketplaceEvent.objects.filter(channel="reading").exists()
    clock.advance(now=NOON + HOUR)
    assert not readings_owed().exists()
    assert proved()


def test_a_part_that_runs_out_ends_alone(catalog):
    staying = pages(key="seats", expires_at=NOON + DAY)
    agreement = contract(pages(), staying)
    as_listed(agreement, staying, now=NOON + MINUTE)
    assert agreement.status == "active"
    assert agreement.entitlements.get(dimension_key="included_pages").valid_to == NOON
    assert agreement.entitlements.current().get().dimension_key == "seats"


def test_a_contract_of_several_terms_ends_with_the_last_however_late_it_is_noticed(catalog):
    agreement = contract(pages(), pages(key="seats", expires_at=NOON + 2 * HOUR))
    as_listed(agreement, now=NOON + 3 * HOUR)
    assert (agreement.end_reason, agreement.ended_at) == ("GONE", NOON + 2 * HOUR)


def test_an_announcement_before_the_expiry_does_not_end_it_earlier(catalog):
    agreement = contract()
    take(license_updated(NOON - 10 * MINUTE), now=NOON - 10 * MINUTE)
    as_listed(agreement, now=NOON + MINUTE)
    assert (agreement.end_reason, agreement.ended_at) == ("GONE", NOON)


def test_an_announcement_after_the_expiry_does_not_keep_it_if_aws_lists_nothing(catalog):
    agreement = contract()
    take(license_updated(NOON + 30 * SECOND), now=NOON + 30 * SECOND)
    as_listed(agreement, now=NOON + MINUTE)
    assert agreement.status == "ending"
    assert NOON <= agreement.ended_at <= NOON + MINUTE


def test_no_use_that_was_paid_ahead_is_billed_while_a_renewal_is_unknown(silent, stage, aws, acme):
    aws.control.fault("GetEntitlements", "error", code="AccessDeniedException", count=None)
    stage.pass_time(EXPIRY + 30 * MINUTE - stage.now)
    usage.record(acme, "pages", 10, key="meanwhile", occurred_at=stage.now, now=stage.now)
    stage.pass_time(HOUR)
    metering.close_hours(region=REGION, now=stage.now)
    submission.submit_due(aws.marketplace, now=stage.now)
    assert aws.billed() == "0"
    next_year = pages(100, expires_at=EXPIRY + 365 * DAY)
    effects.run_due(ScriptedAws(entitlements=[[next_year]]), now=stage.now + HOUR)
    metering.close_hours(region=REGION, now=stage.now + HOUR)
    record = silent.metering_records.get()
    assert (record.used, record.included, record.quantity) == (10, 10, 0)
    assert proved()


# --- Trials


def trial(agreement, ends_at, *, now):
    readings.described(agreement, AgreementDetails("ACTIVE", None, None, None, ends_at), now=now)


def trials_over():
    return list(
        MarketplaceEvent.objects.filter(kind="Free trial over")
        .order_by("occurred_at")
        .values_list("occurred_at", flat=True)
    )


def test_a_trial_ends_once_and_a_contract_is_read_then(catalog):
    agreement = contract(pages(expires_at=None))
    trial(agreement, NOON, now=BEGIN)
    clock.advance(now=NOON - SECOND)
    assert trials_over() == []
    for seconds in (0, 20):
        clock.advance(now=NOON + seconds * SECOND)
    assert trials_over() == [NOON]
    owed = readings_owed().get()
    assert (owed.agreement, owed.caused_at, owed.cause.partition(":")[0]) == (agreement, NOON, "clock")
    as_listed(agreement, pages(500, expires_at=None), now=NOON + MINUTE)
    assert agreement.entitlements.get(valid_to=None).valid_from == NOON
    assert (agreement.status, agreement.free_trial) == ("active", True)


def test_a_trial_end_that_moved_speaks_again(catalog):
    agreement = contract(pages(expires_at=None))
    trial(agreement, NOON, now=BEGIN)
    clock.advance(now=NOON)
    trial(agreement, NOON + DAY, now=NOON + HOUR)
    clock.advance(now=NOON + 2 * HOUR)
    assert trials_over() == [NOON]
    for _ in range(2):
        clock.advance(now=NOON + DAY)
    assert trials_over() == [NOON, NOON + DAY]
    assert readings_owed().count() == 2


def test_the_end_of_a_subscriptions_trial_is_said_and_nothing_is_read(catalog):
    take(license_updated(BEGIN, product="reports-payg"), now=BEGIN)
    trial(Agreement.objects.get(), NOON, now=BEGIN)
    clock.advance(now=NOON)
    assert trials_over() == [NOON]
    assert not readings_owed().exists()


def test_a_trial_end_that_moved_while_we_waited_for_the_lock_does_not_speak(catalog):
    agreement = contract()
    trial(agreement, NOON, now=BEGIN)
    trial(agreement, NOON + DAY, now=BEGIN + HOUR)
    clock._end_trial(Agreement.objects.get(), now=NOON)
    assert trials_over() == []


def test_the_trial_that_aws_describes_ends_when_it_says(aws, acme, acme_admin, settings):
    aws.marketplace = BotoMarketplace(Connection(**{**settings.MARKETPLACE, "describe_agreements": True}))
    stage = Stage(aws, acme_admin)
    agreement = stage.buy(acme, "reports-payg", free_trial=7)
    assert agreement.trial_ends_at == NOON + 7 * DAY
    stage.pass_time(8 * DAY)
    assert trials_over() == [NOON + 7 * DAY]
    agreement.refresh_from_db()
    assert agreement.status == "active"


# --- One agreement's trouble


def test_one_agreements_trouble_keeps_no_other_from_being_read(catalog, monkeypatch, caplog):
    broken = contract()
    take(license_updated(BEGIN, arn=f"{broken.license_arn}0", agreement_id="agmt-2"), now=BEGIN)
    other = Agreement.objects.exclude(pk=broken.pk).get()
    entitlements.sync(other, marketplace=ScriptedAws(entitlements=[[pages()]]), now=BEGIN)
    Effect.objects.update(state="done")
    reread = clock._reread

    def fails(agreement, *, now):
        if agreement == broken:
            raise MarketplaceUnavailable("odd", "")
        reread(agreement, now=now)

    monkeypatch.setattr(clock, "_reread", fails)
    clock.advance(now=NOON)
    assert readings_owed().get().agreement == other
    assert f"agreement {broken.pk} could not be applied" in caplog.text

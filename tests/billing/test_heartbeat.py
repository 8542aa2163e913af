"""Zero records for idle hours: one for each idle active agreement, and no other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import metering, submission, tasks
from billing.aws.window import HOUR
from billing.closing import heartbeat
from billing.models import Agreement, MarketplaceCustomer, MeteringRecord
from tests.billing.ledger import (
    BEGIN,
    NOON,
    REGION,
    ScriptedAws,
    entitle,
    license_arn,
    make_agreement,
    make_record,
    use,
)

NOW = NOON + timedelta(minutes=5)
State = MeteringRecord.State


@pytest.fixture(autouse=True)
def on(settings):
    settings.METERING_HEARTBEAT = True


def beat(now=NOW):
    return heartbeat.beat(region=REGION, now=now)


def test_an_idle_hour_is_a_record_of_zero_that_aws_gets(catalog, acme):
    agreement = make_agreement(catalog, acme)
    assert (beat(), beat()) == (1, 0)
    record = agreement.metering_records.get()
    assert (record.hour, record.used, record.quantity, record.state) == (NOON - HOUR, 0, 0, State.DUE)
    aws = ScriptedAws()
    submission.submit_due(aws, now=NOW)
    ((_, (line,)),) = aws.batches
    assert (line.quantity, line.allocations) == ("0", ())


def test_covered_usage_is_told_as_zero_too(catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex")
    entitle(flex, 100)
    use(flex, 5)
    metering.close_hours(region=REGION, now=NOW)
    assert flex.metering_records.get().state == State.DUE
    assert beat() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"activated_at": None},
        {"activated_at": NOON + timedelta(minutes=1)},
        {"ended_at": NOON - timedelta(minutes=1)},
        {"license_arn": None},
    ],
)
def test_what_is_not_active_or_cannot_be_metered_has_no_pulse(catalog, acme, fields):
    make_agreement(catalog, acme, **fields)
    assert beat() == 0


def test_a_buyer_without_an_account_keeps_no_other_from_their_pulse(catalog, acme):
    Agreement.objects.create(
        product=catalog["reports-payg"],
        customer=MarketplaceCustomer.objects.create(customer_identifier="nobody"),
        organization=acme,
        identity="license",
        license_arn=license_arn("no"),
        license_id=f"l-{'no':0>32}",
        status="active",
        activated_at=BEGIN,
    )
    other = make_agreement(catalog, acme)
    assert beat() == 1
    assert MeteringRecord.objects.get().agreement == other


def test_a_contract_without_metered_dimensions_has_no_pulse(catalog, acme):
    make_agreement(catalog, acme, "reports-team")
    assert beat() == 0


def test_an_hour_with_a_record_or_open_usage_is_not_idle(catalog, acme):
    closed, waiting = make_agreement(catalog, acme), make_agreement(catalog, acme)
    make_record(closed, NOON - HOUR, 5)
    use(waiting, 1)
    assert beat() == 0


def test_the_task_beats_only_when_told_to(catalog, acme, settings, aws):
    make_agreement(catalog, acme)
    settings.METERING_HEARTBEAT = False
    tasks.close_hours()
    assert not MeteringRecord.objects.exists()
    settings.METERING_HEARTBEAT = True
    tasks.close_hours()
    assert MeteringRecord.objects.get().quantity == 0


def test_a_purchase_under_both_identities_has_one_pulse(catalog, acme):
    for fields in ({}, {"identity": "license", "license_arn": license_arn("b"), "license_id": "l-b"}):
        make_agreement(catalog, acme, "reports-classic", account="123456789012", **fields)
    another = make_agreement(catalog, acme)
    assert beat() == 2
    assert another.metering_records.count() == 1
    assert beat() == 0

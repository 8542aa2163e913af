"""A purchase changes from its product code to its license once, and no hour is metered under both."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import customers, identity, metering, submission
from billing.aws.window import HOUR
from billing.models import Agreement, AuditEvent, MarketplaceCustomer
from tests.billing.ledger import (
    BEGIN,
    NOON,
    REGION,
    ScriptedAws,
    license_arn,
    make_agreement,
    make_record,
    use,
)
from tests.billing.notices import ARN, license_updated
from tests.billing.stage import take

NOW = NOON + timedelta(minutes=5)
REASON = "the listing opted in to Concurrent Agreements"


@pytest.fixture
def legacy(catalog, acme):
    """A legacy purchase whose license AWS has told."""
    return make_agreement(
        catalog, acme, "reports-classic", license_arn=license_arn("in"), license_id=f"l-{'in':0>32}"
    )


def switch(agreement, now=NOW):
    return identity.switch_to_license(agreement.pk, by="staff", reason=REASON, now=now)


def test_from_the_switch_on_hours_close_under_the_license(legacy):
    use(legacy, 1, at=NOON - 2 * HOUR)
    metering.close_hours(region=REGION, now=NOON - HOUR + timedelta(minutes=5))
    submission.submit_due(ScriptedAws(), now=NOON - HOUR + timedelta(minutes=6))
    assert switch(legacy).identity == "license"
    use(legacy, 2, at=NOON - HOUR)
    metering.close_hours(region=REGION, now=NOW)
    frozen = legacy.metering_records.order_by("hour").values_list("wire_product_code", "wire_license_arn")
    assert list(frozen) == [("reports-classic", None), (None, legacy.license_arn)]
    (link,) = AuditEvent.objects.filter(action="switched_to_license")
    assert link.data == {"reason": REASON}


def test_switching_twice_changes_nothing(legacy):
    switch(legacy)
    switch(legacy)
    assert AuditEvent.objects.filter(action="switched_to_license").count() == 1


@pytest.mark.parametrize("state", ["due", "in_doubt", "waiting", "held", "parked"])
def test_an_unsettled_record_refuses_the_switch(legacy, state):
    make_record(legacy, NOON - HOUR, 5, state=state)
    with pytest.raises(identity.SwitchRefused, match="1 records of this purchase are not settled"):
        switch(legacy)
    legacy.refresh_from_db()
    assert legacy.identity == "legacy"


@pytest.mark.parametrize("state", ["accepted", "conflict", "expired", "void", "written_off", "not_due"])
def test_settled_records_do_not(legacy, state):
    make_record(legacy, NOON - HOUR, 5, state=state)
    assert switch(legacy).identity == "license"


def test_without_its_license_a_purchase_stays_as_it_is(catalog, acme):
    unknown = make_agreement(catalog, acme, "reports-classic")
    with pytest.raises(identity.SwitchRefused, match="License Updated"):
        switch(unknown)


def test_without_an_account_a_purchase_stays_as_it_is(catalog):
    nameless = Agreement.objects.create(
        product=catalog["reports-classic"],
        customer=MarketplaceCustomer.objects.create(customer_identifier="nobody"),
        identity="legacy",
        license_arn=license_arn("no"),
        license_id=f"l-{'no':0>32}",
    )
    with pytest.raises(identity.SwitchRefused, match="account"):
        switch(nameless)


@pytest.fixture
def nameless(catalog, acme):
    """An active purchase under a license, of a buyer whose account AWS did not tell."""
    return Agreement.objects.create(
        product=catalog["reports-payg"],
        customer=MarketplaceCustomer.objects.create(customer_identifier="nobody"),
        organization=acme,
        identity="license",
        license_arn=ARN,
        license_id=customers.license_id(ARN),
        agreement_id="agmt-1",
        status="active",
        activated_at=BEGIN,
    )


def test_under_a_license_usage_stays_open_until_the_account_is_known(nameless, caplog):
    event = use(nameless, 5)
    assert metering.close_hours(region=REGION, now=NOW) == 0
    assert "cannot be metered" in caplog.text
    assert "one by one" not in caplog.text

    take(license_updated(BEGIN, product="reports-payg"), now=NOW)

    nameless.customer.refresh_from_db()
    assert nameless.customer.aws_account_id == "222222222222"
    assert metering.close_hours(region=REGION, now=NOW) == 1
    record = nameless.metering_records.get()
    assert (record.wire_license_arn, record.wire_account_id) == (ARN, "222222222222")
    event.refresh_from_db()
    assert event.metering_record == record


def test_an_account_that_another_row_has_is_not_taken_from_it(nameless, caplog):
    other = MarketplaceCustomer.objects.create(aws_account_id="222222222222")
    take(license_updated(NOON, product="reports-payg"), now=NOW)
    nameless.customer.refresh_from_db()
    assert nameless.customer.aws_account_id is None
    assert "another row has it" in caplog.text
    other.refresh_from_db()
    assert other.aws_account_id == "222222222222"

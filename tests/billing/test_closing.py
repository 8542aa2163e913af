"""Hours close once: usage becomes records, exactly, in the form AWS gets."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import audit, crashpoints, customers, metering, submission, usage
from billing.aws.limits import MAX_QUANTITY
from billing.aws.window import HOUR
from billing.closing.ending import recompute_deadlines, settled_at
from billing.models import Agreement, AuditEvent, Dimension, Effect, MeteringRecord, UsageEvent
from tests.billing.ledger import (
    BEGIN,
    NOON,
    REGION,
    bought_agreement,
    entitle,
    license_arn,
    make_agreement,
    make_record,
    use,
)
from tests.billing.notices import sns
from tests.billing.stage import take
from tests.journeys.crashes import assert_billed_once

MINUTE = timedelta(minutes=1)
NOW = NOON + 5 * MINUTE
State = MeteringRecord.State
Disposition = UsageEvent.Disposition


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def flex(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    return agreement


def close(now=NOW):
    return metering.close_hours(region=REGION, now=now)


def closed(agreement, *columns):
    columns = columns or ("hour", "used")
    return list(agreement.metering_records.order_by("hour", "dimension__key").values_list(*columns))


def balance(agreement):
    """Recorded = included + quantities + open + the other dispositions, for any set of events and records."""
    events, records = list(agreement.usage_events.all()), list(agreement.metering_records.all())
    recorded = sum(event.quantity for event in events)
    accounted = sum(record.included + record.quantity for record in records)
    accounted += sum(event.quantity for event in events if event.metering_record_id is None)
    assert recorded == accounted
    for record in records:
        assert record.used == sum(event.quantity for event in record.usage_events.all())


# --- The plain case


def test_the_uses_of_an_hour_become_one_record_of_their_sum(payg):
    for minute, quantity in ((0, "1.5"), (30, "2.25"), (59, "0.000001")):
        use(payg, quantity, at=NOON - HOUR + timedelta(minutes=minute))
    assert close() == 1
    record = payg.metering_records.get()
    assert (record.hour, record.used, record.included) == (NOON - HOUR, Decimal("3.750001"), 0)
    assert (record.quantity, record.wire_quantity) == (Decimal("3.750001"), "3.750001")
    assert (record.state, record.submit_by, record.closed_at) == (State.DUE, NOON + 23 * HOUR, NOW)
    assert record.wire_timestamp == NOON - HOUR
    assert record.wire_region == REGION
    assert record.usage_events.count() == 3
    balance(payg)


def test_closing_again_changes_nothing(payg):
    use(payg)
    assert close() == 1
    before = list(MeteringRecord.objects.values())
    assert close() == 0
    assert list(MeteringRecord.objects.values()) == before


def test_the_running_hour_stays_open(payg):
    event = use(payg, at=NOON + timedelta(minutes=1))
    use(payg, at=NOON - timedelta(microseconds=1))
    assert close() == 1
    event.refresh_from_db()
    assert event.metering_record is None
    assert closed(payg) == [(NOON - HOUR, 1)]


def test_each_hour_dimension_and_agreement_has_its_own_record(catalog, acme, payg):
    other = make_agreement(catalog, acme)
    seats = Dimension.objects.create(product=payg.product, key="seats", label="Seats", kind="metered")
    use(payg, 1, at=NOON - HOUR)
    use(payg, 2, at=NOON - 2 * HOUR)
    use(payg, 3, at=NOON - HOUR, dimension="seats")
    use(other, 4, at=NOON - HOUR)
    assert close() == 4
    assert closed(payg, "hour", "dimension__key", "used") == [
        (NOON - 2 * HOUR, "pages", 2),
        (NOON - HOUR, "pages", 1),
        (NOON - HOUR, seats.key, 3),
    ]
    assert closed(other) == [(NOON - HOUR, 4)]


def test_cancelled_and_unbillable_usage_is_in_no_record(acme, payg):
    use(payg, 5, key="wrong")
    usage.cancel(acme, "wrong", reason="test", now=NOON)
    use(payg, 7, at=BEGIN - HOUR)
    use(payg, 1)
    assert close() == 1
    assert closed(payg) == [(NOON - HOUR, 1)]
    assert UsageEvent.objects.get(quantity=7).disposition == Disposition.OUTSIDE_AGREEMENT
    balance(payg)


def test_an_agreement_that_is_not_active_yet_closes_nothing(catalog, acme):
    pending = make_agreement(catalog, acme, activated_at=None)
    UsageEvent.objects.create(
        organization=acme, agreement=pending, dimension=pending.product.dimensions.get(), quantity=1,
        occurred_at=NOON - HOUR, key="early",
    )  # fmt: skip
    assert close() == 0


def test_usage_of_nothing_but_zeros_is_a_record_that_is_not_due(payg):
    use(payg, 0, tags={"team": "ml"})
    close()
    record = payg.metering_records.get()
    assert (record.state, record.wire_quantity, record.wire_allocations) == (State.NOT_DUE, "0", "")
    assert record.settled_at == NOW


def test_one_agreements_trouble_does_not_keep_the_others_open(catalog, acme, payg, caplog):
    broken = make_agreement(catalog, acme)
    event = use(broken)
    use(payg)
    # Tags that are no object: they cannot be read.
    with connection.cursor() as cursor:
        _lift(cursor, "billing_usageevent", "usage_event_write_once")
        cursor.execute("UPDATE billing_usageevent SET tags = '[]' WHERE id = %s", [event.pk])
    assert close() == 1
    assert closed(payg) == [(NOON - HOUR, 1)]
    assert f"Hours of agreement {broken.pk} could not be closed" in caplog.text
    assert UsageEvent.objects.open().get().agreement_id == broken.pk


def _lift(cursor, table, rule):
    """Drop one trigger, for what only a broken database could bring about."""
    if connection.vendor == "sqlite":
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s", [f"{rule}%"])
    else:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE %s", [f"{rule}%"])
    for (name,) in cursor.fetchall():
        cursor.execute(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))


def test_a_run_is_audited_as_a_run(payg):
    use(payg, at=NOON - HOUR)
    use(payg, at=NOON - 2 * HOUR)
    close()
    (link,) = AuditEvent.objects.filter(action="hours_closed")
    assert (link.stream, link.data) == (payg.audit_stream, {"records": 2})
    assert list(audit.verify()) == []


# --- The frozen form


def test_a_license_record_is_frozen_under_license_and_account(payg):
    use(payg)
    close()
    record = payg.metering_records.get()
    assert record.wire_license_arn == payg.license_arn
    assert record.wire_account_id == payg.customer.aws_account_id
    assert (record.wire_product_code, record.wire_customer_identifier) == (None, None)


def test_a_legacy_record_is_frozen_under_product_and_one_customer_id(catalog, acme):
    classic = make_agreement(catalog, acme, "reports-classic")
    use(classic)
    close()
    record = classic.metering_records.get()
    assert (record.wire_product_code, record.wire_license_arn) == ("reports-classic", None)
    assert (record.wire_account_id, record.wire_customer_identifier) == (
        classic.customer.aws_account_id,
        None,
    )


def test_a_legacy_customer_without_a_known_account_is_metered_by_identifier(catalog, acme):
    classic = make_agreement(catalog, acme, "reports-classic")
    with connection.cursor() as cursor:
        _lift(cursor, "billing_marketplacecustomer", "customer_ids_set_once")
    type(classic.customer).objects.filter(pk=classic.customer_id).update(
        aws_account_id=None, customer_identifier="abc"
    )
    use(classic)
    close()
    record = classic.metering_records.get()
    assert (record.wire_account_id, record.wire_customer_identifier) == (None, "abc")


def test_without_its_whole_arn_a_license_is_not_metered_yet(catalog, acme, caplog):
    agreement = make_agreement(catalog, acme, license_arn=None)
    use(agreement)
    assert close() == 0
    assert "has not told its whole license ARN" in caplog.text
    type(agreement).objects.filter(pk=agreement.pk).update(
        license_arn="arn:aws:license-manager::1:license:l-1"
    )
    assert close() == 1


def test_the_tags_of_an_hour_are_frozen_with_it(payg):
    use(payg, 3, tags={"team": "ml"})
    use(payg, 1, tags={"team": "web"})
    use(payg, 2)
    close()
    assert payg.metering_records.get().wire_allocations == (
        '[{"quantity":"2","tags":{}},{"quantity":"3","tags":{"team":"ml"}},{"quantity":"1","tags":{"team":"web"}}]'
    )


def test_too_many_tag_sets_are_folded_and_it_is_said_so(payg, caplog, monkeypatch):
    monkeypatch.setattr("billing.closing.allocations.MAX_ALLOCATIONS", 2)
    for team in "abc":
        use(payg, 1, tags={"team": team})
    close()
    assert "2 tag sets went untagged" in caplog.text


# --- Before activation


def test_an_instant_before_the_license_starts_is_never_sent(catalog, acme):
    begins = NOON - timedelta(minutes=42)
    agreement = make_agreement(catalog, acme, activated_at=begins)
    use(agreement, 2, at=begins)
    early = use(agreement, 5, at=begins - timedelta(seconds=1))
    assert early.disposition == Disposition.OUTSIDE_AGREEMENT
    close()
    record = agreement.metering_records.get()
    assert (record.hour, record.wire_timestamp, record.used) == (NOON - HOUR, begins, 2)


# --- Late usage


def test_late_usage_takes_its_own_hour_if_that_is_not_closed(payg):
    use(payg, at=NOON - 5 * HOUR, now=NOW)
    close()
    assert closed(payg) == [(NOON - 5 * HOUR, 1)]


def test_usage_that_comes_after_its_hour_closed_takes_the_next_one(payg):
    use(payg, 1, at=NOON - 3 * HOUR)
    close()
    late = use(payg, 2, at=NOON - 3 * HOUR, now=NOW)
    assert close() == 1
    late.refresh_from_db()
    assert late.metering_record.hour == NOON - 2 * HOUR
    assert late.occurred_at == NOON - 3 * HOUR
    assert closed(payg) == [(NOON - 3 * HOUR, 1), (NOON - 2 * HOUR, 2)]
    balance(payg)


def test_with_every_hour_closed_late_usage_waits_for_the_running_one(payg):
    use(payg, 1)
    close()
    late = use(payg, 2, now=NOW)
    assert close() == 0
    use(payg, 4, at=NOON + timedelta(minutes=10))
    assert close(NOON + HOUR) == 1
    late.refresh_from_db()
    assert (late.metering_record.hour, late.metering_record.used) == (NOON, 6)


def test_a_closed_hour_is_never_reopened(payg):
    use(payg, 1)
    close()
    (before,) = MeteringRecord.objects.values()
    use(payg, 2, now=NOW)
    close(NOW + timedelta(minutes=10))
    assert MeteringRecord.objects.values().get(pk=before["id"]) == before


def test_usage_recorded_too_late_is_in_no_record(payg):
    event = use(payg, at=NOON - 25 * HOUR, now=NOW)
    assert event.disposition == Disposition.TOO_LATE
    assert close() == 0
    balance(payg)


def test_after_an_outage_every_hour_is_caught_up_and_what_is_too_old_takes_the_next(payg):
    for hour in range(1, 31):
        use(payg, 1, at=NOON - hour * HOUR)
    assert close() == 22
    # AWS takes the hour that began 23 hours ago for another 55 minutes: too short to plan with.
    assert closed(payg)[0] == (NOON - 22 * HOUR, 9)
    assert closed(payg)[1:] == [(NOON - hour * HOUR, 1) for hour in range(21, 0, -1)]
    balance(payg)


def test_an_hour_whose_window_stays_open_another_hour_keeps_its_usage(payg):
    use(payg, 1, at=NOON - 23 * HOUR)
    assert close(NOON - timedelta(minutes=1)) == 1
    assert closed(payg) == [(NOON - 23 * HOUR, 1)]


def test_one_record_takes_awss_maximum_and_the_rest_takes_the_next_free_hour(payg):
    use(payg, MAX_QUANTITY, at=NOON - 2 * HOUR)
    use(payg, "0.000001", at=NOON - 2 * HOUR)
    use(payg, MAX_QUANTITY, at=NOON - HOUR, key="much")
    assert close() == 2
    # The millionth fills the next hour first: there the much no longer fits.
    assert closed(payg) == [(NOON - 2 * HOUR, MAX_QUANTITY), (NOON - HOUR, Decimal("0.000001"))]
    assert UsageEvent.objects.open().get().key == "much"
    assert close(NOON + HOUR) == 1
    assert closed(payg)[-1] == (NOON, MAX_QUANTITY)
    balance(payg)


def test_usage_recorded_while_hours_are_closed_is_in_the_next_closing(payg, monkeypatch):
    use(payg, 1)

    def use_more(point):
        if point == "closing.planned":
            use(payg, 2, key="meanwhile", now=NOW)

    monkeypatch.setattr(crashpoints, "when_reached", use_more)
    close()
    monkeypatch.undo()
    assert closed(payg) == [(NOON - HOUR, 1)]
    assert UsageEvent.objects.open().get().key == "meanwhile"
    balance(payg)


def test_usage_that_is_no_longer_open_stops_the_closing(payg, monkeypatch, caplog):
    event = use(payg, 1)

    def cancel(point):
        if point == "closing.planned":
            UsageEvent.objects.filter(pk=event.pk).update(disposition=Disposition.CANCELLED)

    monkeypatch.setattr(crashpoints, "when_reached", cancel)
    assert close() == 0
    assert "1 of 1 uses were no longer open" in caplog.text
    assert not MeteringRecord.objects.exists()


# --- Month end


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "hour"),
    [
        (utc(2026, 12, 1, 4, 55), utc(2026, 11, 30, 23)),
        (utc(2026, 12, 1, 5, 5), utc(2026, 12, 1, 0)),  # under an hour is left for November
        (utc(2026, 12, 1, 6, 5), utc(2026, 12, 1, 0)),
    ],
)
def test_last_months_usage_goes_to_last_month_while_that_is_open(payg, now, hour):
    use(payg, 3, at=utc(2026, 11, 30, 23, 30))
    assert close(now) == 1
    assert closed(payg) == [(hour, 3)]


def test_late_usage_of_last_month_prefers_an_hour_of_last_month(payg):
    use(payg, 1, at=utc(2026, 11, 30, 20))
    close(utc(2026, 11, 30, 22, 5))
    use(payg, 2, at=utc(2026, 11, 30, 20), now=utc(2026, 12, 1, 2))
    close(utc(2026, 12, 1, 2, 5))
    assert closed(payg) == [(utc(2026, 11, 30, 20), 1), (utc(2026, 11, 30, 21), 2)]


def test_with_no_later_hour_of_last_month_free_an_earlier_one_takes_it(payg):
    use(payg, 1, at=utc(2026, 11, 30, 23))
    close(utc(2026, 12, 1, 0, 5))
    use(payg, 2, at=utc(2026, 11, 30, 23), now=utc(2026, 12, 1, 2))
    use(payg, 4, at=utc(2026, 12, 1, 0, 30), now=utc(2026, 12, 1, 2))
    close(utc(2026, 12, 1, 2, 5))
    assert closed(payg) == [
        (utc(2026, 11, 30, 22), 2),
        (utc(2026, 11, 30, 23), 1),
        (utc(2026, 12, 1, 0), 4),
    ]
    balance(payg)


def test_with_no_hour_of_last_month_free_the_new_month_takes_it(catalog, acme):
    payg = make_agreement(catalog, acme, activated_at=utc(2026, 11, 30, 22, 30))
    for hour in (22, 23):
        use(payg, 1, at=utc(2026, 11, 30, hour, 45))
    close(utc(2026, 12, 1, 0, 5))
    use(payg, 2, at=utc(2026, 11, 30, 23), now=utc(2026, 12, 1, 2))
    close(utc(2026, 12, 1, 2, 5))
    assert closed(payg)[-1] == (utc(2026, 12, 1, 0), 2)


# --- Many at once


def test_a_run_in_small_chunks_closes_the_same(catalog, acme, monkeypatch):
    monkeypatch.setattr(metering, "CHUNK_AGREEMENTS", 2)
    monkeypatch.setattr(metering, "CHUNK_EVENTS", 3)
    bought = [make_agreement(catalog, acme) for _ in range(5)]
    for number, agreement in enumerate(bought):
        for _ in range(number + 1):
            use(agreement, number + 1, at=NOON - HOUR)
    assert close() == 5
    assert [closed(agreement) for agreement in bought] == [
        [(NOON - HOUR, (number + 1) ** 2)] for number in range(5)
    ]
    assert list(audit.verify()) == []


def test_the_number_of_queries_does_not_grow_with_the_agreements(catalog, acme):
    with CaptureQueriesContext(connection) as few:
        use(
            make_agreement(
                catalog,
                acme,
                "reports-flex",
            ),
            1,
        )
        close()
    for _ in range(12):
        agreement = make_agreement(catalog, acme, "reports-flex")
        entitle(agreement, 1)
        use(agreement, 5, at=NOON - HOUR)
        use(agreement, 5, at=NOON - 2 * HOUR)
    with CaptureQueriesContext(connection) as many:
        assert close() == 24
    updates = [query for query in many if query["sql"].startswith("UPDATE")]
    assert len(updates) <= (1 if connection.vendor == "postgresql" else 24)
    assert len(many) - len(updates) <= len(few)


# --- One identity


def test_an_hour_metered_under_the_other_identity_is_not_closed_again(catalog, acme):
    legacy = make_agreement(catalog, acme, "reports-classic", account="123456789012")
    licensed = make_agreement(
        catalog,
        acme,
        "reports-classic",
        account="123456789012",
        identity="license",
        license_arn=license_arn("both"),
        license_id=f"l-{'both':0>32}",
        agreement_id="agmt-licensed",
    )
    make_record(legacy, NOON - 2 * HOUR, 7)
    use(licensed, 2, at=NOON - 2 * HOUR)
    close()
    assert closed(licensed) == [(NOON - HOUR, 2)]


def _switched(catalog, acme):
    """A purchase that was metered by product code until an hour ago, and a second license of its buyer."""
    switched = make_agreement(catalog, acme, "reports-classic", account="123456789012")
    make_record(switched, NOON - 2 * HOUR, 7, state=State.ACCEPTED)
    type(switched).objects.filter(pk=switched.pk).update(
        identity="license", license_arn=license_arn("sw"), license_id=f"l-{'sw':0>32}"
    )
    second = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", identity="license",
        license_arn=license_arn("2nd"), license_id=f"l-{'2nd':0>32}",
    )  # fmt: skip
    return switched, second


def test_an_hour_metered_before_the_switch_is_not_closed_under_another_license(catalog, acme):
    _, second = _switched(catalog, acme)
    use(second, 2, at=NOON - 2 * HOUR)
    assert close() == 1
    assert closed(second) == [(NOON - HOUR, 2)]


def test_two_licenses_of_one_buyer_close_the_same_hour(catalog, acme):
    switched, second = _switched(catalog, acme)
    use(switched, 1, at=NOON - HOUR)
    use(second, 2, at=NOON - HOUR)
    assert close() == 2
    assert closed(second) == [(NOON - HOUR, 2)]


def test_of_two_identities_closed_together_each_hour_has_one(catalog, acme, caplog):
    legacy = make_agreement(catalog, acme, "reports-classic", account="123456789012")
    licensed = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", identity="license",
        license_arn=license_arn("both"), license_id=f"l-{'both':0>32}",
    )  # fmt: skip
    for number in (2, 1):
        use(legacy, 1, at=NOON - number * HOUR)
    use(licensed, 2, at=NOON - 2 * HOUR)
    use(licensed, 4, at=NOON - 3 * HOUR)
    assert close() == 3
    assert "closing them one by one" not in caplog.text
    assert closed(licensed) == [(NOON - 3 * HOUR, 4)]
    assert UsageEvent.objects.open().get().agreement_id == licensed.pk
    assert close(NOW + HOUR) == 1
    assert closed(licensed) == [(NOON - 3 * HOUR, 4), (NOON, 2)]


def _bought_again(catalog, acme, *, ended_at=NOON - 2 * HOUR + 2 * MINUTE):
    """Two purchases of a buyer under one product code: the second began in the last hour of the first."""
    first = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", status="ended", ended_at=ended_at
    )
    second = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", activated_at=ended_at + 10 * MINUTE
    )
    return first, second


def test_an_hour_metered_under_the_same_product_code_is_not_closed_again(catalog, acme):
    first, second = _bought_again(catalog, acme)
    make_record(first, NOON - 2 * HOUR, 5, state=State.ACCEPTED)
    use(second, 5, at=NOON - 2 * HOUR + 30 * MINUTE)
    use(second, 1, at=NOON - HOUR)
    close()
    assert closed(second) == [(NOON - HOUR, 6)]


def test_another_dimension_or_product_of_the_same_buyer_closes_the_hour(catalog, acme):
    first, second = _bought_again(catalog, acme)
    exports = Dimension.objects.create(product=first.product, key="exports", label="Exports", kind="metered")
    make_record(first, NOON - 2 * HOUR, 5, state=State.ACCEPTED, dimension=exports)
    elsewhere = make_agreement(catalog, acme, account="123456789012")
    make_record(elsewhere, NOON - 2 * HOUR, 5, state=State.ACCEPTED)
    use(second, 5, at=NOON - 2 * HOUR + 30 * MINUTE)
    close()
    assert closed(second) == [(NOON - 2 * HOUR, 5)]


def test_of_two_purchases_under_one_product_code_closed_together_each_hour_has_one(catalog, acme, caplog):
    first, second = _bought_again(catalog, acme)
    use(first, 3, at=NOON - 2 * HOUR, now=NOON - 2 * HOUR + MINUTE)
    use(second, 5, at=NOON - 2 * HOUR + 30 * MINUTE)
    assert close() == 2
    assert "closing them one by one" not in caplog.text
    assert (closed(first), closed(second)) == ([(NOON - 2 * HOUR, 3)], [(NOON - HOUR, 5)])


@pytest.mark.parametrize("again", [5, 4])
def test_a_buyer_who_leaves_and_comes_back_within_the_hour_is_billed_for_both(aws, catalog, acme, again):
    """AWS knows such an hour by product code and customer alone: of two records it takes one."""
    aws.control.freeze(NOON)
    first = bought_agreement(aws, catalog, acme, "reports-classic")
    buyer = first.customer.customer_identifier
    take(sns("subscribe-success", BEGIN, customer=buyer), now=BEGIN)
    use(first, 5, at=NOON + MINUTE)
    take(sns("unsubscribe-pending", NOON + 2 * MINUTE, customer=buyer), now=NOON + 2 * MINUTE)
    _meter(aws, NOON + 13 * MINUTE)
    take(sns("unsubscribe-success", NOON + 50 * MINUTE, customer=buyer), now=NOON + 50 * MINUTE)
    take(sns("subscribe-success", NOON + 55 * MINUTE, customer=buyer), now=NOON + 55 * MINUTE)
    second = Agreement.objects.exclude(pk=first.pk).get()
    second.organization = acme
    second.save(update_fields=["organization"])
    use(second, again, at=NOON + 58 * MINUTE)
    _meter(aws, NOON + 65 * MINUTE)
    _meter(aws, NOON + 125 * MINUTE)
    assert aws.billed() == str(5 + again)
    assert_billed_once(aws)


def _meter(aws, now):
    aws.control.freeze(now)
    metering.close_hours(region=REGION, now=now)
    submission.submit_due(aws.marketplace, now=now)


# --- Overage


def test_only_what_exceeds_the_allowance_is_billed(flex):
    use(flex, 130)
    close()
    assert closed(flex, "used", "included", "quantity", "wire_quantity", "state") == [
        (130, 100, 30, "30", State.DUE)
    ]


def test_covered_usage_is_a_record_that_is_not_due(flex):
    use(flex, 100, tags={"team": "ml"})
    close()
    assert closed(flex, "included", "quantity", "state", "wire_allocations") == [(100, 0, State.NOT_DUE, "")]


def test_the_allowance_is_drawn_down_hour_by_hour(flex):
    for hours_ago, quantity in ((3, 60), (2, 60), (1, 60)):
        use(flex, quantity, at=NOON - hours_ago * HOUR)
    close()
    assert closed(flex, "included", "quantity") == [(60, 0), (40, 20), (0, 60)]
    balance(flex)


def test_the_overage_is_shared_over_the_tags_in_proportion(flex):
    use(flex, 90, tags={"team": "ml"})
    use(flex, 30, tags={"team": "web"})
    close()
    assert flex.metering_records.get().wire_allocations == (
        '[{"quantity":"15","tags":{"team":"ml"}},{"quantity":"5","tags":{"team":"web"}}]'
    )


def test_a_void_record_gives_its_allowance_back(flex):
    use(flex, 100, at=NOON - 2 * HOUR)
    close()
    flex.metering_records.update(state=State.VOID)
    use(flex, 50, at=NOON - HOUR, now=NOW)
    close()
    assert closed(flex, "included")[-1] == (50,)


def test_a_monthly_allowance_begins_anew_each_month(catalog, acme):
    Dimension.objects.filter(included_by__isnull=False).update(allowance_period="month")
    flex = make_agreement(catalog, acme, "reports-flex", activated_at=utc(2026, 11, 1))
    entitle(flex, 100, since=utc(2026, 11, 1))
    use(flex, 80, at=utc(2026, 11, 30, 20, 30))
    use(flex, 80, at=utc(2026, 11, 30, 23, 59, 59))
    use(flex, 80, at=utc(2026, 12, 1, 0, 0))
    close(utc(2026, 12, 1, 1, 5))
    assert closed(flex, "included", "quantity") == [(80, 0), (20, 60), (80, 0)]


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/Los_Angeles"])
def test_a_month_is_awss_whatever_the_zone_of_who_has_it_closed(catalog, acme, zone):
    Dimension.objects.filter(included_by__isnull=False).update(allowance_period="month")
    flex = make_agreement(catalog, acme, "reports-flex", activated_at=utc(2026, 10, 1))
    entitle(flex, 100, since=utc(2026, 10, 1))
    use(flex, 80, at=utc(2026, 11, 1, 0, 30))
    use(flex, 80, at=utc(2026, 11, 30, 20, 30))
    with timezone.override(ZoneInfo(zone)):
        close(utc(2026, 11, 1, 1, 5))
        close(utc(2026, 11, 30, 21, 5))
    assert closed(flex, "included", "quantity") == [(80, 0), (20, 60)]


def test_a_terms_allowance_goes_on_over_the_end_of_a_month(catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex", activated_at=utc(2026, 11, 1))
    entitle(flex, 100, since=utc(2026, 11, 1))
    use(flex, 80, at=utc(2026, 11, 30, 23, 30))
    use(flex, 80, at=utc(2026, 12, 1, 0, 30))
    close(utc(2026, 12, 1, 1, 5))
    assert closed(flex, "included", "quantity") == [(80, 0), (20, 60)]


def test_dimensions_that_share_a_pool_draw_on_it_in_the_order_of_the_hours(flex):
    pages = flex.product.dimensions.get(key="pages")
    Dimension.objects.create(
        product=flex.product, key="exports", label="Exports", kind="metered", included_by=pages.included_by
    )
    use(flex, 70, at=NOON - 3 * HOUR, dimension="pages")
    use(flex, 70, at=NOON - 2 * HOUR, dimension="exports")
    use(flex, 70, at=NOON - HOUR, dimension="exports")
    use(flex, 70, at=NOON - HOUR, dimension="pages")
    close()
    assert closed(flex, "dimension__key", "included", "quantity") == [
        ("pages", 70, 0), ("exports", 30, 40), ("exports", 0, 70), ("pages", 0, 70),
    ]  # fmt: skip
    balance(flex)


def test_an_upgrade_counts_for_the_hour_it_came_in_and_not_before(flex):
    upgraded_at = NOON - timedelta(minutes=40)
    flex.entitlements.update(valid_to=upgraded_at)
    entitle(flex, 250, since=upgraded_at)
    use(flex, 150, at=NOON - 2 * HOUR)
    use(flex, 150, at=NOON - timedelta(minutes=50))
    close()
    assert closed(flex, "included", "quantity") == [(100, 50), (150, 0)]


def test_after_a_downgrade_nothing_covered_is_billed(flex):
    lowered_at = NOON - HOUR
    use(flex, 90, at=NOON - 2 * HOUR)
    flex.entitlements.update(valid_to=lowered_at)
    entitle(flex, 10, since=lowered_at)
    use(flex, 5, at=NOON - timedelta(minutes=30))
    close()
    assert closed(flex, "included", "quantity") == [(90, 0), (0, 5)]


def test_what_ended_with_the_agreement_still_covers_its_last_hour(catalog, acme):
    for ended_at in (NOON - timedelta(minutes=20), NOON):
        flex = make_agreement(catalog, acme, "reports-flex", ended_at=ended_at, closes_at=ended_at + HOUR)
        entitle(flex, 100, until=ended_at)
        use(flex, 130, at=ended_at - timedelta(minutes=5))
        use(
            flex, 20, at=ended_at + timedelta(minutes=1), now=ended_at - timedelta(minutes=1)
        ) if False else None
        close(ended_at + timedelta(minutes=11))
        assert closed(flex, "included", "quantity") == [(100, 30)]


def test_usage_after_an_end_on_the_hour_is_covered_by_what_ended_with_it(flex):
    use(flex, 130, at=NOON + timedelta(minutes=1))
    flex.entitlements.update(valid_to=NOON)
    type(flex).objects.update(ended_at=NOON, metering_closes_at=NOON + HOUR, status="ending")
    close(NOON + timedelta(minutes=11))
    assert closed(flex, "hour", "included", "quantity") == [(NOON, 100, 30)]


def test_a_double_allowance_is_used_to_the_millionth(catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex")
    entitle(flex, 0.1 + 0.2)
    use(flex, 1)
    close()
    assert closed(flex, "included", "quantity") == [(Decimal("0.3"), Decimal("0.7"))]


def test_an_allowance_larger_than_any_quantity_covers_everything(catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex")
    entitle(flex, 1e300)
    use(flex, MAX_QUANTITY)
    close()
    assert closed(flex, "included", "quantity") == [(MAX_QUANTITY, 0)]


def test_no_overage_is_billed_before_the_entitlements_were_read(catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex", entitlements_read_at=None)
    use(flex, 50)
    assert close() == 0
    assert UsageEvent.objects.open().count() == 1
    entitle(flex, 100)
    type(flex).objects.update(entitlements_read_at=NOW)
    assert close() == 1
    assert closed(flex, "hour", "included", "quantity") == [(NOON - HOUR, 50, 0)]


def test_no_overage_is_billed_while_an_announced_upgrade_is_not_read(flex):
    owed = Effect.objects.create(
        agreement=flex,
        kind=Effect.Kind.SYNC_ENTITLEMENTS,
        cause="event",
        caused_at=NOON - timedelta(minutes=50),
    )
    use(flex, 150)
    assert close() == 0
    Effect.objects.filter(pk=owed.pk).update(state=Effect.State.DONE)
    assert close() == 1


def test_a_change_of_the_running_hour_does_not_keep_finished_hours_open(flex):
    Effect.objects.create(
        agreement=flex,
        kind=Effect.Kind.SYNC_ENTITLEMENTS,
        cause="event",
        caused_at=NOON + timedelta(minutes=1),
    )
    use(flex, 150)
    assert close() == 1


def test_usage_without_an_allowance_does_not_wait_for_entitlements(catalog, acme):
    payg = make_agreement(catalog, acme, entitlements_read_at=None)
    use(payg)
    assert close() == 1


def test_at_the_end_overage_waits_for_the_entitlements_while_there_is_time(catalog, acme, caplog):
    ended_at = NOON - timedelta(minutes=15)
    flex = make_agreement(
        catalog, acme, "reports-flex", ended_at=ended_at, closes_at=ended_at + HOUR, entitlements_read_at=None
    )
    use(flex, 50, at=ended_at - timedelta(minutes=1))
    assert close() == 0

    last_call = ended_at + timedelta(minutes=45)
    assert close(last_call - timedelta(seconds=1)) == 0
    assert "without its entitlements" not in caplog.text
    assert close(last_call) == 1
    assert closed(flex, "quantity", "state") == [(50, State.DUE)]
    assert "without its entitlements" in caplog.text


def test_at_the_end_entitlements_read_in_time_cover_what_they_allow(catalog, acme):
    ended_at = NOON - timedelta(minutes=15)
    flex = make_agreement(
        catalog, acme, "reports-flex", ended_at=ended_at, closes_at=ended_at + HOUR, entitlements_read_at=None
    )
    use(flex, 10, at=ended_at - timedelta(minutes=1))
    assert close() == 0
    entitle(flex, 100)
    type(flex).objects.filter(pk=flex.pk).update(entitlements_read_at=NOON)
    assert close() == 1
    assert closed(flex, "included", "quantity", "state") == [(10, 0, State.NOT_DUE)]


def test_an_end_without_a_closing_instant_still_closes_its_overage(catalog, acme, caplog):
    # unsubscribe-success that no unsubscribe-pending preceded: only the hour's own window ends it.
    ended_at = NOON - timedelta(minutes=15)
    flex = make_agreement(catalog, acme, "reports-flex", ended_at=ended_at, entitlements_read_at=None)
    use(flex, 50, at=ended_at - timedelta(minutes=1))
    assert close() == 0
    assert "could not be closed" not in caplog.text
    last_call = NOON + 23 * HOUR - timedelta(minutes=15)
    assert close(last_call - timedelta(seconds=1)) == 0
    assert close(last_call) == 1


# --- What was recorded beside the truth


def test_usage_whose_insert_commits_after_the_activation_is_billed(payg):
    # Its transaction began before the activation was told, and it knew no better than "outside".
    event = use(payg, 3, at=NOON - HOUR)
    UsageEvent.objects.filter(pk=event.pk).update(disposition=Disposition.OUTSIDE_AGREEMENT)
    assert close() == 1
    assert closed(payg) == [(NOON - HOUR, 3)]
    assert AuditEvent.objects.filter(action="usage_reopened").count() == 1


def test_usage_outside_the_agreement_or_too_old_to_bill_stays_outside(catalog, acme, payg):
    gone = make_agreement(catalog, acme, ended_at=NOON - 3 * HOUR, closes_at=NOON - 2 * HOUR)
    for agreement, at in ((payg, BEGIN - HOUR), (payg, NOON - 30 * HOUR), (gone, NOON - 2 * HOUR)):
        event = use(agreement, 1, at=at)
        UsageEvent.objects.filter(pk=event.pk).update(disposition=Disposition.OUTSIDE_AGREEMENT)
    assert close() == 0
    assert {event.disposition for event in UsageEvent.objects.all()} == {Disposition.OUTSIDE_AGREEMENT}


def test_a_stale_agreement_object_does_not_decide_what_is_billed(catalog, acme):
    agreement = make_agreement(catalog, acme, activated_at=None)
    type(agreement).objects.filter(pk=agreement.pk).update(status="active", activated_at=BEGIN)
    assert agreement.activated_at is None
    event = usage.record(acme, "pages", 1, key="k", agreement=agreement, occurred_at=NOON, now=NOON)
    assert event.disposition == Disposition.BILLABLE


def test_open_usage_of_an_agreement_that_turns_out_never_active_is_said_to_be_outside(payg, caplog):
    event = use(payg, 3, at=NOON - HOUR)
    type(payg).objects.filter(pk=payg.pk).update(status="failed", activated_at=None)
    assert close() == 0
    event.refresh_from_db()
    assert event.disposition == Disposition.OUTSIDE_AGREEMENT
    assert "was never active" in caplog.text
    assert AuditEvent.objects.filter(action="usage_outside").count() == 1


# --- The end


def test_usage_that_comes_after_the_last_hour_was_flushed_is_closed_within_the_minute(catalog, acme):
    # Ended at 12:03: the next hourly run, at 13:05, would be past AWS's window.
    ended_at = NOON + timedelta(minutes=3)
    agreement = ending(catalog, acme, ended_at)
    late = ended_at + timedelta(minutes=20)
    use(agreement, 5, at=NOON + timedelta(minutes=1), now=late)
    assert metering.close_last_hours(region=REGION, now=late + timedelta(minutes=1)) == 1
    assert closed(agreement, "hour", "used", "submit_by") == [(NOON, 5, ended_at + HOUR)]
    assert metering.close_last_hours(region=REGION, now=late + timedelta(minutes=2)) == 0


def ending(catalog, acme, ended_at, *, closes_after=HOUR, **options):
    return make_agreement(catalog, acme, ended_at=ended_at, closes_at=ended_at + closes_after, **options)


ENDED = NOON + timedelta(minutes=20)


def test_at_the_end_finished_hours_close_at_once_and_the_last_when_it_has_settled(catalog, acme):
    agreement = ending(catalog, acme, ENDED)
    use(agreement, 1, at=NOON - timedelta(minutes=1))
    use(agreement, 2, at=NOON + timedelta(minutes=10))
    assert close(ENDED) == 1
    assert closed(agreement) == [(NOON - HOUR, 1)]
    use(agreement, 4, at=NOON + timedelta(minutes=12), now=ENDED + timedelta(minutes=5))
    assert close(ENDED + timedelta(minutes=9)) == 0
    assert close(ENDED + timedelta(minutes=10)) == 1
    assert closed(agreement, "hour", "used", "submit_by") == [
        (NOON - HOUR, 1, ENDED + HOUR),
        (NOON, 6, ENDED + HOUR),
    ]
    balance(agreement)


def test_the_last_hour_is_closed_while_it_still_runs(catalog, acme):
    agreement = ending(catalog, acme, ENDED)
    use(agreement, 2, at=ENDED - timedelta(seconds=1))
    assert close(ENDED + timedelta(minutes=10)) == 1
    assert closed(agreement) == [(NOON, 2)]


def test_when_the_end_is_heard_of_late_the_last_hour_is_closed_in_time(catalog, acme):
    agreement = ending(catalog, acme, ENDED, closes_after=timedelta(minutes=20))
    assert settled_at(agreement) == ENDED + timedelta(minutes=5)
    agreement.metering_closes_at = ENDED + timedelta(minutes=10)
    assert settled_at(agreement) == ENDED
    agreement.metering_closes_at = None
    assert settled_at(agreement) == ENDED + timedelta(minutes=10)


def test_usage_after_the_end_that_was_recorded_before_we_knew_is_in_the_last_hour(catalog, acme):
    agreement = make_agreement(catalog, acme)
    use(agreement, 1, at=ENDED - timedelta(minutes=1))
    after = use(agreement, 2, at=ENDED + timedelta(minutes=50))
    assert after.disposition == Disposition.BILLABLE
    type(agreement).objects.update(ended_at=ENDED, metering_closes_at=ENDED + 2 * HOUR, status="ending")
    assert close(ENDED + timedelta(minutes=55)) == 1
    assert closed(agreement) == [(NOON, 3)]
    balance(agreement)


def test_usage_recorded_after_the_end_for_a_time_after_it_is_outside(catalog, acme):
    agreement = ending(catalog, acme, ENDED)
    event = use(agreement, 2, at=ENDED, now=ENDED + timedelta(minutes=1))
    assert event.disposition == Disposition.OUTSIDE_AGREEMENT
    assert close(ENDED + timedelta(minutes=30)) == 0


def test_what_comes_after_the_last_hour_closed_takes_the_newest_free_hour(catalog, acme):
    agreement = ending(catalog, acme, ENDED)
    use(agreement, 1, at=NOON + timedelta(minutes=1))
    close(ENDED + timedelta(minutes=10))
    late = ENDED + timedelta(minutes=20)
    use(agreement, 2, at=NOON + timedelta(minutes=2), now=late)
    assert close(late) == 1
    assert closed(agreement) == [(NOON - HOUR, 2), (NOON, 1)]
    use(agreement, 3, at=NOON - timedelta(minutes=30), now=late)
    assert close(late) == 1
    assert closed(agreement)[0] == (NOON - 2 * HOUR, 3)
    balance(agreement)


def test_with_no_free_hour_left_in_the_license_usage_is_too_late_and_alarmed(catalog, acme, caplog):
    agreement = ending(catalog, acme, ENDED, activated_at=NOON + timedelta(minutes=1))
    use(agreement, 1, at=NOON + timedelta(minutes=2))
    close(ENDED + timedelta(minutes=10))
    late = ENDED + timedelta(minutes=20)
    event = use(agreement, 2, at=NOON + timedelta(minutes=3), now=late)
    assert close(late) == 0
    event.refresh_from_db()
    assert event.disposition == Disposition.TOO_LATE
    assert "1 uses came after its last hour" in caplog.text
    assert AuditEvent.objects.filter(action="usage_too_late", data={"events": 1}).count() == 1
    balance(agreement)


def test_when_awss_window_is_over_nothing_is_closed_into_it(catalog, acme):
    agreement = ending(catalog, acme, ENDED)
    event = use(agreement, 2, at=NOON + timedelta(minutes=3), now=ENDED)
    assert close(ENDED + HOUR) == 0
    event.refresh_from_db()
    assert event.disposition == Disposition.TOO_LATE
    assert not MeteringRecord.objects.exists()


def test_after_the_month_end_no_late_usage_goes_to_last_month(catalog, acme):
    ended_at = utc(2026, 12, 1, 5, 30)
    agreement = ending(catalog, acme, ended_at, activated_at=utc(2026, 11, 30, 22))
    for hour in range(6):
        use(agreement, 1, at=utc(2026, 12, 1, hour, 5), now=utc(2026, 12, 1, 5, 29))
    close(utc(2026, 12, 1, 6, 5))
    assert len(closed(agreement)) == 6
    use(agreement, 9, at=utc(2026, 12, 1, 1), now=utc(2026, 12, 1, 6, 6))
    assert close(utc(2026, 12, 1, 6, 7)) == 0
    assert UsageEvent.objects.get(quantity=9).disposition == Disposition.TOO_LATE


def test_deadlines_follow_the_end_when_it_is_set_moved_and_called_off(payg):
    record = make_record(payg, NOON - HOUR, next_attempt_at=NOON + 3 * HOUR, state=State.WAITING)
    settled = make_record(payg, NOON - 2 * HOUR, state=State.ACCEPTED)
    before = settled.submit_by
    for closes_at in (NOON + HOUR, NOON + 2 * HOUR, None):
        payg.metering_closes_at = closes_at
        recompute_deadlines(payg)
        record.refresh_from_db()
        settled.refresh_from_db()
        assert record.submit_by == (closes_at or NOON + 23 * HOUR)
        assert record.next_attempt_at is None
        assert settled.submit_by == before


# --- At once


@pytest.mark.postgresql  # SQLite lets one writer in at a time
@pytest.mark.django_db(transaction=True)
def test_a_use_is_either_cancelled_or_closed_never_both(catalog, acme):
    agreement = make_agreement(catalog, acme)
    for number in range(40):
        use(agreement, 1, key=f"race-{number}")
    cancelled, failures = [], []
    start = threading.Barrier(3)

    def cancel():
        try:
            start.wait()
            for number in range(40):
                try:
                    usage.cancel(acme, f"race-{number}", reason="race", now=NOW)
                    cancelled.append(number)
                except usage.AlreadyMetered:
                    pass
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    def closes():
        try:
            start.wait()
            close()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=target) for target in (cancel, closes, closes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    billed = sum(record.used for record in agreement.metering_records.all())
    assert billed == 40 - len(cancelled)
    assert agreement.metering_records.count() <= 1
    assert UsageEvent.objects.filter(disposition=Disposition.CANCELLED).count() == len(cancelled)
    balance(agreement)


@pytest.mark.postgresql  # SQLite lets one writer in at a time
@pytest.mark.django_db(transaction=True)
def test_recording_does_not_wait_for_a_closer(catalog, acme):
    agreement = make_agreement(catalog, acme)
    recorded, closing = threading.Event(), threading.Event()

    def record():
        closing.wait(timeout=10)
        use(agreement, 1, now=NOW)
        recorded.set()
        connection.close()

    thread = threading.Thread(target=record)
    thread.start()
    with transaction.atomic():
        customers.lock(agreement.pk)
        closing.set()
        assert recorded.wait(timeout=10)
    thread.join(timeout=10)
    assert UsageEvent.objects.open().count() == 1


@pytest.mark.postgresql  # SQLite lets one writer in at a time
@pytest.mark.django_db(transaction=True)
def test_two_closers_at_once_do_not_meter_an_hour_under_both_identities(catalog, acme, monkeypatch):
    legacy = make_agreement(catalog, acme, "reports-classic", account="123456789012")
    licensed = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", identity="license",
        license_arn=license_arn("both"), license_id=f"l-{'both':0>32}",
    )  # fmt: skip
    use(legacy, 1)
    use(licensed, 2)
    _close_at_once(monkeypatch, legacy, licensed)
    assert MeteringRecord.objects.get().hour == NOON - HOUR
    assert UsageEvent.objects.open().count() == 1


@pytest.mark.postgresql  # SQLite lets one writer in at a time
@pytest.mark.django_db(transaction=True)
def test_two_closers_at_once_do_not_meter_an_hour_twice_under_one_product_code(catalog, acme, monkeypatch):
    first, second = _bought_again(catalog, acme, ended_at=NOON - 58 * MINUTE)
    use(first, 1, at=NOON - HOUR)
    use(second, 2)
    _close_at_once(monkeypatch, first, second)
    # Who comes second takes another hour: the first purchase the one before, the second one the next.
    close(NOW + HOUR)
    hours = MeteringRecord.objects.values_list("hour", flat=True)
    assert (len(hours), len({*hours})) == (2, 2)
    assert not UsageEvent.objects.open().exists()


def _close_at_once(monkeypatch, *agreements):
    both_planned = threading.Barrier(2)

    def wait(point):
        if point == "closing.planned":
            try:
                both_planned.wait(timeout=2)  # the other may have to wait for our lock
            except threading.BrokenBarrierError:
                pass

    monkeypatch.setattr(crashpoints, "when_reached", wait)
    failures = []

    def closes(agreement):
        try:
            metering.close_agreement(agreement.pk, region=REGION, now=NOW)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=closes, args=[each]) for each in agreements]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []

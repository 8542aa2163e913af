"""People hear of usage that nears AWS's deadline, in time and once an hour."""

import logging
from datetime import timedelta

import pytest
from django.core import mail
from django.db.models.functions import Now

from billing import audit, deadlines
from billing.aws.window import HOUR
from billing.models import AuditEvent, Lease, MeteringRecord, UsageEvent
from tests.billing.ledger import NOON, make_agreement, make_record, use

NOW = NOON
State = MeteringRecord.State


@pytest.fixture
def record(catalog, acme):
    """Makes one that AWS takes for ``left`` more."""
    agreement = make_agreement(catalog, acme)
    hours = iter(range(1, 1000))

    def make(left, *, closed=HOUR, **fields):
        return make_record(
            agreement, NOON - next(hours) * HOUR, submit_by=NOW + left, closed_at=NOW - closed, **fields
        )

    return make


def an_hour_later():
    Lease.objects.update(expires_at=Now() - timedelta(seconds=1))


def alarms(caplog):
    return [
        (entry.levelno, entry.getMessage()) for entry in caplog.records if entry.name == deadlines.__name__
    ]


def test_four_hours_before_it_is_an_alert_and_one_hour_before_a_page(record, caplog):
    record(4 * HOUR + timedelta(seconds=1))
    assert deadlines.sound(now=NOW) == []
    soon = record(4 * HOUR)
    assert deadlines.sound(now=NOW) == ["alert"]
    urgent = record(HOUR, state=State.IN_DOUBT)
    assert deadlines.sound(now=NOW) == ["page"]
    (alert, told), (page, shouted) = alarms(caplog)
    assert (alert, page) == (logging.ERROR, logging.CRITICAL)
    assert "1 metering records are not settled and AWS refuses the first at 2026-11-23 16:00 UTC" in told
    assert told.endswith(f"First records: {soon.pk}")
    assert "(in_doubt: 1)" in shouted
    assert shouted.endswith(f"First records: {urgent.pk}")


def test_an_alarm_is_raised_once_an_hour_for_any_number_of_records(record, caplog):
    for _ in range(15):
        record(HOUR)
    assert [deadlines.sound(now=NOW) for _ in range(3)] == [["page"], [], []]
    an_hour_later()
    assert deadlines.sound(now=NOW + timedelta(minutes=30)) == ["page"]
    assert len(alarms(caplog)) == 2
    assert "15 metering records" in caplog.text


@pytest.mark.parametrize("state", [state for state in State if state not in MeteringRecord.UNSETTLED])
def test_what_is_settled_or_decided_alarms_nobody(record, state):
    record(HOUR, state=state)
    assert deadlines.sound(now=NOW) == []
    assert deadlines.health(NOW).unsettled == 0


@pytest.mark.parametrize("state", MeteringRecord.UNSETTLED)
def test_what_still_waits_for_anybody_alarms(record, state):
    record(HOUR, state=state)
    assert deadlines.sound(now=NOW) == ["page"]


def test_what_closed_just_now_is_on_its_way(record):
    record(timedelta(minutes=50), closed=timedelta(minutes=14))
    assert deadlines.sound(now=NOW) == []
    assert deadlines.sound(now=NOW + timedelta(minutes=1)) == ["page"]


def test_last_months_usage_alarms_before_the_months_end_grace_is_over(catalog, acme):
    first = NOON.replace(month=12, day=1, hour=0)
    agreement = make_agreement(catalog, acme)
    make_record(agreement, first - HOUR, closed_at=first)
    assert deadlines.sound(now=first + timedelta(hours=1, minutes=59)) == []
    assert deadlines.sound(now=first + 2 * HOUR) == ["alert"]
    assert deadlines.sound(now=first + 5 * HOUR) == ["page"]


def test_an_alarm_is_mailed_to_the_admins(record, settings):
    settings.ADMINS = [("Olga", "olga@seller.example")]
    record(HOUR)
    assert deadlines.sound(now=NOW) == ["page"]
    assert deadlines.sound(now=NOW) == []
    (message,) = mail.outbox
    assert message.to == ["olga@seller.example"]
    assert "Deadline page: 1 metering records" in message.subject


def test_health_tells_the_time_left_and_counts_each_record_at_its_loudest(record):
    assert deadlines.health(NOW) == deadlines.Health(None, None, 0, page=0, alert=0)
    for left in (timedelta(minutes=-1), HOUR, 2 * HOUR, 4 * HOUR, 9 * HOUR):
        record(left)
    health = deadlines.health(NOW)
    assert health.time_left == timedelta(minutes=-1)
    assert health.nearest == NOW - timedelta(minutes=1)
    assert (health.unsettled, health.page, health.alert) == (5, 2, 2)


def test_expiring_twice_tells_once(record, caplog):
    late = record(timedelta(0))
    for _ in range(2):
        deadlines.expire(now=NOW)
    late.refresh_from_db()
    assert (late.state, late.settled_at) == (State.EXPIRED, NOW)
    assert caplog.text.count(f"Metering record {late.pk} missed AWS's window") == 1
    assert [level for level, _ in alarms(caplog)] == [logging.WARNING, logging.CRITICAL]
    assert AuditEvent.objects.get(action="records_expired").data == {"records": [late.pk]}


def test_what_expires_of_many_agreements_takes_a_few_statements_and_one_mail(
    catalog, acme, caplog, django_assert_max_num_queries
):
    agreements = [make_agreement(catalog, acme) for _ in range(20)]
    for agreement in agreements:
        for back in (1, 2):
            make_record(agreement, NOON - back * HOUR, submit_by=NOW)
    spared = make_record(agreements[0], NOON - 3 * HOUR, submit_by=NOW + timedelta(seconds=1))
    with django_assert_max_num_queries(10):
        deadlines.expire(now=NOW)
    assert MeteringRecord.objects.filter(state=State.EXPIRED).count() == 40
    spared.refresh_from_db()
    assert spared.state == State.DUE
    assert AuditEvent.objects.filter(action="records_expired").count() == 20
    assert list(audit.verify()) == []
    assert [told for level, told in alarms(caplog) if level == logging.CRITICAL] == [
        "Expired: 40 metering records, which AWS will not bill any more"
    ]


@pytest.fixture
def buyer(catalog, acme):
    return make_agreement(catalog, acme)


def test_usage_that_nobody_closed_alarms_as_records_do(buyer, caplog):
    use(buyer, at=NOON - 19 * HOUR - timedelta(minutes=30))
    assert deadlines.sound(now=NOW - timedelta(seconds=1)) == []
    assert deadlines.sound(now=NOW) == ["alert of open usage"]
    assert deadlines.sound(now=NOW) == []
    an_hour_later()
    assert deadlines.sound(now=NOW + 3 * HOUR) == ["page of open usage"]
    assert "1 uses, the oldest of 2026-11-22 16:30 UTC, are in no metering record" in caplog.text


def test_late_usage_is_given_the_next_closing_before_it_alarms(buyer):
    use(buyer, at=NOON - 22 * HOUR, now=NOW - timedelta(minutes=74))
    assert deadlines.sound(now=NOW) == []
    assert deadlines.sound(now=NOW + timedelta(minutes=1)) != []


def test_open_usage_of_last_month_alarms_before_the_months_end_grace_is_over(buyer):
    first = NOON.replace(month=12, day=1, hour=0)
    use(buyer, at=first - timedelta(minutes=5))
    assert deadlines.sound(now=first + 2 * HOUR - timedelta(seconds=1)) == []
    assert deadlines.sound(now=first + 2 * HOUR) == ["alert of open usage"]
    assert deadlines.sound(now=first + 5 * HOUR) == ["page of open usage"]


def test_open_usage_of_an_ended_agreement_alarms_when_its_last_hour_was_not_closed(catalog, acme):
    ended = make_agreement(catalog, acme, ended_at=NOW, closes_at=NOW + HOUR)
    use(ended, at=NOW - timedelta(minutes=5))
    assert deadlines.sound(now=NOW + timedelta(minutes=14)) == []
    assert deadlines.sound(now=NOW + timedelta(minutes=15)) == ["page of open usage"]


def test_usage_in_a_record_or_not_billable_alarms_nobody(buyer):
    for disposition in ("too_late", "cancelled", "written_off"):
        event = use(buyer, at=NOON - 20 * HOUR)
        UsageEvent.objects.filter(pk=event.pk).update(disposition=disposition)
    closed = use(buyer, at=NOON - 20 * HOUR)
    record = make_record(buyer, NOON - 20 * HOUR, state=State.ACCEPTED)
    UsageEvent.objects.filter(pk=closed.pk).update(metering_record=record)
    assert deadlines.sound(now=NOW) == []

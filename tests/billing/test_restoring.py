"""After a restore the database is back in time and AWS is not. A transaction rolled back plays it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from billing import decisions, metering, reconciliation, restoring, submission
from billing.aws.window import HOUR
from billing.closing import records
from billing.models import AuditEvent, MeteringRecord, Submission, SubmissionLine, UsageEvent
from tests.billing.ledger import NOON, REGION, bought_agreement, make_agreement, make_record, use
from tests.journeys.crashes import assert_billed_once

MINUTE = timedelta(minutes=1)
NOW = NOON + 5 * MINUTE
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC)

State = MeteringRecord.State

pytestmark = pytest.mark.django_db


@pytest.fixture
def agreement(aws, catalog, acme):
    aws.control.freeze(NOW)
    return bought_agreement(aws, catalog, acme)


@contextmanager
def lost() -> Iterator[None]:
    """What is done meanwhile is not in the backup."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def close(now=NOW):
    return metering.close_hours(region=REGION, now=now)


def submit(aws, now=NOW):
    aws.control.freeze(now)
    return submission.submit_due(aws.marketplace, now=now)


@pytest.mark.parametrize("answer", ["Success", "DuplicateRecord"])
def test_a_record_that_was_sent_since_the_backup_is_billed_once(aws, agreement, answer):
    aws.control.switch(identical_repeat=answer)
    use(agreement, "2.5")
    close()
    with lost():
        assert submit(aws) == 1
    assert MeteringRecord.objects.get().state == State.DUE
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(records=1)
    assert MeteringRecord.objects.get().state == State.IN_DOUBT
    assert submit(aws) == 1
    assert_billed_once(aws)


def test_without_it_a_duplicate_would_be_a_conflict(aws, agreement):
    aws.control.switch(identical_repeat="DuplicateRecord")
    use(agreement, "2.5")
    close()
    with lost():
        submit(aws)
    submit(aws)
    assert MeteringRecord.objects.get().state == State.CONFLICT


def test_a_record_that_was_not_sent_is_billed_now(aws, agreement):
    use(agreement, "2.5")
    close()
    restoring.assume_sent(now=NOW)
    assert submit(aws) == 1
    assert_billed_once(aws)
    assert aws.billed() == "2.5"


@pytest.mark.parametrize(
    "state", ["due", "in_doubt", "waiting", "held", "parked", "expired", "accepted", "void"]
)
def test_what_is_unsettled_is_in_doubt_but_for_what_a_person_held(agreement, state):
    record = make_record(agreement, NOON - HOUR, state=state)
    restoring.assume_sent(now=NOW)
    record.refresh_from_db()
    became = {"due": "in_doubt", "waiting": "in_doubt"}.get(state, state)
    assert record.state == became
    assert SubmissionLine.objects.filter(record=record).exists() is (state in MeteringRecord.UNSETTLED)


def test_what_was_held_is_in_doubt_when_it_is_resumed_and_is_never_voided(agreement, operator):
    record = make_record(agreement, NOON - HOUR, state=State.HELD)
    restoring.assume_sent(now=NOW)
    decisions.resume([record], by=operator, reason="r", now=NOW)
    record.refresh_from_db()
    assert record.state == State.IN_DOUBT
    MeteringRecord.objects.update(state=State.EXPIRED)
    assert decisions.void([record], by=operator, reason="r", now=NOW).refused


def test_many_records_are_in_calls_of_at_most_twenty_five(agreement):
    for back in range(1, 60):
        make_record(agreement, NOON - back * HOUR, submit_by=NOON + HOUR)
    assert restoring.assume_sent(now=NOW).records == 59
    assert list(Submission.objects.order_by("pk").values_list("record_count", flat=True)) == [25, 25, 9]
    assert [each.text for each in reconciliation.verify() if each.kind == "state"] == []


def test_usage_since_the_backup_recorded_again_is_closed_in_its_own_hour_and_billed_once(aws, agreement):
    use(agreement, 2, key="before")
    with lost():
        use(agreement, 3, key="since")
        close()
        assert submit(aws) == 1
    use(agreement, 3, key="since", now=NOW)
    assert restoring.assume_sent(now=NOW).uses == 0
    close()
    submit(aws)
    assert_billed_once(aws)
    assert aws.billed() == "5"


def test_usage_that_nobody_has_any_more_was_billed_all_the_same_and_the_difference_is_an_alarm(
    aws, agreement
):
    use(agreement, 2, key="before")
    with lost():
        use(agreement, 3, key="since")
        close()
        submit(aws)
    restoring.assume_sent(now=NOW)
    close()
    submit(aws)
    assert MeteringRecord.objects.get().state == State.CONFLICT
    assert aws.billed() == "5"


@pytest.fixture
def late(aws, agreement):
    """An hour is in the backup; what came late for it was billed with the next hour, since."""
    use(agreement, 1, at=NOON - 3 * HOUR, key="in-time")
    close(NOON - 2 * HOUR + timedelta(minutes=5))
    submit(aws, NOON - 2 * HOUR + timedelta(minutes=5))
    with lost():
        use(agreement, 5, at=NOON - 30 * timedelta(minutes=1), key="own")
        use(agreement, 3, at=NOON - 3 * HOUR, now=NOW, key="late")
        close()
        submit(aws)
    assert aws.billed() == "9"
    aws.control.freeze(NOW + HOUR)
    use(agreement, 5, at=NOON - 30 * timedelta(minutes=1), now=NOW, key="own")
    use(agreement, 3, at=NOON - 3 * HOUR, now=NOW, key="late")
    return UsageEvent.objects.get(key="late")


def test_late_usage_that_may_have_been_billed_elsewhere_waits_for_a_person(aws, agreement, late, operator):
    assert restoring.assume_sent(now=NOW + HOUR).uses == 1
    late.refresh_from_db()
    assert late.disposition == "too_late"
    close(NOW + HOUR)
    submit(aws, NOW + HOUR)
    assert aws.billed() == "9"
    decisions.write_off_usage([late], by=operator, reason="AWS's report has it", now=NOW + HOUR)
    assert list(reconciliation.verify()) == []


def test_late_usage_that_was_not_billed_is_billed_once_a_person_says_so(aws, agreement, operator):
    use(agreement, 1, at=NOON - 3 * HOUR, key="in-time")
    close(NOON - 2 * HOUR + timedelta(minutes=5))
    submit(aws, NOON - 2 * HOUR + timedelta(minutes=5))
    event = use(agreement, 3, at=NOON - 3 * HOUR, now=NOW, key="late")
    assert restoring.assume_sent(now=NOW).uses == 1
    decisions.bill_late_usage([event], by=operator, reason="AWS's report has it not", now=NOW)
    close()
    submit(aws)
    assert aws.billed() == "4"
    assert_billed_once(aws)


@pytest.mark.parametrize(("is_assumed", "billed"), [(False, "6"), (True, "3")])
def test_after_a_long_outage_usage_would_be_billed_twice_without_it(aws, agreement, is_assumed, billed):
    use(agreement, 3, at=NOON - 3 * HOUR)
    with lost():
        close(NOON - 2 * HOUR + timedelta(minutes=5))
        submit(aws, NOON - 2 * HOUR + timedelta(minutes=5))
    later = NOON + timedelta(hours=21)  # AWS hardly takes its own hour any more
    if is_assumed:
        restoring.assume_sent(now=later)
    close(later)
    submit(aws, later)
    assert aws.billed() == billed


# Hours of AWS's window between step 6 and the next closing, and the month's end.
@pytest.mark.parametrize(
    ("used_at", "resumed_at", "closed_at"),
    [
        (NOON - 3 * HOUR, NOON + 19.5 * HOUR, NOON + 20 * HOUR + 5 * MINUTE),
        (MONTH_END - 3 * HOUR, MONTH_END + 4.5 * HOUR, MONTH_END + 5 * HOUR + 5 * MINUTE),
    ],
)
def test_what_aws_may_have_billed_does_not_move_when_the_next_closing_comes_too_late_for_its_hour(
    aws, catalog, acme, used_at, resumed_at, closed_at
):
    billed_at = used_at + HOUR + 5 * MINUTE
    aws.control.freeze(billed_at)
    agreement = bought_agreement(aws, catalog, acme)
    use(agreement, 3, at=used_at)
    with lost():
        close(billed_at)
        submit(aws, billed_at)
    assert restoring.assume_sent(now=resumed_at) == restoring.Assumed(hours=1)
    assert MeteringRecord.objects.get().hour == used_at
    close(closed_at)
    submit(aws, closed_at)
    assert_billed_once(aws)
    assert aws.billed() == "3"


def test_the_hour_under_way_is_closed_when_it_is_over(agreement):
    use(agreement, 3, at=NOON - MINUTE)
    use(agreement, 2, at=NOON + MINUTE)
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(hours=1)
    assert UsageEvent.objects.open().get().quantity == 2
    assert close(NOW + HOUR) == 1


@pytest.mark.parametrize(
    "missing", [{"entitlements_read_at": None}, {"license_arn": None, "license_id": "l-7"}], ids=str
)
def test_usage_that_cannot_be_closed_yet_waits_for_a_person(catalog, acme, missing):
    """Its hour may be closed too late to be its own."""
    agreement = make_agreement(catalog, acme, "reports-flex", **missing)
    event = use(agreement, 3)
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(uses=1)
    event.refresh_from_db()
    assert event.disposition == "too_late"
    assert not MeteringRecord.objects.exists()


def test_what_exceeds_the_most_of_one_record_waits_for_a_person(agreement):
    """The rest would take another hour."""
    for _ in range(2):
        use(agreement, "9999999999")
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(hours=1, uses=1)
    assert MeteringRecord.objects.get().quantity == 9999999999


def test_usage_about_to_be_taken_back_in_is_closed_too(agreement):
    """Recorded as outside before we heard when the agreement began: the next closing would take it in."""
    use(agreement, 3, at=NOON - 3 * HOUR)
    UsageEvent.objects.update(disposition="outside_agreement")
    assert restoring.assume_sent(now=NOON + 19.5 * HOUR).hours == 1
    assert MeteringRecord.objects.get().hour == NOON - 3 * HOUR


def test_the_last_hour_of_what_is_over_need_not_settle(agreement):
    """Nothing from before the stop comes any more, and the next closing may be too late."""
    use(agreement, 3, at=NOON - 10 * MINUTE)
    type(agreement).objects.update(
        status="ending", ended_at=NOON - 2 * MINUTE, metering_closes_at=NOON + 58 * MINUTE
    )
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(hours=1)


def test_an_agreement_whose_closing_fails_keeps_no_other_from_it(agreement, catalog, acme, monkeypatch):
    other = make_agreement(catalog, acme)
    use(agreement, 3)
    use(other, 2)

    def fails(subject, *arguments, **options):
        if subject == agreement:
            raise ArithmeticError
        return freeze(subject, *arguments, **options)

    freeze = records.freeze
    monkeypatch.setattr(records, "freeze", fails)
    assert restoring.assume_sent(now=NOW) == restoring.Assumed(hours=1, uses=1)
    assert UsageEvent.objects.get(agreement=agreement).disposition == "too_late"


def test_an_hour_closed_by_it_is_not_in_doubt_though_it_runs_twice(aws, agreement):
    """Its record is not that of the first time: a duplicate of another quantity stays an alarm."""
    use(agreement, 2, key="before")
    with lost():
        use(agreement, 3, key="since")
        close()
        submit(aws)
    restoring.assume_sent(now=NOW)
    assert restoring.assume_sent(now=NOW) == restoring.Assumed()
    submit(aws)
    assert MeteringRecord.objects.get().state == State.CONFLICT
    assert [each.text for each in reconciliation.verify() if each.kind == "state"] == []


def test_usage_older_than_aws_takes_waits_for_a_person_too(aws, agreement):
    use(agreement, 3, at=NOON - 3 * HOUR)
    later = NOON + timedelta(hours=21)
    aws.control.freeze(later)
    assert restoring.assume_sent(now=later).uses == 1
    assert UsageEvent.objects.get().disposition == "too_late"


def test_usage_of_a_purchase_that_is_not_active_yet_is_left_alone(agreement):
    event = use(agreement, 3)
    UsageEvent.objects.update(disposition="outside_agreement")
    type(agreement).objects.update(status="pending", activated_at=None)
    assert restoring.assume_sent(now=NOW).uses == 0
    event.refresh_from_db()
    assert event.disposition == "outside_agreement"


def test_usage_after_an_end_is_of_the_last_hour(aws, agreement):
    use(agreement, 3, at=NOON - timedelta(minutes=10))
    ended_at = NOON - timedelta(minutes=70)
    type(agreement).objects.update(status="ending", ended_at=ended_at, metering_closes_at=NOON + HOUR)
    assert restoring.assume_sent(now=NOW).uses == 0


def test_again_it_changes_nothing(aws, agreement, late):
    make_record(agreement, NOON - 5 * HOUR)
    first = restoring.assume_sent(now=NOW)
    assert (first.records, first.uses) == (1, 1)
    again = restoring.assume_sent(now=NOW)
    assert (again.records, again.uses) == (0, 0)
    assert AuditEvent.objects.filter(action="usage_set_aside").count() == 1
    assert AuditEvent.objects.filter(action="ledger_restored").count() == 2


def test_the_command_wants_to_hear_that_everything_is_stopped(agreement, capsys):
    make_record(agreement, NOON - HOUR, state=State.PARKED)
    make_record(agreement, NOON - 2 * HOUR)
    use(agreement, 3)
    UsageEvent.objects.update(disposition="too_late")
    with pytest.raises(CommandError, match="Stop every worker"):
        call_command("resume_after_restore")
    assert not Submission.objects.exists()
    call_command("resume_after_restore", "--everything-is-stopped")
    told = capsys.readouterr().out
    assert "1 records are in doubt" in told
    assert "0 uses came too late" in told
    assert "1 records are parked" in told
    assert "1 uses were too late already" in told

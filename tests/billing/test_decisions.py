"""Operators' decisions: each changes what it may, says why not of the rest, and leaves a trace."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing import audit, customers, decisions, metering, reconciliation, submission
from billing.aws.errors import error_for
from billing.aws.window import HOUR
from billing.models import AuditEvent, MeteringRecord, UsageEvent
from tests.billing.ledger import (
    NOON,
    REGION,
    ScriptedAws,
    entitle,
    make_agreement,
    make_record,
    says,
    use,
)

NOW = NOON + timedelta(minutes=5)
LATER = NOW + timedelta(minutes=20)
REFUSED = error_for("InvalidTagException", "no")
NO_ANSWER = error_for("InternalServiceErrorException", "sorry", status=500)
STATES = [state.value for state in MeteringRecord.State]


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def decide(acme_admin):
    def make(name, rows, *, now=LATER):
        rows = list(rows) if not hasattr(rows, "pk") else [rows]
        return getattr(decisions, name)(rows, by=acme_admin, reason="asked by finance", now=now)

    return make


def settle(*answers, now=NOW):
    metering.close_hours(region=REGION, now=now)
    return submission.submit_due(ScriptedAws(*answers), now=now)


def state_of(record):
    record.refresh_from_db()
    return record.state


def parked(agreement, *answers):
    use(agreement, 5)
    settle(*answers, REFUSED)
    return MeteringRecord.objects.get()


def clean():
    return [breach.text for breach in reconciliation.verify()] == []


# --- Which state may become which

ALLOWED = {
    "retry": {"parked": "due"},
    "hold": {"due": "held", "waiting": "held"},
    "resume": {"held": "due"},
    "write_off": dict.fromkeys(["parked", "expired", "conflict", "held", "waiting"], "written_off"),
    "void": {"parked": "void", "expired": "void"},
}
UNCHANGED = {
    "retry": {"due", "waiting"},
    "hold": {"held"},
    "resume": {"due", "waiting"},
    "write_off": {"written_off"},
    "void": {"void"},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", list(ALLOWED))
def test_each_decision_changes_the_states_it_may_and_no_other(payg, decide, name, state):
    record = make_record(payg, NOON - HOUR, 0, state=state)
    decided = decide(name, record)
    if state in ALLOWED[name]:
        assert decided.done == [record.pk]
        assert state_of(record) == ALLOWED[name][state]
        link = AuditEvent.objects.get(stream=payg.audit_stream)
        assert link.data == {"reason": "asked by finance", "records": [record.pk]}
        assert link.actor.startswith("user:")
        return
    assert state_of(record) == state
    assert not AuditEvent.objects.filter(stream=payg.audit_stream).exists()
    assert decided.unchanged == ([record.pk] if state in UNCHANGED[name] else [])
    assert list(decided.refused) == ([] if state in UNCHANGED[name] else [record.pk])


@pytest.mark.parametrize("name", [*ALLOWED, "write_off_usage", "bill_late_usage"])
@pytest.mark.parametrize("reason", ["", " \n"])
def test_a_decision_needs_a_reason(payg, acme_admin, name, reason):
    with pytest.raises(decisions.DecisionRefused, match="Say why"):
        getattr(decisions, name)([], by=acme_admin, reason=reason, now=NOW)


@pytest.mark.parametrize("name", list(ALLOWED))
def test_deciding_twice_is_deciding_once(payg, decide, name):
    record = make_record(payg, NOON - HOUR, 0, state=next(iter(ALLOWED[name])))
    assert decide(name, record).done
    again = decide(name, record)
    assert (again.done, again.unchanged, again.refused) == ([], [record.pk], {})
    assert AuditEvent.objects.filter(stream=payg.audit_stream).count() == 1


def test_one_bad_row_does_not_fail_the_others_and_each_agreement_has_its_link(catalog, acme, decide):
    agreements = [make_agreement(catalog, acme) for _ in range(2)]
    rows = [
        make_record(agreement, NOON - number * HOUR, 0, state=state)
        for agreement in agreements
        for number, state in enumerate(["parked", "accepted", "parked"], 1)
    ]
    decided = decide("retry", rows)
    assert decided.done == [rows[0].pk, rows[2].pk, rows[3].pk, rows[5].pk]
    assert "refund" in decided.refused[rows[1].pk]
    links = AuditEvent.objects.filter(action="records_retried").order_by("pk")
    assert [(link.stream, link.data["records"]) for link in links] == [
        (agreements[0].audit_stream, [rows[0].pk, rows[2].pk]),
        (agreements[1].audit_stream, [rows[3].pk, rows[5].pk]),
    ]
    assert list(audit.verify()) == []


# --- What becomes of them


def test_a_parked_record_is_sent_again_byte_for_byte(payg, decide):
    record = parked(payg)
    assert decide("retry", record).done == [record.pk]
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=LATER) == 1
    assert state_of(record) == "accepted"
    assert record.error_code == ""
    assert clean()


def test_a_parked_record_whose_first_send_was_never_answered_is_in_doubt_again(payg, decide):
    use(payg, 5)
    settle(NO_ANSWER)
    record = MeteringRecord.objects.get()
    submission.submit_due(ScriptedAws(REFUSED), now=LATER)
    assert state_of(record) == "parked"
    assert "AWS may hold it" in decide("void", record).refused[record.pk]
    assert decide("retry", record).done
    assert state_of(record) == "in_doubt"
    assert clean()
    duplicate = ScriptedAws(lambda lines: says("DuplicateRecord", lines))
    assert submission.submit_due(duplicate, now=LATER) == 1
    assert clean()


@pytest.mark.parametrize("closes_at", [None, LATER - timedelta(minutes=1)])
def test_a_parked_record_whose_window_is_over_is_refused(catalog, acme, decide, closes_at):
    agreement = make_agreement(catalog, acme, closes_at=closes_at)
    hour = NOON - HOUR if closes_at else NOON - 25 * HOUR
    record = make_record(agreement, hour, 5, state="parked", submit_by=NOW)
    assert "Void it" in decide("retry", record).refused[record.pk]
    assert state_of(record) == "parked"


def test_a_retried_record_has_the_deadline_that_aws_has_now(payg, decide):
    record = parked(payg)
    payg.metering_closes_at = LATER + timedelta(minutes=30)
    payg.save()
    decide("retry", record)
    record.refresh_from_db()
    assert record.submit_by == payg.metering_closes_at


def test_a_held_record_is_not_sent_until_it_is_resumed(payg, decide):
    record = make_record(payg, NOON - HOUR, 5)
    decide("hold", record)
    assert submission.submit_due(ScriptedAws(), now=LATER) == 0
    decide("resume", record)
    assert submission.submit_due(ScriptedAws(), now=LATER) == 1


def test_a_record_resumed_after_its_window_expires(payg, decide):
    record = make_record(payg, NOON - HOUR, 5, state="held")
    decide("resume", record, now=NOON + timedelta(days=2))
    submission.submit_due(ScriptedAws(), now=NOON + timedelta(days=2))
    assert state_of(record) == "expired"


def test_a_voided_records_usage_is_too_late_and_its_allowance_free_again(catalog, acme, decide):
    flex = make_agreement(catalog, acme, "reports-flex")
    entitle(flex, 100)
    use(flex, 130)
    settle(REFUSED)
    record = MeteringRecord.objects.get()
    assert decide("void", record).done == [record.pk]
    event = UsageEvent.objects.get()
    assert (event.disposition, event.metering_record_id) == ("too_late", None)
    assert clean()
    assert decide("bill_late_usage", event).done == [event.pk]
    settle(now=NOW + HOUR)
    billed = MeteringRecord.objects.get(state="accepted")
    assert (billed.hour, billed.included, billed.quantity) == (NOON, 100, 30)
    assert clean()


def test_usage_that_came_too_late_is_billed_with_the_next_hour(payg, decide):
    event = use(payg, 7, at=NOON - 40 * HOUR, now=NOW)
    assert event.disposition == "too_late"
    assert decide("bill_late_usage", event).done == [event.pk]
    assert decide("bill_late_usage", event).unchanged == [event.pk]
    settle(now=LATER)
    event.refresh_from_db()
    assert event.metering_record.state == "accepted"
    assert decide("write_off_usage", event).refused
    assert clean()


def test_usage_written_off_stays_so(payg, decide):
    event = use(payg, 7, at=NOON - 40 * HOUR, now=NOW)
    assert decide("write_off_usage", event).done == [event.pk]
    assert decide("bill_late_usage", event).refused
    assert settle(now=LATER) == 0
    assert clean()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "ended"}, "over"),
        ({"status": "ending", "closes_at": LATER}, "over"),
        ({"license_arn": None}, "ARN"),
    ],
)
def test_late_usage_that_aws_takes_nothing_of_is_not_billed(payg, catalog, acme, decide, fields, words):
    agreement = make_agreement(catalog, acme, **fields)
    event = UsageEvent.objects.create(
        organization=acme,
        agreement=agreement,
        dimension=agreement.product.dimensions.get(key="pages"),
        quantity=3,
        occurred_at=NOON - 40 * HOUR,
        key="late",
        disposition="too_late",
    )
    assert words in decide("bill_late_usage", event).refused[event.pk]
    assert decide("write_off_usage", event).done == [event.pk]


# --- Beside others


@pytest.mark.parametrize("name", list(ALLOWED))
def test_what_is_being_sent_at_this_moment_is_refused(payg, decide, name):
    record = make_record(payg, NOON - HOUR, 5)
    seen = []

    def meanwhile(lines):
        seen.append(record.pk)
        return says("Success", lines)

    MeteringRecord.objects.update(state="in_doubt")
    assert "AWS has not answered" in decide(name, record).refused[record.pk]
    submission.submit_due(ScriptedAws(meanwhile), now=LATER)
    assert seen
    assert state_of(record) == "accepted"


@pytest.mark.django_db(transaction=True)
def test_of_decisions_made_at_once_each_record_gets_one(catalog, acme, acme_admin):
    agreement = make_agreement(catalog, acme)
    rows = [make_record(agreement, NOON - number * HOUR, 0, state="parked") for number in range(1, 9)]
    names = ["retry", "void", "write_off", "retry"]
    start, failures, decided = threading.Barrier(len(names)), [], []

    def run(name):
        try:
            start.wait()
            decided.append(getattr(decisions, name)(rows, by=acme_admin, reason="race", now=LATER))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert sorted(pk for each in decided for pk in each.done) == [row.pk for row in rows]
    assert len(set(MeteringRecord.objects.values_list("state", flat=True))) == 1
    assert list(audit.verify()) == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_decision_waits_for_the_agreements_lock(catalog, acme, acme_admin):
    agreement = make_agreement(catalog, acme)
    record = make_record(agreement, NOON - HOUR, 0, state="parked")
    done = threading.Event()

    def run():
        decisions.void([record], by=acme_admin, reason="race", now=LATER)
        done.set()
        connection.close()

    with transaction.atomic():
        customers.lock(agreement.pk)
        thread = threading.Thread(target=run)
        thread.start()
        assert not done.wait(0.5)
        MeteringRecord.objects.filter(pk=record.pk).update(state="due")
    thread.join(timeout=30)
    assert state_of(record) == "due"


# --- Held by the database


@pytest.mark.parametrize("state", ["void", "written_off"])
def test_what_was_given_up_never_comes_back(payg, state):
    record = make_record(payg, NOON - HOUR, 0, state=state)
    with (
        pytest.raises(IntegrityError, match="metering_record_given_up_is_final"),
        transaction.atomic(),
    ):
        MeteringRecord.objects.filter(pk=record.pk).update(state="due")


@pytest.mark.parametrize("state", ["void", "written_off", "held"])
def test_what_is_in_doubt_is_not_given_up(payg, state):
    record = make_record(payg, NOON - HOUR, 0, state="in_doubt")
    with (
        pytest.raises(IntegrityError, match="metering_record_in_doubt_is_not_given_up"),
        transaction.atomic(),
    ):
        MeteringRecord.objects.filter(pk=record.pk).update(state=state)

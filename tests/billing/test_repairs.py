"""How a repair that somebody confirmed is carried out: once, whoever is at it, and as far as it goes."""

from datetime import timedelta

import pytest

from billing import decisions, submission
from billing.aws.window import HOUR
from billing.models import MeteringRecord, OperatorTask, UsageEvent
from billing.models.operator_tasks import PERMISSIONS
from billing.repairs import running
from billing.repairs.known import REPAIRS
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, ScriptedAws, granted, make_agreement, make_record
from tests.billing.repairing import REASON, in_group, trail

NOW = NOON + timedelta(minutes=5)


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def bob(make_user):
    return in_group(make_user, "Owner")


@pytest.fixture
def ask(bob):
    def make(name, rows=(), *, nonce="n1", by=None, now=NOW, **parameters):
        repair = REPAIRS[name]
        return running.ask(
            repair,
            nonce=nonce,
            rows={row.pk: repair.seen(row) for row in rows},
            parameters=parameters,
            by=by or bob,
            reason=REASON,
            now=now,
        )

    return make


def run(task, *, aws=None, now=NOW):
    running.run(task.pk, lambda: aws or ScriptedAws(), now=now)
    task.refresh_from_db()
    return task


def parked(agreement, count):
    return [make_record(agreement, NOON - n * HOUR, 1, state="parked") for n in range(1, count + 1)]


def counts(task):
    return task.state, task.done, task.unchanged, task.refused


def test_the_same_page_pressed_twice_is_one_repair(payg, ask):
    rows = parked(payg, 2)
    first, second = ask("retry", rows), ask("retry", rows)
    assert first.pk == second.pk
    assert counts(run(first)) == ("done", 2, 0, 0)
    assert counts(run(second)) == ("done", 2, 0, 0)
    assert [action for _, action, _ in trail(payg)] == ["records_retried"]


def test_it_goes_on_where_a_dead_worker_left_it(payg, ask, monkeypatch):
    rows = parked(payg, 5)
    task = ask("void", rows)
    monkeypatch.setattr(REPAIRS["void"].__class__, "chunk", 2)
    done, carry_out = [], REPAIRS["void"].carry_out

    def die_at_the_second(self, chunk):
        if done:
            raise SystemExit
        done.append(chunk)
        return carry_out(chunk)

    with monkeypatch.context() as dying:
        dying.setattr(REPAIRS["void"].__class__, "carry_out", die_at_the_second)
        with pytest.raises(SystemExit):
            run(task)
    task.refresh_from_db()
    assert (task.state, task.position, task.done) == ("running", 2, 2)

    assert counts(run(task, now=NOW + timedelta(minutes=1)))[0] == "running", "Its runner may be alive."
    assert counts(run(task, now=NOW + timedelta(minutes=6))) == ("done", 5, 0, 0)
    assert MeteringRecord.objects.filter(state="void").count() == 5


def test_a_runner_that_was_overtaken_stops_and_writes_nothing(payg, ask, monkeypatch):
    task = ask("void", parked(payg, 4))
    monkeypatch.setattr(REPAIRS["void"].__class__, "chunk", 1)
    carry_out, calls = REPAIRS["void"].carry_out, []

    def overtaken(self, chunk):
        calls.append(chunk)
        OperatorTask.objects.filter(pk=task.pk).update(run=task.run + 7)
        return carry_out(chunk)

    monkeypatch.setattr(REPAIRS["void"].__class__, "carry_out", overtaken)
    run(task)
    assert len(calls) == 1
    assert (task.position, task.done) == (0, 0)


def test_a_failure_is_tried_again_and_given_up_in_the_end(payg, ask, monkeypatch):
    task = ask("void", parked(payg, 1))

    def fail(self, chunk):
        raise RuntimeError("secret words of a driver")

    monkeypatch.setattr(REPAIRS["void"].__class__, "carry_out", fail)
    states = [run(task, now=NOW + n * timedelta(minutes=2)).state for n in range(3)]
    assert states == ["waiting", "waiting", "failed"]
    assert "secret" not in task.error
    assert task.finished_at is not None


def test_who_may_not_any_more_has_nothing_done(payg, ask, bob):
    rows = parked(payg, 1)
    for number, change in enumerate(
        (
            lambda: bob.groups.clear(),
            lambda: type(bob).objects.filter(pk=bob.pk).update(is_staff=False),
            lambda: type(bob).objects.filter(pk=bob.pk).update(is_staff=True, is_active=False),
        )
    ):
        task = ask("void", rows, nonce=f"n{number}")
        change()
        assert counts(run(task)) == ("failed", 0, 0, 0)
        assert "may not" in task.error
    assert MeteringRecord.objects.get().state == "parked"


def test_a_row_that_is_not_what_was_seen_is_refused(payg, ask):
    record = make_record(payg, NOON - HOUR, 1, state="parked")
    task = ask("write_off", [record])
    MeteringRecord.objects.update(state="waiting")
    assert counts(run(task)) == ("done", 0, 0, 1)
    assert task.refusals == [
        [
            record.pk,
            "It has changed since you looked at it: it was “Parked (AWS refuses it)” and is “Waiting (not "
            "subscribed yet)” now. Look at it again.",
        ]
    ]
    assert MeteringRecord.objects.get().state == "waiting"


def test_what_was_retried_after_the_window_is_refused(payg, ask):
    record = make_record(payg, NOON - 23 * HOUR, 1, state="parked")
    task = ask("retry", [record])
    assert counts(run(task, now=NOW + 3 * HOUR)) == ("done", 0, 0, 1)
    assert "Void it" in task.refusals[0][1]


def test_usage_that_somebody_wrote_off_meanwhile_is_not_billed(payg, ask, acme, acme_admin):
    event = UsageEvent.objects.create(
        organization=acme,
        agreement=payg,
        dimension=payg.product.dimensions.get(key="pages"),
        quantity=3,
        occurred_at=NOON - 40 * HOUR,
        key="late",
        disposition="too_late",
    )
    task = ask("bill_late_usage", [event])
    decisions.write_off_usage([event], by=acme_admin, reason="given up", now=NOW)
    assert counts(run(task)) == ("done", 0, 0, 1)
    event.refresh_from_db()
    assert event.disposition == "written_off"


def test_entitlements_are_read_one_by_one_and_aws_trouble_is_told(catalog, acme, ask, bob):
    team, payg = make_agreement(catalog, acme, "reports-team"), make_agreement(catalog, acme)
    aws = ScriptedAws(
        entitlements=[[granted("seats", 7, license_arn=team.license_arn)]],
    )
    task = run(ask("sync_entitlements", [team, payg]), aws=aws)
    assert counts(task) == ("done", 1, 0, 1)
    assert "subscription" in task.refusals[0][1]
    assert team.entitlements.get().value == 7
    assert trail(team)[0] == (f"user:{bob.pk}", "entitlements_synced", {"reason": REASON})


def test_everything_due_is_sent_now(payg, ask):
    make_record(payg, NOON - HOUR, 5)
    task = run(ask("submit_now"))
    assert counts(task) == ("done", 0, 0, 0)
    assert task.outcome.startswith("AWS accepted 1 record.")
    assert MeteringRecord.objects.get().state == "accepted"


def test_a_walk_that_cannot_be_true_says_so(catalog, acme, ask):
    team = make_agreement(catalog, acme, "reports-team")
    for key in ("seats", "reports"):
        team.entitlements.create(dimension_key=key, integer_value=1, valid_from=NOON - HOUR)
    task = run(ask("walk_product", [catalog["reports-team"], catalog["reports-payg"]]))
    assert counts(task) == ("done", 0, 0, 2)
    assert {why.split(":")[0] for _, why in task.refusals} == {
        "AWS lists so few entitlements that it cannot be true",
        "It is a subscription",
    }


def test_what_nobody_has_in_hand_is_picked_up_by_the_schedule(payg, ask):
    tasks = [ask("void", [row], nonce=f"n{row.pk}") for row in parked(payg, 2)]
    running.run_due(lambda: ScriptedAws(), now=NOW)
    for task in tasks:
        task.refresh_from_db()
        assert counts(task) == ("done", 1, 0, 0)


def test_a_repair_of_another_version_is_left_alone(payg, ask):
    task = ask("void", parked(payg, 1))
    OperatorTask.objects.update(kind="no_longer_known")
    running.run_due(lambda: ScriptedAws(), now=NOW)
    task.refresh_from_db()
    assert task.state == "waiting"


def test_thousands_are_worked_on_in_few_statements(payg, ask, django_assert_max_num_queries):
    rows = [make_record(payg, NOON - n * HOUR, 1, state="expired") for n in range(1, running.SHORT + 2)]
    assert not running.is_short(REPAIRS["void"], len(rows))
    with django_assert_max_num_queries(len(rows) + 80):  # each row changes on the condition of its state
        assert counts(run(ask("void", rows))) == ("done", len(rows), 0, 0)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_run_it_at_once_one_does(payg, ask):
    task = ask("void", parked(payg, 6))
    at_once(*(lambda: running.run(task.pk, ScriptedAws, now=NOW) for _ in range(4)))
    task.refresh_from_db()
    assert counts(task) == ("done", 6, 0, 0)
    assert [action for _, action, _ in trail(payg)] == ["records_voided"]


@pytest.mark.django_db(transaction=True)
def test_two_operators_who_decide_at_once_each_hear_what_became_of_it(payg, ask, make_user):
    rows = parked(payg, 6)
    other = in_group(make_user, "Billing operator")
    tasks = [ask("void", rows, nonce="a"), ask("write_off", rows, nonce="b", by=other)]
    at_once(*(lambda task=task: running.run(task.pk, ScriptedAws, now=NOW) for task in tasks))
    for task in tasks:
        task.refresh_from_db()
    assert sum(task.done for task in tasks) == sum(task.refused for task in tasks) == 6
    assert len(set(MeteringRecord.objects.values_list("state", flat=True))) == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_void_beside_the_submitter_never_takes_back_what_is_sent(payg, ask):
    rows = [make_record(payg, NOON - n * HOUR, 1) for n in range(1, 6)]
    task = ask("hold", rows)
    at_once(
        lambda: submission.submit_due(ScriptedAws(), now=NOW),
        lambda: running.run(task.pk, ScriptedAws, now=NOW),
    )
    task.refresh_from_db()
    states = list(MeteringRecord.objects.values_list("state", flat=True))
    assert set(states) <= {"accepted", "held"}
    assert states.count("held") == task.done


@pytest.mark.django_db
def test_every_permission_of_a_repair_exists():
    assert {repair.permission for repair in REPAIRS.values()} <= {codename for codename, _ in PERMISSIONS}

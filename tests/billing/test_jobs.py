"""Each scheduled job notes its runs: when, how, and when it is due again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as project_settings
from django.db import DatabaseError

from billing import jobs, tasks
from billing.admin.health import jobs as health
from billing.aws.errors import MarketplaceError
from billing.models import JobRun

NOON = datetime(2026, 11, 3, 12, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def ran(name="run_effects", *, at=NOON, error=None):
    jobs.begin(name, now=at)
    jobs.end(name, now=at + MINUTE / 2, error=error)
    return JobRun.objects.get(name=name)


def test_every_task_of_the_schedule_notes_its_runs():
    for entry in project_settings.CELERY_BEAT_SCHEDULE.values():
        name = entry["task"].rpartition(".")[2]
        task = getattr(tasks, name).run
        assert task.__wrapped__.__name__ == name, f"{name} is not noted"


def test_a_run_is_noted_from_its_begin_to_its_end():
    jobs.begin("run_effects", now=NOON)
    run = JobRun.objects.get()
    assert (run.started_at, run.due_at, run.is_running) == (NOON, NOON + MINUTE, True)
    jobs.end("run_effects", now=NOON + MINUTE / 2, error=None)
    run.refresh_from_db()
    assert (run.outcome, run.finished_at, run.is_running) == ("ok", NOON + MINUTE / 2, False)


def test_a_job_at_five_past_is_due_at_five_past():
    assert jobs.next_run("close_hours", after=NOON) == NOON.replace(hour=13, minute=5)
    assert jobs.next_run("close_hours", after=NOON.replace(minute=4)) == NOON.replace(minute=5)
    assert jobs.next_run("something_else", after=NOON) is None


def test_failures_are_counted_until_it_goes_well_again():
    for number in range(3):
        run = ran(at=NOON + number * MINUTE, error=ValueError("Ada's secret"))
    assert (run.failed_in_a_row, run.error, run.succeeded_at) == (3, "ValueError", None)
    run = ran(at=NOON + 5 * MINUTE)
    assert (run.failed_in_a_row, run.error, run.outcome) == (0, "", "ok")


def test_of_aws_refusals_the_code_is_told_and_never_the_message():
    run = ran(error=MarketplaceError("AccessDeniedException", "arn:aws:iam::1:user/ada may not"))
    assert run.error == "AccessDeniedException"


def test_a_job_that_raises_is_noted_and_raises():
    @jobs.noted
    def run_effects() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_effects()
    run = JobRun.objects.get()
    assert (run.outcome, run.error, run.is_running) == ("failed", "KeyError", False)


def test_a_job_that_goes_on_after_an_error_has_failed_all_the_same():
    @jobs.noted
    def poll_events() -> None:
        jobs.went_past(MarketplaceError("Unreachable"))

    poll_events()
    assert JobRun.objects.get().error == "Unreachable"


def test_an_error_outside_a_job_is_nobodys():
    jobs.went_past(ValueError())
    assert not JobRun.objects.exists()


def test_a_job_within_another_answers_for_itself():
    @jobs.noted
    def run_effects() -> None:
        jobs.went_past(MarketplaceError("Unreachable"))

    @jobs.noted
    def poll_events() -> None:
        run_effects()

    poll_events()
    assert {run.name: run.outcome for run in JobRun.objects.all()} == {
        "poll_events": "ok",
        "run_effects": "failed",
    }


def test_two_runs_at_once_leave_the_newer_ones_word():
    jobs.begin("run_effects", now=NOON)
    jobs.begin("run_effects", now=NOON + MINUTE)
    jobs.end("run_effects", now=NOON + 2 * MINUTE, error=ValueError())
    jobs.end("run_effects", now=NOON + 3 * MINUTE, error=None)
    run = JobRun.objects.get()
    assert (run.started_at, run.outcome, run.failed_in_a_row) == (NOON + MINUTE, "ok", 0)


def test_what_cannot_be_noted_keeps_no_job_from_its_work(monkeypatch, caplog):
    def broken(name, **values):
        raise DatabaseError("down")

    monkeypatch.setattr(jobs, "begin", broken)
    monkeypatch.setattr(jobs, "end", broken)
    done = []
    jobs.noted(lambda: done.append(1))()
    assert done == [1]
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize(
    ("after", "late"),
    [
        (timedelta(seconds=90), None),
        (timedelta(minutes=3), timedelta(minutes=2)),
    ],
)
def test_a_job_is_late_after_its_own_interval(after, late):
    assert health.late_by(ran(), now=NOON + after) == late


def test_a_job_that_runs_is_not_late_until_it_ought_to_have_been_stopped(settings):
    jobs.begin("run_effects", now=NOON)
    run = JobRun.objects.get()
    limit = timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT)
    assert health.late_by(run, now=NOON + limit - MINUTE) is None
    assert health.late_by(run, now=NOON + limit + MINUTE) == limit


def test_late_failing_and_missing_jobs_are_marked():
    for name in jobs.scheduled():
        ran(name)
    runs = health.read()
    assert health.figure(runs, now=NOON + MINUTE / 2).value == "0"
    ran("poll_events", error=ValueError())
    JobRun.objects.filter(name="close_hours").delete()
    shown = health.figure(health.read(), now=NOON + MINUTE / 2)
    assert (shown.value, shown.tone) == ("2", "danger")
    cells = {row[0]: row for row in health.table(health.read(), now=NOON + 9 * MINUTE).table["rows"]}
    assert "Has not run yet" in cells["close_hours"][2]
    assert any("Late by 8 min" in row[3] for row in cells.values())
    assert any("Failed: ValueError" in row[2] for row in cells.values())

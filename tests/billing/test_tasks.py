"""The tasks only call the flows: run twice, late or without a broker, they change nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from celery import Celery
from django.conf import settings as project_settings
from django.db import transaction
from django.utils import timezone

from billing import tasks, usage
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, Effect, MarketplaceEvent, MeteringRecord
from marketplace_saas.celery import app


@pytest.fixture
def rung(monkeypatch):
    """Names of the tasks whose bell rang."""
    names: list[str] = []
    for task in (tasks.submit_metering, tasks.run_effects):
        monkeypatch.setattr(task, "delay", lambda name=task.name: names.append(name))
    return names


def test_every_scheduled_task_exists_and_its_bell_expires():
    app.loader.import_default_modules()
    for entry in project_settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks
        assert entry["options"]["expires"] > 0


def test_the_story_runs_on_tasks_alone(aws, purchase, acme, rung, django_capture_on_commit_callbacks):
    agreement = purchase("reports-flex", quantities={"included_pages": 100})
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run_effects()
    assert agreement.entitlements.get().value == 100
    assert rung == ["billing.tasks.submit_metering"]
    now = timezone.now()
    usage.record(acme, "pages", 130, key="k", occurred_at=hour_of(now) - HOUR + timedelta(minutes=1), now=now)
    for _ in range(2):
        tasks.close_hours()
        tasks.submit_metering()
        tasks.sync_entitlements()
        tasks.advance_lifecycles()
    record = MeteringRecord.objects.get()
    assert (record.state, record.quantity) == ("accepted", Decimal(30))
    assert aws.billed() == "30"
    assert len(aws.control.requests("BatchMeterUsage")) == 1


def test_closing_rings_for_submission_once_it_is_committed(rung, db, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        tasks.close_hours()
        assert rung == []
    assert rung == ["billing.tasks.submit_metering"]


def test_polling_takes_events_in_and_does_what_they_owe(aws, rung):
    aws.buy("reports-flex", quantities={"included_pages": 7})
    aws.control.advance(timedelta(minutes=1))
    tasks.poll_events()
    agreement = Agreement.objects.get()
    assert agreement.status == "active"
    assert agreement.entitlements.get().value == 7
    assert Effect.objects.get(kind="sync_entitlements").state == "done"


def test_a_queue_that_does_not_answer_keeps_no_other_from_being_polled(aws, settings, caplog):
    settings.MARKETPLACE_EVENT_QUEUES = [
        "http://127.0.0.1/000000000000/none",
        *settings.MARKETPLACE_EVENT_QUEUES,
    ]
    aws.buy("reports-flex")
    aws.control.advance(timedelta(minutes=1))
    tasks.poll_events()
    assert "Polling http://127.0.0.1/000000000000/none" in caplog.text
    assert Agreement.objects.get().status == "active"


def test_the_clock_ends_windows_and_sweeps_what_waits(aws, purchase):
    agreement = purchase("reports-payg")
    aws.control.cancel(agreement.agreement_id)
    aws.control.advance(timedelta(minutes=1))
    aws.deliver()
    MarketplaceEvent.objects.filter(agreement=agreement, kind__contains="Ended").update(
        state="waiting", agreement=None
    )
    Agreement.objects.filter(pk=agreement.pk).update(metering_closes_at=timezone.now() - timedelta(seconds=1))
    tasks.advance_lifecycles()
    assert MarketplaceEvent.objects.filter(state="waiting").count() == 0
    agreement.refresh_from_db()
    assert agreement.status in ("ending", "ended")


def test_without_effects_nobody_rings(db, rung, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run_effects()
    assert rung == []


# --- Ringing


def test_a_bell_waits_for_the_commit_and_is_silent_after_a_rollback(
    db, rung, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        with transaction.atomic():
            tasks.ring(tasks.submit_metering)
            transaction.set_rollback(True)
        assert rung == []
        tasks.ring(tasks.submit_metering)
        assert rung == []
    assert rung == ["billing.tasks.submit_metering"]


@pytest.mark.parametrize(
    ("broker", "options"),
    [
        ("redis://127.0.0.1:1/0", {}),
        ("filesystem://", {"data_folder_out": "/nowhere/at/all"}),
    ],
    ids=["Redis", "files"],
)
def test_a_broker_that_is_down_costs_a_delay_and_nothing_else(transactional_db, caplog, broker, options):
    somewhere = Celery("somewhere", broker=broker, broker_transport_options=options, set_as_current=False)
    somewhere.conf.task_publish_retry = False

    @somewhere.task(name="somewhere.bell", shared=False)
    def bell():
        raise AssertionError("nobody runs it")

    with transaction.atomic():
        tasks.ring(bell)
        MarketplaceEvent.objects.create(
            channel="sns", source_id="1", kind="k", occurred_at=timezone.now(), body=""
        )
    assert MarketplaceEvent.objects.count() == 1
    assert "The broker is down: somewhere.bell waits for its schedule" in caplog.text

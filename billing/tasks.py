"""What Celery runs: each task calls one flow. The rows are the queue: a task may run twice, or late."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.app.task import Task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import ChannelError, OperationalError

from billing import clock, deadlines, effects, events, jobs, metering, submission, walk
from billing.aws.client import get_marketplace
from billing.aws.errors import MarketplaceError
from billing.closing import heartbeat
from billing.inbox import polling
from billing.repairs import running
from billing.trail import heads

logger = logging.getLogger(__name__)


def ring(task: Task[Any, Any]) -> None:
    """Run ``task`` soon, once this transaction is committed; with the broker down, at beat's next turn."""
    transaction.on_commit(lambda: _ring(task))


def _ring(task: Task[Any, Any]) -> None:
    try:
        task.delay()
    except (
        ChannelError,
        OperationalError,
        OSError,
    ):  # Redis that does not answer, a message folder that is gone or full
        logger.warning("The broker is down: %s waits for its schedule", task.name)


@shared_task
@jobs.noted
def poll_events() -> None:
    for queue_url in settings.MARKETPLACE_EVENT_QUEUES:
        try:
            polling.poll(get_marketplace(), queue_url, now=timezone.now())
        except MarketplaceError as error:
            logger.warning("Polling %s: %s", queue_url, error)
            jobs.went_past(error)
    # Without a queue too: what SNS posted, and whose bell was lost, waits for this.
    apply_events()


@shared_task
def apply_events() -> None:
    events.apply_received(now=timezone.now())
    run_effects()


@shared_task
@jobs.noted
def run_effects() -> None:
    if effects.run_due(get_marketplace(), now=timezone.now()):
        ring(submit_metering)


@shared_task
@jobs.noted
def advance_lifecycles() -> None:
    now = timezone.now()
    events.apply_waiting(now=now)
    events.alarm_of_waiting(now=now)
    if metering.close_last_hours(region=settings.MARKETPLACE["metering_region"], now=now):
        ring(submit_metering)
    clock.advance(now=now)


@shared_task
@jobs.noted
def sync_entitlements() -> None:
    walk.sync_all(get_marketplace(), now=timezone.now())


@shared_task
@jobs.noted
def close_hours() -> None:
    region, now = settings.MARKETPLACE["metering_region"], timezone.now()
    metering.close_hours(region=region, now=now)
    if settings.METERING_HEARTBEAT:
        heartbeat.beat(region=region, now=now)
    ring(submit_metering)


@shared_task
@jobs.noted
def submit_metering() -> None:
    submission.submit_due(get_marketplace(), now=timezone.now())


@shared_task
@jobs.noted
def watch_deadlines() -> None:
    deadlines.sound(now=timezone.now())


@shared_task
@jobs.noted
def note_audit_heads() -> None:
    heads.note(now=timezone.now())


@shared_task
@jobs.noted
def run_operator_tasks() -> None:
    running.run_due(get_marketplace, now=timezone.now())

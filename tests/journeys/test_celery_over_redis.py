"""The same story through a real worker: every message goes over a real Redis broker."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
import redis
from celery import Celery
from django.conf import settings
from django.utils import timezone

from accounts.models import Organization
from billing import registration, usage
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, MeteringRecord
from tests.journeys.processes import database_url, until


@pytest.fixture
def redis_url() -> str:
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        pytest.skip("no Redis answers; see the end of `make test`")
    return url


@pytest.fixture
def worker(transactional_db, aws, redis_url, tmp_path):
    """A worker process on this test's database and simulator, and a way to hand it tasks."""
    queue = f"test-{uuid.uuid4().hex}"
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "marketplace_saas", "worker", "--pool=solo",
             "--without-mingle", "--without-gossip", "--loglevel=INFO"],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DATABASE_URL": database_url(),
                "REDIS_URL": redis_url,
                "TEST_CELERY_QUEUE": queue,
                "MARKETPLACE_EVENT_QUEUES": settings.MARKETPLACE_EVENT_QUEUES[0],
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            with Celery(broker=redis_url, set_as_current=False) as app:
                yield lambda name: app.send_task(f"billing.tasks.{name}", queue=queue)
        finally:
            process.terminate()
            process.wait(timeout=20)
            with redis.Redis.from_url(redis_url) as broker:
                broker.delete(queue, *(f"_kombu.{kind}.{queue}" for kind in ("binding", "binding_permanent")))
            log.flush()
            sys.stdout.write((tmp_path / "worker.log").read_text())


def test_a_worker_takes_the_purchase_from_the_event_to_the_accepted_record(
    worker, aws, acme: Organization, acme_admin
):
    now = timezone.now()
    aws.control.set_now(now - timedelta(hours=3))
    bought = aws.buy("reports-flex", quantities={"included_pages": 10})
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=now)
    registration.claim(arrival, by=acme_admin, organization=acme, now=now)
    aws.control.set_now(now)

    worker("poll_events")
    agreement = Agreement.objects.get()
    until(lambda: agreement.entitlements.exists())
    agreement.refresh_from_db()
    assert agreement.status == Agreement.Status.ACTIVE

    usage.record(acme, "pages", "12.5", key="r-1", occurred_at=hour_of(now) - HOUR / 2)
    worker("close_hours")  # which rings for the submission itself
    until(lambda: MeteringRecord.objects.filter(state=MeteringRecord.State.ACCEPTED).exists())
    assert aws.billed() == "2.5"

"""SIGTERM, as each deployment sends it: requests in hand are answered, no usage is lost or billed twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis
import requests
from celery import Celery
from django.conf import settings
from django.utils import timezone

from billing import metering, usage
from billing.aws.window import HOUR, hour_of
from billing.error_reports import TOKEN_FIELD
from billing.models import MeteringRecord, Registration
from marketplace_saas import serving
from tests.billing.ledger import REGION
from tests.journeys.crashes import assert_billed_once, go_on
from tests.journeys.processes import answers, as_the_tests, free_port, running, until

State = MeteringRecord.State
SLOW = 3.0  # seconds that AWS takes to answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(transactional_db, aws, tmp_path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """gunicorn as the image starts it, on this test's database and simulator."""
    port = free_port()
    serve = ["gunicorn", "-c", "python:marketplace_saas.serving", "marketplace_saas.wsgi"]
    command = [sys.executable, "-m", *serve]
    # One process, which answers before a test begins: gunicorn forgets to stop one that is just being
    # born, and kills it when graceful_timeout is over.
    environment = as_the_tests(
        GUNICORN_CMD_ARGS=f"--bind=127.0.0.1:{port}", WEB_CONCURRENCY="1", LOG_FORMAT="json"
    )
    with running(command, log=tmp_path / "site.log", **environment) as process:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        yield process, f"http://127.0.0.1:{port}"


def test_a_request_in_hand_is_answered(site, aws, tmp_path):
    process, url = site
    bought = aws.buy("reports-flex")
    aws.control.fault("ResolveCustomer", "latency", seconds=SLOW)
    with ThreadPoolExecutor() as pool:
        form = {TOKEN_FIELD: bought.token}
        arriving = pool.submit(
            requests.post, f"{url}/marketplace/register/", data=form, timeout=30, allow_redirects=False
        )
        until(lambda: aws.control.requests("ResolveCustomer"))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        until(lambda: not answers(f"{url}/healthz"), what="the end of new requests")
        response = arriving.result()
        assert process.wait(timeout=20) == 0

    assert response.status_code == 303
    assert Registration.objects.count() == 1
    assert SLOW / 2 < time.monotonic() - began < SLOW + 10
    log = (tmp_path / "site.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "marketplace_saas.access"}
    assert bought.token not in log


def test_connections_that_only_wait_hold_nobody_up(site):
    process, url = site
    with requests.Session() as session:
        assert session.get(f"{url}/healthz").ok  # kept alive
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.fixture
def worker(transactional_db, aws, tmp_path):
    """A worker as the image starts it, and a way to hand it tasks."""
    redis_url = os.environ.get("TEST_REDIS_URL")
    if not redis_url:
        pytest.skip("no Redis answers; see the end of `make test`")
    queue = f"test-{uuid.uuid4().hex}"
    command = [
        sys.executable, "-m", "celery", "-A", "marketplace_saas", "worker", "--hostname", f"{queue}@test",
        "--concurrency=2", "--without-mingle", "--without-gossip", "--loglevel=INFO",
    ]  # fmt: skip
    environment = as_the_tests(REDIS_URL=redis_url, TEST_CELERY_QUEUE=queue, LOG_FORMAT="json")
    log = tmp_path / "worker.log"
    try:
        with (
            running(command, log=log, **environment) as process,
            Celery(broker=redis_url, set_as_current=False) as app,
        ):
            yield (
                process,
                log,
                lambda name, **options: app.send_task(f"billing.tasks.{name}", queue=queue, **options),
            )
    finally:
        with redis.Redis.from_url(redis_url) as broker:
            broker.delete(queue, *(f"_kombu.{kind}.{queue}" for kind in ("binding", "binding_permanent")))


@pytest.fixture
def due(purchase, acme):
    """A record that waits to be sent."""
    now = timezone.now()
    purchase("reports-payg")
    usage.record(acme, "pages", "2.5", key="r-1", occurred_at=hour_of(now) - HOUR / 2, now=now)
    metering.close_hours(region=REGION, now=now)
    return MeteringRecord.objects.get(state=State.DUE)


def test_a_submission_in_hand_ends(worker, due, aws):
    process, log, ask = worker
    aws.control.fault("BatchMeterUsage", "latency", seconds=SLOW)
    task = ask("submit_metering", headers={"request_id": "request-0001"})
    until(lambda: MeteringRecord.objects.filter(state=State.IN_DOUBT).exists(), what="the sending")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0

    due.refresh_from_db()
    assert due.state == State.ACCEPTED
    assert_billed_once(aws)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    named = [line for line in lines if line.get("task_id") == task.id]
    assert named
    assert {line.get("request_id") for line in named} == {"request-0001"}


def test_a_submission_that_is_killed_in_the_end_is_sent_again_and_billed_once(worker, due, aws):
    """As when the platform's patience is over: SIGTERM, then SIGKILL to all."""
    process, _, ask = worker
    aws.control.fault("BatchMeterUsage", "latency", seconds=20)
    ask("submit_metering")
    until(lambda: MeteringRecord.objects.filter(state=State.IN_DOUBT).exists(), what="the sending")
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)

    due.refresh_from_db()
    assert due.state == State.IN_DOUBT
    aws.control.clear_faults()
    go_on(timezone.now() + timedelta(seconds=30))
    due.refresh_from_db()
    assert due.state == State.ACCEPTED
    assert_billed_once(aws)


def test_what_waits_longer_than_gunicorn_is_told_to_stop_by_compose():
    """The platform's patience is longer than ours."""
    text = (settings.BASE_DIR / "compose.yaml").read_text()
    assert f"stop_grace_period: {serving.graceful_timeout + 10}s" in text

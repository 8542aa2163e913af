"""How the whole does: database, broker, jobs, deadlines, inbox. For alarms; nothing here names a buyer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from celery import current_app
from django.db.models import Count, Q
from kombu.exceptions import ChannelError, OperationalError

from billing import deadlines, jobs
from billing.admin.health import inbox as inboxes
from billing.admin.health import jobs as punctuality
from billing.models import Effect, JobRun, MarketplaceEvent

_PATIENCE = 2  # seconds
# Bells in the broker that nobody hears: beat rings about ten a minute, each worthless after its interval.
MANY_WAIT = 200

PREFIX = "marketplace_saas"
_MEANINGS = {
    "up": "1 if nothing is wrong.",
    "broker_up": "1 if the broker answers.",
    "broker_messages_waiting": "Messages in the broker that no worker has taken.",
    "last_job_age_seconds": "Seconds since any job began: grows when beat or every worker is dead.",
    "job_late_seconds": "How long the job is overdue; 0 while it is not.",
    "job_failures_in_a_row": "How often the job has failed since it last went well.",
    "job_last_success_timestamp_seconds": "When the job last went well.",
    "deadline_seconds_left": "Seconds until AWS refuses the first metering record that is not settled.",
    "records_unsettled": "Metering records that AWS has not settled.",
    "records_near_deadline": "Of these, those that AWS refuses within 4 hours (alert) or 1 hour (page).",
    "inbox_events": "Events from AWS that wait for their purchase, or were not understood.",
    "effects": "What is owed to the world, and overdue or tried in vain.",
}


def look(*, now: datetime) -> dict[str, Any]:
    seen: dict[str, Any] = {
        "broker": _broker(),
        "jobs": _jobs(now=now),
        "deadlines": _deadlines(now=now),
        "inbox": _inbox(),
        "effects": _effects(now=now),
    }
    started = [job["started_at"] for job in seen["jobs"].values() if job["started_at"]]
    seen["last_job_age_seconds"] = (now - max(started)).total_seconds() if started else None
    problems = list(_problems(seen))
    return {"ok": not problems, "problems": problems, **seen}


def _broker() -> dict[str, Any]:
    try:
        with current_app.connection_for_read(connect_timeout=_PATIENCE) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE)
            return {"ok": True, "messages_waiting": _waiting(connection.default_channel)}
    except (ChannelError, OperationalError, OSError):
        return {"ok": False, "messages_waiting": None}


def _waiting(channel: Any) -> int:
    try:
        queue = channel.queue_declare(queue=current_app.conf.task_default_queue, passive=True)
    except ChannelError:  # no worker has ever listened, and nobody has rung
        return 0
    return int(queue.message_count)


def _jobs(*, now: datetime) -> dict[str, Any]:
    runs = punctuality.read()
    return {name: _job(runs.get(name), now=now) for name in sorted(jobs.scheduled())}


def _job(run: JobRun | None, *, now: datetime) -> dict[str, Any]:
    if run is None:
        return {
            "started_at": None,
            "succeeded_at": None,
            "late_seconds": 0.0,
            "failed_in_a_row": 0,
            "error": "",
        }
    late = punctuality.late_by(run, now=now)
    return {
        "started_at": run.started_at,
        "succeeded_at": run.succeeded_at,
        "late_seconds": late.total_seconds() if late else 0.0,
        "failed_in_a_row": run.failed_in_a_row,
        "error": run.error if run.failed_in_a_row else "",
    }


def _deadlines(*, now: datetime) -> dict[str, Any]:
    health = deadlines.health(now)
    return {
        "nearest": health.nearest,
        "seconds_left": health.time_left.total_seconds() if health.time_left is not None else None,
        "unsettled": health.unsettled,
        "alert": health.alert,
        "page": health.page,
    }


def _inbox() -> dict[str, int]:
    return MarketplaceEvent.objects.filter(state__in=[*inboxes.WAITING, *inboxes.FAILED]).aggregate(
        waiting=Count("pk", filter=Q(state__in=inboxes.WAITING)),
        failed=Count("pk", filter=Q(state__in=inboxes.FAILED)),
    )


def _effects(*, now: datetime) -> dict[str, int]:
    return Effect.objects.filter(state=Effect.State.DUE).aggregate(
        overdue=Count("pk", filter=Q(due_at__lt=now - inboxes.PATIENCE)),
        failing=Count("pk", filter=Q(attempts__gte=inboxes.TRIED_IN_VAIN)),
    )


def _problems(seen: dict[str, Any]) -> Iterator[str]:
    broker, nearest = seen["broker"], seen["deadlines"]
    if not broker["ok"]:
        yield "The broker does not answer: is Redis up?"
    elif broker["messages_waiting"] > MANY_WAIT:
        yield f"{broker['messages_waiting']} messages wait in the broker: is a worker running?"
    if seen["last_job_age_seconds"] is None:
        yield "No job has ever run: are beat and a worker running?"
    for name, job in seen["jobs"].items():
        if job["late_seconds"]:
            yield f"{name} is late by {job['late_seconds']:.0f} seconds"
        if job["failed_in_a_row"]:
            yield f"{name} has failed {job['failed_in_a_row']} times in a row: {job['error']}"
    for level, hours in (("page", 1), ("alert", 4)):
        if nearest[level]:
            yield f"{nearest[level]} metering records are within {hours} h of AWS's deadline"
    if seen["inbox"]["failed"]:
        yield f"{seen['inbox']['failed']} events from AWS were not understood"
    for kind in ("overdue", "failing"):
        if seen["effects"][kind]:
            yield f"{seen['effects'][kind]} effects are {kind}"


def as_prometheus(seen: dict[str, Any]) -> str:
    """The same in Prometheus' text format. What is not known has no sample."""
    lines: list[str] = []
    for name, meaning in _MEANINGS.items():
        samples = [(labels, value) for named, labels, value in _samples(seen) if named == name]
        known = [(labels, value) for labels, value in samples if value is not None]
        lines += [f"# HELP {PREFIX}_{name} {meaning}", f"# TYPE {PREFIX}_{name} gauge"] if known else []
        lines += [f"{PREFIX}_{name}{labels} {float(value):.10g}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _samples(seen: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    yield "up", "", seen["ok"]
    yield "broker_up", "", seen["broker"]["ok"]
    yield "broker_messages_waiting", "", seen["broker"]["messages_waiting"]
    yield "last_job_age_seconds", "", seen["last_job_age_seconds"]
    for name, job in seen["jobs"].items():
        labels = f'{{job="{name}"}}'
        succeeded = job["succeeded_at"]
        yield "job_late_seconds", labels, job["late_seconds"]
        yield "job_failures_in_a_row", labels, job["failed_in_a_row"]
        yield "job_last_success_timestamp_seconds", labels, succeeded and succeeded.timestamp()
    yield "deadline_seconds_left", "", seen["deadlines"]["seconds_left"]
    yield "records_unsettled", "", seen["deadlines"]["unsettled"]
    for level in ("alert", "page"):
        yield "records_near_deadline", f'{{level="{level}"}}', seen["deadlines"][level]
    for kind in ("waiting", "failed"):
        yield "inbox_events", f'{{state="{kind}"}}', seen["inbox"][kind]
    for kind in ("overdue", "failing"):
        yield "effects", f'{{state="{kind}"}}', seen["effects"][kind]

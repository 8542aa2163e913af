"""The scheduled jobs: when each ran last and how, when it is due, which are late."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import crontab
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing import jobs
from billing.admin.columns import EMPTY, instant, label, link, list_url
from billing.admin.health.figures import Breakdown, Figure, counted, duration
from billing.models import JobRun

# A bell may ring a little late, a worker may be busy: a job is late after its own interval, within these.
_PATIENCE = (timedelta(minutes=1), timedelta(minutes=10))


def read() -> dict[str, JobRun]:
    return {run.name: run for run in JobRun.objects.all()}


def late_by(run: JobRun, *, now: datetime) -> timedelta | None:
    """How long the next run is overdue; None while nothing is amiss. A run that never ended holds none up."""
    schedule = jobs.scheduled().get(run.name)
    if schedule is None or run.due_at is None:
        return None
    if run.is_running and now - run.started_at < timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT):
        return None
    overdue = now - run.due_at
    return overdue if overdue > _patience(schedule) else None


def _patience(schedule: Any) -> timedelta:
    shortest, longest = _PATIENCE
    if isinstance(schedule, crontab):
        return longest
    interval = schedule if isinstance(schedule, timedelta) else timedelta(seconds=schedule)
    return min(max(interval, shortest), longest)


def figure(runs: Mapping[str, JobRun], *, now: datetime) -> Figure:
    ill = [
        name
        for name in jobs.scheduled()
        if name not in runs or runs[name].failed_in_a_row or late_by(runs[name], now=now) is not None
    ]
    note = ", ".join(ill[:3]) + ("…" if len(ill) > 3 else "") if ill else _("All ran when they were due")
    return counted(_("Jobs late or failing"), len(ill), note, list_url(JobRun), "danger")


def table(runs: Mapping[str, JobRun], *, now: datetime) -> Breakdown:
    rows = [_row(name, runs.get(name), now=now) for name in sorted(jobs.scheduled())]
    headers = [_("Job"), _("Last run (UTC)"), _("How it went"), _("Next run (UTC)")]
    return Breakdown(_("Jobs"), {"headers": headers, "rows": rows})


def _row(name: str, run: JobRun | None, *, now: datetime) -> list[str]:
    if run is None:
        return [name, EMPTY, label(_("Has not run yet"), "warning"), EMPTY]
    return [link(run, name), instant(run.started_at), outcome(run), next_run(run, now=now)]


def outcome(run: JobRun) -> str:
    if run.failed_in_a_row:
        times = ngettext("Failed: %(error)s", "Failed %(count)s times: %(error)s", run.failed_in_a_row)
        return label(times % {"count": run.failed_in_a_row, "error": run.error}, "danger")
    if run.is_running:
        return label(_("Running"), "info")
    return label(run.get_outcome_display(), "success")


def next_run(run: JobRun, *, now: datetime) -> str:
    late = late_by(run, now=now)
    if late is None:
        return instant(run.due_at)
    return label(_("Late by %(time)s") % {"time": duration(late)}, "danger")

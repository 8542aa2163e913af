"""How the scheduled jobs fare: each run is noted when it begins and when it ends, whatever becomes of it.

One row a job, written in single statements: two runs at once leave the newer one's word. What is written here
never keeps a job from its work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from celery.schedules import crontab
from django.conf import settings
from django.db import DatabaseError
from django.db.models import F
from django.utils import timezone

from billing.aws.errors import MarketplaceError
from billing.models import JobRun

logger = logging.getLogger(__name__)

# What the job that runs in this context has met and gone on after.
_met: ContextVar[list[BaseException] | None] = ContextVar("met", default=None)


def noted(job: Callable[[], None]) -> Callable[[], None]:
    """Note each run of a scheduled job under the function's name."""
    name = job.__name__

    @wraps(job)
    def run() -> None:
        met: list[BaseException] = []
        context = _met.set(met)
        _write(begin, name, now=timezone.now())
        try:
            job()
        except BaseException as error:  # a time limit and a signal end a run too
            met.append(error)
            raise
        finally:
            _met.reset(context)
            _write(end, name, now=timezone.now(), error=met[-1] if met else None)

    return run


def went_past(error: BaseException) -> None:
    """The job goes on with its other work after ``error``: its run counts as failed all the same."""
    met = _met.get()
    if met is not None:
        met.append(error)


def begin(name: str, *, now: datetime) -> None:
    started = {"started_at": now, "due_at": next_run(name, after=now)}
    if not JobRun.objects.filter(name=name).update(**started):
        JobRun.objects.get_or_create(name=name, defaults=started)


def end(name: str, *, now: datetime, error: BaseException | None) -> None:
    of_job = JobRun.objects.filter(name=name)
    if error is None:
        of_job.update(
            finished_at=now, succeeded_at=now, outcome=JobRun.Outcome.OK, error="", failed_in_a_row=0
        )
        return
    of_job.update(
        finished_at=now,
        outcome=JobRun.Outcome.FAILED,
        error=_name_of(error)[:100],
        failed_in_a_row=F("failed_in_a_row") + 1,
    )


def scheduled() -> dict[str, Any]:
    """The schedule of each job, by its name; a job is named as its task's function."""
    return {
        entry["task"].rpartition(".")[2]: entry["schedule"]
        for entry in settings.CELERY_BEAT_SCHEDULE.values()
    }


def next_run(name: str, *, after: datetime) -> datetime | None:
    """When the schedule runs it next; None if it is on no schedule."""
    schedule = scheduled().get(name)
    if schedule is None:
        return None
    if isinstance(schedule, crontab):
        last, distance, _ = schedule.remaining_delta(after)
        due: datetime = last + distance
        return due
    return after + (schedule if isinstance(schedule, timedelta) else timedelta(seconds=schedule))


def _name_of(error: BaseException) -> str:
    """AWS's code or the class: what an exception says may hold what nobody should read here."""
    return error.code if isinstance(error, MarketplaceError) else type(error).__name__


def _write(write: Callable[..., None], name: str, **values: Any) -> None:
    try:
        write(name, **values)
    except DatabaseError:
        logger.exception("The run of %s could not be noted", name)

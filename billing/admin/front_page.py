"""The first page: what is at risk now, each figure a link to its rows. billing.admin.health reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from billing.admin.charts import Chart
from billing.admin.health import consumption, coverage, inbox, jobs, purchases, records, sending
from billing.admin.health.coverage import Coverage
from billing.admin.health.figures import Breakdown, Figure, may_see


@dataclass(slots=True)
class Health:
    figures: list[Figure] = field(default_factory=list)
    breakdowns: list[Breakdown] = field(default_factory=list)
    tables: list[Breakdown] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    coverage: Coverage | None = None


def look(user: AbstractBaseUser | AnonymousUser, *, now: datetime | None = None) -> Health:
    """What ``user`` may see of how things stand at ``now``."""
    now = now or timezone.now()
    health = Health()
    if may_see(user, "meteringrecord"):
        _look_at_records(health, now=now)
    if may_see(user, "agreement"):
        groups = purchases.read(now=now)
        health.figures.extend(purchases.figures(groups, now=now))
        health.breakdowns.append(purchases.by_status(groups))
    if may_see(user, "entitlement"):
        health.figures.append(purchases.expiring(now=now))
    if may_see(user, "marketplaceevent"):
        health.figures.extend(inbox.figures())
    if may_see(user, "effect"):
        health.figures.extend(inbox.effects(now=now))
    if may_see(user, "jobrun"):
        runs = jobs.read()
        health.figures.append(jobs.figure(runs, now=now))
        health.tables.insert(1, jobs.table(runs, now=now))
    if may_see(user, "submission") and may_see(user, "submissionline"):
        health.charts.insert(0, sending.chart(now=now))
    if may_see(user, "meteringrecord") and may_see(user, "agreement") and may_see(user, "usageevent"):
        health.coverage = coverage.read(now=now)
    return health


def _look_at_records(health: Health, *, now: datetime) -> None:
    groups, days = records.read(), consumption.read(now=now)
    health.figures.append(records.deadline(groups, now=now))
    health.breakdowns.append(records.states(groups, consumption.settled(days)))
    health.tables += [records.unsent(groups), consumption.table(days, now=now)]
    health.charts += consumption.charts(days, now=now)

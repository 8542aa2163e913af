"""AWS's deadlines: which records near them, telling people in time, and what becomes of missed ones.

Errors that are logged go to ADMINS by mail, so each alarm is logged once an hour, not per record or per run.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Min, Q, QuerySet

from billing import audit, customers, leases
from billing.aws.limits import METERING_WINDOW, MONTH_END_GRACE
from billing.aws.window import hour_of, month_of
from billing.models import MeteringRecord, UsageEvent

logger = logging.getLogger(__name__)

State = MeteringRecord.State

# What closed just now, late or at an agreement's end, is on its way: no alarm yet.
GRACE = timedelta(minutes=15)

_HOUR = timedelta(hours=1)
_CHUNK = 500  # agreements


@dataclass(frozen=True, slots=True)
class Level:
    """An alarm: how soon AWS stops taking the records that raise it, and how loud it is."""

    name: str
    severity: int
    within: timedelta
    beyond: timedelta | None = None  # what is nearer raises a louder one

    def near(self, now: datetime) -> Q:
        near = Q(submit_by__lte=now + self.within)
        return near if self.beyond is None else near & Q(submit_by__gt=now + self.beyond)


PAGE = Level("page", logging.CRITICAL, timedelta(hours=1))
ALERT = Level("alert", logging.ERROR, timedelta(hours=4), beyond=PAGE.within)


@dataclass(frozen=True, slots=True)
class Health:
    """How near unsettled records are to AWS's deadlines. A record counts for its loudest level only."""

    nearest: datetime | None
    time_left: timedelta | None
    unsettled: int
    page: int
    alert: int


def health(now: datetime) -> Health:
    """The figure for the console. What AWS no longer takes counts as a page until it is marked expired."""
    figures = _unsettled().aggregate(
        nearest=Min("submit_by"),
        unsettled=Count("pk"),
        page=Count("pk", filter=PAGE.near(now)),
        alert=Count("pk", filter=ALERT.near(now)),
    )
    nearest: datetime | None = figures.pop("nearest")
    return Health(nearest, None if nearest is None else nearest - now, **figures)


def sound(*, now: datetime) -> list[str]:
    """Raise the alarms that are due and were not raised in the last hour. Returns their levels."""
    levels = (PAGE, ALERT)
    closed = [level.name for level in levels if _sound(level, now=now)]
    return closed + [f"{level.name} of open usage" for level in levels if _sound_open(level, now=now)]


def _sound(level: Level, *, now: datetime) -> bool:
    near = _unsettled().filter(level.near(now), closed_at__lte=now - GRACE)
    if not near.exists():
        return False
    raised = leases.first_in(f"deadline:{level.name}", length=_HOUR)
    if raised is None:
        return False
    found = near.aggregate(count=Count("pk"), nearest=Min("submit_by"))
    states = near.order_by("state").values_list("state").annotate(Count("pk"))
    logger.log(
        level.severity,
        "Deadline %s: %d metering records are not settled and AWS refuses the first at %s (%s). "
        "Is the worker running, and what does the log say of submit_metering? First records: %s",
        level.name,
        found["count"],
        f"{found['nearest']:%Y-%m-%d %H:%M} UTC",
        ", ".join(f"{state}: {count}" for state, count in states),
        ", ".join(str(pk) for pk in near.order_by("submit_by", "pk").values_list("pk", flat=True)[:10]),
    )
    return True


def _sound_open(level: Level, *, now: datetime) -> bool:
    """Usage that nobody closed, as with a dead closer, is in no record whose deadline could alarm."""
    near = UsageEvent.objects.open().filter(_open_near(now + level.within, now=now))
    if level.beyond is not None:
        near = near.exclude(_open_near(now + level.beyond, now=now))
    if not near.exists() or leases.first_in(f"deadline:open:{level.name}", length=_HOUR) is None:
        return False
    found = near.aggregate(count=Count("pk"), oldest=Min("occurred_at"))
    logger.log(
        level.severity,
        "Deadline %s: %d uses, the oldest of %s, are in no metering record, and AWS will soon refuse them. "
        "Is the worker running, and what does the log say of close_hours?",
        level.name,
        found["count"],
        f"{found['oldest']:%Y-%m-%d %H:%M} UTC",
    )
    return True


def _open_near(until: datetime, *, now: datetime) -> Q:
    """Whose hour AWS refuses by ``until``, though closing had its turn since it was recorded."""
    hour_over = max(hour_of(until - METERING_WINDOW) + _HOUR, month_of(until - MONTH_END_GRACE))
    ending = Q(agreement__metering_closes_at__lte=until, agreement__ended_at__lte=now - GRACE)
    return Q(occurred_at__lt=min(hour_over, hour_of(now)), recorded_at__lte=now - _HOUR - GRACE) | (
        ending & Q(recorded_at__lte=now - GRACE)
    )


def expire(*, now: datetime) -> None:
    """Records whose window is over can no longer be sent."""
    missed = MeteringRecord.objects.sendable().filter(submit_by__lte=now)
    agreements = sorted(set(missed.order_by().values_list("agreement_id", flat=True)))
    for start in range(0, len(agreements), _CHUNK):
        gone = _expire(missed, agreements[start : start + _CHUNK], now=now)
        for pk in gone:
            logger.warning("Metering record %s missed AWS's window without an acceptance", pk)
        if gone:
            logger.critical("Expired: %d metering records, which AWS will not bill any more", len(gone))


@transaction.atomic
def _expire(missed: QuerySet[MeteringRecord], agreement_pks: list[int], *, now: datetime) -> list[int]:
    """Of these agreements, in the order in which everybody locks them; each audited with its own."""
    agreements = customers.lock_many(agreement_pks)
    found = missed.filter(agreement__in=agreement_pks).select_for_update(no_key=True).order_by("pk")
    theirs: dict[int, list[int]] = defaultdict(list)
    for pk, agreement in found.values_list("pk", "agreement_id"):
        theirs[agreement].append(pk)
    gone = [pk for pks in theirs.values() for pk in pks]
    MeteringRecord.objects.filter(pk__in=gone).update(state=State.EXPIRED, settled_at=now)
    audit.record_each(
        {each: {"records": theirs[each.pk]} for each in agreements if each.pk in theirs},
        "records_expired",
        by="job:submit_metering",
        at=now,
    )
    return gone


def _unsettled() -> QuerySet[MeteringRecord]:
    return MeteringRecord.objects.filter(state__in=MeteringRecord.UNSETTLED)

"""Closing hours: usage events become metering records, once, in the exact form AWS will get.

A closed hour is never reopened. Usage that comes later takes the next hour to close, visibly late. Everything
happens under the agreements' locks: two closers, or a closer and a cancellation, take turns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from django.db import transaction
from django.db.models import Count

from accounts import log_context
from billing import audit, crashpoints, identity
from billing.aws.window import HOUR, hour_of
from billing.closing import ending, open_usage, records, taken
from billing.closing.hours import Closable, Uses, oldest, plan, plan_in_place
from billing.closing.open_usage import explode
from billing.closing.overage import Allowances
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent

logger = logging.getLogger(__name__)

# Of one transaction: so many agreements are locked, and so many events in memory, at most (but always one).
CHUNK_AGREEMENTS = 1000
CHUNK_EVENTS = 50_000

Usage = Mapping[int, Sequence[Uses]]  # of one agreement, by dimension


@dataclass(slots=True)
class _Chunk:
    """Agreements locked together, and all that closing their hours needs to know."""

    dimensions: Mapping[int, Dimension]
    allowances: Allowances
    taken: taken.TakenHours
    region: str
    now: datetime
    in_place: bool
    records: list[MeteringRecord] = field(default_factory=list)
    events: list[list[int]] = field(default_factory=list)  # of each record


def close_hours(*, region: str, now: datetime) -> int:
    """Close every finished hour that has open usage. Returns how many records were made."""
    finished = UsageEvent.objects.open().filter(occurred_at__lt=hour_of(now))
    waiting = dict(finished.order_by("agreement_id").values_list("agreement_id").annotate(Count("pk")))
    others = chain(_ending(), ending.misplaced_usage(now=now).values_list("agreement_id", flat=True))
    for pk in others:
        waiting.setdefault(pk, 1)
    return _close_in_chunks(waiting, region=region, now=now)


def close_last_hours(*, region: str, now: datetime) -> int:
    """Close what is still open of ending agreements. Runs every minute: AWS takes it for an hour only."""
    return _close_in_chunks(dict.fromkeys(_ending(), 1), region=region, now=now)


def close_agreement(agreement_pk: int, *, region: str, now: datetime) -> int:
    """Close one agreement's finished hours, and its last hour once that has settled."""
    made = _close([agreement_pk], region=region, now=now)
    crashpoints.reached("closing.committed")
    return made


def close_in_place(agreement_pks: Iterable[int], *, region: str, now: datetime) -> int:
    """Close what goes into its own hour, and leave open what would move. Returns how many records were made.

    For a restore: no usage comes late any more, so the last hour of what is over need not settle.
    """
    return _close_in_chunks(dict.fromkeys(agreement_pks, 1), region=region, now=now, in_place=True)


def _ending() -> Iterator[int]:
    usage = UsageEvent.objects.open().filter(agreement__status=Agreement.Status.ENDING)
    return usage.order_by("agreement_id").values_list("agreement_id", flat=True).distinct().iterator()


def _close_in_chunks(
    waiting: Mapping[int, int], *, region: str, now: datetime, in_place: bool = False
) -> int:
    made = 0
    for chunk in _chunks(waiting):
        try:
            made += _close(chunk, region=region, now=now, in_place=in_place)
        except Exception:  # found again below, one agreement at a time: the others' usage must reach AWS
            logger.warning("Closing %s agreements together failed; closing them one by one", len(chunk))
            made += _close_one_by_one(chunk, region=region, now=now, in_place=in_place)
        crashpoints.reached("closing.committed")
    return made


def _close_one_by_one(pks: Sequence[int], *, region: str, now: datetime, in_place: bool) -> int:
    made = 0
    for pk in pks:
        with log_context.about(agreement=pk):
            try:
                made += _close([pk], region=region, now=now, in_place=in_place)
            except Exception:  # one agreement's trouble must not keep the others' usage from AWS
                logger.exception("Hours of agreement %s could not be closed", pk)
    return made


def _chunks(waiting: Mapping[int, int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    events = 0
    for pk in sorted(waiting):
        if chunk and (len(chunk) == CHUNK_AGREEMENTS or events + waiting[pk] > CHUNK_EVENTS):
            yield chunk
            chunk, events = [], 0
        chunk.append(pk)
        events += waiting[pk]
    if chunk:
        yield chunk


@transaction.atomic
def _close(pks: Sequence[int], *, region: str, now: datetime, in_place: bool = False) -> int:
    """Close the hours of some agreements, whole or not at all."""
    agreements = taken.lock(pks)
    crashpoints.reached("closing.locked")
    ending.reopen_usage(agreements.values(), now=now)
    usage = open_usage.read(agreements)
    usage = {pk: of for pk, of in usage.items() if _can_be_metered(agreements[pk], now=now)}
    dimensions = open_usage.dimensions(usage.values())
    chunk = _Chunk(
        dimensions,
        Allowances(agreements, dimensions.values()),
        taken.TakenHours(agreements, since=oldest(now)),
        region,
        now,
        in_place,
    )
    made: dict[Agreement, dict[str, Any]] = {}
    for pk, of in usage.items():
        if count := _plan_agreement(chunk, agreements[pk], of):
            made[agreements[pk]] = {"records": count}
    crashpoints.reached("closing.planned")
    MeteringRecord.objects.bulk_create(chunk.records)
    crashpoints.reached("closing.recorded")
    open_usage.claim(zip(chunk.records, chunk.events, strict=True))
    audit.record_each(made, "hours_closed", by="command" if in_place else "job:close_hours", at=now)
    crashpoints.reached("closing.claimed")
    return len(chunk.records)


def _can_be_metered(agreement: Agreement, *, now: datetime) -> bool:
    if agreement.activated_at is None:
        ending.put_outside(agreement, now=now)
        return False
    if not identity.can_be_metered(agreement):
        logger.error(
            "Agreement %s cannot be metered: AWS has not told its whole license ARN, or its buyer's account",
            agreement.pk,
        )
        return False
    return True


def _plan_agreement(chunk: _Chunk, agreement: Agreement, usage: Usage) -> int:
    """Plan the records of one agreement's open usage; returns how many."""
    final = _is_final(chunk, agreement)
    end = _end_of_closable(agreement, final=final, now=chunk.now)
    wait = chunk.allowances.are_unknown(agreement, before=end)
    if wait and final and chunk.now >= ending.last_call(agreement):
        logger.error("Agreement %s: its last usage is closed without its entitlements", agreement.pk)
        wait = False
    plans: list[tuple[datetime, Dimension, list[Uses]]] = []
    for pk, of in usage.items():
        dimension = chunk.dimensions[pk]
        closing = of if final else [uses for uses in of if uses.hour < end]
        if closing and dimension.included_by_id and wait:
            logger.warning(
                "Agreement %s: %s waits for its entitlements to be read", agreement.pk, dimension.key
            )
            continue
        plan_hours = plan_in_place if chunk.in_place else plan
        planned, left = plan_hours(closing, _closable(chunk, agreement, pk, end=end, final=final), explode)
        plans += [(hour, dimension, planned[hour]) for hour in planned]
        if final and left and not chunk.in_place:
            _give_up(agreement, left, now=chunk.now)
    # The oldest hour first over all dimensions: those that share an allowance draw on it in that order.
    for hour, dimension, uses in sorted(plans, key=lambda plan: (plan[0], plan[1].key)):
        record = _record(chunk, agreement, dimension, hour, uses)
        chunk.taken.take(record)
        chunk.records.append(record)
        chunk.events.append([pk for each in uses for pk in each.pks])
    return len(plans)


def _is_final(chunk: _Chunk, agreement: Agreement) -> bool:
    """Whether the last hour is closed now."""
    if agreement.ended_at is None:
        return False
    return chunk.now >= (agreement.ended_at if chunk.in_place else ending.settled_at(agreement))


def _closable(
    chunk: _Chunk, agreement: Agreement, dimension_pk: int, *, end: datetime, final: bool
) -> Closable:
    assert agreement.activated_at is not None
    return Closable(
        now=chunk.now,
        end=end,
        activated_at=agreement.activated_at,
        closes_at=agreement.metering_closes_at,
        taken=chunk.taken.of(agreement, dimension_pk),
        ending=agreement.ended_at is not None,
        final=final,
    )


def _end_of_closable(agreement: Agreement, *, final: bool, now: datetime) -> datetime:
    """Hours before this instant may be closed: the finished ones, and at the very end the last one too."""
    if agreement.ended_at is None:
        return hour_of(now)
    last = hour_of(agreement.ended_at)
    return last + HOUR if final else min(hour_of(now), last)


def _record(
    chunk: _Chunk, agreement: Agreement, dimension: Dimension, hour: datetime, usage: Sequence[Uses]
) -> MeteringRecord:
    used = sum(uses.millionths for uses in usage)
    included = chunk.allowances.draw(agreement, dimension, hour, used)
    return records.freeze(
        agreement, dimension, hour, usage=usage, included=included, region=chunk.region, now=chunk.now
    )


def _give_up(agreement: Agreement, usage: Sequence[Uses], *, now: datetime) -> None:
    events = [pk for uses in usage for pk in uses.pks]
    open_usage.set_aside(events, UsageEvent.Disposition.TOO_LATE)
    logger.error(
        "Agreement %s: %s uses came after its last hour and cannot be billed", agreement.pk, len(events)
    )
    audit.record(agreement, "usage_too_late", by="job:close_hours", at=now, events=len(events))

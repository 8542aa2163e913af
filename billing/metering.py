"""Closing hours: usage events become metering records, once, in the exact form AWS will get.

A closed hour is never reopened. Usage that comes later takes the next hour to close, visibly late. Everything
happens under the agreement's lock: two closers, or a closer and a cancellation, take turns.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from billing import allocations, audit, customers
from billing.aws import wire
from billing.aws.limits import MAX_QUANTITY
from billing.aws.window import HOUR, accepted_until, hour_of, month_of
from billing.models import Agreement, Dimension, Effect, MeteringRecord, UsageEvent
from billing.models.fields import PLACES

logger = logging.getLogger(__name__)

# After an end: late usage of the last hour may still come in, but the window closes in an hour.
SETTLE_TIME = timedelta(minutes=10)
SETTLE_MARGIN = timedelta(minutes=15)

_REOPENED_FOR = timedelta(hours=25)  # AWS's window, and the hour in which the usage stands
_MORE_THAN_ANYBODY_USES = Decimal(10**12)

State = MeteringRecord.State
Hours = dict[datetime, list[UsageEvent]]


def close_hours(*, region: str, now: datetime) -> int:
    """Close every finished hour that has open usage. Returns how many records were made."""
    open_usage = UsageEvent.objects.open().filter(occurred_at__lt=now)
    return _close_agreements_of(open_usage | _misplaced_usage(now=now), region=region, now=now)


def close_last_hours(*, region: str, now: datetime) -> int:
    """Close what is still open of ending agreements. Runs every minute: AWS takes it for an hour only."""
    ending = UsageEvent.objects.open().filter(agreement__status=Agreement.Status.ENDING)
    return _close_agreements_of(ending, region=region, now=now)


def _close_agreements_of(usage: QuerySet[UsageEvent], *, region: str, now: datetime) -> int:
    made = 0
    for pk in list(usage.order_by("agreement_id").values_list("agreement_id", flat=True).distinct()):
        try:
            made += close_agreement(pk, region=region, now=now)
        except Exception:  # one agreement's trouble must not keep the others' usage from AWS
            logger.exception("Hours of agreement %s could not be closed", pk)
    return made


@transaction.atomic
def close_agreement(agreement_pk: int, *, region: str, now: datetime) -> int:
    """Close one agreement's finished hours, and its last hour once that has settled."""
    agreement = customers.lock(agreement_pk)
    if agreement.activated_at is None:
        _put_outside(agreement, now=now)
        return 0
    reopen_usage(agreement, now=now)
    if agreement.identity == Agreement.Identity.LICENSE and agreement.license_arn is None:
        logger.error("Agreement %s cannot be metered: AWS has not told its whole license ARN", agreement.pk)
        return 0
    final = agreement.ended_at is not None and now >= settled_at(agreement)
    end = _end_of_closable(agreement, final=final, now=now)
    wait = _allowance_is_unknown(agreement, before=end)
    if wait and final and now >= _last_call(agreement):
        logger.error("Agreement %s: its last usage is closed without its entitlements", agreement.pk)
        wait = False
    plans: list[tuple[datetime, Dimension, list[UsageEvent]]] = []
    for dimension, events in _by_dimension(_open_usage(agreement, before=None if final else end)):
        if dimension.included_by and wait:
            logger.warning(
                "Agreement %s: %s waits for its entitlements to be read", agreement.pk, dimension.key
            )
            continue
        plan, left = _plan(agreement, dimension, events, end=end, final=final, now=now)
        plans += [(hour, dimension, plan[hour]) for hour in plan]
        if final and left:
            _give_up(agreement, left, now=now)
    # The oldest hour first over all dimensions: those that share an allowance draw on it in that order.
    for hour, dimension, events in sorted(plans, key=lambda plan: (plan[0], plan[1].key)):
        _close(agreement, dimension, hour, events, region=region, now=now)
    if plans:
        audit.record(agreement, "hours_closed", by="job:close_hours", at=now, records=len(plans))
    return len(plans)


def settled_at(agreement: Agreement) -> datetime:
    """When an ending agreement's last hour is closed: late usage has settled, AWS's window is still open."""
    assert agreement.ended_at is not None
    settled = agreement.ended_at + SETTLE_TIME
    if agreement.metering_closes_at is not None:
        settled = min(settled, agreement.metering_closes_at - SETTLE_MARGIN)
    return max(settled, agreement.ended_at)


def _last_call(agreement: Agreement) -> datetime:
    """From here on the last usage goes out whatever is unknown: AWS's window is about to close."""
    assert agreement.ended_at is not None
    last_hour = hour_of(agreement.ended_at)
    return accepted_until(last_hour, closes_at=agreement.metering_closes_at) - SETTLE_MARGIN


def recompute_deadlines(agreement: Agreement) -> None:
    """Set ``submit_by`` of the unsettled records anew, in the transaction that moved the agreement's end."""
    unsettled = (State.DUE, State.IN_DOUBT, State.WAITING, State.HELD)
    # In the order in which the submitter locks them, or the two could wait for each other.
    for record in agreement.metering_records.filter(state__in=unsettled).order_by("pk"):
        record.submit_by = accepted_until(record.hour, closes_at=agreement.metering_closes_at)
        # A pause that was right for the old deadline may reach past the new one.
        record.next_attempt_at = None
        record.save(update_fields=["submit_by", "next_attempt_at"])


def reopen_usage(agreement: Agreement, *, now: datetime) -> None:
    """Take back in what was recorded as outside the agreement before we heard when it really began.

    The caller holds the lock and has just moved the agreement's instants. Usage recorded inside them that is
    no longer so needs nothing: the last hour claims it.
    """
    outside = agreement.usage_events.filter(
        disposition=UsageEvent.Disposition.OUTSIDE_AGREEMENT, occurred_at__gte=agreement.activated_at
    )
    if agreement.ended_at is not None:
        outside = outside.filter(occurred_at__lt=agreement.ended_at)
    # Only what AWS may still take: the rest is history.
    outside = outside.filter(occurred_at__gte=now - _REOPENED_FOR)
    reopened = outside.update(disposition=UsageEvent.Disposition.BILLABLE)
    if reopened:
        audit.record(agreement, "usage_reopened", by="aws", at=now, events=reopened)


def _misplaced_usage(*, now: datetime) -> QuerySet[UsageEvent]:
    """Usage recorded as outside its agreement by a transaction that began before the activation was told."""
    return UsageEvent.objects.filter(
        Q(agreement__ended_at=None) | Q(occurred_at__lt=F("agreement__ended_at")),
        disposition=UsageEvent.Disposition.OUTSIDE_AGREEMENT,
        occurred_at__gte=F("agreement__activated_at"),
        occurred_at__gt=now - _REOPENED_FOR,
    )


def _put_outside(agreement: Agreement, *, now: datetime) -> None:
    """Events that came late say that the agreement was never active: no usage of it can be billed."""
    stranded = agreement.usage_events.open().update(disposition=UsageEvent.Disposition.OUTSIDE_AGREEMENT)
    if stranded:
        logger.error("Agreement %s was never active: %s uses cannot be billed", agreement.pk, stranded)
        audit.record(agreement, "usage_outside", by="job:close_hours", at=now, events=stranded)


def _end_of_closable(agreement: Agreement, *, final: bool, now: datetime) -> datetime:
    """Hours before this instant may be closed: the finished ones, and at the very end the last one too."""
    if agreement.ended_at is None:
        return hour_of(now)
    last = hour_of(agreement.ended_at)
    return last + HOUR if final else min(hour_of(now), last)


def _open_usage(agreement: Agreement, *, before: datetime | None) -> Iterable[UsageEvent]:
    usage = (
        agreement.usage_events.open().select_related("dimension__included_by").order_by("occurred_at", "pk")
    )
    return usage if before is None else usage.filter(occurred_at__lt=before)


def _by_dimension(events: Iterable[UsageEvent]) -> Iterator[tuple[Dimension, list[UsageEvent]]]:
    groups: dict[Dimension, list[UsageEvent]] = defaultdict(list)
    for event in events:
        groups[event.dimension].append(event)
    yield from groups.items()


def _plan(
    agreement: Agreement,
    dimension: Dimension,
    events: list[UsageEvent],
    *,
    end: datetime,
    final: bool,
    now: datetime,
) -> tuple[Hours, list[UsageEvent]]:
    """Which events go to which hour, and which find none.

    An event takes its own hour if that is not closed and AWS takes it for another hour yet; else the next one
    that is free. So does what exceeds AWS's maximum for one record.
    """
    taken = set(agreement.metering_records.filter(dimension=dimension).values_list("hour", flat=True))
    own = defaultdict(list)
    for event in events:
        # The last hour takes what was used after the end, before we heard of it.
        own[min(hour_of(event.occurred_at), end - HOUR)].append(event)
    # What is older than AWS's window can only go to hours inside it.
    oldest = hour_of(now - timedelta(hours=25))
    first = max(min(own), oldest)
    waiting = [event for hour in sorted(own) if hour < first for event in own[hour]]
    plan: Hours = {}
    hour = first
    while hour < end:
        waiting += own.get(hour, [])
        if waiting and hour not in taken and _is_open(agreement, hour, final=final, now=now):
            plan[hour], waiting = _fill(waiting)
        hour += HOUR
    if final and waiting:
        # After the end there is no next hour: the newest free one of the license's period must do.
        hour = end - HOUR
        while waiting and hour >= max(oldest, hour_of(agreement.activated_at or end)):
            if hour not in taken and hour not in plan and _is_open(agreement, hour, final=final, now=now):
                plan[hour], waiting = _fill(waiting)
            hour -= HOUR
    return plan, waiting


def _is_open(agreement: Agreement, hour: datetime, *, final: bool, now: datetime) -> bool:
    margin = timedelta(0) if final or agreement.ended_at else HOUR
    return accepted_until(hour, closes_at=agreement.metering_closes_at) > now + margin


def _fill(events: list[UsageEvent]) -> tuple[list[UsageEvent], list[UsageEvent]]:
    """As many of ``events`` as fit into one record, and the rest."""
    total, count = Decimal(0), 0
    for event in events:
        if total + event.quantity > MAX_QUANTITY:
            break
        total += event.quantity
        count += 1
    return events[:count], events[count:]


def _close(
    agreement: Agreement,
    dimension: Dimension,
    hour: datetime,
    events: list[UsageEvent],
    *,
    region: str,
    now: datetime,
) -> None:
    used = sum((event.quantity for event in events), Decimal(0))
    included = min(used, _allowance_left(agreement, dimension, hour)) if dimension.included_by else Decimal(0)
    quantity = used - included
    split = allocations.allocate(((event.tags, event.quantity) for event in events), quantity=quantity)
    if split.folded:
        logger.warning("Agreement %s, %s: %s tag sets went untagged", agreement.pk, hour, split.folded)
    # AWS refuses an instant before the license starts, and with it the whole batch.
    assert agreement.activated_at is not None
    record = MeteringRecord.objects.create(
        agreement=agreement,
        dimension=dimension,
        hour=hour,
        used=used,
        included=included,
        quantity=quantity,
        **_identity(agreement),
        wire_region=region,
        wire_timestamp=max(hour, agreement.activated_at),
        wire_quantity=wire.quantity_text(quantity),
        wire_allocations=split.json,
        state=State.DUE if quantity else State.NOT_DUE,
        submit_by=accepted_until(hour, closes_at=agreement.metering_closes_at),
        closed_at=now,
        settled_at=None if quantity else now,
    )
    _claim(events, metering_record=record)


def _claim(events: list[UsageEvent], **changes: Any) -> None:
    """Change events that are still open; if one is not, somebody passed the lock by and nothing is closed."""
    claimed = 0
    for start in range(0, len(events), 500):
        part = [event.pk for event in events[start : start + 500]]
        claimed += UsageEvent.objects.open().filter(pk__in=part).update(**changes)
    if claimed != len(events):
        raise RuntimeError(f"{len(events) - claimed} of {len(events)} uses were no longer open")


def _identity(agreement: Agreement) -> dict[str, str | None]:
    """Exactly one identity: metering one customer under two bills twice."""
    customer = agreement.customer
    if agreement.identity == Agreement.Identity.LICENSE:
        return {"wire_license_arn": agreement.license_arn, "wire_account_id": customer.aws_account_id}
    if customer.aws_account_id is not None:
        return {"wire_product_code": agreement.product.code, "wire_account_id": customer.aws_account_id}
    return {
        "wire_product_code": agreement.product.code,
        "wire_customer_identifier": customer.customer_identifier,
    }


def _allowance_left(agreement: Agreement, dimension: Dimension, hour: datetime) -> Decimal:
    """What is left, in the hour's period, of the pool that the dimension draws on."""
    pool = dimension.included_by
    assert pool is not None
    period = Q()
    if dimension.allowance_period == Dimension.Period.MONTH:
        month = month_of(hour)
        period = Q(hour__gte=month, hour__lt=month_of(month + timedelta(days=32)))
    drawn = (
        agreement.metering_records.filter(period, dimension__included_by=pool)
        .exclude(state=State.VOID)
        .aggregate(total=Sum("included"))["total"]
    )
    return max(Decimal(0), _allowance(agreement, pool, hour) - (drawn or Decimal(0)))


def _allowance_is_unknown(agreement: Agreement, *, before: datetime) -> bool:
    """Whether a change of the entitlements that counts before this instant has not been read yet.

    Closing then would bill, for good, what the buyer has paid for. The usage stays open until it is read.
    """
    return (
        agreement.entitlements_read_at is None
        or agreement.effects.filter(
            kind=Effect.Kind.SYNC_ENTITLEMENTS, state=Effect.State.DUE, caused_at__lt=before
        ).exists()
    )


def _allowance(agreement: Agreement, pool: Dimension, hour: datetime) -> Decimal:
    """The greatest entitlement in force during the hour; after the end, the one as of the end."""
    # What ended with the agreement was in force until its end.
    start = min(hour, agreement.ended_at - timedelta(microseconds=1)) if agreement.ended_at else hour
    in_force = agreement.entitlements.filter(
        Q(valid_to=None) | Q(valid_to__gt=start), dimension_key=pool.key, valid_from__lt=hour + HOUR
    )
    greatest = max((row.quantity for row in in_force), default=Decimal(0))
    # A double has more digits than AWS bills, and may be larger than any quantity.
    return min(greatest, _MORE_THAN_ANYBODY_USES).quantize(PLACES, ROUND_DOWN)


def _give_up(agreement: Agreement, events: list[UsageEvent], *, now: datetime) -> None:
    _claim(events, disposition=UsageEvent.Disposition.TOO_LATE)
    logger.error(
        "Agreement %s: %s uses came after its last hour and cannot be billed", agreement.pk, len(events)
    )
    audit.record(agreement, "usage_too_late", by="job:close_hours", at=now, events=len(events))

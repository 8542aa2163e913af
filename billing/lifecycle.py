"""An agreement's stored events become its state, and what a change of it owes.

The state is the fold of all events (billing.fold), computed anew on each arrival. What the change owes the
world is committed with it (billing.owed) and carried out afterwards (billing.effects).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from accounts.models import User
from billing import audit, flags, identity, mails, owed, timeline
from billing.closing import ending
from billing.fold import State, course_of_sorted
from billing.inbox.notifications import Notification, Type
from billing.models import Agreement, Effect, MarketplaceEvent
from billing.owed import Debt

logger = logging.getLogger(__name__)

Status = Agreement.Status
Inbox = MarketplaceEvent.State

# After these, AWS may list other entitlements than before.
_CHANGES_ENTITLEMENTS = (
    Type.LICENSE_UPDATED,
    Type.SUBSCRIBED,
    Type.ENTITLEMENT_UPDATED,
    Type.AMENDED,
    Type.TRIAL_OVER,
)
_CHUNK = 500  # events that waited, applied together


def apply(event: MarketplaceEvent, agreement: Agreement, *, now: datetime) -> None:
    """Make ``event`` one of ``agreement``'s (locked by the caller) and bring its state up to date."""
    by = "aws"
    if event.channel in (MarketplaceEvent.Channel.CLOCK, MarketplaceEvent.Channel.READING):
        by = "clock" if event.channel == MarketplaceEvent.Channel.CLOCK else "job:readings"
    _take([event], agreement, now=now)
    bring_up_to_date(agreement, by=by, now=now)


def tell(agreement: Agreement, notification: Notification, *, now: datetime) -> bool:
    """Store what the clock or a reading says, and apply it; the same twice is said once.

    The caller holds the agreement's lock. So the fold stays the whole truth.
    """
    event, is_new = keep(notification, now=now)
    if is_new:
        apply(event, agreement, now=now)
    return is_new


def keep(notification: Notification, *, now: datetime, **more: Any) -> tuple[MarketplaceEvent, bool]:
    """The stored event of what the clock or a reading says, and whether it is new."""
    return MarketplaceEvent.objects.get_or_create(
        channel=notification.channel,
        source_id=notification.source_id,
        defaults={
            "kind": notification.name,
            "occurred_at": notification.occurred_at,
            "received_at": now,
            "payload": notification.to_json(),
            **more,
        },
    )


def replay_waiting(agreement: Agreement, *, now: datetime) -> None:
    """Apply events that came before their agreement was known. The caller holds its lock."""
    # events.apply locks its event first, then the agreement. An event that it holds is passed by: waiting for
    # it here could be for ever, and the sweep looks at it again.
    free = MarketplaceEvent.objects.select_for_update(
        skip_locked=connection.features.has_select_for_update_skip_locked
    ).defer("body")
    last, found = 0, False
    while True:
        waiting = list(free.filter(_of(agreement, now), pk__gt=last).order_by("pk")[:_CHUNK])
        if not waiting:
            break
        last = waiting[-1].pk
        telling = [event.pk for event in waiting if _tells_more(event, agreement)]
        if telling:
            MarketplaceEvent.objects.filter(pk__in=telling).update(state=Inbox.RECEIVED)
        mine = [event for event in waiting if event.pk not in telling]
        if mine:
            found = True
            _take_what_can_be(mine, agreement, now=now)
    if found:
        bring_up_to_date(agreement, by="aws", now=now)


def _of(agreement: Agreement, now: datetime) -> Q:
    """Events of the agreement that are not applied yet."""
    mine = Q()
    if agreement.license_id is not None:
        mine |= Q(license_id=agreement.license_id)
    if agreement.agreement_id is not None:
        mine |= Q(aws_agreement_id=agreement.agreement_id)
    due = Q(state=Inbox.RECEIVED) & (Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))
    found = mine & (Q(state=Inbox.WAITING) | due) if mine else Q(pk=None)
    if agreement.identity == Agreement.Identity.LEGACY and agreement.customer.customer_identifier:
        # Of several purchases one after the other, only those that nobody took yet.
        found |= Q(
            state=Inbox.WAITING,
            customer_identifier=agreement.customer.customer_identifier,
            payload__product_code=agreement.product.code,
        )
    return found


def _tells_more(event: MarketplaceEvent, agreement: Agreement) -> bool:
    """Whether it names a license that is not the agreement's, or what metering under it lacks.

    It is received once more: billing.events learns from it first, or flags what cannot be.
    """
    if event.license_id is None:
        return False
    return event.license_id != agreement.license_id or not identity.can_be_metered(agreement)


def _take_what_can_be(waiting: Sequence[MarketplaceEvent], agreement: Agreement, *, now: datetime) -> None:
    try:
        with transaction.atomic():
            _take(waiting, agreement, now=now)
    except Exception:  # found again below, one by one
        for event in waiting:
            try:
                with transaction.atomic():
                    _take([event], agreement, now=now)
            except (
                Exception
            ):  # one event's trouble must not keep the buyer, or the other events, from the purchase
                logger.exception(
                    "Event %s waited for agreement %s and cannot be applied", event.pk, agreement.pk
                )


def _take(taken: Sequence[MarketplaceEvent], agreement: Agreement, *, now: datetime) -> None:
    """Make the events the agreement's. Its state is behind until it is brought up to date."""
    told = [(event, Notification.from_json(event.payload)) for event in taken]
    owed.owe(agreement, _announced(agreement, told, now=now))
    for state, chosen in (
        (Inbox.APPLIED, [event for event, notification in told if notification.type is not Type.OTHER]),
        (Inbox.UNKNOWN, [event for event, notification in told if notification.type is Type.OTHER]),
    ):
        if chosen:
            MarketplaceEvent.objects.filter(pk__in=[event.pk for event in chosen]).update(
                agreement=agreement, state=state, error=""
            )
        for event in chosen:
            event.agreement, event.state, event.error = agreement, state, ""
    for _, notification in told:
        if notification.type is Type.VET_FAILED:
            flags.raise_flag(agreement, flags.VET_FAILED, at=now)


def _announced(
    agreement: Agreement, told: Iterable[tuple[MarketplaceEvent, Notification]], *, now: datetime
) -> Iterator[Debt]:
    """What AWS must be asked because of the events."""
    for event, notification in told:
        cause = f"{event.channel}:{event.source_id}"
        if agreement.product.has_entitlements and notification.type in _CHANGES_ENTITLEMENTS:
            yield Debt(Effect.Kind.SYNC_ENTITLEMENTS, cause, event.occurred_at, now)
        if agreement.agreement_id is not None and notification.type is Type.AMENDED:
            yield Debt(Effect.Kind.DESCRIBE, cause, event.occurred_at, now)


def bring_up_to_date(agreement: Agreement, *, by: User | str, now: datetime) -> None:
    """Fold the agreement's events (its lock is held) and owe what that brings. Twice changes nothing."""
    stored = agreement.events.filter(state=Inbox.APPLIED).order_by("occurred_at")
    payloads = stored.values_list("payload", flat=True).iterator(chunk_size=_CHUNK)
    course = course_of_sorted(Notification.from_json(payload) for payload in payloads)
    state = course.state
    before = {field.name: getattr(agreement, field.name) for field in fields(State)}
    changed = {name for name, old in before.items() if getattr(state, name) != old}
    if changed:
        for name in changed:
            setattr(agreement, name, getattr(state, name))
        agreement.save(update_fields=sorted(changed))
        _follow_up(agreement, changed, before=before, by=by, now=now)
    letters = list(mails.owed_for(agreement, course.milestones))
    owed.withdraw_mails(agreement, mails.MILESTONE_LETTERS, but=letters)
    owed.owe(agreement, [*_due_to_state(agreement, changed, now=now), *letters])


def _follow_up(
    agreement: Agreement, changed: set[str], *, before: Mapping[str, Any], by: User | str, now: datetime
) -> None:
    """What must be right together with the state, in its transaction."""
    if "status" in changed:
        statuses = {"before": str(before["status"]), "after": str(agreement.status)}
        audit.record(agreement, "status_changed", by=by, at=now, **statuses)
    if "metering_closes_at" in changed:
        ending.recompute_deadlines(agreement)
    if {"activated_at", "ended_at"} & changed and agreement.activated_at is not None:
        ending.reopen_usage([agreement], now=now)
    if "activated_at" in changed:
        timeline.extend_back(agreement, known_since=before["activated_at"], now=now)
    if "advisory_issued_at" in changed:
        if agreement.advisory_issued_at is not None:
            flags.raise_flag(agreement, flags.ADVISORY, at=now)
        else:
            flags.lower_flag(agreement, flags.ADVISORY, by=by, at=now)


def _due_to_state(agreement: Agreement, changed: set[str], *, now: datetime) -> Iterator[Debt]:
    if agreement.agreement_id is not None:
        yield Debt(Effect.Kind.DESCRIBE, "first heard of", agreement.created_at, now)
    if agreement.previous_id is None and agreement.continues_another:
        yield Debt(Effect.Kind.LINK, "it continues another", now)
    if agreement.previous_id is not None and "activated_at" in changed:
        yield Debt(Effect.Kind.LINK, "it is active", now)
    if agreement.is_continued:
        yield Debt(Effect.Kind.LINK, "another continues it", now)
    if agreement.ended_at is None or agreement.activated_at is None:
        return
    ended_at = agreement.ended_at
    if {"ended_at", "metering_closes_at"} & changed:
        # What is finished at once, and the last hour when late usage has had its settle time.
        for step, due_at in (("finished hours", now), ("last hour", ending.settled_at(agreement))):
            cause = f"{step}, ended {ended_at.isoformat()}, due {due_at.isoformat()}"
            yield Debt(Effect.Kind.FLUSH_USAGE, cause, ended_at, due_at)
    until = agreement.access_until
    cause = f"ended {ended_at.isoformat()}, access until {until.isoformat() if until else 'then'}"
    yield Debt(Effect.Kind.REVOKE, cause, ended_at, until or now)

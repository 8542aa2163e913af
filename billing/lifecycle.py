"""The state of an agreement, as the fold of all its stored events, and what a change of it owes.

Events come at least once and in any order. So the state is never stepped: on each arrival it is computed anew
from everything known, ordered by (time, type, id), and the same events always give the same state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Q

from billing import audit, customers, effects, ending
from billing.aws.limits import FINAL_WINDOW
from billing.models import Agreement, Effect, MarketplaceEvent
from billing.notifications import Notification, Type

logger = logging.getLogger(__name__)

Status = Agreement.Status

# An agreement that ends because another takes its place goes on until its license is deprovisioned.
_CONTINUED = {"RENEWED", "REPLACED"}


@dataclass(frozen=True, slots=True)
class State:
    """What the events of an agreement add up to. The names are columns of Agreement."""

    status: str = Status.PENDING
    offer_id: str | None = None
    term_starts_at: datetime | None = None
    term_ends_at: datetime | None = None
    activated_at: datetime | None = None
    ended_at: datetime | None = None
    metering_closes_at: datetime | None = None


def fold(notifications: Iterable[Notification]) -> State:
    """Pure: no clock, no database."""
    state = State()
    for notification in sorted(notifications, key=lambda notification: notification.order):
        state = _step(state, notification)
    return state


def _step(state: State, event: Notification) -> State:
    at = event.occurred_at
    state = replace(
        state,
        offer_id=event.offer_id or state.offer_id,
        term_starts_at=event.starts_at or state.term_starts_at,
        term_ends_at=event.ends_at or state.term_ends_at,
    )
    match event.type:
        # Once active, an ended agreement never comes back: its buyer gets another one.
        case Type.LICENSE_UPDATED if state.activated_at is None:
            active = replace(state, status=Status.ACTIVE, activated_at=at)
            if state.ended_at is None:
                return active
            # Cancelled before the license came: active and ending at once, so that AWS's hour for the last
            # usage is used.
            return _ending(replace(active, ended_at=at), at)
        case Type.SUBSCRIBED if state.status != Status.ENDED:
            # Also "unsubscribed and at once subscribed again": the ending is called off.
            return replace(
                state,
                status=Status.ACTIVE,
                activated_at=state.activated_at or at,
                ended_at=None,
                metering_closes_at=None,
            )
        case Type.SUBSCRIBE_FAILED if state.status == Status.PENDING:
            return replace(state, status=Status.FAILED)
        case Type.ENDED if event.agreement_status not in _CONTINUED:
            return _ending(state, at)
        case Type.DEPROVISIONED | Type.UNSUBSCRIBE_PENDING:
            return _ending(replace(state, metering_closes_at=None), at)
        case Type.UNSUBSCRIBED:
            ended = Status.FAILED if state.activated_at is None else Status.ENDED
            return replace(state, status=ended, ended_at=state.ended_at or at)
        case Type.WINDOW_OVER if state.metering_closes_at is not None and at >= state.metering_closes_at:
            return replace(state, status=Status.ENDED)
    return state


def _ending(state: State, at: datetime) -> State:
    if state.activated_at is None:
        # Never active: there is no usage to wait for.
        return replace(state, status=Status.FAILED, ended_at=state.ended_at or at)
    return replace(
        state,
        status=Status.ENDED if state.status == Status.ENDED else Status.ENDING,
        ended_at=state.ended_at or at,
        # The hour counts from License Deprovisioned; from Ended only if that never comes.
        metering_closes_at=state.metering_closes_at or at + FINAL_WINDOW,
    )


def apply(event: MarketplaceEvent, agreement: Agreement, *, now: datetime) -> None:
    """Make ``event`` one of ``agreement``'s (locked by the caller) and bring its state up to date."""
    event.agreement = agreement
    event.state = MarketplaceEvent.State.APPLIED
    event.error = ""
    event.save(update_fields=["agreement", "state", "error"])
    _refold(agreement, by="clock" if event.channel == MarketplaceEvent.Channel.CLOCK else "aws", now=now)
    notification = Notification.from_json(event.payload)
    if (
        notification.type in (Type.LICENSE_UPDATED, Type.SUBSCRIBED, Type.ENTITLEMENT_UPDATED, Type.AMENDED)
        and agreement.product.has_entitlements
    ):
        effects.owe(
            agreement,
            Effect.Kind.SYNC_ENTITLEMENTS,
            cause=f"{event.channel}:{event.source_id}",
            caused_at=event.occurred_at,
            due_at=now,
        )


def replay_waiting(agreement: Agreement, *, now: datetime) -> None:
    """Apply events that came before their agreement was known. The caller holds its lock."""
    mine = Q()
    if agreement.agreement_id is not None:
        mine |= Q(payload__agreement_id=agreement.agreement_id)
    if agreement.license_id is not None:
        mine |= Q(payload__license_arn__endswith=agreement.license_id)
    if agreement.identity == Agreement.Identity.LEGACY and agreement.customer.customer_identifier:
        mine |= Q(
            payload__product_code=agreement.product.code,
            payload__customer_identifier=agreement.customer.customer_identifier,
        )
    # events.apply locks its event first, then the agreement. An event that it holds is passed by: waiting for
    # it here could be for ever, and the sweep looks at it again.
    waiting = MarketplaceEvent.objects.select_for_update(
        skip_locked=connection.features.has_select_for_update_skip_locked
    ).filter(mine, state=MarketplaceEvent.State.WAITING)
    for event in waiting.order_by("occurred_at", "pk"):
        try:
            with transaction.atomic():
                apply(event, agreement, now=now)
        except (
            Exception
        ):  # one event's trouble must not keep the buyer, or the other events, from the purchase
            logger.exception("Event %s waited for agreement %s and cannot be applied", event.pk, agreement.pk)
            agreement.refresh_from_db()


def advance(*, now: datetime) -> None:
    """Let the clock speak: store a window's end as an event, so that the fold stays the whole truth."""
    over = Agreement.objects.filter(status=Status.ENDING, metering_closes_at__lte=now)
    for pk in over.values_list("pk", flat=True):
        try:
            _end_window(pk, now=now)
        except Exception:  # one agreement's trouble must not keep the others from ending
            logger.exception("The end of agreement %s could not be applied", pk)


@transaction.atomic
def _end_window(agreement_pk: int, *, now: datetime) -> None:
    agreement = customers.lock(agreement_pk)
    closes_at = agreement.metering_closes_at
    if agreement.status != Status.ENDING or closes_at is None or closes_at > now:
        return  # it was called off, or put off, while we waited for the lock
    notification = Notification(
        channel=MarketplaceEvent.Channel.CLOCK,
        source_id=f"window-over:{agreement.pk}:{closes_at.isoformat()}",
        type=Type.WINDOW_OVER,
        name="Metering window over",
        occurred_at=closes_at,
    )
    event, _ = MarketplaceEvent.objects.get_or_create(
        channel=notification.channel,
        source_id=notification.source_id,
        defaults={
            "kind": notification.name,
            "occurred_at": notification.occurred_at,
            "received_at": now,
            "payload": notification.to_json(),
        },
    )
    apply(event, agreement, now=now)


def _refold(agreement: Agreement, *, by: str, now: datetime) -> None:
    stored = agreement.events.filter(state=MarketplaceEvent.State.APPLIED)
    state = fold(Notification.from_json(payload) for payload in stored.values_list("payload", flat=True))
    before = {field.name: getattr(agreement, field.name) for field in fields(State)}
    changed = [name for name, old in before.items() if getattr(state, name) != old]
    if not changed:
        return
    for name in changed:
        setattr(agreement, name, getattr(state, name))
    agreement.save(update_fields=changed)
    if "status" in changed:
        audit.record(
            agreement, "status_changed", by=by, at=now, before=str(before["status"]), after=str(state.status)
        )
    if "metering_closes_at" in changed:
        ending.recompute_deadlines(agreement)
    if state.activated_at is not None and {"activated_at", "ended_at"} & set(changed):
        ending.reopen_usage([agreement], now=now)
    if (
        state.activated_at is not None
        and state.ended_at is not None
        and {"ended_at", "metering_closes_at"} & set(changed)
    ):
        _owe_flush(agreement, ended_at=state.ended_at, now=now)


def _owe_flush(agreement: Agreement, *, ended_at: datetime, now: datetime) -> None:
    """Send what is finished at once, and the last hour when late usage has had its settle time."""
    settled_at = ending.settled_at(agreement)
    for step, due_at in (("finished hours", now), ("last hour", settled_at)):
        effects.owe(
            agreement,
            Effect.Kind.FLUSH_USAGE,
            cause=f"{step}, ended {ended_at.isoformat()}, due {due_at.isoformat()}"[:200],
            caused_at=ended_at,
            due_at=due_at,
        )

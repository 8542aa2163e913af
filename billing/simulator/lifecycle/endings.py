"""How a purchase ends: its last instants and events, set up front, so a leap of the clock misses none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from billing.simulator.lifecycle import eventbridge, sns
from billing.simulator.records import Agreement, Intent
from billing.simulator.state import State

NOTICE_DAYS = (180, 120, 90, 60, 30)
RENEWAL = "renewal"
"""The kind of what is scheduled without a message: the moment at which an agreement renews by itself."""
SUCCEEDED: dict[Intent, str] = {"RENEW": "RENEWED", "REPLACE": "REPLACED"}
_PLANNED = (
    eventbridge.ENDED,
    eventbridge.ENDING,
    eventbridge.LICENSE_DEPROVISIONED,
    sns.UNSUBSCRIBE_PENDING,
    sns.UNSUBSCRIBE_SUCCESS,
    RENEWAL,
)


def is_trial_only(agreement: Agreement) -> bool:
    """A contract that ends with its free trial."""
    return agreement.ends_at is not None and agreement.ends_at == agreement.trial_ends_at


def renewal_intent(agreement: Agreement) -> Intent:
    """At its end a seller's private offer gives way to the public one (model: EndTimeBehavior)."""
    is_sellers_own = agreement.private_offer and not agreement.resale_authorization_id
    return "REPLACE" if is_sellers_own and agreement.identity == "license" else "RENEW"


def plan(state: State, agreement: Agreement, *, since: datetime) -> None:
    """What the term's end will bring, as far as it lies after ``since``. Pay as you go has none."""
    ends_at = agreement.ends_at
    if ends_at is None:
        return
    if agreement.identity == "license" and not agreement.resale_authorization_id:
        for days in NOTICE_DAYS:
            if (due := ends_at - timedelta(days=days)) >= since:
                eventbridge.ending(state, agreement, days=days, due=due)
    if not agreement.auto_renew:
        end(state, agreement, status="EXPIRED", at=ends_at)
        return
    state.schedule(agreement.agreement_id, RENEWAL, None, due=ends_at)
    if agreement.identity == "license":
        state.put(ended(state, agreement, status=SUCCEEDED[renewal_intent(agreement)], at=ends_at))


def replan(state: State, agreement: Agreement) -> None:
    """Forget the planned end and plan it anew, after the term or its renewal changed."""
    withdraw(state, agreement)
    agreement = replace(
        agreement, ended_at=None, ended_status="", deprovisioned_at=None, metering_closes_at=None
    )
    state.put(agreement)
    plan(state, agreement, since=state.clock.now())


def withdraw(state: State, agreement: Agreement) -> None:
    """Unschedule what was planned for the end."""
    _unschedule(state, agreement, _PLANNED)
    ended_at = agreement.ended_at
    if agreement.identity == "legacy" and ended_at is not None:
        state.upcoming.forget(
            agreement.agreement_id,
            lambda event: event.kind == sns.ENTITLEMENT_UPDATED and event.due >= ended_at,
        )


def end(
    state: State, agreement: Agreement, *, status: str, at: datetime, told_after: timedelta = timedelta()
) -> None:
    """End it at ``at``: the license goes a little later, metering closes an hour after; with their events."""
    agreement = ended(state, agreement, status=status, at=at)
    deprovisioned_at, closes_at = _last_instants(state, agreement, at=at)
    if agreement.activates_at is not None and agreement.activates_at > deprovisioned_at:
        # It ends before its license would appear, so none ever does.
        agreement = replace(agreement, activates_at=None)
        withdraw_activation(state, agreement)
    state.put(agreement)
    if agreement.identity == "license":
        eventbridge.ended(state, agreement, due=at + told_after)
        if agreement.activates_at is not None:
            eventbridge.license_deprovisioned(state, agreement, due=deprovisioned_at)
    elif agreement.activates_at is not None:
        sns.notification(state, agreement, sns.UNSUBSCRIBE_PENDING, due=at)
        if agreement.ends_at:
            sns.notification(state, agreement, sns.ENTITLEMENT_UPDATED, due=at)
        sns.notification(state, agreement, sns.UNSUBSCRIBE_SUCCESS, due=closes_at)


def call_off(state: State, agreement: Agreement, *, at: datetime) -> None:
    """End what has not started yet: what nobody was told of is never told, and no license ever appears."""
    was_told = not _unschedule(state, agreement, (eventbridge.CREATED,))
    withdraw_activation(state, agreement)
    agreement = replace(agreement, activates_at=None, ended_at=at, ended_status="CANCELLED")
    state.put(agreement)
    if agreement.identity == "license" and was_told:
        eventbridge.ended(state, agreement, due=at)


def withdraw_activation(state: State, agreement: Agreement) -> None:
    """Unschedule what would say that it is active or changed."""
    _unschedule(
        state, agreement, (eventbridge.LICENSE_UPDATED, sns.SUBSCRIBE_SUCCESS, sns.ENTITLEMENT_UPDATED)
    )


def ended(state: State, agreement: Agreement, *, status: str, at: datetime) -> Agreement:
    """The agreement with its last instants set; nobody is told."""
    deprovisioned_at, closes_at = _last_instants(state, agreement, at=at)
    return replace(
        agreement,
        ended_at=at,
        ended_status=status,
        deprovisioned_at=deprovisioned_at,
        metering_closes_at=closes_at,
    )


def _last_instants(state: State, agreement: Agreement, *, at: datetime) -> tuple[datetime, datetime]:
    """When entitlements go and when metering closes (facts page §3.7, both readings)."""
    timings = state.timings
    if agreement.identity == "legacy":
        return at, at + timings.final_hour
    if state.switches.final_hour_opens_with == "Purchase Agreement Ended":
        return at + timings.final_hour, at + timings.final_hour
    deprovisioned_at = at + timings.deprovisioned
    return deprovisioned_at, deprovisioned_at + timings.final_hour


def _unschedule(state: State, agreement: Agreement, kinds: Collection[str]) -> bool:
    """Take messages of these kinds off the schedule; True if there were any."""
    return state.upcoming.forget(agreement.agreement_id, lambda event: eventbridge.stem(event.kind) in kinds)

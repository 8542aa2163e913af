"""The state of an agreement as the fold of all its events. Pure: no clock, no database.

Events come at least once and in any order, so the state is never stepped: it is computed anew from all that
is known, ordered by (time, type, id), and the same events always give the same state. docs/lifecycle.md draws
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from billing.aws.limits import FINAL_WINDOW
from billing.inbox.notifications import Notification, Type
from billing.models import Agreement

Status = Agreement.Status

# How long access goes on after an end: of which AWS has not said why, as that may be on its way; and after
# one that another agreement continues, as that may be.
UNEXPLAINED_GRACE = timedelta(minutes=10)
CONTINUED_GRACE = timedelta(hours=24)

UNSUBSCRIBED, GONE = Agreement.UNSUBSCRIBED, Agreement.GONE


@dataclass(frozen=True, slots=True)
class State:
    """What the events of an agreement add up to. The names are columns of Agreement."""

    status: str = Status.PENDING
    offer_id: str | None = None
    term_starts_at: datetime | None = None
    term_ends_at: datetime | None = None
    free_trial: bool = False
    trial_ends_at: datetime | None = None
    auto_renews: bool | None = None
    intent: str = ""
    previous_agreement_id: str | None = None
    initial_agreement_id: str | None = None
    activated_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    access_until: datetime | None = None
    metering_closes_at: datetime | None = None
    advisory_issued_at: datetime | None = None

    @property
    def is_continued(self) -> bool:
        return self.end_reason in Agreement.CONTINUED


class Milestone(NamedTuple):
    """Something on the way that people are told of. The same events always pass the same ones.

    ``name`` is activated, ending, ended, failed, term or trial; ``which`` tells one from the next of its
    name: how often the agreement was activated by then, or the date in question.
    """

    name: str
    which: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Course:
    state: State
    milestones: tuple[Milestone, ...]


def fold(notifications: Iterable[Notification]) -> State:
    return course(notifications).state


def course(notifications: Iterable[Notification]) -> Course:
    return course_of_sorted(sorted(notifications, key=lambda notification: notification.occurred_at))


def course_of_sorted(notifications: Iterable[Notification]) -> Course:
    """As ``course``, of notifications that come by time: of thousands, only one instant's are in memory."""
    state = State()
    milestones: list[Milestone] = []
    activations = 0
    for event in _ties_broken(notifications):
        before, state = state, step(state, event)
        if state.status == Status.ACTIVE != before.status:
            activations += 1
        milestones += _passed(before, state, event.occurred_at, activations)
    return Course(state, tuple(milestones))


def _ties_broken(notifications: Iterable[Notification]) -> Iterator[Notification]:
    for _, together in groupby(notifications, key=lambda notification: notification.occurred_at):
        yield from sorted(together, key=lambda notification: notification.order)


def _passed(before: State, after: State, at: datetime, activations: int) -> Iterator[Milestone]:
    if after.status != before.status:
        name = "activated" if after.status == Status.ACTIVE else str(after.status)
        yield Milestone(name, str(activations), at)
    for name, date, known in (
        ("term", after.term_ends_at, before.term_ends_at),
        ("trial", after.trial_ends_at, before.trial_ends_at),
    ):
        if date is not None and date != known:
            yield Milestone(name, date.isoformat(), at)


def step(state: State, event: Notification) -> State:
    """The state after one more event; only right if all before it were folded in their order."""
    at = event.occurred_at
    state = _told(state, event)
    match event.type:
        case Type.LICENSE_UPDATED if state.activated_at is None:
            active = replace(state, status=Status.ACTIVE, activated_at=at)
            if state.ended_at is None:
                return active
            # Cancelled before the license came: active and ending at once, so that AWS's hour for the last
            # usage is used.
            return _ending(replace(active, ended_at=at), at)
        case Type.ENTITLED if state.activated_at is None and state.ended_at is None:
            return replace(state, status=Status.ACTIVE, activated_at=at)
        # Once AWS said that it ended, an agreement never comes back: its buyer gets another one.
        case Type.LICENSE_UPDATED | Type.ENTITLED if state.end_reason == GONE:
            return _going_on(state, at)
        case Type.SUBSCRIBED if _can_go_on(state):
            # Also "unsubscribed and at once subscribed again": the ending is called off.
            return _going_on(state, at)
        case Type.SUBSCRIBE_FAILED if state.status == Status.PENDING:
            return replace(state, status=Status.FAILED)
        case Type.ENDED if event.agreement_status in Agreement.CONTINUED:
            # It goes on until its license is deprovisioned; if that came first, until its successor is there.
            state = replace(state, end_reason=event.agreement_status)
            if state.activated_at is None or state.ended_at is None:
                return state
            return replace(state, access_until=state.ended_at + CONTINUED_GRACE)
        case Type.ENDED:
            reason = (event.agreement_status or "TERMINATED")[:20]
            return _ending(replace(state, end_reason=reason, access_until=None), at)
        case Type.UNSUBSCRIBE_PENDING:
            ended = replace(state, end_reason=UNSUBSCRIBED, access_until=None, metering_closes_at=None)
            return _ending(ended, at)
        case Type.DEPROVISIONED:
            # What was inferred is now AWS's word, and not taken back any more.
            reason = "" if state.end_reason == GONE else state.end_reason
            ended = replace(state, end_reason=reason, access_until=_grace(state, at), metering_closes_at=None)
            return _ending(ended, at)
        case Type.ENTITLEMENTS_GONE if state.status == Status.ACTIVE:
            return _ending(
                replace(state, end_reason=state.end_reason or GONE, access_until=_grace(state, at)), at
            )
        case Type.UNSUBSCRIBED:
            ended_as = Status.FAILED if state.activated_at is None else Status.ENDED
            reason = UNSUBSCRIBED if state.end_reason in ("", GONE) else state.end_reason
            return replace(
                state, status=ended_as, ended_at=state.ended_at or at, end_reason=reason, access_until=None
            )
        case Type.WINDOW_OVER if state.metering_closes_at is not None and at >= state.metering_closes_at:
            return replace(state, status=Status.ENDED)
        case Type.ADVISORY_ISSUED:
            return replace(state, advisory_issued_at=at)
        case Type.ADVISORY_RESOLVED:
            return replace(state, advisory_issued_at=None)
    return state


def _told(state: State, event: Notification) -> State:
    """What an event says by the way."""
    return replace(
        state,
        offer_id=event.offer_id or state.offer_id,
        term_starts_at=event.starts_at or state.term_starts_at,
        term_ends_at=event.ends_at or state.term_ends_at,
        free_trial=event.free_trial or event.trial_ends_at is not None or state.free_trial,
        trial_ends_at=event.trial_ends_at or state.trial_ends_at,
        auto_renews=state.auto_renews if event.auto_renews is None else event.auto_renews,
        intent=event.intent if event.intent in Agreement.Intent.values else state.intent,
        previous_agreement_id=event.previous_agreement_id or state.previous_agreement_id,
        initial_agreement_id=event.initial_agreement_id or state.initial_agreement_id,
    )


def _can_go_on(state: State) -> bool:
    """Whether SNS may speak of this purchase: one that EventBridge ended is another's by now."""
    if state.end_reason == GONE:
        return True
    return state.status != Status.ENDED and state.end_reason in ("", UNSUBSCRIBED)


def _going_on(state: State, at: datetime) -> State:
    return replace(
        state,
        status=Status.ACTIVE,
        activated_at=state.activated_at or at,
        ended_at=None,
        end_reason="",
        access_until=None,
        metering_closes_at=None,
    )


def _grace(state: State, at: datetime) -> datetime | None:
    """Until when access goes on after an end at ``at``."""
    if state.is_continued:
        return at + CONTINUED_GRACE
    if state.ended_at is not None:
        return state.access_until  # the reason was told, or the grace runs already
    return at + UNEXPLAINED_GRACE if not state.end_reason else None


def _ending(state: State, at: datetime) -> State:
    if state.activated_at is None:
        # Never active: there is no usage to wait for, and no access that could go on.
        return replace(state, status=Status.FAILED, ended_at=state.ended_at or at, access_until=None)
    return replace(
        state,
        status=Status.ENDED if state.status == Status.ENDED else Status.ENDING,
        ended_at=state.ended_at or at,
        # The hour counts from License Deprovisioned; from Ended only if that never comes.
        metering_closes_at=state.metering_closes_at or at + FINAL_WINDOW,
    )

"""What falls due as the clock moves: AWS's messages into the queues, and renewals by themselves.

Faults of ``operation: events`` strike here: a message late, twice, behind the next one, or never.
"""

from __future__ import annotations

from datetime import timedelta

from billing.simulator import queues
from billing.simulator.lifecycle import eventbridge, renewals, sns
from billing.simulator.records import Scheduled
from billing.simulator.state import State


def catch_up(state: State) -> None:
    """Do what has fallen due, in order, and wake who waits for a message. Call it under the lock."""
    sent = False
    # A clock that runs fast must not move the end while we run towards it.
    for event in state.upcoming.take_due(state.clock.now()):
        if event.body is None:
            renewals.renew_by_itself(state, event)
        else:
            sent = _send(state, event) or sent
    if sent:
        state.lock.notify_all()


def _send(state: State, event: Scheduled) -> bool:
    # Where nothing receives it, it is not sent, and no accident befalls it.
    if not any(event.channel in queue.receives for queue in state.queues.values()):
        return False
    fault = None if event.disturbed else state.faults.take_for_event()
    if fault is None:
        _into_queues(state, event)
        _send_overtaken(state, event)
    elif fault.kind == "double":
        _into_queues(state, event)
        _into_queues(state, event)
        _send_overtaken(state, event)
    elif fault.kind == "reorder":
        state.overtaken[event.number] = event
        return False
    elif fault.kind == "delay":
        late = event.due + timedelta(seconds=fault.seconds)
        state.schedule(
            event.agreement_id, event.kind, event.body, due=late, channel=event.channel, disturbed=True
        )
        return False
    return fault is None or fault.kind == "double"


def _send_overtaken(state: State, overtaking: Scheduled) -> None:
    """Those held back until another was sent."""
    for number, event in list(state.overtaken.items()):
        del state.overtaken[number]
        _into_queues(state, event, sent_after=overtaking)


def _into_queues(state: State, event: Scheduled, *, sent_after: Scheduled | None = None) -> None:
    sent_at = sent_after.due if sent_after else event.due
    body = _as_delivered(state, event)
    for queue in state.queues.values():
        if event.channel in queue.receives:
            queues.send(state.messages, queue.name, body, sent_at=sent_at)


def _as_delivered(state: State, event: Scheduled) -> str:
    """What the switches say now, whenever it was scheduled."""
    assert event.body is not None
    if event.channel == "sns":
        return sns.as_delivered(event.body, state.switches)
    return eventbridge.as_delivered(event.body, license_arn_prefix=state.switches.license_arn_prefix)

"""What falls due as the clock moves: AWS's messages into the queues, and renewals by themselves.

Faults of ``operation: events`` strike here: a message late, twice, behind the next one, or never.
"""

from __future__ import annotations

from datetime import timedelta

from billing.simulator import purchases, queues
from billing.simulator.records import Scheduled
from billing.simulator.state import State


def catch_up(state: State) -> None:
    """Do what has fallen due, in order, and wake who waits for a message. Call it under the lock."""
    sent = False
    for event in state.take_due():
        if event.body is None:
            purchases.renew_by_itself(state, event)
        else:
            sent = _send(state, event) or sent
    if sent:
        state.lock.notify_all()


def _send(state: State, event: Scheduled) -> bool:
    fault = None if event.disturbed else state.faults.take_for_event()
    if fault is None:
        return _into_queues(state, event)
    if fault.kind == "lose":
        return False
    if fault.kind == "double":
        _into_queues(state, event)
        return _into_queues(state, event)
    late = event.due + timedelta(seconds=fault.seconds)
    if fault.kind == "reorder" and (overtaking := state.next_scheduled()) is not None:
        late = overtaking.due + timedelta(seconds=1)
    state.schedule(
        event.agreement_id, event.kind, event.body, due=late, channel=event.channel, disturbed=True
    )
    return False


def _into_queues(state: State, event: Scheduled) -> bool:
    assert event.body is not None
    receiving = [queue for queue in state.queues.values() if event.channel in queue.receives]
    for queue in receiving:
        queues.send(state.messages, queue.name, event.body, sent_at=event.due)
    return bool(receiving)

"""The queues, their messages, and what AWS has still to send."""

from __future__ import annotations

import json

from billing.simulator import queues
from billing.simulator.aws.shapes import Json
from billing.simulator.clock import Clock
from billing.simulator.pages.paging import part
from billing.simulator.pages.render import exact, page, problem, url
from billing.simulator.queues import Message, Queue
from billing.simulator.records import Agreement, Scheduled
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect

EVENTS_SHOWN = 50
MESSAGES_SHOWN = 20


def overview(state: State, request: Request) -> Response:
    with state.lock:
        scheduled_events = state.upcoming.in_order
        shown = part(request, len(scheduled_events), size=EVENTS_SHOWN)
        context = {
            "queues": summaries(state),
            "scheduled": [scheduled(event) for event in shown.of(scheduled_events)],
            "part": shown,
            "is_paged": shown.total > EVENTS_SHOWN,
        }
    return page(state, "queues", context)


def messages(state: State, name: str, request: Request) -> Response:
    """Looking does not receive: no message is hidden from the app, none counts as received."""
    with state.lock:
        queue = state.queues.get(name)
        if queue is None:
            return problem(state, f"There is no queue {name!r}.", back="/control/queues", status=404)
        held = list(queues.of(state.messages, name))
        held.reverse()
        shown = part(request, len(held), size=MESSAGES_SHOWN)
        context = {
            "queue": _summary(state, queue),
            "messages": [_shown(message) for message in shown.of(held)],
            "part": shown,
            "is_paged": shown.total > MESSAGES_SHOWN,
        }
    return page(state, "messages", context)


def redrive(state: State, name: str) -> Response | None:
    """Put dead letters back where they came from, as SQS's redrive does."""
    with state.lock:
        if name not in state.queues:
            return None
        sources = [queue.name for queue in state.queues.values() if queue.dead_letter_queue == name]
        queues.redrive(state.messages, name, sources[0] if sources else name)
        state.lock.notify_all()
    return redirect("/control/queues")


def summaries(state: State) -> list[Json]:
    return [_summary(state, queue) for queue in state.queues.values()]


def _summary(state: State, queue: Queue) -> Json:
    held = list(queues.of(state.messages, queue.name))
    in_flight = sum(message.is_in_flight() for message in held)
    return {
        "name": queue.name,
        "url": url("control", "queues", queue.name),
        "visible": len(held) - in_flight,
        "in_flight": in_flight,
        "receives": " and ".join(
            {"eventbridge": "EventBridge", "sns": "SNS"}[channel] for channel in queue.receives
        ),
        "dead_letter_queue": queue.dead_letter_queue or "",
        "max_receives": queue.max_receives,
        "visibility_seconds": queue.visibility_seconds,
        "dead_letters": sum(message.moved_from is not None for message in held),
        "buries_for": [
            other.name for other in state.queues.values() if other.dead_letter_queue == queue.name
        ],
        "redrive_url": url("control", "queues", queue.name) + "/redrive",
    }


def scheduled(event: Scheduled) -> Json:
    return {
        "at": exact(event.due),
        "kind": event.kind if event.body is not None else "Automatic renewal",
        "agreement_id": event.agreement_id,
        "url": url("subscriptions", event.agreement_id),
        "disturbed": event.disturbed,
    }


def messages_about(state: State, agreement: Agreement) -> list[Json]:
    """What lies in a queue and names the agreement, or (SNS names no agreement) its customer."""
    names = [agreement.agreement_id, agreement.customer_identifier or agreement.agreement_id]
    found = [
        message for message in state.messages.data.values() if any(name in message.body for name in names)
    ]
    return [_shown(message) for message in found]


def _shown(message: Message) -> Json:
    body = _unpacked(message.body)
    return {
        "id": message.message_id,
        "sent": exact(message.sent_at),
        "kind": _kind(body),
        "queue": message.queue,
        "standing": _standing(message),
        "moved_from": message.moved_from or "",
        "body": json.dumps(body, indent=2, ensure_ascii=False),
    }


def _standing(message: Message) -> str:
    received = f"received {message.receive_count} times" if message.receive_count != 1 else "received once"
    if message.is_in_flight():
        seconds = message.visible_at - Clock.real_now().timestamp()
        return f"in flight for {max(seconds, 0):.0f} s more, {received}"
    return received if message.receive_count else "waiting"


def _unpacked(text: str) -> object:
    """The body as JSON; the message inside an SNS envelope is a text of JSON and is unpacked too."""
    try:
        body = json.loads(text)
    except ValueError:
        return text
    if isinstance(body, dict) and isinstance(body.get("Message"), str):
        body["Message"] = _unpacked(body["Message"])
    return body


def _kind(body: object) -> str:
    if not isinstance(body, dict):
        return "message"
    inner = body.get("Message", body)
    action = inner.get("action") if isinstance(inner, dict) else None
    return str(body.get("detail-type") or action or "message")

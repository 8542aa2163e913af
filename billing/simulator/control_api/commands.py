"""What POST does under /_simulator/: reads its body member by member, acts, and says what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from billing.simulator import queues
from billing.simulator.aws.shapes import Json
from billing.simulator.aws.sqs import LONGEST_VISIBILITY
from billing.simulator.catalog import read_product
from billing.simulator.control_api import fields, reports
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import actions, purchases
from billing.simulator.queues import Queue
from billing.simulator.records import Agreement
from billing.simulator.state import State
from billing.simulator.switches import set_switches, set_timings

CHANNELS = ("eventbridge", "sns")
MOST_RECEIVES = 1000
LARGEST_MESSAGE = 1024 * 1024
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NEW_AGREEMENT = ("renew", "replace")


def subscribe(state: State, body: Json) -> Json:
    fields.only(
        body,
        "product_code",
        "aws_account_id",
        "quantities",
        "free_trial",
        "started_at",
        "identity",
        "private_offer",
        "channel_partner",
        "auto_renew",
        "payment_fails",
        "agreement_created_after",
        "license_updated_after",
    )
    purchase = purchases.subscribe(
        state,
        product_code=fields.text(body, "product_code") or "",
        aws_account_id=fields.text(body, "aws_account_id"),
        quantities=fields.mapping(body, "quantities"),
        free_trial=_free_trial(body),
        started_at=fields.instant(body, "started_at"),
        identity=_identity(body),
        private_offer=fields.flag(body, "private_offer") or False,
        channel_partner=fields.text(body, "channel_partner"),
        auto_renew=fields.flag(body, "auto_renew") or False,
        payment_fails=fields.flag(body, "payment_fails") or False,
        agreement_created_after=fields.duration(body, "agreement_created_after"),
        license_updated_after=fields.duration(body, "license_updated_after"),
    )
    return {"token": purchase.token, **reports.names(purchase.agreement)}


def _free_trial(body: Json) -> bool | int:
    value = body.get("free_trial")
    if value is None:
        return False
    if not isinstance(value, int):
        raise Refused("free_trial is true, false, or a number of days")
    return value


def _identity(body: Json) -> Any:
    identity = fields.text(body, "identity")
    if identity not in (None, "license", "legacy"):
        raise Refused("identity is license or legacy")
    return identity


def act(state: State, path: str, body: Json) -> Json:
    """POST agreements/<agreement_id>/<action>."""
    agreement_id, _, action = path.removeprefix("agreements/").rpartition("/")
    with state.lock:
        agreement = state.agreement(agreement_id)
        if action == "token":
            fields.only(body)
            return _with_token(state, agreement)
        now_is = actions.perform(state, agreement, action, body)
        described = reports.describe(state, now_is)
        return described | _with_token(state, now_is) if action in _NEW_AGREEMENT else described


def _with_token(state: State, agreement: Agreement) -> Json:
    return {"token": purchases.issue_token(state, agreement), **reports.names(agreement)}


def move_clock(state: State, body: Json) -> Json:
    fields.only(body, "advance_seconds", "now", "freeze", "speed", "offset_seconds")
    now = fields.instant(body, "now")
    with state.lock:
        if (offset := fields.duration(body, "offset_seconds", signed=True)) is not None:
            if now is not None:
                raise Refused("now and offset_seconds exclude each other")
            now = fields.shifted(state.clock.real_now(), offset)
        advance = fields.duration(body, "advance_seconds", signed=True)
        # Refuse what would leave the calendar before the clock is touched.
        fields.shifted(now or state.clock.now(), advance or timedelta())
        state.move_clock(
            now=now, advance=advance, freeze=fields.flag(body, "freeze"), speed=fields.speed(body, "speed")
        )
        return reports.clock(state)


def add_fault(state: State, body: Json) -> Json:
    fields.only(body, "operation", "fault", "count", "seconds", "share", "code", "message", "status")
    with state.lock:
        state.faults.add(body)
        return {"faults": reports.faults(state)}


def clear_faults(state: State) -> Json:
    with state.lock:
        state.faults.clear()
    return {}


def add_product(state: State, body: Json) -> Json:
    """Members unknown here pass: a catalog may hold what only the seller's own software reads."""
    product = read_product(body)
    with state.lock:
        state.products[product.code] = product
    return {"code": product.code}


def switch(state: State, body: Json) -> Json:
    with state.lock:
        state.change_conditions(switches=set_switches(state.switches, body))
        return reports.switches(state)


def time(state: State, body: Json) -> Json:
    with state.lock:
        state.change_conditions(timings=set_timings(state.timings, body))
        return reports.timings(state)


def reset(state: State, body: Json) -> Json:
    fields.only(body)
    state.reset()
    return reports.clock(state)


def set_up_queue(state: State, body: Json) -> Json:
    """Create a queue or change one: what is not given stays as it is."""
    fields.only(body, "name", "visibility_seconds", "receives", "dead_letter_queue", "max_receives")
    name = fields.text(body, "name") or ""
    if not _QUEUE_NAME.fullmatch(name):
        raise Refused("name is 1 to 80 letters, digits, - and _")
    with state.lock:
        queue = state.queues.get(name) or Queue(name, receives=())
        visibility = fields.whole(body, "visibility_seconds", low=0, high=LONGEST_VISIBILITY)
        most = fields.whole(body, "max_receives", low=1, high=MOST_RECEIVES)
        queue = replace(
            queue,
            visibility_seconds=queue.visibility_seconds if visibility is None else visibility,
            max_receives=queue.max_receives if most is None else most,
            receives=_receives(body) if "receives" in body else queue.receives,
        )
        if "dead_letter_queue" in body:
            queue = replace(queue, dead_letter_queue=_dead_letter_queue(state, name, body))
        state.queues[name] = queue
        return reports.queue_report(state, queue)


def _receives(body: Json) -> Any:
    wanted = body["receives"]
    if not isinstance(wanted, list) or any(channel not in CHANNELS for channel in wanted):
        raise Refused(f"receives is a list of {' and '.join(CHANNELS)}")
    return tuple(channel for channel in CHANNELS if channel in wanted)


def _dead_letter_queue(state: State, name: str, body: Json) -> str | None:
    dead = fields.text(body, "dead_letter_queue")
    if dead is not None and dead not in state.queues:
        raise Refused(f"There is no queue {dead}. Create it first, then name it as dead_letter_queue.")
    if dead == name:
        raise Refused("A queue is not its own dead-letter queue")
    return dead


def at_queue(state: State, path: str, body: Json) -> Json:
    """POST queues/<name>/messages and queues/<name>/redrive."""
    name, _, action = path.removeprefix("queues/").rpartition("/")
    with state.lock:
        if name not in state.queues:
            raise Refused(f"There is no queue {name!r}. There are: {', '.join(state.queues)}")
        if action == "messages":
            return _send(state, name, body)
        if action == "redrive":
            fields.only(body)
            return _redrive(state, name)
        raise Refused(f"At a queue there are messages and redrive, not {action!r}")


def _send(state: State, name: str, body: Json) -> Json:
    fields.only(body, "body")
    text = fields.text(body, "body")
    if not text or len(text.encode()) > LARGEST_MESSAGE:
        raise Refused("body is the text of the message, 1 byte to 1 MiB")
    message = queues.send(state.messages, name, text, sent_at=state.clock.now())
    state.lock.notify_all()
    return {"message_id": message.message_id}


def _redrive(state: State, name: str) -> Json:
    sources = [queue.name for queue in state.queues.values() if queue.dead_letter_queue == name]
    if not sources:
        raise Refused(f"{name} is nobody's dead-letter queue, so nothing in it is to be moved back")
    moved = queues.redrive(state.messages, name, sources[0])
    state.lock.notify_all()
    return {"moved": moved}


COMMANDS: dict[str, tuple[Callable[[State, Json], object], str]] = {
    "subscribe": (subscribe, "Buy a product; answers the registration token and the names of the purchase."),
    "clock": (move_clock, "Move the clock: advance_seconds, now, freeze, speed, offset_seconds."),
    "faults": (
        add_fault,
        "Order an accident: operation, fault, count, seconds, share, code, message, status.",
    ),
    "products": (add_product, "List a product, one entry of the catalog; the same code again replaces it."),
    "switches": (switch, "Set what no AWS source settles; GET switches names them."),
    "timings": (time, "Set how many simulated seconds AWS takes; GET timings names them."),
    "queues": (
        set_up_queue,
        "Create or change a queue: name, visibility_seconds, receives, dead_letter_queue, max_receives.",
    ),
    "reset": (reset, "Forget everything since the start."),
}

"""The JSON API under /_simulator/ by which tests and people drive the simulation.

Every refusal is a 400 that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from billing.simulator import delivery, fields, purchases, queues
from billing.simulator.catalog import read_product
from billing.simulator.clock import iso
from billing.simulator.errors import Refused
from billing.simulator.invoice import invoice
from billing.simulator.queues import Queue
from billing.simulator.records import Agreement
from billing.simulator.shapes import Json
from billing.simulator.state import State
from billing.simulator.switches import describe_switches, set_switches, set_timings
from billing.simulator.web import Request, Response, json_response

PREFIX = "/_simulator/"


def answer(state: State, request: Request) -> Response:
    path = request.path.removeprefix(PREFIX).strip("/")
    try:
        return json_response(_perform(state, request, path))
    except Refused as refusal:
        return json_response({"error": str(refusal)}, status=400)


def _perform(state: State, request: Request, path: str) -> object:
    if request.method == "GET" and path in _READS:
        with state.lock:
            return _READS[path](state)
    if request.method == "POST" and path in _COMMANDS:
        return _COMMANDS[path](state, fields.read(request.body))
    if request.method == "POST" and path.startswith("agreements/"):
        return _act(state, path, fields.read(request.body))
    if request.method == "DELETE" and path == "faults":
        with state.lock:
            state.faults.clear()
        return {}
    known = ", ".join([f"GET {name}" for name in _READS] + [f"POST {name}" for name in _COMMANDS])
    raise Refused(
        f"{request.method} {request.path} is not known. Known: {known}, DELETE faults,"
        " POST agreements/ID/ACTION"
    )


def _subscribe(state: State, body: Json) -> Json:
    purchase = purchases.subscribe(
        state,
        product_code=fields.text(body, "product_code") or "",
        aws_account_id=fields.text(body, "aws_account_id"),
        quantities=fields.mapping(body, "quantities"),
        free_trial=fields.flag(body, "free_trial") or False,
        started_at=fields.instant(body, "started_at"),
        identity=_identity(body),
        agreement_created_after=fields.duration(body, "agreement_created_after"),
        license_updated_after=fields.duration(body, "license_updated_after"),
    )
    return {"token": purchase.token, **_names(purchase.agreement)}


def _identity(body: Json) -> Any:
    identity = fields.text(body, "identity")
    if identity not in (None, "license", "legacy"):
        raise Refused("identity is license or legacy")
    return identity


def _act(state: State, path: str, body: Json) -> Json:
    agreement_id, _, action = path.removeprefix("agreements/").rpartition("/")
    with state.lock:
        agreement = state.agreement(agreement_id)
        if action == "cancel":
            purchases.cancel(state, agreement)
        elif action == "amend":
            purchases.amend(state, agreement, quantities=fields.mapping(body, "quantities"))
        elif action == "token":
            return {"token": purchases.issue_token(state, agreement), **_names(agreement)}
        else:
            raise Refused(f"An agreement knows cancel, amend and token, not {action!r}")
        return describe(state, state.agreement(agreement_id))


def _move_clock(state: State, body: Json) -> Json:
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
        return _clock(state)


def _add_fault(state: State, body: Json) -> Json:
    with state.lock:
        state.faults.add(body)
        return {"faults": _faults(state)}


def _add_product(state: State, body: Json) -> Json:
    product = read_product(body)
    with state.lock:
        state.products[product.code] = product
    return {"code": product.code}


def _switch(state: State, body: Json) -> Json:
    with state.lock:
        state.change_conditions(switches=set_switches(state.switches, body))
        return _switches(state)


def _switches(state: State) -> Json:
    return {"switches": describe_switches(state.switches)}


def _time(state: State, body: Json) -> Json:
    with state.lock:
        state.change_conditions(timings=set_timings(state.timings, body))
        return _timings(state)


def _timings(state: State) -> Json:
    return {name: value.total_seconds() for name, value in asdict(state.timings).items()}


def _reset(state: State, body: Json) -> Json:
    state.reset()
    return _clock(state)


def _clock(state: State) -> Json:
    return {
        "now": state.clock.now().isoformat().replace("+00:00", "Z"),
        "frozen": state.clock.frozen,
        "speed": state.clock.speed,
    }


def _faults(state: State) -> list[Json]:
    return [
        {"operation": f.operation, "fault": f.kind, "count": f.count, "seconds": f.seconds, "share": f.share}
        for f in state.faults.pending
    ]


def describe(state: State, agreement: Agreement) -> Json:
    """An agreement as the state report and the pages show it."""
    now = state.clock.now()

    def when(moment: datetime | None) -> str | None:
        return iso(moment) if moment else None

    return {
        **_names(agreement),
        "product_code": agreement.product_code,
        "identity": agreement.identity,
        "offer_id": agreement.offer_id,
        "status": agreement.status(now),
        "license_active": agreement.is_entitled(now),
        "metering_open": agreement.is_metered(now),
        "quantities": agreement.quantities_at(now),
        "accepted_at": when(agreement.accepted_at),
        "starts_at": when(agreement.starts_at),
        "activates_at": when(agreement.activates_at),
        "ends_at": when(agreement.ends_at),
        "trial_ends_at": when(agreement.trial_ends_at),
        "ended_at": when(agreement.ended_at),
        "deprovisioned_at": when(agreement.deprovisioned_at),
        "metering_closes_at": when(agreement.metering_closes_at),
    }


def _names(agreement: Agreement) -> Json:
    return {
        "license_arn": agreement.license_arn,
        "agreement_id": agreement.agreement_id,
        "aws_account_id": agreement.aws_account_id,
        "customer_identifier": agreement.customer_identifier,
    }


def report(state: State) -> Json:
    """What GET /_simulator/state shows: no tokens, no message bodies."""
    delivery.catch_up(state)
    return {
        "clock": {**_clock(state), "offset_seconds": round(state.clock.offset.total_seconds(), 3)},
        "products": list(state.products),
        "agreements": [describe(state, agreement) for agreement in state.agreements.values()],
        "queues": {queue.name: _counts(state, queue) for queue in state.queues.values()},
        "scheduled_events": [
            {"due": iso(event.due), "kind": event.kind, "agreement_id": event.agreement_id}
            for event in state.schedule_in_order
        ],
        "faults": _faults(state),
        "billed_records": len(state.billed),
        "lints": {lint.finding: lint.count for lint in state.lints.values()},
    }


def _counts(state: State, queue: Queue) -> Json:
    held = list(queues.of(state.messages, queue.name))
    in_flight = sum(message.is_in_flight() for message in held)
    return {"visible": len(held) - in_flight, "in_flight": in_flight}


_READS: dict[str, Callable[[State], object]] = {
    "state": report,
    "requests": lambda state: {"requests": state.requests.entries},
    "invoice.json": invoice,
    "switches": _switches,
    "timings": _timings,
}
_COMMANDS: dict[str, Callable[[State, Json], object]] = {
    "subscribe": _subscribe,
    "clock": _move_clock,
    "faults": _add_fault,
    "products": _add_product,
    "switches": _switch,
    "timings": _time,
    "reset": _reset,
}

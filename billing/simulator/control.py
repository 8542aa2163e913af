"""The JSON API under /_simulator/ by which tests and people drive the simulation.

Every refusal is a 400 that says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from billing.simulator import purchases
from billing.simulator.catalog import read_product
from billing.simulator.clock import iso, parse_iso
from billing.simulator.errors import Refused
from billing.simulator.invoice import invoice
from billing.simulator.shapes import Json
from billing.simulator.state import EVENT_QUEUE, Agreement, State
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
        return _COMMANDS[path](state, _body(request))
    if request.method == "POST" and path.startswith("agreements/"):
        return _act(state, path, _body(request))
    if request.method == "DELETE" and path == "faults":
        with state.lock:
            state.faults.clear()
        return {}
    known = ", ".join([f"GET {name}" for name in _READS] + [f"POST {name}" for name in _COMMANDS])
    raise Refused(
        f"{request.method} {request.path} is not known. Known: {known}, DELETE faults,"
        " POST agreements/ID/ACTION"
    )


def _body(request: Request) -> Json:
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise Refused("The body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused("The body is a JSON object")
    return body


def _subscribe(state: State, body: Json) -> Json:
    purchase = purchases.subscribe(
        state,
        product_code=_text(body, "product_code") or "",
        aws_account_id=_text(body, "aws_account_id"),
        quantities=_map(body, "quantities"),
        free_trial=_flag(body, "free_trial") or False,
        started_at=_instant(body, "started_at"),
        identity=_identity(body),
        agreement_created_after=_duration(body, "agreement_created_after"),
        license_updated_after=_duration(body, "license_updated_after"),
    )
    return {"token": purchase.token, **_names(purchase.agreement)}


def _identity(body: Json) -> Any:
    identity = _text(body, "identity")
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
            purchases.amend(state, agreement, quantities=_map(body, "quantities"))
        elif action == "token":
            return {"token": purchases.issue_token(state, agreement), **_names(agreement)}
        else:
            raise Refused(f"An agreement knows cancel, amend and token, not {action!r}")
        return describe(state, agreement)


def _move_clock(state: State, body: Json) -> Json:
    now = _instant(body, "now")
    with state.lock:
        if (offset := _duration(body, "offset_seconds", signed=True)) is not None:
            if now is not None:
                raise Refused("now and offset_seconds exclude each other")
            now = _shifted(state.clock.real_now(), offset)
        advance = _duration(body, "advance_seconds", signed=True)
        # Refuse what would leave the calendar before the clock is touched.
        _shifted(now or state.clock.now(), advance or timedelta())
        state.move_clock(now=now, advance=advance, freeze=_flag(body, "freeze"))
        return _clock(state)


def _shifted(moment: datetime, by: timedelta) -> datetime:
    try:
        moved = moment + by
    except OverflowError:
        moved = None
    if moved is None or not 2000 <= moved.year <= 2999:
        raise Refused("The clock runs from the year 2000 to 2999")
    return moved


def _add_fault(state: State, body: Json) -> Json:
    with state.lock:
        state.faults.add(body)
        return {"faults": _faults(state)}


def _add_product(state: State, body: Json) -> Json:
    product = read_product(body)
    with state.lock:
        state.products[product.code] = product
    return {"code": product.code}


def _reset(state: State, body: Json) -> Json:
    state.reset()
    return _clock(state)


def _clock(state: State) -> Json:
    return {"now": state.clock.now().isoformat().replace("+00:00", "Z"), "frozen": state.clock.frozen}


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
    state.deliver_due()
    queue = state.queues[EVENT_QUEUE]
    return {
        "clock": {**_clock(state), "offset_seconds": round(state.clock.offset.total_seconds(), 3)},
        "products": list(state.products),
        "agreements": [describe(state, agreement) for agreement in state.agreements.values()],
        "queues": {queue.name: {"visible": queue.visible, "in_flight": queue.in_flight}},
        "scheduled_events": [
            {"due": iso(event.due), "kind": event.kind, "agreement_id": event.agreement_id}
            for event in state.scheduled
        ],
        "faults": _faults(state),
        "billed_records": len(state.billed),
        "lints": state.lints,
    }


_READS: dict[str, Callable[[State], object]] = {
    "state": report,
    "requests": lambda state: {"requests": state.requests.entries},
    "invoice.json": invoice,
}
_COMMANDS: dict[str, Callable[[State, Json], object]] = {
    "subscribe": _subscribe,
    "clock": _move_clock,
    "faults": _add_fault,
    "products": _add_product,
    "reset": _reset,
}


def _text(body: Json, key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused(f"{key} is a text")
    return value


def _flag(body: Json, key: str) -> bool | None:
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{key} is true or false")
    return value


def _map(body: Json, key: str) -> Json:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise Refused(f"{key} is a JSON object")
    return value or {}


def _instant(body: Json, key: str) -> datetime | None:
    text = _text(body, key)
    if text is None:
        return None
    try:
        return _shifted(parse_iso(text), timedelta())
    except ValueError as error:
        raise Refused(f"{key}: {error}") from None


def _duration(body: Json, key: str, *, signed: bool = False) -> timedelta | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or (value < 0 and not signed):
        raise Refused(f"{key} is a number of seconds")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise Refused(f"{key} is out of range") from None

"""Pages for the seller: the control room (clock, faults, queue, requests) and the invoice."""

from __future__ import annotations

import json
from datetime import timedelta

from billing.simulator import control
from billing.simulator.errors import Refused
from billing.simulator.invoice import invoice
from billing.simulator.render import page, readable
from billing.simulator.shapes import Json
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect

REQUESTS_SHOWN = 50
LINES_SHOWN = 500
STEPS = (("1 minute", 60), ("10 minutes", 600), ("1 hour", 3600), ("1 day", 86400), ("30 days", 2592000))


def route(state: State, section: str, rest: str, request: Request) -> Response | None:
    if request.method == "POST":
        return _command(state, f"{section}/{rest}", request.form)
    if (section, rest) == ("control", ""):
        return _control_room(state)
    if (section, rest) == ("invoice", ""):
        return _invoice(state)
    return None


def _command(state: State, path: str, form: dict[str, str]) -> Response | None:
    if path == "control/clock":
        _move_clock(state, form)
    elif path == "control/clear-faults":
        with state.lock:
            state.faults.clear()
    else:
        return None
    return redirect("/control")


def _move_clock(state: State, form: dict[str, str]) -> None:
    move = form.get("move", "")
    if move in ("freeze", "resume"):
        state.move_clock(freeze=move == "freeze")
        return
    if move not in {str(seconds) for _, seconds in STEPS}:
        raise Refused("The clock has no such button")
    state.move_clock(advance=timedelta(seconds=int(move)))


def _control_room(state: State) -> Response:
    with state.lock:
        report = control.report(state)
        requests = state.requests.entries[-REQUESTS_SHOWN:]
    context = {
        "steps": [{"label": label, "seconds": str(seconds)} for label, seconds in STEPS],
        "queues": [{"name": name, **_as_text(counts)} for name, counts in report["queues"].items()],
        "scheduled": [readable(event) for event in report["scheduled_events"][:10]],
        "scheduled_count": str(len(report["scheduled_events"])),
        "faults": [_as_text(fault) for fault in report["faults"]],
        "lints": [{"finding": finding, "count": str(count)} for finding, count in report["lints"].items()],
        "billed": str(report["billed_records"]),
        "requests": [_shown(entry) for entry in reversed(requests)],
    }
    return page(state, "control", context)


def _shown(entry: Json) -> Json:
    return {
        **_as_text(readable(entry)),
        "failed": entry["status"] != 200,
        "request": json.dumps(entry["request"], indent=2),
        "response": json.dumps(entry["response"], indent=2),
    }


def _as_text(values: Json) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in values.items()}


def _invoice(state: State) -> Response:
    content = invoice(state)
    lines = content["lines"]
    context = {
        "totals": _with_titles(state, content["totals"]),
        "lines": _with_titles(state, lines[-LINES_SHOWN:]),
        "line_count": str(len(lines)),
        "is_cut": len(lines) > LINES_SHOWN,
    }
    return page(state, "invoice", context)


def _with_titles(state: State, rows: list[Json]) -> list[Json]:
    with state.lock:
        titles = {code: product.title for code, product in state.products.items()}
    return [{**readable(row), "title": titles.get(row["product_code"], row["product_code"])} for row in rows]

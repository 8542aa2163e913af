"""The JSON API under /_simulator/ by which tests and people drive the simulation: its addresses.

Every refusal is a 400 that says why, one of another site's page a 403.
"""

from __future__ import annotations

from collections.abc import Callable

from billing.simulator import usage_report
from billing.simulator.aws.shapes import Json
from billing.simulator.control_api import commands, fields, reports
from billing.simulator.control_api.reports import describe, report
from billing.simulator.errors import Refused
from billing.simulator.invoice import invoice
from billing.simulator.lifecycle.actions import ACTIONS
from billing.simulator.state import State
from billing.simulator.web import Request, Response, json_response

__all__ = ["PREFIX", "answer", "describe", "report"]

PREFIX = "/_simulator/"


def answer(state: State, request: Request) -> Response:
    if request.method != "GET" and _is_foreign(request):
        return json_response({"error": "Pages of other sites may not drive the simulator"}, status=403)
    path = request.path.removeprefix(PREFIX).strip("/")
    try:
        return _answer(state, request, path)
    except Refused as refusal:
        return json_response({"error": str(refusal)}, status=400)


def _is_foreign(request: Request) -> bool:
    """Browsers name the site that a request comes from; scripts do not."""
    origin = request.header("Origin")
    return bool(origin) and origin.rpartition("://")[2] != request.host


def _answer(state: State, request: Request, path: str) -> Response:
    if request.method == "GET" and path == "invoice.csv":
        return _csv(usage_report.csv_text(state))
    if request.method == "GET" and path in _READS:
        with state.lock:
            return json_response(_READS[path][0](state))
    if request.method == "POST" and (perform := _command(path)) is not None:
        return json_response(perform(state, fields.read(request.body)))
    if request.method == "DELETE" and path == "faults":
        return json_response(commands.clear_faults(state))
    known = ", ".join(listing()["addresses"])
    raise Refused(f"{request.method} {request.path} is not known. Known: {known}")


def _command(path: str) -> Callable[[State, Json], object] | None:
    if path in commands.COMMANDS:
        return commands.COMMANDS[path][0]
    if path.startswith("agreements/"):
        return lambda state, body: commands.act(state, path, body)
    if path.startswith("queues/"):
        return lambda state, body: commands.at_queue(state, path, body)
    return None


def _csv(text: str) -> Response:
    headers = (("Content-Type", "text/csv; charset=utf-8"), ("Cache-Control", "no-store"))
    return Response(200, text.encode(), headers)


def listing() -> Json:
    """Every address, with a line on what it does."""
    addresses = {f"GET {name}": about for name, (_, about) in _READS.items() if name}
    addresses["GET invoice.csv"] = "The same, with the columns of AWS's usage report."
    addresses |= {f"POST {name}": about for name, (_, about) in commands.COMMANDS.items()}
    addresses["POST agreements/AGREEMENT_ID/token"] = "A fresh registration token."
    for action in ACTIONS.values():
        addresses[f"POST agreements/AGREEMENT_ID/{action.name}"] = action.about
    addresses["POST queues/NAME/messages"] = "Send a message of any body: a poison one, or another product's."
    addresses["POST queues/NAME/redrive"] = "Move the messages of a dead-letter queue back."
    addresses["DELETE faults"] = "Clear all faults."
    return {"under": PREFIX, "addresses": addresses}


_READS: dict[str, tuple[Callable[[State], object], str]] = {
    "": (lambda _: listing(), ""),
    "state": (report, "Clock, agreements, queues, scheduled events, faults and findings."),
    "requests": (
        lambda state: {"requests": state.requests.entries},
        "The last calls of SDKs, request and response, oldest first.",
    ),
    "invoice.json": (invoice, "What AWS would bill: by license, dimension and hour, with totals."),
    "switches": (reports.switches, "Every switch: its value, default and meaning."),
    "timings": (reports.timings, "How many simulated seconds AWS takes for what."),
    "products": (lambda state: {"products": reports.products(state)}, "The products on sale."),
    "queues": (lambda state: {"queues": reports.queues_report(state)}, "The queues and how they are set up."),
}

"""The request log: what SDKs sent and what they got, side by side."""

from __future__ import annotations

import json

from billing.simulator.aws.shapes import Json
from billing.simulator.pages.forms import Field
from billing.simulator.pages.paging import part
from billing.simulator.pages.render import page, problem, readable, url
from billing.simulator.request_log import KEPT
from billing.simulator.state import State
from billing.simulator.web import Request, Response

REQUESTS_SHOWN = 25
LONGEST_BODY = 6000
"""Characters of a body shown in the list; the request's own page shows all."""


def requests(state: State, request: Request) -> Response:
    """Newest first, all or those of one operation, or only those that failed."""
    operation = request.query.get("operation", "")
    only_failed = bool(request.query.get("failed"))
    with state.lock:
        entries = state.requests.entries
    entries.reverse()
    operations = sorted({entry["operation"] for entry in entries})
    chosen = [
        entry
        for entry in entries
        if operation in ("", entry["operation"]) and (not only_failed or entry["status"] != 200)
    ]
    shown = part(request, len(chosen), size=REQUESTS_SHOWN)
    context = {
        "requests": [_shown(entry, longest=LONGEST_BODY) for entry in shown.of(chosen)],
        "filters": [
            Field(
                "operation",
                "Operation",
                operation,
                kind="select",
                options=(("", "All"), *((name, name or "(none)") for name in operations if name)),
            ),
            Field("failed", "Only what failed", "on" if only_failed else "", kind="checkbox"),
        ],
        "is_filtered": bool(operation or only_failed),
        "is_empty": not entries,
        "host": request.host,
        "kept": KEPT,
        "part": shown,
        "is_paged": shown.total > REQUESTS_SHOWN,
    }
    return page(state, "requests", context)


def request(state: State, request_id: str) -> Response:
    with state.lock:
        entries = state.requests.entries
    for entry in entries:
        if entry["request_id"] == request_id:
            return page(state, "request", {"entry": _shown(entry, longest=None)})
    gone = f"The log has no such request. It keeps the last {KEPT}."
    return problem(state, gone, back="/control/requests", status=404)


def newest(state: State, count: int) -> list[Json]:
    return [_shown(entry, longest=LONGEST_BODY) for entry in reversed(state.requests.entries[-count:])]


def _shown(entry: Json, *, longest: int | None) -> Json:
    bodies = {name: json.dumps(entry[name], indent=2, ensure_ascii=False) for name in ("request", "response")}
    is_cut = longest is not None and any(len(body) > longest for body in bodies.values())
    return {
        **readable(entry),
        **{name: body[:longest] for name, body in bodies.items()},
        "is_cut": is_cut,
        "failed": entry["status"] != 200,
        "code": _code(entry["response"]),
        "url": url("control", "requests", entry["request_id"]),
        "operation": entry["operation"] or "(no operation)",
    }


def _code(response: object) -> str:
    code = response.get("__type", "") if isinstance(response, dict) else ""
    return str(code).rpartition("#")[2]

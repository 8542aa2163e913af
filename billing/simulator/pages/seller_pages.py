"""The seller's control room: the clock, what is going on, and the way back to the start."""

from __future__ import annotations

from datetime import datetime, timedelta

from billing.simulator.aws.shapes import Json
from billing.simulator.control_api.fields import FASTEST, shifted
from billing.simulator.errors import Refused
from billing.simulator.pages import fault_pages, invoice_pages, queue_pages, request_pages, switch_pages
from billing.simulator.pages.forms import Field, filled, instant, number
from billing.simulator.pages.render import exact, page, problem
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect

STEPS = (
    ("1 minute", 60),
    ("10 minutes", 600),
    ("1 hour", 3600),
    ("6 hours", 6 * 3600),
    ("1 day", 86400),
    ("30 days", 30 * 86400),
)
EVENTS_SHOWN = 5
REQUESTS_SHOWN = 5
_LINTS = {
    "double billing": "Usage of one purchase was metered under its license and under its product code:"
    " AWS bills both. When migrating, stop the first before starting the second.",
}


def route(state: State, section: str, rest: str, request: Request) -> Response | None:
    if section == "invoice" and not rest and request.method != "POST":
        return invoice_pages.invoice(state, request)
    if section != "control":
        return None
    room, _, name = rest.partition("/")
    if request.method == "POST":
        return _command(state, room, name, request)
    if rest == "":
        return _control_room(state, request)
    if rest == "reset":
        return page(state, "reset", {})
    if rest == "faults":
        return fault_pages.faults(state)
    if rest == "switches":
        return switch_pages.switches(state, request)
    if room == "queues":
        return queue_pages.messages(state, name, request) if name else queue_pages.overview(state, request)
    if room == "requests":
        return request_pages.request(state, name) if name else request_pages.requests(state, request)
    return None


def _command(state: State, room: str, name: str, request: Request) -> Response | None:
    if (room, name) == ("clock", ""):
        return _move_clock(state, request)
    if (room, name) == ("reset", ""):
        state.reset()
        return redirect("/control")
    if room == "faults":
        return fault_pages.command(state, name, request.form)
    if room == "switches":
        return switch_pages.command(state, name, request.form)
    if room == "queues" and name.endswith("/redrive"):
        return queue_pages.redrive(state, name.removesuffix("/redrive"))
    return None


def _move_clock(state: State, request: Request) -> Response:
    form = request.form
    try:
        if "at" in form:
            _set_clock(state, form["at"])
        elif "speed" in form:
            _run_at(state, form["speed"])
        elif not _press(state, form.get("move", "")):
            return problem(state, "The clock has no such button.", back="/control")
    except Refused as refusal:
        wrong = "at" if "at" in form else "speed"
        return _control_room(state, request, typed=form, errors={wrong: str(refusal)}, status=422)
    return redirect("/control")


def _set_clock(state: State, typed: str) -> None:
    wanted = instant(typed)
    if wanted is None:
        raise Refused("Type when it should be, in UTC")
    state.move_clock(now=wanted)


def _run_at(state: State, typed: str) -> None:
    speed = number(typed)
    if speed is None or not 0 < speed <= FASTEST:
        raise Refused(f"A speed is above 0 and at most {FASTEST}; 1 is as fast as life")
    state.move_clock(speed=float(speed))


def _press(state: State, move: str) -> bool:
    with state.lock:
        if move in ("freeze", "resume"):
            state.move_clock(freeze=move == "freeze")
            return True
        target = _targets(state).get(move)
        if target is None:
            return False
        state.move_clock(now=shifted(target, timedelta()))
        return True


def _targets(state: State) -> dict[str, datetime]:
    """Where each button takes the clock; the next event is missing when none is scheduled."""
    now = state.clock.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    first = now.replace(day=1, hour=5, minute=59, second=0, microsecond=0)
    if first <= now:
        first = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    event = state.upcoming.next()
    return {
        **{str(seconds): now + timedelta(seconds=seconds) for _, seconds in STEPS},
        "next-hour": hour + timedelta(hours=1),
        "month-end": first,
        **({"next-event": max(now, event.due)} if event else {}),
    }


def _control_room(
    state: State,
    request: Request,
    *,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    with state.lock:
        now = state.clock.now()
        shown = _clock_fields(now, state.clock.speed)
        if errors:
            shown = [
                filled([field], typed or {}, errors)[0] if field.name in errors else field for field in shown
            ]
        scheduled = state.upcoming.in_order
        context = {
            "steps": [{"label": label, "seconds": str(seconds)} for label, seconds in STEPS],
            "targets": {
                name.replace("-", "_"): exact(at) for name, at in _targets(state).items() if "-" in name
            },
            "fields": {field.name: field for field in shown},
            "counts": {
                "agreements": len(state.agreements),
                "billed": len(state.billed),
                "requests": len(state.requests.entries),
            },
            "host": request.host,
            "products": len(state.products),
            "queues": queue_pages.summaries(state),
            "scheduled": [queue_pages.scheduled(event) for event in scheduled[:EVENTS_SHOWN]],
            "scheduled_count": len(scheduled),
            "faults": [fault_pages.in_words(fault) for fault in state.faults.pending],
            "lints": [_lint(lint.finding, lint.count) for lint in state.lints.values()],
            "changed_switches": switch_pages.changed(state),
            "requests": request_pages.newest(state, REQUESTS_SHOWN),
        }
    return page(state, "control", context, status=status)


def _clock_fields(now: datetime, speed: float) -> list[Field]:
    return [
        Field(
            "at",
            "Set the clock to (UTC)",
            now.strftime("%Y-%m-%dT%H:%M:%S"),
            kind="datetime-local",
            attributes=(("step", "1"), ("min", "2000-01-01T00:00"), ("max", "2999-12-31T23:59")),
            about="Backwards too: what was sent or billed stays.",
            form="clock",
        ),
        Field(
            "speed",
            "Speed",
            f"{speed:g}",
            kind="number",
            attributes=(("min", "0.001"), ("max", str(FASTEST)), ("step", "any")),
            about="Simulated seconds in each real one.",
            form="clock",
        ),
    ]


def _lint(finding: str, count: int) -> Json:
    key = next((known for known in _LINTS if known in finding), "")
    return {"finding": finding[:1].upper() + finding[1:], "count": count, "about": _LINTS.get(key, "")}

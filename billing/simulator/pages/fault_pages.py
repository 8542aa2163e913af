"""The page on which accidents are ordered: to the answers AWS gives, or to the events it sends."""

from __future__ import annotations

from billing.simulator.aws.shapes import Json
from billing.simulator.errors import Refused
from billing.simulator.faults import CALL_KINDS, EVENT_KINDS, EVENTS, OPERATIONS, Fault
from billing.simulator.pages.forms import Field, blame, filled, number
from billing.simulator.pages.render import page
from billing.simulator.state import State
from billing.simulator.web import Response, redirect

_MEANING = {
    "throttle": "Throttled",
    "internal_error": "Internal error (HTTP 500)",
    "error": "An error with the code below",
    "unprocessed": "UnprocessedRecords (BatchMeterUsage)",
    "drop_after_accept": "Done, but the answer is lost",
    "latency": "Slow answer",
    "empty": "Empty answer {} (GetEntitlements)",
    "empty_page": "Empty page with a token (GetEntitlements)",
    "delay": "Late",
    "double": "Sent twice",
    "reorder": "Overtaken by the next one",
    "lose": "Never sent",
}
_ONLY_METERING = "unprocessed"
_ONLY_ENTITLEMENTS = ("empty", "empty_page")
_COUNT = Field(
    "count",
    "How often",
    "1",
    kind="number",
    about="Empty: until cleared.",
    attributes=(("min", "1"), ("step", "1")),
)


def faults(
    state: State,
    *,
    form: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    typed = form or {}
    shown = {"calls": _call_fields(), "events": _event_fields()}
    if errors is not None:
        spoiled = "events" if typed.get("operation") == EVENTS else "calls"
        shown[spoiled] = filled(shown[spoiled], typed, errors)
    with state.lock:
        pending = [in_words(fault) for fault in state.faults.pending]
    known = {field.name for fields in shown.values() for field in fields}
    context = {
        **shown,
        "faults": pending,
        "errors": [text for name, text in (errors or {}).items() if name not in known],
    }
    return page(state, "faults", context, status=status)


def command(state: State, name: str, form: dict[str, str]) -> Response | None:
    if name == "clear":
        with state.lock:
            state.faults.clear()
        return redirect("/control/faults")
    if name:
        return None
    body, errors = _read(form)
    if not errors:
        try:
            with state.lock:
                state.faults.add(body)
        except Refused as refusal:
            own = {
                field: field
                for field in ("operation", "fault", "count", "seconds", "share", "code", "status")
            }
            errors = blame(refusal, {**dict.fromkeys(_MEANING, "operation"), **own})
        else:
            return redirect("/control/faults")
    return faults(state, form=form, errors=errors, status=422)


def in_words(fault: Fault) -> Json:
    what = _MEANING[fault.kind]
    if fault.kind == "error":
        what = f"{fault.code} (HTTP {fault.status})"
    elif fault.kind in ("latency", "delay"):
        what += f", {fault.seconds:g} seconds"
    elif fault.kind == "unprocessed":
        what += f", {fault.share:.0%} of the records"
    whom = {"*": "every operation", EVENTS: "events"}.get(fault.operation, fault.operation)
    often = "until cleared" if fault.count is None else "once" if fault.count == 1 else f"{fault.count} times"
    return {"what": what, "whom": whom, "often": often}


def _read(form: dict[str, str]) -> tuple[Json, dict[str, str]]:
    """The body of POST /_simulator/faults that the form means."""
    body: Json = {"fault": form.get("fault", ""), "operation": form.get("operation", "*")}
    if body["operation"] == "*":
        # These can happen to one operation only: no need to choose it.
        if body["fault"] == _ONLY_METERING:
            body["operation"] = "BatchMeterUsage"
        elif body["fault"] in _ONLY_ENTITLEMENTS:
            body["operation"] = "GetEntitlements"
    errors: dict[str, str] = {}
    for name in ("count", "seconds", "share", "status"):
        try:
            value = number(form.get(name, ""))
        except Refused as refusal:
            errors[name] = str(refusal)
            continue
        if value is not None or name == "count":
            body[name] = value
    body |= {name: form[name].strip() for name in ("code", "message") if form.get(name, "").strip()}
    return body, errors


def _call_fields() -> list[Field]:
    operations = (("*", "Every operation"), *((name, name) for name in OPERATIONS))
    fields = [
        Field("operation", "Operation", "*", kind="select", options=operations),
        Field("fault", "What goes wrong", CALL_KINDS[0], kind="select", options=_options(CALL_KINDS)),
        _COUNT,
        Field(
            "seconds",
            "Seconds",
            "1",
            kind="number",
            about="Of a slow answer, in real time.",
            attributes=_SECONDS,
        ),
        Field(
            "share",
            "Share",
            "1",
            kind="number",
            about="Of the records left unprocessed: 0.5 is every second one.",
            attributes=(("min", "0"), ("max", "1"), ("step", "any")),
        ),
        Field(
            "code",
            "Error code",
            about="Of an error you name, such as AccessDeniedException.",
            attributes=_WORD,
        ),
        Field(
            "status",
            "HTTP status",
            "400",
            kind="number",
            about="Of an error you name.",
            attributes=(("min", "400"), ("max", "599"), ("step", "1")),
        ),
        Field("message", "Message", about="Of an error you name."),
    ]
    return fields


def _event_fields() -> list[Field]:
    return [
        Field(
            "fault",
            "What goes wrong",
            EVENT_KINDS[0],
            kind="select",
            options=_options(EVENT_KINDS),
            form="events",
        ),
        Field(
            "count",
            "How many events",
            "1",
            kind="number",
            about="Empty: until cleared.",
            attributes=(("min", "1"), ("step", "1")),
            form="events",
        ),
        Field(
            "seconds",
            "Seconds",
            "60",
            kind="number",
            about="Of the delay, in simulated time.",
            attributes=(("min", "0"), ("step", "any")),
            form="events",
        ),
    ]


_SECONDS = (("min", "0"), ("max", "60"), ("step", "any"))
_WORD = (("pattern", "[A-Za-z][A-Za-z.]*"), ("maxlength", "100"))


def _options(kinds: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, _MEANING.get(kind, kind)) for kind in kinds)

"""The page of switches: what no AWS source settles and how long AWS takes, with value and default."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from billing.simulator.aws.shapes import Json
from billing.simulator.errors import Refused
from billing.simulator.pages.forms import Field, number
from billing.simulator.pages.render import page
from billing.simulator.state import State
from billing.simulator.switches import Switches, Timings, describe_switches, set_switches, set_timings
from billing.simulator.web import Request, Response, redirect

_TYPES = get_type_hints(Switches)
_ON_OFF = (("true", "yes"), ("false", "no"))
_TIMINGS = {
    "agreement_created": "From the purchase to Purchase Agreement Created",
    "license_updated": "From the purchase to License Updated: the license becomes active",
    "deprovisioned": "From the end of an agreement to License Deprovisioned",
    "final_hour": "How long usage is taken after that (AWS: one hour)",
    "token_lifetime": "How long a registration token is good (AWS: four hours)",
    "contract_term": "How long a contract runs",
    "free_trial": "How long a free trial runs unless its form says otherwise",
}


def switches(
    state: State,
    request: Request | None = None,
    *,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    typed, errors = typed or {}, errors or {}
    with state.lock:
        described = describe_switches(state.switches)
        timings = asdict(state.timings)
    context = {
        "switches": [_switch(switch, typed, errors) for switch in described],
        "timings": [_timing(name, value.total_seconds(), typed, errors) for name, value in timings.items()],
        "changed": sum(switch["value"] != switch["default"] for switch in described),
        "is_saved": request is not None and "saved" in request.query,
        "is_wrong": status != 200,
    }
    return page(state, "switches", context, status=status)


def changed(state: State) -> list[Json]:
    return [
        {"name": switch["name"], "value": _text(switch["value"])}
        for switch in describe_switches(state.switches)
        if switch["value"] != switch["default"]
    ]


def command(state: State, name: str, form: dict[str, str]) -> Response | None:
    if name == "reset":
        with state.lock:
            state.change_conditions(switches=Switches(), timings=Timings())
        return redirect("/control/switches?saved=1")
    if name:
        return None
    errors: dict[str, str] = {}
    with state.lock:
        wanted, timed = state.switches, state.timings
        for switch in fields(Switches):
            if switch.name in form:
                try:
                    wanted = set_switches(wanted, {switch.name: _read(switch.name, form[switch.name])})
                except Refused as refusal:
                    errors[switch.name] = str(refusal)
        for timing in fields(Timings):
            if timing.name in form:
                try:
                    timed = set_timings(timed, {timing.name: number(form[timing.name])})
                except Refused as refusal:
                    errors[timing.name] = str(refusal)
        if not errors:
            state.change_conditions(switches=wanted, timings=timed)
            return redirect("/control/switches?saved=1")
    return switches(state, typed=form, errors=errors, status=422)


def _switch(switch: Json, typed: dict[str, str], errors: dict[str, str]) -> Json:
    name = switch["name"]
    kind, options = _control(name)
    field = Field(
        name,
        name,
        typed.get(name, _text(switch["value"])),
        kind="select" if options else kind,
        about=switch["about"],
        options=options,
        attributes=(("step", "any"), ("min", "0")) if kind == "number" else (),
        error=errors.get(name, ""),
    )
    labels = dict(options)
    default = _text(switch["default"])
    return {
        "field": field,
        "default": labels.get(default, default) or "empty",
        "is_changed": switch["value"] != switch["default"],
    }


def _timing(name: str, seconds: float, typed: dict[str, str], errors: dict[str, str]) -> Field:
    return Field(
        name,
        f"{_TIMINGS.get(name, name)}, in seconds",
        typed.get(name, f"{seconds:.15g}"),
        kind="number",
        attributes=(("min", "0"), ("step", "any")),
        error=errors.get(name, ""),
        form="timing",
    )


def _control(name: str) -> tuple[Any, tuple[tuple[str, str], ...]]:
    wanted = _TYPES[name]
    if wanted is bool:
        return "select", _ON_OFF
    if get_origin(wanted) is Literal:
        return "select", tuple((choice, choice) for choice in get_args(wanted))
    return ("number" if wanted in (int, float) else "text"), ()


def _read(name: str, typed: str) -> Any:
    wanted = _TYPES[name]
    if wanted is bool:
        return {"true": True, "false": False}.get(typed, typed)
    if wanted in (int, float):
        return number(typed)
    if get_origin(wanted) is tuple:
        return [part for part in typed.replace(",", " ").split() if part]
    return typed


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Turns a page into a response: templates with autoescape, and headers that keep foreign code out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.template import Context, Engine

from billing.simulator.invoice import plain
from billing.simulator.state import State
from billing.simulator.web import Response

_HERE = Path(__file__).parent
# An engine of its own: it needs no Django settings, and a fork's template settings cannot change it.
_ENGINE = Engine(dirs=[str(_HERE / "templates")], autoescape=True)
_STYLE = (_HERE / "static" / "simulator.css").read_bytes()
_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    # form-action is left open: "Set up your account" posts to whatever site the seller named.
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
)
_SECTIONS = (
    ("Store", "/", ("store", "product")),
    ("Subscriptions", "/subscriptions", ("subscriptions", "agreement", "setup", "action")),
    (
        "Control room",
        "/control",
        ("control", "faults", "queues", "messages", "requests", "request", "switches", "reset"),
    ),
    ("Invoice", "/invoice", ("invoice",)),
)
_ROOMS = (
    ("Clock and overview", "/control", ("control", "reset")),
    ("Faults", "/control/faults", ("faults",)),
    ("Events and queues", "/control/queues", ("queues", "messages")),
    ("Requests", "/control/requests", ("requests", "request")),
    ("Switches", "/control/switches", ("switches",)),
)


def page(state: State, name: str, context: dict[str, Any], *, status: int = 200) -> Response:
    with state.lock:
        clock = {
            "now": exact(state.clock.now()),
            "frozen": state.clock.frozen,
            "speed": "" if state.clock.speed == 1 else f"{state.clock.speed:g}",
        }
    sections = _links(_SECTIONS, name)
    frame = {"clock": clock, "page": name, "sections": sections}
    if any(link["is_current"] and link["url"] == "/control" for link in sections):
        frame["rooms"] = _links(_ROOMS, name)
    # Localization would read Django settings, which may not exist here.
    values = Context({**frame, **context}, use_l10n=False, use_tz=False)
    html = _ENGINE.get_template(f"simulator/{name}.html").render(values)
    return Response(status, html.encode(), _HEADERS)


def problem(state: State, text: str, *, back: str = "/", status: int = 400) -> Response:
    return page(state, "problem", {"text": text, "back": back}, status=status)


def stylesheet() -> Response:
    return Response(200, _STYLE, (("Content-Type", "text/css; charset=utf-8"), ("Cache-Control", "no-cache")))


def url(*parts: str) -> str:
    """A path of this site; product codes may hold slashes and the like."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def instant(moment: datetime) -> str:
    """For people, to the minute."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def exact(moment: datetime) -> str:
    """For people, to the second: where the order of events matters."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def readable(values: dict[str, Any]) -> dict[str, Any]:
    """The same values with their instants as people write them."""
    return {
        key: value.replace("T", " ").replace("Z", " UTC")
        if isinstance(value, str) and _INSTANT.fullmatch(value)
        else value
        for key, value in values.items()
    }


def money(amount: Decimal) -> str:
    """Cents at least; finer prices keep their digits."""
    text = plain(amount)
    return text if len(text.partition(".")[2]) > 2 else format(amount, ".2f")


def _links(shown: tuple[tuple[str, str, tuple[str, ...]], ...], name: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "url": address,
            "is_current": name in names,
            "current": "page" if name == names[0] else "true",
        }
        for label, address, names in shown
    ]

"""Turns a page into a response: templates with autoescape, and headers that keep foreign code out."""

from __future__ import annotations

import re
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


def page(state: State, name: str, context: dict[str, Any], *, status: int = 200) -> Response:
    with state.lock:
        clock = {"now": state.clock.now().strftime("%Y-%m-%d %H:%M:%S"), "frozen": state.clock.frozen}
    # Localization would read Django settings, which may not exist here.
    values = Context({"clock": clock, "page": name, **context}, use_l10n=False, use_tz=False)
    html = _ENGINE.get_template(f"simulator/{name}.html").render(values)
    return Response(status, html.encode(), _HEADERS)


def problem(state: State, text: str, *, status: int = 400) -> Response:
    return page(state, "problem", {"text": text}, status=status)


def stylesheet() -> Response:
    return Response(200, _STYLE, (("Content-Type", "text/css; charset=utf-8"), ("Cache-Control", "no-cache")))


def url(*parts: str) -> str:
    """A path of this site; product codes may hold slashes and the like."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


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

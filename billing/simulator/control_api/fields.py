"""Reads the members of a control request, each with a refusal that names it."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from billing.simulator.aws.shapes import Json
from billing.simulator.clock import parse_iso
from billing.simulator.errors import Refused

FASTEST = 100_000
LONGEST_SECONDS = 1000 * 366 * 24 * 3600


def read(raw: bytes) -> Json:
    try:
        body = json.loads(raw or b"{}", parse_constant=_no_constant, parse_float=_finite)
        # Half a surrogate pair is a text in Python, but no answer could carry it.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("The body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused("The body is a JSON object")
    return body


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is larger than any number here")
    return value


def only(body: Json, *known: str) -> None:
    """Refuse members nobody would read: a typo must not pass for a default."""
    if unknown := sorted(body.keys() - set(known)):
        takes = f"It takes {', '.join(known)}" if known else "It takes none"
        raise Refused(f"{', '.join(unknown)} is not known here. {takes}.")


def text(body: Json, key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused(f"{key} is a text")
    return value


def flag(body: Json, key: str) -> bool | None:
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{key} is true or false")
    return value


def whole(body: Json, key: str, *, low: int, high: int) -> int | None:
    value = body.get(key)
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high
    ):
        raise Refused(f"{key} is a whole number from {low} to {high}")
    return value


def mapping(body: Json, key: str) -> Json:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise Refused(f"{key} is a JSON object")
    return value or {}


def instant(body: Json, key: str) -> datetime | None:
    written = text(body, key)
    if written is None:
        return None
    try:
        return shifted(parse_iso(written), timedelta())
    except ValueError as error:
        raise Refused(f"{key}: {error}") from None


def duration(body: Json, key: str, *, signed: bool = False) -> timedelta | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or (value < 0 and not signed):
        raise Refused(f"{key} is a number of seconds")
    if abs(value) > LONGEST_SECONDS:
        raise Refused(f"{key} is out of range: at most {LONGEST_SECONDS} seconds")
    return timedelta(seconds=value)


def speed(body: Json, key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= FASTEST:
        raise Refused(f"{key} is how many simulated seconds pass in a real one: above 0, up to {FASTEST}")
    return float(value)


def shifted(moment: datetime, by: timedelta) -> datetime:
    """``moment + by``, refused when it leaves the years every clock and format here can write."""
    try:
        moved = moment + by
    except OverflowError:
        moved = None
    if moved is None or not 2000 <= moved.year <= 2999:
        raise Refused("The clock runs from the year 2000 to 2999")
    return moved

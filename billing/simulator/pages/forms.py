"""What a form on a page is made of: fields with their label, what was typed, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from billing.simulator.clock import parse_iso
from billing.simulator.control_api import fields
from billing.simulator.errors import Refused

Kind = Literal["text", "number", "datetime-local", "checkbox", "select"]
INSTANT_EXAMPLE = "2026-11-23T10:00"


@dataclass(frozen=True, slots=True)
class Field:
    """One labelled control. ``form`` keeps ids apart where a page has several forms."""

    name: str
    label: str
    value: str = ""
    kind: Kind = "text"
    about: str = ""
    options: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    """Further attributes of the control, such as min, step or pattern."""
    form: str = "form"
    error: str = ""

    @property
    def id(self) -> str:
        return f"{self.form}-{self.name}"

    @property
    def described_by(self) -> str:
        ids = [f"{self.id}-about"] if self.about else []
        return " ".join([*ids, f"{self.id}-error"] if self.error else ids)

    @property
    def is_on(self) -> bool:
        return self.value != ""


def filled(
    shown: Iterable[Field], typed: Mapping[str, str], errors: Mapping[str, str] | None = None
) -> list[Field]:
    """The fields as they were sent, so that nobody types twice; an unticked box is not sent at all."""
    return [
        replace(field, value=typed.get(field.name, ""), error=(errors or {}).get(field.name, ""))
        for field in shown
    ]


def blame(refusal: Refused, names: Mapping[str, str]) -> dict[str, str]:
    """Which field a refusal is about: ours begin with what they refuse. The key "" is the whole form."""
    text = str(refusal)
    return {names.get(text.replace(":", " ").partition(" ")[0], ""): text}


def instant(typed: str) -> datetime | None:
    """A point in time as browsers and people write it; UTC unless a zone is given. None when left empty."""
    typed = typed.strip().removesuffix("UTC").strip()
    if not typed:
        return None
    try:
        moment = datetime.fromisoformat(typed)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else parse_iso(typed)
    except (ValueError, OverflowError):
        raise Refused(f"Write it like {INSTANT_EXAMPLE}, in UTC") from None
    return fields.shifted(moment, timedelta())


def number(typed: str) -> float | None:
    """None when left empty; whole numbers stay whole."""
    typed = typed.strip()
    if not typed:
        return None
    try:
        return int(typed) if typed.removeprefix("-").isdecimal() else float(typed)
    except ValueError:
        raise Refused(f"{typed[:40]!r} is not a number") from None

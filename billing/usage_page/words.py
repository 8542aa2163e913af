"""In a buyer's words: why usage is not on AWS's bill yet, or never will be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from billing.figures import OPEN, Figures
from billing.models import MeteringRecord, UsageEvent

State = MeteringRecord.State
Disposition = UsageEvent.Disposition


@dataclass(frozen=True, slots=True)
class Line:
    quantity: Decimal
    label: Any  # translated when it is shown
    why: Any


_WAITING: Mapping[str, tuple[Any, Any]] = {
    OPEN: (_("Not reported yet"), _("Usage goes to AWS after its hour is over.")),
    State.DUE: (_("Ready to be sent"), _("It goes to AWS within minutes.")),
    State.IN_DOUBT: (
        _("Sent, not confirmed yet"),
        _("AWS has not answered. It is sent again until AWS does, and is billed once."),
    ),
    State.WAITING: (
        _("Waiting for AWS"),
        _("AWS does not know the subscription as active yet. It is sent again until AWS takes it."),
    ),
    State.HELD: (_("Held back by us"), _("We are checking it before it goes to AWS.")),
}
_CHECKED: Mapping[str, tuple[Any, Any]] = {
    State.CONFLICT: (
        _("AWS has another figure"),
        _("AWS bills its own figure for that hour. We are looking into it."),
    ),
    State.PARKED: (_("Not accepted by AWS"), _("We are looking into it.")),
}
_NOT_BILLED: Mapping[str, tuple[Any, Any]] = {
    Disposition.CANCELLED: (_("Taken back"), _("It was cancelled before it was reported.")),
    Disposition.OUTSIDE_AGREEMENT: (
        _("Outside your subscription"),
        _("No subscription was active at that time."),
    ),
    Disposition.TOO_LATE: (
        _("Recorded too late"),
        _("It reached us after AWS had stopped taking usage of that hour."),
    ),
    State.EXPIRED: (
        _("Not confirmed in time"),
        _("AWS stopped taking usage of that hour before it had confirmed this."),
    ),
    State.WRITTEN_OFF: (_("Waived"), _("We decided not to bill it.")),
}


def waiting(figures: Figures) -> list[Line]:
    return _lines(figures, _WAITING)


def checked(figures: Figures) -> list[Line]:
    return _lines(figures, _CHECKED)


def not_billed(figures: Figures) -> list[Line]:
    return _lines(figures, _NOT_BILLED)


def _lines(figures: Figures, words: Mapping[str, tuple[Any, Any]]) -> list[Line]:
    return [
        Line(figures.by_state[state], label, why)
        for state, (label, why) in words.items()
        if state in figures.by_state
    ]

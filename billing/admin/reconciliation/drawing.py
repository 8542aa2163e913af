"""The variance drawn: above the line what AWS billed too much, below it what it did not bill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _

from billing.admin.charts import Chart, Drawn, Part, Series
from billing.admin.columns import plain
from billing.reconciliation import exact
from billing.reconciliation.comparing import Variance

_WIDTH = 10
_MIDDLE = 50.0
_THINNEST = 1.5


@dataclass(frozen=True, slots=True)
class Place:
    """A bar: where it stands, what it leads to, and what differs there. ``scale`` None: in its own unit."""

    label: str
    url: str
    variance: Variance
    scale: int | None = None  # a whole of which the parts are drawn, in per cent


def variance_chart(
    title: str, places: Sequence[Place], *, note: str, table_title: str, table: dict[str, Any]
) -> Chart:
    amounts = [_amounts(place) for place in places]
    highest = max(
        (max(_above(parts), _below(parts)) for parts in amounts),
        default=Decimal(0),
    )
    is_share = any(place.scale is not None for place in places)
    drawn = [
        Drawn(number * _WIDTH, place.url, _title(place), _parts(parts, highest))
        for number, (place, parts) in enumerate(zip(places, amounts, strict=True))
    ]
    return Chart(
        title,
        note,
        [Series(name, tone) for name, tone in _series()],
        drawn,
        _scale(highest, is_share=is_share),
        places[0].label if places else "",
        places[-1].label if len(places) > 1 else "",
        table_title,
        table,
        width=max(len(places), 1) * _WIDTH,
    )


def _series() -> list[tuple[str, str]]:
    return [
        (_("Extra at AWS"), "danger"),
        (_("Other quantity"), "info"),
        (_("Missing at AWS"), "warning"),
        (_("Not reported yet"), "calm"),
    ]


def _amounts(place: Place) -> list[tuple[str, Decimal]]:
    found = place.variance
    amounts = [
        ("danger", found.extra),
        ("info", found.other),
        ("warning", found.missing),
        ("calm", found.not_reported),
    ]
    if place.scale is None:
        return [(tone, Decimal(amount).scaleb(-6)) for tone, amount in amounts]
    # Nothing was accepted: all of it differs.
    whole = max(place.scale, *(abs(amount) for _tone, amount in amounts)) if not place.scale else place.scale
    return [(tone, Decimal(amount) * 100 / whole if whole else Decimal(0)) for tone, amount in amounts]


def _above(parts: Iterable[tuple[str, Decimal]]) -> Decimal:
    return sum((amount for _tone, amount in parts if amount > 0), Decimal(0))


def _below(parts: Iterable[tuple[str, Decimal]]) -> Decimal:
    return -sum((amount for _tone, amount in parts if amount < 0), Decimal(0))


def _parts(parts: Sequence[tuple[str, Decimal]], highest: Decimal) -> list[Part]:
    drawn = [Part("line", f"{_MIDDLE - 0.25:.2f}", "0.50")]
    top = bottom = _MIDDLE
    for tone, amount in parts:
        if not amount:
            continue
        height = min(_MIDDLE, max(_THINNEST, float(abs(amount) / highest) * _MIDDLE))
        if amount > 0:
            top = max(0.0, top - height)
            drawn.append(Part(tone, f"{top:.2f}", f"{height:.2f}"))
        else:
            drawn.append(Part(tone, f"{bottom:.2f}", f"{height:.2f}"))
            bottom = min(100.0, bottom + height)
    return drawn


def _title(place: Place) -> str:
    return _("%(place)s – accepted %(accepted)s, billed %(billed)s") % {
        "place": place.label,
        "accepted": exact.plain(place.variance.accepted),
        "billed": exact.plain(place.variance.billed),
    }


def _scale(highest: Decimal, *, is_share: bool) -> str:
    if not highest:
        return _("Nothing differs")
    if is_share:
        return _("Up to %(share)s %% of what was accepted") % {"share": plain(round(highest, 1))}
    return _("Up to %(amount)s") % {"amount": plain(highest)}

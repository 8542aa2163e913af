"""Charts drawn on the server: stacked bars, each a link to its rows, over a table that says the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.admin.columns import plain

_WIDTH = 10  # of a bar with the gap after it, in the drawing's own units
_BAR = 8
_HEIGHT = 100
_THINNEST = 1.5  # what is there at all can be seen

Words = str | Promise


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of the bars; ``tone`` names it in operators.css: success, info, warning, danger or calm."""

    name: Words
    tone: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A place on the axis, and how much of each series stands there, from the bottom up."""

    label: str
    url: str
    values: Sequence[Decimal]


@dataclass(frozen=True, slots=True)
class Part:
    tone: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Drawn:
    x: int
    url: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Chart:
    title: Words
    note: Words
    series: Sequence[Series]
    bars: Sequence[Drawn]
    highest: str
    first: str
    last: str
    table_title: Words
    table: dict[str, Any] = field(default_factory=dict)
    width: int = 0
    bar: int = _BAR
    height: int = _HEIGHT

    def __str__(self) -> SafeString:
        return render_to_string("admin/billing/chart.html", {"chart": self})


def stacked(
    title: Words,
    series: Sequence[Series],
    bars: Sequence[Bar],
    *,
    place: Words,
    table_title: Words,
    note: Words = "",
) -> Chart:
    """``place`` is what a bar is one of: the heading of the table's first column."""
    highest = max((sum(bar.values, Decimal(0)) for bar in bars), default=Decimal(0))
    drawn = [
        Drawn(number * _WIDTH, bar.url, _title(bar, series), _parts(bar, series, highest))
        for number, bar in enumerate(bars)
    ]
    rows = [
        [format_html('<a href="{}" class="text-link">{}</a>', bar.url, bar.label), *map(plain, bar.values)]
        for bar in reversed(bars)
        if any(bar.values)
    ]
    return Chart(
        title,
        note,
        series,
        drawn,
        plain(highest),
        bars[0].label if bars else "",
        bars[-1].label if bars else "",
        table_title,
        {"headers": [place, *(one.name for one in series)], "rows": rows},
        width=len(bars) * _WIDTH,
    )


def _title(bar: Bar, series: Sequence[Series]) -> str:
    amounts = ", ".join(
        f"{one.name}: {plain(value)}" for one, value in zip(series, bar.values, strict=True) if value
    )
    return f"{bar.label} – {amounts}" if amounts else bar.label


def _parts(bar: Bar, series: Sequence[Series], highest: Decimal) -> list[Part]:
    parts: list[Part] = []
    top = float(_HEIGHT)
    for tone, value in _present(bar, series):
        height = max(_THINNEST, float(value / highest) * _HEIGHT)
        top = max(0.0, top - height)
        parts.append(Part(tone, f"{top:.2f}", f"{height:.2f}"))
    return parts


def _present(bar: Bar, series: Sequence[Series]) -> Iterable[tuple[str, Decimal]]:
    return ((one.tone, value) for one, value in zip(series, bar.values, strict=True) if value > 0)

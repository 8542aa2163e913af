"""Stacked bars over time as SVG attributes: a page draws them with no script and no style of its own.

Everything is in per cent of the plot, so that bars grow with the page while words keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

_STEPS = (1, 2, 4, 5, 10)
_TICKS = 6
_EDGE = 8.0  # per cent of the width
_LEAST = 0.6  # per cent of the height: a little is not nothing


@dataclass(frozen=True, slots=True)
class Column:
    """What is to be drawn: the quantities by kind, from the bottom up."""

    title: str
    parts: Mapping[str, Decimal]
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    kind: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    x: str
    width: str
    slot_x: str  # its place on the axis, gap included
    slot_width: str
    title: str
    is_open: bool
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Tick:
    at: str
    label: str
    is_minor: bool  # left out where there is little room
    anchor: str  # start, middle or end: words at the edges stay inside


@dataclass(frozen=True, slots=True)
class Chart:
    bars: list[Bar]
    ticks: list[Tick]
    top: Decimal

    @property
    def middle(self) -> Decimal:
        return self.top / 2


def draw(columns: Sequence[Column], labelled: Sequence[int], label_of: Callable[[int], str]) -> Chart:
    """``labelled`` are the numbers of the columns that may have a word below them: a few of them do."""
    top = _nice(max((sum(column.parts.values(), Decimal(0)) for column in columns), default=Decimal(0)))
    slot = 100 / max(len(columns), 1)
    gap = 0.18 if len(columns) <= 100 else 0.0
    bars = [
        Bar(
            x=_percent((number + gap / 2) * slot),
            width=_percent((1 - gap) * slot),
            slot_x=_percent(number * slot),
            slot_width=_percent(slot),
            title=column.title,
            is_open=column.is_open,
            segments=_segments(column.parts, top),
        )
        for number, column in enumerate(columns)
    ]
    return Chart(bars, _ticks(labelled, slot, label_of), top)


def _segments(parts: Mapping[str, Decimal], top: Decimal) -> list[Segment]:
    segments = []
    bottom = 100.0
    for kind, quantity in parts.items():
        if quantity > 0:
            height = max(float(quantity / top * 100), _LEAST)
            bottom -= height
            segments.append(Segment(kind, _percent(bottom), _percent(height)))
    return segments


def _ticks(numbers: Sequence[int], slot: float, label_of: Callable[[int], str]) -> list[Tick]:
    ticks = []
    for place, number in enumerate(numbers[:: max(1, -(-len(numbers) // _TICKS))]):
        left, right = number * slot, (number + 1) * slot
        at, anchor = (left + right) / 2, "middle"
        if at < _EDGE:
            at, anchor = left, "start"
        elif at > 100 - _EDGE:
            at, anchor = right, "end"
        ticks.append(Tick(_percent(at), label_of(number), bool(place % 2), anchor))
    return ticks


def _nice(highest: Decimal) -> Decimal:
    """A round number not below it, whose half is as round."""
    if highest <= 0:
        return Decimal(1)
    power = Decimal(1).scaleb(highest.adjusted())
    return next(step * power for step in _STEPS if step * power >= highest)


def _percent(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".") + "%"

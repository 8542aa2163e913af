"""Bars are attributes in per cent: they stand on each other, fill the plot, and a little is not nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing import bar_chart
from billing.bar_chart import Column


def columns(*amounts):
    return [Column(f"t{n}", {"a": Decimal(a), "b": Decimal(b)}) for n, (a, b) in enumerate(amounts)]


def draw(columns):
    return bar_chart.draw(columns, range(len(columns)), str)


def number(per_cent: str) -> float:
    assert per_cent.endswith("%")
    return float(per_cent[:-1])


def test_parts_stand_on_each_other_from_the_bottom_up():
    [bar] = draw(columns((25, 75))).bars
    first, second = bar.segments
    assert (first.kind, first.y, first.height) == ("a", "75%", "25%")
    assert (second.kind, second.y, second.height) == ("b", "0%", "75%")


def test_what_is_nothing_draws_nothing():
    assert draw(columns((0, 0))).bars[0].segments == []
    assert draw([]).bars == []


def test_a_little_beside_much_can_be_seen():
    bars = draw(columns((10**9, 0), ("0.000001", 0))).bars
    assert number(bars[1].segments[0].height) > 0.5


@pytest.mark.parametrize(
    ("highest", "top"),
    [
        ("0.000001", "0.000001"), ("0.3", "0.4"), ("1", "1"), ("1.1", "2"), ("3", "4"), ("4.5", "5"),
        ("51", "100"), ("9999999999.999999", "1E+10"),
    ],
)  # fmt: skip
def test_the_top_of_the_axis_is_a_round_number(highest, top):
    chart = draw(columns((highest, 0)))
    assert chart.top == Decimal(top)
    assert chart.middle * 2 == chart.top


def test_words_stay_inside_the_plot():
    ticks = draw(columns(*[(1, 1)] * 12)).ticks
    assert [(tick.at, tick.anchor) for tick in (ticks[0], ticks[1], ticks[-1])] == [
        ("0%", "start"), ("20.833%", "middle"), ("87.5%", "middle"),
    ]  # fmt: skip
    assert (draw(columns((1, 1))).ticks[0].label, len(ticks)) == ("0", 6)


@pytest.mark.parametrize("count", [1, 2, 7, 24, 31, 100, 744])
def test_any_number_of_bars_fills_the_width_under_a_few_words(count):
    chart = draw(columns(*[(1, 1)] * count))
    assert len(chart.bars) == count
    assert number(chart.bars[-1].slot_x) + number(chart.bars[-1].slot_width) == pytest.approx(100, abs=0.5)
    assert 1 <= len(chart.ticks) <= 6
    assert all(0 <= number(tick.at) <= 100 for tick in chart.ticks)
    assert all(number(segment.y) >= 0 for bar in chart.bars for segment in bar.segments)

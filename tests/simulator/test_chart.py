from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.simulator.pages.chart import MOST_DAYS, MOST_HOURS, MOST_MONTHS, chart

START = datetime(2026, 10, 31, 22, tzinfo=UTC)


def drawn(**at: int):
    """The chart of one unit at START and two that much later."""
    return chart({START: Decimal(1), START + timedelta(**at): Decimal("2.50")})


def test_without_usage_there_is_no_chart():
    assert chart({}) is None


@pytest.mark.parametrize(
    ("at", "unit", "count", "labels"),
    [
        ({"hours": MOST_HOURS - 1}, "hour", MOST_HOURS, ("2026-10-31 22:00 UTC", "2026-11-03 21:00 UTC")),
        ({"hours": MOST_HOURS}, "day", 4, ("2026-10-31", "2026-11-03")),
        ({"days": MOST_DAYS - 1}, "day", MOST_DAYS, ("2026-10-31", "2027-01-30")),
        ({"days": MOST_DAYS}, "month", 4, ("2026-10", "2027-01")),
    ],
)
def test_the_finest_scale_that_fits_is_drawn(at, unit, count, labels):
    found = drawn(**at)
    assert (found.unit, len(found.bars)) == (unit, count)
    assert (found.bars[0].label, found.bars[-1].label) == labels
    assert (found.bars[0].quantity, found.bars[1].quantity, found.bars[-1].quantity) == ("1", "0", "2.5")
    assert not found.is_cut


def test_of_too_many_months_the_last_are_drawn():
    found = drawn(days=400 * 30)
    assert (found.is_cut, len(found.bars)) == (True, MOST_MONTHS)
    assert found.bars[-1].quantity == "2.5"
    assert all(bar.quantity == "0" for bar in found.bars[:-1])


def test_bars_are_as_high_as_their_share_of_the_highest():
    found = chart(
        {START: Decimal(4), START + timedelta(hours=1): Decimal(1), START + timedelta(hours=2): Decimal(0)}
    )
    assert [(bar.y, bar.height) for bar in found.bars] == [
        ("0.00", "100.00"),
        ("75.00", "25.00"),
        ("100.00", "0.00"),
    ]
    assert found.places > len(found.bars)


def test_the_smallest_quantity_can_still_be_seen():
    found = chart({START: Decimal(10**6), START + timedelta(hours=1): Decimal("0.000001")})
    assert found.bars[1].height == "1.00"


def test_idle_hours_alone_are_a_flat_line():
    assert [bar.height for bar in chart({START: Decimal(0)}).bars] == ["0.00"]

"""The bench's arithmetic. Its figures are reported, never tested."""

import pytest

from tests.bench import world
from tests.bench.compare import PAIRS, Measure, compare, figure, summary


def test_the_ratio_is_the_median_over_pairs_and_no_quotient_of_medians() -> None:
    assert summary([(1, 2), (9, 10), (4, 40)]) == (4, 10, 0.5)


@pytest.mark.parametrize(
    ("ratio", "hold", "holds"),
    [
        (0.5, ">= 0.5", True),
        (0.499, ">= 0.5", False),
        (3, "<= 3", True),
        (3.01, "<= 3", False),
        (2, "== 1", False),
    ],
)
def test_a_hold_includes_its_bound(ratio: float, hold: str, holds: bool) -> None:
    measure = Measure("gate", 1, 1, ratio, hold, "ms", 1)
    assert (measure.holds, str(measure)[0]) == (holds, "✓" if holds else "✗")


def test_the_unit_says_what_is_figured() -> None:
    assert [figure(unit, 50, 2) for unit in ("uses/s", "ms", "s")] == [25, 40, 2]


def test_both_sides_take_turns_after_a_pair_that_warms_up() -> None:
    turns: list[str] = []

    def turn(side: str) -> int:
        turns.append(side)
        return 7

    compare("x", lambda: turn("ours"), lambda: turn("reference"), hold="<= 1", unit="s")
    assert turns == ["ours", "reference"] * (1 + PAIRS)


def test_times_of_different_work_are_not_compared() -> None:
    with pytest.raises(ValueError, match="ours did 8 and the reference 9"):
        compare("x", lambda: 8, lambda: 9, hold="<= 1", unit="s")


def test_measures_that_share_a_database_share_no_buyer() -> None:
    one, other = world.invented(3), world.invented(3)
    assert len(one | other) == len({*one.values(), *other.values()}) == 6

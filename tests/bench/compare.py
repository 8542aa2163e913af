"""Ours against a reference, turn by turn in one run, and the bound that their ratio is held to."""

from __future__ import annotations

import gc
import operator
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAIRS = 5
HEAD = f"  {'measure':<16}{'ours':>12}{'reference':>12}  {'unit':<10}{'ratio':>8}  {'hold':<8}{'peak':>9}"
_RELATIONS = {">=": operator.ge, "<=": operator.le, "==": operator.eq}

Work = Callable[[], int]  # does it, and tells how much was done


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table and of bench.json.

    ``value``, ``reference`` and ``ratio`` are each a median: a slow minute spoils one pair, not the result.
    """

    name: str
    value: float
    reference: float
    ratio: float
    hold: str
    unit: str
    peak_mib: float

    @property
    def holds(self) -> bool:
        relation, bound = self.hold.split()
        return bool(_RELATIONS[relation](self.ratio, float(bound)))

    def __str__(self) -> str:
        figures = f"{self.value:>12,.2f}{self.reference:>12,.2f}  {self.unit:<10}{self.ratio:>8.3f}"
        return (
            f"{'✓' if self.holds else '✗'} {self.name:<16}{figures}  {self.hold:<8}{self.peak_mib:>5,.0f} MiB"
        )


def compare(
    name: str,
    ours: Work,
    reference: Work,
    *,
    hold: str,
    unit: str,  # "…/s" is a rate, "ms" the time of each, "s" the time of all
    prepare: Callable[[], object] = lambda: None,
) -> Measure:
    """Do both in turn, ``PAIRS`` times after a pair that warms up; ``prepare`` goes untimed before each."""
    pairs, peaks = [], []
    for _ in range(1 + PAIRS):
        done, seconds, peak = turn(ours, prepare)
        expected, bare, _ = turn(reference, prepare)
        if done != expected:
            raise ValueError(f"{name}: ours did {done} and the reference {expected}, so times say nothing")
        pairs.append((figure(unit, done, seconds), figure(unit, done, bare)))
        peaks.append(peak)
    return Measure(name, *summary(pairs[1:]), hold, unit, max(peaks))


def growth(
    name: str, few: tuple[int, float, float], many: tuple[int, float, float], *, of: str, hold: str
) -> Measure:
    """What ten times as much takes (``of``: "s" or "MiB") beside what it took before: two turns, no pairs."""
    which = {"s": 1, "MiB": 2}[of]
    return Measure(name, many[which], few[which], many[which] / few[which], hold, of, many[2])


def summary(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The median of ours, of the reference, and of the pairs' ratios."""
    ours, references = zip(*pairs, strict=True)
    ratios = [mine / bare for mine, bare in pairs]
    return statistics.median(ours), statistics.median(references), statistics.median(ratios)


def figure(unit: str, done: int, seconds: float) -> float:
    return done / seconds if unit.endswith("/s") else {"ms": 1000 * seconds / done, "s": seconds}[unit]


def peak_mib() -> float:
    """The most memory this process held since the last turn began (where that is not Linux, ever)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024**2 if sys.platform == "darwin" else 1024
    )


def turn(work: Work, prepare: Callable[[], object]) -> tuple[int, float, float]:
    """How much was done, in how many seconds, with what peak of memory in MiB."""
    prepare()
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start, peak_mib()

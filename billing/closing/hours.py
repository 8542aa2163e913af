"""Which open usage goes into which hour's record. Pure: no database, no clock of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from billing.aws.limits import MAX_QUANTITY, METERING_WINDOW
from billing.aws.window import HOUR, accepted_until, hour_of, month_of
from billing.closing.allocations import Tags

_MOST = int(MAX_QUANTITY.scaleb(6))


class Uses(NamedTuple):
    """Open usage of one hour and one set of tags: what moves together."""

    hour: datetime  # in which it occurred
    tags: Tags
    millionths: int
    pks: Sequence[int]


Plan = dict[datetime, list[Uses]]
Explode = Callable[[Iterable[Uses]], list[Uses]]
"""The same usage one event each, in the order in which it occurred."""


@dataclass(frozen=True, slots=True)
class Closable:
    """The hours of one agreement and dimension that may be closed now."""

    now: datetime
    end: datetime  # hours before it
    activated_at: datetime
    closes_at: datetime | None  # AWS takes nothing of the agreement from then on
    taken: Collection[datetime]  # closed already: never reopened
    ending: bool
    final: bool  # the last hour is among them: what finds no hour now finds none later

    def is_free(self, hour: datetime) -> bool:
        """Not closed, and AWS takes it for another hour yet; near the end, as long as AWS takes it."""
        margin = timedelta(0) if self.ending else HOUR
        return hour not in self.taken and accepted_until(hour, closes_at=self.closes_at) > self.now + margin


def oldest(now: datetime) -> datetime:
    """The first hour of which AWS may still take something: its window, and the hour it began in."""
    return hour_of(now - METERING_WINDOW - HOUR)


def plan(usage: Iterable[Uses], closable: Closable, explode: Explode) -> tuple[Plan, list[Uses]]:
    """Which usage goes to which hour, and what finds none yet.

    Usage takes its own hour if that is free, else the next free one; so does what exceeds AWS's maximum for
    one record. While AWS still takes last month's usage, that goes to a free hour of last month if there is
    one, be it an earlier one. After the end there is no next hour: the newest free one must do.
    """
    own = _by_own_hour(usage, closable)
    if not own:
        return {}, []
    # What is older than AWS's window can only go to hours inside it.
    hour = max(min(own), oldest(closable.now))
    waiting = [uses for each in sorted(own) if each < hour for uses in own[each]]
    planned: Plan = {}
    this_month = month_of(closable.now)
    while hour < closable.end:
        if hour == this_month and waiting:
            waiting = _backwards(planned, waiting, closable, explode, before=this_month)
        waiting += own.get(hour, ())
        if waiting and closable.is_free(hour):
            planned[hour], waiting = _fill(waiting, explode)
        hour += HOUR
    if closable.final and waiting:
        waiting = _backwards(planned, waiting, closable, explode, before=closable.end)
    return planned, waiting


def plan_in_place(usage: Iterable[Uses], closable: Closable, explode: Explode) -> tuple[Plan, list[Uses]]:
    """As ``plan``, but nothing moves: what its own hour cannot take finds none."""
    planned: Plan = {}
    left: list[Uses] = []
    for hour, uses in _by_own_hour(usage, closable).items():
        if closable.is_free(hour):
            planned[hour], uses = _fill(uses, explode)
        left += uses
    return planned, left


def _by_own_hour(usage: Iterable[Uses], closable: Closable) -> dict[datetime, list[Uses]]:
    own: dict[datetime, list[Uses]] = defaultdict(list)
    for uses in usage:
        # The last hour takes what was used after the end, before we heard of it.
        own[min(uses.hour, closable.end - HOUR)].append(uses)
    return own


def _backwards(
    planned: Plan, waiting: list[Uses], closable: Closable, explode: Explode, *, before: datetime
) -> list[Uses]:
    """Fill free hours before ``before``, the newest first; returns what found no room."""
    for hour in _hours_back(before, until=max(oldest(closable.now), hour_of(closable.activated_at))):
        if not waiting:
            break
        if closable.is_free(hour):
            planned[hour], waiting = _fill(planned.get(hour, []) + waiting, explode)
    return waiting


def _hours_back(before: datetime, *, until: datetime) -> Iterator[datetime]:
    hour = before - HOUR
    while hour >= until:
        yield hour
        hour -= HOUR


def _fill(usage: list[Uses], explode: Explode) -> tuple[list[Uses], list[Uses]]:
    """As much of ``usage`` as fits into one record, and the rest."""
    if sum(uses.millionths for uses in usage) <= _MOST:
        return usage, []
    singles = explode(usage)
    total = 0
    for count, single in enumerate(singles):
        total += single.millionths
        if total > _MOST:
            return singles[:count], singles[count:]
    return singles, []

"""How much of a record its allowance covers, now and as the timeline was known when it closed.

Billed overage is never credited and covered usage never billed later, so a record that follows the timeline
known at its closing is right, even where AWS told afterwards that something had changed before. Rows do not
say when they were learned; the audit trail does (``entitlements_changed``, at the instant the reading began).

A record draws on the month or the term of its hour. Each row that expires later than the one before it begins
another term, so the timeline known at closing also says which earlier records drew on the same one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise

from billing.models import AuditEvent, Entitlement, MeteringRecord
from billing.reconciliation.exact import millionths
from billing.reconciliation.reading import Account

_HOUR = timedelta(hours=1)
_MOST = Decimal(10**12)
_DOUBT = timedelta(minutes=15)  # a closing's clock stands at its start; it may read what was learned later


@dataclass(frozen=True, slots=True)
class _Row:
    """A value in force from ``start`` until ``end``, and when we learned of either."""

    amount: int
    expires: datetime | None
    start: datetime
    end: datetime | None
    opened: datetime
    closed: datetime | None


@dataclass(frozen=True, slots=True)
class _View:
    """The timeline as known at an instant (None: today), and whether the agreement's end was known."""

    at: datetime | None
    ended: bool = True


@dataclass(frozen=True, slots=True)
class _Draw:
    month: datetime
    until: datetime  # the end of its hour
    right: int  # what it ought to have drawn
    told: int  # what the ledger says that it drew
    freed: datetime | None  # when that was given back (void)


class Pools:
    """What the records of one agreement draw on its allowances, in the order in which they were closed.

    A record is measured against what those before it ought to have drawn, not against what they say: one
    wrong figure does not make the next one right.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._drawn: dict[int, list[_Draw]] = defaultdict(list)
        self._rows: dict[str, list[_Row]] = {}

    def draw(self, record: MeteringRecord, right: int) -> None:
        pool = record.dimension.included_by_id
        freed = record.settled_at if record.state == "void" else None
        if pool is not None and (record.state != "void" or freed is not None):
            told = millionths(record.included)
            self._drawn[pool].append(_Draw(_month(record.hour), record.hour + _HOUR, right, told, freed))

    def included(self, record: MeteringRecord, used: int) -> Sequence[int]:
        """What may be covered by the timeline of today."""
        return self._covered(record, used, [_View(None)], lambda draw: draw.right)

    def included_if_told(self, record: MeteringRecord, used: int) -> Sequence[int]:
        """The same, had earlier records drawn what the ledger itself says."""
        return self._covered(record, used, [_View(None)], lambda draw: draw.told)

    def included_as_known(self, record: MeteringRecord, used: int) -> Sequence[int]:
        """What may be covered by the timeline as it was known when the record closed, or soon after."""
        if record.dimension.included_by is None:
            return []
        closed_at, until = record.closed_at, record.closed_at + _DOUBT
        rows = self._timeline(record.dimension.included_by.key)
        learned = {at for row in rows for at in (row.opened, row.closed) if at is not None}
        moments = [closed_at, *(at for at in learned if closed_at - _DOUBT <= at <= until)]
        if not any(at >= closed_at - _DOUBT for at in learned) and self._account.agreement.ended_at is None:
            return []  # nothing has changed since: the timeline of today is the one that counted
        # The agreement's end may have been told later, too.
        views = [_View(moment, ended) for moment in [*moments, None] for ended in (True, False)]
        return self._covered(record, used, views, lambda draw: draw.right)

    def _covered(
        self,
        record: MeteringRecord,
        used: int,
        views: Sequence[_View],
        amount: Callable[[_Draw], int],
    ) -> Sequence[int]:
        if record.dimension.included_by is None:
            return [0]
        return [
            min(used, max(0, self._allowance(record, view) - spent))
            for view in views
            for spent in self._spent(record, view, amount)
        ]

    def _spent(self, record: MeteringRecord, view: _View, amount: Callable[[_Draw], int]) -> Sequence[int]:
        """Least and most that earlier records drew: they differ when one was voided at that very moment."""
        pool = record.dimension.included_by
        if pool is None:
            return [0]
        drawn = self._drawn[pool.pk]
        if record.dimension.allowance_period == "month":
            month = _month(record.hour)
            drawn = [each for each in drawn if each.month == month]
        elif terms := self._terms(pool.key, view):
            # As many have begun before its hour is over.
            number = bisect_left(terms, record.hour + _HOUR)
            drawn = [each for each in drawn if bisect_left(terms, each.until) == number]
        closed_at = record.closed_at
        least = sum(amount(each) for each in drawn if each.freed is None or each.freed > closed_at)
        most = sum(amount(each) for each in drawn if each.freed is None or each.freed >= closed_at)
        return sorted({least, most})

    def _terms(self, key: str, view: _View) -> Sequence[datetime]:
        """The instants at which another term began: the expiry was put off."""
        rows = self._known_rows(key, view)
        dated = [(row.expires, row.start) for row in rows if row.expires is not None]
        return [start for (before, _), (expires, start) in pairwise(dated) if expires > before]

    def _allowance(self, record: MeteringRecord, view: _View) -> int:
        """The greatest value in force at any moment of the hour; after the end, that of the end."""
        if record.dimension.included_by is None:
            return 0
        start, end = record.hour, record.hour + _HOUR
        ended_at = self._account.agreement.ended_at
        if view.ended and ended_at is not None:
            # What ended with the agreement was in force until then.
            start = min(start, ended_at - timedelta(microseconds=1))
        greatest = 0
        for row in self._known_rows(record.dimension.included_by.key, view):
            closed_later = view.at is not None and row.closed is not None and row.closed > view.at
            row_end = None if closed_later else row.end
            if row.start < end and (row_end is None or row_end > start):
                greatest = max(greatest, row.amount)
        return greatest

    def _known_rows(self, key: str, view: _View) -> Sequence[_Row]:
        rows = self._timeline(key)
        return rows if view.at is None else [row for row in rows if row.opened <= view.at]

    def _timeline(self, key: str) -> list[_Row]:
        if key not in self._rows:
            self._rows[key] = list(self._learned(key))
        return self._rows[key]

    def _learned(self, key: str) -> Iterator[_Row]:
        rows = [row for row in self._account.entitlements if row.dimension_key == key]
        if not rows:
            return
        links = AuditEvent.objects.filter(
            stream=f"agreement:{self._account.agreement.pk}", action="entitlements_changed"
        ).order_by("sequence")
        told = links.values_list("data", "occurred_at")
        known = _known((data.get("changes", {}).get(key), at) for data, at in told)
        # The oldest links may have been exported and removed: what is known is known of the newest rows.
        known = [(None, None)] * (len(rows) - len(known)) + known
        for number, row in enumerate(rows):
            opened, closed = known[number]
            yield _Row(
                _amount(row),
                row.expires_at,
                row.valid_from,
                row.valid_to,
                opened or row.valid_from,
                closed or row.valid_to,
            )


Known = tuple[datetime | None, datetime | None]


def _known(changes: Iterable[tuple[str | None, datetime]]) -> list[Known]:
    """When we learned that each row of one dimension opens and closes, in the order of the rows."""
    known: list[Known] = []
    for change, at in changes:
        if change == "extended":  # for the time before the first: the agreement began earlier than was known
            known.insert(0, (at, at))
        if change in ("closed", "changed"):
            opened = known.pop()[0] if known and known[-1][1] is None else None
            known.append((opened, at))
        if change in ("opened", "changed"):
            known.append((at, None))
    return known


def _month(hour: datetime) -> datetime:
    return hour.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _amount(row: Entitlement) -> int:
    if row.integer_value is not None:
        value = Decimal(row.integer_value)
    elif row.double_value is not None:
        value = Decimal(repr(row.double_value))
    else:
        value = Decimal(1 if row.boolean_value else 0)
    return max(0, millionths(min(value, _MOST).quantize(Decimal("0.000001"), ROUND_DOWN)))

"""How much of a record its allowance covers, now and as the timeline was known when it closed.

Billed overage is never credited and covered usage never billed later, so a record that follows the timeline
known at its closing is right, even where AWS told afterwards that something had changed before. Rows do not
say when they were learned; the audit trail does (``entitlements_changed``, at the instant the reading began).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

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
    start: datetime
    end: datetime | None
    opened: datetime
    closed: datetime | None


@dataclass(frozen=True, slots=True)
class _Draw:
    month: datetime
    right: int  # what it ought to have drawn
    told: int  # what the ledger says that it drew
    freed: datetime | None  # when that was given back (void)


Spent = tuple[int, int]
"""Least and most that earlier records drew: they differ when one was voided at that very moment."""


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
            self._drawn[pool].append(_Draw(_month(record.hour), right, told, freed))

    def spent_before(self, record: MeteringRecord) -> Spent:
        return self._spent(record, lambda draw: draw.right)

    def told_before(self, record: MeteringRecord) -> Spent:
        """What the ledger itself says that earlier records drew."""
        return self._spent(record, lambda draw: draw.told)

    def _spent(self, record: MeteringRecord, amount: Callable[[_Draw], int]) -> Spent:
        pool = record.dimension.included_by_id
        if pool is None:
            return 0, 0
        drawn = self._drawn[pool]
        if record.dimension.allowance_period == "month":
            month = _month(record.hour)
            drawn = [each for each in drawn if each.month == month]
        closed_at = record.closed_at
        least = sum(amount(each) for each in drawn if each.freed is None or each.freed > closed_at)
        return least, sum(amount(each) for each in drawn if each.freed is None or each.freed >= closed_at)

    def included(self, record: MeteringRecord, used: int, spent: Spent) -> Sequence[int]:
        """What may be covered by the timeline of today."""
        return self._covered(record, used, spent, [self._allowance(record, known_at=None)])

    def included_as_known(self, record: MeteringRecord, used: int, spent: Spent) -> Sequence[int]:
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
        allowances = [
            self._allowance(record, known_at=moment, ended=ended)
            for moment in [*moments, None]
            for ended in (True, False)
        ]
        return self._covered(record, used, spent, allowances)

    def _covered(
        self, record: MeteringRecord, used: int, spent: Spent, allowances: Sequence[int]
    ) -> Sequence[int]:
        if record.dimension.included_by_id is None:
            return [0]
        return [
            min(used, max(0, allowance - each)) for allowance in allowances for each in sorted(set(spent))
        ]

    def _allowance(self, record: MeteringRecord, *, known_at: datetime | None, ended: bool = True) -> int:
        """The greatest value in force at any moment of the hour; after the end, that of the end."""
        if record.dimension.included_by is None:
            return 0
        start, end = record.hour, record.hour + _HOUR
        ended_at = self._account.agreement.ended_at
        if ended and ended_at is not None:
            # What ended with the agreement was in force until then.
            start = min(start, ended_at - timedelta(microseconds=1))
        greatest = 0
        for row in self._timeline(record.dimension.included_by.key):
            row_end = row.end
            if known_at is not None:
                if row.opened > known_at:
                    continue
                if row.closed is not None and row.closed > known_at:
                    row_end = None
            if row.start < end and (row_end is None or row_end > start):
                greatest = max(greatest, row.amount)
        return greatest

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
        for number, row in enumerate(rows):
            opened, closed = known[number] if number < len(known) else (None, None)
            yield _Row(
                _amount(row), row.valid_from, row.valid_to, opened or row.valid_from, closed or row.valid_to
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

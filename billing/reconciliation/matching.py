"""Whose usage a row of AWS's report tells: by license, by AWS's agreement id, or by buyer and product."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Protocol

from django.db.models import Q

from billing.models import Agreement, Dimension, MeteringRecord, Product, UsageReportLine

_DAY = timedelta(days=1)
_REMEMBERED = 50_000
_COLUMNS = {
    "license_id": ("license_id",),
    "agreement_id": ("agreement_id",),
    "account": ("customer__aws_account_id", "customer__customer_identifier"),
}
_AT_ONCE = 2000


class Told(Protocol):
    """As much of a row or a line as it takes."""

    @property
    def product_code(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def agreement_number(self) -> str: ...
    @property
    def license_id(self) -> str: ...
    @property
    def dimension_key(self) -> str: ...
    @property
    def day(self) -> date: ...


@dataclass(frozen=True, slots=True)
class Match:
    product: int | None = None
    agreement: int | None = None
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class _Bought:
    pk: int
    product: int
    activated_at: datetime | None
    ended_at: datetime | None

    def is_metered_on(self, day: date) -> bool:
        start = datetime.combine(day, time(), UTC)
        if self.activated_at is None or self.activated_at >= start + _DAY:
            return False
        return self.ended_at is None or self.ended_at > start


@dataclass(slots=True)
class Matcher:
    """Looks each buyer and purchase up once."""

    _found: dict[tuple[str, ...], list[_Bought]] = field(default_factory=dict)
    _products: dict[str, int] = field(default_factory=dict)
    _dimensions: dict[tuple[int, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pk, code, product_id in Product.objects.values_list("pk", "code", "product_id"):
            self._products |= {product_id: pk, code: pk}
        for pk, product, key in Dimension.objects.values_list("pk", "product_id", "key"):
            self._dimensions[product, key] = pk

    def match(self, told: Told) -> Match:
        product = self._products.get(told.product_code)
        if product is None:
            return Match()
        dimension = self._dimensions.get((product, told.dimension_key))
        agreement = self._agreement(told, product, dimension)
        return Match(product, agreement, dimension)

    def _agreement(self, told: Told, product: int, dimension: int | None) -> int | None:
        for name, value in (("license_id", told.license_id), ("agreement_id", told.agreement_number)):
            if value:
                named = [each for each in self._bought(name, value) if each.product == product]
                if named:
                    return named[0].pk
        if told.license_id or not told.account:
            return None  # it names a purchase, and we have no such one
        bought = [each for each in self._bought("account", told.account) if each.product == product]
        if len(bought) > 1:
            bought = [each for each in bought if each.is_metered_on(told.day)] or bought
        if len(bought) > 1:
            bought = [each for each in bought if _was_accepted(each.pk, dimension, told.day)]
        return bought[0].pk if len(bought) == 1 else None

    def _bought(self, name: str, value: str) -> list[_Bought]:
        if (name, value) not in self._found:
            self._look_up(name, {value})
        return self._found[name, value]

    def learn(self, rows: Iterable[Told]) -> None:
        """Look up at once what ``rows`` will ask for."""
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        wanted: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            for name, value in (
                ("license_id", row.license_id),
                ("agreement_id", row.agreement_number),
                ("account", row.account),
            ):
                if value and (name, value) not in self._found:
                    wanted[name].add(value)
        for name, values in wanted.items():
            self._look_up(name, values)

    def _look_up(self, name: str, values: Collection[str]) -> None:
        for value in values:
            self._found[name, value] = []
        for column in _COLUMNS[name]:
            rows = Agreement.objects.filter((f"{column}__in", list(values))).order_by("pk")
            for value, *bought in rows.values_list(column, "pk", "product_id", "activated_at", "ended_at"):
                found = _Bought(*bought)
                if found not in self._found[name, value]:
                    self._found[name, value].append(found)


def _was_accepted(agreement: int, dimension: int | None, day: date) -> bool:
    start = datetime.combine(day, time(), UTC)
    records = MeteringRecord.objects.filter(
        agreement=agreement, dimension=dimension, hour__gte=start, hour__lt=start + _DAY, state="accepted"
    )
    return records.exists()


def match_again(matcher: Matcher) -> int:
    """Look once more at what matched nothing: purchases become known late. Returns how many are found."""
    unmatched = UsageReportLine.objects.current().filter(Q(agreement=None) | Q(dimension=None))
    lines = unmatched.order_by("pk").iterator(chunk_size=_AT_ONCE)
    count = 0
    while some := list(islice(lines, _AT_ONCE)):
        matcher.learn(some)
        found = [line for line in some if _is_news(line, matcher.match(line))]
        UsageReportLine.objects.bulk_update(found, ["product", "agreement", "dimension"], batch_size=500)
        count += len(found)
    return count


def _is_news(line: UsageReportLine, match: Match) -> bool:
    """Whether the line is given something that it had not."""
    before = (line.product_id, line.agreement_id, line.dimension_id)
    line.product_id, line.agreement_id, line.dimension_id = match.product, match.agreement, match.dimension
    return before != (match.product, match.agreement, match.dimension)

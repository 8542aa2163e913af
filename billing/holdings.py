"""What an organization holds, read with one query: its agreements, each with its current entitlements.

Every page that asks a gate runs it, so it is built once per process and planned once per connection: either
takes several times as long as running it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import FilteredRelation, Q
from psycopg.types.numeric import Int8

from accounts.models import Organization
from billing import prepared
from billing.fold import CONTINUED_GRACE
from billing.models import Agreement, Product
from billing.models.entitlements import Value, quantity_of, value_of

Status = Agreement.Status


class Entitled(NamedTuple):
    """The current value of one dimension."""

    dimension_key: str
    value: Value
    expires_at: datetime | None

    @property
    def quantity(self) -> Decimal:
        return quantity_of(self.value)

    @property
    def grants(self) -> bool:
        return bool(self.value)


class Holding(NamedTuple):
    """An agreement, and what it entitles to."""

    agreement: int
    continues: int | None  # the agreement that this one renews or replaces
    status: str
    product_code: str
    pricing: str
    read_at: datetime | None
    end_reason: str
    access_until: datetime | None
    entitled: list[Entitled]

    def gives_access_at(self, now: datetime) -> bool:
        return self.status == Status.ACTIVE or self.is_in_grace(now)

    def is_in_grace(self, now: datetime) -> bool:
        """Whether it has ended, or is about to, and access goes on for a while."""
        if self.status == Status.ACTIVE:
            return self.end_reason in Agreement.CONTINUED
        return self.access_until is not None and now < self.access_until

    def keeps(self, row: Entitled, now: datetime) -> bool:
        """Whether the grace covers what has run out: access does not blink when a contract is renewed."""
        if not self.is_in_grace(now):
            return False
        # Of an end that AWS has yet to date, it is counted from the expiry.
        return (
            self.status != Status.ACTIVE or row.expires_at is None or now < row.expires_at + CONTINUED_GRACE
        )

    def was_read_since(self, instant: datetime) -> bool:
        return self.read_at is not None and self.read_at >= instant

    @property
    def is_unread(self) -> bool:
        """A contract whose entitlements nobody has read yet."""
        return self.read_at is None and self.pricing != Product.Pricing.SUBSCRIPTION

    @property
    def is_unsettled(self) -> bool:
        """AWS has yet to tell whether it was bought, or what."""
        return self.status == Status.PENDING or (self.status == Status.ACTIVE and self.is_unread)

    def is_superseded_by(self, successor: Holding | None) -> bool:
        # A successor that has ended does not take away what AWS says is active.
        if successor is None:
            return False
        return successor.status == Status.ACTIVE or self.status != Status.ACTIVE

    @property
    def has_come(self) -> bool:
        """Whether it was ever active, and what it entitles to is known."""
        return self.status not in (Status.PENDING, Status.FAILED) and not self.is_unread


def live(held: Iterable[Holding], now: datetime) -> list[Holding]:
    """Those that give access at ``now``. An agreement and the one that continues it count once.

    The older counts until the newer is there and its entitlements are known: access does not blink. From then
    on what is left of its grace brings nothing back.
    """
    held = list(held)
    successors = {holding.continues: holding for holding in held if holding.has_come}
    return [
        holding
        for holding in held
        if holding.gives_access_at(now) and not holding.is_superseded_by(successors.get(holding.agreement))
    ]


def holdings_of(organization: Organization) -> list[Holding]:
    """Read once per organization object, that is once per request."""
    cached: list[Holding] | None = organization.__dict__.get("_holdings")
    if cached is None:
        cached = organization.__dict__["_holdings"] = read(organization)
    return cached


def read(organization: Organization) -> list[Holding]:
    """As the database has it now."""
    sql, convert = _query()
    with prepared.cursor() as cursor:
        cursor.execute(sql, [Int8(organization.pk)])
        rows = convert(cursor.fetchall())
    held: dict[int, Holding] = {}
    for row in rows:
        of_agreement, (key, expires_at, *columns) = row[:_WIDTH], row[_WIDTH:]
        holding = held.get(row[0])
        if holding is None:
            holding = held[row[0]] = Holding._make((*of_agreement, []))
        if key is not None:
            holding.entitled.append(Entitled(key, value_of(*columns), expires_at))
    return list(held.values())


_AGREEMENT = (
    "pk", "previous_id", "status", "product__code", "product__pricing", "entitlements_read_at", "end_reason",
    "access_until",
)  # fmt: skip
_ENTITLEMENT = (
    "dimension_key", "expires_at", "integer_value", "double_value", "boolean_value", "string_value",
)  # fmt: skip
_WIDTH = len(_AGREEMENT)


@cache
def _query() -> tuple[str, Callable[[list[Any]], Iterable[Sequence[Any]]]]:
    """The query as text, and what turns the database's values into Python's where they are not so already."""
    current = FilteredRelation("entitlements", condition=Q(entitlements__valid_to=None))
    query = (
        Agreement.objects.filter(organization_id=0)
        .annotate(current=current)
        .order_by()
        .values_list(*_AGREEMENT, *(f"current__{name}" for name in _ENTITLEMENT))
        .query
    )
    compiler = query.get_compiler(connection=connection)
    sql, parameters = compiler.as_sql()
    assert parameters == (0,), "the organization is all that is asked by"
    converters = compiler.get_converters([expression for expression, *_ in compiler.select])
    return sql, lambda rows: compiler.apply_converters(rows, converters) if converters else rows

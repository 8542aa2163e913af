"""Which agreement pays for a use, and whether it can: the purchases of some organizations, read at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from accounts.models import Organization
from billing.aws.limits import METERING_WINDOW
from billing.aws.window import HOUR, accepted_until, hour_of
from billing.models import Agreement, Dimension, Product, UsageEvent
from billing.recording.rules import AmbiguousAgreement, UsageRefused

Disposition = UsageEvent.Disposition
_NEVER = datetime.max.replace(tzinfo=UTC)


def agreements_with(organization: Organization, dimension: str) -> list[Agreement]:
    """Every agreement of ``organization`` whose product meters ``dimension``, the newest first."""
    return list(
        organization.agreements.select_related("product").filter(
            product__dimensions__key=dimension, product__dimensions__kind=Dimension.Kind.METERED
        )
    )


class Place(NamedTuple):
    """Where a use goes."""

    agreement_id: int
    dimension_id: int
    disposition: str


class _Purchase(NamedTuple):
    """Of an agreement, what decides."""

    pk: int
    organization_id: int
    product_id: int
    activated_at: datetime | None
    ended_at: datetime | None
    access_until: datetime | None
    metering_closes_at: datetime | None
    previous_id: int | None


class _Term(NamedTuple):
    """When an agreement meters a dimension: from ``start``, before ``end``. AWS refuses what is older."""

    agreement: int
    previous: int | None  # the agreement that it continues
    start: datetime
    end: datetime
    access_end: datetime  # where access outlasts the end, the last hour takes what is used then
    oldest: datetime
    billable: Place
    too_late: Place
    outside: Place


@dataclass(frozen=True, slots=True)
class Candidates:
    """The agreements that may pay for uses of one dimension, the newest first."""

    dimension: str
    terms: Sequence[_Term]

    def place(self, instant: datetime) -> Place:
        """Raises AmbiguousAgreement when several were active at that instant."""
        terms = self.terms
        if len(terms) == 1 and terms[0].oldest <= instant < terms[0].end and terms[0].start <= instant:
            return terms[0].billable  # nearly always
        active = [term for term in terms if term.start <= instant < term.end]
        # As `record` in one statement does: what is active goes before what only gives access still.
        active = active or [term for term in terms if term.start <= instant < term.access_end]
        # Where a renewal and what it renews overlap, the buyer has one purchase: the renewal.
        continued = {term.previous for term in active}
        active = [term for term in active if term.agreement not in continued]
        if not active:
            # None was active then: the newest keeps the usage, outside of its time.
            return terms[0].outside
        if len(active) > 1:
            raise AmbiguousAgreement(
                f"agreement: {len(active)} active agreements have the dimension {self.dimension!r}; "
                "say which one."
            )
        term = active[0]
        return term.too_late if instant < term.oldest else term.billable


class Payers:
    """What ``organizations`` (ids) bought, as the database has it now.

    Read anew for every use or chunk of uses: an agreement may have been activated or ended meanwhile.
    """

    def __init__(self, organizations: Collection[int], *, now: datetime) -> None:
        self._now = now
        self._oldest = oldest_accepted(now)
        self._bought: dict[int, list[_Purchase]] = defaultdict(list)
        bought = Agreement.objects.filter(organization__in=organizations)
        for row in bought.values_list(*_Purchase._fields):
            purchase = _Purchase(*row)
            self._bought[purchase.organization_id].append(purchase)
        products = {purchase.product_id for each in self._bought.values() for purchase in each}
        self._dimensions = {
            (dimension.product_id, dimension.key): dimension
            for dimension in Dimension.objects.filter(product__in=products)
        }

    def candidates(
        self, organization: Organization | int, dimension: str, agreement: Agreement | int | None
    ) -> Candidates:
        """Those for uses of ``dimension``: only the given ``agreement``, or any. Raises UsageRefused."""
        bought = self._bought.get(organization if isinstance(organization, int) else organization.pk, [])
        if agreement is not None:
            pk = agreement if isinstance(agreement, int) else agreement.pk
            given = [each for each in bought if each.pk == pk]
            if not given:
                raise UsageRefused("agreement: belongs to another organization.")
            found = [self._term(given[0], self._metered(given[0], dimension))]
        else:
            found = [
                self._term(each, known)
                for each in bought
                if (known := self._dimensions.get((each.product_id, dimension))) is not None
                and known.kind == Dimension.Kind.METERED
            ]
        if not found:
            if isinstance(organization, int):
                organization = Organization.objects.filter(pk=organization).first() or organization
            raise UsageRefused(
                f"dimension: no product that {organization} bought has the metered dimension {dimension!r}."
            )
        return Candidates(dimension, found)

    def _metered(self, purchase: _Purchase, key: str) -> Dimension:
        found = self._dimensions.get((purchase.product_id, key))
        if found is None:
            product = Product.objects.get(pk=purchase.product_id)
            raise UsageRefused(f"dimension: {product} has no dimension {key!r}. Names are case-sensitive.")
        if found.kind != Dimension.Kind.METERED:
            raise UsageRefused(f"dimension: {key!r} is bought ahead, not metered.")
        return found

    def _term(self, purchase: _Purchase, dimension: Dimension) -> _Term:
        billable, too_late, outside = (
            Place(purchase.pk, dimension.pk, disposition)
            for disposition in (Disposition.BILLABLE, Disposition.TOO_LATE, Disposition.OUTSIDE_AGREEMENT)
        )
        end = purchase.ended_at or _NEVER
        closes_at = purchase.metering_closes_at
        is_closed = closes_at is not None and closes_at <= self._now
        return _Term(
            purchase.pk,
            purchase.previous_id,
            purchase.activated_at or _NEVER,
            end,
            max(end, purchase.access_until or end),
            _NEVER if is_closed else self._oldest,
            billable,
            too_late,
            outside,
        )


def oldest_accepted(now: datetime) -> datetime:
    """The first hour that AWS still takes, were no agreement ever closed: a later one it takes as well."""
    hour = hour_of(now) - METERING_WINDOW
    while accepted_until(hour, closes_at=None) <= now:
        hour += HOUR
    return hour

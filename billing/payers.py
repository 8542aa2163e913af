"""Which agreement pays for a use, and whether it can: the purchases of some organizations, read at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from accounts.models import Organization
from billing.aws.limits import METERING_WINDOW
from billing.aws.window import HOUR, accepted_until, hour_of
from billing.models import Agreement, Dimension, UsageEvent
from billing.usage_rules import AmbiguousAgreement, UsageRefused

Disposition = UsageEvent.Disposition


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
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class Candidates:
    """The agreements that may pay for uses of one dimension, the newest first."""

    dimension: str
    agreements: Sequence[tuple[Agreement, int]]  # with the id of the dimension
    now: datetime
    oldest: datetime  # what occurred before it is too late for AWS

    def place(self, instant: datetime) -> Place:
        """Raises AmbiguousAgreement when several were active at that instant."""
        active = [each for each in self.agreements if each[0].is_metered_at(instant)]
        if len(active) > 1:
            raise AmbiguousAgreement(
                f"agreement: {len(active)} active agreements have the dimension {self.dimension!r}; "
                "say which one."
            )
        if not active:
            # None was active then: the newest keeps the usage, outside of its time.
            agreement, dimension_id = self.agreements[0]
            return Place(agreement.pk, dimension_id, Disposition.OUTSIDE_AGREEMENT)
        agreement, dimension_id = active[0]
        closes_at = agreement.metering_closes_at
        if instant < self.oldest or (closes_at is not None and self.now >= closes_at):
            return Place(agreement.pk, dimension_id, Disposition.TOO_LATE)
        return Place(agreement.pk, dimension_id, Disposition.BILLABLE)


class Payers:
    """What ``organizations`` (ids) bought, as the database has it now.

    Read anew for every use or chunk of uses: an agreement may have been activated or ended meanwhile.
    """

    def __init__(self, organizations: Collection[int], *, now: datetime) -> None:
        self._now = now
        self._oldest = oldest_accepted(now)
        self._bought: dict[int, list[Agreement]] = defaultdict(list)
        products = set()
        for agreement in Agreement.objects.filter(organization__in=organizations).select_related("product"):
            assert agreement.organization_id is not None
            self._bought[agreement.organization_id].append(agreement)
            products.add(agreement.product_id)
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
            found = [(given[0], self._metered(given[0], dimension).pk)]
        else:
            found = [
                (each, known.pk)
                for each in bought
                if (known := self._dimensions.get((each.product_id, dimension))) is not None
                and known.kind == Dimension.Kind.METERED
            ]
        if not found:
            buyer = f"organization {organization}" if isinstance(organization, int) else organization
            raise UsageRefused(
                f"dimension: no product that {buyer} bought has the metered dimension {dimension!r}."
            )
        return Candidates(dimension, found, self._now, self._oldest)

    def _metered(self, agreement: Agreement, key: str) -> Dimension:
        found = self._dimensions.get((agreement.product_id, key))
        if found is None:
            raise UsageRefused(
                f"dimension: {agreement.product} has no dimension {key!r}. Names are case-sensitive."
            )
        if found.kind != Dimension.Kind.METERED:
            raise UsageRefused(f"dimension: {key!r} is bought ahead, not metered.")
        return found


def oldest_accepted(now: datetime) -> datetime:
    """The first hour that AWS still takes, were no agreement ever closed: a later one it takes as well."""
    hour = hour_of(now) - METERING_WINDOW
    while accepted_until(hour, closes_at=None) <= now:
        hour += HOUR
    return hour

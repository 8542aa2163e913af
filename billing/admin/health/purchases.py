"""Agreements by status, those that want a person, and entitlements that run out soon."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from billing.admin.columns import list_url
from billing.admin.health.figures import Breakdown, Figure, by_state, counted, grouped
from billing.admin.tones import AGREEMENT_STATUS
from billing.models import Agreement, Entitlement

# A buyer may still come for these.
EXPECTED = (Agreement.Status.PENDING, Agreement.Status.ACTIVE, Agreement.Status.ENDING)
# AWS tells within minutes that a purchase is on.
PENDING_FOR = timedelta(hours=1)
AHEAD = timedelta(days=30)


class Group(NamedTuple):
    """Agreements of one status."""

    status: str
    agreements: int
    unclaimed: int
    flagged: int
    stale: int


def read(*, now: datetime) -> list[Group]:
    stale = Q(status=Agreement.Status.PENDING, created_at__lt=now - PENDING_FOR)
    groups = (
        Agreement.objects.order_by()
        .values_list("status")
        .annotate(
            agreements=Count("pk"),
            unclaimed=Count("pk", filter=Q(organization=None, status__in=EXPECTED)),
            flagged=Count("pk", filter=Q(flagged_at__isnull=False)),
            stale=Count("pk", filter=stale),
        )
    )
    return [Group(*row) for row in groups]


def figures(groups: list[Group], *, now: datetime) -> list[Figure]:
    return [
        counted(
            _("Bought, never registered"),
            sum(group.unclaimed for group in groups),
            _("Purchases without an organization"),
            list_url(Agreement, organization__isnull=True, status__in=",".join(EXPECTED)),
            "warning",
        ),
        counted(
            _("Pending for over an hour"),
            sum(group.stale for group in groups),
            _("AWS has not said that they are active"),
            list_url(
                Agreement,
                status__exact=Agreement.Status.PENDING,
                created_at__lt=(now - PENDING_FOR).isoformat(),
            ),
            "warning",
        ),
        counted(
            _("Flagged agreements"),
            sum(group.flagged for group in groups),
            _("Something about them needs a person"),
            list_url(Agreement, flagged_at__isnull=False),
            "warning",
        ),
    ]


def by_status(groups: list[Group]) -> Breakdown:
    counts = {group.status: group.agreements for group in groups}
    rows = by_state(Agreement, "status", Agreement.Status, counts, AGREEMENT_STATUS)
    return Breakdown(_("Agreements"), {"headers": [_("Status"), _("Agreements")], "rows": rows})


def expiring(*, now: datetime) -> Figure:
    until = now + AHEAD
    soon = Entitlement.objects.filter(valid_to=None, expires_at__gte=now, expires_at__lt=until)
    url = list_url(
        Entitlement,
        valid_to__isempty=1,
        expires_at__gte=now.isoformat(),
        expires_at__lt=until.isoformat(),
    )
    note = _("Entitlements that run out within 30 days")
    return Figure(_("Expiring entitlements"), grouped(soon.count()), note, url, "")

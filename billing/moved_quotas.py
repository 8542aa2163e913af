"""What a move of purchases does to quotas that are already in use: seats taken, projects made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.models import Organization
from billing import gates
from billing.models import Agreement, Entitlement


def sentences(agreements: Sequence[Agreement], *, to: Organization, now: datetime) -> list[str]:
    """Of each countable feature, which workspace would use more than it has. Nobody is thrown out by it."""
    moved: dict[int, list[int]] = {}
    for agreement in agreements:
        if agreement.organization_id is not None:
            moved.setdefault(agreement.organization_id, []).append(agreement.pk)
    found = []
    for feature, rule in settings.FEATURES.items():
        if "count" not in rule or "quota" not in rule:
            continue
        all_of_them = [pk for pks in moved.values() for pk in pks]
        found += _too_many(to, feature, _bought(all_of_them, rule["quota"]), now=now)
        for old in Organization.objects.in_bulk(moved).values():
            found += _too_many(old, feature, -_bought(moved[old.pk], rule["quota"]), now=now)
    return found


def _too_many(organization: Organization, feature: str, change: Decimal, *, now: datetime) -> list[str]:
    quota = gates.quota(organization, feature, now=now)
    limit = max(Decimal(0), (quota.limit if quota is not None else Decimal(0)) + change)
    count: Callable[..., int] = import_string(settings.FEATURES[feature]["count"])
    used = count(organization, now=now)
    if used <= limit or not change:
        return []
    return [
        _(
            "%(workspace)s would have %(limit)s of “%(feature)s” and uses %(used)s. What is in use stays; "
            "nothing can be added until it fits."
        )
        % {"workspace": organization, "limit": f"{limit.normalize():f}", "feature": feature, "used": used}
    ]


def _bought(agreements: Sequence[int], dimension_key: str) -> Decimal:
    rows = Entitlement.objects.current().filter(agreement__in=agreements, dimension_key=dimension_key)
    return sum((row.quantity for row in rows), Decimal(0))

"""Zero records for hours in which an active buyer used nothing: AWS sees that metering is alive.

Recommended by AWS, not required; off unless METERING_HEARTBEAT is set. A buyer whose subscription AWS no
longer knows (CustomerNotSubscribed) is found within the hour, not with their next use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from billing import identity
from billing.aws.window import HOUR, accepted_until, hour_of
from billing.closing import records, taken
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent

_CHUNK = 1000


def beat(*, region: str, now: datetime) -> int:
    """Close the last finished hour of each idle active agreement with zero. Returns how many.

    One dimension stands for the agreement. Older hours are not caught up: a pulse is of now.
    """
    hour = hour_of(now) - HOUR
    pks = _idle(hour).order_by("pk").values_list("pk", flat=True).iterator()
    return sum(_beat(chunk, hour, region=region, now=now) for chunk in _chunks(pks))


def _idle(hour: datetime) -> QuerySet[Agreement]:
    """Active through the whole hour, with nothing closed or open of it."""
    closed = MeteringRecord.objects.filter(agreement=OuterRef("pk"), hour=hour)
    used = UsageEvent.objects.open().filter(
        agreement=OuterRef("pk"), occurred_at__gte=hour, occurred_at__lt=hour + HOUR
    )
    active = Agreement.objects.filter(status=Agreement.Status.ACTIVE, activated_at__lt=hour + HOUR)
    return active.exclude(Exists(closed)).exclude(Exists(used))


@transaction.atomic
def _beat(pks: Sequence[int], hour: datetime, *, region: str, now: datetime) -> int:
    agreements = taken.lock(pks)
    still_idle = set(_idle(hour).filter(pk__in=pks).values_list("pk", flat=True))
    first_of = _first_metered({agreement.product_id for agreement in agreements.values()})
    hours = taken.TakenHours(agreements, since=hour)
    made = []
    for agreement in agreements.values():
        dimension = first_of.get(agreement.product_id)
        if (
            dimension is None
            or agreement.pk not in still_idle
            or hour in hours.of(agreement, dimension.pk)
            or not identity.can_be_metered(agreement)
            or accepted_until(hour, closes_at=agreement.metering_closes_at) <= now
        ):
            continue
        pulse = records.freeze(agreement, dimension, hour, usage=(), included=0, region=region, now=now)
        hours.take(pulse)
        made.append(pulse)
    MeteringRecord.objects.bulk_create(made)
    return len(made)


def _first_metered(products: set[int]) -> dict[int, Dimension]:
    metered = Dimension.objects.filter(product__in=products, kind=Dimension.Kind.METERED).order_by("-pk")
    return {dimension.product_id: dimension for dimension in metered}


def _chunks(pks: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(pks, _CHUNK)):
        yield chunk

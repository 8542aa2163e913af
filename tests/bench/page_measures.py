"""What a buyer's administrator waits for: the usage page of an organization that used a lot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.models import Membership, User
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, MeteringRecord
from tests.bench import references, world
from tests.bench.compare import Measure, compare

DAYS = 29

_USED = re.compile(r"<dt>Used</dt><dd>([\d,.]+) ")


def usage_page(*, quick: bool) -> Iterator[Measure]:
    """The whole page of a month of a million events, closed but for the last hour's: by day, and by hour.

    The page itself takes its time, however little was used: few events say nothing about many.
    """
    [agreement] = world.agreements("reports-payg", world.invented(1))
    now = timezone.now()  # the page asks the clock itself
    each = (200_000 if quick else 1_000_000) // (DAYS * 24)
    _use(agreement, each=each, now=now)
    client = _admin_of(agreement)
    slug = agreement.organization.slug if agreement.organization else ""
    since = hour_of(now) - timedelta(days=DAYS + 1)
    pages = [("usage page", "day"), ("usage by hour", "hour")]
    for name, by in pages[:1] if quick else pages:

        def ours(by: str = by) -> int:
            page = client.get(f"/o/{slug}/usage/", {"period": "31d", "by": by}).content.decode()
            used = _USED.search(page)
            return int(Decimal(used[1].replace(",", "")).scaleb(6)) if used else 0

        def reference(by: str = by) -> int:
            return references.usage(agreement.organization_id, since=since, by=by)

        yield compare(name, ours, reference, hold="<= 3", unit="s")


def _use(agreement: Agreement, *, each: int, now: datetime) -> None:
    """``each`` events in every hour until now; the finished hours are closed and billed."""
    this_hour = hour_of(now)
    world.use_densely(agreement, hours=DAYS * 24, each=each, until=this_hour + HOUR)
    world.settle()
    references.close(region=world.REGION, end=this_hour, now=now)
    MeteringRecord.objects.update(state="accepted")
    world.settle()


def _admin_of(agreement: Agreement) -> Client:
    user = User.objects.create_user("admin@bench.example", "x")
    Membership.objects.create(organization_id=agreement.organization_id, user=user, role="owner")
    client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


ALL = (usage_page,)

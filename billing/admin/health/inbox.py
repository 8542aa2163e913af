"""Events that wait or were not understood, and effects that nobody does or somebody tries in vain."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from billing.admin.columns import list_url
from billing.admin.health.figures import Figure, counted
from billing.models import Effect, MarketplaceEvent

# Effects are done every minute; one that waits longer was tried and failed, or nobody is running them.
PATIENCE = timedelta(minutes=5)
TRIED_IN_VAIN = 5

State = MarketplaceEvent.State
# Each is what a partial index holds.
WAITING = (State.RECEIVED, State.WAITING)
FAILED = (State.FAILED, State.UNKNOWN)


def figures() -> list[Figure]:
    counts = dict(
        MarketplaceEvent.objects.filter(Q(state__in=WAITING) | Q(state__in=FAILED))
        .order_by()
        .values_list("state")
        .annotate(n=Count("pk"))
    )
    shown = (
        (_("Inbox waiting"), WAITING, _("Events of purchases not known yet"), "warning"),
        (_("Inbox failed"), FAILED, _("Events that could not be understood"), "danger"),
    )
    return [
        counted(
            title,
            sum(counts.get(state, 0) for state in states),
            note,
            list_url(MarketplaceEvent, state__in=",".join(states)),
            tone,
        )
        for title, states, note, tone in shown
    ]


def effects(*, now: datetime) -> list[Figure]:
    latest = now - PATIENCE
    counts = Effect.objects.filter(state=Effect.State.DUE).aggregate(
        overdue=Count("pk", filter=Q(due_at__lt=latest)),
        failing=Count("pk", filter=Q(attempts__gte=TRIED_IN_VAIN)),
    )
    state = {"state__exact": Effect.State.DUE}
    return [
        counted(
            _("Overdue effects"),
            counts["overdue"],
            _("Owed to the world for over 5 minutes"),
            list_url(Effect, **state, due_at__lt=latest.isoformat()),
            "danger",
        ),
        counted(
            _("Failing effects"),
            counts["failing"],
            _("Tried %(times)s times or more") % {"times": TRIED_IN_VAIN},
            list_url(Effect, **state, attempts__gte=TRIED_IN_VAIN),
            "danger",
        ),
    ]

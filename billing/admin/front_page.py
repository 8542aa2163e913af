"""The first page: what is at risk now. Six queries, each figure a link to the rows behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, PermissionsMixin
from django.db.models import Count, Min, Model, Q
from django.utils import timezone
from django.utils.html import format_html

from billing.admin.columns import label, list_url, stamp
from billing.admin.tones import AGREEMENT_STATUS, RECORD_STATE
from billing.models import Agreement, Effect, MarketplaceEvent, MeteringRecord

# A buyer may still come for these.
EXPECTED = (Agreement.Status.PENDING, Agreement.Status.ACTIVE, Agreement.Status.ENDING)
# Effects are done every minute; one that waits longer was tried and failed, or nobody is running them.
PATIENCE = timedelta(minutes=5)
TRIED_IN_VAIN = 5


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: str
    note: str
    url: str
    tone: str  # "danger", "warning", or "" when all is well


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Rows by state, those that need a person marked."""

    title: str
    table: dict[str, list[list[str]] | list[str]]


@dataclass(frozen=True, slots=True)
class Health:
    figures: list[Figure]
    breakdowns: list[Breakdown]


def look(user: AbstractBaseUser | AnonymousUser, *, now: datetime | None = None) -> Health:
    """What ``user`` may see of how things stand at ``now``."""
    now = now or timezone.now()
    figures: list[Figure] = []
    breakdowns: list[Breakdown] = []
    if _may_see(user, "meteringrecord"):
        states = (
            MeteringRecord.objects.order_by().values("state").annotate(n=Count("pk"), by=Min("submit_by"))
        )
        rows = {row["state"]: (row["n"], row["by"]) for row in states}
        figures.append(
            _deadline([by for state, (_, by) in rows.items() if state in MeteringRecord.UNSETTLED], now=now)
        )
        breakdowns.append(_records({state: n for state, (n, _) in rows.items()}))
    if _may_see(user, "agreement"):
        figures.extend(_agreement_figures())
        breakdowns.append(_agreements())
    if _may_see(user, "marketplaceevent"):
        figures.extend(_inbox())
    if _may_see(user, "effect"):
        figures.extend(_effects(now=now))
    return Health(figures, breakdowns)


def _may_see(user: AbstractBaseUser | AnonymousUser, model: str) -> bool:
    return isinstance(user, PermissionsMixin) and user.has_perm(f"billing.view_{model}")


def _deadline(deadlines: Iterable[datetime], *, now: datetime) -> Figure:
    url = list_url(MeteringRecord, state__in=",".join(MeteringRecord.UNSETTLED))
    nearest = min(deadlines, default=None)
    if nearest is None:
        return Figure("Nearest deadline", "None", "Nothing waits to be sent", url, "")
    left = nearest - now
    tone = "danger" if left < timedelta(hours=1) else "warning" if left < timedelta(hours=4) else ""
    value = _duration(left) if left > timedelta(0) else "Missed"
    return Figure("Nearest deadline", value, f"{stamp(nearest)} UTC", url, tone)


def _duration(left: timedelta) -> str:
    hours, minutes = divmod(int(left.total_seconds()) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _records(counts: dict[str, int]) -> Breakdown:
    rows = [
        [
            label(state.label, RECORD_STATE.get(state, "")),
            _count(MeteringRecord, counts[state], state__exact=state),
        ]
        for state in MeteringRecord.State
        if counts.get(state)
    ]
    return Breakdown("Metering records", {"headers": ["State", "Records"], "rows": rows})


def _agreement_figures() -> list[Figure]:
    counts = Agreement.objects.aggregate(
        unclaimed=Count("pk", filter=Q(organization=None, status__in=EXPECTED)),
        flagged=Count("pk", filter=Q(flagged_at__isnull=False)),
    )
    return [
        _figure(
            "Bought, never registered",
            counts["unclaimed"],
            "Purchases without an organization",
            list_url(Agreement, organization__isnull=True, status__in=",".join(EXPECTED)),
            "warning",
        ),
        _figure(
            "Flagged agreements",
            counts["flagged"],
            "Something about them needs a person",
            list_url(Agreement, flagged_at__isnull=False),
            "warning",
        ),
    ]


def _agreements() -> Breakdown:
    counts = dict(Agreement.objects.order_by().values_list("status").annotate(n=Count("pk")))
    rows = [
        [
            label(status.label, AGREEMENT_STATUS.get(status, "")),
            _count(Agreement, counts[status], status__exact=status),
        ]
        for status in Agreement.Status
        if counts.get(status)
    ]
    return Breakdown("Agreements", {"headers": ["Status", "Agreements"], "rows": rows})


def _inbox() -> list[Figure]:
    states = MarketplaceEvent.State
    shown = (
        ("Inbox waiting", (states.RECEIVED, states.WAITING), "Events of purchases not known yet", "warning"),
        ("Inbox failed", (states.FAILED, states.UNKNOWN), "Events that could not be understood", "danger"),
    )
    counts = dict(
        MarketplaceEvent.objects.filter(state__in=[state for _, group, _, _ in shown for state in group])
        .order_by()
        .values_list("state")
        .annotate(n=Count("pk"))
    )
    return [
        _figure(
            title,
            sum(counts.get(state, 0) for state in group),
            note,
            list_url(MarketplaceEvent, state__in=",".join(group)),
            tone,
        )
        for title, group, note, tone in shown
    ]


def _effects(*, now: datetime) -> list[Figure]:
    """Those that nobody does, and those that somebody tries in vain."""
    latest = now - PATIENCE
    due = Effect.objects.filter(state=Effect.State.DUE)
    counts = due.aggregate(
        overdue=Count("pk", filter=Q(due_at__lte=latest)),
        failing=Count("pk", filter=Q(attempts__gte=TRIED_IN_VAIN)),
    )
    state = {"state__exact": Effect.State.DUE}
    return [
        _figure(
            "Overdue effects",
            counts["overdue"],
            "Owed to the world for over 5 minutes",
            list_url(Effect, **state, due_at__lte=latest.isoformat()),
            "danger",
        ),
        _figure(
            "Failing effects",
            counts["failing"],
            f"Tried {TRIED_IN_VAIN} times or more",
            list_url(Effect, **state, attempts__gte=TRIED_IN_VAIN),
            "danger",
        ),
    ]


def _count(model: type[Model], count: int, **filters: str | int) -> str:
    return format_html('<a href="{}" class="text-link">{}</a>', list_url(model, **filters), count)


def _figure(title: str, count: int, note: str, url: str, tone: str) -> Figure:
    return Figure(title, str(count), note, url, tone if count else "")

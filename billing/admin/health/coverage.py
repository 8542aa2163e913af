"""Which hours of which purchases have a metering record; first those that want a look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from django.db.models import Case, Count, Exists, FilteredRelation, OuterRef, Q, Value, When
from django.db.models.functions import TruncHour
from django.utils.html import format_html
from django.utils.translation import gettext as _

from billing.admin.columns import list_url
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent

HOURS = 24
ROWS = 40
_LOOKED_AT = 5 * ROWS  # of which the worst are shown
_CLOSED_AFTER = timedelta(minutes=10)  # the close of an hour runs at five past

_State = MeteringRecord.State
_WANTS_A_PERSON = (_State.PARKED, _State.CONFLICT, _State.EXPIRED)
_OPEN = "open"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a cell says: a sign for those who see no colour, a class of operators.css."""

    sign: str
    tone: str


_SENT = Kind("✓", "success")
_PENDING = Kind("…", "warning")
_TROUBLE = Kind("!", "danger")
_ZERO = Kind("0", "calm")
_NOT_CLOSED = Kind("?", "danger")
_NOTHING = Kind("–", "gap")
_OUTSIDE = Kind("", "outside")


@dataclass(frozen=True, slots=True)
class Cell:
    kind: Kind
    url: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    product: str
    url: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Coverage:
    hours: Sequence[str]
    rows: Sequence[Row]
    legend: Sequence[tuple[Kind, str]]
    table: dict[str, Any]
    is_cut: bool


class _Purchase(NamedTuple):
    pk: int
    organization: str | None
    account: str | None
    customer: str | None
    product: str
    activated_at: datetime
    ended_at: datetime | None
    present: int
    troubled: int

    def is_metered(self, hour: datetime) -> bool:
        return self.activated_at < hour + HOUR and (self.ended_at is None or hour < self.ended_at)

    def missing(self, hours: Iterable[datetime]) -> int:
        return sum(map(self.is_metered, hours)) - self.present


def read(*, now: datetime) -> Coverage:
    end = hour_of(now - _CLOSED_AFTER)
    hours = [end - number * HOUR for number in range(HOURS, 0, -1)]
    found = _purchases(hours[0], end)
    found.sort(key=lambda one: (-one.troubled, one.present == 0, -one.missing(hours), one.pk))
    shown = found[:ROWS]
    states = _states([one.pk for one in shown], hours[0], end)
    kinds = {one.pk: [_kind(one, hour, states) for hour in hours] for one in shown}
    return Coverage(
        [f"{hour:%H}" for hour in hours],
        [_row(one, hours, kinds[one.pk]) for one in shown],
        _legend(),
        {
            "headers": [
                _("Agreement"),
                _("Hours without a record (UTC)"),
                _("Hours that want a person (UTC)"),
            ],
            "rows": [_in_words(one, hours, kinds[one.pk]) for one in shown],
        },
        len(found) > ROWS,
    )


def _purchases(since: datetime, end: datetime) -> list[_Purchase]:
    """Those that are metered, the most troubled and the least covered first."""
    metered = Dimension.objects.filter(product=OuterRef("product"), kind=Dimension.Kind.METERED)
    recent = Q(metering_records__hour__gte=since, metering_records__hour__lt=end)
    rows = (
        Agreement.objects.filter(
            Exists(metered),
            status__in=(Agreement.Status.ACTIVE, Agreement.Status.ENDING),
            activated_at__lt=end,
        )
        .annotate(recent=FilteredRelation("metering_records", condition=recent))
        .annotate(
            present=Count("recent__hour", distinct=True),
            troubled=Count("recent", filter=Q(recent__state__in=_WANTS_A_PERSON)),
        )
        .order_by("-troubled", Case(When(present=0, then=1), default=0), "present", "pk")
        .values_list(
            "pk",
            "organization__name",
            "customer__aws_account_id",
            "customer__customer_identifier",
            "product__title",
            "activated_at",
            "ended_at",
            "present",
            "troubled",
        )
    )
    return [_Purchase(*cast(Any, row)) for row in rows[:_LOOKED_AT]]


def _states(pks: Sequence[int], since: datetime, end: datetime) -> dict[tuple[int, datetime], set[str]]:
    """The states of the records of each hour, and where usage waits for its hour to be closed."""
    records = (
        MeteringRecord.objects.filter(agreement__in=pks, hour__gte=since, hour__lt=end)
        .order_by()
        .values_list("agreement", "hour", "state")
    )
    waiting = (
        UsageEvent.objects.open()
        .filter(agreement__in=pks, occurred_at__gte=since, occurred_at__lt=end)
        .order_by()
        .annotate(at=TruncHour("occurred_at", tzinfo=UTC), what=Value(_OPEN))
        .values_list("agreement", "at", "what")
        .distinct()
    )
    states: dict[tuple[int, datetime], set[str]] = defaultdict(set)
    for pk, hour, state in cast(Any, records.union(waiting, all=True).order_by()):
        states[pk, hour].add(state)
    return states


def _kind(one: _Purchase, hour: datetime, states: dict[tuple[int, datetime], set[str]]) -> Kind:
    found = states.get((one.pk, hour), set())
    of_records = found - {_OPEN}
    if not of_records:
        if found:
            return _NOT_CLOSED
        return _NOTHING if one.is_metered(hour) else _OUTSIDE
    if of_records & set(_WANTS_A_PERSON):
        return _TROUBLE
    if of_records & set(MeteringRecord.UNSETTLED):
        return _PENDING
    return _SENT if _State.ACCEPTED in of_records else _ZERO


def _legend() -> list[tuple[Kind, str]]:
    return [
        (_SENT, _("Accepted by AWS")),
        (_PENDING, _("On its way, or held")),
        (_ZERO, _("Nothing to bill")),
        (_TROUBLE, _("Wants a person")),
        (_NOT_CLOSED, _("Usage, but no record yet")),
        (_NOTHING, _("No record: nothing was used")),
    ]


def _row(one: _Purchase, hours: Sequence[datetime], kinds: Sequence[Kind]) -> Row:
    words = {kind.sign: text for kind, text in _legend()}
    cells = [
        Cell(kind, _url(one, hour, kind), f"{hour:%Y-%m-%d %H}:00 – {words.get(kind.sign, _('Not active'))}")
        for hour, kind in zip(hours, kinds, strict=True)
    ]
    return Row(_name(one), one.product, list_url(MeteringRecord, agreement=one.pk), cells)


def _url(one: _Purchase, hour: datetime, kind: Kind) -> str:
    since, before = hour.isoformat(), (hour + HOUR).isoformat()
    if kind in (_NOTHING, _NOT_CLOSED, _OUTSIDE):
        return list_url(UsageEvent, agreement=one.pk, occurred_at__gte=since, occurred_at__lt=before)
    return list_url(MeteringRecord, agreement=one.pk, hour__gte=since, hour__lt=before)


def _name(one: _Purchase) -> str:
    return one.organization or one.account or one.customer or f"#{one.pk}"


def _in_words(one: _Purchase, hours: Sequence[datetime], kinds: Sequence[Kind]) -> list[str]:
    url = list_url(MeteringRecord, agreement=one.pk)
    name = format_html('<a href="{}" class="text-link">{} · {}</a>', url, _name(one), one.product)
    return [
        name,
        _spans(hours, kinds, (_NOTHING, _NOT_CLOSED)),
        _spans(hours, kinds, (_TROUBLE, _NOT_CLOSED)),
    ]


def _spans(hours: Sequence[datetime], kinds: Sequence[Kind], wanted: Sequence[Kind]) -> str:
    """09:00 – 12:00, 15:00: the hours of these kinds, those that follow each other as one."""
    return ", ".join(_runs([hour for hour, kind in zip(hours, kinds, strict=True) if kind in wanted])) or "–"


def _runs(hours: Sequence[datetime]) -> Iterator[str]:
    start = last = None
    for hour in hours:
        if last is not None and hour == last + HOUR:
            last = hour
            continue
        if start is not None and last is not None:
            yield _span(start, last)
        start = last = hour
    if start is not None and last is not None:
        yield _span(start, last)


def _span(start: datetime, last: datetime) -> str:
    return f"{start:%H}:00" if start == last else f"{start:%H}:00 – {last:%H}:00"

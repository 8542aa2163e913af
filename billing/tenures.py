"""Whose a purchase was when: an operator may have moved it to another workspace (billing.transfers).

A closed hour counts for the workspace that had the purchase in it, the hour of a move for the new one; what
is in no record, for the workspace that used it. So everything counts once, and nobody sees what others used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from django.db.models import JSONField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import JSONObject

from accounts.models import Organization
from billing.aws.window import hour_of
from billing.models import Agreement, AgreementMove, Registration


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` to ``end``, the end excluded; None: since ever, until today."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Tenures:
    """``moved``: when the purchases that came or went were the organization's. Its others always were."""

    organization: Organization
    moved: Mapping[int, Sequence[Span]] = field(default_factory=dict)

    @property
    def agreements(self) -> Q:
        """Of agreements: those that it has or had."""
        has = Q(organization=self.organization)
        return has | Q(pk__in=self.moved) if self.moved else has

    def in_hours(self, prefix: str = "") -> Q:
        """Of metering records, reached by ``prefix``: those of its hours."""
        return self._within(f"{prefix}agreement", f"{prefix}hour", self._hours())

    def arrivals(self) -> QuerySet[Registration]:
        """Of the buyers that came while the purchase was its own, or nobody's and then its own."""
        agreements = Agreement.objects.filter(self.agreements).order_by().values("pk")
        theirs = self._within("agreement", "created_at", self.moved)
        return Registration.objects.filter(theirs, agreement__in=agreements)

    def used(self) -> Q:
        """Of usage in no record: its own.

        Only moved purchases are asked by organization: that has an index of its own, far larger than those
        of such usage, which a planner must not be led to.
        """
        if not self.moved:
            return Q()
        return ~Q(agreement__in=self.moved) | Q(agreement__in=self.moved, organization=self.organization)

    def _hours(self) -> dict[int, list[Span]]:
        return {
            agreement: [Span(_whole(span.start), _whole(span.end)) for span in spans]
            for agreement, spans in self.moved.items()
        }

    def _within(self, agreement: str, column: str, moved: Mapping[int, Sequence[Span]]) -> Q:
        if not moved:
            return Q()
        found = ~Q(**{f"{agreement}__in": list(moved)})
        for pk, spans in moved.items():
            for span in spans:
                bounds = {f"{column}__gte": span.start, f"{column}__lt": span.end}
                found |= Q(**{agreement: pk, **{name: at for name, at in bounds.items() if at is not None}})
        return found


def read(organization: Organization) -> Tenures:
    """One query."""
    theirs = AgreementMove.objects.filter(Q(from_organization=organization) | Q(to_organization=organization))
    moves = AgreementMove.objects.filter(agreement__in=theirs.order_by().values("agreement"))
    rows = moves.order_by("agreement", "pk").values_list("agreement", *_Move._fields)
    by_agreement = groupby(rows, key=lambda row: row[0])
    return Tenures(
        organization,
        {pk: _spans([_Move(*row[1:]) for row in of], organization.pk) for pk, of in by_agreement},
    )


def with_moves(agreements: QuerySet[Agreement]) -> QuerySet[Agreement]:
    """So that ``read_from`` needs no query of its own."""
    moves = AgreementMove.objects.filter(agreement=OuterRef("pk")).order_by()
    columns = {name: name for name in ("pk", *_Move._fields)}
    return agreements.annotate(told_moves=_Rows(moves.annotate(told=JSONObject(**columns)).values("told")))


def read_from(agreements: Iterable[Any], organization: Organization) -> Tenures:
    """``agreements``: those that ``organization`` has, ``with_moves``."""
    moved = {}
    for agreement in agreements:
        told = sorted(agreement.told_moves or [], key=lambda row: int(row["pk"]))
        if told:
            moves = [_Move(*(row[name] for name in _Move._fields)) for row in told]
            moves = [move._replace(moved_at=_instant(move.moved_at)) for move in moves]
            moved[agreement.pk] = _spans(moves, organization.pk)
    return Tenures(organization, moved)


class _Move(NamedTuple):
    from_organization: int
    to_organization: int
    moved_at: datetime


class _Rows(Subquery):
    """All rows of a subquery with one JSON column as one JSON array."""

    template = "(SELECT jsonb_agg(rows.told) FROM (%(subquery)s) rows)"
    output_field = JSONField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(SELECT json_group_array(json(rows.told)) FROM (%(subquery)s) rows)"
        return self.as_sql(compiler, connection, template=template, **context)


def _instant(told: Any) -> datetime:
    """SQLite tells UTC without saying so."""
    at = datetime.fromisoformat(told)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _spans(moves: Iterable[_Move], organization: int) -> list[Span]:
    """``moves``: all of one agreement, in their order."""
    spans = []
    start: datetime | None = None
    holder = 0
    for move in moves:
        at = move.moved_at if start is None else max(start, move.moved_at)
        if move.from_organization == organization:
            spans.append(Span(start, at))
        start, holder = at, move.to_organization
    if holder == organization:
        spans.append(Span(start, None))
    return spans


def _whole(instant: datetime | None) -> datetime | None:
    return hour_of(instant) if instant is not None else None

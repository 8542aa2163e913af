"""Open usage read by the hour, and claimed by the records that it becomes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from django.db import connection
from django.db.models import Aggregate, BigIntegerField, Sum, TextField
from django.db.models.functions import Cast, TruncHour

from billing.closing.allocations import Tags
from billing.closing.hours import Uses
from billing.models import Dimension, MeteringRecord, UsageEvent

_PORTION = 500  # keys in one statement where arrays are not to be had
_CLAIM = """
    UPDATE billing_usageevent AS event SET metering_record_id = claimed.record
    FROM unnest(%s::bigint[], %s::bigint[]) AS claimed(event, record)
    WHERE event.id = claimed.event AND event.metering_record_id IS NULL AND event.disposition = 'billable'"""


class _Keys(Aggregate):
    """The primary keys of a group: a list on PostgreSQL, a text of numbers on SQLite."""

    function = "ARRAY_AGG"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="GROUP_CONCAT", **context)


def read(agreements: Collection[int]) -> dict[int, dict[int, list[Uses]]]:
    """What is open of these agreements, by agreement and dimension, summed by hour and tags."""
    groups = (
        UsageEvent.objects.open()
        .filter(agreement__in=agreements)
        .annotate(
            hour=TruncHour("occurred_at", tzinfo=UTC),
            labels=Cast("tags", TextField()),
            millionths=Cast("quantity", BigIntegerField()),
        )
        .order_by("agreement_id", "dimension_id", "hour", "labels")
        .values_list("agreement_id", "dimension_id", "hour", "labels")
        .annotate(total=Sum("millionths"), keys=_Keys("pk"))
    )
    found: dict[int, dict[int, list[Uses]]] = defaultdict(lambda: defaultdict(list))
    for agreement_pk, dimension_pk, hour, labels, millionths, keys in groups:
        uses = Uses(hour, _tags(labels), int(millionths), _numbers(keys))
        found[agreement_pk][dimension_pk].append(uses)
    return found


def explode(usage: Iterable[Uses]) -> list[Uses]:
    """The same usage one event each, in the order in which it occurred."""
    groups = {pk: uses for uses in usage for pk in uses.pks}
    events = sorted(
        event
        for portion in _portions(list(groups))
        for event in UsageEvent.objects.filter(pk__in=portion)
        .order_by()
        .values_list("occurred_at", "pk", "quantity")
    )
    return [
        Uses(groups[pk].hour, groups[pk].tags, int(quantity.scaleb(6)), (pk,)) for _, pk, quantity in events
    ]


def dimensions(usage: Iterable[Mapping[int, Sequence[Uses]]]) -> dict[int, Dimension]:
    pks = {pk for by_dimension in usage for pk in by_dimension}
    return Dimension.objects.select_related("included_by").in_bulk(pks)


def claim(closed: Iterable[tuple[MeteringRecord, Sequence[int]]]) -> None:
    """Give each record its events. Raises NoLongerOpen when somebody passed the lock by: nothing closes."""
    pairs = [(event, record.pk) for record, events in closed for event in events]
    if not pairs:
        return
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM, [list(column) for column in zip(*pairs, strict=True)])
            claimed = cursor.rowcount
    else:
        claimed = _claim_in_portions(pairs)
    if claimed != len(pairs):
        raise NoLongerOpen(f"{len(pairs) - claimed} of {len(pairs)} uses were no longer open")


class NoLongerOpen(Exception):
    """Usage changed although its agreement was locked."""


def set_aside(events: Sequence[int], disposition: UsageEvent.Disposition) -> None:
    """Take open events out of what is billed."""
    changed = sum(
        UsageEvent.objects.open().filter(pk__in=portion).update(disposition=disposition)
        for portion in _portions(events)
    )
    if changed != len(events):
        raise NoLongerOpen(f"{len(events) - changed} of {len(events)} uses were no longer open")


def _claim_in_portions(pairs: Iterable[tuple[int, int]]) -> int:
    events_of: dict[int, list[int]] = defaultdict(list)
    for event, record in pairs:
        events_of[record].append(event)
    return sum(
        UsageEvent.objects.open().filter(pk__in=portion).update(metering_record=record)
        for record, events in events_of.items()
        for portion in _portions(events)
    )


def _portions(keys: Sequence[int]) -> Iterable[Sequence[int]]:
    return (keys[start : start + _PORTION] for start in range(0, len(keys), _PORTION))


def _numbers(keys: list[int] | str) -> list[int]:
    return keys if isinstance(keys, list) else [int(key) for key in keys.split(",")]


def _tags(labels: str) -> Tags:
    return () if labels == "{}" else tuple(sorted(json.loads(labels).items()))

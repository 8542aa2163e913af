"""Storing many uses at once: by COPY on PostgreSQL, by the ORM elsewhere.

Both leave a known key alone and tell what it names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
from django.db import IntegrityError, connection, transaction
from django.db.models.expressions import RawSQL

from billing.archiving import archived_keys
from billing.archiving.archived_keys import Kept
from billing.models import UsageEvent
from billing.recording.payers import Place

Name = tuple[int, str]  # an organization's id and its key: what names one use

NOWHERE = Place(0, 0, "")


class Content(NamedTuple):
    """What makes two uses of one name the same."""

    dimension: str
    millionths: int
    tags: Mapping[str, str]
    occurred_at: datetime


Known = dict[Name, Content | Kept]


@dataclass(slots=True)
class Told:
    """A well-formed use, which can be stored once it has a place."""

    number: int
    given: Any
    name: Name
    dimension: str
    millionths: int
    tags: Mapping[str, str]
    occurred_at: datetime | None
    instant: datetime
    json: str  # the tags
    place: Place = NOWHERE

    @property
    def content(self) -> Content:
        return Content(self.dimension, self.millionths, self.tags, self.instant)

    def repeats(self, known: Content | Kept) -> bool:
        """Whether it is the same use. The time counts only if it was told."""
        if isinstance(known, Kept):
            content = archived_keys.content(self.dimension, self.millionths, self.tags)
            return archived_keys.is_same(known, content, self.occurred_at)
        told = (self.dimension, self.millionths, self.tags)
        return told == known[:3] and self.occurred_at in (None, known.occurred_at)


def known(names: Collection[Name]) -> Known:
    """What is stored or archived under these names, of those that name something."""
    if not names:
        return {}
    found = RawSQL(_FIND[connection.vendor], [json.dumps(list(names))])
    return archived_keys.known(names) | _contents(UsageEvent.objects.filter(pk__in=found))


def store(told: Sequence[Told], *, now: datetime) -> Known:
    """Store uses, each under another name, in order. Returns those names that are known, with what they name.

    Runs in the caller's transaction.
    """
    if not told:
        return {}
    return (_copy if connection.vendor == "postgresql" else _create)(told, now=now)


# --- Anywhere


def _create(told: Sequence[Told], *, now: datetime) -> Known:
    there = known([each.name for each in told])
    UsageEvent.objects.bulk_create(
        UsageEvent(
            organization_id=each.name[0],
            agreement_id=each.place.agreement_id,
            dimension_id=each.place.dimension_id,
            quantity=Decimal(each.millionths).scaleb(-6),
            occurred_at=each.instant,
            recorded_at=now,
            key=each.name[1],
            tags=each.tags,
            disposition=each.place.disposition,
        )
        for each in told
        if each.name not in there
    )
    return there


# --- PostgreSQL

# The event's id is taken here: where the name turns out to be known, the event there has another.
_CREATE_TOLD = """
    CREATE TEMPORARY TABLE IF NOT EXISTS billing_told (
        organization_id bigint, agreement_id bigint, dimension_id bigint, quantity bigint,
        occurred_at timestamptz, key text, tags jsonb, disposition text,
        event_id bigint DEFAULT nextval(pg_get_serial_sequence('billing_usageevent', 'id'))
    ) ON COMMIT DROP"""
_COLUMNS = "organization_id, agreement_id, dimension_id, quantity, occurred_at, key, tags, disposition"
_COPY_NEW = f"COPY billing_usageevent ({_COLUMNS}, recorded_at) FROM STDIN"
_COPY_TOLD = f"COPY billing_told ({_COLUMNS}) FROM STDIN"
_INSERT_TOLD = """
    INSERT INTO billing_usageevent (id, organization_id, agreement_id, dimension_id, quantity, occurred_at,
                                    recorded_at, key, tags, disposition)
    SELECT event_id, organization_id, agreement_id, dimension_id, quantity, occurred_at,
           %s, key, tags, disposition
    FROM billing_told
    ON CONFLICT (organization_id, key) DO NOTHING"""
_FORGET_TOLD = """
    DELETE FROM billing_told told USING jsonb_array_elements(%s::jsonb) asked
    WHERE told.organization_id = (asked ->> 0)::bigint AND told.key = asked ->> 1"""
_KNOWN_TOLD = """
    SELECT event.id FROM billing_told told
    JOIN billing_usageevent event ON event.organization_id = told.organization_id AND event.key = told.key
    WHERE event.id <> told.event_id"""
_FIND = {
    "postgresql": """
        SELECT event.id FROM jsonb_array_elements(%s::jsonb) asked
        JOIN billing_usageevent event
            ON event.organization_id = (asked ->> 0)::bigint AND event.key = asked ->> 1""",
    # CROSS JOIN: in this order, whatever the planner thinks.
    "sqlite": """
        SELECT event.id FROM json_each(%s) asked
        CROSS JOIN billing_usageevent event
            ON event.organization_id = json_extract(asked.value, '$[0]')
            AND event.key = json_extract(asked.value, '$[1]')""",
}
_AHEAD = 500  # lines that PostgreSQL stores while the next are written
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _copy(told: Sequence[Told], *, now: datetime) -> Known:
    """Straight into the table: mostly every key is new. A chunk that has a known one is merged instead."""
    end = f"\t{now}\n"
    try:
        with (
            transaction.atomic(),
            connection.cursor() as cursor,
            connection.wrap_database_errors,
            cursor.copy(_COPY_NEW) as copy,
        ):
            for start in range(0, len(told), _AHEAD):
                copy.write(_text(told[start : start + _AHEAD], end))
        return {}
    except IntegrityError as error:
        is_archived = "usage_event_key_is_archived" in str(error)
        if not is_archived and not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            raise
    return _merge(told, now=now)


def _merge(told: Sequence[Told], *, now: datetime) -> Known:
    with connection.cursor() as cursor:
        cursor.execute(_CREATE_TOLD)
        cursor.execute("TRUNCATE billing_told")
        with connection.wrap_database_errors, cursor.copy(_COPY_TOLD) as copy:
            copy.write(_text(told, "\n"))
        archived = archived_keys.known([each.name for each in told])
        if archived:
            cursor.execute(_FORGET_TOLD, [json.dumps(list(archived))])
        cursor.execute(_INSERT_TOLD, [now])
        if cursor.rowcount == len(told):
            return {}
    return archived | _contents(UsageEvent.objects.filter(pk__in=RawSQL(_KNOWN_TOLD, [])))


def _text(told: Sequence[Told], end: str) -> str:
    return end.join(map(_line, told)) + end


def _line(told: Told) -> str:
    organization, key = told.name
    agreement, dimension, disposition = told.place
    if not key.isprintable() or "\\" in key:
        key = key.translate(_ESCAPED)
    # Tags hold no character that JSON or COPY would escape.
    at, tags = told.instant.isoformat(), told.json
    return f"{organization}\t{agreement}\t{dimension}\t{told.millionths}\t{at}\t{key}\t{tags}\t{disposition}"


def _contents(events: Any) -> Known:
    rows: Iterable[Any] = events.order_by().values_list(
        "organization_id", "key", "dimension__key", "quantity", "tags", "occurred_at"
    )
    return {
        (organization_id, key): Content(dimension, int(quantity.scaleb(6)), tags, occurred_at)
        for organization_id, key, dimension, quantity, tags, occurred_at in rows
    }

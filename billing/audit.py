"""The audit trail: who changed what, in HMAC chains that cannot be edited without it showing.

One chain per stream: an agreement, an organization, "staff" or "system". An agreement's links are written
under the lock that the change itself holds on the agreement, so its chain never waits for another's. Each
link moves its stream's head in the same transaction. billing.trail.verification finds what was tampered with,
billing.trail.archive lets old links go.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, Subquery, Value

from accounts.models import User
from billing.models import Agreement, AuditEvent, AuditHead
from billing.trail import chain
from billing.trail.verification import BrokenLink, verify

__all__ = ["STAFF", "SYSTEM", "BrokenLink", "organization_stream", "record", "record_each", "verify"]

logger = logging.getLogger(__name__)

STAFF = "staff"
SYSTEM = "system"


def organization_stream(pk: int) -> str:
    return f"organization:{pk}"


def record(stream: Agreement | str, action: str, *, by: User | str, at: datetime, **data: Any) -> AuditEvent:
    """Append a link. ``data`` holds ids and figures, never names, addresses or tokens.

    Must run inside the transaction of the change it tells of; for an agreement, under its lock.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("An audit link belongs to the change's own transaction.")
    name = stream.audit_stream if isinstance(stream, Agreement) else stream
    if not isinstance(stream, Agreement):
        lock(name)
    end = _ends([name])[name]
    link = _link(end, action, by=by, at=at, data=data)
    _append([link], move=[end] if end.has_head else [])
    return link


def record_each(
    data: Mapping[Agreement, Mapping[str, Any]], action: str, *, by: User | str, at: datetime
) -> None:
    """Append one link to the chain of each agreement (all locked by the caller), with its own data."""
    if not data:
        return
    ends = _ends([agreement.audit_stream for agreement in data])
    links = [
        _link(ends[agreement.audit_stream], action, by=by, at=at, data=of) for agreement, of in data.items()
    ]
    _append(links, move=[end for end in ends.values() if end.has_head])


def lock(stream: str) -> None:
    """Serialize the writers of a stream that has no agreement to lock. SQLite's are serial already."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [stream])


@dataclass(frozen=True, slots=True)
class _End:
    """Where a stream's next link goes on, and whether its head moves along."""

    stream: str
    sequence: int = 0
    mac: str = chain.GENESIS
    has_head: bool = True


def _ends(streams: Collection[str]) -> dict[str, _End]:
    """What each stream's head and newest link say, in one query.

    A head that is gone or was changed is never made anew here: that would cover up what was cut off. Its
    stream goes on all the same (the business does not stop for it), and verify tells of it.
    """
    newest = AuditEvent.objects.filter(stream=OuterRef("stream")).order_by("-sequence").values("sequence")
    lasts = AuditEvent.objects.filter(stream__in=streams, sequence=Subquery(newest[:1])).order_by()
    columns = ("stream", "sequence", "mac")
    heads = AuditHead.objects.filter(stream__in=streams).order_by()
    found = (
        heads.values_list(*columns, "seal").union(lasts.values_list(*columns, Value("")), all=True).order_by()
    )
    sealed: dict[str, _End] = {}
    linked: dict[str, _End] = {}
    spoiled: set[str] = set()
    for stream, sequence, mac, seal in found:
        if not seal:
            linked[stream] = _End(stream, sequence, mac)
        elif seal == chain.head_seal(stream, sequence, mac):
            sealed[stream] = _End(stream, sequence, mac)
        else:
            spoiled.add(stream)
    return {stream: _end(stream, sealed.get(stream), linked.get(stream), spoiled) for stream in streams}


def _end(stream: str, head: _End | None, last: _End | None, spoiled: Collection[str]) -> _End:
    if head is not None:
        # The head tells of links that were cut off; links beyond it are an older version's of this code.
        return last if last is not None and last.sequence > head.sequence else head
    if last is None and stream not in spoiled:
        return _End(stream)
    logger.error(
        "The head of audit stream %s is missing or was changed: run `manage.py verify_audit`", stream
    )
    end = last or _End(stream)
    return _End(stream, end.sequence, end.mac, has_head=False)


def _link(end: _End, action: str, *, by: User | str, at: datetime, data: Mapping[str, Any]) -> AuditEvent:
    link = AuditEvent(
        stream=end.stream,
        sequence=end.sequence + 1,
        occurred_at=at.astimezone(UTC),
        actor=f"user:{by.pk}" if isinstance(by, User) else by,
        action=action,
        data=dict(data),
        previous_mac=end.mac,
    )
    link.mac = chain.mac_of(link)
    return link


def _append(links: Sequence[AuditEvent], *, move: Collection[_End]) -> None:
    """Store the links, one to a stream, and move the heads of the streams in ``move``."""
    moved = {end.stream for end in move}
    heads = [
        AuditHead(
            stream=link.stream,
            sequence=link.sequence,
            mac=link.mac,
            seal=chain.head_seal(link.stream, link.sequence, link.mac),
        )
        for link in links
        if link.stream in moved
    ]
    if connection.vendor == "postgresql":
        _append_at_once(links, heads)
        return
    AuditEvent.objects.bulk_create(links)
    AuditHead.objects.bulk_create(
        heads, update_conflicts=True, unique_fields=["stream"], update_fields=["sequence", "mac", "seal"]
    )


def _append_at_once(links: Sequence[AuditEvent], heads: Sequence[AuditHead]) -> None:
    """In one statement: the trail takes part in every change, and a trip to the database is what it costs."""
    of_links: list[list[Any]] = [
        [link.stream for link in links],
        [link.sequence for link in links],
        [link.occurred_at for link in links],
        [link.actor for link in links],
        [link.action for link in links],
        [json.dumps(link.data) for link in links],
        [link.previous_mac for link in links],
        [link.mac for link in links],
    ]
    of_heads: list[list[Any]] = [
        [head.stream for head in heads],
        [head.sequence for head in heads],
        [head.mac for head in heads],
        [head.seal for head in heads],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, [*of_heads, *of_links])
        ids = {stream: pk for pk, stream in cursor.fetchall()}
    for link in links:
        link.pk = ids[link.stream]
        link._state.adding = False


_APPEND = f"""
    WITH moved AS (
        INSERT INTO {AuditHead._meta.db_table} AS head (stream, sequence, mac, seal)
        SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[])
        ON CONFLICT (stream) DO UPDATE
        SET sequence = excluded.sequence, mac = excluded.mac, seal = excluded.seal
    )
    INSERT INTO {AuditEvent._meta.db_table}
        (stream, sequence, occurred_at, actor, action, data, previous_mac, mac)
    SELECT stream, sequence, occurred_at, actor, action, data::jsonb, previous_mac, mac
    FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::text[],
                %s::text[], %s::text[])
        AS link (stream, sequence, occurred_at, actor, action, data, previous_mac, mac)
    RETURNING id, stream"""

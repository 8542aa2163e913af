"""The audit trail: who changed what, in HMAC chains that cannot be edited without it showing.

One chain per stream: an agreement, "staff" or "system". An agreement's links are written under the lock that
the change itself holds on the agreement, so its chain never waits for another's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import OuterRef, Subquery

from accounts.models import User
from billing.models import Agreement, AuditEvent

STAFF = "staff"
SYSTEM = "system"
_GENESIS = "0" * 64


def record(stream: Agreement | str, action: str, *, by: User | str, at: datetime, **data: Any) -> AuditEvent:
    """Append a link. ``data`` holds ids and figures, never names, addresses or tokens.

    Must run inside the transaction of the change it tells of; for an agreement, under its lock.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("An audit link belongs to the change's own transaction.")
    name = stream.audit_stream if isinstance(stream, Agreement) else stream
    if not isinstance(stream, Agreement):
        _lock(name)
    last = AuditEvent.objects.filter(stream=name).order_by("-sequence").first()
    link = _link(name, last, action, by=by, at=at, data=data)
    link.save(force_insert=True)
    return link


def record_each(
    data: Mapping[Agreement, Mapping[str, Any]], action: str, *, by: User | str, at: datetime
) -> None:
    """Append one link to the chain of each agreement (all locked by the caller), with its own data."""
    streams = [agreement.audit_stream for agreement in data]
    newest = AuditEvent.objects.filter(stream=OuterRef("stream")).order_by("-sequence").values("sequence")
    lasts = AuditEvent.objects.filter(stream__in=streams, sequence=Subquery(newest[:1]))
    known = {last.stream: last for last in lasts}
    AuditEvent.objects.bulk_create(
        _link(agreement.audit_stream, known.get(agreement.audit_stream), action, by=by, at=at, data=of)
        for agreement, of in data.items()
    )


def _link(
    stream: str,
    last: AuditEvent | None,
    action: str,
    *,
    by: User | str,
    at: datetime,
    data: Mapping[str, Any],
) -> AuditEvent:
    link = AuditEvent(
        stream=stream,
        sequence=last.sequence + 1 if last else 1,
        occurred_at=at.astimezone(UTC),
        actor=f"user:{by.pk}" if isinstance(by, User) else by,
        action=action,
        data=dict(data),
        previous_mac=last.mac if last else _GENESIS,
    )
    link.mac = _mac(link)
    return link


@dataclass(frozen=True, slots=True)
class BrokenLink:
    stream: str
    sequence: int
    reason: str


def verify(stream: str | None = None) -> Iterator[BrokenLink]:
    """The first broken link of each stream (or of one). Nothing means that every chain is whole."""
    links = AuditEvent.objects.order_by("stream", "sequence")
    if stream is not None:
        links = links.filter(stream=stream)
    current, broken = None, False
    sequence, mac = 0, _GENESIS
    for link in links.iterator(chunk_size=2000):
        if link.stream != current:
            current, broken, sequence, mac = link.stream, False, 0, _GENESIS
        if broken:
            continue
        if link.sequence != sequence + 1:
            reason = f"link {sequence + 1} is missing"
        elif link.previous_mac != mac:
            reason = "does not follow from the link before it"
        elif not hmac.compare_digest(link.mac, _mac(link)):
            reason = "was changed"
        else:
            sequence, mac = link.sequence, link.mac
            continue
        broken = True
        yield BrokenLink(link.stream, link.sequence, reason)


def _mac(link: AuditEvent) -> str:
    text = json.dumps(
        [
            link.stream,
            link.sequence,
            link.occurred_at.isoformat(),
            link.actor,
            link.action,
            link.data,
            link.previous_mac,
        ],
        sort_keys=True,
        separators=(",", ":"),
    )
    return hmac.new(settings.AUDIT_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def _lock(stream: str) -> None:
    """Serialize the writers of a stream that has no agreement to lock. SQLite's are serial already."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [stream])

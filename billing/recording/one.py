"""One use at a time: `record`. In the common case on PostgreSQL it is one statement and one round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from psycopg.types.numeric import Int8

from accounts.models import Organization
from billing import prepared
from billing.archiving import archived_keys
from billing.models import Agreement, ArchivedUsageKey, UsageEvent
from billing.recording import rules
from billing.recording.payers import Payers, oldest_accepted

# Stores the use if exactly one agreement was active then and the key is new; else nothing, and the reason is
# looked for afterwards. It reads without locks: what closes the agreement is not waited for.
_INSERT = """
    INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity, occurred_at,
                                    recorded_at, key, tags, disposition)
    SELECT %(organization)s, min(agreement.id), min(dimension.id), %(millionths)s, %(instant)s::timestamptz,
           %(now)s::timestamptz, %(key)s::text, %(tags)s::jsonb,
           CASE WHEN %(too_late)s OR min(agreement.metering_closes_at) <= %(now)s
                THEN 'too_late' ELSE 'billable' END
    FROM billing_agreement agreement
    JOIN billing_dimension dimension
        ON dimension.product_id = agreement.product_id AND dimension.key = %(dimension)s
        AND dimension.kind = 'metered'
    WHERE agreement.organization_id = %(organization)s
        AND agreement.activated_at <= %(instant)s
        AND (agreement.ended_at IS NULL OR agreement.ended_at > %(instant)s)
        AND (%(agreement)s::bigint IS NULL OR agreement.id = %(agreement)s)
        AND NOT EXISTS (SELECT 1 FROM billing_archivedusagekey kept
                        WHERE kept.organization_id = %(organization)s AND kept.digest = %(digest)s::uuid)
    HAVING count(*) = 1
    ON CONFLICT (organization_id, key) DO NOTHING
    RETURNING id, agreement_id, dimension_id, disposition"""


def record(
    organization: Organization,
    dimension: str,
    quantity: Decimal | int | str,
    *,
    key: str,
    tags: Mapping[str, str] | None = None,
    occurred_at: datetime | None = None,
    agreement: Agreement | None = None,
    now: datetime | None = None,
) -> UsageEvent:
    """Record that ``organization`` used ``quantity`` of the metered ``dimension`` (its AWS API name).

    The same key with the same content returns the first event, whatever agreement it went to, also where it
    is archived and no row any more. Usage that is well-formed but cannot be billed (too late, outside the
    agreement) is stored with that ``disposition``: product code does not break because a buyer cancelled.

    ``tags`` become the buyer's cost allocation tags (at most 5). Raises UsageRefused.
    """
    now = now or timezone.now()
    rules.check_key(key)
    rules.check_dimension(dimension)
    event = UsageEvent(
        organization=organization,
        quantity=rules.quantity_of(quantity),
        occurred_at=occurred_at or now,
        recorded_at=now,
        key=key,
        tags=rules.tags_of(tags or {}),
    )
    if occurred_at is not None:
        rules.check_instant(occurred_at, now=now)
    if connection.vendor == "postgresql" and _insert(event, dimension, agreement):
        return event
    known = _known(organization, key)
    if known is None:
        archived = archived_keys.find(organization, key)
        if archived is not None:
            return _same_as_archived(archived, event, dimension, occurred_at)
        payers = Payers([organization.pk], now=now)
        place = payers.candidates(organization, dimension, agreement).place(event.occurred_at)
        event.agreement_id, event.dimension_id, event.disposition = place
        try:
            with transaction.atomic():
                event.save(force_insert=True)
        except IntegrityError:
            known = _known(organization, key)
            if known is None:  # or somebody archived it at this moment: asked again, it is known
                raise
    return event if known is None else _same(known, event, dimension, occurred_at)


def _insert(event: UsageEvent, dimension: str, agreement: Agreement | None) -> bool:
    """Store ``event`` and fill in where it went, or do nothing."""
    with prepared.cursor() as cursor:
        cursor.execute(
            _INSERT,
            {
                "organization": Int8(event.organization_id),
                "dimension": dimension,
                "agreement": Int8(agreement.pk) if agreement else None,
                "millionths": Int8(int(event.quantity.scaleb(6))),
                "instant": event.occurred_at,
                "now": event.recorded_at,
                "key": event.key,
                "digest": archived_keys.digest(event.key),
                "tags": json.dumps(event.tags),
                "too_late": event.occurred_at < oldest_accepted(event.recorded_at),
            },
        )
        row = cursor.fetchone()
    if row is None:
        return False
    event.pk, event.agreement_id, event.dimension_id, event.disposition = row
    event._state.adding, event._state.db = False, connection.alias
    return True


def _known(organization: Organization, key: str) -> UsageEvent | None:
    return UsageEvent.objects.select_related("dimension").filter(organization=organization, key=key).first()


def _same(known: UsageEvent, told: UsageEvent, dimension: str, occurred_at: datetime | None) -> UsageEvent:
    wanted = (dimension, told.quantity, told.tags, occurred_at or known.occurred_at)
    if (known.dimension.key, known.quantity, known.tags, known.occurred_at) != wanted:
        raise rules.KeyReused(known.key)
    return known


def _same_as_archived(
    kept: ArchivedUsageKey, told: UsageEvent, dimension: str, occurred_at: datetime | None
) -> UsageEvent:
    content = archived_keys.content(dimension, archived_keys.millionths(told.quantity), told.tags)
    if not archived_keys.is_same(kept, content, occurred_at):
        raise rules.KeyReused(told.key)
    return archived_keys.as_event(kept, told)

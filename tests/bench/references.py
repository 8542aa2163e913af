"""What each measure is held against: the fastest form known, on the same tables, indexes and constraints.

Bare SQL goes through psycopg's own server-side cursor on Django's connection, prepared once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import boto3
import psycopg
from django.db import connection, transaction
from django.db.models import QuerySet
from psycopg import sql
from psycopg.types.json import Jsonb

from billing.models import Agreement, Dimension, MeteringRecord
from billing.usage import Use

Json = dict[str, Any]

INSERT_USE = """
    INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity, occurred_at,
                                    recorded_at, key, tags, disposition)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'billable')
    ON CONFLICT (organization_id, key) DO NOTHING RETURNING id"""
COPY_USES = """
    COPY billing_usageevent (organization_id, agreement_id, dimension_id, quantity, occurred_at, recorded_at,
                             key, tags, disposition) FROM STDIN"""
SELECT_HOLDINGS = """
    SELECT agreement.id, agreement.previous_id, agreement.status, product.code, product.pricing,
           agreement.entitlements_read_at, agreement.end_reason, agreement.access_until,
           held.dimension_key, held.expires_at, held.integer_value, held.double_value, held.boolean_value,
           held.string_value
    FROM billing_agreement agreement
    JOIN billing_product product ON product.id = agreement.product_id
    LEFT JOIN billing_entitlement held ON held.agreement_id = agreement.id AND held.valid_to IS NULL
    WHERE agreement.organization_id = %s"""
SELECT_USAGE = """
    SELECT dimension_id, date_trunc(%s, occurred_at, 'UTC'), disposition, sum(quantity)
    FROM billing_usageevent WHERE organization_id = %s AND occurred_at >= %s GROUP BY 1, 2, 3"""
# Usage without tags or allowance, of active licenses that have no closed hour yet. No audit link.
INSERT_RECORDS = """
    INSERT INTO billing_meteringrecord (agreement_id, dimension_id, hour, used, included, quantity,
        wire_license_arn, wire_account_id, wire_region, wire_timestamp, wire_quantity, wire_allocations,
        state, submit_by, attempts, error_code, error_message, closed_at)
    SELECT sums.agreement_id, dimension_id, hour, used, 0, used,
           license_arn, aws_account_id, %(region)s, greatest(hour, activated_at),
           trim_scale(used * 0.000001)::text, '', 'due', hour + interval '24 hours', 0, '', '', %(now)s
    FROM (SELECT agreement_id, dimension_id, date_trunc('hour', occurred_at) AS hour, sum(quantity) AS used
          FROM billing_usageevent
          WHERE metering_record_id IS NULL AND disposition = 'billable' AND occurred_at < %(end)s
          GROUP BY 1, 2, 3) sums
    JOIN billing_agreement agreement ON agreement.id = sums.agreement_id
    JOIN billing_marketplacecustomer customer ON customer.id = agreement.customer_id"""
ASSIGN_RECORDS = """
    UPDATE billing_usageevent event SET metering_record_id = record.id
    FROM billing_meteringrecord record
    WHERE event.metering_record_id IS NULL AND event.disposition = 'billable' AND event.occurred_at < %(end)s
        AND (record.agreement_id, record.dimension_id, record.hour)
            = (event.agreement_id, event.dimension_id, date_trunc('hour', event.occurred_at))"""

_WIRE = {
    "wire_timestamp": "Timestamp",
    "dimension__key": "Dimension",
    "wire_quantity": "QuantityAsDecimal",
    "wire_license_arn": "LicenseArn",
    "wire_account_id": "CustomerAWSAccountId",
}


def cursor() -> psycopg.Cursor[Any]:
    connection.ensure_connection()
    bare = connection.connection
    bare.prepare_threshold = 0  # no effect on Django's own cursors, which bind on the client
    return psycopg.Cursor(bare)


def record(uses: Iterable[tuple[int | None, int, int, str]], *, at: datetime) -> int:
    """Insert one use of 3 per statement, each committed: (organization, agreement, dimension, key)."""
    done, tags = 0, Jsonb({})
    with cursor() as bare:
        for organization, agreement, dimension, key in uses:
            bare.execute(INSERT_USE, (organization, agreement, dimension, 3_000_000, at, at, key, tags))
            done += len(bare.fetchall())
    return done


def copy_text(
    bought: Sequence[Agreement], dimension: Dimension, uses: Iterable[Use], *, at: datetime
) -> list[str]:
    """What COPY_USES reads, ready, in blocks. ``bought`` comes round in turn, as in ``uses``."""
    ids = itertools.cycle([f"{each.organization_id}\t{each.pk}\t{dimension.pk}" for each in bought])
    lines = (
        f"{place}\t3000000\t{use.occurred_at}\t{at}\t{use.key}\t{json.dumps(use.tags or {})}\tbillable\n"
        for place, use in zip(ids, uses, strict=False)
    )
    return list(iter(lambda: "".join(itertools.islice(lines, 10_000)), ""))


def copy(text: Iterable[str]) -> int:
    """Copy uses as they stand, in one statement and one transaction."""
    with transaction.atomic(), cursor() as bare:
        with bare.copy(COPY_USES) as copied:
            for block in text:
                copied.write(block)
        return bare.rowcount


def gate(organizations: Iterable[int | None]) -> int:
    with cursor() as bare:
        return sum(bool(bare.execute(SELECT_HOLDINGS, (pk,)).fetchall()) for pk in organizations)


def usage(organization: int | None, *, since: datetime, by: str) -> int:
    """The bare sums of a page of usage, in millionths."""
    with cursor() as bare:
        return sum(int(row[3]) for row in bare.execute(SELECT_USAGE, (by, organization, since)).fetchall())


def close(*, region: str, end: datetime, now: datetime) -> int:
    values = {"region": region, "end": end, "now": now}
    with transaction.atomic(), cursor() as bare:
        made = bare.execute(INSERT_RECORDS, values).rowcount
        bare.execute(ASSIGN_RECORDS, values)
    return made


def first_rows(table: str, count: int) -> int:
    """The newest rows of a table, all their columns: a page at its barest."""
    with cursor() as bare:
        query = sql.SQL("SELECT * FROM {} ORDER BY id DESC LIMIT %s").format(sql.Identifier(table))
        bare.execute(query, (count,)).fetchall()
    return 1


def metering_client(url: str, *, region: str) -> Any:
    return boto3.client("meteringmarketplace", region_name=region, endpoint_url=url)


def batches(records: QuerySet[MeteringRecord]) -> list[Json]:
    """Full calls, ready to send."""
    lines = [dict(zip(_WIRE.values(), row, strict=True)) for row in records.values_list(*_WIRE)]
    return [{"UsageRecords": lines[start : start + 25]} for start in range(0, len(lines), 25)]


def submit(client: Any, requests: Iterable[Json]) -> int:
    answers = (client.batch_meter_usage(**request) for request in requests)
    return sum(result["Status"] == "Success" for answer in answers for result in answer["Results"])

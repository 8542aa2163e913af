"""Audit chains for tests: writing links, and doing to them what the triggers would refuse."""

from __future__ import annotations

from django.db import connection, transaction

from billing import audit, triggers
from billing.models import AuditCheckpoint, AuditEvent, AuditHead
from tests.billing.ledger import NOON


def write(stream, action="changed", *, by="aws", at=NOON, **data):
    with transaction.atomic():
        return audit.record(stream, action, by=by, at=at, **data)


def tamper(sql, *parameters):
    """Raw SQL of somebody who may drop triggers."""
    triggers.drop_all(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            sql.format(
                link=AuditEvent._meta.db_table,
                head=AuditHead._meta.db_table,
                checkpoint=AuditCheckpoint._meta.db_table,
            ),
            parameters,
        )
        assert cursor.rowcount > 0, "Nothing was tampered with."


def found(stream=None):
    return [(broken.stream, broken.sequence, broken.reason) for broken in audit.verify(stream)]

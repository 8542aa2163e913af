"""Invariants that SQL constraints cannot hold portably: write-once columns, no deletes, no overlaps.

Each rule is one trigger on SQLite and on PostgreSQL. They are (re)made after every `migrate`, because SQLite
rebuilds a table to alter it and drops its triggers on the way; billing.checks fails when one is missing.
A trigger's name ends in a digest of its text, so an unchanged one is left alone (making one locks its table).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.models import (
    Agreement,
    AgreementMove,
    ArchivedUsageKey,
    AuditCheckpoint,
    AuditEvent,
    AuditHead,
    Dimension,
    Entitlement,
    MarketplaceCustomer,
    MarketplaceEvent,
    MeteringRecord,
    Product,
    Registration,
    Submission,
    SubmissionLine,
    UsageArchive,
    UsageArchiveTotal,
    UsageEvent,
    UsageReport,
    UsageReportLine,
)

Model = type[models.Model]


@dataclass(frozen=True, slots=True)
class Trigger:
    """Refuse ``operation`` on ``model``'s table where ``condition`` holds (SQL over OLD and NEW)."""

    model: Model
    rule: str
    operation: str  # "INSERT", "UPDATE" or "DELETE"
    condition: str
    on_postgresql: str = ""  # the condition there, where it cannot be said portably

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def prefix(self) -> str:
        return f"{self.rule}_{self.operation.lower()}_"

    @property
    def name(self) -> str:
        text = f"{self.table} {self.operation} {self.condition} {self.on_postgresql}{_REFUSE_FUNCTION}"
        return self.prefix + hashlib.sha256(text.encode()).hexdigest()[:8]

    def sql(self, vendor: str) -> str:
        if vendor == "sqlite":
            return (
                f"CREATE TRIGGER {self.name} BEFORE {self.operation} ON {self.table} "
                f"WHEN {self.condition} BEGIN SELECT RAISE(ABORT, '{self.rule}'); END"
            )
        condition = self.on_postgresql or self.condition
        if "FROM changed" in condition:
            return (
                f"CREATE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {condition} THEN RAISE EXCEPTION '{self.rule}' USING ERRCODE = '23000'; END IF; "
                f"RETURN NULL; END $$; "
                f"CREATE TRIGGER {self.name} AFTER {self.operation} ON {self.table} "
                f"REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {self.name}()"
            )
        # A trigger's WHEN cannot hold a subquery on PostgreSQL: those conditions go into the function.
        if "SELECT" in condition:
            row = "OLD" if self.operation == "DELETE" else "NEW"
            return (
                f"CREATE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {condition} THEN RAISE EXCEPTION '{self.rule}' USING ERRCODE = '23000'; END IF; "
                f"RETURN {row}; END $$; "
                f"CREATE TRIGGER {self.name} BEFORE {self.operation} ON {self.table} "
                f"FOR EACH ROW EXECUTE FUNCTION {self.name}()"
            )
        return (
            f"CREATE TRIGGER {self.name} BEFORE {self.operation} ON {self.table} "
            f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION billing_refuse('{self.rule}')"
        )


_REFUSE_FUNCTION = (
    "CREATE OR REPLACE FUNCTION billing_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = '23000'; END $$"
)


def _write_once(model: Model, rule: str, *, but: Collection[str] = ()) -> Trigger:
    """Refuse to change any column but those of the fields ``but``."""
    frozen = [str(field.column) for field in model._meta.concrete_fields if field.name not in but]
    return Trigger(model, rule, "UPDATE", " OR ".join(_changed(column) for column in frozen))


def _changed(column: str) -> str:
    # IS DISTINCT FROM came to SQLite only with 3.39. On PostgreSQL jsonb, text and numbers all compare.
    return (
        f"(OLD.{column} <> NEW.{column} OR (OLD.{column} IS NULL AND NEW.{column} IS NOT NULL) "
        f"OR (OLD.{column} IS NOT NULL AND NEW.{column} IS NULL))"
    )


def _set_once(model: Model, rule: str, *columns: str) -> Trigger:
    """Let ``columns`` be filled once, then never changed."""
    return Trigger(
        model,
        rule,
        "UPDATE",
        " OR ".join(
            f"(OLD.{column} IS NOT NULL AND (NEW.{column} IS NULL OR NEW.{column} <> OLD.{column}))"
            for column in columns
        ),
    )


def _never_deleted(model: Model, rule: str) -> Trigger:
    return Trigger(model, rule, "DELETE", "OLD.id IS NOT NULL")


_METERING_STATE = {
    "state",
    "submit_by",
    "next_attempt_at",
    "attempts",
    "claimed_by",
    "aws_record_id",
    "error_code",
    "error_message",
    "settled_at",
}


def _overlap(model: Model, operation: str) -> Trigger:
    table = model._meta.db_table
    return Trigger(
        model,
        "entitlement_ranges_do_not_overlap",
        operation,
        f"EXISTS (SELECT 1 FROM {table} other WHERE other.agreement_id = NEW.agreement_id "
        "AND other.dimension_key = NEW.dimension_key "
        "AND (NEW.id IS NULL OR other.id <> NEW.id) "
        "AND (other.valid_to IS NULL OR other.valid_to > NEW.valid_from) "
        "AND (NEW.valid_to IS NULL OR NEW.valid_to > other.valid_from))",
    )


def _metered_twice() -> Trigger:
    """Two records of a buyer's hour may stand beside each other under two licenses only.

    AWS bills it twice under a license and a product code, and takes one of two under the same product code.
    """
    record, agreement = MeteringRecord._meta.db_table, Agreement._meta.db_table
    return Trigger(
        MeteringRecord,
        "metering_record_under_one_identity",
        "INSERT",
        f"EXISTS (SELECT 1 FROM {agreement} ours "
        f"JOIN {agreement} theirs ON theirs.customer_id = ours.customer_id AND theirs.id <> ours.id "
        f"JOIN {record} other ON other.agreement_id = theirs.id "
        "AND other.dimension_id = NEW.dimension_id AND other.hour = NEW.hour "
        "WHERE ours.id = NEW.agreement_id AND other.state <> 'void' "
        "AND (other.wire_license_arn IS NULL OR NEW.wire_license_arn IS NULL))",
    )


def _metered_elsewhere() -> Trigger:
    """A use counts in a record of its own agreement and dimension.

    On PostgreSQL it is looked at once per statement, over all that changed: closing claims thousands at once,
    and a look for each would cost more than the update. On SQLite only where the record changes: nothing else
    of it can, and of two triggers on one row SQLite does not say which speaks first.
    """
    record = MeteringRecord._meta.db_table
    other = (
        f"FROM {record} record WHERE record.id = NEW.metering_record_id "
        "AND (record.agreement_id <> NEW.agreement_id OR record.dimension_id <> NEW.dimension_id)"
    )
    among = (
        f"FROM changed JOIN {record} record ON record.id = changed.metering_record_id "
        "WHERE record.agreement_id <> changed.agreement_id OR record.dimension_id <> changed.dimension_id"
    )
    return Trigger(
        UsageEvent,
        "usage_event_in_its_own_record",
        "UPDATE",
        "NEW.metering_record_id IS NOT NULL "
        "AND (OLD.metering_record_id IS NULL OR OLD.metering_record_id <> NEW.metering_record_id) "
        f"AND EXISTS (SELECT 1 {other})",
        on_postgresql=f"EXISTS (SELECT 1 {among})",
    )


def _kept_until_exported() -> Trigger:
    """A link leaves only when it is a year old and a checkpoint of its stream stands for it."""
    unless_exported = (
        f"NOT EXISTS (SELECT 1 FROM {AuditCheckpoint._meta.db_table} checkpoint "
        "WHERE checkpoint.stream = OLD.stream AND checkpoint.sequence >= OLD.sequence)"
    )
    return Trigger(
        AuditEvent,
        "audit_event_append_only",
        "DELETE",
        f"OLD.occurred_at > strftime('%Y-%m-%d %H:%M:%S', 'now', '-365 days') OR {unless_exported}",
        on_postgresql=f"OLD.occurred_at > now() - interval '365 days' OR {unless_exported}",
    )


# The first 16 bytes of the key's SHA-256. Django gives SQLite the function; where it is missing, in a tool of
# another make, no usage can be written at all.
_DIGEST = {
    "sqlite": "substr(SHA256({row}.key), 1, 32)",
    "postgresql": "substr(encode(sha256(convert_to({row}.key, 'UTF8')), 'hex'), 1, 32)::uuid",
}


def _archived_key(row: str, vendor: str) -> str:
    return (
        f"SELECT 1 FROM {ArchivedUsageKey._meta.db_table} kept WHERE kept.organization_id = "
        f"{row}.organization_id AND kept.digest = {_DIGEST[vendor].format(row=row)}"
    )


def _counted_once_more() -> Trigger:
    """A key that was archived names that use for ever.

    On PostgreSQL it is looked at when the rows are in: whoever inserts a key waits for one who removes it,
    and must see then that it is archived. LIMIT: a look by index for each, whatever the planner thinks.
    """
    return Trigger(
        UsageEvent,
        "usage_event_key_is_archived",
        "INSERT",
        f"EXISTS ({_archived_key('NEW', 'sqlite')})",
        on_postgresql=(
            f"EXISTS (SELECT 1 FROM changed WHERE ({_archived_key('changed', 'postgresql')} LIMIT 1) = 1)"
        ),
    )


def _kept_until_archived() -> Trigger:
    """A use leaves only when it is settled and an archive holds it and its key."""
    record = MeteringRecord._meta.db_table
    settled = (
        "(OLD.metering_record_id IS NULL AND OLD.disposition NOT IN ('billable', 'too_late') "
        f"OR EXISTS (SELECT 1 FROM {record} record WHERE record.id = OLD.metering_record_id "
        "AND record.state IN ('accepted', 'not_due', 'written_off')))"
    )
    sqlite, postgresql = (
        f"NOT {settled} OR NOT EXISTS ({_archived_key('OLD', vendor)} AND kept.id = OLD.id)"
        for vendor in _DIGEST
    )
    return Trigger(UsageEvent, "usage_event_never_deleted", "DELETE", sqlite, on_postgresql=postgresql)


TRIGGERS: tuple[Trigger, ...] = (
    _write_once(UsageEvent, "usage_event_write_once", but={"disposition", "metering_record"}),
    _metered_elsewhere(),
    _counted_once_more(),
    _kept_until_archived(),
    _write_once(UsageArchive, "usage_archive_write_once"),
    _never_deleted(UsageArchive, "usage_archive_never_deleted"),
    _write_once(UsageArchiveTotal, "usage_archive_total_write_once"),
    _never_deleted(UsageArchiveTotal, "usage_archive_total_never_deleted"),
    _write_once(ArchivedUsageKey, "archived_usage_key_write_once"),
    _never_deleted(ArchivedUsageKey, "archived_usage_key_never_deleted"),
    _write_once(MeteringRecord, "metering_record_wire_frozen", but=_METERING_STATE),
    # AWS deduplicates by the hour's first instant. It is frozen with the wire form.
    Trigger(
        MeteringRecord,
        "metering_record_of_a_whole_hour",
        "INSERT",
        "NEW.hour NOT LIKE '____-__-__ __:00:00'",
        on_postgresql="NEW.hour <> date_trunc('hour', NEW.hour, 'UTC')",
    ),
    Trigger(
        MeteringRecord,
        "metering_record_accepted_is_final",
        "UPDATE",
        "OLD.state = 'accepted' AND NEW.state <> 'accepted'",
    ),
    Trigger(
        MeteringRecord,
        "metering_record_given_up_is_final",
        "UPDATE",
        "OLD.state IN ('void', 'written_off') AND NEW.state <> OLD.state",
    ),
    Trigger(
        MeteringRecord,
        "metering_record_in_doubt_is_not_given_up",
        "UPDATE",
        "OLD.state = 'in_doubt' AND NEW.state IN ('void', 'written_off', 'held')",
    ),
    _never_deleted(MeteringRecord, "metering_record_never_deleted"),
    _metered_twice(),
    _write_once(
        Submission,
        "submission_write_once",
        but={"finished_at", "outcome", "aws_request_id", "error_code", "error_message"},
    ),
    _set_once(Submission, "submission_finished_once", "finished_at"),
    _never_deleted(Submission, "submission_never_deleted"),
    _write_once(SubmissionLine, "submission_line_write_once", but={"status", "aws_record_id"}),
    _never_deleted(SubmissionLine, "submission_line_never_deleted"),
    _write_once(
        MarketplaceEvent,
        "marketplace_event_write_once",
        but={"agreement", "state", "error", "attempts", "next_attempt_at", "alarmed_at"},
    ),
    _never_deleted(MarketplaceEvent, "marketplace_event_never_deleted"),
    _write_once(Entitlement, "entitlement_write_once", but={"valid_to", "closed_because"}),
    _set_once(Entitlement, "entitlement_closed_once", "valid_to"),
    _overlap(Entitlement, "INSERT"),
    _overlap(Entitlement, "UPDATE"),
    _never_deleted(Entitlement, "entitlement_never_deleted"),
    # Names that records already sent were sent under: a retry must be the same bytes.
    _set_once(Product, "product_code_never_changes", "code"),
    _set_once(Dimension, "dimension_key_never_changes", "product_id", "key"),
    _set_once(
        Agreement,
        "agreement_ids_set_once",
        "product_id",
        "customer_id",
        "license_id",
        "license_arn",
        "agreement_id",
    ),
    _never_deleted(Agreement, "agreement_never_deleted"),
    _write_once(AgreementMove, "agreement_move_write_once"),
    _never_deleted(AgreementMove, "agreement_move_never_deleted"),
    _set_once(MarketplaceCustomer, "customer_ids_set_once", "aws_account_id", "customer_identifier"),
    _never_deleted(MarketplaceCustomer, "customer_never_deleted"),
    _write_once(Registration, "registration_write_once", but={"user", "claimed_at", "answers"}),
    _set_once(Registration, "registration_claimed_once", "claimed_at"),
    _never_deleted(Registration, "registration_never_deleted"),
    _write_once(UsageReport, "usage_report_write_once"),
    _never_deleted(UsageReport, "usage_report_never_deleted"),
    _write_once(
        UsageReportLine,
        "usage_report_line_write_once",
        but={"product", "agreement", "dimension", "replaced_by"},
    ),
    _never_deleted(UsageReportLine, "usage_report_line_never_deleted"),
    _write_once(AuditEvent, "audit_event_append_only"),
    _kept_until_exported(),
    Trigger(
        AuditHead,
        "audit_head_only_rises",
        "UPDATE",
        "NEW.sequence <= OLD.sequence OR NEW.stream <> OLD.stream OR NEW.id <> OLD.id",
    ),
    _never_deleted(AuditHead, "audit_head_never_deleted"),
    _write_once(AuditCheckpoint, "audit_checkpoint_write_once"),
    _never_deleted(AuditCheckpoint, "audit_checkpoint_never_deleted"),
)

# PostgreSQL's TRUNCATE passes row triggers by.
_NO_TRUNCATE: dict[str, tuple[Model, str]] = {
    "audit_event_no_truncate": (AuditEvent, "audit_event_append_only"),
    "audit_head_no_truncate": (AuditHead, "audit_head_never_deleted"),
    "audit_checkpoint_no_truncate": (AuditCheckpoint, "audit_checkpoint_never_deleted"),
}


def install(connection: BaseDatabaseWrapper) -> None:
    """Make what is missing, drop what has another text."""
    wanted = {trigger.name: trigger for trigger in TRIGGERS}
    # At once: no moment without a rule whose text has changed.
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        present = set(installed(connection))
        tables = set(connection.introspection.table_names(cursor))  # fewer after a migration half way
        if connection.vendor == "postgresql":
            cursor.execute(_REFUSE_FUNCTION)
            for name, (model, rule) in _NO_TRUNCATE.items():
                if name not in present and model._meta.db_table in tables:
                    cursor.execute(
                        f"CREATE TRIGGER {name} BEFORE TRUNCATE ON {model._meta.db_table} "
                        f"FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse('{rule}')"
                    )
        for stale in present - set(wanted) - set(_NO_TRUNCATE):
            _drop(cursor, connection.vendor, stale)
        for name, trigger in wanted.items():
            if name not in present and trigger.table in tables:
                cursor.execute(trigger.sql(connection.vendor))


def drop_all(connection: BaseDatabaseWrapper) -> None:
    """For emptying test tables, and for proving that verify finds what the triggers would have refused."""
    with connection.cursor() as cursor:
        for name in installed(connection):
            _drop(cursor, connection.vendor, name)


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    wanted = [trigger.name for trigger in TRIGGERS]
    if connection.vendor == "postgresql":
        wanted += _NO_TRUNCATE
    present = set(installed(connection))
    return [name for name in wanted if name not in present]


def installed(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Names of our triggers that are there, whatever their version."""
    if connection.vendor == "postgresql":
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY(%s)"
        parameters: list[Any] = [[trigger.table for trigger in TRIGGERS]]
    else:
        query, parameters = "SELECT name FROM sqlite_master WHERE type = 'trigger'", []
    ours = (*{trigger.prefix for trigger in TRIGGERS}, *_NO_TRUNCATE)
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        names = [row[0] for row in cursor.fetchall()]
    return (name for name in names if name.startswith(ours))


def _drop(cursor: Any, vendor: str, name: str) -> None:
    if vendor == "sqlite":
        cursor.execute(f"DROP TRIGGER {name}")
        return
    cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = %s", [name])
    for (table,) in cursor.fetchall():
        cursor.execute(f"DROP TRIGGER {name} ON {table}")
    cursor.execute(f"DROP FUNCTION IF EXISTS {name}()")

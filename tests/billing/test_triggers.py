"""What the database itself refuses, by raw SQL, on both databases."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from billing import audit, triggers
from billing.aws.window import HOUR
from billing.models import (
    Agreement,
    AgreementMove,
    ArchivedUsageKey,
    AuditCheckpoint,
    AuditEvent,
    AuditHead,
    Dimension,
    Effect,
    Entitlement,
    JoinRequest,
    Lease,
    MarketplaceCustomer,
    MarketplaceEvent,
    MeteringRecord,
    OperatorTask,
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
from tests.billing.ledger import NOON, entitle, license_arn, make_agreement, make_record, use

Model = type[models.Model]


@pytest.fixture
def rows(catalog, acme, acme_admin, outsider) -> dict[Model, models.Model]:
    """One row of each model, as full as it gets."""
    agreement = make_agreement(catalog, acme)
    flex = make_agreement(catalog, acme, "reports-flex")
    event = use(agreement, 5, tags={"team": "ml"})
    record = make_record(agreement, NOON - HOUR, 5)
    UsageEvent.objects.filter(pk=event.pk).update(metering_record=record)
    call = Submission.objects.create(
        token=1, record_count=1, started_at=NOON, finished_at=NOON, outcome="answered"
    )
    with transaction.atomic():
        link = audit.record(agreement, "test", by="system", at=NOON)
    report = UsageReport.objects.create(
        digest="d",
        name="n",
        size=1,
        line_count=1,
        first_day=NOON.date(),
        last_day=NOON.date(),
        imported_by=acme_admin,
    )
    told = UsageReportLine.objects.create(
        report=report,
        number=2,
        key="k",
        product_code="c",
        account="1",
        agreement_number="a",
        license_id="l",
        dimension_key="d",
        region="r",
        day=NOON.date(),
        hour=NOON,
        quantity=1,
        modified_at=NOON,
        replaced_by=report,
    )
    archive = UsageArchive.objects.create(
        agreement=agreement, month=NOON.date(), name="n", sha256="d", size=1, event_count=1, made_at=NOON
    )
    total = UsageArchiveTotal.objects.create(
        archive=archive,
        agreement=agreement,
        organization=acme,
        dimension=agreement.product.dimensions.get(),
        day=NOON.date(),
        disposition="billable",
        quantity=1,
        event_count=1,
    )
    instance: dict[Model, models.Model] = {
        UsageArchive: archive,
        UsageArchiveTotal: total,
        ArchivedUsageKey: ArchivedUsageKey.objects.create(
            id=7, organization=acme, digest=uuid.uuid4(), content=uuid.uuid4(), occurred_at=NOON, total=total
        ),
        UsageReport: report,
        UsageReportLine: told,
        Product: agreement.product,
        Dimension: agreement.product.dimensions.get(),
        MarketplaceCustomer: agreement.customer,
        Agreement: agreement,
        Registration: Registration.objects.create(
            digest="0" * 64, agreement=agreement, expires_at=NOON, user=acme_admin, claimed_at=NOON
        ),
        Entitlement: entitle(flex, 100, since=NOON, until=NOON + HOUR),
        UsageEvent: event,
        MeteringRecord: record,
        Submission: call,
        SubmissionLine: SubmissionLine.objects.create(submission=call, record=record, status="Success"),
        MarketplaceEvent: MarketplaceEvent.objects.create(
            channel="sns",
            source_id="1",
            kind="k",
            occurred_at=NOON,
            body="{}",
            payload={"a": 1},
            agreement=agreement,
        ),
        Effect: Effect.objects.create(agreement=agreement, kind="flush_usage", cause="end", caused_at=NOON),
        AuditEvent: link,
        AuditHead: AuditHead.objects.get(stream=link.stream),
        AuditCheckpoint: AuditCheckpoint.objects.create(
            stream="system", sequence=5, mac="m", removed=5, made_at=NOON, seal="s"
        ),
        Lease: Lease.objects.create(name="job", expires_at=NOON),
        AgreementMove: AgreementMove.objects.create(
            agreement=agreement,
            from_organization=acme,
            to_organization=outsider.organizations.get(),
            moved_at=NOON,
            moved_by=acme_admin,
        ),
        OperatorTask: OperatorTask.objects.create(
            nonce="n", kind="retry", rows=[[record.pk, "parked"]], asked_by=acme_admin, reason="r"
        ),
    }
    instance[JoinRequest] = JoinRequest.objects.create(
        registration=instance[Registration], organization=acme, user=acme_admin
    )
    return {model: model.objects.get(pk=row.pk) for model, row in instance.items()}


def execute(sql: str, parameters: list[Any]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def update(row: models.Model, **values: Any) -> None:
    columns = ", ".join(f"{column} = %s" for column in values)
    execute(f"UPDATE {row._meta.db_table} SET {columns} WHERE id = %s", [*values.values(), row.pk])


def insert_copy(row: models.Model, **values: Any) -> None:
    """The same row once more, under another id and with ``values``."""
    columns = [str(field.column) for field in row._meta.concrete_fields if not field.primary_key]
    chosen = ", ".join("%s" if column in values else column for column in columns)
    parameters = [values[column] for column in columns if column in values]
    table = row._meta.db_table
    execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table} WHERE id = %s",
        [*parameters, row.pk],
    )


def another(row: models.Model, field: models.Field) -> Any:
    """Another value that the column takes."""
    value = getattr(row, field.attname)
    if isinstance(field, models.JSONField):
        return json.dumps({"other": 1})
    if isinstance(field, models.UUIDField):
        return uuid.uuid4().hex
    if isinstance(field, models.BooleanField):
        return not value
    if isinstance(field, models.DateTimeField):
        moment = (value or NOON) + timedelta(days=1)
        return moment if connection.vendor == "postgresql" else moment.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(field, models.DateField):
        return value - timedelta(days=1)
    if isinstance(field, models.CharField | models.TextField):
        return f"{value or ''}9"[-(field.max_length or 100) :]
    return int(value or 0) + 1000


FREE = {  # what may change of a row that is otherwise written once
    UsageEvent: {"metering_record", "disposition"},
    MeteringRecord: {
        "state", "submit_by", "next_attempt_at", "attempts", "claimed_by", "aws_record_id",
        "error_code", "error_message", "settled_at",
    },
    Submission: {"finished_at", "outcome", "aws_request_id", "error_code", "error_message"},
    SubmissionLine: {"status", "aws_record_id"},
    MarketplaceEvent: {"agreement", "state", "error", "attempts", "next_attempt_at", "alarmed_at"},
    Entitlement: {"valid_to", "closed_because"},
    Registration: {"user", "claimed_at", "answers"},
    AgreementMove: set(),
    UsageArchive: set(),
    UsageArchiveTotal: set(),
    ArchivedUsageKey: set(),
    UsageReport: set(),
    UsageReportLine: {"product", "agreement", "dimension", "replaced_by"},
    AuditEvent: set(),
    AuditCheckpoint: set(),
}  # fmt: skip
WRITE_ONCE = {
    UsageEvent: "usage_event_write_once",
    MeteringRecord: "metering_record_wire_frozen",
    Submission: "submission_write_once",
    SubmissionLine: "submission_line_write_once",
    MarketplaceEvent: "marketplace_event_write_once",
    Entitlement: "entitlement_write_once",
    Registration: "registration_write_once",
    AgreementMove: "agreement_move_write_once",
    UsageArchive: "usage_archive_write_once",
    UsageArchiveTotal: "usage_archive_total_write_once",
    ArchivedUsageKey: "archived_usage_key_write_once",
    UsageReport: "usage_report_write_once",
    UsageReportLine: "usage_report_line_write_once",
    AuditEvent: "audit_event_append_only",
    AuditCheckpoint: "audit_checkpoint_write_once",
}
SET_ONCE = {
    Submission: ("submission_finished_once", {"finished_at"}),
    Entitlement: ("entitlement_closed_once", {"valid_to"}),
    Registration: ("registration_claimed_once", {"claimed_at"}),
    Product: ("product_code_never_changes", {"code"}),
    Dimension: ("dimension_key_never_changes", {"product", "key"}),
    Agreement: (
        "agreement_ids_set_once",
        {"product", "customer", "license_id", "license_arn", "agreement_id"},
    ),
    MarketplaceCustomer: ("customer_ids_set_once", {"aws_account_id", "customer_identifier"}),
}
NEVER_DELETED = {
    UsageEvent: "usage_event_never_deleted",
    MeteringRecord: "metering_record_never_deleted",
    Submission: "submission_never_deleted",
    SubmissionLine: "submission_line_never_deleted",
    MarketplaceEvent: "marketplace_event_never_deleted",
    Entitlement: "entitlement_never_deleted",
    Agreement: "agreement_never_deleted",
    MarketplaceCustomer: "customer_never_deleted",
    Registration: "registration_never_deleted",
    AgreementMove: "agreement_move_never_deleted",
    UsageArchive: "usage_archive_never_deleted",
    UsageArchiveTotal: "usage_archive_total_never_deleted",
    ArchivedUsageKey: "archived_usage_key_never_deleted",
    UsageReport: "usage_report_never_deleted",
    UsageReportLine: "usage_report_line_never_deleted",
    AuditEvent: "audit_event_append_only",
    AuditHead: "audit_head_never_deleted",
    AuditCheckpoint: "audit_checkpoint_never_deleted",
}


def fields_of(model: Model) -> Iterator[models.Field]:
    return (field for field in model._meta.concrete_fields if not field.primary_key)


@pytest.mark.parametrize("model", WRITE_ONCE, ids=lambda model: model.__name__)
def test_what_is_written_once_cannot_be_changed_column_by_column(rows, model):
    row = rows[model]
    for field in fields_of(model):
        if field.name in FREE[model]:
            continue
        with pytest.raises(IntegrityError, match=WRITE_ONCE[model]):
            update(row, **{field.column: another(row, field)})
        if field.null and getattr(row, field.attname) is not None:
            with pytest.raises(IntegrityError, match=WRITE_ONCE[model]):
                update(row, **{field.column: None})
    # A row under a new id would overlap with itself: on PostgreSQL that rule speaks first.
    with pytest.raises(IntegrityError, match=f"{WRITE_ONCE[model]}|entitlement_ranges_do_not_overlap"):
        update(row, id=row.pk + 1000)


def test_what_may_change_does(rows):
    update(rows[UsageEvent], metering_record_id=None, disposition="too_late")
    update(rows[MeteringRecord], state="in_doubt", attempts=3, claimed_by=7, error_code="X")
    update(rows[MeteringRecord], state="accepted", aws_record_id="id")
    update(rows[Submission], outcome="failed", error_code="X")
    update(rows[SubmissionLine], status="Unprocessed")
    update(rows[MarketplaceEvent], state="applied", error="none")
    update(rows[Entitlement], closed_because="because")
    update(rows[Effect], state="done")
    update(rows[Lease], token=9)


@pytest.mark.parametrize("model", SET_ONCE, ids=lambda model: model.__name__)
def test_what_is_set_once_cannot_be_changed_or_unset(rows, model):
    rule, names = SET_ONCE[model]
    row = rows[model]
    if model is MarketplaceCustomer:
        update(row, customer_identifier="abc")  # learned later: may be filled
        row.refresh_from_db()
    for name in names:
        field = model._meta.get_field(name)
        assert getattr(row, field.attname) is not None
        with pytest.raises(IntegrityError, match=rule):
            update(row, **{field.column: another(row, field)})
        if field.null:
            with pytest.raises(IntegrityError, match=rule):
                update(row, **{field.column: None})


def test_what_is_unknown_may_be_filled(catalog, acme):
    agreement = make_agreement(catalog, acme, license_arn=None, agreement_id=None)
    update(agreement, license_arn="arn:aws:x", agreement_id="agmt-x")
    with pytest.raises(IntegrityError, match="agreement_ids_set_once"):
        update(agreement, license_arn="arn:aws:y")


@pytest.mark.parametrize("model", NEVER_DELETED, ids=lambda model: model.__name__)
def test_what_came_from_or_went_to_aws_is_never_deleted(rows, model):
    with pytest.raises(IntegrityError, match=NEVER_DELETED[model]):
        execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", [rows[model].pk])


@pytest.mark.postgresql  # SQLite has no TRUNCATE
@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (AuditEvent, "audit_event_append_only"),
        (AuditHead, "audit_head_never_deleted"),
        (AuditCheckpoint, "audit_checkpoint_never_deleted"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_audit_trail_cannot_be_truncated(rows, model, rule):
    with pytest.raises(IntegrityError, match=rule):
        execute(f"TRUNCATE {model._meta.db_table}", [])


@pytest.mark.parametrize(
    "values",
    [
        {"sequence": 0},
        {"mac": "f"},
        {"seal": "f"},
        {"sequence": 2, "stream": "x"},
        {"sequence": 2, "id": 999},
    ],
)
def test_an_audit_head_only_rises(rows, values):
    with pytest.raises(IntegrityError, match="audit_head_only_rises"):
        update(rows[AuditHead], **values)
    update(rows[AuditHead], sequence=2, mac="m", seal="s")


@pytest.mark.parametrize(
    ("age", "covered_to", "leaves"),
    [(366, 1, True), (364, 1, False), (366, 0, False), (366, None, False), (4000, 7, True)],
)
def test_a_link_leaves_only_when_it_is_a_year_old_and_a_checkpoint_stands_for_it(
    rows, age, covered_to, leaves
):
    with transaction.atomic():
        link = audit.record("old", "test", by="system", at=timezone.now() - timedelta(days=age))
    if covered_to is not None:
        AuditCheckpoint.objects.create(
            stream="old", sequence=covered_to, mac="m", removed=1, made_at=NOON, seal="s"
        )
    delete = "DELETE FROM billing_auditevent WHERE id = %s"
    if leaves:
        execute(delete, [link.pk])
    else:
        with pytest.raises(IntegrityError, match="audit_event_append_only"):
            execute(delete, [link.pk])
    assert AuditEvent.objects.filter(pk=link.pk).exists() is not leaves


def test_an_accepted_record_stays_accepted(rows):
    update(rows[MeteringRecord], state="accepted")
    for state in set(MeteringRecord.State) - {"accepted"}:
        with pytest.raises(IntegrityError, match="metering_record_accepted_is_final"):
            update(rows[MeteringRecord], state=str(state))
    update(rows[MeteringRecord], state="accepted", error_message="a note")


def test_a_use_counts_in_a_record_of_its_own_agreement_and_dimension(rows, catalog, acme):
    event, own = rows[UsageEvent], rows[MeteringRecord]
    update(event, metering_record_id=None)
    another_agreement = make_record(make_agreement(catalog, acme), NOON - HOUR, 5)
    sheets = Dimension.objects.create(product=own.agreement.product, key="sheets", kind="metered", label="S")
    another_dimension = make_record(own.agreement, NOON - HOUR, 5, dimension=sheets)
    for record in (another_agreement, another_dimension):
        with pytest.raises(IntegrityError, match="usage_event_in_its_own_record"):
            update(event, metering_record_id=record.pk)
    second = use(own.agreement, 1)
    with pytest.raises(IntegrityError, match="usage_event_in_its_own_record"):
        execute(
            f"UPDATE {event._meta.db_table} SET metering_record_id = CASE WHEN id = %s THEN %s ELSE %s END",
            [event.pk, own.pk, another_agreement.pk],
        )
    update(event, metering_record_id=own.pk)
    update(second, metering_record_id=own.pk)


@pytest.mark.parametrize("beyond", [timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=30)])
def test_a_record_is_of_a_whole_hour(rows, beyond):
    shifted = NOON + beyond
    hour = shifted if connection.vendor == "postgresql" else f"{shifted:%Y-%m-%d %H:%M:%S.%f}"
    with pytest.raises(IntegrityError, match="metering_record_of_a_whole_hour"):
        insert_copy(rows[MeteringRecord], hour=hour)
    insert_copy(rows[MeteringRecord], hour=moment(NOON))


@pytest.mark.postgresql
def test_an_hour_is_whole_whatever_the_sessions_time_zone(rows):
    execute("SET LOCAL TIME ZONE 'Asia/Kolkata'", [])  # half an hour beside UTC
    insert_copy(rows[MeteringRecord], hour=NOON)
    with pytest.raises(IntegrityError, match="metering_record_of_a_whole_hour"):
        insert_copy(rows[MeteringRecord], hour=NOON + timedelta(minutes=30))


def test_an_hour_is_metered_under_one_identity(catalog, acme):
    legacy = make_agreement(catalog, acme, "reports-classic", account="123456789012")
    license_ids = {"identity": "license", "license_arn": license_arn(9), "license_id": f"l-{9:032}"}
    licensed = make_agreement(
        catalog, acme, "reports-classic", account="123456789012", **license_ids, agreement_id="agmt-licensed"
    )
    elsewhere = make_agreement(
        catalog, acme, "reports-classic", account="210987654321", agreement_id="agmt-elsewhere"
    )
    record = make_record(legacy, NOON - HOUR, 5)
    with pytest.raises(IntegrityError, match="metering_record_under_one_identity"), transaction.atomic():
        make_record(licensed, NOON - HOUR, 5)
    make_record(licensed, NOON - 2 * HOUR, 5)
    make_record(elsewhere, NOON - HOUR, 5)
    with pytest.raises(IntegrityError, match="metering_record_under_one_identity"), transaction.atomic():
        make_record(legacy, NOON - 2 * HOUR, 5)
    # What was void was never billed.
    update(record, state="void")
    make_record(licensed, NOON - HOUR, 5)


def test_an_hour_is_metered_once_under_one_product_code(catalog, acme):
    """AWS knows it by product code and customer, whichever of the buyer's purchases it is of."""
    ours = {"product_code": "reports-classic", "account": "123456789012"}
    first = make_agreement(catalog, acme, **ours, status="ended", ended_at=NOON - HOUR)
    second = make_agreement(catalog, acme, **ours)
    record = make_record(first, NOON - HOUR, 5)
    with pytest.raises(IntegrityError, match="metering_record_under_one_identity"), transaction.atomic():
        insert_copy(record, agreement_id=second.pk)
    insert_copy(record, agreement_id=second.pk, hour=moment(NOON - 2 * HOUR))
    exports = Dimension.objects.create(product=first.product, key="exports", label="Exports", kind="metered")
    insert_copy(record, agreement_id=second.pk, dimension_id=exports.pk)
    update(record, state="void")
    insert_copy(record, agreement_id=second.pk, state="due")


def test_an_hour_is_metered_under_each_of_a_buyers_licenses(catalog, acme):
    first, second = (make_agreement(catalog, acme, account="123456789012") for _ in range(2))
    record = make_record(first, NOON - HOUR, 5)
    insert_copy(record, agreement_id=second.pk, wire_license_arn=second.license_arn)


@pytest.mark.parametrize(
    ("since", "until", "overlaps"),
    [
        (-2, -1, False),
        (-1, 0, False),  # one ends where the other begins
        (-1, 0.5, True),
        (0.25, 0.5, True),
        (0, 1, True),
        (0.5, 2, True),
        (-1, 2, True),
        (0.5, None, True),
        (-1, None, True),
        (1, 2, False),
        (1, None, False),
    ],
)
def test_the_ranges_of_an_entitlement_do_not_overlap(rows, since, until, overlaps):
    flex = rows[Entitlement].agreement
    values = {"since": NOON + since * HOUR, "until": None if until is None else NOON + until * HOUR}
    if overlaps:
        with pytest.raises(IntegrityError, match="entitlement_ranges_do_not_overlap"), transaction.atomic():
            entitle(flex, 1, **values)
    else:
        entitle(flex, 1, **values)
    entitle(flex, 1, key="another", **values)


def test_no_update_makes_the_ranges_overlap_either(rows):
    closed = rows[Entitlement]
    entitle(closed.agreement, 1, since=NOON + 2 * HOUR)
    # Reopening is refused twice over; without the other rule, this one holds alone.
    with connection.cursor() as cursor:
        for trigger in triggers.TRIGGERS:
            if trigger.rule == "entitlement_closed_once":
                triggers._drop(cursor, connection.vendor, trigger.name)
    with pytest.raises(IntegrityError, match="entitlement_ranges_do_not_overlap"):
        update(closed, valid_to=None)


# --- Constraints

NEW = "9" * 40
CONSTRAINTS: dict[str, tuple[Model, str, dict[str, Any]]] = {
    # name: (model, what is done with the row, values)
    "usage_report_days_in_order": (
        UsageReport, "insert", {"digest": "x", "first_day": "2026-11-24", "last_day": "2026-11-23"},
    ),
    "usage_report_line_once_per_report": (UsageReportLine, "insert", {}),
    "usage_report_line_told_once": (UsageReportLine, "lifted", {}),
    "product_pricing_known": (Product, "update", {"pricing": "free"}),
    "dimension_key_once_per_product": (Dimension, "insert", {}),
    "dimension_kind_known": (Dimension, "update", {"kind": "other"}),
    "dimension_period_known": (Dimension, "update", {"allowance_period": "year"}),
    "dimension_only_metered_draws_on_another": (
        Dimension, "insert", {"key": "x", "kind": "entitled", "included_by_id": "SELF"},
    ),
    "customer_account_is_digits": (
        MarketplaceCustomer, "insert", {"aws_account_id": "12a", "customer_identifier": "x"},
    ),
    "customer_has_an_identity": (
        MarketplaceCustomer, "insert", {"aws_account_id": None, "customer_identifier": None},
    ),
    "agreement_one_live_legacy_per_customer": (
        Agreement, "insert twice",
        {"identity": "legacy", "license_id": None, "license_arn": None, "agreement_id": None},
    ),
    "agreement_identity_known": (Agreement, "update", {"identity": "other"}),
    "agreement_status_known": (Agreement, "update", {"status": "other"}),
    "agreement_license_has_id": (
        Agreement, "insert", {"license_id": None, "license_arn": None, "agreement_id": None},
    ),
    "agreement_active_has_start": (Agreement, "update", {"activated_at": None}),
    "agreement_grace_is_after_an_end": (Agreement, "update", {"access_until": NOON}),
    "agreement_follows_another": (Agreement, "update", {"previous_id": "SELF"}),
    "agreement_move_goes_elsewhere": (AgreementMove, "lifted", {}),
    "operator_task_state_known": (OperatorTask, "lifted", {}),
    "operator_task_finished_when_it_is": (OperatorTask, "update", {"state": "done"}),
    "effect_state_known": (Effect, "update", {"state": "other"}),
    "entitlement_one_current_per_dimension": (Entitlement, "lifted", {}),
    "entitlement_exactly_one_value": (
        Entitlement, "insert", {"string_value": "x", "dimension_key": "new"},
    ),
    "entitlement_ends_after_it_starts": (Entitlement, "lifted", {}),
    "usage_archive_total_once": (UsageArchiveTotal, "insert", {}),
    "usage_archive_total_of_something": (
        UsageArchiveTotal, "insert", {"disposition": "cancelled", "event_count": 0},
    ),
    "usage_archive_total_of_settled_usage": (UsageArchiveTotal, "insert", {"disposition": "too_late"}),
    "archived_usage_key_once": (ArchivedUsageKey, "lifted", {}),  # in test_retention.py
    "usage_event_counted_once": (UsageEvent, "insert", {}),
    "usage_event_quantity_not_negative": (UsageEvent, "insert", {"key": NEW, "quantity": -1}),
    "usage_event_disposition_known": (
        UsageEvent, "insert", {"key": NEW, "disposition": "other", "metering_record_id": None},
    ),
    "usage_event_only_billable_is_metered": (UsageEvent, "update", {"disposition": "cancelled"}),
    "metering_record_once_per_hour": (MeteringRecord, "insert", {}),
    "metering_record_quantity_is_used_less_included": (
        MeteringRecord, "insert at another hour", {"quantity": 4_999_999},
    ),
    "metering_record_quantities_not_negative": (
        MeteringRecord, "insert at another hour", {"included": -1, "quantity": 5_000_001},
    ),
    "metering_record_exactly_one_identity": (
        MeteringRecord, "insert at another hour", {"wire_product_code": "p"},
    ),
    "metering_record_state_known": (MeteringRecord, "update", {"state": "other"}),
    "submission_line_once_per_record": (SubmissionLine, "insert", {}),
    "marketplace_event_stored_once": (MarketplaceEvent, "insert", {}),
    "effect_owed_once_per_cause": (Effect, "insert", {}),
    "join_request_one_open_per_person": (JoinRequest, "insert", {}),
    "join_request_answered_by_somebody": (JoinRequest, "update", {"is_approved": True}),
    "audit_event_sequence_once_per_stream": (AuditEvent, "insert", {}),
    "audit_checkpoint_once_per_stream_and_link": (AuditCheckpoint, "insert", {}),
}  # fmt: skip


def moment(instant):
    return instant if connection.vendor == "postgresql" else instant.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize("name", [name for name, case in CONSTRAINTS.items() if case[1] != "lifted"])
def test_a_constraint_holds(rows, name):
    model, deed, values = CONSTRAINTS[name]
    row = rows[model]
    values = {column: row.pk if value == "SELF" else value for column, value in values.items()}
    if deed == "insert twice":
        insert_copy(row, **values)
    if deed == "insert at another hour":
        values["hour"] = moment(NOON)
    unique = {constraint.name for constraint in model._meta.constraints if hasattr(constraint, "fields")}
    expected = "UNIQUE constraint failed" if connection.vendor == "sqlite" and name in unique else name
    do = update if deed == "update" else insert_copy
    with pytest.raises(IntegrityError, match=expected):
        do(row, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"wire_license_arn": None, "wire_product_code": None},
        {"wire_account_id": None},
        {"wire_customer_identifier": "c"},
        {"wire_license_arn": None, "wire_product_code": "p", "wire_customer_identifier": "c"},
        {"wire_license_arn": None, "wire_product_code": "p", "wire_account_id": None},
    ],
)
def test_a_record_under_no_or_two_identities_is_refused(rows, values):
    with pytest.raises(IntegrityError, match="metering_record_exactly_one_identity"):
        insert_copy(rows[MeteringRecord], hour=moment(NOON), **values)


@pytest.mark.parametrize(
    "values",
    [
        {"wire_license_arn": None, "wire_product_code": "p"},
        {
            "wire_license_arn": None, "wire_product_code": "p",
            "wire_account_id": None, "wire_customer_identifier": "c",
        },
    ],
)  # fmt: skip
def test_a_record_under_one_identity_is_taken(rows, values):
    insert_copy(rows[MeteringRecord], hour=moment(NOON), **values)
    assert MeteringRecord.objects.count() == 2


def test_an_ended_legacy_purchase_makes_room_for_the_next(rows):
    values = {"identity": "legacy", "license_id": None, "license_arn": None, "agreement_id": None}
    insert_copy(rows[Agreement], **values, status="ended")
    insert_copy(rows[Agreement], **values)
    assert Agreement.objects.filter(identity="legacy").count() == 2


@pytest.fixture
def without_triggers(rows) -> Iterator[None]:
    """For constraints that a trigger is quicker than; the test's transaction puts the triggers back."""
    triggers.drop_all(connection)
    yield
    assert triggers.missing(connection)


@pytest.mark.usefixtures("without_triggers")
def test_even_without_triggers_an_entitlement_has_one_current_row_and_ends_after_it_starts(rows):
    current = entitle(rows[Entitlement].agreement, 1, since=NOON + 2 * HOUR)
    one_current = "UNIQUE constraint failed" if connection.vendor == "sqlite" else "entitlement_one_current"
    with pytest.raises(IntegrityError, match=one_current):
        insert_copy(current, valid_from=moment(NOON + 3 * HOUR))
    for end in (NOON + 2 * HOUR, NOON):
        with pytest.raises(IntegrityError, match="entitlement_ends_after_it_starts"):
            update(current, valid_to=moment(end))


def test_a_move_goes_to_another_workspace(rows):
    move = rows[AgreementMove]
    insert_copy(move)  # there once more: it may go and come
    with pytest.raises(IntegrityError, match="agreement_move_goes_elsewhere"):
        insert_copy(move, to_organization_id=move.from_organization_id)


@pytest.mark.parametrize("finished_at", [None, NOON])
def test_a_repair_has_a_state_that_is_known(rows, finished_at):
    values = {"state": "other", "finished_at": moment(finished_at) if finished_at else None}
    # Neither finished nor unfinished, it breaks the rule of those too, which may speak first.
    with pytest.raises(IntegrityError, match="operator_task_(state_known|finished_when_it_is)"):
        update(rows[OperatorTask], **values)


@pytest.mark.parametrize(
    ("state", "finished_at", "holds"),
    [("running", None, True), ("done", NOON, True), ("failed", NOON, True), ("waiting", NOON, False),
     ("running", NOON, False), ("failed", None, False)],
)  # fmt: skip
def test_a_repair_is_finished_when_its_state_says_so(rows, state, finished_at, holds):
    values = {"state": state, "finished_at": moment(finished_at) if finished_at else None}
    if holds:
        update(rows[OperatorTask], **values)
        return
    with pytest.raises(IntegrityError, match="operator_task_finished_when_it_is"):
        update(rows[OperatorTask], **values)


def test_what_a_report_tells_has_one_current_line(rows):
    line = rows[UsageReportLine]
    insert_copy(line, number=3)  # replaced, too
    insert_copy(line, number=4, replaced_by_id=None)
    told_once = "UNIQUE constraint failed" if connection.vendor == "sqlite" else "usage_report_line_told_once"
    with pytest.raises(IntegrityError, match=told_once):
        insert_copy(line, number=5, replaced_by_id=None)


UNIQUE_COLUMNS = {
    Product: {"code", "product_id"},
    MarketplaceCustomer: {"aws_account_id", "customer_identifier"},
    Agreement: {"license_id", "agreement_id", "previous"},
    Registration: {"digest"},
    Lease: {"name"},
    OperatorTask: {"nonce"},
}


def test_unique_columns_hold_one_row_each(rows):
    for model, names in UNIQUE_COLUMNS.items():
        assert names == {f.name for f in fields_of(model) if f.unique}
        row = rows[model]
        for field in fields_of(model):
            if not field.unique or getattr(row, field.attname) is None:
                continue
            others = {
                other.column: another(row, other)
                for other in fields_of(model)
                if other.unique and other != field
            } | ({"previous_id": None} if model is Agreement else {})
            with pytest.raises(IntegrityError, match="(?i)unique"):
                insert_copy(row, **others)


def test_every_constraint_of_billing_has_its_case():
    names = {
        constraint.name
        for model in apps.get_app_config("billing").get_models()
        for constraint in model._meta.constraints
    }
    assert names - set(CONSTRAINTS) == set()
    assert set(CONSTRAINTS) - names == set()


def test_every_trigger_has_its_case():
    tested = {(rule, "UPDATE") for rule in WRITE_ONCE.values()}
    tested |= {(rule, "UPDATE") for rule, _ in SET_ONCE.values()}
    tested |= {(rule, "DELETE") for rule in NEVER_DELETED.values()}
    tested |= {
        ("entitlement_ranges_do_not_overlap", "INSERT"),
        ("entitlement_ranges_do_not_overlap", "UPDATE"),
    }
    tested |= {("metering_record_accepted_is_final", "UPDATE")}
    # In test_decisions.py.
    tested |= {
        ("metering_record_given_up_is_final", "UPDATE"),
        ("metering_record_in_doubt_is_not_given_up", "UPDATE"),
    }
    tested |= {("metering_record_of_a_whole_hour", "INSERT"), ("usage_event_in_its_own_record", "UPDATE")}
    tested |= {("metering_record_under_one_identity", "INSERT"), ("audit_head_only_rises", "UPDATE")}
    tested |= {("usage_event_key_is_archived", "INSERT")}  # in test_retention.py
    assert {(trigger.rule, trigger.operation) for trigger in triggers.TRIGGERS} == tested


# --- Installing


def test_all_are_installed_and_installing_again_changes_nothing(db):
    before = sorted(triggers.installed(connection))
    assert triggers.missing(connection) == []
    triggers.install(connection)
    assert sorted(triggers.installed(connection)) == before


def test_a_trigger_of_an_older_version_is_replaced(db):
    wanted = triggers.TRIGGERS[0]
    stale = triggers.Trigger(wanted.model, wanted.rule, wanted.operation, "OLD.id = -1")
    with connection.cursor() as cursor:
        cursor.execute(
            f"DROP TRIGGER {wanted.name}" + ("" if connection.vendor == "sqlite" else f" ON {wanted.table}")
        )
        cursor.execute(stale.sql(connection.vendor))
    assert triggers.missing(connection) == [wanted.name]
    triggers.install(connection)
    assert triggers.missing(connection) == []
    assert stale.name not in set(triggers.installed(connection))


def test_triggers_of_others_are_left_alone(db):
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "CREATE TRIGGER somebody_elses BEFORE DELETE ON billing_lease WHEN OLD.id = -1 "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        else:
            cursor.execute(
                "CREATE TRIGGER somebody_elses BEFORE DELETE ON billing_lease FOR EACH ROW "
                "WHEN (OLD.id = -1) EXECUTE FUNCTION billing_refuse('no')"
            )
        triggers.install(connection)
        assert "somebody_elses" not in set(triggers.installed(connection))
        cursor.execute(
            "DROP TRIGGER somebody_elses" + ("" if connection.vendor == "sqlite" else " ON billing_lease")
        )


@pytest.mark.django_db(transaction=True)
def test_a_missing_trigger_is_a_check_error_and_migrate_brings_it_back():
    missing = next(t for t in triggers.TRIGGERS if t.rule == "entitlement_ranges_do_not_overlap")
    with connection.cursor() as cursor:
        triggers._drop(cursor, connection.vendor, missing.name)
    with pytest.raises(SystemCheckError, match=missing.name):
        call_command("check", databases=["default"])
    # As a person calls it: call_command alone would skip the checks.
    call_command("migrate", verbosity=0, skip_checks=False)
    assert triggers.missing(connection) == []
    call_command("check", databases=["default"])


@pytest.mark.django_db(transaction=True)
def test_before_the_first_migration_nothing_is_missing(monkeypatch):
    triggers.drop_all(connection)
    assert triggers.missing(connection)
    monkeypatch.setattr(connection.introspection, "table_names", lambda *arguments, **options: [])
    call_command("check", databases=["default"])


def test_the_check_looks_into_no_database_it_is_not_asked_about(db):
    triggers.drop_all(connection)
    call_command("check")
    with pytest.raises(SystemCheckError):
        call_command("check", databases=["default"])

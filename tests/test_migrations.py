"""Migrations run while the version before them still serves: no operation may lock a busy table or break it.

Each after 0001 is looked at. What is unsafe by itself and was judged harmless is in ACCEPTED, with why.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

# Tables that grow with buyers' use, or that every request writes to.
HOT = {
    "accounts.user", "accounts.membership", "accounts.organization",
    "billing.agreement", "billing.entitlement", "billing.usageevent", "billing.meteringrecord",
    "billing.submission", "billing.submissionline", "billing.marketplaceevent", "billing.effect",
    "billing.auditevent",
}  # fmt: skip

BEFORE_THE_FIRST_RELEASE = "No version without it was ever released, so none serves beside it."
# Whole migrations, or single findings as the test prints them, and why they may run all the same.
ACCEPTED = dict.fromkeys(
    [
        "accounts.0003_preferences_and_closing",
        "billing.0002_purchases_live",
        "billing.0005_join_requests_and_answers",
        "billing.0006_find_usage_not_billed",
        "billing.0007_audit_heads_and_checkpoints",
        "billing.0009_find_rows_in_the_console",
        "billing.0010_operator_tasks",
        "billing.0014_archived_totals_by_organization",
    ],
    BEFORE_THE_FIRST_RELEASE,
)


def findings() -> Iterator[tuple[str, str]]:
    """Each unsafe operation, as ``app.migration: operation``, and what is wrong with it."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    for (app, name), migration in sorted(loader.disk_migrations.items()):
        if app not in ("accounts", "billing") or name.startswith("0001"):
            continue
        made = {
            f"{app}.{each.name_lower}"
            for each in migration.operations
            if isinstance(each, migrations.CreateModel)
        }
        for operation in _flat(migration.operations):
            wrong = unsafe(operation, app=app, new_tables=made)
            if wrong:
                yield f"{app}.{name}: {operation.describe()}", wrong


def _flat(operations: list[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if isinstance(operation, migrations.SeparateDatabaseAndState):
            yield from _flat(operation.database_operations)
        else:
            yield operation


def unsafe(operation: Operation, *, app: str, new_tables: set[str] = frozenset()) -> str:
    """Why it must not run beside the version before it; '' if it may."""
    table = f"{app}.{getattr(operation, 'model_name', getattr(operation, 'name', '')).lower()}"
    if table in new_tables:
        return ""
    match operation:
        case migrations.RunPython() | migrations.RunSQL():
            return "" if operation.reversible else "it cannot be undone: give it a reverse, or say so"
        case migrations.AddIndex() if table in HOT and "Concurrently" not in type(operation).__name__:
            return (
                "it stops every write for as long as it builds: build it CONCURRENTLY, without a transaction"
            )
        case migrations.AddConstraint() if table in HOT:
            return (
                "it reads the whole table under a lock: add it NOT VALID, validate it in the next migration"
            )
        case migrations.AddField():
            return _added(operation)
        case migrations.AlterField() if table in HOT:
            return "it may rewrite the table under a lock: add another column, fill it, switch, drop"
        case migrations.RemoveField() | migrations.DeleteModel():
            return "the version before it still reads that: stop using it first, drop it a version later"
        case migrations.RenameField() | migrations.RenameModel() | migrations.AlterModelTable():
            return "the version before it knows only the old name: add, fill, switch, drop"
    return ""


def _added(operation: migrations.AddField) -> str:
    field = operation.field
    if isinstance(field, models.ManyToManyField) or field.null or field.has_db_default():
        return ""
    return "the version before it inserts rows without it: null=True or db_default"


def migration_of(finding: str) -> str:
    return finding.partition(":")[0]


def test_no_migration_is_unsafe_under_traffic():
    found = dict(findings())
    assert {
        where: wrong for where, wrong in found.items() if not {where, migration_of(where)} & set(ACCEPTED)
    } == {}


def test_nothing_is_accepted_that_is_not_there():
    found = set(dict(findings()))
    assert set(ACCEPTED) - found - {migration_of(where) for where in found} == set()
    assert all(ACCEPTED.values())


def test_every_hot_table_exists():
    names = {model._meta.label_lower for model in MigrationLoader(None).project_state().apps.get_models()}
    assert names >= HOT


class AddIndexConcurrently(migrations.AddIndex):
    """Named as Django's own, which is PostgreSQL's alone."""


INDEX = models.Index(fields=["hour"], name="x")
NEW = models.CharField(max_length=5)


@pytest.mark.parametrize(
    ("operation", "is_safe"),
    [
        (migrations.AddIndex("usageevent", INDEX), False),
        (AddIndexConcurrently("usageevent", INDEX), True),
        (migrations.AddIndex("product", INDEX), True),
        (migrations.AddConstraint("usageevent", models.UniqueConstraint(fields=["hour"], name="y")), False),
        (migrations.AddField("product", "x", NEW), False),
        (migrations.AddField("product", "x", models.CharField(max_length=5, default="")), False),
        (migrations.AddField("product", "x", models.CharField(max_length=5, db_default="")), True),
        (migrations.AddField("product", "x", models.CharField(max_length=5, null=True)), True),
        (migrations.AlterField("usageevent", "x", NEW), False),
        (migrations.AlterField("product", "x", NEW), True),
        (migrations.RemoveField("product", "x"), False),
        (migrations.DeleteModel("product"), False),
        (migrations.RenameField("product", "x", "y"), False),
        (migrations.RenameModel("product", "y"), False),
        (migrations.RunPython(lambda apps, editor: None), False),
        (migrations.RunPython(lambda apps, editor: None, migrations.RunPython.noop), True),
        (migrations.RunSQL("SELECT 1"), False),
        (migrations.RunSQL("SELECT 1", migrations.RunSQL.noop), True),
        (migrations.CreateModel("new", [("id", models.BigAutoField(primary_key=True))]), True),
    ],
)
def test_what_is_unsafe_is_found(operation, is_safe):
    assert (unsafe(operation, app="billing") == "") is is_safe


def test_a_table_that_is_new_is_nobody_s_yet():
    assert (
        unsafe(migrations.AddIndex("usageevent", INDEX), app="billing", new_tables={"billing.usageevent"})
        == ""
    )

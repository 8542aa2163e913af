"""What Citus, distributing by organization, would take of today's tables, and what would have to change.

Citus asks what PostgreSQL asks of a table partitioned by hash: each unique key holds the distribution column.
So that part is proved here without Citus, on a real PostgreSQL; docs/scaling.md lists the rest.
"""

from __future__ import annotations

import re
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import connection, models, transaction

from billing.archiving import archived_keys
from billing.models import (
    Agreement,
    ArchivedUsageKey,
    Dimension,
    MeteringRecord,
    Submission,
    SubmissionLine,
    UsageEvent,
)
from billing.recording import bulk_store, one
from billing.triggers import TRIGGERS
from tests.billing.ledger import NOON, make_agreement

HOT = (UsageEvent, MeteringRecord, SubmissionLine, ArchivedUsageKey)
# On every node whole: small beside the hot ones, and seldom written.
REFERENCE = {"Organization", "Agreement", "Dimension"}
BY = "organization"

# Each is a line of docs/scaling.md.
IN_THE_WAY = {
    "ArchivedUsageKey: primary key (id)",
    "ArchivedUsageKey: total to UsageArchiveTotal",
    "MeteringRecord: no organization",
    "MeteringRecord: primary key (id)",
    "MeteringRecord: unique (agreement, dimension, hour)",
    "SubmissionLine: no organization",
    "SubmissionLine: primary key (id)",
    "SubmissionLine: record to MeteringRecord",
    "SubmissionLine: submission to Submission",
    "SubmissionLine: unique (submission, record)",
    "UsageEvent: metering_record to MeteringRecord",
    "UsageEvent: primary key (id)",
}


def in_the_way(model: type[models.Model]) -> set[str]:
    name = model.__name__
    fields = {field.name: field for field in model._meta.concrete_fields}
    found = set() if BY in fields else {f"{name}: no organization"}
    if BY not in model._meta.pk.name:
        found.add(f"{name}: primary key ({model._meta.pk.name})")
    for constraint in model._meta.constraints:
        if isinstance(constraint, models.UniqueConstraint) and BY not in constraint.fields:
            found.add(f"{name}: unique ({', '.join(constraint.fields)})")
    for field in fields.values():
        if field.unique and not field.primary_key:
            found.add(f"{name}: unique ({field.name})")
        if field.is_relation and field.related_model.__name__ not in REFERENCE:
            found.add(f"{name}: {field.name} to {field.related_model.__name__}")
    return found


def test_what_is_in_the_way_of_citus_is_what_the_documentation_lists():
    assert set.union(*(in_the_way(model) for model in HOT)) == IN_THE_WAY
    text = (settings.BASE_DIR / "docs/scaling.md").read_text()
    assert set(re.findall(r"^\| `(\w+: [^`]+)` \|", text, re.MULTILINE)) == IN_THE_WAY


def test_an_agreement_cannot_be_distributed_and_is_small_enough_not_to_be():
    organization = Agreement._meta.get_field("organization")
    assert organization.null  # bought, and claimed by nobody yet; later it may move
    assert {Agreement, Dimension, Submission}.isdisjoint(HOT)


def test_the_hot_tables_have_triggers_which_citus_runs_only_when_told_to():
    assert {trigger.model for trigger in TRIGGERS} >= set(HOT)


@pytest.fixture
def spread(db):
    """Beside each hot table with an organization one in eight parts by its hash, with keys as Citus wants."""
    with connection.cursor() as cursor:
        for model, unique in ((UsageEvent, "key"), (ArchivedUsageKey, "digest")):
            table = model._meta.db_table
            cursor.execute(
                f"CREATE TABLE spread_{table} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
                f"INCLUDING IDENTITY, PRIMARY KEY (organization_id, id), UNIQUE (organization_id, {unique}), "
                "FOREIGN KEY (organization_id) REFERENCES accounts_organization (id)) "
                "PARTITION BY HASH (organization_id)"
            )
            for number in range(8):
                cursor.execute(
                    f"CREATE TABLE spread_{table}_{number} PARTITION OF spread_{table} "
                    f"FOR VALUES WITH (MODULUS 8, REMAINDER {number})"
                )


def on_the_spread(sql: str) -> str:
    return re.sub(r"\bbilling_(usageevent|archivedusagekey)\b", r"spread_billing_\1", sql)


@pytest.mark.postgresql
def test_a_unique_key_without_the_organization_is_refused(db):
    refused = pytest.raises(psycopg.errors.FeatureNotSupported, match="partitioning columns")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.cursor.execute(
            "CREATE TABLE refused (LIKE billing_usageevent, PRIMARY KEY (id)) "
            "PARTITION BY HASH (organization_id)"
        )


@pytest.mark.postgresql
def test_recording_works_unchanged_on_tables_spread_by_organization(spread, catalog, acme, outsider):
    others = outsider.organizations.get()
    values = {
        "dimension": "pages", "agreement": None, "millionths": 1, "instant": NOON, "now": NOON, "tags": "{}",
        "too_late": False,
    }  # fmt: skip
    stored = []
    with connection.cursor() as cursor:
        for organization in (acme, others, acme):
            if organization is not acme or not stored:
                make_agreement(catalog, organization)
            named = {"organization": organization.pk, "key": "a", "digest": archived_keys.digest("a")}
            cursor.execute(on_the_spread(one._INSERT), {**values, **named})
            stored += cursor.fetchall()
        cursor.execute("SELECT organization_id, key FROM spread_billing_usageevent ORDER BY id")
        assert cursor.fetchall() == [(acme.pk, "a"), (others.pk, "a")]
    assert len(stored) == 2


@pytest.mark.postgresql
def test_recording_many_works_unchanged_on_tables_spread_by_organization(spread, catalog, acme):
    agreement = make_agreement(catalog, acme)
    pages = agreement.product.dimensions.get(key="pages")
    rows = [
        f"{acme.pk}\t{agreement.pk}\t{pages.pk}\t1000000\t{NOON.isoformat()}\t{key}\t{{}}\tbillable\t{NOON}\n"
        for key in ("a", "b", "c")
    ]
    with connection.cursor() as cursor:
        with cursor.copy(on_the_spread(bulk_store._COPY_NEW)) as copy:
            copy.write("".join(rows))
        cursor.execute(on_the_spread(bulk_store._CREATE_TOLD))
        with cursor.copy(bulk_store._COPY_TOLD) as copy:
            copy.write(
                "".join(row.rsplit("\t", 1)[0] + "\n" for row in (*rows[:2], rows[2].replace("\tc", "\td")))
            )
        cursor.execute(on_the_spread(bulk_store._INSERT_TOLD), [NOON + timedelta(minutes=1)])
        assert cursor.rowcount == 1
        cursor.execute("SELECT array_agg(key ORDER BY key) FROM spread_billing_usageevent")
        assert cursor.fetchone()[0] == ["a", "b", "c", "d"]

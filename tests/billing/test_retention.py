"""Retention: old settled usage leaves for files that prove themselves, and an old key still bills nothing."""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction

from billing import exporting, gates, leases, metering, reconciliation, retention, statements, triggers, usage
from billing.archiving import archive_files, archived_keys, parts
from billing.aws.window import HOUR
from billing.models import (
    ArchivedUsageKey,
    AuditEvent,
    MeteringRecord,
    Submission,
    SubmissionLine,
    UsageArchive,
    UsageArchiveTotal,
    UsageEvent,
)
from billing.reconciliation import archives, months
from billing.reconciliation.months import Month, Scope
from billing.tenures import Tenures
from billing.usage import Use
from billing.usage_page import sums as usage_sums
from billing.usage_page.periods import Grain, Period
from tests.billing.ledger import BEGIN, NOON, REGION, entitle, make_agreement, use

NOW = datetime(2028, 1, 10, 3, 0, tzinfo=UTC)  # November 2026 is the last month that may leave
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
TAGS = {"team": "ml"}

State = MeteringRecord.State

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings, tmp_path) -> Path:
    settings.USAGE_ARCHIVE_DIR = str(tmp_path / "archive")
    return Path(settings.USAGE_ARCHIVE_DIR)


@pytest.fixture
def agreement(catalog, acme, folder):
    return make_agreement(catalog, acme)


@pytest.fixture
def month(agreement):
    """Three closed and accepted hours, and each kind of usage that is never billed."""
    for back in (1, 2, 3):
        use(agreement, "2.5", at=NOON - back * HOUR + timedelta(minutes=5), key=f"ml-{back}", tags=TAGS)
        use(agreement, 3, at=NOON - back * HOUR + timedelta(minutes=15), key=f"plain-{back}")
    use(agreement, 7, at=NOON - 2 * HOUR, key="taken-back")
    usage.cancel(agreement.organization, "taken-back", reason="refunded", now=NOON)
    use(agreement, 11, at=BEGIN - HOUR, key="before-it-began")
    settle(now=NOON + timedelta(minutes=5))
    return agreement


def settle(*, now):
    """Close what is open, and have AWS accept it all."""
    metering.close_hours(region=REGION, now=now)
    due = list(MeteringRecord.objects.filter(state=State.DUE))
    call = Submission.objects.create(
        token=1, record_count=len(due), started_at=now, finished_at=now, outcome="answered"
    )
    for record in due:
        name = f"aws-{record.pk}"
        SubmissionLine.objects.create(submission=call, record=record, status="Success", aws_record_id=name)
        MeteringRecord.objects.filter(pk=record.pk).update(state=State.ACCEPTED, aws_record_id=name)


def breaches(folder) -> list[str]:
    found = [*reconciliation.verify(), *archives.check(folder)]
    return [f"{each.kind}: {each.text}" for each in found if not each.is_information]


def lines(folder) -> list[dict]:
    found = []
    for archive in UsageArchive.objects.order_by("pk"):
        with gzip.open(folder / archive.name, "rt") as text:
            head = json.loads(next(text))
            found += [dict(zip(head["columns"], json.loads(line), strict=True)) for line in text]
    return found


# --- What leaves


def test_settled_usage_of_an_old_month_leaves_and_the_ledger_is_as_whole_as_before(month, folder):
    before = {event.key: event for event in UsageEvent.objects.all()}
    assert len(before) == 8
    outcome = retention.archive(now=NOW)
    assert (outcome.events, len(outcome.files), outcome.waiting) == (8, 2, {})
    assert not UsageEvent.objects.exists()
    assert MeteringRecord.objects.count() == 3
    assert breaches(folder) == []
    for line in lines(folder):
        event = before.pop(line["key"])
        assert (line["id"], line["organization"], line["tags"]) == (
            event.pk,
            event.organization_id,
            event.tags,
        )
        assert (Decimal(line["millionths"]).scaleb(-6), line["name"]) == (event.quantity, "pages")
        assert datetime.fromisoformat(line["occurred_at"]) == event.occurred_at
        assert (line["disposition"], line["record"]) == (event.disposition, event.metering_record_id)
    assert before == {}


def test_sums_by_day_are_kept_of_what_was_billed_and_of_each_other_disposition(month):
    retention.archive(now=NOW)
    rows = UsageArchiveTotal.objects.order_by("day", "disposition")
    assert [(str(row.day), row.disposition, row.quantity, row.event_count) for row in rows] == [
        ("2026-11-21", "outside_agreement", 11, 1),
        ("2026-11-23", "billable", Decimal("16.5"), 6),
        ("2026-11-23", "cancelled", 7, 1),
    ]


def test_archiving_again_changes_nothing(month, folder):
    retention.archive(now=NOW)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = retention.archive(now=NOW)
    assert (again.events, again.files) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    assert AuditEvent.objects.filter(action="usage_archived").count() == 2


@pytest.mark.parametrize(
    ("now", "leaves"),
    [
        (datetime(2027, 12, 31, 23, 59, tzinfo=UTC), False),
        (datetime(2028, 1, 1, tzinfo=UTC), True),
        (datetime(2040, 1, 1, tzinfo=UTC), True),
    ],
)
def test_a_month_leaves_when_thirteen_whole_months_follow_it(month, now, leaves):
    assert (retention.archive(now=now).events > 0) is leaves


@pytest.mark.parametrize(
    ("kept", "since"), [(13, "2026-12"), (0, "2027-10"), (-5, "2027-10"), (25, "2025-12")]
)
def test_never_less_than_three_months_are_kept(settings, kept, since):
    settings.USAGE_KEPT_MONTHS = kept
    assert f"{retention.kept_since(NOW):%Y-%m}" == since


@pytest.mark.parametrize("state", sorted(set(State) - {"accepted", "not_due", "written_off", "void"}))
def test_nothing_of_a_month_leaves_while_one_of_its_records_is_unsettled(month, state):
    triggers.drop_all(connection)  # an accepted record stays so
    MeteringRecord.objects.filter(hour=NOON - HOUR).update(state=state)
    triggers.install(connection)
    outcome = retention.archive(now=NOW)
    assert outcome.events == 0
    assert outcome.waiting == {(month.pk, NOVEMBER.date()): f"records that are {state}"}


def test_nothing_of_a_month_leaves_while_usage_of_it_is_open(month):
    use(month, 1, at=NOON + timedelta(minutes=1), key="open")
    assert retention.archive(now=NOW).waiting == {(month.pk, NOVEMBER.date()): "open usage"}
    assert UsageEvent.objects.count() == 9


def test_another_purchase_that_waits_keeps_only_its_own(month, catalog, acme):
    other = make_agreement(catalog, acme)
    use(other, 1, at=NOON - HOUR)
    outcome = retention.archive(now=NOW)
    assert outcome.events == 8
    assert list(outcome.waiting) == [(other.pk, NOVEMBER.date())]


def test_what_came_too_late_stays_until_a_person_decides(month, folder):
    late = use(month, 5, at=NOON - 5 * HOUR, now=NOON + timedelta(days=3), key="late")
    assert late.disposition == "too_late"
    assert retention.archive(now=NOW).events == 8
    assert [event.key for event in UsageEvent.objects.all()] == ["late"]
    UsageEvent.objects.update(disposition="written_off")
    assert retention.archive(now=NOW).events == 1
    assert breaches(folder) == []


def test_late_usage_leaves_with_the_month_that_it_was_billed_in(agreement, folder):
    last = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    use(agreement, 1, at=last, key="in-time")
    settle(now=last + HOUR)
    use(agreement, 2, at=last, now=last + 3 * HOUR, key="late")
    settle(now=last + 8 * HOUR)
    assert [f"{each.hour:%m-%d %H}" for each in MeteringRecord.objects.order_by("pk")] == [
        "11-30 23",
        "12-01 00",
    ]
    assert retention.archive(now=NOW).events == 1
    assert UsageEvent.objects.get().key == "late"
    assert breaches(folder) == []
    retention.archive(now=NOW + timedelta(days=31))
    assert not UsageEvent.objects.exists()
    assert breaches(folder) == []


def test_a_large_month_leaves_in_parts_and_the_uses_of_a_record_stay_together(month, folder, monkeypatch):
    monkeypatch.setattr(retention, "PART_EVENTS", 3)
    assert retention.archive(now=NOW).events == 8
    counts = [len(list(archive.totals.all())) for archive in UsageArchive.objects.all()]
    assert len(counts) == 4
    records = [
        {one.record for one in archive_files.read(each.name, sha256=each.sha256)}
        for each in UsageArchive.objects.all()
    ]
    assert all(
        not (one & other) for one in records for other in records if one is not other and one != {None}
    )
    assert breaches(folder) == []


def test_keys_and_tags_in_any_script_are_in_the_file_as_they_were(agreement, folder):
    keys = ["<b>html</b>", "مفتاح", "🔑\t\\N", "한국어", "k" * 200]
    for key in keys:
        use(agreement, 1, at=NOON - HOUR, key=key, tags={"a +-=._:/@": "b +-=._:/@"})
    settle(now=NOON + timedelta(minutes=5))
    retention.archive(now=NOW)
    assert sorted(line["key"] for line in lines(folder)) == sorted(keys)
    assert breaches(folder) == []
    for key in keys:
        assert use(agreement, 1, at=NOON - HOUR, now=NOW, key=key, tags={"a +-=._:/@": "b +-=._:/@"}).pk


# --- An old key


def old(agreement, key, quantity=3, *, at=None, tags=None, **options):
    """The same use once more, more than a year later."""
    return usage.record(
        agreement.organization, "pages", quantity, key=key, occurred_at=at, tags=tags, now=NOW, **options
    )


def test_an_archived_use_recorded_again_is_the_use_it_was_and_bills_nothing(month):
    event = UsageEvent.objects.get(key="plain-1")
    retention.archive(now=NOW)
    for at in (None, event.occurred_at):
        again = old(month, "plain-1", at=at)
        assert (again.pk, again.quantity, again.disposition) == (event.pk, 3, "billable")
        assert (again.agreement_id, again.dimension_id) == (month.pk, event.dimension_id)
        assert again.occurred_at == event.occurred_at
    assert old(month, "ml-1", "2.5", tags=TAGS).tags == TAGS
    assert old(month, "taken-back", 7).disposition == "cancelled"
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize(
    "told",
    [
        {"quantity": 4},
        {"tags": {"team": "ml"}},
        {"at": NOON},
        {"dimension": "included_pages"},
    ],
)
def test_an_archived_key_with_other_content_is_refused(month, told):
    retention.archive(now=NOW)
    dimension = told.pop("dimension", "pages")
    at = told.pop("at", None)
    with pytest.raises(usage.KeyReused):
        usage.record(
            month.organization,
            dimension,
            told.pop("quantity", 3),
            key="plain-1",
            occurred_at=at,
            now=NOW,
            **told,
        )
    assert not UsageEvent.objects.exists()


def test_an_archived_key_is_known_inside_a_transaction_too_and_leaves_it_usable(month):
    retention.archive(now=NOW)
    with transaction.atomic():
        assert old(month, "plain-1").pk
        assert usage.record(month.organization, "pages", 1, key="new", now=NOW).pk
    assert UsageEvent.objects.get().key == "new"


def test_the_same_key_of_another_organization_is_another_use(month, catalog, outsider):
    retention.archive(now=NOW)
    theirs = make_agreement(catalog, outsider.organizations.get())
    assert usage.record(theirs.organization, "pages", 3, key="plain-1", now=NOW).pk
    assert UsageEvent.objects.get().organization_id == theirs.organization_id


def test_an_archived_key_is_known_when_the_purchase_is_long_over(month):
    retention.archive(now=NOW)
    type(month).objects.filter(pk=month.pk).update(status="ended", ended_at=NOON + HOUR)
    assert old(month, "plain-1").disposition == "billable"
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize("is_dry", [False, True])
def test_many_uses_tell_archived_keys_from_new_ones(month, is_dry):
    retention.archive(now=NOW)
    acme = month.organization
    rows = [
        Use(acme, "pages", 1, "new-1"),
        Use(acme, "pages", 3, "plain-1"),
        Use(acme, "pages", 4, "plain-2"),
        Use(acme, "pages", "2.5", "ml-1", TAGS, NOON - HOUR + timedelta(minutes=5)),
        Use(acme, "pages", 1, "new-2"),
        Use(acme, "no_such_dimension", 3, "plain-3"),
    ]
    report = usage.record_many(rows, now=NOW, dry_run=is_dry)
    assert report.accepted == {"billable": 2}
    assert [(each.number, each.key) for each in report.known] == [(2, "plain-1"), (4, "ml-1")]
    assert [each.number for each in report.refused] == [3, 6]
    assert all("was used before" in each.reason for each in report.refused)
    assert UsageEvent.objects.count() == (0 if is_dry else 2)


def test_many_uses_that_are_all_archived_store_nothing(month):
    rows = [
        Use(event.organization_id, "pages", event.quantity, event.key, event.tags, event.occurred_at)
        for event in UsageEvent.objects.all()
    ]
    retention.archive(now=NOW)
    report = usage.record_many(rows, now=NOW)
    assert (len(report.known), len(report.refused), report.accepted.total()) == (8, 0, 0)
    assert not UsageEvent.objects.exists()


def test_cancelling_an_archived_use_names_the_way_that_is_left(month):
    retention.archive(now=NOW)
    with pytest.raises(usage.AlreadyMetered, match="archived"):
        usage.cancel(month.organization, "plain-1", reason="r", now=NOW)


# --- The database itself


def execute(sql, *parameters):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def put_back(key: ArchivedUsageKey, text: str) -> None:
    total = key.total
    execute(
        "INSERT INTO billing_usageevent (organization_id, agreement_id, dimension_id, quantity, occurred_at, "
        "recorded_at, key, tags, disposition) VALUES (%s, %s, %s, 1, %s, %s, %s, '{}', 'billable')",
        key.organization_id, total.agreement_id, total.dimension_id, "2028-01-10", "2028-01-10", text,
    )  # fmt: skip


def test_raw_sql_cannot_insert_an_archived_key(month):
    retention.archive(now=NOW)
    key = ArchivedUsageKey.objects.get(digest=archived_keys.digest("plain-1"))
    with pytest.raises(IntegrityError, match="usage_event_key_is_archived"):
        put_back(key, "plain-1")
    put_back(key, "plain-9")


@pytest.mark.parametrize("text", ["مفتاح", "🔑", "'); --", "k" * 200])
def test_the_databases_digest_of_a_key_is_ours(month, text):
    retention.archive(now=NOW)
    total = UsageArchiveTotal.objects.first()
    key = ArchivedUsageKey.objects.create(
        id=10**12,
        organization=month.organization,
        digest=archived_keys.digest(text),
        content=uuid.uuid4(),
        occurred_at=NOON,
        total=total,
    )
    with pytest.raises(IntegrityError, match="usage_event_key_is_archived"):
        put_back(key, text)


def test_one_key_is_archived_once(month):
    retention.archive(now=NOW)
    key = ArchivedUsageKey.objects.first()
    key.pk += 10**6
    with pytest.raises(IntegrityError, match="(?i)unique"), transaction.atomic():
        key.save(force_insert=True)


def keep(event: UsageEvent, **changes) -> None:
    """A key as an archive would leave it, but for ``changes``."""
    archive = UsageArchive.objects.create(
        agreement=event.agreement, month=date(2026, 11, 1), name=f"n{event.pk}", sha256="0", size=1,
        event_count=1, made_at=NOW,
    )  # fmt: skip
    total = UsageArchiveTotal.objects.create(
        archive=archive, agreement=event.agreement, organization=event.organization,
        dimension=event.dimension, day=NOON.date(),
        disposition="billable", quantity=1, event_count=1,
    )  # fmt: skip
    of = {
        "id": event.pk,
        "organization": event.organization,
        "digest": archived_keys.digest(event.key),
        **changes,
    }
    ArchivedUsageKey.objects.create(content=uuid.uuid4(), occurred_at=NOON, total=total, **of)


@pytest.mark.parametrize("changes", [None, {"id": 10**9}, {"digest": uuid.uuid4()}])
def test_raw_sql_cannot_delete_a_use_whose_key_is_not_kept(month, changes):
    event = UsageEvent.objects.get(key="plain-1")
    if changes is not None:
        keep(event, **changes)
    with pytest.raises(IntegrityError, match="usage_event_never_deleted"):
        execute("DELETE FROM billing_usageevent WHERE id = %s", event.pk)


@pytest.mark.parametrize(
    "state", ["accepted", "not_due", "written_off", "due", "in_doubt", "parked", "expired"]
)
def test_raw_sql_cannot_delete_a_use_of_an_unsettled_record(agreement, state):
    event = use(agreement, 1, at=NOON - HOUR)
    metering.close_hours(region=REGION, now=NOON + timedelta(minutes=5))
    MeteringRecord.objects.update(state=state)
    keep(event)
    delete = "DELETE FROM billing_usageevent WHERE id = %s"
    if state in retention.SETTLED:
        execute(delete, event.pk)
        return
    with pytest.raises(IntegrityError, match="usage_event_never_deleted"):
        execute(delete, event.pk)


@pytest.mark.parametrize("disposition", UsageEvent.Disposition.values)
def test_raw_sql_cannot_delete_open_or_undecided_usage(agreement, disposition):
    event = use(agreement, 1, at=NOON - HOUR)
    UsageEvent.objects.update(disposition=disposition)
    keep(event)
    delete = "DELETE FROM billing_usageevent WHERE id = %s"
    if disposition in retention.NEVER_BILLED:
        execute(delete, event.pk)
        return
    with pytest.raises(IntegrityError, match="usage_event_never_deleted"):
        execute(delete, event.pk)


# --- What still tells of it


def test_statements_pages_and_quotas_say_what_they_said_before(catalog, acme, folder):
    flex = make_agreement(catalog, acme, "reports-flex")
    entitle(flex, 8)
    for back in (1, 2, 3):
        use(flex, "3.5", at=NOON - back * HOUR, key=f"u-{back}", tags=TAGS)
    use(flex, 7, at=NOON - 2 * HOUR, key="taken-back")
    usage.cancel(acme, "taken-back", reason="refunded", now=NOON)
    settle(now=NOON + timedelta(minutes=5))

    def told():
        period = Period("2026-11", "", NOVEMBER, Month.of(NOVEMBER).end, tuple(Grain))
        held = Tenures(flex.organization)
        sums = {
            grain: sorted(usage_sums.by_place([flex.pk], held, period, grain, zone=UTC, late_before=NOW))
            for grain in (Grain.DAY, Grain.MONTH)
        }
        statement = statements.of_organization(acme, Month.of(NOVEMBER), now=NOW)
        return (
            list(statements.as_csv(statement)),
            months.counted(Scope(Month.of(NOVEMBER)), "agreement", "dimension", "day"),
            sums,
            gates.drawn_from("included_pages", [flex.pk], now=NOON + HOUR),
        )

    before = told()
    assert before[3] == Decimal("10.5")
    retention.archive(now=NOW)
    assert not UsageEvent.objects.exists()
    assert told() == before
    assert breaches(folder) == []


def test_an_export_tells_sums_of_what_is_archived(month):
    retention.archive(now=NOW)
    data = {name: list(rows) for name, rows in exporting.of_organization(month.organization)}
    assert data["usage"] == []
    assert [(row["disposition"], row["quantity"], row["uses"]) for row in data["archived_usage"]] == [
        ("outside_agreement", "11", 1),
        ("billable", "16.5", 6),
        ("cancelled", "7", 1),
    ]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (NOON - 2 * HOUR, None),
        (None, NOON - 2 * HOUR),
        (NOON - timedelta(hours=12), NOON + timedelta(hours=12)),
        (NOON + timedelta(days=1), None),
    ],
)
def test_a_part_of_the_time_is_proved_too(month, since, until):
    retention.archive(now=NOW)
    assert [each.text for each in reconciliation.verify(since=since, until=until)] == []


# --- What verification finds


def spoil(sql, *parameters):
    triggers.drop_all(connection)
    execute(sql, *parameters)


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        (
            "UPDATE billing_usagearchivetotal SET quantity = quantity + 1 WHERE disposition = 'billable'",
            {"archived", "equation", "archive_totals"},
        ),
        (
            "UPDATE billing_usagearchivetotal SET quantity = quantity + 1 WHERE disposition = 'cancelled'",
            {"archive_totals"},
        ),
        ("UPDATE billing_usagearchivetotal SET day = '2026-11-20'", {"archived", "used", "archive_totals"}),
        ("UPDATE billing_usagearchive SET event_count = 1", {"archive_totals", "archive_keys"}),
        ("UPDATE billing_archivedusagekey SET occurred_at = '2026-11-01'", {"archive_keys"}),
        ("DELETE FROM billing_archivedusagekey", {"archive_keys"}),
        ("UPDATE billing_meteringrecord SET used = used + 1, quantity = quantity + 1", {"archived", "used"}),
    ],
)
def test_what_is_changed_of_an_archive_is_found(month, folder, sql, kinds):
    retention.archive(now=NOW)
    spoil(sql)
    assert kinds <= {each.partition(":")[0] for each in breaches(folder)}


def test_usage_that_vanished_without_an_archive_is_found(month, folder):
    retention.archive(now=NOW)
    use(month, 1, at=NOON + timedelta(minutes=5), key="later")
    settle(now=NOON + 2 * HOUR)
    spoil("DELETE FROM billing_usageevent")
    assert {each.partition(":")[0] for each in breaches(folder)} == {"archived", "equation"}


@pytest.mark.parametrize("change", ["cut", "flipped", "gone", "other"])
def test_a_file_that_is_not_what_was_written_is_found(month, folder, change):
    retention.archive(now=NOW)
    path = folder / UsageArchive.objects.order_by("pk").first().name
    content = bytearray(path.read_bytes())
    match change:
        case "cut":
            path.write_bytes(content[:-1])
        case "flipped":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "gone":
            path.unlink()
        case "other":
            path.write_bytes(gzip.compress(b"{}\n"))
    found = [
        each for each in archives.check(folder) if each.kind == "archive_file" and not each.is_information
    ]
    assert len(found) == 1
    # The ledger itself is proved without the files.
    assert list(reconciliation.verify()) == []


def test_an_archive_may_be_lost_but_its_keys_bill_nothing(month, folder):
    retention.archive(now=NOW)
    for path in folder.rglob("*.gz"):
        path.unlink()
    assert old(month, "plain-1").pk


def test_a_file_that_nobody_knows_is_a_note(month, folder):
    retention.archive(now=NOW)
    (folder / "1/2026-11-0000.unfinished").parent.mkdir(exist_ok=True)
    (folder / "1/2026-11-0000.unfinished").write_text("x")
    found = list(archives.check(folder))
    assert [(each.kind, each.is_information) for each in found] == [("archive_file", True)]


# --- The commands


def run(name, *arguments, capsys):
    code = 0
    try:
        call_command(name, *arguments)
    except SystemExit as stop:
        code = stop.code
    except CommandError as error:
        return error.returncode, str(error)
    return code, capsys.readouterr().out


def test_the_command_says_what_left_and_what_waits(month, catalog, acme, capsys, monkeypatch):
    monkeypatch.setattr("billing.management.commands.archive_usage.timezone.now", lambda: NOW)
    other = make_agreement(catalog, acme)
    use(other, 1, at=NOON - HOUR)
    wait = f"Agreement {other.pk} ({other.agreement_id}) keeps 2026-11: open usage.\n"
    assert run("archive_usage", "--dry-run", capsys=capsys) == (
        0,
        wait + "8 uses from before 2026-12 would leave, in 0 files; 1 months wait.\n",
    )
    assert UsageEvent.objects.count() == 9
    assert run("archive_usage", capsys=capsys) == (
        0,
        wait + "8 uses from before 2026-12 left, in 2 files; 1 months wait.\n",
    )
    assert run("verify_archive", capsys=capsys) == (0, "0 breaches, 0 notes.\n")
    assert run("verify_ledger", capsys=capsys)[0] == 0


def test_the_command_needs_a_directory(month, settings, capsys):
    settings.USAGE_ARCHIVE_DIR = ""
    assert run("archive_usage", capsys=capsys)[0] == 2
    assert run("verify_archive", capsys=capsys)[0] == 2


def test_a_directory_that_cannot_be_written_loses_nothing(month, settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("billing.management.commands.archive_usage.timezone.now", lambda: NOW)
    (tmp_path / "file").write_text("")
    settings.USAGE_ARCHIVE_DIR = str(tmp_path / "file" / "below")
    code, text = run("archive_usage", capsys=capsys)
    assert (code, "cannot be written" in text) == (2, True)
    assert UsageEvent.objects.count() == 8


def test_a_disk_that_changes_what_was_written_loses_nothing(month, monkeypatch):
    whole = archive_files.write

    def write(*arguments, **options):
        file = whole(*arguments, **options)
        with (archive_files.folder() / file.name).open("r+b") as spoiled:
            spoiled.seek(40)
            spoiled.write(b"\x00\x00")
        return file

    monkeypatch.setattr(archive_files, "write", write)
    with pytest.raises(archive_files.FileUnusable):
        retention.archive(now=NOW)
    assert UsageEvent.objects.count() == 8
    assert not UsageArchive.objects.exists()


def test_verify_archive_exits_with_one_on_a_breach(month, folder, capsys):
    retention.archive(now=NOW)
    next(folder.rglob("*.gz")).unlink()
    code, text = run("verify_archive", capsys=capsys)
    assert code == 1
    assert "BREACH archive_file" in text
    assert "1 breaches" in text


# --- Two at once, and dying anywhere


@pytest.mark.django_db(transaction=True)
def test_a_second_run_at_once_is_told_so(month, capsys):
    with leases.hold(retention.LEASE, length=retention.LEASE_LENGTH):
        assert run("archive_usage", capsys=capsys) == (1, "Another run is at work.")


@pytest.mark.postgresql  # SQLite's writers are one after the other
@pytest.mark.django_db(transaction=True)
def test_two_runs_past_the_lease_archive_once(month, folder, monkeypatch):
    both = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(
        parts.crashpoints, "reached", lambda point: both.wait() if point == "archiving.written" else None
    )
    failed = []

    def archive():
        try:
            retention.archive(now=NOW)
        except (IntegrityError, parts.Changed) as error:
            both.abort()
            failed.append(error)
        except threading.BrokenBarrierError:
            pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=archive) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(failed) == 1
    monkeypatch.undo()
    retention.archive(now=NOW)
    assert breaches(folder) == []
    assert ArchivedUsageKey.objects.count() == 8


@pytest.mark.postgresql  # on SQLite the writers are one after the other, and each sees what is
@pytest.mark.django_db(transaction=True)
def test_a_key_recorded_while_it_is_being_archived_is_counted_once(month, folder):
    """The insert finds the key, waits for the archiver that removes it, and must not go in afterwards."""
    removed, told = threading.Event(), []

    def reached(point):
        if point == "archiving.removed" and not removed.is_set():
            removed.set()
            recorder.start()
            while not waits():
                pass

    def waits() -> bool:
        with connection.cursor() as cursor:
            # Of this database: others are tested on the same server at the same time.
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks"
                " JOIN pg_database ON pg_database.oid = database WHERE datname = current_database())"
            )
            return cursor.fetchone()[0] > 0

    def record():
        try:
            told.append(old(month, "plain-1").pk)
        except IntegrityError as error:
            told.append(error)
        finally:
            connections.close_all()

    recorder = threading.Thread(target=record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.crashpoints, "reached", reached)
        retention.archive(now=NOW)
    recorder.join()
    assert removed.is_set()
    assert "usage_event_key_is_archived" in str(told[0])
    assert not UsageEvent.objects.exists()
    assert old(month, "plain-1").pk  # asked again, it is known
    assert breaches(folder) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", parts.POINTS)
@pytest.mark.parametrize("hit", [1, 2])
def test_killed_at_any_named_line_nothing_is_lost_or_doubled(month, folder, point, hit):
    from tests.journeys.crashes import dies_at

    assert dies_at(point, lambda: retention.archive(now=NOW), hit=hit)
    assert breaches(folder) == []
    assert UsageEvent.objects.count() + ArchivedUsageKey.objects.count() == 8
    retention.archive(now=NOW)
    assert not UsageEvent.objects.exists()
    assert ArchivedUsageKey.objects.count() == 8
    assert breaches(folder) == []


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_killed_at_fifty_random_moments_nothing_is_lost_or_doubled(month, folder, monkeypatch):
    import random

    from tests.journeys.crashes import dies_after

    chance, died, keys, more = random.Random(20261126), 0, 8, 0
    monkeypatch.setattr(retention, "PART_EVENTS", 5)
    while died < 50:
        died += dies_after(chance.uniform(0.005, 0.12), lambda: retention.archive(now=NOW))
        assert UsageEvent.objects.count() + ArchivedUsageKey.objects.count() == keys
        if not UsageEvent.objects.exists():
            more += 1
            hour = NOON + (more + 1) * HOUR
            for number in range(20):
                use(month, 1, at=hour - HOUR, key=f"more-{more}-{number}")
            settle(now=hour + timedelta(minutes=5))
            keys += 20
    retention.archive(now=NOW)
    assert breaches(folder) == []
    assert ArchivedUsageKey.objects.count() == keys

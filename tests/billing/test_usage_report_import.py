"""Importing AWS's usage report: all of it or nothing, once, and the newer word stands."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from billing.models import AuditEvent, UsageReport, UsageReportLine
from billing.reconciliation import report_rows
from billing.reconciliation.report_rows import ReportUnusable
from tests.billing.ledger import NOON, make_agreement, make_record
from tests.billing.reporting import bill, imported, row, text_of, told_by_aws

pytestmark = pytest.mark.django_db


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


def current():
    lines = UsageReportLine.objects.current().order_by("day", "number")
    return [(f"{line.day:%d}", line.quantity) for line in lines]


def links():
    return list(
        AuditEvent.objects.filter(action="usage_report_imported")
        .order_by("pk")
        .values_list("stream", "actor")
    )


def test_a_report_by_day_finds_its_purchases(payg):
    found = imported(text_of([row(payg, "5.25"), row(payg, "1", day="2026-11-22")]))

    assert (found.is_new, found.replaced, found.unmatched) == (True, 0, 0)
    assert (found.report.line_count, str(found.report.first_day)) == (2, "2026-11-22")
    assert current() == [("22", Decimal(1)), ("23", Decimal("5.25"))]
    assert {line.agreement for line in UsageReportLine.objects.all()} == {payg}


def test_the_simulators_report_finds_its_purchases_by_license_and_hour(aws, catalog, acme):
    bought = bill(aws, catalog, acme)
    found = imported(told_by_aws(aws))

    lines = UsageReportLine.objects.all()
    assert found.unmatched == 0
    assert {line.agreement_id for line in lines} == {agreement.pk for agreement in bought}
    assert all(line.hour is not None for line in lines)


def test_the_same_file_twice_changes_nothing(payg):
    text = text_of([row(payg, 5)])
    first, second = imported(text), imported(text, name="copy.csv")

    assert (second.is_new, second.report, second.replaced) == (False, first.report, 0)
    assert UsageReportLine.objects.count() == 1
    assert len(links()) == 1


def test_the_same_rows_in_another_order_change_nothing(payg):
    rows = [row(payg, 5), row(payg, 6, day="2026-11-22")]
    imported(text_of(rows))
    again = imported(b"\xef\xbb\xbf" + text_of(rows[::-1]).replace(b"\r\n", b"\n"))

    assert not again.is_new
    assert UsageReport.objects.count() == 1


def test_a_newer_report_replaces_what_it_covers_and_the_old_is_kept(payg):
    old = imported(text_of([row(payg, n, day=f"2026-11-{n:02}") for n in range(1, 7)]))
    new = imported(text_of([row(payg, 30, day="2026-11-03"), row(payg, 50, day="2026-11-05")]))

    assert new.replaced == 3  # the 4th is gone: nothing was billed for it after all
    assert current() == [("01", 1), ("02", 2), ("03", 30), ("05", 50), ("06", 6)]
    assert old.report.lines.count() == 6
    assert set(old.report.lines.exclude(replaced_by=None).values_list("replaced_by", flat=True)) == {
        new.report.pk
    }


def test_a_report_of_one_product_leaves_the_others_alone(payg, catalog, acme):
    flex = make_agreement(catalog, acme, "reports-flex")
    imported(text_of([row(payg, 1), row(flex, 2)]))
    imported(text_of([row(payg, 9)]))

    assert sorted(quantity for _day, quantity in current()) == [2, 9]


def test_an_older_file_counts_again_only_when_somebody_says_so(payg):
    first, second = text_of([row(payg, 1)]), text_of([row(payg, 2)])
    imported(first)
    imported(second)

    by_chance = imported(first)
    assert (by_chance.is_outdated, current()) == (True, [("23", 2)])
    on_purpose = imported(first, again=True)
    assert (on_purpose.replaced, current()) == (1, [("23", 1)])
    assert not imported(first, again=True).replaced
    assert imported(second, again=True).replaced == 1
    assert current() == [("23", 2)]


def test_rows_of_the_same_buyer_and_day_add_up(payg):
    imported(text_of([row(payg, 1), row(payg, 1), row(payg, "0.5")]))

    assert UsageReportLine.objects.current().aggregate(all=Sum("quantity"))["all"] == Decimal("2.5")


def test_rows_of_no_purchase_are_kept_and_found_when_it_becomes_known(catalog, acme, payg):
    rows = [
        row(payg, 1, end_user_aws_account_id="555555555555"),
        row(payg, 2, dimension_key="unheard"),
        row(payg, 3, product_code="another-product"),
        row(payg, 4, end_user_aws_account_id="", agreement_id="agmt-unknown"),
        row(payg, 5),
    ]
    assert imported(text_of(rows)).unmatched == 4
    assert len(current()) == 5

    late = make_agreement(catalog, acme, account="555555555555")
    imported(text_of([row(payg, 5, day="2026-11-22")]))
    assert UsageReportLine.objects.get(quantity=1).agreement == late


def test_of_several_purchases_that_one_is_meant_which_was_metered_then(catalog, acme):
    old = make_agreement(catalog, acme, account="555555555555", ended_at=NOON - timedelta(days=1))
    new = make_agreement(catalog, acme, account="555555555555", activated_at=NOON - timedelta(hours=2))
    imported(text_of([row(new, 1), row(new, 2, day="2026-11-21")]))
    assert [line.agreement for line in UsageReportLine.objects.order_by("number")] == [new, old]


def test_of_several_active_purchases_that_one_is_meant_of_which_something_was_accepted(catalog, acme):
    first = make_agreement(catalog, acme, account="555555555555")
    second = make_agreement(catalog, acme, account="555555555555")
    make_record(second, NOON - timedelta(hours=1), 5, state="accepted")
    found = imported(text_of([row(first, 5), row(first, 6, day="2026-11-22")]))

    assert found.unmatched == 1
    assert UsageReportLine.objects.get(quantity=5).agreement == second


def test_the_agreement_id_that_aws_tells_comes_first(catalog, acme):
    make_agreement(catalog, acme, account="555555555555")
    second = make_agreement(catalog, acme, account="555555555555")
    imported(text_of([row(second, 5, agreement_id=second.agreement_id)]))

    assert UsageReportLine.objects.get().agreement == second


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no column product_code"),
        (b"a,b\n1,2\n", "no column product_code, end_user_aws_account_id"),
        (b"PK\x03\x04rest", "a file of Excel"),
        (b"\x1f\x8b\x08", "a file of gzip"),
        (text_of([]), "has no lines"),
        (text_of([row(), row(quantity="many")]), "Line 3: estimated_usage_units is “many”"),
        (text_of([row(), row(quantity="NaN")]), "Line 3: estimated_usage_units is “NaN”"),
        (text_of([row(), row(quantity="1e99")]), "Line 3"),
        (text_of([row(day="23.11.2026")]), "Line 2: usage_date is “23.11.2026”, not a day like 2026-11-23"),
        (text_of([row(product_code="")]), "Line 2: “” cannot stand in column product_code"),
        (text_of([row(dimension_key="x" * 256)]), "cannot stand in column dimension_key"),
        (text_of([row(region="a\x00b")]), "Line 2"),
        (text_of([row()]) + b"1,2\n", "Line 3 has another number of columns"),
        (text_of([row()]) + b'"open\n', "is no line of a CSV file"),
        (text_of([row()]) + b"\xff\xfe,,,,,,\n", "is not UTF-8"),
        (text_of([{**row(), "row_type": "INSERT"}]), "no column internal_usage_line_item_id"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_line_and_nothing_is_imported(text, words, payg):
    with pytest.raises(ReportUnusable) as unusable:
        imported(text)

    assert words in str(unusable.value)
    assert not UsageReport.objects.exists()


def test_what_fails_half_way_leaves_nothing(payg, monkeypatch):
    rows = [row(payg, n, day=f"2026-11-{n:02}") for n in range(1, 9)]
    imported(text_of(rows[:4]))
    monkeypatch.setattr("billing.reconciliation.importing._AT_ONCE", 2)
    monkeypatch.setattr("billing.reconciliation.importing.audit.record", lambda *a, **k: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        imported(text_of(rows))
    assert (UsageReport.objects.count(), len(current())) == (1, 4)


def test_a_file_over_100_mb_is_not_read(monkeypatch, payg):
    monkeypatch.setattr(report_rows, "MOST_BYTES", 10)
    with pytest.raises(ReportUnusable, match="more than 100 MB"):
        imported(text_of([row(payg)]))


def test_more_decimals_than_are_metered_are_rounded(payg):
    imported(text_of([row(payg, "0.0000005000001"), row(payg, "-3", day="2026-11-22")]))

    assert current() == [("22", -3), ("23", Decimal("0.000001"))]


# --- A file of changes, of AWS's data subscription


def change(agreement, quantity, line, kind="INSERT", at="2026-11-23T01:00:00Z", **cells):
    ids = {"internal_usage_line_item_id": line, "row_type": kind, "row_modified_date": at}
    return {**row(agreement, quantity, **cells), **ids}


def test_changes_stand_in_the_order_in_which_aws_made_them(payg):
    rows = [
        change(payg, 7, "a", "UPDATE", at="2026-11-23T03:00:00Z"),
        change(payg, 5, "a"),
        change(payg, 2, "b"),
        change(payg, 2, "b", "DELETE", at="2026-11-23T02:00:00Z"),
    ]
    imported(text_of(rows))
    assert sorted(quantity for _day, quantity in current()) == [0, 7]

    imported(text_of([change(payg, 8, "a", "UPDATE", at="2026-11-23T04:00:00Z"), change(payg, 1, "c")]))
    assert sorted(quantity for _day, quantity in current()) == [0, 1, 8]
    older = imported(
        text_of([change(payg, 6, "a", "UPDATE", at="2026-11-23T02:30:00Z"), change(payg, 2, "b")])
    )
    assert older.is_new
    assert sorted(quantity for _day, quantity in current()) == [0, 1, 8]


def test_a_day_is_told_whole_or_by_its_changes(payg):
    imported(text_of([row(payg, 5)]))
    imported(text_of([change(payg, 7, "a")]))
    assert current() == [("23", 7)]
    imported(text_of([row(payg, 9)]))
    assert current() == [("23", 9)]


# --- Who may, and what is told of it


def test_an_import_is_audited_with_who_did_it(payg, operator):
    imported(text_of([row(payg, 1)]), by=operator)
    imported(text_of([row(payg, 2)]))

    assert links() == [("staff", f"user:{operator.pk}"), ("system", "command")]
    link = AuditEvent.objects.filter(action="usage_report_imported").first()
    assert (link.data["lines"], link.data["replaced"], link.data["unmatched"]) == (1, 1, 0)


def test_the_command_imports_and_says_what_it_did(payg, tmp_path):
    path = tmp_path / "usage.csv"
    path.write_bytes(text_of([row(payg, 1), row(payg, 2, product_code="another")]))
    said = StringIO()

    call_command("import_usage_report", path, stdout=said)
    call_command("import_usage_report", path, stdout=said)

    assert "2 lines, of 2026-11-23 to 2026-11-23." in said.getvalue()
    assert "1 lines match no purchase" in said.getvalue()
    assert "imported before, as report" in said.getvalue()


@pytest.mark.parametrize("content", [None, b"no report"])
def test_the_command_exits_with_2_on_what_it_cannot_use(tmp_path, content):
    path = tmp_path / "usage.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError) as error:
        call_command("import_usage_report", path)
    assert error.value.returncode == 2

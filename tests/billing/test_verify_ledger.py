"""`manage.py verify_ledger`: what an owner types, reads and can act upon."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing import metering, reconciliation, submission, triggers
from billing.aws.window import HOUR
from billing.models import MeteringRecord
from tests.billing.ledger import NOON, REGION, bought_agreement, make_agreement, make_record, use

NOW = NOON + timedelta(minutes=5)


@pytest.fixture
def agreement(aws, catalog, acme):
    aws.control.freeze(NOW)
    agreement = bought_agreement(aws, catalog, acme)
    use(agreement, "17.5")
    metering.close_hours(region=REGION, now=NOW)
    assert submission.submit_due(aws.marketplace, now=NOW) == 1
    return agreement


@pytest.fixture
def verify(capsys):
    """Runs the command; returns its exit code and what it printed."""

    def run(*arguments):
        code = 0
        try:
            call_command("verify_ledger", *map(str, arguments))
        except SystemExit as stop:
            code = stop.code
        except CommandError as error:
            return error.returncode, str(error)
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def invoice(aws, agreement, tmp_path):
    path = tmp_path / "invoice.json"
    path.write_text(json.dumps(aws.control.invoice()))
    return path


def test_a_clean_ledger_exits_with_zero(agreement, invoice, verify):
    assert verify() == (0, "0 breaches, 0 notes.\n")
    assert verify("--invoice", invoice) == (0, "0 breaches, 0 notes.\n")


def test_a_breach_is_a_line_with_its_ids_and_both_figures(agreement, verify):
    record = MeteringRecord.objects.get()
    triggers.drop_all(connection)
    MeteringRecord.objects.update(wire_quantity="18")
    code, said = verify()
    assert code == 1
    assert said == (
        f"BREACH wire: agreement {agreement.pk}, pages, 2026-11-23T11:00Z, record {record.pk}: "
        "AWS is told 18, the quantity is 17.5 [expected 17.5, found 18]\n"
        "1 breaches (wire: 1), 0 notes.\n"
    )


def test_an_id_of_awss_on_two_records_is_a_breach_of_both(agreement, catalog, acme, verify):
    first = MeteringRecord.objects.get()
    other = make_agreement(catalog, acme)
    second = make_record(other, NOON - 9 * HOUR, 0, state="accepted", aws_record_id=first.aws_record_id)
    make_record(other, NOON - 8 * HOUR, 0, state="accepted", aws_record_id="another")
    code, said = verify()
    assert code == 1
    for record, twin in ((first, second), (second, first)):
        assert (
            f"{record.hour:%Y-%m-%dT%H:%MZ}, record {record.pk}: AWS's id {first.aws_record_id} is also on "
            f"record {twin.pk}: AWS took one of them [expected 1 record, found 2]"
        ) in said
    assert "same_aws_id: 2" in said
    for name, owned in ((agreement.pk, first), (other.pk, second)):
        _, said = verify("--agreement", name)
        assert ("same_aws_id: 1" in said, f"record {owned.pk}: AWS's id" in said) == (True, True)
    _, said = verify("--since", f"{first.hour:%Y-%m-%dT%H:%M}")
    assert "same_aws_id: 1" in said


def test_an_agreement_has_many_names(agreement, verify):
    triggers.drop_all(connection)
    MeteringRecord.objects.update(wire_quantity="18")
    for name in (
        agreement.pk,
        agreement.agreement_id,
        agreement.license_id,
        agreement.license_arn,
        agreement.license_arn.removeprefix("arn:"),
    ):
        assert verify("--agreement", name)[0] == 1
    for name in ("agmt-unknown", "999999", "9" * 40, "l-unknown", "²"):
        assert verify("--agreement", name) == (2, f"There is no agreement {name!r}.")


@pytest.mark.parametrize(
    ("since", "code"),
    [("2026-11-23", 1), ("2026-11-23T11:00", 1), ("2026-11-23T13:00+01:00", 0), ("2026-11-23T12:00Z", 0)],
)
def test_since_is_an_hour_in_utc_unless_it_says_otherwise(agreement, verify, since, code):
    triggers.drop_all(connection)
    MeteringRecord.objects.update(wire_quantity="18")
    assert verify("--since", since)[0] == code


@pytest.mark.parametrize(("until", "code"), [("2026-11-23T11:00", 0), ("2026-11-23T12:00", 1)])
def test_until_is_the_first_hour_left_out(agreement, verify, until, code):
    triggers.drop_all(connection)
    MeteringRecord.objects.update(wire_quantity="18")
    assert verify("--since", "2026-11-01", "--until", until)[0] == code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "usage_date"),
        ("a,b\n1,2\n", "not AWS's usage report"),
        ("{", "neither"),
        ("[]", "neither"),
        ('{"lines": 5}', "not a list"),
        ('{"lines": [5]}', "Line 1"),
        ('{"lines": [{"quantity": "1"}]}', "Line 1"),
        (
            "dimension_key,estimated_usage_units,product_code,end_user_aws_account_id,usage_date\n"
            "pages,1,code,123,2026-11-23\npages,NaN,code,123,2026-11-23\n",
            "Line 3",
        ),
        (
            "dimension_key,estimated_usage_units,product_code,end_user_aws_account_id,usage_date\n"
            "pages,1,code,123,yesterday\n",
            "Line 2",
        ),
        (
            "dimension_key,estimated_usage_units,product_code,end_user_aws_account_id,usage_date\np\n",
            "Line 2",
        ),
    ],
)
def test_a_file_that_is_no_invoice_exits_with_two(agreement, verify, tmp_path, text, words):
    path = tmp_path / "invoice"
    path.write_text(text)
    code, said = verify("--invoice", path)
    assert code == 2
    assert words in said


def test_a_file_that_is_not_there_exits_with_two(db, verify, tmp_path):
    code, said = verify("--invoice", tmp_path / "none.json")
    assert (code, "none.json" in said) == (2, True)


def test_a_report_by_day_says_how_it_is_compared(aws, agreement, verify, tmp_path):
    rows = [line.split(",") for line in aws.control.usage_report().splitlines()]
    kept = [index for index, name in enumerate(rows[0]) if not name.startswith("simulator_")]
    path = tmp_path / "usage.csv"
    path.write_text("\n".join(",".join(row[index] for index in kept) for row in rows))
    code, said = verify("--invoice", path)
    assert code == 0
    assert "whole days" in said
    assert "no licenses" in said


def test_a_difference_from_the_invoice_exits_with_one(agreement, verify, invoice):
    invoice.write_text('{"lines": []}')
    code, said = verify("--invoice", invoice)
    assert code == 1
    assert "BREACH not_on_invoice" in said
    assert "expected 17.5, found 0" in said


def test_help_lists_every_kind_of_breach(capsys):
    with pytest.raises(SystemExit):
        call_command("verify_ledger", "--help")
    said = capsys.readouterr().out
    assert all(kind in said and text in said for kind, text in reconciliation.KINDS.items())

"""The second opinion: a clean ledger has no breach, and each kind of breach is named."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection

from billing import decisions, entitlements, identity, metering, reconciliation, submission, triggers, usage
from billing.aws.errors import error_for
from billing.aws.window import HOUR
from billing.models import Dimension, Entitlement, MeteringRecord, SubmissionLine, UsageEvent
from tests.billing.ledger import (
    BEGIN,
    NOON,
    REGION,
    ScriptedAws,
    bought_agreement,
    entitle,
    granted,
    license_arn,
    make_agreement,
    make_record,
    says,
    use,
)

NOW = NOON + timedelta(minutes=5)


def close(now=NOW):
    return metering.close_hours(region=REGION, now=now)


def settle(*answers, now=NOW):
    close(now)
    return submission.submit_due(ScriptedAws(*answers), now=now)


def texts(**options):
    return [breach.text for breach in reconciliation.verify(**options)]


def kinds(**options):
    return {breach.kind for breach in reconciliation.verify(**options)}


def notes():
    return [found.kind for found in reconciliation.findings() if found.is_information]


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def flex(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    return agreement


@pytest.fixture
def record(payg):
    """One accepted record: 7 pages, 5 of them of team a, 2 of team b."""
    use(payg, 5, tags={"team": "a"})
    use(payg, 2, tags={"team": "b"})
    assert settle() == 1
    assert texts() == []
    triggers.drop_all(connection)
    return MeteringRecord.objects.get()


def tamper(record, **values):
    MeteringRecord.objects.filter(pk=record.pk).update(**values)


# --- Clean ledgers


def test_nothing_recorded_is_no_breach(payg):
    assert texts() == []


def test_overage_over_several_hours_is_no_breach(flex):
    for number in range(1, 6):
        use(flex, 33, at=NOON - number * HOUR, tags={"team": "a"})
        use(flex, "0.000001", at=NOON - number * HOUR, tags={"team": "b"})
    assert settle() == 2  # three hours lie within the allowance
    assert MeteringRecord.objects.count() == 5
    assert texts() == []


def test_two_dimensions_that_share_a_pool_are_no_breach(catalog, flex):
    pages = flex.product.dimensions.get(key="pages")
    Dimension.objects.create(
        product=flex.product, key="exports", label="Exports", kind="metered", included_by=pages.included_by
    )
    for number in range(1, 4):
        use(flex, 40, at=NOON - number * HOUR)
        use(flex, 30, at=NOON - number * HOUR, dimension="exports")
    settle()
    assert sum(MeteringRecord.objects.values_list("included", flat=True)) == 100
    assert texts() == []


def test_a_monthly_allowance_over_the_end_of_a_month_is_no_breach(catalog, acme):
    Dimension.objects.filter(included_by__isnull=False).update(allowance_period="month")
    month = NOON.replace(month=12, day=1, hour=0)
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    for number in (-2, -1, 0, 1):
        use(agreement, 80, at=month + number * HOUR)
    settle(now=month + timedelta(hours=2, minutes=5))
    assert sum(MeteringRecord.objects.values_list("included", flat=True)) == 200
    assert texts() == []


def test_an_upgrade_in_the_middle_is_no_breach(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    upgraded = NOON - timedelta(hours=2, minutes=30)
    entitle(agreement, 100, until=upgraded)
    entitle(agreement, 150, since=upgraded)
    for number in range(1, 5):
        use(agreement, 60, at=NOON - number * HOUR)
    settle()
    assert texts() == []


def test_an_agreement_that_ended_with_its_entitlement_is_no_breach(catalog, acme):
    ended = NOON - timedelta(minutes=20)
    agreement = make_agreement(
        catalog, acme, "reports-flex", ended_at=ended, closes_at=ended + HOUR
    )  # fmt: skip
    entitle(agreement, 100, until=ended)
    use(agreement, 130, at=NOON - timedelta(minutes=40))
    settle()
    assert MeteringRecord.objects.get().quantity == 30
    assert texts() == []


def test_late_too_late_cancelled_and_open_usage_are_no_breach(payg):
    use(payg, 3)
    close()
    use(payg, 4, now=NOW)  # its hour is closed: the next one takes it
    use(payg, 5, at=NOW)
    use(payg, 6, at=NOON - 30 * HOUR, now=NOW)
    assert UsageEvent.objects.filter(disposition="too_late").count() == 1
    settle(now=NOW + HOUR)
    assert texts() == []


def test_tags_that_were_folded_are_no_breach(payg):
    at = NOON - timedelta(minutes=30)
    use_of = partial(usage.Use, payg.organization, "pages", occurred_at=at, agreement=payg)
    rows = (use_of(number + 1, key=str(number), tags={"n": str(number)}) for number in range(2600))
    assert usage.record_many(rows, now=at).accepted == {"billable": 2600}
    settle()
    assert len(json.loads(MeteringRecord.objects.get().wire_allocations)) == 2500
    assert texts() == []


def test_a_voided_record_whose_usage_is_billed_late_is_no_breach(flex, acme_admin):
    use(flex, 130)
    settle(error_for("InvalidTagException", "no"))
    why = {"by": acme_admin, "reason": "tags", "now": NOW}
    assert decisions.void(MeteringRecord.objects.all(), **why).done
    assert texts() == []
    assert decisions.bill_late_usage(UsageEvent.objects.all(), **why).done
    assert settle(now=NOW + HOUR) == 1
    assert sorted(MeteringRecord.objects.values_list("state", "included")) == [
        ("accepted", 100),
        ("void", 100),
    ]
    assert texts() == []


def test_records_closed_before_another_was_voided_are_no_breach(flex, acme_admin):
    use(flex, 80, at=NOON - HOUR)
    use(flex, 80)
    settle(error_for("InvalidTagException", "no"), error_for("InvalidTagException", "no"), None)
    refused = MeteringRecord.objects.filter(state="parked").order_by("pk").first()
    later = NOW + timedelta(minutes=7)
    decisions.void([refused], by=acme_admin, reason="tags", now=later)
    use(flex, 10, at=later)
    settle(now=NOW + HOUR)
    assert texts() == []


def test_a_purchase_that_went_from_legacy_to_license_is_no_breach(catalog, acme, acme_admin):
    classic = make_agreement(catalog, acme, "reports-classic")
    use(classic, 3)
    settle()
    classic.license_arn, classic.license_id = license_arn("99"), f"l-{99:032}"
    classic.save()
    identity.switch_to_license(classic.pk, by=acme_admin, reason="opted in", now=NOW)
    use(classic, 4, at=NOW)
    settle(now=NOW + HOUR)
    assert MeteringRecord.objects.exclude(wire_license_arn=None).count() == 1
    assert texts() == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda lines: says("CustomerNotSubscribed", lines),
        lambda lines: says("DuplicateRecord", lines),
        lambda lines: says("Mystery", lines),
        error_for("ThrottlingException", "slow down"),
        error_for("InternalServiceErrorException", "sorry", status=500),
        error_for("InvalidTagException", "no"),
        error_for("AccessDeniedException", "no"),
        error_for("MysteryException", "no"),
    ],
)
def test_whatever_aws_answers_is_no_breach(payg, answer):
    use(payg, 3)
    settle(answer)
    assert texts() == []
    submission.submit_due(ScriptedAws(), now=NOW + timedelta(minutes=30))
    assert texts() == []
    submission.submit_due(ScriptedAws(lambda lines: says("DuplicateRecord", lines)), now=NOW + HOUR)
    assert texts() == []
    submission.submit_due(ScriptedAws(), now=NOW + timedelta(days=2))
    assert texts() == []


# --- What was learned later


def test_an_upgrade_that_is_told_after_closing_is_a_note(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex", entitlements_read_at=None)
    first = ScriptedAws(entitlements=[[granted("included_pages", 100)]])
    entitlements.sync(agreement, marketplace=first, now=BEGIN + HOUR)
    use(agreement, 130)
    settle()
    more = ScriptedAws(entitlements=[[granted("included_pages", 120)]])
    entitlements.sync(agreement, marketplace=more, now=NOW + HOUR, since=NOON - 5 * HOUR)
    assert texts() == []
    assert notes() == ["included"]


def tell(agreement, years, value=100, *, now, since=None):
    """AWS tells an expiry so many years on, and an amount."""
    expires_at = NOON + years * timedelta(days=365)
    aws = ScriptedAws(entitlements=[[granted("included_pages", value, expires_at=expires_at)]])
    assert entitlements.sync(agreement, marketplace=aws, now=now, since=since)


@pytest.fixture
def renewing(catalog, acme):
    """A contract in its first year that has used 60 of its 100 pages."""
    agreement = make_agreement(catalog, acme, "reports-flex", entitlements_read_at=None)
    tell(agreement, 1, now=BEGIN + HOUR)
    use(agreement, 60, at=NOON - 5 * HOUR)
    settle(now=NOON - 4 * HOUR)
    return agreement


def drawn():
    return list(MeteringRecord.objects.order_by("hour").values_list("included", flat=True))


def test_a_renewal_under_the_same_agreement_is_no_breach(renewing):
    tell(renewing, 2, now=NOON - 2 * HOUR, since=NOON - 2 * HOUR - timedelta(minutes=10))
    use(renewing, 70, at=NOON - 3 * HOUR)  # the renewal is in its last ten minutes
    use(renewing, 70, at=NOON - HOUR)
    settle()
    tell(renewing, 2, 120, now=NOW)
    use(renewing, 70, at=NOW)
    settle(now=NOW + HOUR)
    assert drawn() == [60, 70, 30, 20]
    assert texts() == []
    assert notes() == []


def test_a_renewal_that_is_told_after_closing_is_a_note(renewing):
    use(renewing, 70, at=NOON - 2 * HOUR)
    settle()
    tell(renewing, 2, now=NOW + timedelta(minutes=30), since=NOON - 3 * HOUR)
    assert drawn() == [60, 40]
    assert texts() == []
    assert notes() == ["included"]
    use(renewing, 70, at=NOW + timedelta(minutes=40))
    settle(now=NOW + HOUR)
    assert drawn() == [60, 40, 60]  # what was covered before it was told counts in the new term
    assert texts() == []
    assert notes() == ["included"]


# --- Each kind of breach


def test_a_use_more_than_the_record_has_is_named(record):
    UsageEvent.objects.filter(quantity=5).update(quantity=6)
    (breach, *_) = [each for each in reconciliation.verify() if each.kind == "used"]
    assert (breach.agreement, breach.dimension, breach.hour, breach.record) == (
        record.agreement_id,
        "pages",
        record.hour,
        record.pk,
    )
    assert (breach.expected, breach.found) == ("8", "7")
    assert "equation" in kinds()


def test_a_wrongly_covered_part_is_named(flex):
    use(flex, 130)
    settle()
    triggers.drop_all(connection)
    MeteringRecord.objects.update(included=90, quantity=40, wire_quantity="40")
    assert kinds() == {"included"}


def test_one_wrongly_covered_part_does_not_hide_another(flex):
    for number in (3, 2, 1):
        use(flex, 60, at=NOON - number * HOUR)
    settle()
    triggers.drop_all(connection)
    first, second, third = MeteringRecord.objects.order_by("hour")
    tamper(first, included=50, quantity=10, wire_quantity="10")
    tamper(second, included=50, quantity=10, wire_quantity="10")
    tamper(third, included=7, quantity=53, wire_quantity="53")
    wrong = {breach.record: breach for breach in reconciliation.verify() if breach.kind == "included"}
    assert [(wrong[each.pk].expected, wrong[each.pk].found) for each in (first, second, third)] == [
        ("60", "50"), ("40", "50"), ("0", "7"),
    ]  # fmt: skip
    assert "follows from a wrong one" in wrong[second.pk].text
    assert "follows from a wrong one" not in wrong[third.pk].text


@pytest.mark.parametrize(
    ("years", "right", "wrong"),
    [(2, 100, 40), (2, 100, 60), (2, 100, 110), (1, 41, 101), (1, 41, 110)],
)
def test_a_record_that_drew_on_the_wrong_term_is_named(renewing, years, right, wrong):
    tell(renewing, years, 100 if years == 2 else 101, now=NOON - 2 * HOUR)
    use(renewing, 110, at=NOON - HOUR)
    settle()
    assert drawn() == [60, right]
    assert texts() == []
    triggers.drop_all(connection)
    record = MeteringRecord.objects.get(included=right)
    tamper(record, included=wrong, quantity=110 - wrong, wire_quantity=str(110 - wrong))
    found = [each for each in reconciliation.verify() if each.kind == "included"]
    assert [(each.expected, each.found) for each in found] == [(str(right), str(wrong))]


def test_an_allowance_changed_by_hand_is_named(flex):
    use(flex, 130)
    settle()
    triggers.drop_all(connection)
    Entitlement.objects.update(integer_value=120)
    assert kinds() == {"included"}


def test_a_quantity_that_nobody_checked_is_named(record):
    table = MeteringRecord._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            name = "metering_record_quantity_is_used_less_included"
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        else:
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(f"UPDATE {table} SET quantity = 8000000, wire_quantity = '8'")
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = OFF")
    assert kinds() == {"quantity", "equation", "allocations"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"wire_quantity": "7.0"}, "wire"),
        ({"wire_timestamp": NOON + 5 * HOUR}, "wire"),
        ({"wire_timestamp": NOON - timedelta(minutes=50)}, "wire"),
        ({"wire_license_arn": license_arn("12345")}, "identity"),
        ({"wire_account_id": "999999999999"}, "identity"),
        ({"submit_by": NOON + timedelta(days=9)}, "deadline"),
        ({"wire_allocations": ""}, "allocations"),
        ({"wire_allocations": '[{"quantity":"7","tags":{"team":"a"}}]'}, "allocations"),
        (
            {
                "wire_allocations": '[{"quantity":"4","tags":{"team":"a"}},'
                '{"quantity":"3","tags":{"team":"b"}}]'
            },
            "allocations",
        ),
        ({"wire_allocations": "nonsense"}, "allocations"),
        ({"state": "due"}, "state"),
        ({"state": "parked"}, "state"),
        ({"state": "conflict"}, "state"),
        ({"state": "not_due"}, "state"),
        ({"state": "written_off"}, "state"),
        ({"aws_record_id": "another"}, "state"),
        ({"hour": NOON - 6 * HOUR}, "wire"),
    ],
)
def test_a_record_changed_by_hand_is_named(record, values, kind):
    tamper(record, **values)
    assert kind in kinds()
    assert all(str(breach.record) and breach.text for breach in reconciliation.verify())


@pytest.mark.parametrize(
    ("state", "statuses"),
    [
        ("accepted", []),
        ("accepted", ["DuplicateRecord"]),
        ("accepted", ["DuplicateRecord", ""]),
        ("accepted", ["Unprocessed"]),
        ("conflict", ["", "DuplicateRecord"]),
        ("conflict", ["Unprocessed"]),
        ("parked", []),
        ("parked", ["Unprocessed"]),
        ("waiting", []),
        ("waiting", ["Unprocessed"]),
        ("due", [""]),
        ("due", ["Success"]),
        ("in_doubt", []),
        ("in_doubt", ["Unprocessed"]),
        ("in_doubt", ["", "DuplicateRecord"]),
        ("expired", ["Success"]),
        ("held", ["Success"]),
        ("void", [""]),
        ("written_off", ["Success"]),
    ],
)
def test_a_state_that_aws_never_answered_is_named(payg, state, statuses):
    record = make_record(payg, NOON - HOUR, 0, state=state)
    for status in statuses:
        call = record.submission_lines.model.submission.field.related_model.objects.create(
            token=1, record_count=1, started_at=NOW, finished_at=NOW, outcome="answered"
        )
        SubmissionLine.objects.create(submission=call, record=record, status=status)
    assert kinds() == {"state"}


def test_a_use_in_the_record_of_another_agreement_is_named(record, catalog, acme):
    other = make_agreement(catalog, acme)
    UsageEvent.objects.filter(quantity=2).update(agreement=other)
    found = [each for each in reconciliation.verify() if each.kind == "misplaced_event"]
    assert [(each.agreement, each.record) for each in found] == [(other.pk, record.pk)]
    assert {"used", "equation"} <= kinds()


def test_a_use_in_the_record_of_another_dimension_is_named(record):
    exports = Dimension.objects.create(
        product=record.agreement.product, key="exports", label="Exports", kind="metered"
    )
    UsageEvent.objects.filter(quantity=2).update(dimension=exports)
    assert {"misplaced_event", "equation"} <= kinds()


def test_a_lost_use_breaks_the_equation(record):
    UsageEvent.objects.filter(quantity=2).delete()
    (breach,) = [each for each in reconciliation.verify() if each.kind == "equation"]
    assert (breach.expected, breach.found) == ("5", "7")
    assert "billed accepted 7" in breach.text


def test_an_hour_accepted_under_license_and_product_code_is_named(record, catalog, acme):
    twin = make_agreement(
        catalog, acme, account=record.agreement.customer.aws_account_id, identity="legacy"
    )  # fmt: skip
    make_record(twin, record.hour, 7, state="accepted")
    assert "metered_twice" in kinds()
    assert "metered_twice" in kinds(agreements=[record.agreement])


# --- Asking for a part


def test_since_and_agreement_limit_what_is_verified(record, catalog, acme):
    tamper(record, wire_quantity="9")
    other = make_agreement(catalog, acme)
    assert kinds() == {"wire"}
    assert kinds(agreements=[other]) == set()
    assert kinds(agreements=[record.agreement]) == {"wire"}
    assert kinds(since=record.hour) == {"wire"}
    assert kinds(since=record.hour + HOUR) == set()


def test_until_limits_what_is_verified(record):
    tamper(record, wire_quantity="9")
    UsageEvent.objects.filter(quantity=5).update(quantity=6)
    assert kinds(until=record.hour) == set()
    assert "wire" in kinds(until=record.hour + HOUR)
    assert "equation" in kinds(since=record.hour, until=record.hour + HOUR)


def test_with_until_open_usage_of_later_hours_is_not_asked_for(payg):
    use(payg, 3, at=NOON - HOUR)
    settle()
    use(payg, 4, at=NOW)
    for until in (NOON - HOUR, NOON, NOW, NOW + HOUR):
        assert texts(until=until) == []


def test_with_since_earlier_records_still_draw_on_the_allowance(flex):
    for number in (3, 2, 1):
        use(flex, 60, at=NOON - number * HOUR)
    settle()
    assert texts(since=NOON - 2 * HOUR) == []


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_all_is_read_as_of_one_instant(catalog, acme):
    agreement = make_agreement(catalog, acme)
    use(agreement, 3)
    settle()
    assert texts() == []
    use(agreement, 4, at=NOW)  # and the connection is free again
    assert texts() == []


# --- The invoice


@pytest.fixture
def billed(aws, catalog, acme):
    aws.control.freeze(NOW)
    for code in ("reports-payg", "reports-classic", "reports-flex"):
        agreement = bought_agreement(aws, catalog, acme, code)
        if code == "reports-flex":
            entitle(agreement, 100)
        for number in range(1, 4):
            use(agreement, "60.5", at=NOON - number * HOUR)
    close()
    assert submission.submit_due(aws.marketplace, now=NOW) == 8  # one hour is covered wholly
    return aws


@pytest.fixture
def invoice(billed, tmp_path):
    """Writes the invoice, changed as asked, and reads it."""

    def make(kind="json", change=lambda lines: None):
        path = tmp_path / f"invoice.{kind}"
        if kind == "json":
            told = billed.control.invoice()
            change(told["lines"])
            path.write_text(json.dumps(told))
        else:
            rows = [line.split(",") for line in billed.control.usage_report().splitlines()]
            change(rows)
            path.write_text("\n".join(",".join(row) for row in rows))
        return reconciliation.Invoice.read(path)

    return make


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_an_invoice_of_all_that_was_accepted_is_no_breach(invoice, kind):
    read = invoice(kind)
    assert (read.by_hour, read.by_license, len(read.lines)) == (True, True, 8)
    assert texts(invoice=read) == []


def test_a_line_missing_on_the_invoice_is_named(invoice):
    (breach,) = reconciliation.verify(invoice=invoice(change=lambda lines: lines.pop()))
    assert breach.kind == "not_on_invoice"
    assert breach.record is not None
    assert Decimal(breach.expected) > 0
    assert breach.found == "0"


def test_another_quantity_on_the_invoice_is_named(invoice):
    (breach,) = reconciliation.verify(
        invoice=invoice(change=lambda lines: lines[0].update(quantity="1.25"))
    )  # fmt: skip
    assert (breach.kind, breach.found) == ("differs_from_invoice", "1.25")


def test_an_hour_that_the_ledger_does_not_have_is_named(invoice):
    def another(lines):
        lines.append({**lines[0], "hour": "2026-11-22T03:00:00Z"})

    (breach,) = reconciliation.verify(invoice=invoice(change=another))
    assert (breach.kind, breach.expected) == ("not_in_ledger", "0")


def test_an_hour_twice_on_the_invoice_is_named(invoice):
    found = kinds(invoice=invoice(change=lambda lines: lines.append(lines[0])))
    assert found == {"billed_twice", "differs_from_invoice"}


def test_what_the_ledger_has_in_doubt_and_aws_billed_is_a_note(invoice):
    read = invoice()
    triggers.drop_all(connection)
    record = MeteringRecord.objects.order_by("pk").last()
    SubmissionLine.objects.filter(record=record).update(status="")
    tamper(record, state="in_doubt", aws_record_id=None)
    assert texts(invoice=read) == []
    found = reconciliation.findings(invoice=read)
    assert [note.kind for note in found if note.is_information] == ["not_in_ledger"]


def test_an_invoice_is_compared_for_one_agreement_or_from_an_hour_on(invoice):
    read = invoice(change=lambda lines: lines.clear())
    agreement = MeteringRecord.objects.order_by("pk").first().agreement
    assert len(texts(invoice=read)) == 8
    assert len(texts(invoice=read, agreements=[agreement])) == 3
    assert len(texts(invoice=read, since=NOON - HOUR)) == 3


def test_an_invoice_of_a_month_is_compared_up_to_its_end(invoice):
    read = invoice(change=lambda lines: lines.__setitem__(slice(None), [
        line for line in lines if line["hour"] < f"{NOON - HOUR:%Y-%m-%dT%H}"
    ]))  # fmt: skip
    assert kinds(invoice=read) == {"not_on_invoice"}
    assert texts(invoice=read, until=NOON - HOUR) == []


def daily(rows):
    """AWS's own report: no hours, no licenses, usage summed by day."""
    header = rows[0]
    keep = [index for index, name in enumerate(header) if not name.startswith("simulator_")]
    rows[:] = [[row[index] for index in keep] for row in rows]


def test_a_report_by_day_is_compared_by_day_and_account(invoice):
    read = invoice("csv", daily)
    assert (read.by_hour, read.by_license, len(read.lines)) == (False, False, 3)
    assert texts(invoice=read) == []

    def less(rows):
        daily(rows)
        rows.pop()

    (breach,) = reconciliation.verify(invoice=invoice("csv", less))
    assert breach.kind == "differs_from_invoice"


def test_a_day_that_is_cut_is_not_compared(invoice):
    read = invoice("csv", lambda rows: (daily(rows), rows.__delitem__(slice(2, None))))
    day = NOON.replace(hour=0)
    assert kinds(invoice=read, until=day + timedelta(days=1)) == {"not_on_invoice", "differs_from_invoice"}
    assert texts(invoice=read, until=NOON) == []
    assert texts(invoice=read, since=day + HOUR) == []

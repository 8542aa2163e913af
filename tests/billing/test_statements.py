"""A month's statement: exact, as of an instant it names, the same in each form."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta

import pytest

from accounts import organizations
from billing import statements, transfers
from billing.models import AuditEvent, Dimension, UsageEvent
from billing.reconciliation.months import Month
from tests.billing.ledger import NOON, make_agreement, make_record, use
from tests.billing.reporting import NOW, bill, imported, row, text_of, told_by_aws

STATEMENT = "/admin/billing/reconciliation/statement"
NOVEMBER = Month(2026, 11)
AFTER = datetime(2026, 12, 2, tzinfo=UTC)
FORMULA = '=HYPERLINK("http://x")'


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


def rows_of(statement):
    return list(csv.DictReader("".join(statements.as_csv(statement)).splitlines()))


def test_a_statement_tells_totals_days_and_tags(aws, catalog, acme):
    payg, flex = bill(aws, catalog, acme)
    imported(told_by_aws(aws))

    rows = rows_of(statements.of_organization(acme, NOVEMBER, now=NOW))

    totals = {each["product"]: each for each in rows if each["row"] == "total"}
    assert (totals[payg.product.title]["recorded"], totals[payg.product.title]["billed"]) == (
        "181.5",
        "181.5",
    )
    assert (totals[flex.product.title]["included"], totals[flex.product.title]["billed"]) == ("100", "81.8")
    tags = [(each["tags"], each["metered"]) for each in rows if each["row"] == "tags"]
    assert tags[:2] == [("", "121"), ("team: ml", "60.5")]
    assert {each["as_of"] for each in rows} == {"2026-11-23T12:05:00Z"}


def test_days_add_up_to_the_total_and_tags_to_what_is_metered(aws, catalog, acme):
    bill(aws, catalog, acme)
    for part in statements.of_organization(acme, NOVEMBER, now=NOW).parts:
        assert sum(one.figures.recorded for _day, one in part.days) == part.total.figures.recorded
        assert sum(amount for _tags, amount in part.tags) == part.total.figures.metered


def test_the_largest_and_the_smallest_quantities_are_exact(payg):
    make_record(payg, NOON - timedelta(hours=1), "9999999999.999999", state="accepted")
    make_record(payg, NOON - timedelta(hours=2), "9999999999.999999", state="accepted")
    make_record(payg, NOON - timedelta(hours=3), "0.000001", state="accepted")

    [part] = json.loads(statements.as_json(statements.of_agreement(payg, NOVEMBER, now=NOW)))["parts"]
    assert part["total"]["accepted"] == "19999999999.999999"
    assert part["total"]["billed"] is None


def test_a_statement_is_the_same_again_but_for_its_instant(payg):
    make_record(payg, NOON - timedelta(hours=1), 5, state="accepted")
    imported(text_of([row(payg, 5)]))

    first, again = (statements.of_agreement(payg, NOVEMBER, now=AFTER) for _ in range(2))
    assert statements.as_json(first) == statements.as_json(again)
    assert first.is_final


@pytest.mark.parametrize(("state", "now", "is_final"), [
    ("accepted", AFTER, True), ("parked", AFTER, True), ("due", AFTER, False), ("held", AFTER, False),
    ("accepted", NOW, False),
])  # fmt: skip
def test_it_is_final_when_the_month_is_over_and_nothing_waits(payg, state, now, is_final):
    make_record(payg, NOON - timedelta(hours=1), 5, state=state)

    assert statements.of_agreement(payg, NOVEMBER, now=now).is_final is is_final


def test_open_usage_keeps_it_open(payg):
    use(payg, 5)
    statement = statements.of_agreement(payg, NOVEMBER, now=AFTER)

    assert not statement.is_final
    assert rows_of(statement)[0]["open"] == "5"


def test_what_a_spreadsheet_would_run_is_text(catalog, make_user):
    owner = make_user("eve@evil.example")
    agreement = make_agreement(catalog, organizations.create(name=FORMULA, owner=owner))
    Dimension.objects.filter(product=agreement.product).update(unit="+1")
    record = make_record(
        agreement,
        NOON - timedelta(hours=1),
        5,
        wire_allocations='[{"quantity": "5", "tags": {"@team": "\u202ex"}}]',
    )
    UsageEvent.objects.filter(pk=use(agreement, 5).pk).update(metering_record=record)

    for each in rows_of(statements.of_agreement(agreement, NOVEMBER, now=NOW)):
        for name, value in each.items():
            assert not value.startswith(("=", "+", "@")), (name, value)
    assert rows_of(statements.of_agreement(agreement, NOVEMBER, now=NOW))[0]["organization"] == f"'{FORMULA}"


def test_a_month_of_nothing_has_no_parts(client, operator, payg):
    client.force_login(operator)

    assert statements.of_agreement(payg, NOVEMBER, now=AFTER).parts == []
    page = client.get(f"{STATEMENT}.html", {"month": "2026-10", "agreement": payg.pk})
    assert "Nothing was used in this month." in page.content.decode()


def test_each_form_is_served_and_what_leaves_is_audited(client, operator, payg, acme):
    client.force_login(operator)
    acme.name = "<b>شركة</b> 🚀" + "x" * 90
    acme.save()
    make_record(payg, NOON - timedelta(hours=1), 5, state="accepted")
    asked = {"month": "2026-11", "agreement": payg.pk}

    page = client.get(f"{STATEMENT}.html", asked)
    assert page.content.decode().count("<h1>") == 1
    assert "<b>" not in page.content.decode()
    text = b"".join(client.get(f"{STATEMENT}.csv", asked)).decode()
    assert text.splitlines()[0] == ",".join(statements.COLUMNS)
    told = client.get(f"{STATEMENT}.json", {"month": "2026-11", "organization": acme.pk})
    assert told.json()["parts"][0]["total"]["accepted"] == "5"
    assert "statement-2026-11-organization-" in told["Content-Disposition"]
    links = AuditEvent.objects.filter(action="statement_exported").order_by("pk")
    assert [link.data for link in links] == [
        {"format": "csv", "month": "2026-11", "agreement": payg.pk},
        {"format": "json", "month": "2026-11", "organization": acme.pk},
    ]


@pytest.mark.parametrize(
    "query", ["", "agreement=9999999", "organization=x", "agreement={0}&organization={1}"]
)
def test_a_statement_is_of_one_purchase_or_one_organization(client, operator, payg, acme, query):
    client.force_login(operator)

    assert client.get(f"{STATEMENT}.csv?{query.format(payg.pk, acme.pk)}").status_code == 404
    assert client.post(f"{STATEMENT}.csv?agreement={payg.pk}").status_code == 405


def test_of_a_purchase_that_was_moved_neither_workspace_is_told_what_the_other_used(
    client, operator, catalog, acme, acme_admin, payg, make_user
):
    globex = organizations.create(name="Globex", owner=make_user("hank@globex.example"))
    other = make_agreement(catalog, globex)
    use(payg, 7, tags={"team": "secret-project"})
    use(other, 2)
    transfers.transfer(payg.pk, to=globex, by=acme_admin, reason="x", now=NOON)
    client.force_login(operator)
    for organization, parts in ((acme, 0), (globex, 1)):
        statement = statements.of_organization(organization, NOVEMBER, now=AFTER)
        assert [each.pk for each in statement.moved] == [payg.pk]
        assert len(statement.parts) == parts
        assert not statement.is_final
        told = "".join(statements.as_csv(statement)) + statements.as_json(statement)
        page = client.get(f"{STATEMENT}.html", {"organization": organization.pk, "month": "2026-11"})
        for text in (told, page.content.decode()):
            assert "secret" not in text
            assert payg.product.title in text
        assert [each["row"] for each in rows_of(statement)].count("moved") == 1
        assert "was moved from or to another workspace" in page.content.decode()
    assert statements.of_agreement(payg, NOVEMBER, now=AFTER).parts

"""A month beside what AWS billed: the figures add up, each is a link, and what differs is named."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.groups import AUDITOR, BILLING_OPERATOR, OWNER, SUPPORT
from billing.models import AuditEvent, MeteringRecord, UsageEvent, UsageReport
from billing.reconciliation import comparing, gaps, months
from billing.reconciliation.months import Month, Scope
from tests.billing.ledger import NOON, make_agreement, make_record, use
from tests.billing.reporting import NOW, bill, imported, row, text_of, told_by_aws

PAGE = "/admin/billing/reconciliation/"
IMPORT = f"{PAGE}import/"
NOVEMBER = Scope(Month(2026, 11))
HOUR = timedelta(hours=1)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _in_that_month(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def billed(aws, catalog, acme):
    return bill(aws, catalog, acme)


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def staff(make_user):
    def make(group):
        user = make_user(f"{group.lower().replace(' ', '')}@seller.example", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
        return user

    return make


def plain(cell):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", str(cell))).split())


def table(response, anchor):
    """The rows of that panel, as a reader sees them."""
    [panel] = [panel for panel in response.context["page"].panels if panel.anchor == anchor]
    return [[plain(cell) for cell in cells] for cells in (panel.table or {"rows": []})["rows"]]


def cards(response):
    return {figure.title: figure.value for figure in response.context["page"].figures}


def look(client, **asked):
    response = client.get(PAGE, {"month": "2026-11", **asked})
    assert response.status_code == 200
    return response


def pages_of(agreement):
    dimension = agreement.product.dimensions.get(key="pages").pk
    return [
        {},
        {"product": agreement.product_id},
        {"agreement": agreement.pk},
        {"agreement": agreement.pk, "dimension": dimension},
        {"agreement": agreement.pk, "dimension": dimension, "day": "2026-11-23"},
    ]


# --- Bought, used, billed, imported


@pytest.mark.parametrize("by_day", [True, False])
def test_what_aws_billed_is_what_it_accepted(client, operator, billed, aws, by_day):
    client.force_login(operator)
    imported(told_by_aws(aws, by_day=by_day))

    for agreement in billed:
        *levels, hours = (table(look(client, **asked), "figures") for asked in pages_of(agreement))
        for rows in levels:
            assert {cells[-1] for cells in rows} == {"The same"}
        assert {cells[-1] for cells in hours} == ({"–"} if by_day else {"The same"})
    assert cards(look(client))["Differences"] == "0"


def test_a_tampered_line_is_named_all_the_way_down(client, operator, billed, aws):
    client.force_login(operator)
    one = billed[0]

    def tamper(rows):
        next(each for each in rows if each["product_code"] == one.product.code).update(
            estimated_usage_units="61.75"
        )

    imported(told_by_aws(aws, tamper))

    month, product, agreement, days, hours = (
        table(look(client, **asked), "figures") for asked in pages_of(one)
    )
    for rows in (month, product, agreement, days):
        [differing] = [cells for cells in rows if cells[-1] != "The same"]
        assert differing[1:] == ["181.5", "0", "181.5", "181.5", "182.75", "+1.25", "1.25 more at AWS"]
    assert [cells[-1] for cells in hours].count("1.25 more at AWS") == 1
    assert cards(look(client))["Differences"] == "1"


def test_a_line_that_aws_left_out_and_one_that_it_made_up_are_told_apart(client, operator, payg):
    client.force_login(operator)
    make_record(payg, NOON - timedelta(days=1), 5, state="accepted")
    make_record(payg, NOON - HOUR, 7, state="accepted")
    imported(text_of([row(payg, 7), row(payg, 5, day="2026-11-21")]))

    [cells] = table(look(client), "figures")
    assert cells[4:] == ["12", "12", "0", "5 missing at AWS 5 extra at AWS"]
    assert cards(look(client))["Differences"] == "1", "Equal amounts that differ in kind do not cancel."


def test_days_after_the_report_are_not_reported_yet(client, operator, payg):
    client.force_login(operator)
    make_record(payg, NOON - timedelta(days=1), 5, state="accepted")
    make_record(payg, NOON - HOUR, 7, state="accepted")
    imported(text_of([row(payg, 5, day="2026-11-22")]))

    [cells] = table(look(client), "figures")
    assert cells[4:] == ["12", "5", "-7", "7 not reported yet"]
    assert cards(look(client))["Differences"] == "0"


def test_the_ways_to_differ_add_up_to_the_variance(payg, catalog):
    for number, (accepted, billed) in enumerate([(5, 5), (5, 7), (7, 5), (5, 0), (0, 5), (3, None)]):
        day = NOON - timedelta(days=number) if billed is not None else NOON
        if accepted:
            make_record(payg, day + (HOUR if billed is None else -HOUR), accepted, state="accepted")
        if billed:
            imported(text_of([row(payg, billed, day=f"{day:%Y-%m-%d}")]))
    told = comparing.told(NOVEMBER.month, [payg.product.dimensions.select_related("product").get()])

    [found] = comparing.compare(NOVEMBER, told.until, "dimension").values()
    parts = found.not_reported + found.missing + found.extra + found.other
    assert parts == found.difference == found.billed - found.accepted


def test_without_a_report_it_says_so_and_how_to_get_one(client, operator, payg):
    client.force_login(operator)
    make_record(payg, NOON - HOUR, 5, state="accepted")

    page = look(client)
    assert "nobody knows what AWS billed" in page.content.decode()
    assert table(page, "figures")[0][5:] == ["–", "–", "5 not reported yet"]
    assert cards(page)["Reported by AWS"] == "Nothing yet"
    assert "AWS Marketplace Management Portal" in client.get(IMPORT).content.decode()


# --- The ledger's own figures


def test_recorded_is_all_that_it_became_and_what_its_events_are(client, operator, payg, acme):
    client.force_login(operator)
    for number, state in enumerate(sorted(set(MeteringRecord.State) - {"not_due"}), 1):
        hour = NOON - (number + 1) * HOUR
        event = use(payg, 10 + number, at=hour)
        record = make_record(payg, hour, 9 + number, used=10 + number, included=1, state=state)
        if state == "void":
            UsageEvent.objects.filter(pk=event.pk).update(disposition="too_late")
        else:
            UsageEvent.objects.filter(pk=event.pk).update(metering_record=record)
    for disposition in set(UsageEvent.Disposition) - {"billable"}:
        event = use(payg, "0.000001", at=NOON - 20 * HOUR)
        UsageEvent.objects.filter(pk=event.pk).update(disposition=disposition)
    use(payg, 3)

    [figures] = months.read(NOVEMBER, "dimension").values()
    [counted] = months.counted(NOVEMBER, "dimension").values()
    assert figures.recorded == figures.parts == counted
    [cells] = table(look(client, agreement=payg.pk), "equation")
    assert cells[-1] == "Yes"
    assert cells[1] == str(Decimal(counted).scaleb(-6).normalize())


def test_a_record_that_does_not_hold_its_events_does_not_add_up(client, operator, payg):
    client.force_login(operator)
    make_record(payg, NOON - HOUR, 5, state="accepted")

    [cells] = table(look(client, agreement=payg.pk), "equation")
    assert cells[-1] == "The events are 0"


def test_each_figure_leads_to_the_rows_that_it_counts(client, operator, payg):
    client.force_login(operator)
    record = make_record(payg, NOON - HOUR, 5, state="accepted")
    event = use(payg, 5, at=NOON - HOUR)
    UsageEvent.objects.filter(pk=event.pk).update(metering_record=record)
    make_record(payg, NOON - timedelta(days=30), 5, state="accepted")
    line = imported(text_of([row(payg, 5)])).report.lines.get()

    for asked in pages_of(payg)[:4]:
        [panel] = [each for each in look(client, **asked).context["page"].panels if each.anchor == "figures"]
        cells = panel.table["rows"][-1]
        for cell, wanted in zip(cells[1:6], [event, record, record, record, line], strict=True):
            url = unescape(re.search(r'href="([^"]+)"', str(cell))[1])
            rows = client.get(url).context["cl"].result_list
            assert list(rows) == [wanted], (asked, url)


def test_usage_counts_in_the_month_in_which_aws_bills_it(catalog, acme):
    payg = make_agreement(catalog, acme, activated_at=NOON - timedelta(days=60))
    first = make_record(payg, NOON.replace(day=1, hour=0), 5)
    event = use(payg, 5, at=NOON.replace(day=1, hour=0) - HOUR, now=NOON.replace(day=1, hour=0))
    UsageEvent.objects.filter(pk=event.pk).update(metering_record=first)
    october = Scope(Month(2026, 10))

    assert [each.recorded for each in months.read(NOVEMBER).values()] == [5_000_000]
    assert list(months.counted(NOVEMBER, "dimension").values()) == [5_000_000]
    assert not months.read(october)
    assert not months.counted(october, "dimension")


# --- What is missing


def test_an_hour_with_usage_and_without_a_record_is_listed(client, operator, payg):
    client.force_login(operator)
    use(payg, 2, at=NOON - timedelta(minutes=90))
    use(payg, 3, at=NOON - timedelta(minutes=80))
    use(payg, 4, at=NOON + timedelta(minutes=1))  # its hour is not over
    make_record(payg, NOON - 3 * HOUR, 5)
    use(payg, 6, at=NOON - timedelta(hours=2, minutes=30))  # of a closed hour: waits for the next

    page = look(client)
    [cells] = table(page, "missing")
    assert cells == ["2026-11-23 10:00", f"Acme · {payg.product}", "Report pages", "2", "5"]
    assert cards(page)["Missing hours"] == "1"
    assert gaps.with_usage(NOVEMBER, now=NOON - timedelta(minutes=55), most=9) == []


def test_with_the_heartbeat_each_active_hour_needs_a_record(client, operator, catalog, acme, settings):
    client.force_login(operator)
    agreement = make_agreement(catalog, acme, activated_at=NOON - timedelta(hours=5, minutes=30))
    make_record(agreement, NOON - 3 * HOUR, 0, state="not_due")
    assert not [panel for panel in look(client).context["page"].panels if panel.anchor == "silent"]

    settings.METERING_HEARTBEAT = True
    # From 06:00 on, until 11:00: that of 11:00 may be being closed right now.
    assert table(look(client), "silent") == [[f"Acme · {agreement.product}", "5", "1", "4"]]
    assert table(look(client, agreement=agreement.pk), "silent") == [
        ["2026-11-23 06:00", "2026-11-23 08:00", "3"],
        ["2026-11-23 10:00", "2026-11-23 10:00", "1"],
    ]


def test_lines_of_no_purchase_are_listed_with_the_reason(client, operator, payg):
    client.force_login(operator)
    rows = [
        row(payg, 1, product_code="another"),
        row(payg, 2, dimension_key=HOSTILE),
        row(payg, 3, end_user_aws_account_id="123"),
        row(payg, 4, end_user_aws_account_id="123", agreement_id="agmt-none"),
    ]
    imported(text_of(rows), name=HOSTILE)

    page = look(client)
    assert [cells[-1] for cells in table(page, "unmatched")] == [
        "The product is not in the catalog",
        "The product has no such dimension",
        "The account has no purchase of the product, or several",
        "No purchase has this license or agreement id",
    ]
    assert HOSTILE not in page.content.decode()
    assert HOSTILE not in client.get(IMPORT).content.decode()


# --- Uploading


def upload(client, text, name="usage.csv", **fields):
    return client.post(IMPORT, {"report": SimpleUploadedFile(name, text), **fields}, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


def test_a_report_is_uploaded_and_leads_to_its_month(client, staff, payg):
    user = staff(BILLING_OPERATOR)
    client.force_login(user)
    first, newer = text_of([row(payg, 5, day="2026-10-30")]), text_of([row(payg, 6, day="2026-10-30")])

    page = upload(client, first)
    assert page.redirect_chain == [(f"{PAGE}?month=2026-10", 302)]
    assert said(page) == ["1 line was imported."]
    assert said(upload(client, first)) == ["These rows were imported before: nothing changed."]
    assert "It replaces 1 line of earlier reports." in said(upload(client, newer))
    assert "newer reports have replaced some" in said(upload(client, first))[0]
    assert "It replaces 1 line of earlier reports." in said(upload(client, first, again="on"))
    link = AuditEvent.objects.filter(action="usage_report_imported").first()
    assert link.actor == f"user:{user.pk}"


def test_a_file_that_cannot_be_read_is_told_beside_its_field(client, operator, payg):
    client.force_login(operator)
    page = upload(client, text_of([row(payg, HOSTILE)]))

    assert page.status_code == 200
    assert "Line 2: estimated_usage_units is" in page.context["form"].errors["report"][0]
    assert HOSTILE not in page.content.decode()
    assert upload(client, b"").context["form"].errors["report"]
    assert client.post(IMPORT, {}).context["form"].errors["report"]
    assert not UsageReport.objects.exists()


@pytest.mark.parametrize(
    ("group", "may_import"), [(AUDITOR, False), (SUPPORT, False), (BILLING_OPERATOR, True), (OWNER, True)]
)
def test_all_groups_look_and_some_import(client, staff, payg, group, may_import):
    client.force_login(staff(group))

    assert client.get(PAGE).status_code == client.get(IMPORT).status_code == 200
    assert client.get(f"{PAGE}statement.csv", {"agreement": payg.pk}).status_code == 200
    assert upload(client, text_of([row(payg, 5)])).status_code == (200 if may_import else 403)
    assert UsageReport.objects.exists() is may_import


def test_who_may_not_see_all_of_it_sees_nothing_of_it(client, make_user, payg):
    user = make_user("o@seller.example", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client.force_login(user)

    for path in (PAGE, IMPORT, f"{PAGE}statement.csv?agreement={payg.pk}"):
        assert client.get(path).status_code == 403
    assert upload(client, text_of([row(payg, 5)])).status_code == 403
    assert PAGE not in client.get("/admin/").content.decode()


def test_buyers_and_strangers_are_not_let_in(client, acme_admin):
    assert client.get(PAGE).status_code == 302
    client.force_login(acme_admin)
    assert client.get(PAGE).status_code == client.get(IMPORT).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "month=2026-13", "month=x", "month=0001-01", "product=9999999", "agreement=x", "day=2026-11-23",
        "dimension=1", "agreement={0}&dimension=999999", "agreement={0}&day=2026-11-23",
        "agreement={0}&dimension={1}&day=2026-12-01", "agreement={0}&dimension={1}&day=nonsense",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(client, operator, payg, query):
    client.force_login(operator)
    asked = query.format(payg.pk, payg.product.dimensions.get(key="pages").pk)

    assert client.get(f"{PAGE}?{asked}").status_code == 404


def test_pages_take_few_queries(client, staff, catalog, acme, settings):
    settings.METERING_HEARTBEAT = True
    client.force_login(staff(AUDITOR))
    agreements = [make_agreement(catalog, acme) for _ in range(50)]
    for agreement in agreements:
        for hour in range(1, 4):
            make_record(agreement, NOON - hour * HOUR, 5, state="accepted")
        use(agreement, 1, at=NOON - 5 * HOUR)
    imported(text_of([row(agreement, 15) for agreement in agreements] + [row(None, 1)]))

    for asked in pages_of(agreements[0]):
        with CaptureQueriesContext(connection) as queries:
            look(client, **asked)
        # Outside a test there is one more, which says as of what instant the others read.
        assert len(queries) <= 14, (asked, "\n".join(query["sql"][:120] for query in queries))
    with CaptureQueriesContext(connection) as queries:
        client.get(f"{PAGE}statement.html", {"organization": acme.pk, "month": "2026-11"})
    assert len(queries) <= 15

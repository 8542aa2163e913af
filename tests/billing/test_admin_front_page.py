"""The front page: figures, tables and charts, each a link to what it counts; no chart without its table."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Organization
from billing.admin import front_page
from billing.admin.charts import Bar, Series, stacked
from billing.admin.columns import list_url
from billing.admin.health import consumption, coverage, records, sending
from billing.aws.window import HOUR, hour_of
from billing.models import (
    Entitlement,
    MeteringRecord,
    Submission,
    SubmissionLine,
)
from tests.billing.ledger import NOON, make_agreement, make_record, use
from tests.billing.test_admin import HOSTILE, make_story, rows_of

NOW = NOON + timedelta(minutes=30)


@pytest.fixture
def signed_in(client, operator):
    client.force_login(operator)
    return client


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme, activated_at=NOON - timedelta(days=40))


def sent(record, *, at, outcome="answered", status="Success"):
    call = Submission.objects.create(token=1, record_count=1, started_at=at, outcome=outcome)
    return SubmissionLine.objects.create(submission=call, record=record, status=status)


def links(html):
    return [url.replace("&amp;", "&") for url in re.findall(r'href="(/admin/[^"]+)"', str(html))]


# --- Records


def test_states_are_counted_and_lead_to_their_rows(signed_in, agreement):
    for number, state in enumerate(["due", "held", "parked", "parked", "void"]):
        make_record(agreement, NOON - number * HOUR, state=state)
    shown = records.states(records.read(), {"accepted": 1200})
    counts = {re.sub(r"<[^>]+>", "", str(row[0])).strip(): row[1] for row in shown.table["rows"]}
    assert {name: re.sub(r"<[^>]+>", "", cell) for name, cell in counts.items()} == {
        "Due": "1", "Accepted": "1,200", "Parked": "2", "Held by an operator": "1", "Void": "1",
    }  # fmt: skip
    [url] = links(counts["Parked"])
    assert len(rows_of(signed_in.get(url))) == 2


def test_what_is_not_sent_is_summed_by_product_and_dimension(signed_in, agreement, catalog, acme):
    other = make_agreement(catalog, acme, "reports-flex")
    make_record(agreement, NOON, "1.5", state="due")
    make_record(agreement, NOON - HOUR, 2, state="in_doubt")
    make_record(agreement, NOON - 2 * HOUR, 4, state="held")
    make_record(agreement, NOON - 3 * HOUR, 100, state="accepted")
    make_record(agreement, NOON - 4 * HOUR, 100, state="parked")
    make_record(other, NOON, 7, state="waiting")
    rows = records.unsent(records.read()).table["rows"]
    told = {row[0]: (re.sub(r"<[^>]+>", "", row[2]), row[3]) for row in rows}
    assert told == {catalog["reports-payg"].title: ("7.5", "3"), catalog["reports-flex"].title: ("7", "1")}
    for row in rows:
        [url] = links(row[2])
        assert len(rows_of(signed_in.get(url))) == int(row[3])


# --- Charts


def test_each_answer_stands_in_its_hour_and_colour(agreement):
    hour = hour_of(NOW)
    record = make_record(agreement, NOON - 5 * HOUR)
    for status in ("Success", "Success", "Unprocessed", "InvalidLicenseException", ""):
        sent(record, at=hour + timedelta(minutes=6), status=status)
    sent(record, at=hour - HOUR, outcome="failed", status="ThrottlingException")
    sent(record, at=hour - timedelta(days=8))
    chart = sending.chart(now=NOW)
    assert len(chart.bars) == 7 * 24
    rows = [[re.sub(r"<[^>]+>", "", str(cell)) for cell in row] for row in chart.table["rows"]]
    assert rows == [
        [f"{hour:%Y-%m-%d %H}:00", "2", "1", "1", "1"],
        [f"{hour - HOUR:%Y-%m-%d %H}:00", "0", "0", "1", "0"],
    ]


def test_a_bar_leads_to_its_rows(signed_in, agreement):
    line = sent(make_record(agreement, NOON), at=NOON + timedelta(minutes=6))
    sent(make_record(agreement, NOON - HOUR), at=NOON + 2 * HOUR)
    [url] = links(sending.chart(now=NOW).table["rows"][0][0])
    assert rows_of(signed_in.get(url)) == [line.submission]


def test_usage_is_summed_by_day_and_dimension_and_void_records_are_not(signed_in, agreement):
    make_record(agreement, NOON, 3, used=5, included=2)
    make_record(agreement, NOON - HOUR, 4, state="void")
    make_record(agreement, NOON - timedelta(days=29), 7)
    make_record(agreement, NOON - timedelta(days=31), 7)
    days = consumption.read(now=NOW)
    [chart] = consumption.charts(days, now=NOW)
    told = [[re.sub(r"<[^>]+>", "", str(cell)) for cell in row] for row in chart.table["rows"]]
    assert told == [["2026-11-23", "2", "3"], ["2026-10-25", "0", "7"]]
    [row] = consumption.table(days, now=NOW).table["rows"]
    assert row[3:] == ["2", "10"]
    assert len(rows_of(signed_in.get(links(chart.table["rows"][0][0])[0]))) == 2, (
        "The void one is listed too."
    )


def test_sums_are_read_again_when_they_are_old(agreement):
    assert consumption.read(now=NOW) == []
    make_record(agreement, NOON, 3)
    assert consumption.read(now=NOW + timedelta(minutes=4)) == []
    assert len(consumption.read(now=NOW + timedelta(minutes=5))) == 1


def test_a_chart_is_drawn_to_its_highest_bar_and_hides_no_little_one():
    bars = [Bar("a", "/a", (Decimal(100), Decimal(0))), Bar("b", "/b", (Decimal("0.000001"), Decimal(50)))]
    chart = stacked("T", [Series("x", "calm"), Series("y", "success")], bars, place="P", table_title="F")
    assert [part.height for part in chart.bars[0].parts] == ["100.00"]
    assert [part.height for part in chart.bars[1].parts] == ["1.50", "50.00"]
    html = str(chart)
    assert "style=" not in html.partition("<details")[0]
    assert 'aria-hidden="true"' in html


def test_a_chart_of_nothing_says_so():
    chart = stacked("T", [Series("x", "calm")], [Bar("a", "/a", (Decimal(0),))], place="P", table_title="F")
    assert "Nothing in this time." in str(chart)
    assert '<svg class="bars"' not in str(chart)


# --- Coverage


def cells(shown, name):
    [row] = [row for row in shown.rows if row.name == name]
    return [cell.kind.sign for cell in row.cells]


def test_hours_are_shown_by_what_became_of_them(catalog, acme, agreement):
    agreement.activated_at = NOON - 6 * HOUR
    agreement.save(update_fields=["activated_at"])
    for back, state in ((1, "due"), (2, "accepted"), (3, "parked"), (6, "not_due")):
        make_record(agreement, NOON - back * HOUR, state=state)
    use(agreement, at=NOON - 4 * HOUR + timedelta(minutes=1))
    shown = coverage.read(now=NOW)
    assert cells(shown, acme.name) == ["", *[""] * 17, "0", "–", "?", "!", "✓", "…"]
    [[_, missing, troubled]] = shown.table["rows"]
    assert (missing, troubled) == ("07:00 – 08:00", "08:00 – 09:00")


def test_an_hour_that_is_just_over_is_not_missing_yet(agreement):
    assert coverage.read(now=NOON + timedelta(minutes=9)).hours[-1] == "10"
    assert coverage.read(now=NOON + timedelta(minutes=10)).hours[-1] == "11"


def test_those_that_want_a_look_come_first_and_the_rest_is_cut(catalog, acme, make_user, monkeypatch):
    monkeypatch.setattr(coverage, "ROWS", 3)
    made = {}
    for name, hours, state in (
        ("idle", [], ""),
        ("whole", range(1, 25), "accepted"),
        ("gaps", range(1, 12), "accepted"),
        ("refused", range(1, 25), "parked"),
    ):
        organization = Organization.objects.create(name=name, slug=name)
        made[name] = make_agreement(catalog, organization, activated_at=NOON - timedelta(days=9))
        for back in hours:
            make_record(made[name], NOON - back * HOUR, state=state)
    shown = coverage.read(now=NOW)
    assert [row.name for row in shown.rows] == ["refused", "gaps", "whole"]
    assert shown.is_cut


def test_cells_lead_to_records_or_to_usage(signed_in, acme, agreement):
    record = make_record(agreement, NOON - HOUR, state="accepted")
    event = use(agreement, at=NOON - 2 * HOUR)
    [row] = coverage.read(now=NOW).rows
    assert rows_of(signed_in.get(row.cells[-1].url)) == [record]
    assert rows_of(signed_in.get(row.cells[-2].url)) == [event]


def test_purchases_without_metered_dimensions_and_ended_ones_are_not_shown(catalog, acme):
    make_agreement(catalog, acme, "reports-team")
    make_agreement(catalog, acme, status="ended", ended_at=NOON)
    assert coverage.read(now=NOW).rows == []


# --- The page


def test_entitlements_that_run_out_within_thirty_days_are_counted(signed_in, operator, agreement):
    now = timezone.now()
    for number, (days, until) in enumerate([(1, None), (29, None), (31, None), (1, now)]):
        Entitlement.objects.create(
            agreement=agreement,
            dimension_key=f"seats{number}",
            integer_value=1,
            valid_from=now - timedelta(days=50),
            valid_to=until,
            expires_at=now + timedelta(days=days),
        )
    [figure] = [one for one in front_page.look(operator).figures if one.title == "Expiring entitlements"]
    assert figure.value == "2"
    assert len(rows_of(signed_in.get(figure.url))) == 2


def test_every_link_of_the_page_opens(signed_in, agreement):
    now = timezone.now()
    make_record(agreement, hour_of(now) - 2 * HOUR, state="due")
    sent(make_record(agreement, hour_of(now) - 3 * HOUR, state="accepted"), at=now)
    page = signed_in.get("/admin/").content.decode()
    found = set(links(page.partition('class="front"')[2]))
    assert len(found) > 40
    for url in sorted(found)[::7] + [url for url in found if "__isempty" in url or "state__in" in url]:
        assert signed_in.get(url).status_code == 200, url


def test_it_takes_few_queries_for_staff_who_may_see_all(client, operator, catalog, make_user):
    for number in range(6):
        organization = Organization.objects.create(name=f"T{number}", slug=f"t{number}")
        purchase = make_agreement(catalog, organization, activated_at=timezone.now() - timedelta(days=2))
        sent(make_record(purchase, hour_of(timezone.now()) - 2 * HOUR), at=timezone.now())
    operator.is_superuser = False
    operator.save()
    operator.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(operator)
    with CaptureQueriesContext(connection) as queries:
        response = client.get("/admin/")
    assert response.context["health"].coverage is not None
    assert len(queries) <= 15, [query["sql"][:90] for query in queries]


@pytest.mark.parametrize(
    ("codenames", "sections"),
    [
        (["view_effect"], (0, 0, 0, False)),
        (["view_jobrun"], (0, 1, 0, False)),
        (["view_meteringrecord"], (1, 2, 0, False)),
        (["view_submission", "view_submissionline"], (0, 0, 1, False)),
        (["view_meteringrecord", "view_agreement", "view_usageevent"], (2, 2, 0, True)),
    ],
)
def test_each_sees_what_their_permissions_open(operator, acme, codenames, sections):
    operator.is_superuser = False
    operator.save()
    operator.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    health = front_page.look(type(operator).objects.get(pk=operator.pk))
    shown = (len(health.breakdowns), len(health.tables), len(health.charts), health.coverage is not None)
    assert shown == sections


def test_names_from_outside_are_shown_never_run(signed_in, acme):
    Organization.objects.filter(pk=acme.pk).update(name=HOSTILE)
    acme.refresh_from_db()
    make_story(acme, number=1, text=HOSTILE)
    page = signed_in.get("/admin/").content.decode()
    assert HOSTILE not in page
    assert list_url(MeteringRecord) in page

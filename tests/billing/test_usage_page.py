"""The pages of usage and subscription, as people and strangers ask for them."""

from __future__ import annotations

import csv
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import organizations
from accounts.models import Membership
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement
from tests.billing.ledger import entitle, make_agreement, make_record, use
from tests.test_pages import assert_clean

NASTY = "<script>alert(1)</script>\u202e🚀" + "x" * 10_000
PAGES = ["usage", "subscription"]


@pytest.fixture
def now():
    return timezone.now()


@pytest.fixture
def payg(catalog, acme, now) -> Agreement:
    """Used in the last three hours, and a little in this one."""
    agreement = make_agreement(catalog, acme, activated_at=now - timedelta(days=3))
    for number in (1, 2, 3):
        make_record(agreement, hour_of(now) - number * HOUR, 10 * number, state="accepted")
    use(agreement, 7, at=hour_of(now), now=now, tags={"team": "ml"})
    return agreement


@pytest.fixture
def page(client, acme_admin):
    def get(url="usage/", **asked):
        client.force_login(acme_admin)
        return client.get(f"/o/acme/{url}", asked)

    return get


def main_of(response) -> str:
    return re.search(r"<main.*</main>", response.content.decode(), re.DOTALL)[0]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_an_outsider_finds_nothing(client, payg, outsider, name, method):
    client.force_login(outsider)
    assert getattr(client, method)(f"/o/acme/{name}/", {"agreement": payg.pk}).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_a_member_is_refused_and_a_stranger_is_asked_to_sign_in(client, payg, acme_member, name):
    assert client.get(f"/o/acme/{name}/").url.startswith("/accounts/login/")
    client.force_login(acme_member)
    for asked in ({}, {"format": "csv"}):
        assert client.get(f"/o/acme/{name}/", asked).status_code == 403


@pytest.mark.parametrize("name", PAGES)
def test_an_admin_sees_it_and_nothing_can_be_posted(client, payg, acme_member, name):
    Membership.objects.filter(user=acme_member).update(role="admin")
    client.force_login(acme_member)
    assert client.get(f"/o/acme/{name}/").status_code == 200
    assert client.post(f"/o/acme/{name}/").status_code == 405


@pytest.mark.parametrize("by", ["hour", "day", "month"])
def test_the_chart_and_the_table_tell_the_same(page, payg, by):
    response = page(by=by)
    html = main_of(response)

    assert_clean(response.content.decode())
    assert 'role="img" aria-labelledby="chart-title"' in html
    drawn = response.context["drawn"]
    assert {segment.kind for bar in drawn.chart.bars for segment in bar.segments} == {"billed", "waiting"}
    assert sum(line.figures.used for line in drawn.lines) == response.context["report"].total.used == 67
    assert drawn.lines[0].is_open
    assert "so far" in html
    assert "Estimate so far" in html


def test_what_is_being_checked_has_a_heading_a_column_and_a_colour_of_its_own(page, payg, now):
    make_record(payg, hour_of(now) - 5 * HOUR, 40, state="conflict")
    html = main_of(page(by="day"))

    assert html.count("Being checked") == 3
    assert 'class="chart-checked"' in html
    assert "Not billed</h3>" not in html
    assert_clean(page(by="day").content.decode())
    assert "Being checked" in main_of(page("subscription/"))


def test_nothing_is_said_of_checking_when_nothing_is(page, payg):
    for url in ("usage/", "subscription/"):
        assert "Being checked" not in main_of(page(url))


def test_the_tab_is_there_for_those_who_may_see_it(client, page, payg, acme_member):
    assert 'href="/o/acme/usage/" aria-current="page"' in page().content.decode()
    client.force_login(acme_member)
    assert "/o/acme/usage/" not in client.get("/o/acme/").content.decode()


def test_bad_wishes_are_answered_with_a_page_and_a_word(page, payg):
    response = page(by="eon", period="yesterday", agreement="1;--", dimension="\x00")
    assert response.status_code == 200
    assert len(response.context["choice"].complaints) == 4
    assert_clean(response.content.decode())


def test_another_organization_s_purchase_is_as_if_it_did_not_exist(page, catalog, payg, outsider, now):
    globex = organizations.create(name="Globex", owner=outsider)
    theirs = make_agreement(catalog, globex, activated_at=now - timedelta(days=3))
    make_record(theirs, hour_of(now) - HOUR, 4242, state="accepted")
    dimension = theirs.product.dimensions.get(key="pages")

    for asked in ({}, {"agreement": theirs.pk}, {"dimension": dimension.pk}, {"agreement": "all"}):
        assert "4,242" not in main_of(page(**asked))
        text = b"".join(page(**asked, format="csv").streaming_content).decode()
        assert "4242" not in text


def test_the_same_figures_come_as_csv(page, payg):
    response = page(by="hour", format="csv")

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="usage-acme-24h-by-hour.csv"', response["Content-Disposition"])
    rows = list(csv.DictReader(b"".join(response.streaming_content).decode().splitlines()))
    assert len(rows) == 24
    assert [row["billed_by_aws"] for row in rows[-4:]] == ["30", "20", "10", "0"]
    assert (rows[-1]["not_reported_yet"], rows[-1]["is_final"]) == ("7", "no")


def test_without_a_purchase_the_page_leads_to_the_listing(page, acme, settings):
    for url in ("usage/", "subscription/", "usage/?format=csv"):
        response = page(url)
        assert response.status_code == 200
        assert_clean(response.content.decode())
        assert settings.MARKETPLACE_LISTING_URL in main_of(response)


def test_a_plan_that_is_not_billed_by_use_says_so(page, catalog, acme):
    make_agreement(catalog, acme, "reports-team")
    html = main_of(page())
    assert "Your plan is not billed by use" in html
    assert 'href="/o/acme/subscription/"' in html


def test_a_period_without_usage_says_so_and_leads_on(page, payg):
    html = main_of(page(period="2020-01"))
    assert "Nothing used in this period" in html
    assert "?period=12m" in html
    assert "<svg" not in html


def test_late_usage_is_told(page, payg, now):
    use(payg, 3, at=hour_of(now) - 2 * HOUR, now=now)
    for by in ("hour", "day"):
        assert "came in late" in main_of(page(by=by))


@pytest.mark.parametrize("status", ["pending", "active", "ending", "ended", "failed"])
def test_every_state_of_a_purchase_has_its_pages(page, catalog, acme, now, status):
    begun = None if status in ("pending", "failed") else now - timedelta(days=3)
    over = {"ended_at": now, "closes_at": now + HOUR} if status in ("ending", "ended") else {}
    agreement = make_agreement(catalog, acme, activated_at=begun, **over)
    Agreement.objects.filter(pk=agreement.pk).update(status=status)

    for url in ("usage/", "subscription/"):
        response = page(url)
        assert response.status_code == 200
        assert_clean(response.content.decode())


def test_names_are_never_markup_and_long_ones_do_no_harm(page, acme, payg, now):
    acme.name, payg.product.title = NASTY[:120], NASTY[:200]
    acme.save()
    payg.product.save()
    dimension = payg.product.dimensions.get(key="pages")
    dimension.label, dimension.unit = "<b>pages</b>\u202e" + "y" * 150, "<i>"
    dimension.save()
    flex = make_agreement(payg.product.__class__.objects.in_bulk(field_name="code"), acme, "reports-flex")
    entitle(flex, 5, key="<img src=x>")

    for url in ("usage/", "usage/?by=hour", "subscription/"):
        html = page(url).content.decode()
        assert_clean(html)
        assert not re.search("<script>alert|<b>pages|<i>|<img src=x", html)


def test_reports_of_a_reader_elsewhere_are_in_their_days_and_words(page, acme_admin, payg):
    acme_admin.time_zone, acme_admin.language = "Asia/Kolkata", "ko"
    acme_admin.save()

    for by in ("hour", "day", "month"):
        response = page(by=by)
        assert response.status_code == 200
        assert response.context["report"].total.used == 67
    assert "Asia/Kolkata" in main_of(page(period=f"{timezone.now():%Y-%m}"))


@pytest.mark.parametrize(
    "url", ["usage/", "usage/?by=hour", "usage/?by=month", "subscription/", "subscription/?page=2"]
)
def test_a_large_organization_takes_ten_queries(
    client, acme, acme_admin, catalog, make_user, now, url, django_assert_max_num_queries
):
    for number in range(52):
        code = ("reports-flex", "reports-payg", "reports-team")[number % 3]
        agreement = make_agreement(catalog, acme, code, activated_at=now - timedelta(days=3))
        entitle(agreement, 100, since=now - timedelta(days=3))
        if code != "reports-team":
            make_record(agreement, hour_of(now) - HOUR, 5, state="accepted")
            use(agreement, 1, at=now, now=now)
    Membership.objects.bulk_create(
        Membership(organization=acme, user=make_user(f"m{n}@acme.example"), role="member") for n in range(100)
    )
    client.force_login(acme_admin)
    client.get(f"/o/acme/{url}")

    with django_assert_max_num_queries(10):
        response = client.get(f"/o/acme/{url}")

    assert response.status_code == 200
    assert_clean(response.content.decode())

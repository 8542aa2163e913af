"""The example product: opened by a purchase, billed by the page, each page once."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.utils import timezone

from billing import effects
from billing.models import Agreement, UsageEvent

PAGE = "/o/acme/reports/"
LOG = "/o/acme/reports/render-log/"


@pytest.fixture
def member(client, aws, purchase, acme_member):
    """A browser of the team, which bought an allowance of 100 pages."""
    purchase("reports-flex", quantities={"included_pages": 100})
    effects.run_due(aws.marketplace, now=timezone.now())
    client.force_login(acme_member)
    return client


def order(**changes) -> dict[str, object]:
    return {"title": "Figures", "pages": 3, "team": "ml", "request_key": str(uuid4()), **changes}


def line(job="job-1", *, ago=timedelta(minutes=5), pages="40", team="finance") -> str:
    return f"{job},{(timezone.now() - ago).isoformat()},{pages},{team}"


def recorded() -> list[tuple[str, Decimal, dict[str, str]]]:
    return list(UsageEvent.objects.order_by("pk").values_list("key", "quantity", "tags"))


def text(response) -> str:
    return response.content.decode()


# --- The page ----------------------------------------------------------------------------------------------


def test_without_a_purchase_the_paywall_answers(client, acme, acme_member):
    client.force_login(acme_member)

    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, order()).status_code == 403
    assert client.post(LOG, {"log": line()}).status_code == 403
    assert recorded() == []


def test_the_page_shows_what_is_left(member):
    response = member.get(PAGE)

    assert response.status_code == 200
    assert response.context["quota"].remaining == 100


def test_a_report_is_counted_by_its_pages_and_tagged_with_the_team(member):
    request_key = str(uuid4())

    response = member.post(PAGE, order(request_key=request_key))

    assert response.status_code == 200
    assert "“Figures” is ready." in text(response)
    assert recorded() == [(f"report:{request_key}", 3, {"team": "ml"})]
    assert response.context["quota"].remaining == 97


def test_a_report_sent_twice_counts_once(member):
    same = order()

    responses = [member.post(PAGE, same) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert len(recorded()) == 1


def test_each_form_shown_is_a_report_of_its_own(member):
    shown = [re.search(r'name="request_key" value="([^"]+)"', text(member.get(PAGE)))[1] for _ in range(2)]

    for request_key in shown:
        member.post(PAGE, order(request_key=request_key))

    assert len(recorded()) == 2


def test_a_form_changed_after_it_was_sent_is_refused(member):
    first = order()
    member.post(PAGE, first)

    response = member.post(PAGE, {**first, "pages": 300})

    assert response.status_code == 422
    assert "sent before with other content" in text(response)
    assert len(recorded()) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"pages": 0}, {"pages": 501}, {"pages": "1.5"}, {"team": "{ml}"}, {"title": ""}, {"request_key": "x"}],
)
def test_a_wrong_order_is_shown_again_and_counts_nothing(member, wrong):
    assert member.post(PAGE, order(**wrong)).status_code == 422
    assert recorded() == []


def test_without_a_team_there_is_no_tag(member):
    member.post(PAGE, order(team=""))

    assert [tags for _, _, tags in recorded()] == [{}]


def test_a_plan_with_a_flat_price_makes_reports_and_counts_nothing(client, aws, purchase, acme_member):
    purchase("reports-team")
    effects.run_due(aws.marketplace, now=timezone.now())
    client.force_login(acme_member)

    response = client.post(PAGE, order())

    assert response.status_code == 200
    assert "“Figures” is ready." in text(response)
    assert "3 pages were counted" not in text(response)
    assert "one price" in text(response)
    assert recorded() == []


def test_of_two_purchases_the_older_one_pays(member, purchase, acme):
    purchase("reports-payg", ago=timedelta(hours=1))

    member.post(PAGE, order())

    assert UsageEvent.objects.get().agreement.product.code == "reports-flex"


def test_while_a_purchase_and_its_renewal_overlap_the_renewal_pays(member, purchase):
    (first,) = Agreement.objects.all()
    renewal = purchase("reports-flex", ago=timedelta(hours=1))
    Agreement.objects.filter(pk=renewal.pk).update(previous=first)

    member.post(PAGE, order())

    assert UsageEvent.objects.get().agreement == renewal


# --- The log of an offline machine -------------------------------------------------------------------------


def test_a_log_is_recorded_with_its_own_times_and_counts_once(member):
    finished = timezone.now() - timedelta(minutes=7)
    log = f"job-1,{finished.isoformat()},40,finance\n\n  job-2 , {finished.isoformat()} , 0.25 , \n"

    for _ in range(2):
        assert member.post(LOG, {"log": log})["Location"] == PAGE

    assert recorded() == [("render:job-1", 40, {"team": "finance"}), ("render:job-2", Decimal("0.25"), {})]
    assert {event.occurred_at for event in UsageEvent.objects.all()} == {finished}
    assert "2 render jobs recorded." in text(member.get(PAGE))


def test_pages_rendered_before_the_purchase_are_kept_and_not_billed(member):
    member.post(LOG, {"log": line(ago=timedelta(days=2))})

    assert UsageEvent.objects.get().disposition == "outside_agreement"


@pytest.mark.parametrize(
    "wrong",
    [
        "only,three,parts",
        "job-2,yesterday,40,finance",
        "job-2,2026-02-30T09:30:00Z,40,finance",
        "job-2,2026-11-23T09:30:00,40,finance",
        {"job": "job-2", "pages": "many"},
        {"job": "job-2", "pages": "-1"},
        {"job": "job-2", "pages": "NaN"},
        {"job": "job-2", "pages": "0.1234567"},
        {"job": "job-2", "team": "{finance}"},
        {"job": "j" * 200},
        {"job": "job-2", "ago": timedelta(days=-1)},
        {"job": "job-1", "pages": "41"},
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_the_whole_log_is_refused(member, wrong):
    wrong = wrong if isinstance(wrong, str) else line(**wrong)
    response = member.post(LOG, {"log": f"{line('job-1')}\n{wrong}\n{line('job-3')}"})

    assert response.status_code == 422
    assert "Line 2" in response.context["log_form"].errors["log"][0]
    assert "Line 2" in text(response)
    assert recorded() == []


@pytest.mark.parametrize("log", ["", "x" * 100_001])
def test_an_empty_or_endless_log_is_refused(member, log):
    assert member.post(LOG, {"log": log}).status_code == 422


def test_the_address_of_a_refused_log_leads_back_to_the_page(member):
    assert member.get(LOG)["Location"] == PAGE


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", [PAGE, LOG])
def test_an_outsider_finds_no_page_and_a_stranger_signs_in(client, member, outsider, method, page):
    client.logout()
    assert getattr(client, method)(page)["Location"] == f"/accounts/login/?next={page}"
    client.force_login(outsider)
    assert getattr(client, method)(page).status_code == 404

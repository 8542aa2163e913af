"""Between the claim and the product: a page that looks again by itself, without JavaScript."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import effects, registration
from billing.models import Agreement, Entitlement
from billing.onboarding import getting_ready
from tests.billing.arriving import confirm
from tests.billing.ledger import NOON, entitle, make_agreement
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND
from tests.billing.test_claiming import arrive, browser_of, text

PAGE = "/o/acme/getting-ready/"


@pytest.fixture(autouse=True)
def product(settings):
    """A product of one gated page: the example may be gone."""
    settings.ROOT_URLCONF = "tests.billing.gated_urls"
    settings.PRODUCT_PAGES = [("gated", "Gated")]


@pytest.fixture
def pending(catalog, acme) -> Agreement:
    return make_agreement(
        catalog, acme, "reports-team", activated_at=None, entitlements_read_at=None, claimed_at=timezone.now()
    )


def claimed(ago):
    Agreement.objects.update(claimed_at=timezone.now() - ago)


def seen(client, url=PAGE):
    response = client.get(url)
    return response, text(response)


# --- From the claim to the product


def test_a_claim_that_aws_has_not_confirmed_waits_and_turns_into_the_product(aws, acme, acme_admin):
    client = browser_of(acme_admin, arrive(aws, aws.buy("reports-team", quantities={"seats": 7})))

    assert confirm(client, organization=acme.pk)["Location"] == PAGE
    response, page = seen(client)
    assert (response.status_code, response["Refresh"]) == (200, "10")
    assert "Acme is getting ready" in page
    assert "AWS is confirming" in page
    assert "AWS has not told us yet" in page
    assert '<meta http-equiv="refresh"' not in page
    assert "no-store" in response["Cache-Control"]

    aws.control.advance(timedelta(minutes=2))
    aws.deliver(now=timezone.now() + timedelta(minutes=2))
    response, page = seen(client)
    assert "Reading what you bought" in page
    effects.run_due(aws.marketplace, now=timezone.now() + timedelta(minutes=3))

    response = client.get(PAGE)
    assert (response.status_code, response["Location"]) == (302, "/o/acme/gated/")
    assert client.get(response["Location"]).status_code == 200


def test_a_claim_that_aws_has_confirmed_goes_to_the_workspace(aws, acme, acme_admin):
    bought = aws.buy("reports-payg", started_at=timezone.now() - HOUR)
    aws.deliver()
    client = browser_of(acme_admin, arrive(aws, bought))

    assert confirm(client, organization=acme.pk)["Location"] == "/o/acme/"


def test_without_a_product_page_it_turns_into_the_workspace(client, catalog, acme, acme_member, settings):
    settings.PRODUCT_PAGES = [("gone:reports", "Reports")]
    make_agreement(catalog, acme)
    client.force_login(acme_member)

    assert client.get(PAGE)["Location"] == "/o/acme/"


def test_what_was_bought_is_shown_as_far_as_aws_has_told(client, pending, acme_member):
    entitle(pending, 7, key="seats")
    Entitlement.objects.create(
        agreement=pending, dimension_key="reports", boolean_value=True, valid_from=NOON
    )
    Agreement.objects.update(
        free_trial=True, trial_ends_at=NOON + DAY, term_ends_at=NOON + 365 * DAY, auto_renews=True
    )
    client.force_login(acme_member)

    _, page = seen(client)

    for words in ("Acme Reports Team", "Seats", "7", "Included", "Free trial until", "Renews on"):
        assert words in page
    assert "24 November 2026, 12:00 UTC" in page
    assert "23 November 2027, 12:00 UTC" in page
    assert "AWS has not told us yet" not in page
    assert pending.customer.aws_account_id not in page


# --- Looking again


@pytest.mark.parametrize(
    ("ago", "every"),
    [(MINUTE, "10"), (5 * MINUTE, "30"), (HOUR - 5 * SECOND, "30"), (HOUR, None), (DAY, None)],
)
def test_it_looks_again_for_an_hour_and_then_says_what_to_do(client, pending, acme_member, ago, every):
    claimed(ago)
    client.force_login(acme_member)

    response, page = seen(client)

    assert response.get("Refresh") == every
    assert ("Stop refreshing" in page) == (every is not None)
    assert ("AWS is taking longer than usual" in page) == (every is None)
    assert "Check again" in page


def test_it_can_be_stopped_and_started_again(client, pending, acme_member):
    client.force_login(acme_member)

    response, page = seen(client, f"{PAGE}?pause")

    assert "Refresh" not in response
    assert "does not look again by itself" in page
    assert f'href="{PAGE}" role="button">Check again' in page
    assert "Stop refreshing" not in page


def test_a_second_purchase_is_waited_for_while_the_first_is_in_use(
    client, pending, catalog, acme, acme_member
):
    make_agreement(catalog, acme)
    client.force_login(acme_member)

    assert seen(client)[0].status_code == 200


# --- What failed


def test_a_purchase_that_failed_says_how_to_mend_it(client, pending, acme_member):
    Agreement.objects.update(status="failed")
    client.force_login(acme_member)

    response, page = seen(client)

    assert "Refresh" not in response
    assert "AWS could not complete your purchase" in page
    assert "Check the payment method" in page
    assert "Subscribe again" in page
    assert "getting ready" not in page


def test_what_failed_is_hidden_by_what_was_bought_since(client, pending, catalog, acme, acme_member):
    Agreement.objects.update(status="failed")
    make_agreement(catalog, acme, claimed_at=timezone.now())
    client.force_login(acme_member)

    assert client.get(PAGE)["Location"] == "/o/acme/gated/"


def test_a_new_try_after_a_failure_is_waited_for(client, pending, catalog, acme, acme_member):
    Agreement.objects.update(status="failed")
    make_agreement(catalog, acme, activated_at=None, claimed_at=timezone.now())
    client.force_login(acme_member)

    assert "is getting ready" in seen(client)[1]


# --- Who sees it


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_outsider_finds_no_such_page(client, pending, outsider, method):
    client.force_login(outsider)

    assert getattr(client, method)(PAGE).status_code == 404
    assert getattr(client, method)("/o/never-existed/getting-ready/").status_code == 404


def test_who_was_removed_while_they_waited_finds_it_gone(client, pending, acme, acme_member):
    client.force_login(acme_member)
    assert seen(client)[0].status_code == 200

    acme.memberships.filter(user=acme_member).delete()

    assert client.get(PAGE).status_code == 404


def test_the_paywall_of_a_pending_purchase_leads_there(client, pending, acme_member):
    client.force_login(acme_member)

    response = client.get("/o/acme/gated/")

    assert response.status_code == 403
    assert f'href="{PAGE}"' in text(response)


def test_long_and_foreign_names_stay_text(client, pending, acme, acme_member):
    acme.name = "عربي 🎉 <script>alert(1)</script>" + "W" * 80
    acme.save()
    client.force_login(acme_member)

    _, page = seen(client)

    assert "<script>alert" not in page
    assert "عربي 🎉 &lt;script&gt;" in page


def test_it_takes_ten_queries_at_most(
    client, pending, catalog, acme, acme_admin, make_user, django_assert_max_num_queries
):
    for number in range(50):
        make_agreement(catalog, acme, "reports-team", activated_at=None, claimed_at=timezone.now())
        for who in ("a", "b"):
            acme.memberships.create(user=make_user(f"{who}{number}@acme.example"), role="member")
    client.force_login(acme_admin)

    with django_assert_max_num_queries(10):
        assert client.get(PAGE).status_code == 200


def test_what_is_claimed_by_a_flow_is_unsettled_as_gates_say(catalog, acme, acme_admin, aws):
    arrival = arrive(aws, aws.buy("reports-team"))
    agreement = registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())

    assert getting_ready.is_unsettled(agreement)

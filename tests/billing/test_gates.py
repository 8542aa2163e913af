"""Who may use what, and why not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.checks import run_checks
from django.template import Context, Template
from django.utils import timezone

from accounts.models import Organization
from billing import effects, gates, usage
from billing.models import Agreement, Entitlement, MarketplaceCustomer

NOW = timezone.now()


@pytest.fixture
def hold(catalog, acme):
    """Give acme an agreement with the entitlements named, active unless said otherwise."""
    count = 0

    def make(
        code="reports-flex", *, status="active", organization=acme, read=True, **entitlements
    ) -> Agreement:
        nonlocal count
        count += 1
        agreement = Agreement.objects.create(
            product=catalog[code],
            customer=MarketplaceCustomer.objects.get_or_create(aws_account_id="123456789012")[0],
            identity="license",
            license_id=f"l-{count}",
            license_arn=f"arn:aws:license-manager::1:license:l-{count}",
            organization=organization,
            status=status,
            activated_at=None if status in ("pending", "failed") else NOW - timedelta(days=1),
            entitlements_read_at=NOW if read else None,
        )
        for key, value in entitlements.items():
            grant(agreement, key, value)
        return agreement

    return make


def grant(agreement, key, value, *, expires_at=None, valid_from=NOW - timedelta(days=1), valid_to=None):
    column = {bool: "boolean_value", int: "integer_value", float: "double_value", str: "string_value"}[
        type(value)
    ]
    return Entitlement.objects.create(
        agreement=agreement,
        dimension_key=key,
        **{column: value},
        expires_at=expires_at,
        valid_from=valid_from,
        valid_to=valid_to,
        opened_because="test",
    )


def fresh(organization) -> Organization:
    """As the next request sees it."""
    return Organization.objects.get(pk=organization.pk)


def allows(organization, feature="reports", now=NOW):
    return gates.allows(fresh(organization), feature, now=now)


# --- Granted -----------------------------------------------------------------------------------------------


def test_an_entitlement_opens_a_feature_and_says_so(hold, acme):
    hold(included_pages=100)

    grant = allows(acme)

    assert grant
    assert grant.limit == 100
    assert grant.reason == "Included in your subscription."


def test_a_subscription_opens_a_feature_by_its_product_without_a_limit(hold, acme):
    hold("reports-payg")

    grant = allows(acme)

    assert grant
    assert grant.limit is None
    assert gates.quota(fresh(acme), "reports", now=NOW) is None


def test_quotas_of_several_purchases_add_up(hold, acme):
    hold(included_pages=100)
    hold(included_pages=50)
    hold("reports-payg")

    assert allows(acme).limit == 150


@pytest.mark.parametrize(
    ("value", "granted", "limit"),
    [
        (True, True, 1),
        (False, False, None),
        (1, True, 1),
        (0, False, None),
        (0.1, True, Decimal("0.1")),
        (0.0, False, None),
        ("gold", True, 0),
        ("", False, None),
    ],
)
def test_a_value_grants_unless_it_is_nothing(hold, acme, value, granted, limit):
    hold(included_pages=value)

    grant = allows(acme)

    assert (bool(grant), grant.limit) == (granted, limit)


def test_a_quota_of_nothing_is_a_limit_not_the_absence_of_one(hold, acme):
    hold("reports-flex", included_pages=0)
    hold("reports-team", reports=True)

    assert allows(acme).limit == 0
    assert gates.quota(fresh(acme), "reports", now=NOW).remaining == 0


def test_the_quota_counts_what_was_used_of_it_and_not_more(aws, purchase, acme):
    purchase(quantities={"included_pages": 10})
    purchase("reports-payg")
    flex = Agreement.objects.get(product__code="reports-flex")
    payg = Agreement.objects.get(product__code="reports-payg")
    effects.run_due(aws.marketplace, now=timezone.now())
    usage.record(acme, "pages", "3.5", key="a", agreement=flex)
    usage.record(acme, "pages", 4, key="cancelled", agreement=flex)
    usage.cancel(acme, "cancelled", reason="test")
    usage.record(acme, "pages", 50, key="pays as it goes", agreement=payg)

    quota = gates.quota(fresh(acme), "reports")
    assert (quota.limit, quota.used, quota.remaining) == (10, Decimal("3.5"), Decimal("6.5"))

    usage.record(acme, "pages", 20, key="b", agreement=flex)
    assert gates.quota(fresh(acme), "reports").remaining == 0


def test_the_use_of_a_purchase_that_ended_does_not_count_against_the_next(aws, purchase, acme):
    purchase(quantities={"included_pages": 10})
    usage.record(acme, "pages", 8, key="a")
    Agreement.objects.update(status="ended")
    purchase(quantities={"included_pages": 10})
    effects.run_due(aws.marketplace, now=timezone.now())

    assert gates.quota(fresh(acme), "reports").remaining == 10


# --- Refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("pending", "AWS has not confirmed your purchase yet"),
        ("failed", "AWS could not complete your purchase"),
        ("ending", "Your subscription has ended"),
        ("ended", "Your subscription has ended"),
    ],
)
def test_a_purchase_that_is_not_active_opens_nothing_and_says_why(hold, acme, status, reason):
    hold(status=status, included_pages=100)
    hold("reports-payg", status=status)

    grant = allows(acme)

    assert not grant
    assert grant.reason.startswith(reason)


def test_without_a_purchase_there_is_nothing(acme):
    assert allows(acme).reason == "Your organization has no subscription yet."


def test_a_purchase_without_the_feature_says_so(hold, acme):
    hold("reports-team", seats=5)

    assert allows(acme).reason == "Your subscription does not include this."


def test_an_active_purchase_is_what_counts_among_others(hold, acme):
    hold(status="ended", included_pages=100)
    hold("reports-team", status="pending", reports=True)
    assert "has not confirmed" in allows(acme).reason

    # The pending purchase may bring it yet, whatever the active one lacks.
    hold("reports-team", seats=5)
    assert "has not confirmed" in allows(acme).reason

    Agreement.objects.filter(status="pending").update(status="failed")
    assert "does not include" in allows(acme).reason


def test_an_expired_entitlement_opens_nothing_from_that_instant(hold, acme):
    agreement = hold()
    grant(agreement, "included_pages", 100, expires_at=NOW)

    assert allows(acme, now=NOW - timedelta(microseconds=1)).limit == 100
    assert not allows(acme)
    assert allows(acme).reason == "Your contract has expired. Renew it in the AWS console."


def test_an_expired_entitlement_adds_nothing_to_another(hold, acme):
    hold(included_pages=50)
    grant(hold(), "included_pages", 100, expires_at=NOW)

    assert allows(acme).limit == 50


def test_a_closed_entitlement_is_not_one(hold, acme):
    agreement = hold()
    grant(agreement, "included_pages", 100, valid_to=NOW)

    assert allows(acme).reason == "Your subscription does not include this."
    grant(agreement, "included_pages", 30, valid_from=NOW)
    assert allows(acme).limit == 30


def test_another_organizations_purchase_opens_nothing(hold, acme, outsider):
    hold(included_pages=100, organization=outsider.organizations.get())

    assert not allows(acme)


def test_an_unknown_feature_is_a_mistake_of_the_product(acme):
    with pytest.raises(LookupError, match="'invoices' is not in FEATURES; known: reports"):
        gates.allows(acme, "invoices")


# --- One query ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purchases", [0, 1, 7])
def test_a_gate_is_one_query_however_much_was_bought(hold, acme, django_assert_num_queries, purchases):
    for _ in range(purchases):
        hold(included_pages=100, other=True)
    organization = fresh(acme)

    with django_assert_num_queries(1):
        for _ in range(3):
            gates.allows(organization, "reports")


# --- In views and templates --------------------------------------------------------------------------------


def test_the_paywall_answers_403_with_the_reason_and_the_ways_out(client, hold, acme, acme_admin, settings):
    settings.ROOT_URLCONF = "tests.billing.gated_urls"
    hold("reports-team", seats=5)
    client.force_login(acme_admin)

    response = client.get("/o/acme/gated/")

    page = response.content.decode()
    assert response.status_code == 403
    assert "Your subscription does not include this" in page
    assert settings.MARKETPLACE_LISTING_URL in page
    assert client.post("/o/acme/gated/").status_code == 403


def test_a_template_asks_a_gate(hold, acme):
    template = Template(
        '{% load gates %}{% allowed "reports" as reports %}'
        "{% if reports %}yes, {{ reports.limit }}{% else %}no: {{ reports.reason }}{% endif %}"
    )
    assert template.render(Context({"organization": fresh(acme)})).startswith("no: Your organization has no")

    hold(included_pages=100)
    assert template.render(Context({"organization": fresh(acme)})) == "yes, 100"


# --- Checks ------------------------------------------------------------------------------------------------


def complaints(settings, features) -> list[str]:
    settings.FEATURES = features
    return [
        message.id for message in run_checks(include_deployment_checks=False) if message.id[:9] == "billing.E"
    ]


def test_features_of_the_project_are_well_formed(settings):
    assert complaints(settings, settings.FEATURES) == []


def test_a_misspelled_key_of_a_feature_stops_the_start(settings):
    assert complaints(settings, {"reports": {"dimension": ["reports"], "products": ["x"]}}) == [
        "billing.E002"
    ]


@pytest.mark.parametrize(
    "feature", [{}, {"dimensions": []}, {"quota": "pages"}, {"products": [], "dimensions": []}]
)
def test_a_feature_that_nothing_grants_stops_the_start(settings, feature):
    assert complaints(settings, {"reports": feature}) == ["billing.E003"]


# --- Not known yet -----------------------------------------------------------------------------------------


def test_a_purchase_that_aws_has_not_confirmed_is_worth_another_look(hold, acme):
    hold(status="pending")

    assert allows(acme).waiting
    assert "not confirmed" in allows(acme).reason


def test_an_active_contract_whose_entitlements_were_never_read_is_worth_another_look(hold, acme):
    agreement = hold(read=False)
    assert allows(acme).waiting

    Agreement.objects.filter(pk=agreement.pk).update(entitlements_read_at=NOW)
    assert not allows(acme).waiting
    assert "does not include" in allows(acme).reason


def test_the_paywall_offers_another_look_only_while_it_is_worth_one(hold, acme, acme_admin, client, settings):
    settings.ROOT_URLCONF = "tests.billing.gated_urls"
    client.force_login(acme_admin)
    agreement = hold(status="pending")

    page = client.get(f"/o/{acme.slug}/gated/")
    assert page.status_code == 403
    assert "Almost ready" in page.content.decode()
    assert "Check again" in page.content.decode()
    assert "Subscription" in page.content.decode()  # an administrator keeps the tabs

    Agreement.objects.filter(pk=agreement.pk).update(status="failed")
    assert "Check again" not in client.get(f"/o/{acme.slug}/gated/").content.decode()

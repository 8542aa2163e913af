"""Who may use what, and why not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.template import Context, Template
from django.utils import timezone

from accounts.models import Organization
from billing import effects, gates, usage
from billing.grants import Grant, Quota, Reason
from billing.models import Agreement, Entitlement, MarketplaceCustomer
from tests.billing.arriving import at_once
from tests.billing.ledger import use

NOW = timezone.now()
HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)


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


def change(agreement, **fields) -> Agreement:
    Agreement.objects.filter(pk=agreement.pk).update(**fields)
    agreement.refresh_from_db()
    return agreement


def in_grace(agreement, until=NOW + HOUR, **fields) -> Agreement:
    """It has ended, and gives access until then."""
    ended = {"status": "ending", "ended_at": NOW - HOUR, "end_reason": "RENEWED", "access_until": until}
    return change(agreement, **{**ended, **fields})


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


def test_a_contract_that_renewed_in_place_has_its_quota_anew(hold, acme):
    agreement = hold()
    begun, renewed = NOW - timedelta(days=9), NOW - timedelta(days=2)
    grant(agreement, "included_pages", 10, expires_at=renewed, valid_from=begun, valid_to=renewed)
    grant(agreement, "included_pages", 10, expires_at=NOW + timedelta(days=99), valid_from=renewed)
    Agreement.objects.update(activated_at=NOW - timedelta(days=9))
    for key, ago, quantity in (("before", 3, 8), ("since", 0.5, 3)):
        at = NOW - timedelta(days=ago)
        usage.record(acme, "pages", quantity, key=key, occurred_at=at, now=at)

    assert gates.quota(fresh(acme), "reports", now=NOW).used == 3


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


def test_who_bought_again_after_an_expiry_is_not_sent_to_buy_once_more(hold, acme):
    grant(hold(), "included_pages", 100, expires_at=NOW - HOUR)
    assert allows(acme).code is Reason.EXPIRED

    hold(status="pending")
    assert allows(acme).code is Reason.PENDING


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


# --- While AWS cannot be asked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "lasts"),
    [
        ({}, timedelta(hours=24)),
        ({"outage": timedelta(hours=2)}, timedelta(hours=2)),
        ({"outage": timedelta(0)}, None),
        ({"outage": "closed"}, None),
    ],
)
def test_what_ran_out_and_could_not_be_read_again_goes_on_as_long_as_its_policy_says(
    hold, acme, settings, policy, lasts
):
    settings.FEATURES = {"reports": {"dimensions": ["included_pages"], "quota": "included_pages", **policy}}
    change(grant(hold(), "included_pages", 100, expires_at=NOW).agreement, entitlements_read_at=NOW - MOMENT)
    organization = fresh(acme)

    assert gates.allows(organization, "reports", now=NOW - MOMENT) == Grant(Reason.INCLUDED, 100)
    if lasts:
        assert gates.allows(organization, "reports", now=NOW) == Grant(Reason.OUTAGE, 100)
        assert gates.allows(organization, "reports", now=NOW + lasts - MOMENT).is_for_now
    assert gates.allows(organization, "reports", now=NOW + (lasts or timedelta())).code is Reason.EXPIRED


def test_a_feature_that_stays_open_does_so_until_aws_is_heard_of_again(hold, acme, settings):
    settings.FEATURES = {"reports": {"dimensions": ["included_pages"], "outage": "open"}}
    agreement = hold(read=False)
    grant(agreement, "included_pages", 100, expires_at=NOW)
    years = NOW + timedelta(days=1000)
    assert allows(acme, now=years).code is Reason.OUTAGE

    change(agreement, entitlements_read_at=NOW - MOMENT)
    assert allows(acme, now=years).code is Reason.OUTAGE
    change(agreement, entitlements_read_at=NOW)
    assert allows(acme, now=NOW).code is Reason.EXPIRED


def test_what_is_not_in_doubt_comes_first_and_the_limit_is_of_both(hold, acme):
    grant(hold(read=False), "included_pages", 100, expires_at=NOW)
    hold(included_pages=50)

    assert allows(acme) == Grant(Reason.INCLUDED, 150)
    assert allows(acme, now=NOW + timedelta(hours=24)) == Grant(Reason.INCLUDED, 50)


def test_what_a_product_opens_is_not_in_doubt_because_something_else_of_it_ran_out(hold, acme):
    change(grant(hold(), "included_pages", 100, expires_at=NOW).agreement, entitlements_read_at=NOW - HOUR)

    assert allows(acme, "reports").code is Reason.OUTAGE
    assert allows(acme, "seats").code is Reason.INCLUDED


# --- While one agreement follows another -------------------------------------------------------------------


def test_after_an_end_that_may_be_a_renewal_everything_stays_open_for_a_while(hold, acme):
    agreement = in_grace(hold(included_pages=100))
    grant(agreement, "reports", 1, expires_at=NOW - HOUR)

    assert allows(acme, now=NOW + HOUR - MOMENT) == Grant(Reason.GRACE, 100)
    assert allows(acme, now=NOW + HOUR).code is Reason.ENDED
    agreement.entitlements.filter(dimension_key="included_pages").update(valid_to=NOW)
    assert allows(acme, now=NOW + HOUR - MOMENT) == Grant(Reason.GRACE)


def test_a_contract_that_aws_calls_renewed_outlasts_its_expiry_by_a_day(hold, acme, settings):
    agreement = change(hold(), end_reason="RENEWED", entitlements_read_at=NOW - HOUR)
    grant(agreement, "included_pages", 100, expires_at=NOW)
    day = timedelta(days=1)

    for outage, afterwards in (("closed", Reason.EXPIRED), ("open", Reason.OUTAGE)):
        settings.FEATURES = {"reports": {"dimensions": ["included_pages"], "outage": outage}}
        assert allows(acme, now=NOW + day - MOMENT).code is Reason.GRACE
        assert allows(acme, now=NOW + day).code is afterwards


def test_an_agreement_and_the_one_that_continues_it_count_once(hold, acme):
    old = in_grace(hold(included_pages=100))
    new = change(hold(included_pages=50), previous=old)
    assert allows(acme) == Grant(Reason.INCLUDED, 50)

    # As AWS may tell the beginning of the new one before the end of the old one.
    change(old, status="active", ended_at=None, access_until=None, end_reason="")
    assert allows(acme).limit == 50
    third = change(hold(included_pages=7), previous=in_grace(new))
    in_grace(old)
    assert allows(acme) == Grant(Reason.INCLUDED, 7)
    change(third, status="pending", activated_at=None)
    assert allows(acme) == Grant(Reason.GRACE, 50)


@pytest.mark.parametrize(
    "not_there_yet",
    [
        {"status": "pending", "activated_at": None},
        {"status": "failed", "activated_at": None},
        {"entitlements_read_at": None},
    ],
)
def test_until_the_next_agreement_is_there_with_its_entitlements_the_old_one_counts(
    hold, acme, not_there_yet
):
    old = in_grace(hold(included_pages=100))
    change(hold(), previous=old, **not_there_yet)

    assert allows(acme) == Grant(Reason.GRACE, 100)


def test_an_agreement_that_goes_on_elsewhere_counts_where_it_is(hold, acme, outsider):
    old = in_grace(hold(included_pages=100))
    change(hold(included_pages=50, organization=outsider.organizations.get()), previous=old)

    assert allows(acme) == Grant(Reason.GRACE, 100)


def test_the_end_of_the_next_agreement_brings_no_grace_back_but_leaves_what_is_active(hold, acme):
    old = in_grace(hold(included_pages=100))
    change(hold(status="ended", included_pages=50), previous=old)
    assert allows(acme).code is Reason.ENDED

    change(old, status="active", ended_at=None, access_until=None, end_reason="")
    assert allows(acme) == Grant(Reason.INCLUDED, 100)


def test_the_quota_ignores_the_use_of_what_is_superseded_or_ran_out(hold, acme):
    old, ran_out = hold(included_pages=100), hold()
    grant(ran_out, "included_pages", 100, expires_at=NOW - HOUR)
    new = change(hold(included_pages=50), previous=old)
    for agreement, pages in ((old, 70), (ran_out, 20), (new, 3)):
        use(agreement, pages, at=NOW)

    assert gates.quota(fresh(acme), "reports", now=NOW) == Quota(Decimal(50), Decimal(3))
    assert gates.quota(fresh(acme), "reports", now=NOW + timedelta(days=100)).used == 3
    change(new, status="pending", activated_at=None)
    assert gates.quota(fresh(acme), "reports", now=NOW) == Quota(Decimal(100), Decimal(70))


@pytest.mark.parametrize(
    ("fields", "banner"),
    [
        ({"access_until": timezone.now() + HOUR}, "Your subscription is changing over at AWS"),
        ({"access_until": None}, None),
        ({"status": "active", "ended_at": None, "access_until": None}, "is changing over at AWS"),
    ],
)
def test_every_page_says_what_is_open_only_for_now(hold, acme, acme_admin, client, fields, banner):
    in_grace(hold(included_pages=100), **fields)
    client.force_login(acme_admin)

    page = client.get("/o/acme/").content.decode()

    assert (banner in page) if banner else ("About this workspace" not in page)


def test_every_page_says_that_aws_cannot_be_asked(hold, acme, acme_admin, client):
    agreement = hold()
    grant(agreement, "included_pages", 50, expires_at=NOW)
    client.force_login(acme_admin)
    assert "About this workspace" not in client.get("/o/acme/").content.decode()

    change(agreement, entitlements_read_at=NOW - HOUR)
    assert "AWS has not told yet whether your contract was renewed" in client.get("/o/acme/").content.decode()


# --- Reservations ------------------------------------------------------------------------------------------


def test_a_reservation_is_of_what_is_left(hold, acme):
    agreement = hold("reports-team", seats=10)

    assert gates.reserve(acme, "seats", 9, now=NOW) == Grant(Reason.INCLUDED, 10)
    refused = gates.reserve(acme, "seats", 10, now=NOW)
    assert (refused.code, refused.limit, refused.reason) == (Reason.QUOTA, 10, "Only 9 of 10 are left.")
    agreement.entitlements.update(valid_to=NOW)
    grant(agreement, "seats", 1, valid_from=NOW)
    assert gates.reserve(acme, "seats", now=NOW).reason == "All 1 are taken."
    assert gates.quota(fresh(acme), "seats", now=NOW) == Quota(Decimal(1), Decimal(1))


def test_what_has_no_limit_can_always_be_reserved(hold, acme):
    hold("reports-payg")

    assert gates.reserve(acme, "seats", 1000, now=NOW) == Grant(Reason.INCLUDED)


def test_what_was_not_bought_cannot_be_reserved(acme):
    assert gates.reserve(acme, "seats", now=NOW).code is Reason.NO_SUBSCRIPTION


def test_a_feature_that_nothing_counts_cannot_be_reserved(acme):
    with pytest.raises(LookupError, match=r"FEATURES\['reports'\] has no 'count'"):
        gates.reserve(acme, "reports", now=NOW)


def test_a_reservation_outside_a_transaction_is_a_mistake_of_the_product():
    # A thread has a connection of its own, in no test's transaction.
    [answer] = at_once(lambda: gates.reserve(Organization(pk=1), "seats", now=NOW))

    assert isinstance(answer, transaction.TransactionManagementError)
    assert "as long as its transaction" in str(answer)


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


def situate(hold, code):
    """Bring acme into the situation that a refusal is about."""
    if code in ("pending", "failed", "ended"):
        hold(status=code, included_pages=100)
    elif code == "expired":
        grant(hold(), "included_pages", 100, expires_at=NOW - HOUR)
    elif code == "not_included":
        hold("reports-team", seats=5)


@pytest.mark.parametrize(
    ("code", "reason", "ways_out"),
    [
        ("pending", "AWS has not confirmed your purchase yet", {"again"}),
        ("not_included", "Your subscription does not include this", {"listing"}),
        ("no_subscription", "Your organization has no subscription yet", {"listing"}),
        ("expired", "Your contract has expired", {"listing", "console"}),
        ("failed", "AWS could not complete your purchase", {"listing", "console"}),
        ("ended", "Your subscription has ended", {"listing", "console"}),
    ],
)
def test_the_paywall_says_why_and_the_ways_out(
    client, hold, acme, acme_admin, settings, code, reason, ways_out
):
    settings.ROOT_URLCONF = "tests.billing.gated_urls"
    situate(hold, code)
    client.force_login(acme_admin)

    response = client.get("/o/acme/gated/")

    page = response.content.decode()
    assert (response.status_code, response.context["grant"].code) == (403, code)
    assert reason in page
    assert settings.SUPPORT_EMAIL in page
    assert "See your subscription" in page
    links = {
        "again": 'href="/o/acme/gated/"',
        "listing": settings.MARKETPLACE_LISTING_URL,
        "console": "https://console.aws.amazon.com/marketplace/home#/subscriptions",
    }
    assert {name for name, link in links.items() if link in page} == ways_out
    assert client.post("/o/acme/gated/").status_code == 403


def test_the_paywall_sends_members_to_their_administrators(client, acme, acme_member, settings):
    settings.ROOT_URLCONF = "tests.billing.gated_urls"
    client.force_login(acme_member)

    page = client.get("/o/acme/gated/").content.decode()

    assert "/o/acme/subscription/" not in page
    assert "Owners and admins of your workspace" in page


def test_every_answer_has_a_sentence():
    grants = [Grant(code, Decimal(5), Decimal(2)) for code in Reason]

    assert len({grant.reason for grant in grants}) == len(grants)
    assert {grant.code for grant in grants if grant} == {Reason.INCLUDED, Reason.GRACE, Reason.OUTAGE}


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


@pytest.mark.parametrize("outage", ["sometimes", 24, None])
def test_an_unknown_outage_policy_stops_the_start(settings, outage):
    assert complaints(settings, {"reports": {"products": ["x"], "outage": outage}}) == ["billing.E004"]


@pytest.mark.parametrize("outage", ["open", "closed", timedelta(0), timedelta(days=3)])
def test_an_outage_policy_is_a_word_or_a_time(settings, outage):
    assert complaints(settings, {"reports": {"products": ["x"], "outage": outage}}) == []


@pytest.mark.parametrize(
    "count", ["accounts.organizations.places", "nowhere.count", "count", "accounts.models.settings", len]
)
def test_a_count_that_is_no_function_to_import_stops_the_start(settings, count):
    assert complaints(settings, {"seats": {"products": ["x"], "count": count}}) == ["billing.E005"]


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

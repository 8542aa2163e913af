"""What purchases mean for who closes a workspace or an account, and billing's part of an export."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import closing, exporting, organizations
from accounts.models import Membership
from billing import audit, customers, leaving, registration, standing, succession
from billing import exporting as billing_exporting
from billing.models import Agreement, JoinRequest, MeteringRecord, Registration, UsageEvent
from tests.billing.ledger import NOON, entitle, make_agreement, make_record, use
from tests.plugin import PASSWORD
from tests.test_pages import assert_clean


def register(agreement, user=None, **fields):
    return Registration.objects.create(
        digest=f"digest-of-{Registration.objects.count()}",
        agreement=agreement,
        user=user,
        expires_at=NOON,
        answers={"company": "Quux Company"},
        **fields,
    )


@pytest.mark.parametrize(
    ("bought", "reason"),
    [
        ({}, "AWS goes on billing Reports Payg"),
        ({"activated_at": None}, "AWS goes on billing Reports Payg"),
        ({"ended_at": NOON}, "The last usage of Reports Payg is still being settled"),
        (
            {"ended_at": NOON, "status": "ended", "access_until": NOON + timedelta(hours=1)},
            "The last usage of Reports Payg is still being settled",
        ),
        ({"ended_at": NOON, "status": "ended"}, None),
        ({"ended_at": NOON, "status": "ended", "access_until": NOON}, None),
        ({"activated_at": None, "status": "failed"}, None),
    ],
)
def test_a_workspace_is_closed_when_nothing_is_owed_any_more(catalog, acme, acme_admin, bought, reason):
    agreement = make_agreement(catalog, acme, **bought)
    agreement.product.title = "Reports Payg"
    agreement.product.save()

    refusal = leaving.why_not(acme, now=NOON)

    if reason is None:
        assert refusal is None
        closing.close_organization(acme, by=acme_admin, now=NOON)
        return
    assert refusal.startswith(reason)
    with pytest.raises(closing.StillNeeded):
        closing.close_organization(acme, by=acme_admin, now=NOON)


def test_every_product_is_named_once(catalog, acme):
    for code in ("reports-payg", "reports-payg", "reports-flex"):
        make_agreement(catalog, acme, code)

    refusal = leaving.why_not(acme, now=NOON)

    titles = [catalog[code].title for code in ("reports-payg", "reports-flex")]
    assert all(refusal.count(title) == 1 for title in titles)
    assert "cancel them in the AWS console, under Manage subscriptions" in refusal


def test_the_page_of_a_person_alone_in_many_workspaces_needs_few_queries(
    client, catalog, acme, acme_admin, django_assert_max_num_queries
):
    for n in range(30):
        make_agreement(catalog, organizations.create(name=f"W{n}", owner=acme_admin))
    client.force_login(acme_admin)

    with django_assert_max_num_queries(10):
        page = client.get("/accounts/data/").content.decode()

    assert page.count("AWS goes on billing") == 30


def test_another_workspace_s_purchase_stands_against_nothing(catalog, acme, outsider):
    make_agreement(catalog, outsider.organizations.get())

    assert leaving.why_not(acme, now=NOON) is None


def test_a_closed_workspace_keeps_what_the_books_need(catalog, acme, acme_admin, outsider):
    agreement = make_agreement(catalog, acme)
    event = use(agreement)
    registration = register(agreement, acme_admin, claimed_at=NOON)
    request = JoinRequest.objects.create(registration=registration, organization=acme, user=outsider)
    Agreement.objects.filter(pk=agreement.pk).update(status="ended", ended_at=NOON)

    closing.close_organization(acme, by=acme_admin, now=NOON)

    assert UsageEvent.objects.get(pk=event.pk).organization_id == acme.pk
    assert Agreement.objects.get(pk=agreement.pk).organization_id == acme.pk
    registration.refresh_from_db()
    assert registration.answers == {}
    request.refresh_from_db()
    assert (request.is_approved, request.answered_by, request.answered_at) == (False, acme_admin, NOON)
    assert list(audit.verify()) == []


def test_an_account_that_closes_lets_go_of_what_it_has_not_claimed(catalog, acme, acme_member):
    waiting = register(make_agreement(catalog, None), acme_member)
    claimed = register(make_agreement(catalog, acme), acme_member, claimed_at=NOON)
    request = JoinRequest.objects.create(registration=waiting, organization=acme, user=acme_member)

    closing.close_account(acme_member, now=NOON)

    waiting.refresh_from_db()
    claimed.refresh_from_db()
    request.refresh_from_db()
    assert waiting.user is None
    assert claimed.user == acme_member
    assert waiting.answers == claimed.answers == {}
    assert request.is_approved is False


def test_a_person_alone_with_a_purchase_is_told_to_cancel_it(client, catalog, acme, acme_admin):
    make_agreement(catalog, acme)
    client.force_login(acme_admin)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    page = client.get("/accounts/data/").content.decode()

    assert_clean(page)
    assert "AWS goes on billing" in page
    assert client.post("/accounts/data/", {"typed": acme_admin.email}).status_code == 409
    page = client.get("/o/acme/close/").content.decode()
    assert "https://console.aws.amazon.com/marketplace/home#/subscriptions" in page


def test_a_renewal_that_comes_late_does_not_go_to_a_closed_workspace(catalog, acme, acme_admin):
    old = make_agreement(
        catalog, acme, account="123456789012", ended_at=NOON, status="ended", end_reason="RENEWED"
    )
    closing.close_organization(acme, by=acme_admin, now=NOON)
    new = make_agreement(
        catalog, None, account="123456789012", intent="RENEW", previous_agreement_id=old.agreement_id
    )

    succession.link(new, now=NOON)

    new.refresh_from_db()
    assert (new.previous, new.organization) == (old, None)


def test_a_purchase_is_not_given_to_a_workspace_that_closes_meanwhile(catalog, acme, acme_admin, monkeypatch):
    arrival = register(make_agreement(catalog, None), acme_admin)
    lock = customers.lock

    def close_meanwhile(pk):
        closing.close_organization(acme, by=acme_admin, now=NOON)
        return lock(pk)

    monkeypatch.setattr(customers, "lock", close_meanwhile)

    with pytest.raises(registration.ClaimRefused):
        registration.claim(arrival, by=acme_admin, organization=acme, now=NOON)

    assert Agreement.objects.get().organization is None


# --- Exports


def exported(organization):
    return json.loads("".join(exporting.of_organization(organization, now=NOON)))


def test_an_export_has_everything_bought_and_used_and_nothing_of_another(
    catalog, acme, acme_admin, acme_member, outsider
):
    agreement = make_agreement(catalog, acme, "reports-flex", account="123456789012")
    entitle(agreement, 500)
    used = use(agreement, "0.000001", key="mine", tags={"team": "large"})
    record = make_record(agreement, NOON, 3, used=5, included=2)
    register(agreement, acme_member, claimed_at=NOON)
    theirs = make_agreement(catalog, outsider.organizations.get(), "reports-flex", account="999999999999")
    entitle(theirs, 777)
    use(theirs, 9, key="theirs")
    make_record(theirs, NOON, 8)
    register(theirs, outsider)

    data = exported(acme)

    [purchase] = data["purchases"]
    assert (purchase["id"], purchase["agreement_id"], purchase["status"]) == (
        agreement.pk, agreement.agreement_id, "active",
    )  # fmt: skip
    assert purchase["aws_account"] == "•••• •••• 9012"
    assert [row["value"] for row in data["entitlements"]] == [500]
    [use_] = data["usage"]
    assert (use_["key"], use_["quantity"], use_["tags"]) == ("mine", "0.000001", {"team": "large"})
    assert use_["purchase"] == used.agreement_id == agreement.pk
    [reported] = data["reported_usage"]
    assert (reported["used"], reported["included"], reported["billed"]) == ("5", "2", "3")
    assert reported["state"] == record.state
    assert [row["answers"] for row in data["arrivals"]] == [{"company": "Quux Company"}]
    text = json.dumps(data)
    assert "123456789012" not in text
    assert "digest" not in text
    assert not any(word in text for word in ("theirs", "777", "other.example", "9999"))


def test_usage_of_before_a_purchase_moved_stays_with_who_used_it(catalog, acme, outsider):
    agreement = make_agreement(catalog, acme)
    use(agreement, key="by-acme")
    Agreement.objects.filter(pk=agreement.pk).update(organization=outsider.organizations.get())

    assert [row["key"] for row in exported(acme)["usage"]] == ["by-acme"]
    assert exported(outsider.organizations.get())["usage"] == []


def test_the_memory_of_an_export_does_not_grow_with_the_usage(catalog, acme, monkeypatch):
    monkeypatch.setattr(billing_exporting, "CHUNK", 200)
    agreement = make_agreement(catalog, acme)
    dimension = agreement.product.dimensions.get(key="pages")

    def add(count):
        known = UsageEvent.objects.count()
        UsageEvent.objects.bulk_create(
            UsageEvent(
                organization=acme, agreement=agreement, dimension=dimension, quantity=1, occurred_at=NOON,
                recorded_at=NOON, key=f"use-{known + number}", tags={"team": "blue"},
            )
            for number in range(count)
        )  # fmt: skip

    def peak():
        tracemalloc.start()
        pieces = sum(1 for _ in exporting.of_organization(acme, now=NOON))
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return pieces, reached

    add(1000)
    peak()  # what is imported and compiled once
    few, low = peak()
    add(4000)
    many, high = peak()

    assert many > 3 * few
    assert high < 2 * low, "Five times the usage."


def test_a_person_s_export_has_their_arrivals_and_requests(catalog, acme, acme_admin, acme_member):
    waiting = register(make_agreement(catalog, None), acme_member)
    register(make_agreement(catalog, None), acme_admin)
    answered = {"answered_at": NOON, "answered_by": acme_admin}
    for approved in (None, False, True):
        JoinRequest.objects.create(
            registration=waiting,
            organization=acme,
            user=acme_member,
            is_approved=approved,
            **(answered if approved is not None else {}),
        )

    data = json.loads("".join(exporting.of_person(acme_member, now=NOON)))

    assert [row["purchase"] for row in data["arrivals"]] == [waiting.agreement_id]
    # A workspace that has not let them in is theirs to know by a masked address only.
    assert [row["workspace"] for row in data["join_requests"]] == [None, None, "Acme"]


# --- The first page


def facts_of(organization, user):
    facts = standing.of(Membership.objects.get(organization=organization, user=user))
    return [(fact.label, fact.text, fact.url) for fact in facts]


def test_the_first_page_says_how_purchases_stand(catalog, acme, acme_admin, acme_member, client):
    title = catalog["reports-payg"].title
    url = "/o/acme/subscription/"
    assert facts_of(acme, acme_admin) == [("Subscription", "None yet", url)]
    make_agreement(catalog, acme, status="ended", ended_at=NOON)
    assert facts_of(acme, acme_admin) == [(title, "Ended", url)]

    make_agreement(catalog, acme, activated_at=None)
    make_agreement(catalog, acme)

    assert facts_of(acme, acme_member) == [(title, "Active", ""), (title, "Waiting for AWS", "")]
    client.force_login(acme_member)
    page = client.get("/o/acme/").content.decode()
    assert_clean(page)
    assert "Waiting for AWS" in page
    assert "See the subscription" not in page


@pytest.mark.parametrize("path", ["", "members/", "invite/", "settings/", "close/"])
def test_with_fifty_purchases_and_seats_a_page_needs_at_most_ten_queries(
    client, catalog, acme, acme_admin, django_assert_max_num_queries, path
):
    for _ in range(49):
        make_agreement(catalog, acme)
    entitle(make_agreement(catalog, acme, "reports-team"), 200, key="seats")
    assert not MeteringRecord.objects.exists()
    client.force_login(acme_admin)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    with django_assert_max_num_queries(10):
        response = client.get(f"/o/acme/{path}")

    assert response.status_code == 200
    assert ("of 200 seats taken" in response.content.decode()) == (path in ("members/", "invite/"))
    assert timezone.now() > NOON

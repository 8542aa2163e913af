"""The link of an invitation: as whoever opens it, from the mail to the workspace."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import invitations, organizations
from accounts.invitation_links import COOKIE
from accounts.models import Membership
from tests.accounts.test_sign_in import mailed_code, sign_up, signed_in_as
from tests.plugin import PASSWORD
from tests.test_pages import assert_clean


@pytest.fixture
def invite(acme, acme_admin):
    def make(email="eve@acme.example", role="member", *, ago=timedelta(0)):
        return invitations.invite(acme, email=email, role=role, by=acme_admin, now=timezone.now() - ago)

    return make


@pytest.fixture
def link(invite):
    _, token = invite()
    return f"/invitations/{token}/"


def open_page(client, link, *, status=200):
    response = client.get(link)
    page = response.content.decode()
    assert response.status_code == status
    assert_clean(page)
    assert response["Referrer-Policy"] == "strict-origin"
    assert "no-store" in response["Cache-Control"]
    return page


def roles_of(organization):
    return dict(organization.memberships.values_list("user__email", "role"))


def test_a_stranger_sees_who_invites_to_what_and_the_address_only_masked(client, link):
    page = open_page(client, link)

    assert "Join Acme" in page
    assert "Ada invites you" in page
    assert "e••@a•••.example" in page
    assert "eve@acme.example" not in page
    assert "ada@acme.example" not in page
    assert f'href="/accounts/signup/?next={link}"' in page
    assert f'href="/accounts/login/?next={link}"' in page
    assert f'action="{link}"' not in page


@pytest.mark.parametrize("sign_up_is_open", [True, False])
def test_a_new_person_signs_up_with_a_code_and_comes_back_to_accept(
    client, settings, acme, link, sign_up_is_open
):
    settings.SIGNUP_WITHOUT_PURCHASE = sign_up_is_open
    open_page(client, link)

    sign_up(client, "eve@acme.example", next=link)
    response = client.post("/accounts/confirm-email/", {"code": mailed_code()})
    assert response["Location"] == link
    assert f'action="{link}"' in open_page(client, link)
    accepted = [client.post(link) for _ in range(2)]

    assert [response["Location"] for response in accepted] == ["/o/acme/"] * 2
    assert roles_of(acme)["eve@acme.example"] == "member"
    assert client.cookies[COOKIE].value == ""
    assert "You are in this workspace already" in open_page(client, link)


def test_where_sign_up_is_closed_only_a_good_invitation_opens_it(client, settings, acme_admin, invite):
    settings.SIGNUP_WITHOUT_PURCHASE = False
    invitation, token = invite()
    closed = "Start on AWS Marketplace"
    assert closed in client.get("/accounts/signup/").content.decode()

    open_page(client, f"/invitations/{token}/")
    assert closed not in client.get("/accounts/signup/").content.decode()

    invitations.revoke(invitation, by=acme_admin, now=timezone.now())
    assert closed in client.get("/accounts/signup/").content.decode()


@pytest.mark.parametrize("value", ["", "made-up", "a:b:c", "é"])
def test_a_cookie_that_we_did_not_sign_opens_nothing(client, settings, db, value):
    settings.SIGNUP_WITHOUT_PURCHASE = False
    client.cookies[COOKIE] = value

    assert "Start on AWS Marketplace" in client.get("/accounts/signup/").content.decode()


def test_the_cookie_is_for_the_server_alone(client, link):
    client.get(link)

    morsel = client.cookies[COOKIE]
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"


def test_a_known_person_signs_in_and_comes_back(client, acme, make_user, link):
    make_user("eve@acme.example")
    open_page(client, link)

    response = client.post(
        "/accounts/login/", {"login": "eve@acme.example", "password": PASSWORD, "next": link}
    )

    assert response["Location"] == link
    assert client.post(link)["Location"] == "/o/acme/"


def test_who_lost_the_way_in_sign_up_is_led_back_once(client, make_user, link):
    make_user("eve@acme.example")
    open_page(client, link)
    client.post("/accounts/login/", {"login": "eve@acme.example", "password": PASSWORD})

    assert client.get("/home/")["Location"] == link
    assert "Not now" in open_page(client, link)
    assert client.get("/home/")["Location"] == "/o/"


def test_who_the_invitation_is_not_for_is_not_led_to_it(client, outsider, link):
    open_page(client, link)
    client.force_login(outsider)

    assert client.get("/home/")["Location"] == "/o/other/"


def test_accepting_takes_sign_in(client, acme, link):
    assert client.post(link)["Location"] == f"/accounts/login/?next={link}"
    assert acme.memberships.count() == 1


def test_the_wrong_account_is_told_which_address_and_what_to_do(client, acme, outsider, link):
    client.force_login(outsider)

    page = open_page(client, link)
    assert "e••@a•••.example" in page
    assert "eve@acme.example" not in page
    assert outsider.email in page
    assert 'href="/accounts/email/"' in page
    response = client.post(link, follow=True)
    assert response.redirect_chain == [(link, 302)]
    assert "This invitation is for another address" in response.content.decode()
    assert outsider.email not in roles_of(acme)

    response = client.post("/accounts/logout/", {"next": link})
    assert response["Location"] == link
    assert signed_in_as(client) is None


def test_an_address_that_was_added_later_opens_it(client, acme, outsider, link):
    client.force_login(outsider)
    address = EmailAddress.objects.create(user=outsider, email="eve@acme.example", verified=False)
    assert "This invitation is for another address" in open_page(client, link)

    address.verified = True
    address.save()
    client.post(link)

    assert roles_of(acme)[outsider.email] == "member"


@pytest.mark.parametrize(
    "token", ["unknown", "x" * 5000, "%00", "é", "<script>alert(1)<", "..", "%F0%9F%9A%80"]
)
def test_an_unknown_link_says_so(client, db, token):
    page = open_page(client, f"/invitations/{token}/", status=404)

    assert "This invitation cannot be accepted" in page
    assert "<script>alert" not in page


def test_what_became_of_it_is_told_to_its_person_and_to_nobody_else(
    client, acme_admin, invite, outsider, make_user
):
    eve = make_user("eve@acme.example")
    revoked, token = invite()
    invitations.revoke(revoked, by=acme_admin, now=timezone.now())
    _, expired = invite(ago=timedelta(days=7))
    client.force_login(eve)
    assert "withdrawn" in open_page(client, f"/invitations/{token}/", status=410)
    page = open_page(client, f"/invitations/{expired}/", status=410)
    assert "expired" in page
    assert "Acme" not in page.replace("Acme Reports", "")
    assert client.post(f"/invitations/{expired}/")["Location"] == f"/invitations/{expired}/"

    client.force_login(outsider)
    for each in (token, expired):
        page = open_page(client, f"/invitations/{each}/")
        assert "withdrawn" not in page
        assert "expired" not in page


def test_a_link_that_another_account_used_is_over(client, acme, invite, make_user):
    _, token = invite()
    invitations.accept(token, user=make_user("eve@acme.example"), now=timezone.now())

    assert "accepted already" in open_page(Client(), f"/invitations/{token}/", status=410)


def test_who_was_removed_does_not_come_back_by_the_old_link(client, acme, acme_admin, invite, make_user):
    _, token = invite()
    eve = make_user("eve@acme.example")
    membership = invitations.accept(token, user=eve, now=timezone.now())
    organizations.remove(membership, by=acme_admin, now=timezone.now())
    client.force_login(eve)

    assert "accepted already" in open_page(client, f"/invitations/{token}/", status=410)
    client.post(f"/invitations/{token}/")
    assert eve.email not in roles_of(acme)


def test_a_member_has_nothing_to_accept(client, acme, acme_member, invite):
    _, token = invite("bob@home.example", role="admin")
    client.force_login(acme_member)

    assert "You are in this workspace already" in open_page(client, f"/invitations/{token}/")
    assert Membership.objects.get(user=acme_member).role == "member"


def test_without_a_seat_the_link_stays_good_and_says_why(client, settings, acme, invite, make_user):
    _, token = invite()
    client.force_login(make_user("eve@acme.example"))
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.OnePlace"

    response = client.post(f"/invitations/{token}/", follow=True)

    page = response.content.decode()
    assert "All 1 places are taken." in page
    assert "Accept the invitation" in page
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.TwoPlaces"
    assert client.post(f"/invitations/{token}/")["Location"] == "/o/acme/"


def test_another_site_accepts_nothing(acme, make_user, link):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("eve@acme.example"))

    assert client.post(link).status_code == 403
    assert acme.memberships.count() == 1


def test_strange_names_are_text(client, acme, acme_admin, link):
    acme.name, acme_admin.name = "<b>\u202eemca", "x" * 150
    acme.save()
    acme_admin.save()

    page = open_page(client, link)

    assert "<b>" not in page
    assert re.search("x{150} invites you", page)


def test_an_inviter_who_has_gone_is_not_named(client, acme, acme_admin, link):
    acme_admin.closed_at = timezone.now()
    acme_admin.save()

    page = open_page(client, link)

    assert "You are invited to this workspace" in page
    assert "Ada" not in page
    assert not mail.outbox

"""Signing up and in, by mail codes, as a browser does it."""

import re

import pytest
from django.core import mail

from accounts.models import User
from tests.plugin import PASSWORD


def mailed_code() -> str:
    found = re.search(r"^[A-Z0-9]+(?:-[A-Z0-9]+)+$", mail.outbox[-1].body, re.MULTILINE)
    assert found, "The code stands on a line of its own."
    return found[0]


def sign_up(client, email, **more):
    return client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, **more}, follow=True)


def signed_in_as(client) -> str | None:
    user = client.get("/").wsgi_request.user
    return user.email if user.is_authenticated else None


@pytest.mark.django_db
def test_a_new_person_signs_up_with_a_code_and_goes_on_where_they_came_from(client):
    page = sign_up(client, "Ada@new.example", next="/accounts/sessions/")

    assert page.redirect_chain[-1][0].startswith("/accounts/confirm-email/")
    assert signed_in_as(client) is None, "Nobody is signed in before the address is proven."
    assert mail.outbox[0].to == ["ada@new.example"]

    response = client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert response["Location"] == "/accounts/sessions/"
    assert signed_in_as(client) == "ada@new.example"


@pytest.mark.django_db
def test_sign_up_does_not_send_people_to_other_sites(client):
    sign_up(client, "ada@new.example", next="https://evil.example/")

    response = client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert response["Location"] == "/home/"


@pytest.mark.django_db
def test_a_wrong_code_signs_nobody_in(client):
    sign_up(client, "ada@new.example")

    response = client.post("/accounts/confirm-email/", {"code": "WRONG"})

    assert response.status_code == 200
    assert signed_in_as(client) is None


@pytest.mark.django_db
def test_after_a_mistyped_address_one_starts_over(client):
    sign_up(client, "ada@typo.example")

    response = client.post("/accounts/logout/", {"next": "/accounts/signup/?next=/accounts/sessions/"})
    assert response["Location"] == "/accounts/signup/?next=/accounts/sessions/"
    sign_up(client, "ada@new.example")
    client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert signed_in_as(client) == "ada@new.example"


@pytest.mark.django_db
def test_the_code_page_says_what_to_do_without_a_code(client):
    page = sign_up(client, "ada@new.example").content.decode()

    assert "Already have an account?" in page
    assert "Sign in instead" in page
    assert "Send a new code" in page


def test_a_known_address_gets_no_code_but_a_mail_that_leads_to_sign_in(client, acme_member, settings):
    known = sign_up(client, acme_member.email)

    assert User.objects.filter(email=acme_member.email).count() == 1
    [letter] = mail.outbox
    assert letter.to == [acme_member.email]
    assert f"{settings.SITE_URL}/accounts/login/" in letter.body
    assert "code" not in letter.subject

    # Nobody finds out on the page who is a customer: it reads as if the address were new.
    client.cookies.clear()
    new = sign_up(client, "bob@elsewhere.example")
    masked = [
        re.sub(
            r"[\w.]+@(acme|elsewhere)\.example|csrfmiddlewaretoken\" value=\"\w+|\s+",
            "",
            page.content.decode(),
        )
        for page in (known, new)
    ]
    assert masked[0] == masked[1]


def test_from_the_code_page_a_known_person_gets_to_sign_in(client, acme_member):
    sign_up(client, acme_member.email)

    response = client.post("/accounts/logout/", {"next": "/accounts/login/"}, follow=True)
    assert response.redirect_chain[-1][0] == "/accounts/login/"
    client.post("/accounts/login/", {"login": acme_member.email, "password": PASSWORD})

    assert signed_in_as(client) == acme_member.email


def test_an_address_is_accepted_in_any_case(client, acme_member):
    client.post("/accounts/login/", {"login": "BOB@Acme.example", "password": PASSWORD})

    assert signed_in_as(client) == acme_member.email


def test_sign_in_leads_on_but_not_to_other_sites(client, acme_member):
    credentials = {"login": acme_member.email, "password": PASSWORD}

    assert client.post("/accounts/login/", {**credentials, "next": "/o/acme/"})["Location"] == "/o/acme/"
    client.logout()
    assert client.post("/accounts/login/", {**credentials, "next": "//evil.example"})["Location"] == "/home/"


def test_a_password_is_reset_with_a_code(client, acme_member):
    client.post("/accounts/password/reset/", {"email": acme_member.email})
    response = client.post("/accounts/password/reset/confirm/", {"code": mailed_code()}, follow=True)
    [field, *_] = response.context["form"].fields
    assert field == "password1"

    client.post(
        "/accounts/password/reset/complete/",
        {"password1": "another horse entirely", "password2": "another horse entirely"},
    )

    assert client.login(email=acme_member.email, password="another horse entirely")


@pytest.mark.django_db
def test_resetting_an_unknown_address_looks_the_same_and_says_so_by_mail(client):
    response = client.post("/accounts/password/reset/", {"email": "nobody@nowhere.example"})

    assert response.status_code == 302
    [letter] = mail.outbox
    assert letter.to == ["nobody@nowhere.example"]
    assert "/accounts/signup/" in letter.body


@pytest.mark.django_db
def test_where_a_purchase_comes_first_sign_up_leads_to_the_listing(client, settings):
    settings.SIGNUP_WITHOUT_PURCHASE = False

    page = client.get("/accounts/signup/").content.decode()
    sign_up(client, "ada@new.example")

    assert settings.MARKETPLACE_LISTING_URL in page
    assert 'name="password1"' not in page
    assert not User.objects.exists()
    assert mail.outbox == []


@pytest.mark.django_db
def test_mails_carry_the_sites_name_and_whom_to_ask(client, settings):
    settings.SITE_NAME = "Größe & Co"
    sign_up(client, "ada@new.example")

    [letter] = mail.outbox
    assert letter.subject == "Your Größe & Co sign-up code"
    assert "Größe & Co" in letter.body
    assert settings.SUPPORT_EMAIL in letter.body
    assert "example.com" not in letter.body


def test_signing_out_takes_a_button_not_a_link(client, acme_member):
    client.force_login(acme_member)

    client.get("/accounts/logout/")
    assert signed_in_as(client) == acme_member.email
    client.post("/accounts/logout/")
    assert signed_in_as(client) is None

"""Signing up and in, by mail codes, as a browser does it."""

import re

import pytest
from django.core import mail
from django.utils import timezone

from accounts.models import User
from tests.accounts.steps import (
    app_code,
    mailed_code,
    prove_again,
    sign_in,
    sign_up,
    signed_in_as,
    use_an_app,
)
from tests.plugin import PASSWORD


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


def test_a_mailed_code_signs_in_without_a_password_and_leads_on(client, acme_member):
    page = client.post("/accounts/login/code/", {"email": acme_member.email, "next": "/o/acme/"}, follow=True)
    assert page.redirect_chain[-1][0].startswith("/accounts/login/code/confirm/")
    assert signed_in_as(client) is None

    response = client.post("/accounts/login/code/confirm/", {"code": mailed_code(), "next": "/o/acme/"})

    assert response["Location"] == "/o/acme/"
    assert signed_in_as(client) == acme_member.email


@pytest.mark.django_db
def test_no_code_is_sent_to_a_stranger_but_the_page_is_the_same(client):
    page = client.post("/accounts/login/code/", {"email": "nobody@nowhere.example"}, follow=True)

    assert "Enter the code we sent you" in page.content.decode()
    [letter] = mail.outbox
    assert "There is no account" in letter.subject


def test_a_mailed_code_does_not_replace_the_second_factor(client, acme_member):
    use_an_app(acme_member)
    client.post("/accounts/login/code/", {"email": acme_member.email})

    response = client.post("/accounts/login/code/confirm/", {"code": mailed_code()})

    assert response["Location"].startswith("/accounts/2fa/authenticate/")
    assert signed_in_as(client) is None


def test_with_an_app_the_password_is_half_the_way(client, acme_member):
    secret = use_an_app(acme_member)

    assert sign_in(client, acme_member)["Location"].startswith("/accounts/2fa/authenticate/")
    assert signed_in_as(client) is None
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert signed_in_as(client) is None
    client.post("/accounts/2fa/authenticate/", {"code": app_code(secret)})

    assert signed_in_as(client) == acme_member.email


def test_a_recovery_code_works_once(client, acme_member):
    use_an_app(acme_member)
    codes = acme_member.authenticator_set.get(type="recovery_codes").wrap().get_unused_codes()

    sign_in(client, acme_member)
    client.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert signed_in_as(client) == acme_member.email
    client.post("/accounts/logout/")

    sign_in(client, acme_member)
    client.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert signed_in_as(client) is None


def test_an_app_is_set_up_and_recovery_codes_come_with_it(client, acme_member):
    sign_in(client, acme_member)
    prove_again(client)
    form = client.get("/accounts/2fa/totp/activate/").context["form"]

    page = client.post("/accounts/2fa/totp/activate/", {"code": app_code(form.secret)}, follow=True)

    assert page.redirect_chain[-1][0] == "/accounts/2fa/recovery-codes/"
    assert "10 of 10 codes are left." in page.content.decode()
    assert client.get("/accounts/2fa/recovery-codes/download/")["Content-Type"].startswith("text/plain")


def test_an_address_is_changed_by_adding_verifying_and_removing(client, acme_member):
    sign_in(client, acme_member)
    prove_again(client)

    client.post("/accounts/email/", {"action_add": "", "email": "bob@new.example"})
    client.post("/accounts/confirm-email/", {"code": mailed_code()})
    client.post("/accounts/email/", {"action_primary": "", "email": "bob@new.example"})
    client.post("/accounts/email/", {"action_remove": "", "email": "bob@acme.example"})

    acme_member.refresh_from_db()
    assert acme_member.email == "bob@new.example"
    assert [address.email for address in acme_member.emailaddress_set.all()] == ["bob@new.example"]


def test_who_finds_a_signed_in_browser_must_prove_who_they_are_to_add_an_address(client, acme_member):
    client.force_login(acme_member)

    response = client.post("/accounts/email/", {"action_add": "", "email": "thief@evil.example"})

    assert response["Location"].startswith("/accounts/reauthenticate/")
    assert mail.outbox == []

    # Whoever it is goes on where they were asked.
    client.post("/accounts/reauthenticate/?next=/accounts/email/", {"password": PASSWORD})
    assert mail.outbox[-1].to == ["thief@evil.example"]


def test_changes_that_matter_are_told_by_mail(client, acme_member):
    sign_in(client, acme_member)

    client.post(
        "/accounts/password/change/",
        {
            "oldpassword": PASSWORD,
            "password1": "another horse entirely",
            "password2": "another horse entirely",
        },
    )

    [letter] = mail.outbox
    assert letter.to == [acme_member.email]
    assert "password was changed" in letter.subject
    assert signed_in_as(client) == acme_member.email


def test_other_sessions_are_listed_and_signed_out(client, acme_member):
    elsewhere = type(client)(headers={"user-agent": "<b>Elsewhere</b>"})
    sign_in(elsewhere, acme_member)
    elsewhere.get("/")
    sign_in(client, acme_member)

    page = client.get("/accounts/sessions/").content.decode()
    assert "&lt;b&gt;Elsewhere" in page
    assert "Signed in:" in page
    client.post("/accounts/sessions/")

    assert signed_in_as(elsewhere) is None
    assert signed_in_as(client) == acme_member.email


@pytest.mark.parametrize("password", [PASSWORD, "wrong password"])
def test_a_closed_account_does_not_sign_in(client, acme_member, password):
    acme_member.is_active = False
    acme_member.closed_at = timezone.now()
    acme_member.save()

    client.post("/accounts/login/", {"login": acme_member.email, "password": password}, follow=True)
    client.post("/accounts/login/code/", {"email": acme_member.email})

    assert signed_in_as(client) is None
    assert all("code" not in letter.subject for letter in mail.outbox)


def test_an_open_session_ends_with_the_account(client, acme_member):
    sign_in(client, acme_member)
    User.objects.filter(pk=acme_member.pk).update(is_active=False, closed_at=timezone.now())

    assert signed_in_as(client) is None
    assert client.get("/o/acme/").status_code == 302
    assert client.get("/accounts/profile/")["Location"].startswith("/accounts/login/")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("terms", "privacy", "said"),
    [
        ("", "", None),
        ("https://acme.example/t?a=1&b=2", "", "you agree to the"),
        ("", "https://acme.example/p", "What happens to your data"),
        ("https://acme.example/t", "https://acme.example/p", "privacy policy</a>."),
    ],
)
def test_the_terms_are_named_where_there_are_any(client, settings, terms, privacy, said):
    settings.TERMS_URL, settings.PRIVACY_URL = terms, privacy

    page = client.get("/accounts/signup/").content.decode()

    assert (said in page) if said else ("agree" not in page)
    for url in filter(None, (terms, privacy)):
        assert page.count(f'href="{url.replace("&", "&amp;")}"') == 2, "In the sentence, and at the foot."
    assert (">Terms</a>" in page) == bool(terms)
    assert (">Privacy</a>" in page) == bool(privacy)

"""What people and machines send that no form of ours would."""

from __future__ import annotations

import pytest
from django.core import mail

from accounts.models import User
from tests.accounts.steps import (
    ELSEWHERE,
    app_code,
    mailed_code,
    prove_again,
    sign_in,
    sign_up,
    signed_in_as,
    use_an_app,
)
from tests.plugin import PASSWORD
from tests.test_pages import assert_clean

LONG = "x" * 10_000
HTML = '"><script>alert(1)</script><b>'


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
class TestNoPageLeadsToAnotherSite:
    def test_after_sign_in(self, client, acme_member, elsewhere):
        assert sign_in(client, acme_member, next=elsewhere)["Location"] == "/home/"

    def test_after_sign_in_when_it_stands_in_the_address(self, client, acme_member, elsewhere):
        response = client.post(
            "/accounts/login/",
            {"login": acme_member.email, "password": PASSWORD},
            query_params={"next": elsewhere},
        )

        assert response["Location"] == "/home/"

    def test_for_who_is_signed_in_already(self, client, acme_member, elsewhere):
        client.force_login(acme_member)

        for path in ("/accounts/login/", "/accounts/signup/", "/accounts/login/code/"):
            assert client.get(path, {"next": elsewhere})["Location"] == "/home/"

    def test_after_sign_up(self, client, db, elsewhere):
        sign_up(client, "ada@new.example", next=elsewhere)

        response = client.post("/accounts/confirm-email/", {"code": mailed_code(), "next": elsewhere})

        assert response["Location"] == "/home/"

    def test_after_a_mailed_code(self, client, acme_member, elsewhere):
        client.post("/accounts/login/code/", {"email": acme_member.email, "next": elsewhere})

        response = client.post("/accounts/login/code/confirm/", {"code": mailed_code(), "next": elsewhere})

        assert response["Location"] == "/home/"

    def test_after_a_second_factor(self, client, acme_member, elsewhere):
        secret = use_an_app(acme_member)
        sign_in(client, acme_member, next=elsewhere)

        response = client.post("/accounts/2fa/authenticate/", {"code": app_code(secret), "next": elsewhere})

        assert response["Location"] == "/home/"

    def test_after_is_it_you(self, client, acme_member, elsewhere):
        secret = use_an_app(acme_member)
        client.force_login(acme_member)

        response = client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": elsewhere})
        assert response["Location"] == "/home/"
        response = client.post("/accounts/2fa/reauthenticate/", {"code": app_code(secret), "next": elsewhere})
        assert response["Location"] == "/home/"

    def test_after_sign_out(self, client, acme_member, elsewhere):
        client.force_login(acme_member)

        assert client.post("/accounts/logout/", {"next": elsewhere})["Location"] == "/"

    def test_after_a_new_password(self, client, acme_member, elsewhere):
        client.post("/accounts/password/reset/", {"email": acme_member.email, "next": elsewhere})
        client.post("/accounts/password/reset/confirm/", {"code": mailed_code(), "next": elsewhere})
        response = client.post(
            "/accounts/password/reset/complete/",
            {
                "password1": "another horse entirely",
                "password2": "another horse entirely",
                "next": elsewhere,
            },
        )

        assert response["Location"].startswith("/accounts/")


FORMS = [
    ("/accounts/login/", {"login": "ada@acme.example", "password": PASSWORD}),
    ("/accounts/signup/", {"email": "ada@new.example", "password1": PASSWORD}),
    ("/accounts/login/code/", {"email": "ada@acme.example"}),
    ("/accounts/password/reset/", {"email": "ada@acme.example"}),
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", [LONG, HTML, "\x00", "\u202e🚀", "ada@acme.example\nBcc: x@evil.example", " "]
)
@pytest.mark.parametrize(("path", "fields"), FORMS)
def test_a_field_may_hold_anything(client, path, fields, value):
    for field in fields:
        response = client.post(path, {**fields, field: value, "next": value}, follow=True)

        page = response.content.decode()
        assert response.status_code == 200
        assert_clean(page)
        assert "<script>alert" not in page
    assert all("evil.example" not in address for letter in mail.outbox for address in letter.recipients())


TOO_LONG = [f"{'a' * 242}@acme.example", f"{'a' * 300}@acme.example"]  # for the column, not for Django's form


@pytest.mark.parametrize("email", TOO_LONG)
def test_an_address_too_long_to_keep_is_refused_at_the_field(client, acme_member, email):
    for path, fields in [
        ("/accounts/signup/", {"email": email, "password1": PASSWORD}),
        ("/accounts/password/reset/", {"email": email}),
    ]:
        page = client.post(path, fields, follow=True).content.decode()
        assert_clean(page)
        assert 'aria-invalid="true"' in page
    client.post("/accounts/login/code/", {"email": email})
    client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    client.cookies.clear()
    sign_in(client, acme_member)
    prove_again(client)

    page = client.post("/accounts/email/", {"action_add": "", "email": email}).content.decode()

    assert_clean(page)
    assert 'aria-invalid="true"' in page
    assert acme_member.emailaddress_set.count() == 1


@pytest.mark.parametrize("value", [LONG, HTML, "\x00", "🚀"])
def test_a_signed_in_person_s_fields_may_hold_anything(client, acme_member, value):
    sign_in(client, acme_member)
    prove_again(client)
    for path, fields in [
        ("/accounts/email/", {"action_add": "", "email": value}),
        ("/accounts/email/", {"action_primary": "", "email": value}),
        ("/accounts/email/", {"action_remove": "", "email": value}),
        ("/accounts/password/change/", {"oldpassword": value, "password1": value, "password2": value}),
        ("/accounts/2fa/totp/activate/", {"code": value}),
        ("/accounts/2fa/webauthn/add/", {"name": value, "credential": value}),
        ("/accounts/reauthenticate/", {"password": value}),
        ("/accounts/3rdparty/", {"account": value}),
    ]:
        response = client.post(path, fields, follow=True)
        assert response.status_code == 200, path
        assert_clean(response.content.decode())
        assert "<script>alert" not in response.content.decode(), path


@pytest.mark.django_db
def test_a_very_long_password_is_one(client):
    client.post("/accounts/signup/", {"email": "ada@new.example", "password1": "correct horse " + LONG})
    client.post("/accounts/confirm-email/", {"code": mailed_code()})
    client.post("/accounts/logout/")

    client.post("/accounts/login/", {"login": "ada@new.example", "password": "correct horse " + LONG})

    assert signed_in_as(client) == "ada@new.example"


@pytest.mark.django_db
def test_signing_up_twice_is_signing_up_once(client):
    for _ in range(2):
        page = sign_up(client, "ada@new.example")

    assert "Enter the code we sent you" in page.content.decode()
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_a_code_sent_twice_is_taken_once(client):
    sign_up(client, "ada@new.example")
    code = mailed_code()

    first = client.post("/accounts/confirm-email/", {"code": code})
    second = client.post("/accounts/confirm-email/", {"code": code}, follow=True)

    assert first["Location"] == "/home/"
    assert second.status_code == 200
    assert signed_in_as(client) == "ada@new.example"


@pytest.mark.django_db
def test_the_back_button_after_sign_up_leads_on(client):
    sign_up(client, "ada@new.example")
    back = client.get("/accounts/signup/")
    assert back["Location"].startswith("/accounts/confirm-email/")

    client.post("/accounts/confirm-email/", {"code": mailed_code()})

    for path in ("/accounts/signup/", "/accounts/login/"):
        assert client.get(path)["Location"] == "/home/"
    assert client.get("/accounts/confirm-email/")["Location"] == "/accounts/email/"
    assert "no-store" in client.get("/accounts/signup/")["Cache-Control"]


@pytest.mark.django_db
def test_a_known_address_in_other_letters_is_the_same(client, acme_member):
    sign_up(client, "BOB@ACME.example")

    assert User.objects.filter(email__iexact=acme_member.email).count() == 1


def test_somebody_else_s_address_is_not_taken_over(client, acme_member, outsider):
    sign_in(client, outsider)
    prove_again(client)

    client.post("/accounts/email/", {"action_primary": "", "email": acme_member.email})
    client.post("/accounts/email/", {"action_remove": "", "email": acme_member.email})
    client.post("/accounts/email/", {"action_add": "", "email": acme_member.email})

    # The page does not tell that the address is known here. Its owner gets a code, which does nothing.
    page = client.post("/accounts/confirm-email/", {"code": mailed_code()}).content.decode()

    assert "belongs to an account already" in page
    assert acme_member.emailaddress_set.get().email == "bob@acme.example"
    assert outsider.emailaddress_set.get().email == "charlie@other.example"


def test_somebody_else_s_key_is_not_found(client, acme_member, outsider):
    key = acme_member.authenticator_set.create(type="webauthn", data={"name": "Laptop"})
    sign_in(client, outsider)
    prove_again(client)

    for action in ("edit", "remove"):
        path = f"/accounts/2fa/webauthn/keys/{key.pk}/{action}/"
        assert client.get(path).status_code == 404
        assert client.post(path, {"name": "Mine"}).status_code == 404
    key.refresh_from_db()
    assert key.data == {"name": "Laptop"}


def test_a_key_s_name_has_an_end(client, acme_member):
    key = acme_member.authenticator_set.create(type="webauthn", data={"name": "Laptop"})
    client.force_login(acme_member)
    prove_again(client)

    response = client.post(f"/accounts/2fa/webauthn/keys/{key.pk}/edit/", {"name": LONG})
    assert response.status_code == 200
    client.post(f"/accounts/2fa/webauthn/keys/{key.pk}/edit/", {"name": HTML})

    assert "<script>alert" not in client.get("/accounts/2fa/webauthn/").content.decode()


def test_a_cookie_that_is_no_session_is_nobody(client, acme_member):
    for cookie in (LONG, HTML, "\x00"):
        client.cookies["sessionid"] = cookie
        assert client.get("/accounts/profile/")["Location"].startswith("/accounts/login/")

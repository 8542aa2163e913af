"""Guessing and flooding are slowed down. What allauth limits, and how we see it answered:

sign-in (30 a minute from an address; 10 failed ones, 5 for one account in five minutes), sign-up (20), a
sign-in code (20; 3 for one account), password reset (20; 5 for one account), new password (20), changing a
password (5 by one person), an address (10), "Is it you?" (10); a mailed code may be guessed three times, an
app's code five times in five minutes; a passkey 10 times.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import mail

from tests.accounts.steps import mailed_code, prove_again, sign_in, sign_up, signed_in_as, use_an_app
from tests.plugin import PASSWORD
from tests.test_pages import assert_clean


def until_refused(attempt: Callable[[int], object], *, within: int) -> str:
    """The page that ends it."""
    for number in range(within):
        response = attempt(number)
        if response.status_code == 429:
            return response.content.decode()
    raise AssertionError(f"{within} attempts were let through.")


def assert_kind(page: str, settings) -> None:
    assert_clean(page)
    assert "That was a bit too fast" in page
    assert settings.SUPPORT_EMAIL in page
    assert "<code>" in page, "The request is named."


@pytest.mark.django_db
def test_sign_up_is_limited(client, settings, django_user_model):
    def attempt(number):
        client.cookies.clear()
        return client.post(
            "/accounts/signup/", {"email": f"new{number}@flood.example", "password1": PASSWORD}
        )

    assert_kind(until_refused(attempt, within=22), settings)
    assert django_user_model.objects.count() == 20


@pytest.mark.django_db
def test_sign_in_is_limited(client, settings):
    def attempt(number):
        return client.post("/accounts/login/", {"login": f"who{number}@acme.example", "password": "guess"})

    assert_kind(until_refused(attempt, within=32), settings)


def test_an_account_is_closed_to_guessing_even_for_the_right_password(client, acme_member):
    for _ in range(5):
        client.post("/accounts/login/", {"login": acme_member.email, "password": "guess"})

    page = sign_in(client, acme_member).content.decode()

    assert "That was too often" in page
    assert signed_in_as(client) is None


def test_a_code_for_sign_in_is_limited(client, acme_member, settings):
    said = []
    for _ in range(5):
        client.cookies.clear()
        response = client.post("/accounts/login/code/", {"email": acme_member.email})
        said.append(response.status_code == 200 and "That was too often" in response.content.decode())

    assert said == [False, False, False, True, True]
    assert len(mail.outbox) == 3


@pytest.mark.django_db
def test_a_sign_up_code_is_guessed_three_times(client):
    sign_up(client, "ada@new.example")
    code = mailed_code()

    for _ in range(3):
        response = client.post("/accounts/confirm-email/", {"code": "WRON-GONE"}, follow=True)
    assert "That was too often" in response.content.decode()

    client.post("/accounts/confirm-email/", {"code": code})
    assert signed_in_as(client) is None


def test_a_sign_in_code_is_guessed_three_times(client, acme_member):
    client.post("/accounts/login/code/", {"email": acme_member.email})
    code = mailed_code()

    for _ in range(3):
        response = client.post("/accounts/login/code/confirm/", {"code": "WRON-GONE"}, follow=True)
    assert "That was too often" in response.content.decode()

    client.post("/accounts/login/code/confirm/", {"code": code})
    assert signed_in_as(client) is None


def test_a_password_reset_code_is_guessed_three_times(client, acme_member):
    client.post("/accounts/password/reset/", {"email": acme_member.email})
    code = mailed_code()

    for _ in range(3):
        client.post("/accounts/password/reset/confirm/", {"code": "WRON-GONE"})
    client.post("/accounts/password/reset/confirm/", {"code": code})
    response = client.get("/accounts/password/reset/complete/")

    assert response["Location"].startswith("/accounts/password/reset/")


def test_password_reset_is_limited(client, acme_member, settings):
    def attempt(_number):
        client.cookies.clear()
        return client.post("/accounts/password/reset/", {"email": acme_member.email})

    assert_kind(until_refused(attempt, within=7), settings)
    assert len(mail.outbox) == 5


def test_changing_an_address_is_limited(client, acme_member, settings):
    sign_in(client, acme_member)
    prove_again(client)

    def attempt(number):
        return client.post("/accounts/email/", {"action_add": "", "email": f"bob{number}@new.example"})

    assert_kind(until_refused(attempt, within=12), settings)


def test_changing_a_password_is_limited(client, acme_member, settings):
    sign_in(client, acme_member)

    def attempt(_number):
        return client.post(
            "/accounts/password/change/", {"oldpassword": "guess", "password1": "x", "password2": "x"}
        )

    assert_kind(until_refused(attempt, within=7), settings)


def test_is_it_you_is_limited(client, acme_member, settings):
    sign_in(client, acme_member)

    def attempt(_number):
        return client.post("/accounts/reauthenticate/", {"password": "guess"})

    assert_kind(until_refused(attempt, within=12), settings)


def test_an_app_s_code_is_limited(client, acme_member):
    use_an_app(acme_member)
    sign_in(client, acme_member)

    for number in range(6):
        response = client.post("/accounts/2fa/authenticate/", {"code": f"{number:06}"})

    assert "That was too often" in response.content.decode()
    assert signed_in_as(client) is None


@pytest.mark.django_db
def test_a_passkey_is_limited(client, settings):
    def attempt(_number):
        return client.post("/accounts/2fa/webauthn/login/", {"credential": "{}"})

    assert_kind(until_refused(attempt, within=12), settings)


@pytest.mark.django_db
@pytest.mark.parametrize(("proxies", "limited"), [(0, True), (1, False)])
def test_whose_attempts_they_are_is_read_behind_our_proxies_only(client, settings, proxies, limited):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    for number in range(32):
        response = client.post(
            "/accounts/login/",
            {"login": f"who{number}@acme.example", "password": "guess"},
            headers={"x-forwarded-for": f"198.51.100.{number}"},
        )

    assert (response.status_code == 429) == limited

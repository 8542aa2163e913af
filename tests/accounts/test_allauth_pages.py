"""Every page that allauth brings looks and speaks as the rest of the site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import allauth
import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings as site_settings
from django.template.loader import get_template
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from tests.accounts.steps import mailed_code, prove_again, sign_in, sign_up, use_an_app
from tests.test_pages import assert_clean

# What allauth writes with capitals that a sentence has not.
NAMES = {"AWS Marketplace", "Acme Reports", "Sold through AWS Marketplace", "Google", "Microsoft", "Password"}
TITLE_CASE = re.compile(r"\b[A-Z][a-z]+(?: (?:[A-Z][a-z]+|an?|the|of|to|and|via))* [A-Z][a-z]+\b")
# These answer a GET with a redirect, a file or JSON, whatever the state of the person is.
NO_PAGES = {"mfa_login_webauthn", "mfa_download_recovery_codes"}


def patterns(found, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for each in found:
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns, prefix + str(each.pattern))
        elif isinstance(each, URLPattern):
            yield prefix + str(each.pattern), each.name


OURS = {"accounts/profile/", "accounts/data/", "accounts/data/export/", "accounts/reauthenticate/code/"}
ALLAUTH = [
    (path, name)
    for path, name in patterns(get_resolver().url_patterns)
    if path.startswith("accounts/") and path not in OURS
]


def words(page: str) -> list[str]:
    """Each piece of text that the page shows, between two tags."""
    body = re.sub(r"<(script|style|select)\b.*?</\1>", "", page.partition("<main")[2], flags=re.DOTALL)
    return [text.strip() for text in re.split(r"<[^>]+>", body) if text.strip()]


def assert_ours(page: str, site_name: str) -> None:
    assert_clean(page)
    assert f">{site_name}</a>" in page
    assert 'href="#main"' in page
    for text in words(page):
        for name in (*NAMES, site_name):
            text = text.replace(name, "")
        assert not TITLE_CASE.search(text), text
        assert "third-party" not in text.lower(), text
        assert not re.search(r"\b(log ?in|logged|reauthenticate)\b", text, re.IGNORECASE), text


@pytest.fixture
def armed(acme_member: User) -> User:
    """With an app, recovery codes and a key."""
    use_an_app(acme_member)
    Authenticator.objects.create(
        user=acme_member,
        type=Authenticator.Type.WEBAUTHN,
        data={"name": "<b>Laptop</b>", "passwordless": True},
    )
    return acme_member


def test_every_page_of_allauth_is_in_our_look_for_strangers(client, db):
    shown = []
    for path, _name in ALLAUTH:
        response = client.get("/" + path.replace("<int:pk>", "1"), follow=True)
        assert response.status_code in (200, 401), path
        if "html" in response["Content-Type"]:
            assert_ours(response.content.decode(), site_settings.SITE_NAME)
            shown.append(path)

    assert len(shown) > 30


def test_every_page_of_allauth_is_in_our_look_for_who_is_signed_in(client, acme_member):
    sign_in(client, acme_member)
    for path, name in ALLAUTH:
        response = client.get("/" + path.replace("<int:pk>", "1"), follow=True)
        assert response.status_code in (200, 401, 403, 404), path
        if name not in NO_PAGES:
            assert_ours(response.content.decode(), site_settings.SITE_NAME)


def test_every_page_of_allauth_is_in_our_look_for_who_has_every_second_factor(client, armed):
    key = armed.authenticator_set.get(type=Authenticator.Type.WEBAUTHN)
    client.force_login(armed)
    prove_again(client)
    pages = [
        "/accounts/2fa/",
        "/accounts/2fa/totp/deactivate/",
        "/accounts/2fa/recovery-codes/",
        "/accounts/2fa/recovery-codes/generate/",
        "/accounts/2fa/webauthn/",
        f"/accounts/2fa/webauthn/keys/{key.pk}/edit/",
        f"/accounts/2fa/webauthn/keys/{key.pk}/remove/",
        "/accounts/2fa/reauthenticate/",
        "/accounts/reauthenticate/",
    ]
    for path in pages:
        response = client.get(path)
        assert response.status_code == 200, path
        page = response.content.decode()
        assert_ours(page, site_settings.SITE_NAME)
        assert "<b>Laptop" not in page


def test_the_pages_on_the_way_in_are_in_our_look(client, acme_member):
    assert_ours(sign_up(client, "new@acme.example").content.decode(), site_settings.SITE_NAME)

    client.cookies.clear()
    page = client.post("/accounts/login/code/", {"email": acme_member.email}, follow=True)
    assert_ours(page.content.decode(), site_settings.SITE_NAME)

    client.cookies.clear()
    page = client.post("/accounts/password/reset/", {"email": acme_member.email}, follow=True)
    assert_ours(page.content.decode(), site_settings.SITE_NAME)

    client.cookies.clear()
    use_an_app(acme_member)
    page = client.get(sign_in(client, acme_member)["Location"])
    assert_ours(page.content.decode(), site_settings.SITE_NAME)


def test_who_has_no_password_sets_one(client, make_user):
    user = make_user("pat@acme.example")
    user.set_unusable_password()
    user.save()
    client.force_login(user)

    page = client.get("/accounts/password/change/", follow=True)
    assert page.redirect_chain[-1][0] == "/accounts/reauthenticate/code/?next=%2Faccounts%2Fpassword%2Fset%2F"
    assert_ours(page.content.decode(), site_settings.SITE_NAME)
    page = client.post(page.redirect_chain[-1][0], {"code": mailed_code()}, follow=True)

    assert page.redirect_chain[-1][0] == "/accounts/password/set/"
    assert_ours(page.content.decode(), site_settings.SITE_NAME)


# Not reachable with our settings: phones, links instead of codes, sign-up by passkey, trusted browsers.
UNREACHABLE = {
    "account/base_manage_phone.html",
    "account/confirm_phone_verification_code.html",
    "account/email_change.html",
    "account/email_confirm.html",
    "account/password_reset_done.html",
    "account/phone_change.html",
    "account/signup_by_passkey.html",
    "account/verification_sent.html",
    "mfa/trust.html",
    "mfa/webauthn/signup_form.html",
    "socialaccount/login_redirect.html",
    "socialaccount/snippets/login_extra.html",
}


def test_no_template_of_allauth_that_has_words_is_used_as_it_is():
    folder = Path(allauth.__file__).parent / "templates"
    for area in ("account", "mfa", "socialaccount", "usersessions"):
        for path in (folder / area).rglob("*.html"):
            name = path.relative_to(folder).as_posix()
            speaks = "trans" in path.read_text()
            used = get_template(name).origin.name
            assert not speaks or name in UNREACHABLE or "/site-packages/" not in used, name


def test_account_settings_name_the_page_in_hand(client, acme_member):
    sign_in(client, acme_member)
    for path, tab in [
        ("/accounts/profile/", "Profile"),
        ("/accounts/email/", "Email"),
        ("/accounts/password/change/", "Password"),
        ("/accounts/2fa/webauthn/", "Two-factor authentication"),
        ("/accounts/sessions/", "Sessions"),
    ]:
        page = client.get(path).content.decode()
        assert re.findall(r'aria-current="page">([^<]+)<', page) == [tab], path

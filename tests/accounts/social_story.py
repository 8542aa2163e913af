"""Run by test_social.py with the keys of three providers set. Nothing here reaches a provider."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import complete_social_login
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from django.conf import settings as site_settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import mail
from django.http import HttpResponse

from accounts.models import User
from tests.accounts.steps import mailed_code, minutes_pass, prove_again, sign_in, signed_in_as, use_an_app
from tests.test_pages import assert_clean

pytestmark = pytest.mark.django_db


@pytest.fixture
def arrive(rf, client):
    """Come back from ``provider``, which says of the person what its profile answer says."""

    def come(provider: str, profile: dict, *, user=None, process: str = "login") -> HttpResponse:
        request = rf.get("/")
        SessionMiddleware(lambda _request: HttpResponse()).process_request(request)
        MessageMiddleware(lambda _request: HttpResponse()).process_request(request)
        request.user = user or AnonymousUser()
        if user is not None:
            request.session = client.session
        with context.request_context(request):
            login: SocialLogin = (
                get_adapter().get_provider(request, provider).sociallogin_from_response(request, profile)
            )
            login.state = {"process": process}
            response = complete_social_login(request, login)
        request.session.save()
        client.cookies[site_settings.SESSION_COOKIE_NAME] = request.session.session_key
        return response

    return come


def google(email: str, *, verified: bool = True, uid: str = "g-1", **more) -> dict:
    usual = {"sub": uid, "email": email, "email_verified": verified, "given_name": "Ada", "family_name": "L"}
    return usual | more


def test_each_way_in_has_its_button_and_the_policy_lets_it_out(client):
    for path in ("/accounts/login/", "/accounts/signup/"):
        response = client.get(path)
        page = response.content.decode()
        assert_clean(page)
        for name in ("google", "microsoft", "github"):
            assert f'action="/accounts/{name}/login/?process=login"' in page
        assert "Continue with GitHub" in page
        [directive] = [
            part.strip()
            for part in response["Content-Security-Policy"].split(";")
            if part.strip().startswith("form-action")
        ]
        assert set(directive.split()[1:]) == {
            "'self'",
            "https://accounts.google.com",
            "https://login.microsoftonline.com",
            "https://login.live.com",
            "https://github.com",
        }


@pytest.mark.parametrize(
    ("provider", "origin"),
    [
        ("google", "https://accounts.google.com/"),
        ("microsoft", "https://login.microsoftonline.com/common/"),
        ("github", "https://github.com/login/"),
    ],
)
def test_a_button_leads_to_the_provider_and_a_link_only_asks(client, provider, origin):
    page = client.get(f"/accounts/{provider}/login/").content.decode()
    assert_clean(page)
    assert "Sign in with" in page

    response = client.post(f"/accounts/{provider}/login/")

    assert response.status_code == 302
    assert response["Location"].startswith(origin)
    assert f"client_id={provider}-id" in response["Location"]
    assert "secret" not in response["Location"]


def test_a_verified_address_signs_up_at_once(arrive, client):
    arrive("google", google("ada@new.example", given_name="Ada\n", family_name="Lovelace" * 100))

    user = User.objects.get()
    assert signed_in_as(client) == "ada@new.example"
    assert not user.has_usable_password()
    assert user.name.startswith("Ada Lovelace")
    assert len(user.name) <= 150
    assert mail.outbox == []


@pytest.mark.parametrize(
    ("provider", "profile"),
    [
        ("google", google("ada@new.example", verified=False)),
        ("microsoft", {"id": "m-1", "mail": "ada@new.example", "displayName": "Ada"}),
        ("github", {"id": 7, "login": "ada", "email": "ada@new.example", "name": None}),
    ],
)
def test_an_address_that_is_not_verified_is_verified_here(arrive, client, provider, profile):
    response = arrive(provider, profile)

    assert response["Location"].startswith("/accounts/confirm-email/")
    assert signed_in_as(client) is None
    client.post("/accounts/confirm-email/", {"code": mailed_code()})
    assert signed_in_as(client) == "ada@new.example"


@pytest.mark.parametrize("verified", [True, False])
def test_an_account_that_is_here_is_not_opened_by_its_address(arrive, client, acme_member, verified):
    arrive("google", google(acme_member.email, verified=verified))

    assert signed_in_as(client) is None
    assert not SocialAccount.objects.exists()
    assert User.objects.filter(email=acme_member.email).count() == 1
    [letter] = mail.outbox
    assert letter.to == [acme_member.email]
    assert "code" not in letter.subject, "Its owner is led to sign-in instead."


def test_an_account_made_before_with_another_s_address_gives_nothing_to_its_owner(arrive, client, make_user):
    """Somebody signs up with a victim's address and waits for the victim to come through Google."""
    squatter = make_user("victim@corp.example", verified=False)

    arrive("google", google("victim@corp.example"))

    assert signed_in_as(client) is None
    assert not EmailAddress.objects.get(user=squatter).verified


def test_sign_up_is_closed_to_them_where_it_is_closed(arrive, client, settings):
    settings.SIGNUP_WITHOUT_PURCHASE = False

    response = arrive("google", google("ada@new.example"))

    assert "Start on AWS Marketplace" in response.content.decode()
    assert not User.objects.exists()


def test_who_has_connected_an_account_signs_in_with_it_even_where_sign_up_is_closed(
    arrive, client, acme_member, settings
):
    settings.SIGNUP_WITHOUT_PURCHASE = False
    SocialAccount.objects.create(user=acme_member, provider="google", uid="g-1")

    arrive("google", google("another@gmail.example"))

    assert signed_in_as(client) == acme_member.email


def test_a_second_factor_is_asked_all_the_same(arrive, client, acme_member):
    use_an_app(acme_member)
    SocialAccount.objects.create(user=acme_member, provider="google", uid="g-1")

    response = arrive("google", google(acme_member.email))

    assert response["Location"].startswith("/accounts/2fa/authenticate/")
    assert signed_in_as(client) is None


def test_a_closed_account_is_not_opened_from_elsewhere(arrive, client, acme_member):
    SocialAccount.objects.create(user=acme_member, provider="google", uid="g-1")
    User.objects.filter(pk=acme_member.pk).update(is_active=False)

    arrive("google", google("another@gmail.example"))

    assert signed_in_as(client) is None


def test_an_account_is_connected_and_disconnected(arrive, client, acme_member):
    sign_in(client, acme_member)
    prove_again(client)
    arrive("google", google("ada@gmail.example"), user=acme_member, process="connect")
    connected = SocialAccount.objects.get(user=acme_member)

    page = client.get("/accounts/3rdparty/").content.decode()
    assert_clean(page)
    assert "Connected accounts" in page
    assert f'value="{connected.pk}"' in page
    client.post("/accounts/3rdparty/", {"account": connected.pk})

    assert not SocialAccount.objects.exists()


def test_connecting_asks_who_it_is(arrive, client, acme_member):
    client.force_login(acme_member)

    response = arrive("google", google("thief@evil.example"), user=acme_member, process="connect")

    assert response["Location"].startswith("/accounts/reauthenticate/")
    assert not SocialAccount.objects.exists()


def test_who_has_only_a_provider_is_asked_by_mail_before_another_account_is_connected(arrive, client):
    arrive("google", google("ada@new.example"))
    user = User.objects.get()
    assert client.get("/accounts/password/set/").status_code == 200, "They came in a moment ago."
    minutes_pass(client, 6)

    response = arrive("github", {"id": 7, "login": "mallory", "email": None}, user=user, process="connect")
    asked = client.get(response["Location"])
    assert asked["Location"].startswith("/accounts/reauthenticate/code/")
    assert list(SocialAccount.objects.values_list("provider", flat=True)) == ["google"]
    connected = SocialAccount.objects.get()
    client.post("/accounts/3rdparty/", {"account": connected.pk})
    assert SocialAccount.objects.exists()

    assert "We have sent a code to ada@new.example." in client.get(asked["Location"]).content.decode()
    client.post(asked["Location"], {"code": mailed_code()})
    arrive("github", {"id": 7, "login": "ada", "email": None}, user=user, process="connect")
    assert sorted(SocialAccount.objects.values_list("provider", flat=True)) == ["github", "google"]


def test_nobody_disconnects_somebody_else_s(client, acme_member, outsider):
    theirs = SocialAccount.objects.create(user=acme_member, provider="google", uid="g-1")
    sign_in(client, outsider)
    prove_again(client)

    client.post("/accounts/3rdparty/", {"account": theirs.pk})

    assert SocialAccount.objects.filter(pk=theirs.pk).exists()


def test_what_the_provider_was_refused_is_said_kindly(client):
    response = client.get("/accounts/google/login/callback/", {"error": "access_denied"}, follow=True)
    assert_clean(response.content.decode())

    response = client.get("/accounts/google/login/callback/", {"code": "x", "state": "forged"}, follow=True)
    assert response.status_code == 401
    page = response.content.decode()
    assert_clean(page)
    assert "That did not work" in page


def test_without_an_address_one_is_asked_for(arrive, client):
    response = arrive("github", {"id": 7, "login": "ada", "email": None, "name": "Ada <b>"})
    assert response["Location"].startswith("/accounts/3rdparty/signup/")

    page = client.get("/accounts/3rdparty/signup/").content.decode()
    assert_clean(page)
    assert "You come from GitHub." in page
    client.post("/accounts/3rdparty/signup/", {"email": "ada@new.example"})
    client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert signed_in_as(client) == "ada@new.example"
    assert User.objects.get().name == "Ada <b>"


def test_a_row_in_the_database_switches_nothing_on(client):
    SocialApp.objects.create(provider="gitlab", name="GitLab", client_id="x", secret="x")

    assert "GitLab" not in client.get("/accounts/login/").content.decode()
    assert "Continue with GitHub" in client.get("/accounts/login/").content.decode()

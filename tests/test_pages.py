"""Every page of the site renders, in every state, with nothing that the content security policy forbids."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from allauth.account.forms import SignupForm
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.template.loader import render_to_string
from django.test import Client
from django.views import defaults

from billing.forms import ClaimForm

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh_rate_limits():
    cache.clear()


def assert_clean(page: str) -> None:
    """No inline style or script, nothing from elsewhere, one heading, a title, no two elements of one id."""
    assert not re.search(r"<[^>]+\sstyle\s*=", page), "inline style"
    assert not re.search(r"<[^>]+\son[a-z]+\s*=", page), "inline event handler"
    assert "<style" not in page
    assert "javascript:" not in page
    for tag in re.findall(r"<script[^>]*>", page):
        assert 'src="/static/' in tag or 'type="application/json"' in tag, tag
    for address in re.findall(r'<(?:link|img|script)[^>]+(?:href|src)="([^"]+)"', page):
        assert address.startswith(("/static/", "data:image/")), address
    assert len(re.findall(r"<h1[\s>]", page)) == 1
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    assert title
    assert not title[1].strip().startswith("·")
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), sorted(ids)
    assert not re.search(r"{[{%#]", page)


ANONYMOUS = [
    "/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/inactive/",
    "/accounts/social/login/cancelled/",
    "/accounts/3rdparty/login/error/",
    "/marketplace/register/",
    "/marketplace/welcome/",
]
SIGNED_IN = [
    "/",
    "/o/acme/",
    "/o/acme/subscription/",
    "/o/acme/usage/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/password/reset/",
    "/accounts/logout/",
    "/accounts/reauthenticate/",
    "/accounts/sessions/",
    "/accounts/3rdparty/",
    "/accounts/2fa/",
    "/accounts/2fa/totp/activate/",
    "/accounts/2fa/recovery-codes/generate/",
    "/accounts/2fa/webauthn/",
    "/accounts/2fa/webauthn/add/",
    "/marketplace/welcome/",
]


@pytest.mark.parametrize("url", ANONYMOUS)
def test_pages_for_everyone(client, db, url):
    response = client.get(url, follow=True)

    assert response.status_code in (200, 401)
    assert_clean(response.content.decode())
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "default-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("url", SIGNED_IN)
def test_pages_for_people_who_signed_in(client, acme, acme_admin, url):
    client.force_login(acme_admin)
    client.post("/accounts/reauthenticate/", {"password": "correct horse battery staple"})

    response = client.get(url, follow=True)

    assert response.status_code in (200, 403)
    page = response.content.decode()
    assert_clean(page)
    assert acme_admin.email in page
    assert 'action="/accounts/logout/"' in page


def test_home_leads_to_sign_in_and_to_the_listing(client, db, settings):
    page = client.get("/").content.decode()

    assert 'href="/accounts/login/"' in page
    assert f'href="{settings.MARKETPLACE_LISTING_URL}"' in page
    assert settings.SITE_NAME in page
    assert settings.SUPPORT_EMAIL in page
    assert "/outbox/" not in page


def test_home_leads_members_to_their_workspace(client, acme_admin):
    client.force_login(acme_admin)

    assert 'href="/home/"' in client.get("/").content.decode()


def test_a_name_is_never_markup(client, acme, acme_admin):
    acme.name = acme_admin.name = "<script>alert(1)</script>\u202e🚀"
    acme.save()
    acme_admin.save()
    client.force_login(acme_admin)

    page = client.get("/o/acme/").content.decode()

    assert "<script>alert" not in page
    assert_clean(page)


def test_a_missing_page_offers_a_way_on(client, db):
    response = client.get("/no/such/page/")

    assert response.status_code == 404
    assert_clean(response.content.decode())
    assert 'href="/"' in response.content.decode()


def test_the_error_page_needs_no_context_and_shows_no_exception(rf):
    response = defaults.server_error(rf.get("/"))

    assert response.status_code == 500
    assert_clean(response.content.decode())
    assert "Traceback" not in response.content.decode()


@pytest.mark.parametrize("name", ["403.html", "403_csrf.html", "404.html", "429.html"])
def test_refusals_do_not_show_why_in_code(rf, name):
    request = rf.get("/")
    request.user = AnonymousUser()

    page = render_to_string(name, {"exception": "SecretDetail"}, request)

    assert_clean(page)
    assert "SecretDetail" not in page


def test_a_form_without_its_token_is_refused_kindly(db):
    response = Client(enforce_csrf_checks=True).post("/accounts/login/")

    assert response.status_code == 403
    assert_clean(response.content.decode())
    assert "Please send that again" in response.content.decode()


def test_too_many_attempts_are_answered_kindly(client, db):
    for _ in range(40):
        response = client.post("/accounts/password/reset/", {"email": "ada@acme.example"})

    assert response.status_code == 429
    assert_clean(response.content.decode())


def test_another_role_s_page_is_refused_kindly(client, acme, acme_member):
    client.force_login(acme_member)

    response = client.get("/o/acme/subscription/")

    assert response.status_code == 403
    assert_clean(response.content.decode())


def page_of(rf, template: str, user=None, **context) -> str:
    request = rf.get("/")
    request.user = user or AnonymousUser()
    return render_to_string(template, context, request)


@pytest.mark.parametrize("reason", ["missing", "invalid", "expired", "foreign", "unavailable"])
def test_every_failed_arrival_says_what_to_do(rf, reason, settings):
    page = page_of(rf, "billing/register_failed.html", reason=reason, token="the-token")

    assert_clean(page)
    assert settings.SUPPORT_EMAIL in page
    assert ("the-token" in page) == (reason == "unavailable")
    assert "Set up your account" in page


def test_the_failed_arrivals_have_different_headings(rf):
    reasons = ("missing", "invalid", "expired", "foreign", "unavailable")
    pages = [page_of(rf, "billing/register_failed.html", reason=reason) for reason in reasons]

    assert len({re.search(r"<h1>(.*?)</h1>", page)[1] for page in pages}) == len(reasons)


def arrival(**fields) -> SimpleNamespace:
    usual = {
        "registration_id": "opaque",
        "bought": SimpleNamespace(
            product="Reports Flex",
            pricing="Contract with consumption",
            masked_account="•••• •••• 4312",
            is_ahead=True,
            lines=[],
        ),
        "confirmed": True,
        "free_trial": False,
        "claimed_organization": None,
        "claimed_elsewhere": False,
        "ask": "",
        "form": None,
    }
    return SimpleNamespace(**usual | fields)


def test_a_visitor_with_a_purchase_signs_up_or_in_and_comes_back(rf):
    page = page_of(
        rf,
        "billing/welcome.html",
        arrivals=[arrival(free_trial=True, confirmed=False)],
        sign_up=SignupForm(),
    )

    assert_clean(page)
    assert "Reports Flex" in page
    assert "•••• •••• 4312" in page
    assert 'action="/accounts/signup/"' in page
    assert 'name="next" value="/marketplace/welcome/"' in page
    assert 'href="/accounts/login/?next=/marketplace/welcome/"' in page


def test_several_purchases_are_claimed_each_by_its_own_form(rf, acme, acme_admin):
    arrivals = [
        arrival(form=ClaimForm(organizations=[acme])),
        arrival(claimed_organization=acme),
        arrival(claimed_elsewhere=True),
    ]

    page = page_of(rf, "billing/welcome.html", user=acme_admin, arrivals=arrivals)

    assert_clean(page)
    assert page.count('action="/marketplace/claim/"') == 1
    assert 'href="/o/acme/"' in page
    assert 'value="new"' in page


def test_the_first_workspace_asks_only_for_its_name(rf, make_user):
    user = make_user("new@nowhere.example")

    page = page_of(
        rf, "billing/welcome.html", user=user, arrivals=[arrival(form=ClaimForm(organizations=[]))]
    )

    assert 'type="hidden" name="organization" value="new"' in page
    assert 'name="name"' in page
    assert 'type="radio"' not in page


def test_a_stranger_is_told_whom_to_ask_and_may_still_start_alone(rf, acme_admin):
    purchase = arrival(ask="a•••@globex.example", may_ask=True, form=ClaimForm(organizations=[]))

    page = page_of(rf, "billing/welcome.html", user=acme_admin, arrivals=[purchase])

    assert "a•••@globex.example" in page
    assert 'action="/marketplace/claim/"' in page

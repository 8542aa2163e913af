"""Invitation, two-factor sign-in and the language switch, as people do them in Chromium."""

from __future__ import annotations

import re

import pytest
from django.core import mail
from playwright.sync_api import expect

from tests.accounts.steps import app_code
from tests.browser_story import Buyer, mailed_code
from tests.plugin import PASSWORD

pytestmark = pytest.mark.browser


def test_an_invited_newcomer_joins_by_the_link_in_the_mail(buyer, page, chromium, purchase, acme, acme_admin):
    purchase("reports-payg")
    buyer.sign_in(acme_admin.email)
    page.get_by_role("link", name="Members").click()
    page.get_by_role("button", name="Invite people").click()
    page.get_by_label("Email addresses").fill("dora@acme.example\nnot an address")
    page.get_by_role("button", name="Send invitations").click()
    expect(page.get_by_role("main")).to_contain_text("dora@acme.example")
    (invitation,) = [message for message in mail.outbox if message.to == ["dora@acme.example"]]
    link = re.search(r"http\S+/invitations/\S+", str(invitation.body))
    assert link is not None

    guest = chromium.new_context().new_page()
    guest.goto(buyer.site + link[0].partition("testserver")[2])
    guest.get_by_role("button", name="Create an account").click()
    guest.get_by_label("Email").fill("dora@acme.example")
    guest.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.get_by_role("button", name="Create account").click()
    guest.get_by_label("Code").fill(mailed_code("dora@acme.example"))
    guest.get_by_role("main").get_by_role("button").first.click()
    guest.get_by_role("button", name="Accept the invitation").click()
    expect(guest.get_by_role("banner")).to_contain_text("Acme")
    guest.context.close()
    assert acme.memberships.get(user__email="dora@acme.example").role == "member"


def test_a_second_factor_is_set_up_and_asked_for(buyer, page, chromium, aws, acme, acme_admin):
    buyer.sign_in(acme_admin.email)
    page.goto(f"{buyer.site}/accounts/2fa/")
    page.get_by_role("button", name="Set up an app").click()
    if page.get_by_label("Password").count():
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Continue").click()
    secret = page.get_by_label("Secret").input_value()
    page.get_by_label("Authenticator code").fill(app_code(secret))
    page.get_by_role("main").get_by_role("button", name="Set up the app").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Recovery codes")
    codes = page.get_by_label("Unused codes").input_value().split()

    elsewhere = chromium.new_context().new_page()
    Buyer(elsewhere, aws, buyer.site).sign_in(acme_admin.email)
    elsewhere.get_by_label("Code").fill(codes[0])
    elsewhere.get_by_role("main").get_by_role("button").first.click()
    expect(elsewhere.get_by_role("heading", level=1)).to_contain_text("Acme")
    elsewhere.context.close()


def test_the_language_follows_the_browser_and_then_the_switch(buyer, chromium, acme, acme_admin):
    context = chromium.new_context(locale="ko-KR")
    page = context.new_page()
    page.goto(f"{buyer.site}/accounts/login/")
    assert page.locator("html").get_attribute("lang") == "ko"
    expect(page.get_by_role("heading", level=1)).to_have_text("로그인")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    Buyer(page, buyer.aws, buyer.site).type_credentials(acme_admin.email)
    page.get_by_role("button", name="한국어").click()
    assert page.locator("html").get_attribute("lang") == "ko"
    acme_admin.refresh_from_db()
    assert acme_admin.language == "ko"
    context.close()

"""Every mail there is, in each case and language: complete, and without a trace of its template."""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest
from django.core import mail as outbox
from django.template import engines
from django.test import Client
from django.urls import NoReverseMatch, include, path, reverse
from django.utils import translation

from billing.mailing import delivery
from billing.mailing.letters import Situation
from billing.mails import LETTERS
from billing.models import Effect
from marketplace_saas import mail_preview, urls
from marketplace_saas import outbox as outbox_pages
from marketplace_saas.mail_samples import SAMPLE
from tests.billing.ledger import NOON, make_agreement
from tests.test_mail_html import checked

# What urls.py has with DEBUG on.
urlpatterns = [
    *urls.urlpatterns,
    path("outbox/", include(outbox_pages.urlpatterns)),
    path("mails/", include(mail_preview.urlpatterns)),
]
development = pytest.mark.urls("tests.test_mail_previews")
PREVIEWS = mail_preview.previews()
MISSING = "(no such variable)"


@pytest.fixture
def nothing_is_left_out():
    """A template that names what SAMPLE has not shows it."""
    engine = engines["django"].engine
    before, engine.string_if_invalid = engine.string_if_invalid, MISSING
    yield
    engine.string_if_invalid = before


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("preview", PREVIEWS, ids=lambda preview: preview.name)
def test_every_mail_is_complete_in_every_language(
    preview, language, nothing_is_left_out, django_assert_num_queries
):
    with translation.override(language):
        letter = preview.compose(language)

    everything = f"{letter.subject}\n{letter.text}\n{letter.html}"
    for odd in (MISSING, "{{", "{%", "%(", "None", "on  UTC", ". .", "\n\n\n"):
        assert odd not in f"{letter.subject}\n{letter.text}", odd
    assert MISSING not in everything
    assert not re.search(r"[{%][{%(]\s?\w", everything)
    assert letter.subject.strip() == letter.subject != ""
    assert "\n" not in letter.subject
    assert not re.search(r"&(amp|lt|gt|quot|#)", f"{letter.subject}{letter.text}")
    assert "\n-- \nAcme Reports\n" in letter.text
    page = checked(letter.html)
    assert f'<html lang="{language}">' in letter.html
    for line in letter.text.replace("\n-- \n", "\n").splitlines():
        for sentence in re.split(r"(?<=[.!?]) +", re.sub(r"^(- |\d+\. )", "", line.strip())):
            assert sentence.startswith("http") or sentence.rstrip(":") in page.text, line
    for url in re.findall(r"https?://\S+", letter.text):
        assert url in page.hrefs


def test_the_previews_know_every_letter_that_is_owed():
    shown = {preview.template for preview in PREVIEWS}

    assert {f"emails/{name}" for name in LETTERS} <= shown
    assert {
        "account/email/login_code",
        "mfa/email/totp_activated",
        "socialaccount/email/account_connected",
    } <= shown


def test_a_case_belongs_to_a_mail():
    assert set(mail_preview.CASES) <= {preview.template for preview in PREVIEWS}


def test_the_samples_name_all_that_billing_tells(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    effect = Effect.objects.create(
        agreement=agreement, kind="mail", cause=f"buyer_trial_ends:7 {NOON.isoformat()}", caused_at=NOON
    )

    assert set(delivery._context(Situation(effect, NOON))) <= set(SAMPLE)


def test_production_has_no_previews(client, db):
    with pytest.raises(NoReverseMatch):
        reverse("mail_previews")
    for address in (
        "/mails/",
        "/mails/en/text/emails/buyer_welcome/",
        "/mails/en/html/emails/buyer_welcome/",
    ):
        assert client.get(address).status_code == 404


@development
def test_the_list_leads_to_every_mail_in_every_language(client, db):
    page = client.get("/mails/").content.decode()

    for preview in PREVIEWS:
        for language in ("en", "ko"):
            assert f'href="{reverse("mail_preview", args=[language, preview.name])}"' in page


@development
def test_a_preview_shows_text_and_frames_the_html(client, db):
    response = client.get("/mails/en/text/emails/buyer_welcome/")
    page = response.content.decode()

    assert "It is set up for your workspace “Globex &lt;R&amp;D&gt;”." in page
    assert 'src="/mails/en/html/emails/buyer_welcome/"' in page
    assert "frame-src 'self'" in response["Content-Security-Policy"]
    assert "script-src 'self'" in response["Content-Security-Policy"]


@development
def test_the_html_of_a_preview_may_style_itself_and_no_more(client, db):
    response = client.get("/mails/ko/html/account/email/login_code/")

    assert '<html lang="ko">' in response.content.decode()
    policy = dict(part.strip().partition(" ")[::2] for part in response["Content-Security-Policy"].split(";"))
    assert policy == {"default-src": "'none'", "style-src": "'unsafe-inline'", "frame-ancestors": "'self'"}
    assert response["X-Frame-Options"] == "SAMEORIGIN"


@development
def test_previews_send_and_write_nothing(client, db, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/mails/")
        client.get("/mails/en/text/emails/seller_changed/")
        client.get("/mails/en/html/account/email/password_changed/")
    assert outbox.outbox == []


@development
@pytest.mark.parametrize(
    "address",
    [
        "/mails/xx/text/emails/buyer_welcome/",
        "/mails/en/text/emails/nothing/",
        "/mails/en/html/../../settings/",
        "/mails/en/html/emails/buyer_welcome:nothing/",
    ],
)
def test_only_mails_there_are_can_be_seen(client, db, address):
    assert client.get(address).status_code == 404


def test_allauths_mails_go_out_in_text_and_html_and_can_be_answered(db, settings):
    settings.SUPPORT_EMAIL = "help@seller.example"
    Client().post("/accounts/signup/", {"email": "ada@new.example", "password1": "correct horse battery"})

    [letter] = outbox.outbox

    assert letter.reply_to == ["help@seller.example"]
    assert letter.extra_headers["Auto-Submitted"] == "auto-generated"
    raw = message_from_bytes(letter.message().as_bytes(), policy=policy.default)
    assert [part.get_content_type() for part in raw.iter_parts()] == ["text/plain", "text/html"]
    code = re.search(r"^[A-Z0-9-]+$", letter.body, re.MULTILINE)[0]
    assert f">{code}</p>" in letter.alternatives[0][0]


def test_allauth_writes_in_the_language_of_the_reader_else_of_the_page(client, db, acme_member):
    acme_member.language = "ko"
    acme_member.save()

    client.post("/accounts/password/reset/", {"email": acme_member.email})
    client.post("/accounts/signup/", {"email": acme_member.email, "password1": "correct horse battery"})
    client.post("/accounts/password/reset/", {"email": "new@x.example"}, headers={"Accept-Language": "ko"})
    client.post("/accounts/password/reset/", {"email": "other@x.example"})

    written_in = [re.search(r'<html lang="(\w+)"', letter.alternatives[0][0])[1] for letter in outbox.outbox]
    assert written_in == ["ko", "ko", "ko", "en"]


def test_a_notification_is_in_the_language_of_whom_it_is_about_and_says_utc(client, acme_member, settings):
    settings.ACCOUNT_EMAIL_NOTIFICATIONS = True
    acme_member.language, acme_member.time_zone = "ko", "Asia/Seoul"
    acme_member.save()
    client.force_login(acme_member)

    client.post(
        "/accounts/password/change/",
        {
            "oldpassword": "correct horse battery staple",
            "password1": "another horse battery",
            "password2": "another horse battery",
        },
        headers={"Accept-Language": "en"},
    )

    [letter] = outbox.outbox
    assert 'lang="ko"' in letter.alternatives[0][0]
    assert " UTC\n" in letter.body

"""Who comes through a provider alone has nothing to answer "Is it you?" with: a mailed code asks them."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from django.core import mail

from accounts.models import Organization
from tests.accounts.steps import ELSEWHERE, mailed_code, minutes_pass, prove_again, sign_in, use_an_app
from tests.test_pages import assert_clean

PROVE = "/accounts/reauthenticate/code/"
NEW = {"password1": "another horse entirely", "password2": "another horse entirely"}


@pytest.fixture
def person(client, make_user, acme):
    """Owns a workspace, has no password, and was signed in a while ago."""
    user = make_user("pat@acme.example")
    user.set_unusable_password()
    user.save()
    acme.memberships.create(user=user, role="owner")
    client.force_login(user)
    return user


def asks(response) -> bool:
    return response.status_code == 302 and response["Location"].startswith("/accounts/reauthenticate/")


def changed(user) -> list[str]:
    user.refresh_from_db()
    found = {
        "password": user.has_usable_password(),
        "address": EmailAddress.objects.filter(user=user).count() != 1,
        "account": user.closed_at is not None,
        "workspace": Organization.objects.exclude(closed_at=None).exists(),
    }
    return [name for name, is_so in found.items() if is_so]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/accounts/password/set/", NEW),
        ("/accounts/email/", {"action_add": "", "email": "mallory@evil.example"}),
        ("/accounts/email/", {"action_remove": "", "email": "pat@acme.example"}),
        ("/accounts/email/", {"action_primary": "", "email": "pat@acme.example"}),
        ("/accounts/2fa/totp/activate/", {"code": "123456"}),
        ("/accounts/2fa/webauthn/add/", {"name": "mine"}),
        ("/accounts/data/", {"typed": "pat@acme.example"}),
        ("/o/acme/close/", {"typed": "Acme"}),
    ],
)
def test_nothing_that_matters_is_changed_by_who_finds_the_browser(client, person, path, fields):
    response = client.post(path, fields)

    assert asks(response)
    assert_clean(client.get(response["Location"], follow=True).content.decode())
    assert changed(person) == []
    for guess in ("", "WRON-GONE", "x" * 10_000, "\x00", "코드", "<script>"):
        page = client.post(PROVE, {"code": guess, "next": path}, follow=True).content.decode()
        assert_clean(page)
    assert changed(person) == []


@pytest.mark.parametrize("path", ["/accounts/password/set/", "/accounts/2fa/totp/activate/"])
def test_a_page_asks_before_it_is_shown_and_then_is(client, person, path):
    asked = client.get(path, follow=True)
    page = asked.content.decode()
    assert "Is it you?" in page
    assert "We have sent a code to pat@acme.example." in page
    [letter] = mail.outbox
    assert letter.to == ["pat@acme.example"]
    assert "Give it to nobody" in letter.body

    shown = client.post(PROVE, {"code": mailed_code(), "next": path}, follow=True)

    assert shown.redirect_chain == [(path, 302)]
    assert shown.status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "done"),
    [
        ("/accounts/email/", {"action_add": "", "email": "second@acme.example"}, []),
        ("/accounts/data/", {"typed": "pat@acme.example"}, ["account"]),
        ("/o/acme/close/", {"typed": "Acme"}, ["workspace"]),
    ],
)
def test_what_was_asked_for_goes_on_with_the_code(client, person, path, fields, done):
    client.get(client.post(path, fields)["Location"])
    client.post(PROVE, {"code": mailed_code().lower(), "next": path})

    if done == ["account"]:
        person.refresh_from_db()
        assert person.closed_at is not None
    else:
        assert changed(person) == done
        assert not asks(client.post(path, fields)), "For a few minutes nobody asks again."


def test_a_posted_password_is_not_kept_in_the_session(client, person):
    client.post("/accounts/password/set/", NEW)

    assert "another horse" not in str(dict(client.session.items()))


def test_with_the_code_a_password_is_set_and_asked_for_from_then_on(client, person):
    client.get("/accounts/password/set/", follow=True)
    client.post(PROVE, {"code": mailed_code(), "next": "/accounts/password/set/"})
    client.post("/accounts/password/set/", NEW)

    assert changed(person) == ["password"]
    assert client.get(PROVE)["Location"].startswith("/accounts/reauthenticate/")
    assert "password" in client.get(PROVE, follow=True).content.decode()


def test_a_code_is_mailed_once_until_another_is_asked_for(client, person):
    for _ in range(3):
        client.get(PROVE)
    assert len(mail.outbox) == 1
    first = mailed_code()

    response = client.post(PROVE, {"action": "resend", "next": "/accounts/email/"})
    assert response["Location"] == f"{PROVE}?next=%2Faccounts%2Femail%2F"
    client.get(response["Location"])

    assert len(mail.outbox) == 2
    assert "This is not the code" in client.post(PROVE, {"code": first}).content.decode()
    assert client.post(PROVE, {"code": mailed_code()}).status_code == 302


def test_a_code_is_guessed_three_times(client, person):
    client.get(PROVE)
    code = mailed_code()
    for _ in range(3):
        assert "This is not the code" in client.post(PROVE, {"code": "WRON-GONE"}).content.decode()

    page = client.post(PROVE, {"code": code}, follow=True).content.decode()

    assert "That code is not good any more. We have sent you a new one." in page
    assert asks(client.post("/accounts/data/", {"typed": person.email}))
    assert len(mail.outbox) == 2
    assert client.post(PROVE, {"code": mailed_code()}).status_code == 302


def test_guessing_and_mailing_are_limited(client, person):
    statuses = [client.post(PROVE, {"action": "resend"}, follow=True).status_code for _ in range(12)]

    assert statuses[-1] == 429
    assert len(mail.outbox) <= 10


def test_a_code_is_good_for_a_few_minutes(client, person):
    client.get(PROVE)
    code = mailed_code()

    minutes_pass(client, 16)
    page = client.post(PROVE, {"code": code}, follow=True).content.decode()

    assert "That code is not good any more" in page


def test_a_code_is_not_good_for_the_next_person_in_the_browser(client, person, make_user):
    client.get(PROVE)
    code = mailed_code()
    session = client.session
    other = make_user("charlie@x.example")
    other.set_unusable_password()
    other.save()
    kept = session["proof_of_person"]
    client.force_login(other)
    session = client.session
    session["proof_of_person"] = kept
    session.save()

    client.post(PROVE, {"code": code})

    assert asks(client.post("/accounts/data/", {"typed": other.email}))


def test_who_came_in_a_moment_ago_is_not_asked(client, person):
    client.logout()
    client.post("/accounts/login/code/", {"email": person.email})
    client.post("/accounts/login/code/confirm/", {"code": mailed_code()})

    assert client.get("/accounts/password/set/").status_code == 200
    minutes_pass(client, 6)
    assert asks(client.get("/accounts/password/set/"))


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_the_code_leads_to_no_other_site(client, person, elsewhere):
    client.get(PROVE, {"next": elsewhere})

    assert client.post(PROVE, {"code": mailed_code(), "next": elsewhere})["Location"] == "/home/"


def test_who_has_a_password_or_an_app_answers_with_that(client, acme_member):
    sign_in(client, acme_member)
    assert client.get(PROVE)["Location"] == "/accounts/reauthenticate/"
    assert asks(client.post("/accounts/data/", {"typed": acme_member.email}))
    prove_again(client)
    assert not asks(client.post("/accounts/data/", {"typed": "x"}))

    acme_member.set_unusable_password()
    acme_member.save()
    use_an_app(acme_member)
    client.force_login(acme_member)
    mail.outbox.clear()
    assert client.get(PROVE)["Location"] == "/accounts/2fa/reauthenticate/"
    assert mail.outbox == []


def test_strangers_are_led_to_sign_in(client, db):
    for response in (
        client.get(PROVE),
        client.post(PROVE, {"code": "x"}),
        client.get("/accounts/password/set/"),
    ):
        assert response["Location"].startswith("/accounts/login/")
    assert mail.outbox == []

"""Inviting people by mail: several at once, each address judged on its own."""

from __future__ import annotations

import re
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected

import pytest
from django.conf import settings
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone

from accounts import invitations
from accounts.models import Invitation
from tests.test_pages import assert_clean

INVITE = "/o/acme/invite/"


class RefusesEve(EmailBackend):
    """A mail server that knows no Eve."""

    def send_messages(self, messages):
        if messages[0].to == ["eve@acme.example"]:
            raise SMTPRecipientsRefused({"eve@acme.example": (550, b"no such user eve@acme.example")})
        return super().send_messages(messages)


class GoesAwayAfterOne(EmailBackend):
    tries = 0

    def send_messages(self, messages):
        type(self).tries += 1
        if self.tries > 1:
            raise SMTPServerDisconnected("secret detail")
        return super().send_messages(messages)


class Unreachable(EmailBackend):
    def open(self):
        raise ConnectionRefusedError("secret detail")


@pytest.fixture
def owner(client, acme, acme_admin):
    client.force_login(acme_admin)
    return acme_admin


def invite(client, emails, role="member"):
    response = client.post(INVITE, {"emails": emails, "role": role})
    assert_clean(response.content.decode())
    return response


def told(response):
    """Each address and what the page says of it."""
    rows = re.findall(r'<li class="judged">(.*?)</li>', response.content.decode(), re.DOTALL)
    lines = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip().split(" ", 1) for row in rows]
    return dict(lines)


def test_several_people_are_invited_and_each_address_is_told_of(client, owner, acme, acme_member):
    now = timezone.now()
    invitations.invite(acme, email="old@acme.example", role="member", by=owner, now=now - timedelta(days=3))

    response = invite(
        client,
        f"Eve@Acme.Example, nonsense;  {acme_member.email}\r\nTom Thumb <tom@acme.example>\n"
        "old@acme.example eve@acme.example",
    )

    assert response.status_code == 200
    assert told(response) == {
        "eve@acme.example": "Is invited. Invited",
        "nonsense": "This is not an email address. Not invited",
        "bob@acme.example": "This person is a member of the workspace already. Not invited",
        "tom@acme.example": "Is invited. Invited",
        "old@acme.example": "Is invited again: only the link in the newest mail is good. Invited",
    }
    assert [letter.to for letter in mail.outbox] == [
        ["eve@acme.example"],
        ["tom@acme.example"],
        ["old@acme.example"],
    ]
    assert acme.invitations.open().count() == 3


def test_the_mail_says_who_invites_whom_to_what_and_until_when(client, settings, owner, acme):
    acme.name, owner.name = "Acme & <Söhne>", "Ada\u202e 🚀"
    acme.save()
    owner.save()
    client.force_login(owner)

    invite(client, "eve@acme.example", role="admin")

    [letter] = mail.outbox
    assert letter.subject == f"Ada 🚀 invites you to Acme & <Söhne> on {settings.SITE_NAME}"
    assert letter.reply_to == [settings.SUPPORT_EMAIL]
    assert "ada@acme.example" in letter.body
    assert "You will be an admin" in letter.body
    [token] = re.findall(r"^http://testserver/invitations/([\w-]{43})/$", letter.body, re.MULTILINE)
    assert invitations.find(token).email == "eve@acme.example"
    html = letter.alternatives[0].content
    assert "Acme &amp; &lt;Söhne&gt;" in html
    assert f"/invitations/{token}/" in html


def test_the_same_form_sent_twice_mails_once_and_the_first_link_stays_good(client, owner):
    for _ in range(2):
        response = invite(client, "eve@acme.example")

    assert told(response)["eve@acme.example"].startswith("Was invited a moment ago.")
    [letter] = mail.outbox
    [token] = re.findall(r"/invitations/([\w-]+)/", letter.body)
    assert invitations.find(token)


def test_another_role_counts_at_once(client, owner, acme):
    invite(client, "eve@acme.example")
    invite(client, "eve@acme.example", role="admin")

    assert acme.invitations.get().role == "admin"
    assert len(mail.outbox) == 2


@pytest.mark.parametrize(
    "emails",
    ["", " ,;\n", "x" * 20_001, "a\x00b@acme.example", ",".join(f"m{n}@x.example" for n in range(51))],
)
def test_what_is_no_list_of_addresses_is_refused_at_the_field(client, owner, emails):
    response = invite(client, emails)

    assert response.status_code == 422
    assert 'aria-invalid="true"' in response.content.decode()
    assert not Invitation.objects.exists()
    assert not mail.outbox


def test_fifty_are_invited_at_once(client, owner):
    response = invite(client, "\n".join(f"m{n}@x.example" for n in range(50)))

    assert len(told(response)) == len(mail.outbox) == 50


@pytest.mark.parametrize(
    "address",
    ["<script>alert(1)</script>@x.example", "x" * 10_000 + "@x.example", "a@b", "مريم@", '"@x.example'],
)
def test_strange_addresses_are_shown_as_text_and_not_invited(client, owner, address):
    response = invite(client, address)

    assert "<script>alert" not in response.content.decode()
    assert "x" * 101 not in response.content.decode()
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    ("by", "role"), [("admin", "admin"), ("admin", "owner"), ("owner", "owner"), ("owner", "king")]
)
def test_a_role_that_is_not_offered_is_refused(client, acme, make_member, by, role):
    client.force_login(make_member(by, "by@acme.example").user)

    assert invite(client, "eve@acme.example", role=role).status_code == 422
    assert not Invitation.objects.exists()


def test_an_admin_does_not_renew_what_an_owner_decided(client, acme, acme_admin, make_member):
    invitations.invite(acme, email="eve@acme.example", role="admin", by=acme_admin, now=timezone.now())
    client.force_login(make_member("admin", "by@acme.example").user)

    response = invite(client, "eve@acme.example, tom@acme.example")

    assert told(response)["eve@acme.example"].startswith("You may not do this.")
    assert acme.invitations.get(email="eve@acme.example").role == "admin"
    assert acme.invitations.filter(email="tom@acme.example").exists()
    page = client.get("/o/acme/members/").content.decode()
    for word in ("resend", "revoke"):
        assert len(re.findall(rf"/o/acme/invitations/\d+/{word}/", page)) == 1


def test_without_a_seat_each_address_says_so(client, settings, owner, acme, acme_member):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.TwoPlaces"

    response = invite(client, "eve@acme.example")

    assert "All 2 places are taken. Buy more." in told(response)["eve@acme.example"]
    assert not mail.outbox


def test_a_workspace_is_no_way_to_mail_the_world(client, settings, owner):
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "invite": "3/h/user"}

    response = invite(client, "\n".join(f"m{n}@x.example" for n in range(5)))

    assert [sentence.startswith("That was a bit too fast.") for sentence in told(response).values()] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert len(mail.outbox) == 3
    pk = Invitation.objects.first().pk
    assert client.post(f"/o/acme/invitations/{pk}/resend/")["Location"] == "/o/acme/members/"
    assert len(mail.outbox) == 3


@pytest.mark.parametrize(
    ("backend", "sent", "unsent"),
    [
        ("RefusesEve", ["tom@acme.example"], ["eve@acme.example"]),
        ("GoesAwayAfterOne", ["eve@acme.example"], ["tom@acme.example"]),
        ("Unreachable", [], ["eve@acme.example", "tom@acme.example"]),
    ],
)
def test_when_the_mail_server_fails_the_link_is_shown_once(
    client, settings, owner, acme, backend, sent, unsent, make_user
):
    GoesAwayAfterOne.tries = 0
    settings.EMAIL_BACKEND = f"tests.accounts.test_inviting.{backend}"

    response = invite(client, "eve@acme.example, tom@acme.example")

    page = response.content.decode()
    assert [letter.to[0] for letter in mail.outbox] == sent
    assert {address for address, sentence in told(response).items() if "No mail sent" in sentence} == set(
        unsent
    )
    assert "secret detail" not in page
    assert "550" not in page
    tokens = re.findall(r"http://testserver/invitations/([\w-]+)/", page)
    assert [invitations.find(token).email for token in tokens] == unsent
    assert acme.invitations.open().count() == 2
    assert "no-store" in response["Cache-Control"]
    assert "/invitations/" not in re.sub(
        r"/o/acme/invitations/", "", client.get("/o/acme/members/").content.decode()
    )


def test_an_invitation_is_sent_again_and_the_old_link_ends(client, owner, acme):
    invitation, old = invitations.invite(
        acme, email="eve@acme.example", role="admin", by=owner, now=timezone.now() - timedelta(days=8)
    )
    assert "Expired" in client.get("/o/acme/members/").content.decode()

    response = client.post(f"/o/acme/invitations/{invitation.pk}/resend/")

    assert response.status_code == 200
    assert_clean(response.content.decode())
    [letter] = mail.outbox
    [token] = re.findall(r"/invitations/([\w-]+)/", letter.body)
    renewed = invitations.find(token)
    assert (renewed.pk, renewed.role) == (invitation.pk, "admin")
    assert renewed.expires_at > timezone.now()
    with pytest.raises(invitations.InvitationUnknown):
        invitations.find(old)


def test_an_invitation_is_withdrawn_once(client, owner, acme):
    invitation, _ = invitations.invite(
        acme, email="eve@acme.example", role="member", by=owner, now=timezone.now()
    )
    url = f"/o/acme/invitations/{invitation.pk}"

    for _ in range(2):
        assert client.post(f"{url}/revoke/")["Location"] == "/o/acme/members/"
    response = client.post(f"{url}/resend/", follow=True)

    assert "withdrawn" in response.content.decode()
    assert not mail.outbox
    assert not acme.invitations.open().exists()


def test_what_is_accepted_is_neither_sent_again_nor_withdrawn(client, owner, acme, make_user):
    now = timezone.now()
    invitation, token = invitations.invite(acme, email="eve@acme.example", role="member", by=owner, now=now)
    invitations.accept(token, user=make_user("eve@acme.example"), now=now)

    for word in ("resend", "revoke"):
        page = client.post(f"/o/acme/invitations/{invitation.pk}/{word}/", follow=True).content.decode()
        assert "accepted already" in page


def test_the_mail_is_in_the_language_of_the_page(client, settings, owner):
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "ko"

    invite(client, "eve@acme.example")

    assert 'lang="ko"' in mail.outbox[0].alternatives[0].content


def test_an_address_too_long_to_keep_is_refused_and_the_others_are_invited(client, owner, acme):
    longest, too_long = f"{'a' * 241}@acme.example", f"{'a' * 242}@acme.example"

    page = client.post(
        "/o/acme/invite/", {"emails": f"eve@acme.example, {too_long}, {longest}", "role": "member"}
    ).content.decode()

    assert_clean(page)
    assert page.count("This is not an email address.") == 1
    assert [len(each.email) for each in acme.invitations.order_by("pk")] == [16, 254]
    assert [letter.to for letter in mail.outbox] == [["eve@acme.example"], [longest]]


@pytest.mark.parametrize("name", ["https://evil.example/login", "\u202emoc.live"])
def test_a_name_of_before_the_rules_leads_nowhere_in_a_mail(client, acme, owner, name):
    acme.name, owner.name = f"urgent: {name}", f"Security team {name}"
    acme.save()
    owner.save()
    client.force_login(owner)

    invite(client, "eve@acme.example")

    [letter] = mail.outbox
    html = letter.alternatives[0].content
    assert {href for href in re.findall('href="([^"]+)"', html) if "/invitations/" not in href} <= {
        f"mailto:{settings.SUPPORT_EMAIL}"
    }
    assert "\u202e" not in letter.subject + letter.body + html


def test_a_subject_holds_only_the_beginning_of_a_name(client, settings, acme, owner):
    acme.name, owner.name = "Acme " * 24, "Your account is locked, call us at once " * 3
    acme.save()
    owner.save()
    client.force_login(owner)

    invite(client, "eve@acme.example")

    assert len(mail.outbox[0].subject) < 40 + 40 + 40 + len(settings.SITE_NAME)

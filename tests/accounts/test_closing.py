"""A workspace or an account ends: nobody is in it any more, and no row names who was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import connection

from accounts import closing, invitations, organizations
from accounts.adapter import AccountsAdapter
from accounts.models import Invitation, Membership, Organization, User
from tests.billing.arriving import at_once
from tests.plugin import PASSWORD
from tests.test_pages import assert_clean

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


class StillBilled(AccountsAdapter):
    def may_close(self, organization, *, now):
        return f"AWS goes on billing <{organization.name}>. Cancel it there first."


def everything_written() -> str:
    """Every text in every table of the database, sessions as they read."""
    texts = [str(Session.objects.first() and [each.get_decoded() for each in Session.objects.all()])]
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")
            texts += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(texts).lower()


def assert_forgotten(*words):
    written = everything_written()
    assert [word for word in words if word.lower() in written] == []


@pytest.fixture
def sign_in(client):
    def sign_in(user, *, recently=True):
        client.force_login(user)
        if recently:
            client.post("/accounts/reauthenticate/", {"password": PASSWORD})
        return client

    return sign_in


# --- A workspace


def test_a_closed_workspace_names_nobody_and_nobody_is_in_it(acme, acme_admin, acme_member):
    acme.name = "Acme Unmistakable"
    acme.save()
    invitation, token = invitations.invite(
        acme, email="eve@unmistakable.example", role="member", by=acme_admin, now=NOW
    )
    LogEntry.objects.create(
        user=acme_admin, content_type=ContentType.objects.get_for_model(acme), object_id=str(acme.pk),
        object_repr=str(acme), action_flag=CHANGE,
    )  # fmt: skip

    closing.close_organization(acme, by=acme_admin, now=NOW)

    acme.refresh_from_db()
    assert (acme.name, acme.closed_at) == ("Closed workspace", NOW)
    assert acme.slug.startswith("closed-")
    assert acme.slug != "closed-"
    assert not acme.memberships.exists()
    invitation.refresh_from_db()
    assert (invitation.email, invitation.revoked_at) == (f"closed-{invitation.pk}@closed.invalid", NOW)
    assert_forgotten("unmistakable")
    assert {acme_admin.is_active, acme_member.is_active} == {True}


def test_closing_again_changes_nothing(acme, acme_admin):
    closing.close_organization(acme, by=acme_admin, now=NOW)
    slug = Organization.objects.get().slug

    closing.close_organization(acme, by=acme_admin, now=NOW + timedelta(days=1))

    acme.refresh_from_db()
    assert (acme.slug, acme.closed_at) == (slug, NOW)


@pytest.mark.parametrize("role", ["admin", "member"])
def test_only_owners_close(acme, make_member, role):
    person = make_member(role, "eve@acme.example").user

    with pytest.raises(organizations.NotAllowed):
        closing.close_organization(acme, by=person, now=NOW)

    acme.refresh_from_db()
    assert acme.closed_at is None


def test_what_the_adapter_says_stands_against_it(client, settings, acme, acme_admin, sign_in):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_closing.StillBilled"
    with pytest.raises(closing.StillNeeded, match="AWS goes on billing"):
        closing.close_organization(acme, by=acme_admin, now=NOW)

    sign_in(acme_admin)
    for response in (client.get("/o/acme/close/"), client.post("/o/acme/close/", {"typed": "Acme"})):
        page = response.content.decode()
        assert_clean(page)
        assert "AWS goes on billing &lt;Acme&gt;. Cancel it there first." in page
        assert 'name="typed"' not in page
    assert response.status_code == 409
    acme.refresh_from_db()
    assert acme.closed_at is None


def test_an_owner_closes_by_writing_the_name(client, acme, acme_admin, acme_member, sign_in):
    sign_in(acme_admin)
    assert_clean(client.get("/o/acme/close/").content.decode())

    for typed in ("", "Acm", "x" * 10_000, "<b>Acme</b>", "Acme\x00"):
        response = client.post("/o/acme/close/", {"typed": typed})
        assert response.status_code == 422
        assert_clean(response.content.decode())
    first = client.post("/o/acme/close/", {"typed": " acme "})
    second = client.post("/o/acme/close/", {"typed": "acme"})

    assert first["Location"] == "/o/"
    assert second.status_code == 404
    client.force_login(acme_member)
    assert client.get("/o/acme/").status_code == 404
    assert client.get("/home/")["Location"] == "/o/"


@pytest.mark.parametrize("name", ["株式会社 🚀", "\u202eevil", "Größe  Söhne", "e\u0301tude"])
def test_a_name_is_confirmed_as_a_keyboard_writes_it(client, acme, acme_admin, sign_in, name):
    acme.name = name
    acme.save()
    sign_in(acme_admin)

    response = client.post("/o/acme/close/", {"typed": name.replace("e\u0301", "é").upper()})

    assert response["Location"] == "/o/"


@pytest.mark.parametrize(
    ("url", "typed"), [("/o/acme/close/", "Acme"), ("/accounts/data/", "ada@acme.example")]
)
def test_closing_asks_for_the_password_and_then_goes_on(client, acme, acme_admin, sign_in, url, typed):
    sign_in(acme_admin, recently=False)

    response = client.post(url, {"typed": typed})
    assert response["Location"] == f"/accounts/reauthenticate/?next={url.replace('/', '%2F')}"
    assert not Organization.objects.exclude(closed_at=None).exists()
    client.post("/accounts/reauthenticate/", {"password": "wrong", "next": url})
    assert not Organization.objects.exclude(closed_at=None).exists()
    client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": url})

    assert Organization.objects.exclude(closed_at=None).exists()


# --- An account


@pytest.fixture
def zelda(make_user, acme, acme_admin):
    """Somebody with one of everything that a person can have here."""
    user = make_user("zelda@quuxmail.example", name="Zelda Quux", language="ko", time_zone="Asia/Seoul")
    EmailAddress.objects.create(user=user, email="z2@quuxmail.example", verified=True)
    EmailAddress.objects.create(user=user, email="claimed@quuxmail.example", verified=False)
    Authenticator.objects.create(user=user, type="totp", data={"secret": "quux-secret"})
    SocialAccount.objects.create(
        user=user, provider="google", uid="quux-uid", extra_data={"name": "Zelda Quux"}
    )
    user.groups.add(Group.objects.create(name="testers"))
    invited = {}
    for email, ago in (
        ("zelda@quuxmail.example", 9),
        ("z2@quuxmail.example", 1),
        ("Old@quuxmail.example", 5),
    ):
        invited[email] = invitations.invite(
            acme, email=email, role="member", by=acme_admin, now=NOW - timedelta(days=ago)
        )
    # Accepted with an address that is not theirs any more.
    old = EmailAddress.objects.create(user=user, email="old@quuxmail.example", verified=True)
    invitations.accept(invited["Old@quuxmail.example"][1], user=user, now=NOW)
    old.delete()
    LogEntry.objects.create(
        user=acme_admin, content_type=ContentType.objects.get_for_model(user), object_id=str(user.pk),
        object_repr=str(user), action_flag=CHANGE,
    )  # fmt: skip
    return user


def test_a_closed_account_is_named_nowhere(client, zelda, acme):
    client.force_login(zelda)
    UserSession.objects.create(
        user=zelda, session_key=client.session.session_key, ip="203.0.113.9", user_agent="quux browser"
    )

    closing.close_account(zelda, now=NOW)

    zelda.refresh_from_db()
    assert zelda.email == f"closed-{zelda.pk}@closed.invalid"
    assert (zelda.name, zelda.language, zelda.time_zone) == ("", "", "")
    assert (zelda.is_active, zelda.closed_at, zelda.has_usable_password()) == (False, NOW, False)
    for related in (
        "emailaddress_set",
        "authenticator_set",
        "socialaccount_set",
        "usersession_set",
        "groups",
    ):
        assert not getattr(zelda, related).exists()
    assert not Session.objects.exists()
    assert not acme.memberships.filter(user=zelda).exists()
    assert not Invitation.objects.open().exists()
    assert client.get("/home/")["Location"].startswith("/accounts/login/")
    assert_forgotten("quux", "zelda", "asia/seoul")


def test_an_account_is_closed_once(zelda):
    closing.close_account(zelda, now=NOW)
    closing.close_account(zelda, now=NOW + timedelta(days=1))

    zelda.refresh_from_db()
    assert zelda.closed_at == NOW


def test_the_address_can_be_used_anew(zelda, make_user):
    closing.close_account(zelda, now=NOW)

    assert make_user("zelda@quuxmail.example").pk != zelda.pk


def test_an_address_that_was_only_claimed_keeps_its_invitation(acme, acme_admin, zelda):
    invitation, _ = invitations.invite(
        acme, email="claimed@quuxmail.example", role="member", by=acme_admin, now=NOW
    )

    closing.close_account(zelda, now=NOW)

    invitation.refresh_from_db()
    assert (invitation.email, invitation.revoked_at) == ("claimed@quuxmail.example", None)


def test_a_closed_account_signs_in_nowhere(client, zelda):
    closing.close_account(zelda, now=NOW)

    for login in ("zelda@quuxmail.example", f"closed-{zelda.pk}@closed.invalid"):
        client.post("/accounts/login/", {"login": login, "password": PASSWORD})
        assert not client.get("/").wsgi_request.user.is_authenticated


def fates_of(user):
    return {
        fate.organization.name: (fate.is_closed, fate.needs_an_heir, bool(fate.refusal))
        for fate in closing.fates_of(user, now=NOW)
    }


def test_what_becomes_of_each_workspace(settings, acme, acme_admin, acme_member, make_user):
    alone = organizations.create(name="Alone", owner=acme_admin)
    shared = organizations.create(name="Shared", owner=acme_admin)
    Membership.objects.create(organization=shared, user=make_user("eve@acme.example"), role="owner")
    guest = organizations.create(name="Guest", owner=make_user("tom@acme.example"))
    Membership.objects.create(organization=guest, user=acme_admin, role="admin")

    assert fates_of(acme_admin) == {
        "Acme": (False, True, False),
        "Alone": (True, False, False),
        "Guest": (False, False, False),
        "Shared": (False, False, False),
    }
    with pytest.raises(closing.WorkspacesFirst):
        closing.close_account(acme_admin, now=NOW)
    assert User.objects.get(pk=acme_admin.pk).is_active
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_closing.StillBilled"
    assert fates_of(acme_admin)["Alone"] == (False, False, True)

    settings.ACCOUNTS_ADAPTER = "accounts.adapter.AccountsAdapter"
    organizations.hand_over(acme.memberships.get(user=acme_member), by=acme_admin, now=NOW)
    closing.close_account(acme_admin, now=NOW)

    assert not Membership.objects.filter(user=acme_admin).exists()
    assert list(Organization.objects.exclude(closed_at=None)) == [alone]
    assert_forgotten("ada@acme.example", "Alone")


@pytest.mark.parametrize("rights", [{"is_staff": True}, {"is_superuser": True}])
def test_who_works_here_is_not_closed_by_their_own_hand(client, make_user, sign_in, rights):
    user = make_user("olga@seller.example", **rights)
    with pytest.raises(closing.StaffAccount):
        closing.close_account(user, now=NOW)

    sign_in(user)
    assert "You work for us" in client.get("/accounts/data/").content.decode()
    assert client.post("/accounts/data/", {"typed": user.email}).status_code == 409
    user.refresh_from_db()
    assert user.is_active


def test_a_person_closes_their_account_by_writing_its_address(client, zelda, sign_in):
    Authenticator.objects.filter(user=zelda).delete()
    client.force_login(zelda)
    zelda.language = ""
    zelda.save()
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert_clean(client.get("/accounts/data/").content.decode())
    for typed in ("", "other@quuxmail.example", "x" * 10_000):
        response = client.post("/accounts/data/", {"typed": typed})
        assert response.status_code == 422
        assert_clean(response.content.decode())

    response = client.post("/accounts/data/", {"typed": "Zelda@QuuxMail.example"}, follow=True)

    assert response.redirect_chain == [("/", 302)]
    assert "Your account is closed" in response.content.decode()
    assert not response.wsgi_request.user.is_authenticated
    assert client.post("/accounts/data/", {"typed": "x"})["Location"].startswith("/accounts/login/")
    assert_forgotten("quux", "zelda")


def test_workspaces_that_need_somebody_are_listed_with_the_way_on(
    client, acme, acme_admin, acme_member, sign_in
):
    sign_in(acme_admin)

    page = client.get("/accounts/data/").content.decode()

    assert "You are its only owner." in page
    assert 'href="/o/acme/members/"' in page
    assert 'name="typed"' not in page
    response = client.post("/accounts/data/", {"typed": acme_admin.email})
    assert response.status_code == 409
    assert_clean(response.content.decode())
    acme_admin.refresh_from_db()
    assert acme_admin.is_active


def test_the_page_of_a_person_in_many_workspaces_needs_few_queries(
    client, acme_admin, sign_in, django_assert_max_num_queries, acme, acme_member
):
    for n in range(30):
        organization = organizations.create(name=f"W{n}", owner=acme_member)
        Membership.objects.create(organization=organization, user=acme_admin, role="member")
        organizations.create(name=f"Alone {n}", owner=acme_admin)
    sign_in(acme_admin)

    with django_assert_max_num_queries(10):
        assert client.get("/accounts/data/").status_code == 200


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_close_their_accounts_at_once_one_stays(acme, acme_admin, make_member):
    other = make_member("owner", "eve@acme.example").user
    make_member("member", "tom@acme.example")

    answers = at_once(
        lambda: closing.close_account(acme_admin, now=NOW), lambda: closing.close_account(other, now=NOW)
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "WorkspacesFirst"]
    assert acme.memberships.filter(role="owner").count() == 1

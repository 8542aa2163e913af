"""How staff get in, the way back when a second factor is lost, and that both are in the audit trail."""

from __future__ import annotations

import io
import re

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import URLPattern, URLResolver

from accounts.models import User
from billing import audit
from billing.admin.site import admin_site
from billing.models import AuditEvent
from tests.accounts.steps import app_code
from tests.billing.trails import found
from tests.plugin import PASSWORD

pytestmark = pytest.mark.django_db

WANTED = "/admin/billing/auditevent/?subject=staff"


@pytest.fixture
def staff(make_user):
    return make_user("stan@seller.example", name="Stan", is_staff=True, is_superuser=True)


def trail():
    links = AuditEvent.objects.filter(stream=audit.STAFF).order_by("sequence")
    return [(link.actor, link.action, link.data) for link in links]


def newest():
    return trail()[-1]


def sign_in(client, email, password=PASSWORD, **more):
    return client.post("/accounts/login/", {"login": email, "password": password, **more})


def set_up_totp(client):
    """As a person does, who is asked for the password once more."""
    page = client.get("/accounts/2fa/totp/activate/")
    page = client.post(page["Location"], {"password": PASSWORD}, follow=True)
    code = app_code(page.context["form"].secret)
    return client.post("/accounts/2fa/totp/activate/", {"code": code}, follow=True)


# --- The door


def every_url(patterns=None, prefix="/admin/"):
    """The path of each URL of the console, with something in the place of its parameters."""
    for pattern in admin_site.get_urls() if patterns is None else patterns:
        path = prefix + re.sub(r"<[^>]+>", "1", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from every_url(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield re.sub(r"\(\?P1?.*?\)", "x", path).replace("^", "").replace("$", "").replace("\\Z", "")


PATHS = sorted(set(every_url()))


def test_there_is_a_url_of_every_kind():
    assert len(PATHS) > 100
    for path in (
        "/admin/jsi18n/",
        "/admin/autocomplete/",
        "/admin/login/",
        "/admin/logout/",
        "/admin/search/",
    ):
        assert path in PATHS


@pytest.mark.parametrize("method", ["get", "post"])
def test_no_url_of_the_console_opens_without_a_second_factor(client, staff, acme_admin, method):
    ask = getattr(client, method)
    for path in PATHS:
        assert ask(path)["Location"].startswith("/accounts/login/?next="), path
    client.force_login(acme_admin)
    for path in PATHS:
        assert ask(path).status_code == 403, path
    client.force_login(staff)
    for path in PATHS:
        response = ask(path)
        # Neither shows anything: one leads to the page that does not open, one to where all change theirs.
        elsewhere = {"/admin/login/": "/admin/", "/admin/password_change/": "/accounts/password/change/"}
        assert response["Location"] in ("/accounts/2fa/", elsewhere.get(path)), path


@pytest.mark.django_db(transaction=True)
def test_staff_are_led_to_a_second_factor_and_back_to_where_they_wanted(client, staff):
    response = sign_in(client, staff.email, next=WANTED)
    assert response["Location"] == WANTED
    response = client.get(WANTED, follow=True)
    assert response.redirect_chain == [("/accounts/2fa/", 302)]
    assert "Operators need a second factor" in response.content.decode()

    response = set_up_totp(client)

    assert response.redirect_chain == [("/accounts/2fa/recovery-codes/", 302)]
    assert f'<a href="{WANTED}">Go on to the console</a>' in response.content.decode()
    assert client.get(WANTED).status_code == 200
    assert [entry[1] for entry in trail()][-3:] == [
        "signed_in", "second_factor_added", "second_factor_added",
    ]  # fmt: skip
    assert found() == []

    client.post("/accounts/logout/")
    response = sign_in(client, staff.email, next=WANTED)
    assert response["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get(WANTED)["Location"].startswith("/accounts/login/"), "The password alone opens nothing."
    client.post(response["Location"], {"code": "000000", "next": WANTED})
    assert newest() == ("visitor", "second_factor_failed", {"user": staff.pk})
    client.post(
        response["Location"],
        {"code": Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]},
    )
    assert client.get(WANTED).status_code == 200
    assert newest() == (f"user:{staff.pk}", "signed_in", {"user": staff.pk})


def test_who_sets_up_a_second_factor_for_themselves_is_led_nowhere(client, acme_admin):
    client.force_login(acme_admin)
    assert client.get("/accounts/2fa/").status_code == 200
    assert "console_page_wanted" not in client.session


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["environment", "prompts"])
def test_createsuperuser_makes_an_account_that_gets_all_the_way_in(client, monkeypatch, way):
    if way == "environment":
        monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "Root@Seller.example")
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
        call_command("createsuperuser", interactive=False, verbosity=0)
    else:
        monkeypatch.setattr("builtins.input", lambda prompt="": "Root@Seller.example")
        monkeypatch.setattr("getpass.getpass", lambda prompt="": PASSWORD)
        call_command("createsuperuser", stdin=_Terminal(), verbosity=0)
    root = User.objects.get(email="root@seller.example")
    rights = {"is_active": True, "is_staff": True, "is_superuser": True}
    assert newest() == ("command", "access_changed", {"user": root.pk, **rights})

    assert sign_in(client, "root@seller.example", next="/admin/")["Location"] == "/admin/"
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"
    set_up_totp(client)
    assert client.get("/admin/").status_code == 200


class _Terminal(io.StringIO):
    def isatty(self):
        return True


# --- Signing in and out


def test_signing_in_and_out_is_in_the_trail_for_staff_only(client, operator, acme_admin):
    before = len(trail())
    client.force_login(operator)
    client.post("/accounts/logout/")
    who = f"user:{operator.pk}"
    ids = {"user": operator.pk}
    assert trail()[before:] == [(who, "signed_in", ids), (who, "signed_out", ids)]
    sign_in(client, acme_admin.email)
    sign_in(client, acme_admin.email, "wrong")
    client.post("/accounts/logout/")
    assert len(trail()) == before + 2


@pytest.mark.parametrize("address", ["STAN@seller.example", "stan@home.example"])
def test_a_wrong_password_to_an_operators_address_is_in_the_trail(client, staff, address):
    EmailAddress.objects.create(user=staff, email="stan@home.example", verified=True)
    sign_in(client, address, "wrong")
    assert newest() == ("visitor", "sign_in_failed", {"user": staff.pk})


@pytest.mark.parametrize(
    "address", ["", "nobody@seller.example", "x" * 10_000, "\u202e@x.example", "a' OR 1=1"]
)
def test_a_wrong_address_is_nobodys(client, staff, address):
    before = len(trail())
    sign_in(client, address, "wrong")
    assert len(trail()) == before


def test_a_newer_hash_of_the_same_password_is_no_change(client, staff, settings):
    before = len(trail())
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    old = staff.password
    assert sign_in(client, staff.email).status_code == 302
    staff.refresh_from_db()
    assert staff.password != old
    assert [action for _, action, _ in trail()[before:]] == ["signed_in"]


# --- Passwords and second factors


def test_staff_who_change_their_password_leave_a_trace(client, operator):
    client.force_login(operator)
    sign_in(client, operator.email)
    new = "another horse battery"
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    operator.refresh_from_db()
    assert operator.check_password(new)
    assert (f"user:{operator.pk}", "password_changed", {"user": operator.pk}) in trail()


def test_a_password_changed_in_a_shell_leaves_a_trace(staff, acme_member):
    staff.set_password("from a shell, once")
    staff.save()
    assert newest() == ("command", "password_changed", {"user": staff.pk})
    before = len(trail())
    acme_member.set_password("a buyer's own business")
    acme_member.save(update_fields=["password"])
    staff.name = "Stanley"
    staff.save()
    assert len(trail()) == before


def test_a_second_factor_that_comes_or_goes_is_in_the_trail(operator, acme_member):
    factor = operator.authenticator_set.get()
    factor.delete()
    assert newest() == ("command", "second_factor_removed", {"user": operator.pk, "kind": "totp"})
    before = len(trail())
    Authenticator.objects.create(user=acme_member, type="totp", data={})
    assert len(trail()) == before


# --- Rights, from the shell


def test_rights_given_in_a_shell_are_in_the_trail(acme_member):
    acme_member.is_staff = True
    acme_member.save()
    acme_member.is_superuser, acme_member.name = True, "Bo"
    acme_member.save(update_fields=["is_superuser", "name"])
    acme_member.save()
    assert trail() == [
        ("command", "access_changed", {"user": acme_member.pk, "is_staff": True}),
        ("command", "access_changed", {"user": acme_member.pk, "is_superuser": True}),
    ]


def test_groups_and_permissions_given_from_either_side_are_in_the_trail(acme_member, acme_admin):
    before = len(trail())
    group = Group.objects.create(name="Shell")
    one, two = Permission.objects.order_by("pk")[:2]
    acme_member.groups.add(group)
    acme_member.groups.add(group)
    group.user_set.add(acme_member, acme_admin)
    group.user_set.clear()
    acme_member.user_permissions.set([one, two])
    acme_member.user_permissions.clear()
    group.permissions.set([one])
    two.group_set.add(group)
    group.permissions.remove(one)
    group.user_set.add(acme_member)
    pk = group.pk
    group.delete()

    def person(user, **held):
        return ("access_changed", {"user": user.pk, **held})

    assert [(action, data) for _, action, data in trail()[before:]] == [
        person(acme_member, groups=[pk]),
        person(acme_admin, groups=[pk]),
        *(person(user, groups=[]) for user in sorted((acme_member, acme_admin), key=lambda user: user.pk)),
        person(acme_member, user_permissions=[one.pk, two.pk]),
        person(acme_member, user_permissions=[]),
        ("group_changed", {"group": pk, "permissions": [one.pk]}),
        ("group_changed", {"group": pk, "permissions": [one.pk, two.pk]}),
        ("group_changed", {"group": pk, "permissions": [two.pk]}),
        person(acme_member, groups=[pk]),
        ("group_deleted", {"group": pk, "users": [acme_member.pk]}),
    ]
    assert found() == []


# --- The way back


@pytest.fixture
def lost(client, staff):
    """An operator who is signed in somewhere, and has no second factor at hand."""
    sign_in(client, staff.email)
    for kind in ("totp", "recovery_codes"):
        Authenticator.objects.create(user=staff, type=kind, data={"secret": "x"})
    assert client.get("/admin/jsi18n/").status_code == 200
    return staff


def reset(*arguments):
    out = io.StringIO()
    call_command("reset_mfa", *arguments, stdout=out)
    return out.getvalue()


def test_reset_mfa_is_the_way_back_and_ends_every_session(client, lost):
    said = reset("STAN@seller.example", "--reason", "lost phone, called back")

    assert not lost.authenticator_set.exists()
    assert client.get("/admin/")["Location"].startswith("/accounts/login/")
    assert newest() == (
        "command", "second_factor_reset", {"user": lost.pk, "reason": "lost phone, called back"},
    )  # fmt: skip
    assert "They sign in and open /admin/, which leads them to set up a new one." in said
    sign_in(client, lost.email, next="/admin/")
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"


def test_reset_mfa_of_nobody_changes_nothing(lost):
    before = len(trail())
    with pytest.raises(CommandError, match="Nobody signs in with"):
        reset("nobody@seller.example")
    with pytest.raises(CommandError, match="no addresses"):
        reset(lost.email, "--reason", "mail from olga@seller.example")
    assert lost.authenticator_set.count() == 2
    assert len(trail()) == before


def test_reset_mfa_says_when_there_was_nothing_to_reset(acme_member):
    assert "There was no second factor" in reset(acme_member.email)
    assert newest()[1] == "second_factor_reset"


# --- What never gets in


def test_no_link_of_the_trail_names_anybody(client, operator, acme, acme_admin, acme_member, outsider):
    client.force_login(operator)
    sign_in(client, operator.email, "wrong")
    acme_member.is_staff = True
    acme_member.save()
    acme.name = "Acme & Sons"
    acme.save(update_fields=["name"])
    acme.invitations.create(
        email="eve@acme.example",
        role="member",
        digest="0" * 64,
        invited_by=acme_admin,
        expires_at=acme.created_at,
    )
    said = " ".join(f"{link.actor} {link.action} {link.data}" for link in AuditEvent.objects.all()).lower()
    assert AuditEvent.objects.count() > 8
    for name in ("@", "ada", "bob", "charlie", "olga", "acme", "eve", "127.0.0.1", PASSWORD):
        assert name not in said, name

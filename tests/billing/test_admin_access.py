"""Who gets into the console and how, what its front page says, and how operators handle people."""

from datetime import timedelta
from decimal import Decimal

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, Organization, User
from billing import audit
from billing.admin import front_page
from billing.admin.columns import instant, list_url, plain
from billing.models import (
    Agreement,
    AuditEvent,
    Effect,
    MarketplaceCustomer,
    MarketplaceEvent,
    MeteringRecord,
)
from tests.billing.test_admin import HOSTILE, make_story, page_url, rows_of, submit
from tests.plugin import PASSWORD


@pytest.fixture
def make_staff(make_user):
    def make(email="olga@seller.example", *permissions, second_factor=True, **fields):
        user = make_user(email, is_staff=True, **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        if second_factor:
            Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
        return user

    return make


@pytest.fixture
def operator(client, make_staff):
    user = make_staff(is_superuser=True)
    client.force_login(user)
    return user


def sources(response, directive):
    policy = dict(part.strip().partition(" ")[::2] for part in response["Content-Security-Policy"].split(";"))
    return policy[directive].split()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/", "/admin/billing/agreement/", "/admin/no/such/page/"])
def test_strangers_are_led_to_sign_in_and_back(client, path):
    assert client.get(path)["Location"] == f"/accounts/login/?next={path.replace('/', '%2F')}"


@pytest.mark.django_db
def test_the_admins_own_sign_in_is_closed(client, make_staff, operator):
    other = make_staff("oscar@seller.example")

    response = client.post("/admin/login/", {"username": other.email, "password": PASSWORD})

    assert response["Location"] == "/admin/"
    assert client.get("/admin/").context["user"] == operator, (
        "No password takes anybody past the second factor."
    )
    client.logout()
    assert client.get("/admin/login/?next=/admin/billing/agreement/")["Location"] == (
        "/accounts/login/?next=%2Fadmin%2Fbilling%2Fagreement%2F"
    )


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/billing/agreement/"])
def test_buyers_are_refused_plainly(client, acme_admin, path):
    client.force_login(acme_admin)

    assert client.get(path).status_code == 403


def test_staff_without_a_second_factor_are_led_to_set_one_up(client, make_staff):
    client.force_login(make_staff(second_factor=False, is_superuser=True))

    for path in ("/admin/", "/admin/billing/agreement/", "/admin/accounts/user/add/"):
        response = client.get(path, follow=True)
        assert response.redirect_chain == [("/accounts/2fa/", 302)], "One step, no loop."
        assert "Operators need a second factor" in response.content.decode()


def test_on_a_laptop_no_second_factor_is_needed(client, make_staff, settings):
    settings.DEBUG = True
    client.force_login(make_staff(second_factor=False, is_superuser=True))

    assert client.get("/admin/").status_code == 200


def test_staff_see_only_what_they_may(client, make_staff):
    client.force_login(make_staff("o@seller.example", "view_agreement"))

    page = client.get("/admin/")
    assert client.get(list_url(Agreement)).status_code == 200
    assert client.get(list_url(MeteringRecord)).status_code == 403
    assert list_url(Agreement) in page.content.decode()
    assert list_url(MeteringRecord) not in page.content.decode()
    assert [figure.title for figure in page.context["health"].figures] == [
        "Bought, never registered",
        "Pending for over an hour",
        "Flagged agreements",
    ]


def test_a_page_that_may_not_be_seen_tells_nothing(client, make_staff, acme):
    client.force_login(make_staff("o@seller.example", "view_effect"))

    assert client.get(page_url(make_story(acme, number=1)[Agreement])).status_code == 403


def test_only_the_admin_may_run_unfolds_code(client, operator, acme_admin, acme):
    admin_page = client.get("/admin/")
    assert "'unsafe-eval'" in sources(admin_page, "script-src")
    assert "'unsafe-inline'" in sources(admin_page, "style-src")
    assert sources(admin_page, "default-src") == ["'none'"]
    assert "'unsafe-inline'" not in sources(admin_page, "script-src")

    client.force_login(acme_admin)
    for path in ("/", "/o/acme/", "/accounts/login/", "/marketplace/register/"):
        buyer_page = client.get(path)
        assert sources(buyer_page, "script-src") == sources(buyer_page, "style-src") == ["'self'"]


def test_passwords_are_changed_where_everybody_changes_them(client, operator):
    assert client.get("/admin/password_change/")["Location"] == "/accounts/password/change/"


def test_an_operator_signs_out(client, operator):
    client.post("/admin/logout/")

    assert client.get("/admin/").status_code == 302


# --- The front page


def figures(client):
    return {figure.title: figure for figure in client.get("/admin/").context["health"].figures}


def test_the_front_page_counts_what_is_at_risk(client, operator, acme):
    now = timezone.now()
    story = make_story(acme, number=1)
    Agreement.objects.update(flagged_at=now)
    MeteringRecord.objects.update(submit_by=now + timedelta(hours=2, minutes=5, seconds=30))
    late = MeteringRecord.objects.get()
    late.pk, late.hour, late.state = None, late.hour + timedelta(hours=1), "accepted"
    late.submit_by = now - timedelta(days=3)
    late.save(force_insert=True)
    Agreement.objects.create(
        product=story[Agreement].product,
        customer=MarketplaceCustomer.objects.create(aws_account_id="999"),
        identity="license",
        license_id="l-unclaimed",
        created_at=now - timedelta(hours=2),
    )
    MarketplaceEvent.objects.create(channel="sns", source_id="f", kind="?", occurred_at=now, state="failed")
    Effect.objects.update(due_at=now - timedelta(minutes=6))
    Effect.objects.create(
        agreement=story[Agreement],
        kind="flush_usage",
        cause="soon",
        caused_at=now,
        due_at=now - timedelta(minutes=1),
        attempts=5,
    )

    shown = figures(client)

    assert shown["Nearest deadline"].value == "2 h 05 min"
    assert shown["Nearest deadline"].tone == "warning"
    shown.pop("Jobs late or failing")
    shown.pop("Expiring entitlements")
    assert {title: figure.value for title, figure in shown.items() if title != "Nearest deadline"} == {
        "Bought, never registered": "1",
        "Pending for over an hour": "1",
        "Flagged agreements": "1",
        "Inbox waiting": "1",
        "Inbox failed": "1",
        "Overdue effects": "1",
        "Failing effects": "1",
    }
    for figure in shown.values():
        assert len(rows_of(client.get(figure.url))) == 1, f"{figure.title} leads to the rows it counts."


def test_the_front_page_breaks_records_and_agreements_down(client, operator, acme):
    make_story(acme, number=1)

    page = client.get("/admin/").content.decode()

    assert list_url(MeteringRecord, state__exact="due") in page
    assert list_url(Agreement, status__exact="active") in page
    assert list_url(MeteringRecord, state__exact="parked") not in page


def test_an_empty_site_is_well(client, operator):
    shown = figures(client)

    assert shown["Nearest deadline"].value == "None"
    assert shown.pop("Jobs late or failing").tone == "danger", "None has run yet."
    assert {figure.tone for figure in shown.values()} == {""}


@pytest.mark.parametrize(
    ("left", "value", "tone"),
    [
        (timedelta(minutes=-1), "Missed", "danger"),
        (timedelta(minutes=42), "42 min", "danger"),
        (timedelta(hours=3), "3 h 00 min", "warning"),
        (timedelta(hours=23, minutes=5), "23 h 05 min", ""),
    ],
)
def test_a_deadline_is_louder_the_nearer_it_is(operator, acme, left, value, tone):
    now = timezone.now()
    make_story(acme, number=1)
    MeteringRecord.objects.update(submit_by=now + left)

    [deadline] = [
        figure for figure in front_page.look(operator, now=now).figures if figure.title == "Nearest deadline"
    ]

    assert (deadline.value, deadline.tone) == (value, tone)


def test_the_front_page_takes_few_queries(client, operator, acme):
    for number in range(1, 5):
        make_story(acme, number=number)
    with CaptureQueriesContext(connection) as queries:
        client.get("/admin/")

    assert len(queries) <= 15


def test_cells_say_when_there_is_nothing():
    assert instant(None) == plain(None) == "–"
    assert plain(Decimal("1E+3")) == "1000"


# --- People


def test_an_operator_makes_an_account_that_can_sign_in(client, operator):
    fields = {"email": "New@Person.example", "name": "New", "usable_password": "true"}
    client.post("/admin/accounts/user/add/", {**fields, "password1": PASSWORD, "password2": PASSWORD})

    client.logout()
    client.post("/accounts/login/", {"login": "new@person.example", "password": PASSWORD})

    assert client.get("/").wsgi_request.user == User.objects.get(email="new@person.example")
    assert EmailAddress.objects.get(email="new@person.example").verified


def test_an_address_that_somebody_signs_in_with_is_not_given_twice(client, operator, acme_member):
    EmailAddress.objects.create(user=acme_member, email="bob@home.example", verified=True)

    for email in ("bob@home.example", "BOB@acme.example"):
        response = client.post(
            "/admin/accounts/user/add/",
            {"email": email, "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD},
        )
        assert response.status_code == 200
    assert User.objects.count() == 3


@pytest.mark.django_db
def test_createsuperuser_makes_an_account_that_can_sign_in(client, settings, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, email="Root@Seller.example", verbosity=0)

    response = client.post(
        "/accounts/login/", {"login": "root@seller.example", "password": PASSWORD, "next": "/admin/"}
    )

    assert response["Location"] == "/admin/"
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"


def test_the_password_hash_is_not_shown(client, operator, acme_member):
    page = client.get(page_url(acme_member)).content.decode()

    assert acme_member.password not in page
    assert acme_member.password.rpartition("$")[2][:6] not in page
    assert f"/admin/accounts/user/{acme_member.pk}/password/" in page


def test_an_operator_edits_a_person_but_not_the_address(client, operator, acme_member):
    group = Group.objects.create(name="Auditors")
    changes = {"name": "Robert", "is_active": "on", "is_staff": "on", "groups": [group.pk]}
    submit(client, page_url(acme_member), **changes, email="other@acme.example")

    acme_member.refresh_from_db()
    assert (acme_member.name, acme_member.is_staff, acme_member.email) == ("Robert", True, "bob@acme.example")
    assert list(acme_member.groups.all()) == [group]


def test_an_operator_sets_a_password(client, operator, acme_member):
    page = f"/admin/accounts/user/{acme_member.pk}/password/"
    assert client.get(page).status_code == 200
    client.post(page, {"usable_password": "true", "password1": "another horse", "password2": "another horse"})

    acme_member.refresh_from_db()
    assert acme_member.check_password("another horse")


def staff_trail(*, after=0):
    """What staff did since the test had its cast: how accounts are made and sign in is in test_staff.py."""
    trail = AuditEvent.objects.filter(stream=audit.STAFF, sequence__gt=after).order_by("sequence")
    return list(trail.values_list("actor", "action", "data"))


def told_so_far():
    return AuditEvent.objects.filter(stream=audit.STAFF).count()


def test_setting_somebodys_password_leaves_a_trace(client, make_staff, acme_member):
    support = make_staff("s@seller.example", "view_user", "change_user")
    client.force_login(support)
    before = told_so_far()
    page = f"/admin/accounts/user/{acme_member.pk}/password/"

    client.get(page)
    client.post(page, {"usable_password": "true", "password1": "another horse", "password2": "a typo"})
    assert staff_trail(after=before) == []

    client.post(page, {"usable_password": "true", "password1": "another horse", "password2": "another horse"})
    assert staff_trail(after=before) == [(f"user:{support.pk}", "password_set", {"user": acme_member.pk})]


def test_a_password_is_not_set_where_no_trace_can_be_left(client, operator, acme_member, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("no trace")

    monkeypatch.setattr(audit, "record", fails)
    with pytest.raises(RuntimeError):
        client.post(
            f"/admin/accounts/user/{acme_member.pk}/password/",
            {"usable_password": "true", "password1": "another horse", "password2": "another horse"},
        )

    acme_member.refresh_from_db()
    assert acme_member.check_password(PASSWORD)


def test_changing_what_somebody_may_do_leaves_a_trace(client, operator, acme_member):
    group = Group.objects.create(name="Some auditors")
    before = told_so_far()
    submit(client, page_url(acme_member), name="Robert", is_active="on")
    assert staff_trail(after=before) == [], "A name opens nothing."

    submit(client, page_url(acme_member), is_active="on", is_staff="on", groups=[group.pk])
    submit(client, page_url(acme_member), is_active="on", is_staff="on", groups=[group.pk])

    by = f"user:{operator.pk}"
    assert staff_trail(after=before) == [
        (by, "access_changed", {"user": acme_member.pk, "is_staff": True}),
        (by, "access_changed", {"user": acme_member.pk, "groups": [group.pk]}),
    ]


def test_an_account_made_by_an_operator_leaves_a_trace(client, operator):
    before = told_so_far()
    fields = {"email": "new@person.example", "usable_password": "true"}
    client.post("/admin/accounts/user/add/", {**fields, "password1": PASSWORD, "password2": PASSWORD})

    made = User.objects.get(email="new@person.example")
    assert staff_trail(after=before) == [(f"user:{operator.pk}", "account_made", {"user": made.pk})]


def test_a_group_is_changed_by_those_who_may_manage_staff_alone(client, make_staff, operator):
    group = Group.objects.create(name="Auditors")
    support = make_staff("s@seller.example", "view_group", "add_group", "change_group", "delete_group")
    client.force_login(support)

    seen, changed = [list_url(Group), page_url(group)], [page_url(group, "delete"), "/admin/auth/group/add/"]
    assert [client.get(page).status_code for page in (*seen, *changed)] == [200, 200, 403, 403]
    assert client.post(page_url(group), {"name": "Mine"}).status_code == 403
    for user in (operator, make_staff("o@seller.example", "manage_staff")):
        client.force_login(user)
        for page in (*seen, *changed):
            assert client.get(page).status_code == 200, page


def test_changing_what_a_group_may_do_leaves_a_trace(client, operator):
    group = Group.objects.create(name="Some auditors")
    permission = Permission.objects.get(codename="view_agreement")
    before = told_so_far()
    submit(client, page_url(group), name="Some auditors", permissions=[permission.pk])
    client.post(page_url(group, "delete"), {"post": "yes"})
    other = Group.objects.create(name="Others")
    client.post(list_url(Group), {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"})

    by = f"user:{operator.pk}"
    assert staff_trail(after=before) == [
        (by, "group_changed", {"group": group.pk, "permissions": [permission.pk]}),
        (by, "group_deleted", {"group": group.pk, "users": []}),
        (by, "group_deleted", {"group": other.pk, "users": []}),
    ]
    assert not Group.objects.filter(pk__in=[group.pk, other.pk]).exists()


def test_nobody_makes_themselves_more_than_they_are(client, make_staff, acme_member):
    support = make_staff("s@seller.example", "view_user", "change_user")
    root = make_staff("root@seller.example", is_superuser=True)
    client.force_login(support)

    client.post(
        page_url(acme_member), {"name": "Bo", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    )
    acme_member.refresh_from_db()
    assert (acme_member.name, acme_member.is_staff, acme_member.is_superuser) == ("Bo", False, False)

    for person in (support, root):
        assert client.post(page_url(person), {"is_superuser": "on"}).status_code == 403
        assert client.post(f"/admin/accounts/user/{person.pk}/password/", {}).status_code == 403


@pytest.mark.parametrize("model", [User, Organization, Membership])
def test_people_are_not_deleted(client, operator, acme_member, model):
    row = {
        User: acme_member,
        Organization: Organization.objects.get(),
        Membership: Membership.objects.last(),
    }[model]

    assert client.post(page_url(row, "delete"), {"post": "yes"}).status_code == 403
    assert model.objects.filter(pk=row.pk).exists()


def test_organizations_are_renamed_not_made(client, operator, acme):
    submit(client, page_url(acme), name=HOSTILE, slug="other")

    acme.refresh_from_db()
    assert (acme.name, acme.slug) == (HOSTILE, "acme")
    assert HOSTILE not in client.get(list_url(Organization)).content.decode()
    assert client.get("/admin/accounts/organization/add/").status_code == 403

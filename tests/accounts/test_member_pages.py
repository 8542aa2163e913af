"""The members of a workspace as its pages show and change them."""

from __future__ import annotations

import re

import pytest
from django.contrib.messages import get_messages

from accounts import organizations
from accounts.adapter import AccountsAdapter, Places
from accounts.models import Membership, User
from tests.test_pages import assert_clean


class ThreeOfFive(AccountsAdapter):
    def places(self, organization, *, now):
        return Places(limit=5, taken=3)


class Full(AccountsAdapter):
    def places(self, organization, *, now):
        return Places(limit=1, taken=2)


def said(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


def roles_of(organization):
    return dict(organization.memberships.values_list("user__email", "role"))


def page_of(client, url):
    page = client.get(url).content.decode()
    assert_clean(page)
    return page


def pk_of(organization, user):
    return organization.memberships.get(user=user).pk


def test_the_list_offers_only_what_the_reader_may_do(client, acme, acme_admin, acme_member, make_member):
    admin = make_member("admin", "grace@acme.example").user
    rows = {user: f'href="/o/acme/members/{pk_of(acme, user)}/"' for user in (acme_admin, acme_member, admin)}
    expected = {
        acme_admin: {acme_admin, acme_member, admin},
        admin: {acme_member, admin},
        acme_member: {acme_member},
    }

    for reader, manageable in expected.items():
        client.force_login(reader)
        page = page_of(client, "/o/acme/members/")
        assert {user for user, link in rows.items() if link in page} == manageable
        assert ("Open invitations" in page) == (reader != acme_member)


def test_more_than_a_page_of_members_is_paged_and_searched(client, acme, acme_admin):
    people = User.objects.bulk_create(
        User(email=f"m{n:03}@acme.example", name=f"Person {n:03}") for n in range(120)
    )
    Membership.objects.bulk_create(Membership(organization=acme, user=user, role="member") for user in people)
    client.force_login(acme_admin)

    seen, url = set(), "/o/acme/members/"
    for _ in range(3):
        page = page_of(client, url)
        seen |= set(re.findall(r"m\d{3}@acme\.example", page))
        following = re.search(r'href="(\?[^"]+)" rel="next"', page)
        url = f"/o/acme/members/{following[1]}" if following else None
    assert len(seen) == 120
    assert url is None
    found = page_of(client, "/o/acme/members/?q=person+077")
    assert re.findall(r"m\d{3}@acme\.example", found) == ["m077@acme.example"]
    assert "m099@acme.example" in page_of(client, "/o/acme/members/?q=M099@ACME")
    assert "Nobody found" in page_of(client, "/o/acme/members/?q=<script>alert(1)</script>")


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "page=99999999999", "page=٣", "q=%00", "q=" + "x" * 5000, "invited=9"],
)
def test_an_address_that_was_played_with_still_shows_a_page(client, acme, acme_admin, query):
    client.force_login(acme_admin)

    page_of(client, f"/o/acme/members/?{query}")


def test_seats_are_shown_where_they_are_limited(client, settings, acme, acme_admin):
    client.force_login(acme_admin)
    assert "seats taken" not in page_of(client, "/o/acme/members/")

    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_member_pages.ThreeOfFive"
    for url in ("/o/acme/members/", "/o/acme/invite/"):
        page = page_of(client, url)
        assert "3 of 5 seats taken" in page
        assert '<progress value="3" max="5"' in page
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_member_pages.Full"
    page = page_of(client, "/o/acme/members/")
    assert "2 of 1 seat taken" in page
    assert "add seats in AWS Marketplace" in page


def test_an_owner_changes_a_role(client, acme, acme_admin, acme_member):
    client.force_login(acme_admin)
    url = f"/o/acme/members/{pk_of(acme, acme_member)}/"

    responses = [client.post(url, {"role": "admin"}) for _ in range(2)]

    assert [response["Location"] for response in responses] == ["/o/acme/members/"] * 2
    assert roles_of(acme)[acme_member.email] == "admin"


@pytest.mark.parametrize("role", ["", "king", "x" * 10_000, "owner\x00"])
def test_a_role_that_does_not_exist_is_refused(client, acme, acme_admin, acme_member, role):
    client.force_login(acme_admin)

    response = client.post(f"/o/acme/members/{pk_of(acme, acme_member)}/", {"role": role})

    assert response.status_code == 422
    assert_clean(response.content.decode())
    assert roles_of(acme)[acme_member.email] == "member"


@pytest.mark.parametrize(
    ("by", "of", "to"),
    [
        ("member", "itself", "admin"),
        ("member", "itself", "owner"),
        ("admin", "itself", "owner"),
        ("admin", "member", "admin"),
        ("admin", "member", "owner"),
        ("admin", "admin", "member"),
        ("admin", "owner", "member"),
        ("member", "owner", "member"),
    ],
)
def test_nobody_rises_by_posting(client, acme, make_member, by, of, to):
    actor = make_member(by, "by@acme.example")
    target = actor if of == "itself" else make_member(of, "of@acme.example")
    before = roles_of(acme)
    client.force_login(actor.user)

    assert client.post(f"/o/acme/members/{target.pk}/", {"role": to}).status_code == 403
    client.post(f"/o/acme/members/{target.pk}/hand-over/")

    assert roles_of(acme) == before


def test_an_admin_removes_a_member_but_no_owner(client, acme, acme_admin, acme_member, make_member):
    client.force_login(make_member("admin", "grace@acme.example").user)
    member, owner = pk_of(acme, acme_member), pk_of(acme, acme_admin)

    assert client.post(f"/o/acme/members/{owner}/remove/").status_code == 403
    first = client.post(f"/o/acme/members/{member}/remove/")
    second = client.post(f"/o/acme/members/{member}/remove/", follow=True)

    assert first["Location"] == "/o/acme/members/"
    assert "not a member of the workspace any more" in second.content.decode()
    assert set(roles_of(acme)) == {"ada@acme.example", "grace@acme.example"}
    assert client.get(f"/o/acme/members/{member}/").status_code == 404


def test_who_was_removed_while_signed_in_is_outside_at_once(client, acme, acme_admin, acme_member):
    client.force_login(acme_member)
    assert client.get("/home/")["Location"] == "/o/acme/"

    organizations.remove(acme.memberships.get(user=acme_member), by=acme_admin, now=acme.created_at)

    for method in (client.get, client.post):
        assert method("/o/acme/members/").status_code == 404
        assert method("/o/acme/leave/").status_code == 404
    assert client.get("/home/")["Location"] == "/o/"


def test_an_owner_hands_over_in_one_go(client, acme, acme_admin, acme_member):
    client.force_login(acme_admin)
    url = f"/o/acme/members/{pk_of(acme, acme_member)}/"
    assert "Hand over and become an admin" in page_of(client, url)

    responses = [client.post(f"{url}hand-over/") for _ in range(2)]

    assert [response.status_code for response in responses] == [302, 302]
    assert roles_of(acme) == {acme_admin.email: "admin", acme_member.email: "owner"}
    page = page_of(client, "/o/acme/members/")
    assert "The workspace has a new owner, and you are an admin now." in page
    assert page.count("This person is an owner of the workspace already.") == 1


def test_an_admin_who_posts_a_hand_over_to_an_owner_is_not_told_that_it_was_done(
    client, acme, acme_admin, make_member
):
    client.force_login(make_member("admin", "eve@acme.example").user)
    before = roles_of(acme)

    client.post(f"/o/acme/members/{pk_of(acme, acme_admin)}/hand-over/")

    page = page_of(client, "/o/acme/members/")
    assert "you are an admin now" not in page
    assert "This person is an owner of the workspace already." in page
    assert roles_of(acme) == before


def test_a_workspace_is_not_handed_to_oneself(client, acme, acme_admin):
    client.force_login(acme_admin)

    assert client.post(f"/o/acme/members/{pk_of(acme, acme_admin)}/hand-over/").status_code == 403
    assert roles_of(acme) == {acme_admin.email: "owner"}


def test_a_member_leaves_after_a_question(client, acme, acme_member):
    client.force_login(acme_member)
    own = f"/o/acme/members/{pk_of(acme, acme_member)}/"
    assert 'href="/o/acme/leave/"' in page_of(client, own)
    assert client.post(f"{own}remove/")["Location"] == "/o/acme/leave/"
    assert "Leave Acme?" in page_of(client, "/o/acme/leave/")

    response = client.post("/o/acme/leave/")

    assert response["Location"] == "/home/"
    assert client.post("/o/acme/leave/").status_code == 404
    assert acme_member.email not in roles_of(acme)


def test_the_last_owner_is_told_how_to_go(client, acme, acme_admin, make_member):
    client.force_login(acme_admin)
    alone = page_of(client, "/o/acme/leave/")
    assert 'href="/o/acme/close/"' in alone
    assert "<form method" not in alone
    make_member("admin", "grace@acme.example")
    assert "Hand it over first" in page_of(client, "/o/acme/leave/")
    own = page_of(client, f"/o/acme/members/{pk_of(acme, acme_admin)}/")
    assert "this is the only one" in own

    response = client.post("/o/acme/leave/", follow=True)

    assert response.redirect_chain == [("/o/acme/leave/", 302)]
    assert "always has an owner" in response.content.decode()
    assert roles_of(acme)[acme_admin.email] == "owner"


def test_strange_names_of_people_are_text(client, acme, acme_admin, make_member):
    for n, name in enumerate(["<b>bold</b>", "\u202eevil", "مريم", "👩‍🚀", "x" * 150]):
        User.objects.filter(pk=make_member("member", f"s{n}@acme.example").user_id).update(name=name)
    client.force_login(acme_admin)

    page = page_of(client, "/o/acme/members/")

    assert "<b>bold" not in page
    assert "<bdi>مريم</bdi>" in page
    for membership in acme.memberships.all():
        page_of(client, f"/o/acme/members/{membership.pk}/")

"""A workspace of one's own: made, named, found again."""

from __future__ import annotations

import re

import pytest
from django.contrib.messages import get_messages

from accounts.models import Organization
from tests.test_pages import assert_clean

STRANGE = [
    "株式会社 🚀",
    "شركة عربية",
    "\u200fشركة عربية",
    "<script>alert(1)</script>",
    '"><img src=x>',
    "👨‍👩‍👧‍👦",
]


@pytest.fixture
def newcomer(client, make_user):
    user = make_user("new@nowhere.example")
    client.force_login(user)
    return user


def said(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


def test_a_workspace_is_created_and_opened(client, newcomer):
    response = client.post("/o/new/", {"name": "  Globex   Research "})

    assert response["Location"] == "/o/globex-research/"
    organization = Organization.objects.get()
    assert organization.name == "Globex Research"
    assert organization.memberships.get().role == "owner"
    assert_clean(client.get("/o/globex-research/").content.decode())


def test_a_form_that_is_sent_twice_makes_one_workspace(client, newcomer):
    first, second = (client.post("/o/new/", {"name": "Globex"}) for _ in range(2))

    assert first["Location"] == second["Location"] == "/o/globex/"
    assert Organization.objects.count() == 1


def test_another_owner_s_workspace_of_that_name_is_not_mine(client, acme, newcomer):
    response = client.post("/o/new/", {"name": "Acme"})

    assert response["Location"].startswith("/o/acme-")


@pytest.mark.parametrize("name", STRANGE)
def test_every_name_is_kept_and_shown_as_text(client, newcomer, name):
    response = client.post("/o/new/", {"name": name})

    assert Organization.objects.get().name == name
    for url in (response["Location"], "/o/", f"{response['Location']}settings/", "/accounts/data/"):
        client.post("/accounts/reauthenticate/", {"password": "correct horse battery staple"})
        page = client.get(url).content.decode()
        assert_clean(page)
        assert "<script>alert" not in page
        assert "<img src=x" not in page


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "x" * 121,
        "x" * 10_000,
        "Ada\nLovelace",
        "a\x00b",
        "\u200b\u200d",
        "a\u2028b",
        None,
        "\u202eevitaler\u202c",
        "a\u2067b",
        "urgent: https://evil.example/login",
    ],  # fmt: skip
)
@pytest.mark.parametrize("url", ["/o/new/", "/o/acme/settings/"])
def test_what_is_no_name_is_refused_with_a_sentence_at_the_field(client, acme, acme_admin, url, name):
    client.force_login(acme_admin)

    response = client.post(url, {"name": name} if name is not None else {})

    assert response.status_code == 422
    page = response.content.decode()
    assert_clean(page)
    assert 'aria-invalid="true"' in page
    assert re.search(r'aria-describedby="[^"]*id_name_error', page)
    assert Organization.objects.get().name == "Acme"


def test_without_a_proven_address_nobody_makes_a_workspace(client, make_user):
    client.force_login(make_user("new@nowhere.example", verified=False))

    response = client.post("/o/new/", {"name": "Globex"})

    assert response["Location"].startswith("/accounts/confirm-email/")
    assert not Organization.objects.exists()


def test_workspaces_are_not_made_by_the_dozen(client, newcomer):
    statuses = [client.post("/o/new/", {"name": f"Number {n}"}).status_code for n in range(11)]

    assert statuses == [302] * 10 + [429]
    assert client.get("/o/new/").status_code == 200


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_a_workspace_is_renamed_and_keeps_its_address(client, acme, make_member, role):
    client.force_login(make_member(role, "eve@acme.example").user)

    response = client.post("/o/acme/settings/", {"name": "Acme & Söhne"})

    assert response["Location"] == "/o/acme/settings/"
    page = client.get("/o/acme/settings/").content.decode()
    assert "Acme &amp; Söhne" in page
    assert "/o/acme/</code>" in page
    acme.refresh_from_db()
    assert (acme.name, acme.slug) == ("Acme & Söhne", "acme")


def test_a_member_renames_nothing(client, acme, acme_member):
    client.force_login(acme_member)

    assert client.post("/o/acme/settings/", {"name": "Mine"}).status_code == 403
    acme.refresh_from_db()
    assert acme.name == "Acme"


def test_the_first_page_leads_on_as_the_role_allows(client, acme, acme_admin, acme_member):
    client.force_login(acme_admin)
    page = client.get("/o/acme/").content.decode()
    assert 'href="/o/acme/settings/"' in page
    assert 'href="/o/acme/invite/"' in page

    client.force_login(acme_member)
    page = client.get("/o/acme/").content.decode()
    assert 'href="/o/acme/members/"' in page
    assert "/o/acme/settings/" not in page
    assert "/o/acme/invite/" not in page


def test_two_tabs_in_two_workspaces_do_not_mix(client, acme, acme_admin):
    client.force_login(acme_admin)
    client.post("/o/new/", {"name": "Globex"})

    client.post("/o/acme/settings/", {"name": "Acme One"})
    client.post("/o/globex/settings/", {"name": "Globex Two"})

    assert sorted(Organization.objects.values_list("slug", "name")) == [
        ("acme", "Acme One"),
        ("globex", "Globex Two"),
    ]

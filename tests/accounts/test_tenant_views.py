"""Each page and button of an organization: for whom it is there, and for whom it does not even exist."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from accounts import invitations
from accounts.models import Membership, User
from tests.plugin import PASSWORD

# Path below /o/acme/, and who may GET and POST it (405: the button is all there is).
ROLES = ("owner", "admin", "member")
EVERYBODY, ADMINISTRATORS, OWNERS = ROLES, ROLES[:2], ROLES[:1]
PAGES = {
    "": EVERYBODY,
    "members/": EVERYBODY,
    "leave/": EVERYBODY,
    "settings/": ADMINISTRATORS,
    "export/": ADMINISTRATORS,
    "invite/": ADMINISTRATORS,
    "close/": OWNERS,
    "members/{member}/": ADMINISTRATORS,
}
BUTTONS = {
    "members/{member}/remove/": ADMINISTRATORS,
    "members/{member}/hand-over/": OWNERS,
    "invitations/{invitation}/resend/": ADMINISTRATORS,
    "invitations/{invitation}/revoke/": ADMINISTRATORS,
}
EVERYTHING = [*PAGES, *BUTTONS]


@pytest.fixture
def address(acme, acme_admin, acme_member):
    """The address of something of acme's: its plain member, an invitation of one."""
    invitation, _ = invitations.invite(
        acme, email="eve@acme.example", role="member", by=acme_admin, now=timezone.now()
    )
    member = acme.memberships.get(user=acme_member)

    def fill(path, *, slug="acme"):
        return f"/o/{slug}/" + path.format(member=member.pk, invitation=invitation.pk)

    return fill


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", EVERYTHING)
def test_an_outsider_gets_nothing(client, address, outsider, path, method):
    client.force_login(outsider)

    assert getattr(client, method)(address(path)).status_code == 404


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", [path for path in EVERYTHING if "{" in path])
def test_what_is_another_organizations_cannot_be_named_from_ones_own(
    client, address, acme, outsider, path, method
):
    client.force_login(outsider)

    response = getattr(client, method)(address(path, slug="other"))

    # Who is gone and who was never there are told the same.
    expected = 302 if (method, "remove" in path) == ("post", True) else 404
    assert response.status_code == (405 if method == "get" and path in BUTTONS else expected)
    assert acme.memberships.count() == 2
    assert acme.invitations.pending(timezone.now()).count() == 1


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", EVERYTHING)
def test_who_is_not_signed_in_is_sent_to_sign_in(client, address, path, method):
    response = getattr(client, method)(address(path))

    assert response["Location"] == f"/accounts/login/?next={address(path)}"


def _sign_in(client, make_member, role):
    client.force_login(make_member(role, "reader@acme.example").user)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_its_roles(client, address, make_member, path, role):
    _sign_in(client, make_member, role)

    assert client.get(address(path)).status_code == (200 if role in PAGES[path] else 403)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", BUTTONS)
def test_a_button_is_for_its_roles_and_no_link(client, address, acme, make_member, path, role):
    _sign_in(client, make_member, role)
    before = list(acme.memberships.values("pk", "role"))

    refused_first = 403 if role not in BUTTONS[path] and "invitations" in path else 405
    assert client.get(address(path)).status_code == refused_first
    assert list(acme.memberships.values("pk", "role")) == before
    response = client.post(address(path))
    if role in BUTTONS[path]:
        assert response.status_code in (200, 302)
    else:
        assert response.status_code == 403
        assert list(acme.memberships.values("pk", "role")) == before


@pytest.mark.parametrize("path", EVERYTHING)
def test_a_form_of_another_site_does_nothing(address, acme, acme_admin, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(acme_admin)

    assert client.post(address(path), {"name": "Taken over"}).status_code == 403
    assert acme.memberships.count() == 2


@pytest.mark.parametrize(
    "path", ["", "members/", "settings/", "invite/", "close/", "leave/", "members/{member}/"]
)
def test_a_page_needs_at_most_ten_queries(
    client, address, acme, acme_admin, django_assert_max_num_queries, path
):
    people = User.objects.bulk_create(User(email=f"m{n}@acme.example", name=f"M {n}") for n in range(100))
    Membership.objects.bulk_create(Membership(organization=acme, user=user, role="member") for user in people)
    for n in range(50):
        invitations.invite(acme, email=f"i{n}@acme.example", role="member", by=acme_admin, now=timezone.now())
    client.force_login(acme_admin)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    with django_assert_max_num_queries(10):
        assert client.get(address(path)).status_code == 200

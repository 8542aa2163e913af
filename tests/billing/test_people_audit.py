"""Who came, went, or got another role is on the organization's own audit stream."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts import closing, invitations, organizations
from accounts.models import Membership
from billing.audit import organization_stream
from billing.models import AuditEvent
from tests.billing.trails import found

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture
def free_seats(settings):
    """As many members as they like: without the feature that counts them."""
    settings.FEATURES = {name: value for name, value in settings.FEATURES.items() if name != "seats"}


def trail(organization):
    links = AuditEvent.objects.filter(stream=organization_stream(organization.pk)).order_by("sequence")
    return [(link.action, link.data) for link in links]


def test_an_organization_begins_with_its_owner(acme, acme_admin):
    assert trail(acme) == [
        ("organization_created", {}),
        ("member_added", {"user": acme_admin.pk, "role": "owner"}),
    ]


def test_an_invitation_is_told_from_its_sending_to_its_end(free_seats, acme, acme_admin, make_user):
    guest = make_user("guest@x.example")
    before = len(trail(acme))
    invitation, _ = invitations.invite(acme, email="guest@x.example", role="member", by=acme_admin, now=NOW)
    _, token = invitations.invite(acme, email="guest@x.example", role="admin", by=acme_admin, now=NOW)
    invitations.accept(token, user=guest, now=NOW)
    second, _ = invitations.invite(acme, email="other@x.example", role="member", by=acme_admin, now=NOW)
    invitations.revoke(second, by=acme_admin, now=NOW)

    assert trail(acme)[before:] == [
        ("invited", {"invitation": invitation.pk, "role": "member"}),
        ("invited_again", {"invitation": invitation.pk, "role": "admin"}),
        ("invitation_accepted", {"invitation": invitation.pk, "role": "admin", "user": guest.pk}),
        ("member_added", {"user": guest.pk, "role": "admin"}),
        ("invited", {"invitation": second.pk, "role": "member"}),
        ("invitation_revoked", {"invitation": second.pk, "role": "member"}),
    ]
    assert found() == []


def test_roles_and_departures_are_told(acme, acme_admin, acme_member):
    place = acme.memberships.get(user=acme_member)
    before = len(trail(acme))
    organizations.change_role(place, role="admin", by=acme_admin, now=NOW)
    organizations.remove(place, by=acme_admin, now=NOW)
    assert trail(acme)[before:] == [
        ("role_changed", {"user": acme_member.pk, "role": "admin"}),
        ("member_removed", {"user": acme_member.pk}),
    ]


def test_what_is_rolled_back_is_not_told(acme, acme_admin):
    before = trail(acme)
    with pytest.raises(organizations.LastOwner):
        organizations.remove(acme.memberships.get(user=acme_admin), by=acme_admin, now=NOW)
    assert trail(acme) == before


def test_who_did_it_is_known_in_a_request_and_only_there(client, free_seats, acme, acme_admin, acme_member):
    client.force_login(acme_admin)
    client.post(f"/o/{acme.slug}/invite/", {"emails": "new@x.example", "role": "member"})
    links = AuditEvent.objects.filter(stream=organization_stream(acme.pk)).order_by("sequence")
    assert (links.last().action, links.last().actor) == ("invited", f"user:{acme_admin.pk}")
    Membership.objects.filter(user=acme_member).delete()
    assert links.last().actor == "command"


def test_the_end_of_an_organization_is_told(acme, acme_admin, acme_member):
    closing.close_organization(acme, by=acme_admin, now=NOW)
    told = trail(acme)
    assert told[-1] == ("organization_closed", {})
    assert [action for action, _ in told].count("member_removed") == 2
    assert found() == []

"""What operators see of invitations."""

from __future__ import annotations

import re
from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import invitations
from accounts.models import Invitation


def test_an_organizations_page_shows_its_invitations_and_changes_none(
    client, operator, acme, acme_admin, make_user
):
    def invite_and_accept(name):
        now = timezone.now() - timedelta(days=1)
        email = f"{name}@acme.example"
        _, token = invitations.invite(acme, email=email, role="member", by=acme_admin, now=now)
        invitations.accept(token, user=make_user(email), now=now)

    client.force_login(operator)
    url = reverse("admin:accounts_organization_change", args=[acme.pk])
    invite_and_accept("eve")
    client.get(url)  # content types are looked up once
    with CaptureQueriesContext(connection) as one:
        page = client.get(url).content.decode()
    for name in ("tom", "kim", "sam"):
        invite_and_accept(name)
    with CaptureQueriesContext(connection) as four:
        client.get(url)

    assert "eve@acme.example" in page
    assert Invitation.objects.get(email="eve@acme.example").digest not in page
    fields = re.findall(r'name="(invitations-[^"]+)"', page)
    assert {field for field in fields if not field.endswith("_FORMS")} <= {
        "invitations-0-id",
        "invitations-0-organization",
    }
    assert len(four) == len(one)

"""What belongs to a workspace or a person, as JSON that is written while it is read."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone

from accounts import exporting, invitations
from accounts.adapter import AccountsAdapter


class Endless(AccountsAdapter):
    """A part of which nobody could make a list."""

    read = 0

    def export(self, organization):
        return iter([("numbers", self.numbers())])

    def numbers(self):
        number = 0
        while True:
            number += 1
            type(self).read = number
            yield {"number": number, "text": "x" * 100}


class Parts(AccountsAdapter):
    def export(self, organization):
        yield "empty", iter(())
        yield 'quo"ted', iter([{"at": timezone.now(), "text": "</script>\u2028🚀"}])

    def export_of(self, user):
        yield "of_person", iter([{"pk": user.pk}])


def download(client, url):
    response = client.get(url)
    assert response.status_code == 200
    assert response.streaming
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"].startswith('attachment; filename="')
    assert "no-store" in response["Cache-Control"]
    return json.loads(response.getvalue())


def test_a_workspace_s_data_are_all_of_it_and_nothing_of_another(
    client, settings, acme, acme_admin, acme_member, outsider
):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_exporting.Parts"
    acme.name = 'Acme "quoted" </script> 株式会社'
    acme.save()
    now = timezone.now()
    other = outsider.organizations.get()
    _, token = invitations.invite(acme, email="eve@acme.example", role="member", by=acme_admin, now=now)
    invitations.invite(other, email="secret@other.example", role="member", by=outsider, now=now)
    client.force_login(acme_admin)

    data = download(client, "/o/acme/export/")

    assert data["workspace"]["name"] == acme.name
    assert data["workspace"]["address"] == "/o/acme/"
    assert [(row["email"], row["role"]) for row in data["members"]] == [
        ("ada@acme.example", "owner"),
        ("bob@acme.example", "member"),
    ]
    [invited] = data["invitations"]
    assert (invited["email"], invited["invited_by_email"]) == ("eve@acme.example", "ada@acme.example")
    assert data["empty"] == []
    assert data['quo"ted'][0]["text"] == "</script>\u2028🚀"
    text = json.dumps(data)
    assert "other.example" not in text
    assert "digest" not in text
    assert token not in text


def test_the_file_is_named_after_the_workspace_and_the_day(client, acme, acme_admin):
    client.force_login(acme_admin)

    response = client.get("/o/acme/export/")

    assert response["Content-Disposition"] == f'attachment; filename="acme-{timezone.now():%Y-%m-%d}.json"'


def test_nothing_waits_for_the_end(settings, acme):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_exporting.Endless"

    pieces = exporting.of_organization(acme, now=timezone.now())

    for count in range(1, 4):
        assert len(next(pieces)) < 20_000
        assert Endless.read < count * 200


def test_a_person_s_data_are_their_own(client, settings, acme, acme_admin, acme_member, outsider):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_exporting.Parts"
    client.force_login(acme_member, backend="django.contrib.auth.backends.ModelBackend")

    data = download(client, "/accounts/data/export/")

    assert data["account"]["email"] == "bob@acme.example"
    assert [row["email"] for row in data["addresses"]] == ["bob@acme.example"]
    assert data["workspaces"][0]["organization_name"] == "Acme"
    assert data["of_person"] == [{"pk": acme_member.pk}]
    text = json.dumps(data)
    assert "ada@acme.example" not in text
    assert "password" not in text
    assert "other.example" not in text


def test_secrets_are_in_no_file(client, acme_admin):
    acme_admin.authenticator_set.create(type="totp", data={"secret": "TOTPSECRET"})
    client.force_login(acme_admin)

    data = download(client, "/accounts/data/export/")

    assert [row["type"] for row in data["second_factors"]] == ["totp"]
    assert "TOTPSECRET" not in json.dumps(data)
    assert acme_admin.password not in json.dumps(data)


@pytest.mark.parametrize("url", ["/o/acme/export/", "/accounts/data/export/"])
def test_nobody_downloads_without_end(client, acme, acme_admin, url):
    client.force_login(acme_admin)

    statuses = [client.get(url).status_code for _ in range(11)]

    assert statuses == [200] * 10 + [429]


@pytest.mark.django_db
def test_a_visitor_has_no_data(client):
    assert client.get("/accounts/data/export/")["Location"].startswith("/accounts/login/")

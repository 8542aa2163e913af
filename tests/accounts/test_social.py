"""Signing in with an account elsewhere: on for each provider whose keys are set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings as site_settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from marketplace_saas import social

NONE = ("", "")
KEYS = ("client-id", "client-secret")


def configured(*, tenant: str = "common", **keys):
    every = {"google": NONE, "microsoft": NONE, "github": NONE}
    return social.providers({**every, **keys}, microsoft_tenant=tenant)


def test_without_keys_there_is_none():
    assert configured() == []


def test_each_provider_stands_alone():
    [google] = configured(google=KEYS)

    assert google.app == "allauth.socialaccount.providers.google"
    assert google.origins == ("https://accounts.google.com",)
    assert google.options == {"APPS": [{"client_id": "client-id", "secret": "client-secret", "key": ""}]}
    assert [provider.id for provider in configured(github=KEYS)] == ["github"]


@pytest.mark.parametrize(
    ("tenant", "origins"),
    [
        ("common", ("https://login.microsoftonline.com", "https://login.live.com")),
        ("consumers", ("https://login.microsoftonline.com", "https://login.live.com")),
        ("organizations", ("https://login.microsoftonline.com",)),
        ("8eaef023-2b34-4da1-9baa-8bc8c9d6a490", ("https://login.microsoftonline.com",)),
    ],
)
def test_microsoft_is_asked_for_the_tenant(tenant, origins):
    [microsoft] = configured(microsoft=KEYS, tenant=tenant)

    assert microsoft.options["APPS"][0]["settings"] == {"tenant": tenant}
    assert microsoft.origins == origins


@pytest.mark.parametrize("half", [("client-id", ""), ("", "client-secret")])
def test_half_a_pair_stops_the_start(half):
    with pytest.raises(ImproperlyConfigured, match="GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET"):
        configured(github=half)


@pytest.mark.django_db
def test_without_keys_there_is_no_trace_of_it(client, acme_member):
    for path in ("/accounts/login/", "/accounts/signup/"):
        response = client.get(path)
        page = response.content.decode()
        assert not any(name in page for name in ("Google", "Microsoft", "GitHub", "Continue with"))
        assert "form-action 'self';" in response["Content-Security-Policy"] + ";"
    client.force_login(acme_member)
    assert "Connected accounts" not in client.get("/accounts/profile/").content.decode()
    with pytest.raises(NoReverseMatch):
        reverse("google_login")


@pytest.mark.slow
def test_with_keys_people_sign_in_up_and_connect(tmp_path):
    """tests/accounts/social_story.py, in a process whose settings have the keys."""
    keys = {
        f"{name}_CLIENT_{part}": f"{name.lower()}-{part.lower()}"
        for name in ("GOOGLE", "MICROSOFT", "GITHUB")
        for part in ("ID", "SECRET")
    }
    environment = {**os.environ, **keys, "DATA_DIR": str(tmp_path)}
    environment.pop("DATABASE_URL", None)  # SQLite: the database of this run is in use
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-cov"]
        + ["tests/accounts/social_story.py"],
        cwd=site_settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr

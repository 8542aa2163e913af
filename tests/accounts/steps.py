"""What a person does to get in, as a browser does it."""

from __future__ import annotations

import re
import time

from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.core import mail
from django.test import Client

from accounts.models import User
from tests.plugin import PASSWORD

ELSEWHERE = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "javascript:alert(1)",
    "\\\\evil.example",
]


def mailed_code() -> str:
    found = re.search(r"^[A-Z0-9]+(?:-[A-Z0-9]+)+$", mail.outbox[-1].body, re.MULTILINE)
    assert found, "The code stands on a line of its own."
    return found[0]


def sign_up(client: Client, email: str, **more):
    return client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, **more}, follow=True)


def sign_in(client: Client, user: User, **more):
    return client.post("/accounts/login/", {"login": user.email, "password": PASSWORD, **more})


def signed_in_as(client: Client) -> str | None:
    user = client.get("/").wsgi_request.user
    return user.email if user.is_authenticated else None


def prove_again(client: Client) -> None:
    """Answer "Is it you?", which sensitive pages ask for."""
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})


def minutes_pass(client: Client, minutes: int) -> None:
    """For what the session remembers of who proved what."""
    session = client.session
    records = [*session.get("account_authentication_methods", [])]
    if "proof_of_person" in session:
        records.append(session["proof_of_person"])
    for record in records:
        record["at"] -= 60 * minutes
    session.modified = True
    session.save()


def use_an_app(user: User) -> str:
    """Give ``user`` an authenticator app and recovery codes; returns the app's secret."""
    secret = generate_totp_secret()
    TOTP.activate(user, secret)
    RecoveryCodes.activate(user)
    return secret


def app_code(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))

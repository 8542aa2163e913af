"""A mailed code from who is signed in and has neither a password nor a second factor: "Is it you?"

They come through a provider alone, and allauth asks them nothing: whoever finds their browser could set a
password, add an address or close everything. Here the mailbox answers, unless they came in a moment ago.
"""

from __future__ import annotations

import time
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from django.conf import settings
from django.http import HttpRequest

from accounts.models import User

_IN_SESSION = "proof_of_person"
_GUESSES = 3


def is_recent(request: HttpRequest, user: User) -> bool:
    """Whether this browser has proven it within the time for which allauth asks nobody again."""
    records = get_authentication_records(request, user)
    newest = max((record["at"] for record in records), default=0)
    return bool(time.time() - newest < app_settings.REAUTHENTICATION_TIMEOUT)


def send_code(request: HttpRequest, user: User) -> None:
    """A new one, to the address they sign in with; a code sent before is good no more."""
    code = get_adapter().generate_login_code()
    request.session[_IN_SESSION] = {"code": code, "user": user.pk, "at": time.time(), "wrong": 0}
    get_adapter().send_mail("account/email/proof_code", user.email, {"code": code, "user": user})


def expected(request: HttpRequest, user: User) -> str | None:
    """The code that was sent, as long as it is good."""
    sent = _sent(request)
    is_good = (
        sent.get("user") == user.pk
        and sent["wrong"] < _GUESSES
        and time.time() - sent["at"] < settings.ACCOUNT_LOGIN_BY_CODE_TIMEOUT
    )
    return sent["code"] if is_good else None


def note_wrong(request: HttpRequest) -> None:
    sent = _sent(request)
    request.session[_IN_SESSION] = {**sent, "wrong": sent["wrong"] + 1}


def forget(request: HttpRequest) -> None:
    request.session.pop(_IN_SESSION, None)


def _sent(request: HttpRequest) -> dict[str, Any]:
    return request.session.get(_IN_SESSION) or {}

"""The link of an invitation, and the browser that came by it.

A cookie remembers the link for a day: it opens sign-up where that is closed to others, and leads back to the
invitation when sign-in took another way. It is signed, and what it names is looked up anew each time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts import invitations
from accounts.invitations import InvitationRefused
from accounts.models import User

COOKIE = "invitation"
_SALT = "accounts.invitation_links"
_LIFETIME = timedelta(days=1)


def path_of(token: str) -> str:
    return reverse("accounts:invitation", args=[token])


def url_of(token: str) -> str:
    return settings.SITE_URL + path_of(token)


def remember(response: HttpResponse, token: str) -> None:
    response.set_cookie(
        COOKIE,
        signing.dumps(token, salt=_SALT),
        max_age=_LIFETIME,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def forget(response: HttpResponse) -> None:
    response.delete_cookie(COOKIE, samesite="Lax")


def opens_sign_up(request: HttpRequest, *, now: datetime) -> bool:
    """Whether this browser came by an invitation that is still good."""
    token = _in_browser(request)
    if token is None:
        return False
    try:
        invitations.require_open(invitations.find(token), now=now)
    except InvitationRefused:
        return False
    return True


def waiting_for(request: HttpRequest, user: User, *, now: datetime) -> str | None:
    """The address of the invitation that brought this browser here, if ``user`` can accept it."""
    token = _in_browser(request)
    if token is None:
        return None
    try:
        invitation = invitations.find(token)
        invitations.require_for(invitation, user=user)
        invitations.require_open(invitation, now=now)
    except InvitationRefused:
        return None
    return path_of(token)


def _in_browser(request: HttpRequest) -> str | None:
    try:
        token: str = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=_LIFETIME)
    except signing.BadSignature:
        return None
    return token

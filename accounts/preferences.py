"""In which language and time zone a page speaks: as the person chose, else as their browser asks, in UTC."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone, translation

from accounts.models import User

GetResponse = Callable[[HttpRequest], HttpResponse]


class PreferencesMiddleware:
    """After LocaleMiddleware, which knows the browser only, and after AuthenticationMiddleware."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        if not isinstance(user, User):
            return self.get_response(request)
        if is_offered(user.language):
            translation.activate(user.language)
        with timezone.override(zone_of(user)):
            return self.get_response(request)


def is_offered(language: str) -> bool:
    """Whether the site speaks it: a fork may drop a language that somebody had chosen."""
    return language in dict(settings.LANGUAGES)


def language_of(user: User) -> str:
    """For what is written to ``user`` while no browser of theirs is there to ask."""
    return user.language if is_offered(user.language) else settings.LANGUAGE_CODE


def zone_of(user: User) -> zoneinfo.ZoneInfo:
    """UTC also where the zone has gone from this machine's list."""
    try:
        return zoneinfo.ZoneInfo(user.time_zone or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return zoneinfo.ZoneInfo("UTC")

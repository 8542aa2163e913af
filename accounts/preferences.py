"""In which language and time zone a page speaks: as the person chose, else as their browser asks, in UTC."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from accounts.models import User

GetResponse = Callable[[HttpRequest], HttpResponse]
ZoneGroup = tuple[Any, list[tuple[str, str]]]

# Not places: how an installation spells "unset" and "the zone of this machine".
_NO_ZONES = frozenset({"Factory", "localtime"})


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


@cache
def zones() -> list[ZoneGroup]:
    """Every zone there is, by region, for a list to choose from: the name that is kept, and how it reads."""
    regions: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(zoneinfo.available_timezones() - _NO_ZONES):
        region, _slash, place = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
        regions.setdefault(region, []).append((name, place.replace("_", " ").replace("/", ", ")))
    others = regions.pop("", [])
    return [*regions.items(), (_("Other"), others)]


def choose(user: User, *, name: str, language: str, time_zone: str) -> None:
    """Keep what ``user`` said about themselves; '' is what ProfileForm calls so."""
    user.name, user.language, user.time_zone = name, language, time_zone
    user.save(update_fields=["name", "language", "time_zone"])

"""What happens while Redis is gone: what is only remembered is forgotten, and what is limited is put off.

Rate limits take a lock with ``add``. That one fails, as nobody may guess passwords unlimited for as long as
Redis is down; the page says to try again. Arrivals from AWS go on: billing's view lets them through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends import redis as django_redis
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_QUIET_FOR = 60.0  # seconds
_last_said = float("-inf")


class RedisCache(django_redis.RedisCache):
    """Reading and writing survive an outage; ``add``, which promises that nobody else has it, does not."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        default = kwargs.get("default", args[1] if len(args) > 1 else None)
        return _or(default, lambda: super(RedisCache, self).get(*args, **kwargs))

    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        return _or({}, lambda: super(RedisCache, self).get_many(*args, **kwargs))

    def set(self, *args: Any, **kwargs: Any) -> None:
        _or(None, lambda: super(RedisCache, self).set(*args, **kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(_or(False, lambda: super(RedisCache, self).delete(*args, **kwargs)))


class OutageMiddleware:
    """Says that the page is away for a moment where Redis was needed and is gone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, RedisError):
            return None
        _say(exception)
        response = render(request, "503.html", status=503)
        response["Retry-After"] = "30"
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django would mail each of them
        return response


def _or(instead: Any, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except RedisError as error:
        _say(error)
        return instead


def _say(error: RedisError) -> None:
    """Once a minute: each line is an alarm by mail, and every request would write one."""
    global _last_said
    now = time.monotonic()
    if now - _last_said < _QUIET_FOR:
        return
    _last_said = now
    logger.error("Redis does not answer (%s): sign-in and other limited pages are away", type(error).__name__)

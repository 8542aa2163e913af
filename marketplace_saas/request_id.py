"""A name for each request: in its answer, on its error page and in every line it logs.

Who reports an error reads it from the page; who looks for it searches the log.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse

HEADER = "X-Request-ID"
_NOTHING = "-"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{8,64}")
_current: ContextVar[str] = ContextVar("request_id", default=_NOTHING)


class RequestIdMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = _given(request) or secrets.token_hex(8)
        token = _current.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            _current.reset(token)
        response[HEADER] = request_id
        return response


def current() -> str:
    """The request in hand; '-' outside of one."""
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Gives every log record ``request_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current()
        return True


def _given(request: HttpRequest) -> str:
    """The name that our own proxy gave it; a stranger's is not believed."""
    given = request.headers.get(HEADER, "") if settings.TRUSTED_PROXY_COUNT else ""
    return given if _PLAIN.fullmatch(given) else ""

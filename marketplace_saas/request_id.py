"""A name for each request: in its answer, on its error page and in every line it logs.

Who reports an error reads it from the page; who looks for it searches the log.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts import log_context

HEADER = "X-Request-ID"
NOTHING = "-"
_ATTRIBUTE = "marketplace_saas_request_id"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{8,64}")
_current: ContextVar[str] = ContextVar("request_id", default=NOTHING)


class RequestIdMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = _given(request) or secrets.token_hex(8)
        setattr(request, _ATTRIBUTE, request_id)
        with carried(request_id), log_context.fresh():
            response = self.get_response(request)
        response[HEADER] = request_id
        return response


@contextmanager
def carried(request_id: str) -> Iterator[None]:
    """Work in the name of this request, be it a task that it rang for."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> str:
    """The request in hand; '-' outside of one."""
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Gives every log record ``request_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Django logs a refusal (404 and the like) when the request has left every middleware, and names it.
        record.request_id = getattr(getattr(record, "request", None), _ATTRIBUTE, current())
        return True


def _given(request: HttpRequest) -> str:
    """The name that our own proxy gave it; a stranger's is not believed."""
    given = request.headers.get(HEADER, "") if settings.TRUSTED_PROXY_COUNT else ""
    return given if _PLAIN.fullmatch(given) else ""

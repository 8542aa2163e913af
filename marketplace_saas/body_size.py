"""How much may be posted, by whom and where: looked at before any of it is read.

Django's own limit counts neither files nor what a view reads as a stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase

# The name of a view's attribute: its own limit in bytes. Set beside the view: `register.body_limit = …`.
_OWN_LIMIT = "body_limit"


class BodySizeMiddleware:
    """Goes above CsrfViewMiddleware, which is the first to read what was posted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        # Without a length nothing is read: WSGI servers hand over chunked bodies as empty.
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isascii() or not length.isdigit() or int(length) > _limit(request, view):
            raise RequestDataTooBig("The body is larger than this address takes.")


def _limit(request: HttpRequest, view: Callable[..., Any]) -> int:
    if hasattr(view, _OWN_LIMIT):
        return int(getattr(view, _OWN_LIMIT))
    match = request.resolver_match
    if match is not None and match.app_names[:1] == ["admin"] and _is_operator(request):
        return int(settings.OPERATOR_UPLOAD_MAX_SIZE)
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)


def _is_operator(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff

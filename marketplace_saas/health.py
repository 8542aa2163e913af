"""Three addresses for machines: does this process answer, may it be sent requests, does the whole work.

A dead worker or a Redis that is gone must not take the site down: load balancers ask /readyz, which looks at
the database alone. /status is for alarms.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import User
from marketplace_saas import status as whole

logger = logging.getLogger(__name__)

_PATIENCE = 2  # seconds
# What the database said last, and when: strangers may ask, and each question costs a connection.
_FRESH = 1.0  # seconds
_said: tuple[float, bool] = (float("-inf"), False)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers. No more is looked at: to restart it for the database's sake helps nobody."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers, within seconds: requests may come."""
    if _database_answers():
        return HttpResponse("ok\n", content_type="text/plain")
    return _unlogged(
        HttpResponse("the database does not answer\n", status=503, content_type="text/plain"),
    )


@never_cache
@require_safe
def status(request: HttpRequest) -> HttpResponseBase:
    """How everything does: 200, or 503 with what is wrong. Prometheus gets its text with 200."""
    if not _database_answers():
        return _unlogged(
            JsonResponse({"ok": False, "problems": ["The database does not answer"]}, status=503)
        )
    if not _may_look(request):
        return HttpResponse(
            "Send STATUS_TOKEN as a bearer token, or sign in as an operator.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )
    seen = whole.look(now=timezone.now())
    if _wants_prometheus(request):
        return HttpResponse(
            whole.as_prometheus(seen), content_type="text/plain; version=0.0.4; charset=utf-8"
        )
    indented = {"indent": 2}
    return _unlogged(JsonResponse(seen, status=200 if seen["ok"] else 503, json_dumps_params=indented))


class ProbesMiddleware:
    """Answers /healthz and /readyz before anything looks at the host name, the session or the language.

    Load balancers ask by the machine's address, which ALLOWED_HOSTS does not name.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        probe = {"/healthz": healthz, "/readyz": readyz}.get(request.path_info)
        if probe is None:
            return self.get_response(request)
        response = probe(request)
        response.headers["X-Frame-Options"] = settings.X_FRAME_OPTIONS
        return response


def _unlogged(response: HttpResponse) -> HttpResponse:
    """Django logs each 5xx as an error, which goes out by mail; this one was asked for."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # what Django's own log_response sets
    return response


def _database_answers() -> bool:
    global _said
    at, answer = _said
    if time.monotonic() - at > _FRESH:
        answer = _ask_database()
        _said = (time.monotonic(), answer)
    return answer


def _ask_database() -> bool:
    """On a connection of its own: one that hangs would take as long as the requests that hang on it."""
    own = connection.copy()
    if own.vendor == "postgresql":
        options = own.settings_dict["OPTIONS"]
        options["connect_timeout"] = _PATIENCE
        options["options"] = f"{options.get('options', '')} -c statement_timeout={_PATIENCE * 1000}".strip()
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The database does not answer: %s", type(error).__name__)
        return False
    finally:
        own.close()
    return True


def _may_look(request: HttpRequest) -> bool:
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if settings.STATUS_TOKEN and scheme.lower() == "bearer":
        return constant_time_compare(sent.strip(), settings.STATUS_TOKEN)
    user = request.user
    if not (isinstance(user, User) and user.is_active and user.is_staff):
        return False
    return settings.DEBUG or is_mfa_enabled(user)


def _wants_prometheus(request: HttpRequest) -> bool:
    asked = request.GET.get("format")
    if asked is not None:
        return asked == "prometheus"
    accepted = request.headers.get("Accept", "")
    return "text/plain" in accepted or "openmetrics" in accepted

"""Log lines: as JSON in production, each saying which request, task, organization and agreement it is about.

Nothing secret leaves through them: every handler scrubs what it writes.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils.log import AdminEmailHandler

from accounts import log_context
from marketplace_saas import redaction, request_id

_PLAIN = logging.Formatter()
_access = logging.getLogger("marketplace_saas.access")


class ContextFilter(logging.Filter):
    """Gives every record ``about``: the ids of what it is about, but for the request's (request_id.py)."""

    def filter(self, record: logging.LogRecord) -> bool:
        about = dict(log_context.current())
        # Django logs a refusal when the request has left every middleware, and names it.
        membership = getattr(getattr(record, "request", None), "membership", None)
        if membership is not None:
            about.setdefault("organization", membership.organization_id)
        record.about = about
        return True


class RedactionFilter(logging.Filter):
    """Cuts out of a record what must not be read, its traceback included."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit: logging would print them all
            said = record.msg = f"{record.msg} {record.args}"
            record.args = ()
        scrubbed = redaction.scrub(said)
        if scrubbed != said:
            record.msg, record.args = scrubbed, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redaction.scrub(record.exc_text or _PLAIN.formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = redaction.scrub(record.stack_info)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object on one line, whatever was logged."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        named = getattr(record, "request_id", request_id.NOTHING)
        if named != request_id.NOTHING:
            line["request_id"] = named
        line |= getattr(record, "about", {})
        line |= getattr(record, "measured", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False, default=str)


class ScrubbedAdminEmails(AdminEmailHandler):
    """Errors by mail to ADMINS: a mailbox is no place for a buyer's secrets either.

    While the database is down every page fails: their mails, which the pages wait for, end after some. The
    log has all of them.
    """

    most_of_pages = 10  # each minute, of one process

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_pages: deque[float] = deque(maxlen=self.most_of_pages)

    def emit(self, record: logging.LogRecord) -> None:
        if not settings.ADMINS:
            return
        if record.name == "django.request":
            sent = self._of_pages
            if len(sent) == sent.maxlen and time.monotonic() - sent[0] < 60:
                return
            sent.append(time.monotonic())
        super().emit(record)

    def send_mail(self, subject: object, message: object, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("html_message"):
            kwargs["html_message"] = redaction.scrub(kwargs["html_message"])
        super().send_mail(redaction.scrub(str(subject)), redaction.scrub(str(message)), *args, **kwargs)


class AccessLogMiddleware:
    """One line for each answer, with JSON logs. The route, not the address: that may hold an invitation."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if settings.LOG_FORMAT != "json":
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.monotonic()
        response = self.get_response(request)
        route = request.resolver_match.route if request.resolver_match else "-"
        milliseconds = round((time.monotonic() - began) * 1000)
        _access.info(
            "%s /%s %s",
            request.method,
            route,
            response.status_code,
            extra={"measured": {"status": response.status_code, "milliseconds": milliseconds}},
        )
        return response

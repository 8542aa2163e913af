"""The mail of a development server, readable in the browser. ``urls.py`` includes it only with DEBUG.

Django's file-based backend appends each message to a file, closed by a line of dashes; the files are the
only storage here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp, csp_update
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.views.decorators.clickjacking import xframe_options_sameorigin

_END_OF_MESSAGE = re.compile(rb"^-{79}\r?\n?", re.MULTILINE)
_SHOWN = 200


_Decorator = Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]
# What an HTML mail may do on a page of its own, and that a page of ours may frame one.
as_a_mail_program: _Decorator = csp(
    {"default-src": [NONE], "style-src": [UNSAFE_INLINE], "frame-ancestors": [SELF]}
)
may_frame_a_mail: _Decorator = csp_update({"frame-src": [SELF]})


@dataclass(frozen=True, slots=True)
class Mail:
    """One message. ``name`` is its file and its place in it: what a page of it is called."""

    name: str
    to: str
    sender: str
    subject: str
    sent_at: datetime
    text: str
    html: str


def outbox(request: HttpRequest) -> HttpResponse:
    return render(request, "outbox/list.html", {"mails": _newest_first()[:_SHOWN]})


@may_frame_a_mail
def outbox_mail(request: HttpRequest, name: str) -> HttpResponse:
    for mail in _newest_first():  # Names are compared, never joined to a path: nothing else can be read.
        if mail.name == name:
            return render(request, "outbox/mail.html", {"mail": mail})
    raise Http404("No such mail.")


@xframe_options_sameorigin
@as_a_mail_program
def outbox_mail_html(request: HttpRequest, name: str) -> HttpResponse:
    """As a mail program shows it: styled by itself, without scripts and without the outside world."""
    for mail in _newest_first():
        if mail.name == name and mail.html:
            return HttpResponse(mail.html)
    raise Http404("No such mail.")


def _newest_first() -> list[Mail]:
    folder = Path(getattr(settings, "EMAIL_FILE_PATH", None) or "")
    files = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    # The last of several in one file came last; sorting keeps the order of those of the same second.
    mails = [mail for file in files[:_SHOWN] for mail in reversed(list(_read(file)))]
    return sorted(mails, key=lambda mail: mail.sent_at, reverse=True)


def _read(file: Path) -> Iterator[Mail]:
    for place, raw in enumerate(filter(bytes.strip, _END_OF_MESSAGE.split(file.read_bytes()))):
        message = message_from_bytes(raw, policy=policy.default)
        assert isinstance(message, EmailMessage)
        yield Mail(
            name=f"{file.stem}-{place}",
            to=str(message["To"] or ""),
            sender=str(message["From"] or ""),
            subject=str(message["Subject"] or ""),
            sent_at=_sent_at(message, file),
            text=_body(message, "plain"),
            html=_body(message, "html"),
        )


def _sent_at(message: EmailMessage, file: Path) -> datetime:
    if not message["Date"]:
        return datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    sent_at = parsedate_to_datetime(str(message["Date"]))
    # Django writes -0000, which the parser reads as UTC without saying so.
    return sent_at if sent_at.tzinfo else sent_at.replace(tzinfo=UTC)


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()).strip() if part is not None else ""


urlpatterns = [
    path("", outbox, name="outbox"),
    path("<str:name>/", outbox_mail, name="outbox_mail"),
    path("<str:name>/html/", outbox_mail_html, name="outbox_mail_html"),
]

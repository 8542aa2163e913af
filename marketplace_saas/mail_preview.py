"""Every mail there is, as its reader gets it, in each language. ``urls.py`` includes it only with DEBUG.

Found by its templates, so that none is missing. What a new one says is taken from SAMPLE, and where it can
say this or that, CASES shows both. Nothing is sent or stored, and nothing of the database is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.utils import get_app_template_dirs
from django.urls import path
from django.utils.translation import get_language, get_language_info
from django.views.decorators.clickjacking import xframe_options_sameorigin

from accounts import mail
from accounts.models import User
from marketplace_saas.mail_samples import CASES, SAMPLE
from marketplace_saas.outbox import as_a_mail_program, may_frame_a_mail

_FOLDERS = ("emails", "account/email", "mfa/email", "socialaccount/email")
# allauth's mails of what is off here: passwords are reset by a code.
_NEVER_SENT = {"account/email/password_reset_key"}


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail, in one of the cases that its text tells apart; '' is the usual one."""

    template: str
    case: str = ""
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.template}:{self.case}" if self.case else self.template

    @property
    def label(self) -> str:
        words = self.template.replace("/email/", ": ").removeprefix("emails/").replace("_", " ")
        return f"{words} ({self.case})" if self.case else words

    def compose(self, language: str) -> mail.Composed:
        context = {**SAMPLE, **self.context}
        if self.template.startswith("emails/"):
            return mail.compose(self.template.removeprefix("emails/"), context, language=language)
        reader = User(email=SAMPLE["email"], language=language)
        message = get_adapter().render_mail(self.template, reader.email, {**context, "user": reader})
        assert isinstance(message, EmailMultiAlternatives)
        return mail.Composed(str(message.subject), str(message.body), str(message.alternatives[0][0]))


def previews() -> list[Preview]:
    return [
        Preview(template, case, context)
        for template in sorted(set(_templates()) - _NEVER_SENT)
        for case, context in {"": {}, **CASES.get(template, {})}.items()
    ]


def _templates() -> Iterator[str]:
    """The names that mails have without their endings: a subject is what makes a template a mail."""
    ours: Any = settings.TEMPLATES[0]["DIRS"]
    for directory in chain(ours, get_app_template_dirs("templates")):
        for folder in _FOLDERS:
            for file in Path(str(directory), folder).glob("*_subject.txt"):
                yield f"{folder}/{file.name.removesuffix('_subject.txt')}"


def _asked_for(name: str, language: str) -> Preview:
    for preview in previews():
        if preview.name == name and language in dict(settings.LANGUAGES):
            return preview
    raise Http404("No such mail.")


def index(request: HttpRequest) -> HttpResponse:
    languages = [(code, get_language_info(code)["name_local"]) for code, _ in settings.LANGUAGES]
    mails = [(preview, preview.compose(get_language() or "").subject) for preview in previews()]
    return render(request, "outbox/previews.html", {"mails": mails, "written_in": languages})


@may_frame_a_mail
def preview(request: HttpRequest, language: str, name: str) -> HttpResponse:
    asked_for = _asked_for(name, language)
    context = {"preview": asked_for, "language": language, "mail": asked_for.compose(language)}
    return render(request, "outbox/preview.html", context)


@xframe_options_sameorigin
@as_a_mail_program
def preview_html(request: HttpRequest, language: str, name: str) -> HttpResponse:
    return HttpResponse(_asked_for(name, language).compose(language).html)


urlpatterns = [
    path("", index, name="mail_previews"),
    path("<str:language>/html/<path:name>/", preview_html, name="mail_preview_html"),
    path("<str:language>/text/<path:name>/", preview, name="mail_preview"),
]

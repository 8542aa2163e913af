"""A mail as everybody here writes one: from one text template, in the reader's language, as text and HTML.

``templates/emails/<name>_subject.txt`` and ``<name>_message.txt`` are all there is to write. The HTML is made
from the text (``accounts.mail_html`` says what of), so that the two never say different things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.utils import timezone, translation

from accounts import mail_html
from accounts.names import is_plain

_HEADERS = {"Auto-Submitted": "auto-generated"}
_TRAILING_SPACE = re.compile(r"(?<!\n--)[ \t]+\n")  # but that of a signature's "-- "
_TOO_MANY_EMPTY_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Composed:
    subject: str
    text: str
    html: str


def compose(name: str, context: Mapping[str, Any], *, language: str = "") -> Composed:
    """What ``templates/emails/<name>_…`` say. Templates may leave as much white space as they like.

    ``language``: the reader's; '' is the site's own. Every instant is shown in UTC and must be called so.
    """
    with translation.override(language or settings.LANGUAGE_CODE), timezone.override(UTC):
        everywhere = {
            "site_name": settings.SITE_NAME,
            "support_email": settings.SUPPORT_EMAIL,
            "listing_url": settings.MARKETPLACE_LISTING_URL,
            "site_url": settings.SITE_URL,
        }
        subject = one_line(render_to_string(f"emails/{name}_subject.txt", {**everywhere, **context}))
        text = tidy(render_to_string(f"emails/{name}_message.txt", {**everywhere, **context}))
        return Composed(subject, text, html_of(text, subject=subject))


def send(
    composed: Composed,
    *,
    to: str,
    reply_to: str = "",
    headers: Mapping[str, str] | None = None,
    connection: BaseEmailBackend | None = None,
) -> None:
    """To one reader. Raises what the mail server or the connection to it raises."""
    message = EmailMultiAlternatives(
        composed.subject,
        composed.text,
        to=[to],
        reply_to=[reply_to] if reply_to else None,
        connection=connection,
        headers={**_HEADERS, **(headers or {})},
    )
    message.attach_alternative(composed.html, "text/html")
    message.send()


def in_html_too(message: EmailMessage, *, reply_to: str) -> EmailMultiAlternatives:
    """A mail that another library wrote as text, made like ours; in the language that is active."""
    text = tidy(str(message.body))
    made = EmailMultiAlternatives(
        message.subject,
        text,
        message.from_email,
        message.to,
        reply_to=[reply_to],
        headers={**_HEADERS, **message.extra_headers},
    )
    made.attach_alternative(html_of(text, subject=str(message.subject)), "text/html")
    return made


def tidy(text: str) -> str:
    return _TOO_MANY_EMPTY_LINES.sub("\n\n", _TRAILING_SPACE.sub("\n", text)).strip() + "\n"


def one_line(text: str) -> str:
    """Without what would turn the words after it around, in names that are older than the rule against it."""
    return " ".join("".join(each for each in text if is_plain(each) or each.isspace()).split())


def html_of(text: str, *, subject: str) -> str:
    """``text`` as a whole HTML page, in the language that is active."""
    return mail_html.page(text, subject=subject)

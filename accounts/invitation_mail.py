"""The mail that brings an invitation. It is sent while the inviter waits, and they are told if it was not."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from django.conf import settings
from django.core.mail import get_connection

from accounts import mail
from accounts.invitation_links import url_of
from accounts.invitations import Judged
from accounts.models import Organization, User

logger = logging.getLogger(__name__)


def send(judged: Iterable[Judged], *, organization: Organization, by: User, language: str) -> list[Judged]:
    """Mail those that have a token, over one connection. Returns those whose mail the server did not take.

    Call it after the commit: a link that reaches somebody must be one that we know.
    """
    to_send = [each for each in judged if each.token]
    if not to_send:
        return []
    connection = get_connection()
    failed: list[Judged] = []
    try:
        connection.open()
        while to_send:
            each = to_send[0]
            composed = _compose(each, organization=organization, by=by, language=language)
            try:
                mail.send(composed, to=each.email, reply_to=settings.SUPPORT_EMAIL, connection=connection)
            except (SMTPRecipientsRefused, SMTPResponseException) as error:
                _note(each, error)
                failed.append(each)
            to_send.pop(0)
    except OSError as error:  # the server is gone, or hangs: the others would wait for nothing
        for each in to_send:
            _note(each, error)
        failed += to_send
    finally:
        connection.close()
    return failed


def _compose(each: Judged, *, organization: Organization, by: User, language: str) -> mail.Composed:
    assert each.invitation is not None
    context = {
        "organization": mail.one_line(organization.name),
        "inviter": mail.one_line(str(by)),
        "inviter_email": by.email,
        "role": each.invitation.role,
        "email": each.email,
        "expires_at": each.invitation.expires_at,
        "url": url_of(each.token),
    }
    return mail.compose("invitation", context, language=language)


def _note(each: Judged, error: OSError) -> None:
    assert each.invitation is not None
    logger.warning("The mail of invitation %s was not sent: %s", each.invitation.pk, type(error).__name__)

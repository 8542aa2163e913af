"""Writing and sending the mails that an agreement owes (billing.mails says which and whether).

Sent at least once: a process that dies between the mail server's yes and our note of it sends it again, under
the same Message-ID, which mail programs show once.
"""

from __future__ import annotations

import hashlib
import logging
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPResponseException
from typing import Any
from urllib.parse import urlsplit

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import Q
from django.urls import reverse

from accounts import mail
from accounts.models import User
from accounts.preferences import language_of
from billing import owed
from billing.mailing.letters import Situation
from billing.mails import LETTERS, expires_at
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent

logger = logging.getLogger(__name__)

_PERMANENT = 500  # SMTP's replies from here on say that another try is of no use


class NobodyTold(Exception):
    """No mail was sent, and no other try will help: the text says why."""


def send(case: Situation) -> str:
    """Send it to whom it concerns. Returns how many got it, in words.

    Raises NobodyTold; and when the mail server took none, what its connection raised. When it took some, the
    rest is owed to each alone: a retry must not reach anybody twice.
    """
    to = _readers(case)
    if not to:
        raise NobodyTold("there is nobody to tell")
    context = _context(case)
    letters = {language: mail.compose(case.name, context, language=language) for language in set(to.values())}
    sent: list[str] = []
    refusals: list[str] = []
    left: dict[str, Exception] = {}
    with get_connection() as connection:
        for address, language in to.items():
            try:
                _send(case, address, letters[language], connection)
            except Exception as error:  # a mail server's or a mail service's: the others must not wait for it
                if _is_final(error):
                    refusals.append(reply_of(error))
                else:
                    left[address] = error
            else:
                sent.append(address)
    if left and not sent and not refusals:
        raise next(iter(left.values()))
    if left:
        logger.warning("Effect %s: %s of %s mails are tried again", case.effect.pk, len(left), len(to))
        owed.owe(case.agreement, [case.to_only(_digest(address)) for address in left])
    if not sent and not left:
        raise NobodyTold(f"the mail server refused it: {refusals[0]}")
    again = f", {len(left)} tried again" if left else ""
    return f"sent to {len(sent)} of {len(to)}{again}"


def _send(case: Situation, address: str, letter: mail.Composed, connection: BaseEmailBackend) -> None:
    mail.send(
        letter,
        to=address,
        reply_to=settings.SUPPORT_EMAIL if LETTERS[case.name].to == "buyer" else "",
        headers={"Message-ID": _message_id(case, address)},
        connection=connection,
    )


def reply_of(error: Exception) -> str:
    """What the mail server said, without the addresses that its words repeat."""
    if isinstance(error, SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return f"{type(error).__name__} {', '.join(map(str, codes))}"
    if isinstance(error, SMTPResponseException):
        return f"{type(error).__name__} {error.smtp_code}"
    return f"{type(error).__name__}: {error}"


def _is_final(error: Exception) -> bool:
    """Whether the mail server refuses this mail, and will tomorrow. A "come back later" is no refusal."""
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= _PERMANENT for code, _ in error.recipients.values())
    return isinstance(error, SMTPDataError) and error.smtp_code >= _PERMANENT


# --- To whom


def _readers(case: Situation) -> dict[str, str]:
    """Their addresses, each with the language to write in."""
    if LETTERS[case.name].to == "seller":
        addresses = settings.SELLER_EMAILS or [settings.SUPPORT_EMAIL]
        everybody = dict.fromkeys(addresses, settings.LANGUAGE_CODE)
    else:
        everybody = _people(case)
    return {
        address: language for address, language in everybody.items() if case.one in ("", _digest(address))
    }


def _people(case: Situation) -> dict[str, str]:
    """Verified addresses of those whom the letter is for."""
    people = User.objects.filter(LETTERS[case.name].people(case), is_active=True)
    addresses = EmailAddress.objects.filter(verified=True, primary=True, user__in=people.values("pk"))
    return {
        address.email: language_of(address.user)
        for address in addresses.select_related("user").order_by("pk")
    }


def _message_id(case: Situation, address: str) -> str:
    """The same for every try, and for no other mail: not even after the database was made anew."""
    effect = case.effect
    told = f"{case.agreement.pk} {case.name} {case.which} {effect.caused_at.isoformat()} {address}"
    return f"<{_digest(told)}@{urlsplit(settings.SITE_URL).hostname}>"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- What it says


def _context(case: Situation) -> dict[str, Any]:
    """What templates may say. Callables ask the database only where they are used."""
    agreement = case.agreement
    organization = agreement.organization
    trial_ends_at = agreement.trial_ends_at
    context: dict[str, Any] = {
        "agreement": agreement,
        "customer": agreement.customer,
        "product": mail.one_line(agreement.product.title),
        "organization": mail.one_line(organization.name) if organization else "",
        "account": agreement.customer.masked if agreement.customer.aws_account_id else "",
        "is_active": agreement.status == Agreement.Status.ACTIVE,
        "continues_another": agreement.previous_id is not None or agreement.continues_another,
        "is_first_turn": case.which in ("", "1"),
        "is_on_trial": agreement.free_trial and (trial_ends_at is None or trial_ends_at > case.now),
        "expires_at": expires_at(agreement),
        "entitlements": lambda: agreement.entitlements.current().order_by("dimension_key"),
        "has_arrived": agreement.registrations.exists,
        "is_metered": lambda: _is_metered(agreement),
        "is_all_reported": lambda: _is_all_reported(agreement),
        "console_url": _url("admin:billing_agreement_change", agreement.pk),
    }
    if case.is_a_date:
        context |= {"date": case.date, "days_left": case.days_left}
    if organization is not None:
        context["workspace_url"] = settings.SITE_URL + organization.get_absolute_url()
        context["subscription_url"] = _url("billing:subscription", organization.slug)
    return context | LETTERS[case.name].more(case)


def _is_metered(agreement: Agreement) -> bool:
    return agreement.product.dimensions.filter(kind=Dimension.Kind.METERED).exists()


def _is_all_reported(agreement: Agreement) -> bool:
    """Whether AWS has taken all its usage: what is in doubt, refused or written off was not surely taken."""
    record, use = MeteringRecord.State, UsageEvent.Disposition
    settled = (record.ACCEPTED, record.NOT_DUE, record.VOID)  # the usage of a void one is open again
    not_reported = Q(metering_record=None, disposition=use.BILLABLE) | Q(
        disposition__in=[use.TOO_LATE, use.WRITTEN_OFF]
    )
    return not (
        agreement.metering_records.exclude(state__in=settled).exists()
        or agreement.usage_events.filter(not_reported).exists()
    )


def _url(name: str, *arguments: Any) -> str:
    return settings.SITE_URL + reverse(name, args=arguments)

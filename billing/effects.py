"""Carrying out what changes of state owe the world (billing.owed), whoever's turn it is.

An effect is taken in hand by moving its ``due_at``: nobody else does it meanwhile, and one whose runner died
is due again after that. Every kind can be done twice without harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException
from time import monotonic

from django.db.models import Case, F, QuerySet, When

from accounts import log_context
from billing import entitlements, metering, readings, succession
from billing.aws.errors import MarketplaceError
from billing.aws.types import Marketplace
from billing.aws.words import storable
from billing.mailing import delivery
from billing.mailing.letters import Situation
from billing.mails import LETTERS
from billing.models import Agreement, Effect

logger = logging.getLogger(__name__)

# Longer than any effect takes: what is in hand for longer belongs to a dead process.
IN_HAND = timedelta(minutes=5)
# A run ends while others can still rely on its ``now``; what is left is the next one's.
TURN = timedelta(minutes=1)
# How long a renewal's other agreement is looked for. Access goes on as long.
LOOKED_FOR = timedelta(hours=24)
PATIENCE = timedelta(minutes=5)
# An alarm is mailed. At the longest pause these are a day apart.
ALARM_EVERY = 144
_CHUNK = 500

# DescribeAgreement is optional: another try would be refused as well.
_NOT_TO_BE_SEEN = {
    "AccessDeniedException": "the credentials lack aws-marketplace:DescribeAgreement",
    "AccessDenied": "the credentials lack aws-marketplace:DescribeAgreement",
    "ResourceNotFoundException": "AWS shows no such agreement to this account",
    "ValidationException": "AWS knows no such agreement id",
    "ParamValidation": "AWS knows no such agreement id",
}
_UNKNOWN = "trial end and renewal chain stay unknown"


@dataclass(frozen=True, slots=True)
class Skipped:
    """The world has moved on, or it cannot be done: ``why``."""

    why: str


class Later(Exception):
    """Not yet; the text says why."""


def run_due(marketplace: Marketplace, *, now: datetime) -> int:
    """Do what is due, oldest first; what cannot be done now stays due. Returns how many were done.

    Mails come last: a mail server that hangs must not keep usage from AWS.
    """
    began = monotonic()
    # Of those due together, links come last: what DescribeAgreement tells may say which is meant.
    is_link = Case(When(kind=Effect.Kind.LINK, then=1), default=0)
    due = Effect.objects.filter(state=Effect.State.DUE, due_at__lte=now).order_by("due_at", is_link, "pk")
    turns = (due.exclude(kind=Effect.Kind.MAIL), due.filter(kind=Effect.Kind.MAIL))
    return sum(_take_turn(turn, marketplace, now=now, began=began) for turn in turns)


def _take_turn(due: QuerySet[Effect], marketplace: Marketplace, *, now: datetime, began: float) -> int:
    done, ends = 0, monotonic() + TURN.total_seconds()
    # What was looked at is done, or due later than now: the next look finds others.
    while pks := list(due.values_list("pk", flat=True)[:_CHUNK]):
        for pk in pks:
            effect = _take_in_hand(pk, now=now, until=_clock(now, began) + IN_HAND)
            if effect is not None:
                with log_context.about(agreement=effect.agreement_id):
                    done += _do_one(effect, marketplace, now=now, began=began)
            if monotonic() > ends:
                return done
    return done


def _clock(now: datetime, began: float) -> datetime:
    """What time it is, on the caller's clock, in a run that ``began`` at ``now``."""
    return now + timedelta(seconds=monotonic() - began)


def _take_in_hand(pk: int, *, now: datetime, until: datetime) -> Effect | None:
    due = Effect.objects.filter(pk=pk, state=Effect.State.DUE, due_at__lte=now)
    if not due.update(due_at=until, attempts=F("attempts") + 1):
        return None  # another runner was first
    return Effect.objects.select_related(
        "agreement__product", "agreement__customer", "agreement__organization", "agreement__previous"
    ).get(pk=pk)


def _do_one(effect: Effect, marketplace: Marketplace, *, now: datetime, began: float) -> bool:
    """Whether it is done with."""
    try:
        outcome = _do(effect, marketplace, now=now, began=began)
    except Later as later:
        _wait(effect, str(later), now=now)
    except MarketplaceError as error:
        logger.warning("Effect %s of agreement %s: %s", effect.pk, effect.agreement_id, error.code)
        _put_off(effect, f"{error.code}: {error.message}", now=now)
    except (SMTPException, OSError) as error:
        said = delivery.reply_of(error)
        logger.warning("Effect %s of agreement %s: the mail server: %s", effect.pk, effect.agreement_id, said)
        _put_off(effect, said, now=now)
    except Exception as error:  # one effect's trouble must not keep the others from being done
        level = logging.WARNING if (effect.attempts - 1) % ALARM_EVERY else logging.ERROR
        logger.log(level, "Effect %s of agreement %s failed", effect.pk, effect.agreement_id, exc_info=True)
        _put_off(effect, f"{type(error).__name__}: {error}", now=now)
    else:
        _finish(effect, outcome, now=now)
        return not isinstance(outcome, Skipped)
    return False


def _finish(effect: Effect, outcome: str | Skipped, *, now: datetime) -> None:
    state, text = Effect.State.DONE, outcome
    if isinstance(outcome, Skipped):
        state, text = Effect.State.SKIPPED, outcome.why
    _in_hand(effect).update(state=state, done_at=now, error="", outcome=storable(str(text))[:200])


def _wait(effect: Effect, why: str, *, now: datetime) -> None:
    """No failure: it is looked at again, and does not count among those that people must see."""
    _in_hand(effect).update(error=storable(why), due_at=now + PATIENCE, attempts=0)


def _put_off(effect: Effect, error: str, *, now: datetime) -> None:
    pause = min(timedelta(minutes=10), timedelta(seconds=15) * 2 ** min(effect.attempts - 1, 10))
    _in_hand(effect).update(error=storable(error), due_at=now + pause)


def _in_hand(effect: Effect) -> QuerySet[Effect]:
    """Its row, unless another runner has taken it since."""
    return Effect.objects.filter(pk=effect.pk, state=Effect.State.DUE, due_at=effect.due_at)


def _do(effect: Effect, marketplace: Marketplace, *, now: datetime, began: float) -> str | Skipped:
    agreement = effect.agreement
    match Effect.Kind(effect.kind):
        case Effect.Kind.SYNC_ENTITLEMENTS:
            return _sync(effect, marketplace, now=now, began=began)
        case Effect.Kind.FLUSH_USAGE:
            closed = metering.close_agreement(agreement.pk, region=marketplace.metering_region, now=now)
            return f"{closed} records made"
        case Effect.Kind.DESCRIBE:
            return _describe(agreement, marketplace, now=now)
        case Effect.Kind.LINK:
            return _link(effect, now=now)
        case Effect.Kind.REVOKE:
            refusal = entitlements.revoke(agreement.pk, now=now)
            return Skipped(refusal) if refusal else "closed"
        case Effect.Kind.MAIL:
            return _mail(effect, now=now)


def _sync(effect: Effect, marketplace: Marketplace, *, now: datetime, began: float) -> str:
    due = Effect.objects.filter(
        agreement=effect.agreement, kind=effect.kind, state=Effect.State.DUE, due_at__lte=now
    )
    # What else is announced by now is answered by the same reading. What comes while AWS is asked is not,
    # though it may be due by ``now``: whoever applies it may have begun before us.
    announced = dict(due.values_list("pk", "caused_at"))
    # The call's own time, not the run's: where a reading that began later was applied instead, that one
    # began after all these were announced, and answers them too.
    applied = entitlements.sync(
        effect.agreement,
        marketplace=marketplace,
        now=now,
        began_at=_clock(now, began),
        # Of the first of them, whichever was heard of first.
        since=min([effect.caused_at, *announced.values()]),
        because=effect.cause,
    )
    due.filter(pk__in=list(announced)).update(
        state=Effect.State.DONE, done_at=now, error="", outcome=f"read with effect {effect.pk}"
    )
    return "read" if applied else "a later reading was applied before"


def _describe(agreement: Agreement, marketplace: Marketplace, *, now: datetime) -> str | Skipped:
    assert agreement.agreement_id is not None
    try:
        details = marketplace.describe_agreement(agreement.agreement_id)
    except MarketplaceError as error:
        if error.code not in _NOT_TO_BE_SEEN:
            raise
        return Skipped(f"{_NOT_TO_BE_SEEN[error.code]}: {_UNKNOWN}")
    if details is None:
        return Skipped(f"MARKETPLACE_DESCRIBE_AGREEMENTS is off: {_UNKNOWN}")
    return "told something new" if readings.described(agreement, details, now=now) else "nothing new"


def _link(effect: Effect, *, now: datetime) -> str | Skipped:
    unclear = succession.link(effect.agreement, now=now)
    if unclear is None:
        return "linked"
    if now - effect.caused_at < LOOKED_FOR:
        # Time may not tell which of several, and AWS takes usage of what ended for an hour only: a person is
        # asked at once. Not again at each look, though: they may have seen to it.
        if unclear.several and effect.error != unclear.why:
            succession.ask(effect.agreement, unclear, now=now)
        raise Later(unclear.why)
    if unclear.several or effect.agreement.is_continued:
        succession.ask(effect.agreement, unclear, now=now)
    return Skipped(unclear.why)


def _mail(effect: Effect, *, now: datetime) -> str | Skipped:
    case = Situation(effect, now)
    letter = LETTERS.get(case.name)
    if letter is None:
        return Skipped("there is no such letter any more")
    superseded = letter.superseded(case)
    if superseded:
        return Skipped(superseded)
    try:
        return delivery.send(case)
    except delivery.NobodyTold as nobody:
        return Skipped(str(nobody))

"""Which mails an agreement owes to whom, and whether each is still true when it is sent.

A mail is owed for a milestone of the fold or for a date to come, once for each: events that repeat owe no
more. To write another, add a Letter here, its templates in templates/emails/, and say in ``owed_for`` or
where it happens what owes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max

from accounts import mail
from billing.fold import UNEXPLAINED_GRACE, Milestone
from billing.mailing import personal_mails, transfer_mails
from billing.mailing.letters import Letter, Situation, by_now, mails_of, owe
from billing.models import Agreement, Effect
from billing.owed import Debt

Status = Agreement.Status

NEVER_REGISTERED_AFTER = timedelta(hours=24)
TRIAL_REMINDERS = (7, 1)  # days before
CONTRACT_REMINDERS = (30, 7)
_LONGEST_ANSWER = 500  # of a buyer, in a mail; the console has all of it

# Owed for what the events add up to: a milestone that was passed only as long as some were missing owes none.
MILESTONE_LETTERS = (
    "buyer_activated",
    "buyer_ending",
    "buyer_ended",
    "buyer_failed",
    "seller_new",
    "seller_ended",
)

_OVER = (Status.ENDING, Status.ENDED, Status.FAILED)


def owed_for(agreement: Agreement, milestones: Iterable[Milestone]) -> Iterator[Debt]:
    """The mails of the milestones passed. What a buyer is told waits until there is one."""
    yield owe(
        "seller_never_registered", "", agreement.created_at, agreement.created_at + NEVER_REGISTERED_AFTER
    )
    for name, which, at in milestones:
        yield from _to_seller(name, which, at)
        if agreement.organization_id is not None:
            yield from _to_buyer(agreement, name, which, at)
    yield from contract_reminders(agreement)


def contract_reminders(agreement: Agreement) -> Iterator[Debt]:
    """Where only the entitlements tell when a contract runs out, as with listings that speak SNS."""
    begun = agreement.activated_at
    if agreement.organization_id is None or begun is None or agreement.term_ends_at is not None:
        return
    date = expires_at(agreement) if agreement.product.has_entitlements else None
    if date is not None:
        yield from _reminders(agreement, "buyer_contract_expires", CONTRACT_REMINDERS, date, begun)


def _to_seller(name: str, which: str, at: datetime) -> Iterator[Debt]:
    if (name, which) == ("activated", "1"):
        yield owe("seller_new", "", at)
    elif name in ("ending", "ended"):
        yield owe("seller_ended", which, at, at + UNEXPLAINED_GRACE)


def _to_buyer(agreement: Agreement, name: str, which: str, at: datetime) -> Iterator[Debt]:
    match name:
        case "activated" | "ended":
            yield owe(f"buyer_{name}", which, at)
        case "ending" | "failed":
            # Why it ended, or that it had begun, may be told a little later.
            yield owe(f"buyer_{name}", which, at, at + UNEXPLAINED_GRACE)
        case "term":
            date = datetime.fromisoformat(which)
            yield from _reminders(agreement, "buyer_contract_expires", CONTRACT_REMINDERS, date, at)
        case "trial":
            date = datetime.fromisoformat(which)
            yield from _reminders(agreement, "buyer_trial_ends", TRIAL_REMINDERS, date, at)


def _reminders(
    agreement: Agreement, name: str, days: Iterable[int], date: datetime, at: datetime
) -> Iterator[Debt]:
    # Of a term shorter than that, or claimed later, nobody needs to be told on the first day.
    known_at = max(at, agreement.claimed_at or at)
    for each in days:
        due_at = date - timedelta(days=each)
        if due_at > known_at:
            yield owe(name, f"{each} {date.isoformat()}", at, due_at)


def welcome(at: datetime) -> Debt:
    return owe("buyer_welcome", "", at)


def changed(at: datetime) -> Debt:
    return owe("seller_changed", at.isoformat(), at)


def _unless_over(case: Situation) -> str:
    return by_now(case.agreement) if case.agreement.status in _OVER else ""


def _unless_active(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated:
        return "it was activated again since"
    if case.agreement.status != Status.ACTIVE:
        return by_now(case.agreement)
    # Whoever sends that reads the agreement later than this: it says the same, and what to do next.
    not_begun = mails_of(case.agreement).filter(cause="buyer_welcome:", state=Effect.State.DUE, attempts=0)
    return "the welcome, which is about to be sent, says so" if not_begun.exists() else ""


def _unless_ending(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated or case.agreement.status == Status.ACTIVE:
        return "the ending was called off"
    return "" if case.agreement.status == Status.ENDING else by_now(case.agreement)


def _unless_ended(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated or case.agreement.status == Status.ACTIVE:
        return "it was activated again since"
    return "" if case.agreement.status == Status.ENDED else by_now(case.agreement)


def _unless_going_on(case: Situation) -> str:
    """For the seller: ending is as good as ended."""
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated or case.agreement.status not in _OVER:
        return "the ending was called off"
    return ""


def _unless_failed(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    return "" if case.agreement.status == Status.FAILED else by_now(case.agreement)


def _unless_told_with_the_next(case: Situation) -> str:
    later = mails_of(case.agreement).filter(
        cause__startswith=f"{case.name}:", caused_at__gt=case.effect.caused_at
    )
    return "a later change tells what is in force" if later.exists() else ""


def _unless_registered(case: Situation) -> str:
    if case.agreement.organization_id is not None:
        return "the buyer has registered"
    if case.is_continued:
        return "another agreement continues it"
    return _unless_over(case)


def _unless_expiring(case: Situation) -> str:
    agreement = case.agreement
    if agreement.auto_renews:
        return "it renews by itself"
    if agreement.trial_ends_at and abs(agreement.trial_ends_at - case.date) < timedelta(days=1):
        return "it is a free trial: its own reminder tells"
    return _unless_near(case, expires_at(agreement), CONTRACT_REMINDERS)


def _unless_trial_ending(case: Situation) -> str:
    return _unless_near(case, case.agreement.trial_ends_at, TRIAL_REMINDERS)


def _unless_near(case: Situation, date: datetime | None, days: tuple[int, ...]) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.agreement.status != Status.ACTIVE:
        return by_now(case.agreement)
    if date != case.date:
        return "the date has changed"
    if case.days_left <= 0:
        return "the date has passed"
    nearer = [each for each in days if each < case.days]
    return "the next reminder is due" if nearer and case.days_left <= max(nearer) else ""


def expires_at(agreement: Agreement) -> datetime | None:
    """When the contract runs out: as AWS's events say, else as its entitlements do."""
    if agreement.term_ends_at is not None:
        return agreement.term_ends_at
    last: datetime | None = agreement.entitlements.current().aggregate(last=Max("expires_at"))["last"]
    return last


def _unless_never_active(case: Situation) -> str:
    return by_now(case.agreement) if case.agreement.activated_at is None else ""


def _answered(case: Situation) -> dict[str, Any]:
    """What the buyer said to the questions that a fork asks, by their names."""
    claimed = case.agreement.registrations.exclude(answers={}).first()
    answers = claimed.answers if claimed else {}
    return {"answers": {name: mail.one_line(str(said))[:_LONGEST_ANSWER] for name, said in answers.items()}}


LETTERS = {
    "buyer_welcome": Letter("buyer", _unless_over),
    "buyer_activated": Letter("buyer", _unless_active),
    "buyer_ending": Letter("buyer", _unless_ending),
    "buyer_ended": Letter("buyer", _unless_ended),
    "buyer_failed": Letter("buyer", _unless_failed),
    "buyer_trial_ends": Letter("buyer", _unless_trial_ending),
    "buyer_contract_expires": Letter("buyer", _unless_expiring),
    **personal_mails.LETTERS,
    **transfer_mails.LETTERS,
    "seller_new": Letter("seller", _unless_never_active, more=_answered),
    "seller_changed": Letter("seller", _unless_told_with_the_next),
    "seller_ended": Letter("seller", _unless_going_on),
    "seller_never_registered": Letter("seller", _unless_registered),
}

"""Which mails an agreement owes to whom, and whether each is still true when it is sent.

A mail is owed for a milestone of the fold or for a date to come, once for each: events that repeat owe no
more. To write another, add a Letter here, its templates in templates/emails/, and say in ``owed_for`` or
where it happens what owes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Max, QuerySet

from billing.fold import UNEXPLAINED_GRACE, Milestone
from billing.models import Agreement, Effect
from billing.owed import Debt

Status = Agreement.Status

NEVER_REGISTERED_AFTER = timedelta(hours=24)
TRIED_AGAIN_AFTER = timedelta(minutes=1)
TRIAL_REMINDERS = (7, 1)  # days before
CONTRACT_REMINDERS = (30, 7)

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


@dataclass(frozen=True, slots=True)
class Situation:
    """A mail about to be sent. Its effect's cause is ``name:which``, or ``name@one:which``.

    ``which`` tells it from others of its name: the turn of the agreement's life, an instant, or days and a
    date. ``one`` is the only one of its readers who has not got it yet, '' for all of them.
    """

    effect: Effect
    now: datetime

    @property
    def agreement(self) -> Agreement:
        return self.effect.agreement

    @property
    def name(self) -> str:
        return self.effect.cause.partition(":")[0].partition("@")[0]

    @property
    def one(self) -> str:
        return self.effect.cause.partition(":")[0].partition("@")[2]

    @property
    def which(self) -> str:
        return self.effect.cause.partition(":")[2]

    @property
    def date(self) -> datetime:
        return datetime.fromisoformat(self.which.partition(" ")[2])

    @property
    def days(self) -> int:
        return int(self.which.partition(" ")[0])

    @property
    def days_left(self) -> int:
        """Begun days count: "tomorrow" is 1."""
        return -((self.now - self.date) // timedelta(days=1))

    @property
    def is_a_date(self) -> bool:
        return " " in self.which

    @property
    def is_repeated(self) -> bool:
        """Whether the same is owed once more, for a later turn of the agreement's life."""
        return _mails_of(self.agreement).filter(cause=f"{self.name}:{int(self.which) + 1}").exists()

    @property
    def is_continued(self) -> bool:
        return self.agreement.is_continued

    def to_only(self, one: str) -> Debt:
        """What is still owed when others have got it and ``one`` has not."""
        cause = f"{self.name}@{one}:{self.which}"
        return Debt(Effect.Kind.MAIL, cause, self.effect.caused_at, self.now + TRIED_AGAIN_AFTER)


@dataclass(frozen=True, slots=True)
class Letter:
    """``superseded`` says why it is not true any more, or ''. Its templates bear its name."""

    to: Literal["buyer", "seller"]
    superseded: Callable[[Situation], str]


def owed_for(agreement: Agreement, milestones: Iterable[Milestone]) -> Iterator[Debt]:
    """The mails of the milestones passed. What a buyer is told waits until there is one."""
    yield _owe(
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
        yield _owe("seller_new", "", at)
    elif name in ("ending", "ended"):
        yield _owe("seller_ended", which, at, at + UNEXPLAINED_GRACE)


def _to_buyer(agreement: Agreement, name: str, which: str, at: datetime) -> Iterator[Debt]:
    match name:
        case "activated" | "ended":
            yield _owe(f"buyer_{name}", which, at)
        case "ending" | "failed":
            # Why it ended, or that it had begun, may be told a little later.
            yield _owe(f"buyer_{name}", which, at, at + UNEXPLAINED_GRACE)
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
            yield _owe(name, f"{each} {date.isoformat()}", at, due_at)


def welcome(at: datetime) -> Debt:
    return _owe("buyer_welcome", "", at)


def changed(at: datetime) -> Debt:
    return _owe("seller_changed", at.isoformat(), at)


def _owe(name: str, which: str, at: datetime, due_at: datetime | None = None) -> Debt:
    return Debt(Effect.Kind.MAIL, f"{name}:{which}", at, due_at)


def _unless_over(case: Situation) -> str:
    return _by_now(case.agreement) if case.agreement.status in _OVER else ""


def _unless_active(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated:
        return "it was activated again since"
    if case.agreement.status != Status.ACTIVE:
        return _by_now(case.agreement)
    # Whoever sends that reads the agreement later than this: it says the same, and what to do next.
    not_begun = _mails_of(case.agreement).filter(cause="buyer_welcome:", state=Effect.State.DUE, attempts=0)
    return "the welcome, which is about to be sent, says so" if not_begun.exists() else ""


def _unless_ending(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated or case.agreement.status == Status.ACTIVE:
        return "the ending was called off"
    return "" if case.agreement.status == Status.ENDING else _by_now(case.agreement)


def _unless_ended(case: Situation) -> str:
    if case.is_continued:
        return "another agreement continues it"
    if case.is_repeated or case.agreement.status == Status.ACTIVE:
        return "it was activated again since"
    return "" if case.agreement.status == Status.ENDED else _by_now(case.agreement)


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
    return "" if case.agreement.status == Status.FAILED else _by_now(case.agreement)


def _unless_told_with_the_next(case: Situation) -> str:
    later = _mails_of(case.agreement).filter(
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
        return _by_now(case.agreement)
    if date != case.date:
        return "the date has changed"
    if case.days_left <= 0:
        return "the date has passed"
    nearer = [each for each in days if each < case.days]
    return "the next reminder is due" if nearer and case.days_left <= max(nearer) else ""


def _by_now(agreement: Agreement) -> str:
    return f"the agreement is {agreement.status} by now"


def _mails_of(agreement: Agreement) -> QuerySet[Effect]:
    return agreement.effects.filter(kind=Effect.Kind.MAIL)


def expires_at(agreement: Agreement) -> datetime | None:
    """When the contract runs out: as AWS's events say, else as its entitlements do."""
    if agreement.term_ends_at is not None:
        return agreement.term_ends_at
    last: datetime | None = agreement.entitlements.current().aggregate(last=Max("expires_at"))["last"]
    return last


def _unless_never_active(case: Situation) -> str:
    return _by_now(case.agreement) if case.agreement.activated_at is None else ""


LETTERS = {
    "buyer_welcome": Letter("buyer", _unless_over),
    "buyer_activated": Letter("buyer", _unless_active),
    "buyer_ending": Letter("buyer", _unless_ending),
    "buyer_ended": Letter("buyer", _unless_ended),
    "buyer_failed": Letter("buyer", _unless_failed),
    "buyer_trial_ends": Letter("buyer", _unless_trial_ending),
    "buyer_contract_expires": Letter("buyer", _unless_expiring),
    "seller_new": Letter("seller", _unless_never_active),
    "seller_changed": Letter("seller", _unless_told_with_the_next),
    "seller_ended": Letter("seller", _unless_going_on),
    "seller_never_registered": Letter("seller", _unless_registered),
}

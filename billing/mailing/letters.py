"""What a letter is, and the case in which it is about to be sent. billing.mails says which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db.models import Q, QuerySet

from accounts.models import Membership
from billing.models import Agreement, Effect
from billing.owed import Debt

TRIED_AGAIN_AFTER = timedelta(minutes=1)


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
        return mails_of(self.agreement).filter(cause=f"{self.name}:{int(self.which) + 1}").exists()

    @property
    def is_continued(self) -> bool:
        return self.agreement.is_continued

    def to_only(self, one: str) -> Debt:
        """What is still owed when others have got it and ``one`` has not."""
        cause = f"{self.name}@{one}:{self.which}"
        return Debt(Effect.Kind.MAIL, cause, self.effect.caused_at, self.now + TRIED_AGAIN_AFTER)


def administrators(case: Situation) -> Q:
    """Those who run the workspace that has the purchase."""
    return Q(
        memberships__organization=case.agreement.organization_id or 0,
        memberships__role__in=Membership.ADMINISTRATORS,
    )


@dataclass(frozen=True, slots=True)
class Letter:
    """``superseded`` says why it is not true any more, or ''. Its templates bear its name.

    Of a buyer's letter, ``people`` says which users read it, and ``more`` what its templates may say beside
    what all may.
    """

    to: Literal["buyer", "seller"]
    superseded: Callable[[Situation], str]
    people: Callable[[Situation], Q] = administrators
    more: Callable[[Situation], dict[str, Any]] = lambda case: {}


def owe(name: str, which: str, at: datetime, due_at: datetime | None = None) -> Debt:
    return Debt(Effect.Kind.MAIL, f"{name}:{which}", at, due_at)


def mails_of(agreement: Agreement) -> QuerySet[Effect]:
    return agreement.effects.filter(kind=Effect.Kind.MAIL)


def by_now(agreement: Agreement) -> str:
    return f"the agreement is {agreement.status} by now"

"""What a repair is: its words, what it would do to some rows, and how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Count, Model, QuerySet, Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from billing.aws.types import Marketplace
from billing.decision_rules import Refused
from billing.decisions import Decided

Words = Any  # text, or a translation of it that waits for the reader's language
Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """Something a repair must be told beside the reason."""

    name: str
    label: Words
    help: Words


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the rows that a person confirmed, each with what they saw of it."""

    rows: Mapping[int, str]
    parameters: Parameters
    by: User
    reason: str
    now: datetime
    marketplace: Callable[[], Marketplace]


@dataclass(slots=True)
class Foreseen:
    """What would become of the rows as they are now."""

    decided: Decided
    amount: str = ""  # what would change, counted: "3 records of 2 agreements: 1,204 pages"
    notes: list[str] = field(default_factory=list)  # what else follows from it


@dataclass(slots=True)
class Result:
    decided: Decided
    outcome: str = ""  # where rows do not say it


class Repair(ABC):
    """One that needs no row has no ``model``."""

    name: ClassVar[str]
    permission: ClassVar[str]  # of OperatorTask
    model: ClassVar[type[Model] | None] = None
    title: ClassVar[Words]  # on buttons and in lists: what is done
    effect: ClassVar[Words]  # on the page that asks: what that means, in whole sentences
    is_final: ClassVar[bool] = False  # nothing takes it back
    asks_aws: ClassVar[bool] = False  # then never within a request
    questions: ClassVar[tuple[Question, ...]] = ()
    chunk: ClassVar[int] = 100  # rows between two notes of how far it is
    patience: ClassVar[timedelta] = timedelta(minutes=5)  # longer than any chunk takes

    @property
    def needs(self) -> str:
        return f"billing.{self.permission}"

    def fits(self, row: Any) -> bool:
        """Whether a row's page offers it. No queries: ``foresee`` says the rest."""
        return True

    def seen(self, row: Any) -> str:
        """What of the row a person decides on: if that is another by then, nothing is done."""
        return ""

    def in_order(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """In which they are worked on."""
        return rows.order_by("pk")

    def read(self, parameters: Mapping[str, str]) -> Parameters:
        """The answers to its questions, as they are kept. Raises Refused for one that means nothing."""
        return {}

    @abstractmethod
    def foresee(self, rows: Sequence[Any], parameters: Parameters, *, now: datetime) -> Foreseen:
        """Asks the rules that ``carry_out`` obeys. Locks nothing and writes nothing."""

    @abstractmethod
    def carry_out(self, chunk: Chunk) -> Result:
        """Do it, safe to be done twice: what is so already is unchanged."""


def one_by_one(rows: Iterable[int], do: Callable[[int], bool]) -> Decided:
    """For flows of one row: they answer whether they changed it, or raise Refused."""
    decided = Decided()
    for pk in rows:
        try:
            changed = do(pk)
        except Refused as refused:
            decided.refused[pk] = str(refused)
        else:
            (decided.done if changed else decided.unchanged).append(pk)
    return decided


def amount_of(rows: QuerySet[Any], counted: str) -> str:
    """How much of what it is: ``rows`` have an agreement, a dimension and a quantity."""
    totals = rows.order_by().values("dimension__label", "dimension__unit").annotate(total=Sum("quantity"))
    quantities = ", ".join(
        f"{quantity(row['total'])} {row['dimension__unit'] or row['dimension__label']}"
        for row in totals.order_by("dimension__label", "dimension__unit")
    )
    agreements = rows.order_by().aggregate(n=Count("agreement", distinct=True))["n"]
    return _("%(rows)s of %(agreements)s: %(quantities)s") % {
        "rows": counted,
        "agreements": agreements_text(agreements),
        "quantities": quantities,
    }


def agreements_text(count: int) -> str:
    return ngettext("%(count)s agreement", "%(count)s agreements", count) % {"count": intcomma(count)}


def quantity(value: Decimal | None) -> str:
    """With separators, without an exponent or trailing zeros."""
    number = (value or Decimal(0)).normalize()
    return f"{number:,f}"

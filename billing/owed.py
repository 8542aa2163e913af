"""What a change of state owes the world: rows that are committed with the change.

billing.effects carries them out afterwards: a crash between the two loses nothing, and doing one twice
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q

from billing.models import Agreement, Effect


class Debt(NamedTuple):
    """``cause`` names it among those of its kind: the same cause owes it once. ``due_at`` None: at once."""

    kind: Effect.Kind
    cause: str
    caused_at: datetime
    due_at: datetime | None = None


def owe(agreement: Agreement, debts: Iterable[Debt]) -> None:
    """Owe each once for its cause. Runs inside the transaction of the change."""
    Effect.objects.bulk_create(
        (
            Effect(
                agreement=agreement,
                kind=debt.kind,
                cause=debt.cause[:200],
                caused_at=debt.caused_at,
                due_at=debt.due_at or debt.caused_at,
            )
            for debt in debts
        ),
        ignore_conflicts=True,
    )


def withdraw_mails(agreement: Agreement, names: Iterable[str], *, but: Iterable[Debt]) -> None:
    """Take back unsent mails of these names: what they would tell never was, now that more is known."""
    of_names = Q(*(("cause__startswith", f"{name}:") for name in names), _connector=Q.OR)
    unsent = agreement.effects.filter(of_names, kind=Effect.Kind.MAIL, state=Effect.State.DUE, attempts=0)
    unsent.exclude(cause__in=[debt.cause for debt in but]).delete()

"""What became of usage, in the parts that a buyer knows. They are the same on every page, and they add up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from billing.models import MeteringRecord

State = MeteringRecord.State

# Usage in no record yet. What can never be in one has its disposition as its state.
OPEN = "open"
# AWS is to be told, or has yet to confirm.
SENDING = (*MeteringRecord.SENDABLE, State.HELD)
# AWS has answered, and a person has to find out what it bills.
CHECKED = (State.CONFLICT, State.PARKED)
ZERO = Decimal(0)


@dataclass(slots=True)
class Figures:
    """Used = included + billed + sending + open + checked + not billed.

    Of a closed hour AWS's hour counts, in which it bills; of all other usage the hour in which it occurred.
    """

    used: Decimal = ZERO
    included: Decimal = ZERO
    late: Decimal = ZERO  # open although its hour should have been reported
    moved: Decimal = ZERO  # of a closed hour, what was used in another one
    by_state: dict[str, Decimal] = field(default_factory=dict)

    def add(self, state: str, *, used: Decimal, included: Decimal, quantity: Decimal) -> None:
        """Count ``used``: ``included`` of it is covered by what was bought ahead, ``quantity`` is not."""
        self.used += used
        self.included += included
        if quantity:
            self.by_state[state] = self.by_state.get(state, ZERO) + quantity

    @property
    def billed(self) -> Decimal:
        """AWS has accepted it."""
        return self.by_state.get(State.ACCEPTED, ZERO)

    @property
    def sending(self) -> Decimal:
        return self.sum_of(SENDING)

    @property
    def open(self) -> Decimal:
        return self.by_state.get(OPEN, ZERO)

    @property
    def waiting(self) -> Decimal:
        """Nobody can say yet that AWS bills it."""
        return self.sending + self.open

    @property
    def checked(self) -> Decimal:
        """It may be on AWS's bill, with another figure, or not at all."""
        return self.sum_of(CHECKED)

    @property
    def not_billed(self) -> Decimal:
        return sum(self.by_state.values(), ZERO) - self.billed - self.waiting - self.checked

    @property
    def is_settled(self) -> bool:
        """Whether AWS's bill of what is counted here stays as it is."""
        return not self.waiting and not self.checked

    def sum_of(self, states: Collection[str]) -> Decimal:
        return sum((self.by_state.get(state, ZERO) for state in states), ZERO)

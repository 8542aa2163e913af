"""What the simulator remembers, one value each: agreements, tokens, billed usage, what is still to be sent.

Values never change in place. An agreement is a set of instants, not a status: what it is follows from the
clock, so moving the clock needs no sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from billing.simulator.catalog import Identity, Value
from billing.simulator.clock import Setting
from billing.simulator.switches import Switches, Timings

SELLER_ACCOUNT_ID = "111111111111"
Intent = Literal["NEW", "RENEW", "REPLACE"]
Channel = Literal["eventbridge", "sns"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One purchase. ``license_arn`` is set for license purchases, ``customer_identifier`` for legacy ones."""

    agreement_id: str
    offer_id: str
    product_code: str
    aws_account_id: str
    identity: Identity
    license_arn: str | None
    customer_identifier: str | None
    accepted_at: datetime
    starts_at: datetime
    activates_at: datetime | None
    """When the license appears; None when the payment failed and it never will."""
    ends_at: datetime | None
    """The term's planned end; None for pay as you go."""
    trial_ends_at: datetime | None
    quantities: tuple[tuple[datetime, dict[str, Value]], ...]
    """What was bought, by the instant from which it holds, oldest first."""
    intent: Intent = "NEW"
    initial_agreement_id: str = ""
    previous_agreement_id: str | None = None
    proposer_account_id: str = SELLER_ACCOUNT_ID
    resale_authorization_id: str | None = None
    """Set when a channel partner sold it; the seller is then the manufacturer only."""
    private_offer: bool = False
    auto_renew: bool = False
    advisory_issued_at: datetime | None = None
    """Set while an advisory is open."""
    ended_at: datetime | None = None
    ended_status: str = ""
    deprovisioned_at: datetime | None = None
    metering_closes_at: datetime | None = None

    def status(self, now: datetime) -> str:
        return self.ended_status if self.ended_at is not None and self.ended_at <= now else "ACTIVE"

    def is_activated(self, now: datetime) -> bool:
        return self.activates_at is not None and self.activates_at <= now

    def is_entitled(self, now: datetime) -> bool:
        return self.is_activated(now) and (self.deprovisioned_at is None or now < self.deprovisioned_at)

    def is_metered(self, now: datetime) -> bool:
        return self.is_activated(now) and (self.metering_closes_at is None or now < self.metering_closes_at)

    def quantities_at(self, now: datetime) -> dict[str, Value]:
        """The bought quantities in force: of the amendments that took effect, the last."""
        current = self.quantities[0][1]
        for effective_at, quantities in self.quantities:
            if effective_at <= now:
                current = quantities
        return current


@dataclass(frozen=True, slots=True)
class Token:
    token: str
    agreement_id: str
    expires_at: datetime
    used: bool = False


BillingKey = tuple[str, str, str, str, datetime]
"""Region, license ARN or product code, account, dimension, hour: what AWS counts as the same usage."""


@dataclass(frozen=True, slots=True)
class BilledRecord:
    """The first quantity accepted for a key. Nothing ever changes it."""

    key: BillingKey
    metering_record_id: str
    agreement_id: str
    quantity: Decimal
    allocations: tuple[tuple[Decimal, tuple[tuple[str, str], ...]], ...]
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Something that falls due: a message to send, or (without a body) a renewal to make."""

    number: int
    due: datetime
    agreement_id: str
    kind: str
    channel: Channel = "eventbridge"
    body: str | None = None
    disturbed: bool = False
    """True once a fault has touched it: one accident each."""


@dataclass(frozen=True, slots=True)
class CustomerIdentifier:
    aws_account_id: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Suspension:
    aws_account_id: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Lint:
    """Something AWS accepts and a seller regrets, and how often it was seen."""

    finding: str
    count: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what the simulation runs: its clock, its switches, how long AWS takes, where buyers are sent."""

    clock: Setting
    switches: Switches = field(default_factory=Switches)
    timings: Timings = field(default_factory=Timings)
    fulfillment_url: str | None = None

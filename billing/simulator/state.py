"""Everything the simulator remembers: products, agreements, tokens, billed usage, queued events.

An agreement is a set of instants, not a status: what it is follows from the clock, so moving the clock needs
no sweep.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from billing.simulator.catalog import Identity, Product, Value
from billing.simulator.clock import Clock
from billing.simulator.errors import Refused
from billing.simulator.faults import Faults
from billing.simulator.queues import Queue
from billing.simulator.request_log import RequestLog

EVENT_QUEUE = "marketplace-events"
SELLER_ACCOUNT_ID = "111111111111"


@dataclass(frozen=True, slots=True)
class Timings:
    """How long AWS takes, in simulated time. Delays are ours, the final hour is AWS's (facts page §3.7)."""

    agreement_created: timedelta = timedelta(seconds=2)
    license_updated: timedelta = timedelta(seconds=5)
    deprovisioned: timedelta = timedelta(seconds=30)
    final_hour: timedelta = timedelta(minutes=60)
    token_lifetime: timedelta = timedelta(hours=4)
    contract_term: timedelta = timedelta(days=365)
    free_trial: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Switches:
    """What no AWS source settles (marked unconfirmed in the facts page), with our choice as default."""

    future_tolerance: timedelta = timedelta()
    """How far ahead of AWS's clock a metering timestamp may be."""
    usage_after_deprovisioning_refused: bool = True
    """A timestamp after License Deprovisioned is outside the active period: InvalidLicenseException."""
    identical_repeat_is_success: bool = True
    """The same record again is Success with the same id, as the model says; the agent skill differs."""


@dataclass(slots=True)
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
    activates_at: datetime
    ends_at: datetime | None
    trial_ends_at: datetime | None
    final_hour: timedelta
    quantities: list[tuple[datetime, dict[str, Value]]]
    ended_at: datetime | None = None
    ended_status: str = ""
    deprovisioned_at: datetime | None = None

    def status(self, now: datetime) -> str:
        return self.ended_status if self.ended_at is not None and self.ended_at <= now else "ACTIVE"

    def is_entitled(self, now: datetime) -> bool:
        return self.activates_at <= now and (self.deprovisioned_at is None or now < self.deprovisioned_at)

    @property
    def metering_closes_at(self) -> datetime | None:
        return None if self.deprovisioned_at is None else self.deprovisioned_at + self.final_hour

    def is_metered(self, now: datetime) -> bool:
        closes_at = self.metering_closes_at
        return self.activates_at <= now and (closes_at is None or now < closes_at)

    def quantities_at(self, now: datetime) -> dict[str, Value]:
        """The bought quantities in force: of the amendments that took effect, the last."""
        current = self.quantities[0][1]
        for effective_at, quantities in self.quantities:
            if effective_at <= now:
                current = quantities
        return current


@dataclass(frozen=True, slots=True)
class Token:
    agreement_id: str
    expires_at: datetime


BillingKey = tuple[str, str, str, str, datetime]
"""Region, license ARN or product code, account, dimension, hour: what AWS counts as the same usage."""


@dataclass(slots=True)
class BilledRecord:
    """The first quantity accepted for a key. Nothing ever changes it."""

    metering_record_id: str
    agreement_id: str
    quantity: Decimal
    allocations: tuple[tuple[Decimal, tuple[tuple[str, str], ...]], ...]
    timestamp: datetime


@dataclass(order=True, slots=True)
class ScheduledEvent:
    due: datetime
    number: int
    agreement_id: str = field(compare=False)
    kind: str = field(compare=False)
    body: str = field(compare=False)


class State:
    """Hold ``lock`` around what is read or changed together; it is notified when receivers may find more."""

    def __init__(
        self,
        products: Iterable[Product] = (),
        *,
        clock_offset: timedelta = timedelta(),
        fulfillment_url: str | None = None,
        timings: Timings | None = None,
        switches: Switches | None = None,
    ) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.fulfillment_url = fulfillment_url
        self.timings = timings or Timings()
        self.switches = switches or Switches()
        self._initial_products = tuple(products)
        self._initial_offset = clock_offset
        self.waiting = 0
        self.reset()

    def reset(self) -> None:
        """Back to how it was started: its catalog and clock offset stay, everything since goes."""
        with self.lock:
            self.clock = Clock(self._initial_offset)
            self.products = {product.code: product for product in self._initial_products}
            self.agreements: dict[str, Agreement] = {}
            self.agreement_of_license: dict[str, str] = {}
            self.customer_identifiers: dict[tuple[str, str], str] = {}
            self.tokens: dict[str, Token] = {}
            self.billed: dict[BillingKey, BilledRecord] = {}
            self.lints: dict[str, int] = {}
            self.queues = {EVENT_QUEUE: Queue(EVENT_QUEUE)}
            self.faults = Faults()
            self.requests = RequestLog()
            self._scheduled: list[ScheduledEvent] = []
            self._numbers = itertools.count()
            self.lock.notify_all()

    def product(self, code: str) -> Product:
        try:
            return self.products[code]
        except KeyError:
            raise Refused(f"No product has the code {code!r}") from None

    def agreement(self, agreement_id: str) -> Agreement:
        try:
            return self.agreements[agreement_id]
        except KeyError:
            raise Refused(f"There is no agreement {agreement_id!r}") from None

    def schedule(self, agreement: Agreement, kind: str, body: str, *, due: datetime) -> None:
        event = ScheduledEvent(due, next(self._numbers), agreement.agreement_id, kind, body)
        heapq.heappush(self._scheduled, event)

    def unschedule(self, agreement: Agreement, *, due_from: datetime, kind: str | None = None) -> None:
        """Forget what has been overtaken before it was sent."""
        self._scheduled = [
            event
            for event in self._scheduled
            if event.agreement_id != agreement.agreement_id
            or event.due < due_from
            or kind not in (None, event.kind)
        ]
        heapq.heapify(self._scheduled)

    @property
    def scheduled(self) -> list[ScheduledEvent]:
        return sorted(self._scheduled)

    def deliver_due(self) -> None:
        """Put every event whose time has come into the queue, in order, and wake who waits for one."""
        now = self.clock.now()
        delivered = False
        while self._scheduled and self._scheduled[0].due <= now:
            event = heapq.heappop(self._scheduled)
            self.queues[EVENT_QUEUE].send(event.body, sent_at=event.due)
            delivered = True
        if delivered:
            self.lock.notify_all()

    def real_seconds_until_next_event(self) -> float | None:
        return self.clock.real_seconds_until(self._scheduled[0].due) if self._scheduled else None

    def move_clock(
        self,
        *,
        advance: timedelta | None = None,
        now: datetime | None = None,
        freeze: bool | None = None,
    ) -> datetime:
        """Move the clock, deliver what fell due on the way, and return the new time."""
        with self.lock:
            # Frozen first, so that it stands at exactly the instant it is then moved to.
            if freeze is True:
                self.clock.freeze()
            if now is not None:
                self.clock.set(now)
            if advance is not None:
                self.clock.advance(advance)
            if freeze is False:
                self.clock.resume()
            self.deliver_due()
            self.lock.notify_all()
            return self.clock.now()

    def lint(self, finding: str) -> None:
        """Count something AWS accepts and a seller regrets."""
        self.lints[finding] = self.lints.get(finding, 0) + 1

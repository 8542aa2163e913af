"""Everything the simulator remembers: the tables, and what is looked up in them otherwise than by key."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from billing.simulator.aws.quotas import Quotas
from billing.simulator.catalog import Product
from billing.simulator.clock import Clock
from billing.simulator.errors import Refused
from billing.simulator.faults import Fault, Faults
from billing.simulator.lifecycle.schedule import Schedule
from billing.simulator.queues import Messages, Queue
from billing.simulator.records import (
    Agreement,
    BilledRecord,
    BillingKey,
    Channel,
    Conditions,
    CustomerIdentifier,
    Lint,
    Scheduled,
    Suspension,
    Token,
)
from billing.simulator.request_log import RequestLog
from billing.simulator.switches import Switches, Timings
from billing.simulator.tables import Table

EVENT_QUEUE = "marketplace-events"
DEAD_LETTER_QUEUE = "marketplace-events-dead"


class Keeper(Protocol):
    """Keeps tables beyond the life of the process."""

    def watch(self, tables: dict[str, Table[Any, Any]]) -> None: ...
    def write(self) -> None: ...


class State:
    """Hold ``lock`` around what is read or changed together; it is notified when receivers may find more."""

    def __init__(
        self,
        products: Iterable[Product] = (),
        *,
        clock_offset: timedelta = timedelta(),
        speed: float = 1.0,
        fulfillment_url: str | None = None,
        timings: Timings | None = None,
        switches: Switches | None = None,
    ) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.waiting = 0
        self._keeper: Keeper | None = None
        self._initial_products = tuple(products)
        self._initial_clock = clock_offset, speed
        self._initial = fulfillment_url, timings or Timings(), switches or Switches()
        self.reset()

    def reset(self) -> None:
        """Back to how it was started: its catalog, switches and clock offset stay, everything since goes."""
        with self.lock:
            offset, speed = self._initial_clock
            fulfillment_url, timings, switches = self._initial
            self.clock = Clock(offset, speed=speed)
            self.conditions: Table[str, Conditions] = Table()
            self.conditions[""] = Conditions(self.clock.setting, switches, timings, fulfillment_url)
            self.products: Table[str, Product] = Table()
            self.agreements: Table[str, Agreement] = Table()
            self.customer_identifiers: Table[str, CustomerIdentifier] = Table()
            self.suspensions: Table[str, Suspension] = Table()
            self.tokens: Table[str, Token] = Table()
            self.billed: Table[BillingKey, BilledRecord] = Table()
            self.lints: Table[str, Lint] = Table()
            self.queues: Table[str, Queue] = Table()
            self.messages = Messages()
            self.scheduled: Table[int, Scheduled] = Table()
            self.overtaken: Table[int, Scheduled] = Table()
            self.fault_table: Table[int, Fault] = Table()
            self.faults = Faults(self.fault_table)
            self.quotas = Quotas()
            self.requests = RequestLog()
            for product in self._initial_products:
                self.products[product.code] = product
            self.queues[EVENT_QUEUE] = Queue(EVENT_QUEUE, dead_letter_queue=DEAD_LETTER_QUEUE)
            self.queues[DEAD_LETTER_QUEUE] = Queue(DEAD_LETTER_QUEUE, receives=())
            self.reindex()
            if self._keeper is not None:
                self._keeper.watch(self.tables)
            self.lock.notify_all()

    def keep_in(self, keeper: Keeper) -> None:
        """Let ``keeper`` have all that changes from now on, at each ``save``."""
        self._keeper = keeper
        keeper.watch(self.tables)

    def go_on(self) -> None:
        """After the tables were filled from elsewhere: the catalog it was started with is the newer one."""
        for product in self._initial_products:
            self.products[product.code] = product
        self.reindex()

    def save(self) -> None:
        """Keep what changed. Called before anything is answered; raises OSError when it is not kept."""
        if self._keeper is not None:
            with self.lock:
                self._keeper.write()

    @property
    def tables(self) -> dict[str, Table[Any, Any]]:
        """Every table by name: all there is to keep. The rest is derived, or about the present only."""
        return {
            "conditions": self.conditions,
            "products": self.products,
            "agreements": self.agreements,
            "customer_identifiers": self.customer_identifiers,
            "suspensions": self.suspensions,
            "tokens": self.tokens,
            "billed": self.billed,
            "lints": self.lints,
            "queues": self.queues,
            "messages": self.messages,
            "scheduled": self.scheduled,
            "overtaken": self.overtaken,
            "faults": self.fault_table,
        }

    def reindex(self) -> None:
        """Derive again what is looked up otherwise than by key; needed after tables were filled directly."""
        self.clock.setting = self.conditions[""].clock
        self._agreement_of_license: dict[str, str] = {}
        self._agreements_of_buyer: dict[tuple[str, str], list[str]] = {}
        self._account_of_identifier: dict[str, str] = {
            known.identifier: account for account, known in self.customer_identifiers.items()
        }
        for agreement in self.agreements.values():
            self._index(agreement)
        overtaken = max(self.overtaken, default=0)
        self.upcoming = Schedule(self.scheduled, numbered_from=overtaken + 1)

    def change_conditions(self, **changes: Any) -> None:
        """Set a field of Conditions; receivers wake, their next event may have come nearer."""
        with self.lock:
            self.conditions[""] = replace(self.conditions[""], **changes)
            self.clock.setting = self.conditions[""].clock
            self.lock.notify_all()

    def move_clock(
        self,
        *,
        advance: timedelta | None = None,
        now: datetime | None = None,
        freeze: bool | None = None,
        speed: float | None = None,
    ) -> datetime:
        """Move the clock and return the new time; what falls due on the way is sent by the next answer."""
        with self.lock:
            # Frozen first, so that it stands at exactly the instant it is then moved to.
            if freeze is True:
                self.clock.freeze()
            if now is not None:
                self.clock.set(now)
            if advance is not None:
                self.clock.advance(advance)
            if speed is not None:
                self.clock.run_at(speed)
            if freeze is False:
                self.clock.resume()
            self.change_conditions(clock=self.clock.setting)
            return self.clock.now()

    @property
    def switches(self) -> Switches:
        return self.conditions[""].switches

    @property
    def timings(self) -> Timings:
        return self.conditions[""].timings

    @property
    def fulfillment_url(self) -> str | None:
        return self.conditions[""].fulfillment_url

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

    def put(self, agreement: Agreement) -> None:
        if agreement.agreement_id not in self.agreements:
            self._index(agreement)
        elif agreement.license_arn:
            self._agreement_of_license[agreement.license_arn] = agreement.agreement_id
        self.agreements[agreement.agreement_id] = agreement

    def _index(self, agreement: Agreement) -> None:
        if agreement.license_arn:
            self._agreement_of_license[agreement.license_arn] = agreement.agreement_id
        buyer = agreement.product_code, agreement.aws_account_id
        self._agreements_of_buyer.setdefault(buyer, []).append(agreement.agreement_id)

    def agreement_of_license(self, license_arn: str) -> Agreement | None:
        agreement_id = self._agreement_of_license.get(license_arn)
        return self.agreements[agreement_id] if agreement_id else None

    def agreements_of(self, product_code: str, aws_account_id: str) -> list[Agreement]:
        """What one AWS account ever bought of a product, oldest purchase first."""
        found = self._agreements_of_buyer.get((product_code, aws_account_id), [])
        return [self.agreements[agreement_id] for agreement_id in found]

    def account_of_identifier(self, identifier: str) -> str | None:
        return self._account_of_identifier.get(identifier)

    def name_customer(self, aws_account_id: str, identifier: str) -> str:
        """The account's CustomerIdentifier: ``identifier`` unless it has one already."""
        known = self.customer_identifiers.get(aws_account_id)
        if known is not None:
            return known.identifier
        self.customer_identifiers[aws_account_id] = CustomerIdentifier(aws_account_id, identifier)
        self._account_of_identifier[identifier] = aws_account_id
        return identifier

    def schedule(
        self,
        agreement_id: str,
        kind: str,
        body: str | None,
        *,
        due: datetime,
        channel: Channel = "eventbridge",
        disturbed: bool = False,
    ) -> None:
        number = self.upcoming.new_number()
        self.upcoming.add(Scheduled(number, due, agreement_id, kind, channel, body, disturbed))
        self.lock.notify_all()

    def real_seconds_until_next_event(self) -> float | None:
        event = self.upcoming.next()
        return None if event is None else self.clock.real_seconds_until(event.due)

    def lint(self, finding: str) -> None:
        """Count something AWS accepts and a seller regrets."""
        known = self.lints.get(finding)
        self.lints[finding] = Lint(finding, known.count + 1 if known else 1)

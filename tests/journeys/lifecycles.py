"""Lives of purchases: lived in the simulator, then told to the app in any order, and what it made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.core import mail

from accounts.models import Organization, User
from billing import clock, effects, events, metering, registration, submission, usage
from billing.aws.types import QueueMessage
from billing.models import Agreement, Effect
from billing.simulator.client import ControlError, Subscription
from tests.billing.ledger import REGION
from tests.plugin import PASSWORD, Aws

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LEGACY_CONTRACT = {
    "code": "reports-vintage",
    "product_id": "prod-acmevintage01",
    "title": "Acme Reports Vintage",
    "pricing": "contract_with_consumption",
    "identity": "legacy",
    "dimensions": [
        {
            "key": "included_pages",
            "label": "Included",
            "kind": "entitled",
            "default_quantity": 100,
            "price": "0.08",
        },
        {
            "key": "pages",
            "label": "Pages",
            "kind": "metered",
            "included_by": "included_pages",
            "price": "0.10",
        },
    ],
}
# What each says of an end: a buyer cannot register after hearing of it.
_OF_AN_END = ("Purchase Agreement Ended", "License Deprovisioned", "unsubscribe", "subscribe-fail")


@dataclass(slots=True)
class Life:
    """What happened at AWS, and every message about it, in the order sent."""

    tokens: list[str]
    messages: list[QueueMessage] = field(default_factory=list)
    later: list[QueueMessage] = field(default_factory=list)  # sent after ``now``
    # Of each agreement, from when until when AWS takes its usage.
    active: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    now: datetime = datetime.min.replace(tzinfo=UTC)

    def was_active(self, agreement_id: str | None, instant: datetime) -> bool:
        start, end = self.active.get(agreement_id or "", (instant, instant))
        return start <= instant < end

    def told_of_an_end(self, order: Sequence[int]) -> int:
        """The place in ``order`` of the first message after which nobody registers any more."""
        for place, number in enumerate(order):
            if any(word in self.messages[number].body for word in _OF_AN_END):
                return place
        return len(order)


def live(
    aws: Aws,
    *,
    start: datetime,
    product: str,
    options: dict[str, Any],
    story: Sequence[tuple[str, timedelta]],
) -> Life:
    """Buy ``product`` at ``start`` and let the story happen; what AWS refuses does not."""
    control = aws.control
    control.reset()
    control.switch(quotas=False)
    control.time(token_lifetime=10**8)
    aws.list_products()
    control.add_product(LEGACY_CONTRACT)
    control.freeze(start)
    bought = [aws.buy(product, **options)]
    for action, pause in story:
        control.advance(pause)
        with suppress(ControlError):
            _happen(aws, action, product, bought)
    control.advance(40)
    life = Life([each.token for each in bought])
    life.now = control.now()
    for agreement in control.state()["agreements"]:
        begun, over = agreement["activates_at"], agreement["ended_at"]
        if begun is not None:
            until = datetime.fromisoformat(over) if over else life.now + HOUR
            life.active[agreement["agreement_id"]] = (datetime.fromisoformat(begun), until)
    life.messages = list(_received(aws))
    control.freeze(life.now + 62 * MINUTE)
    life.later = list(_received(aws))
    return life


def _happen(aws: Aws, action: str, product: str, bought: list[Subscription]) -> None:
    control, last = aws.control, bought[-1]
    match action:
        case "amend":
            control.amend(
                last.agreement_id, {"included_pages": 150} if "team" not in product else {"seats": 9}
            )
        case "renew":
            bought.append(control.renew(last.agreement_id))
        case "replace":
            bought.append(control.replace(last.agreement_id))
        case "resubscribe":
            control.cancel(last.agreement_id)
            control.advance(20 * MINUTE)
            bought.append(aws.buy(product, aws_account_id=last.aws_account_id))
        case "another":
            bought.append(aws.buy(product, aws_account_id=last.aws_account_id))
        case "stop auto-renewal":
            control.auto_renew(last.agreement_id, on=False)
        case _:
            getattr(control, action)(last.agreement_id)


def _received(aws: Aws) -> Iterator[QueueMessage]:
    queue = settings.MARKETPLACE_EVENT_QUEUES[0].replace(aws.simulator.url, "")
    url = f"{aws.simulator.url}{queue}"
    while messages := aws.marketplace.receive_messages(url, wait_seconds=0, visibility_seconds=60):
        yield from messages
        aws.marketplace.delete_messages(messages)


@dataclass(slots=True)
class Telling:
    """The app hears of a life: ``order`` are numbers of its messages, doubled ones too."""

    aws: Aws
    life: Life
    order: Sequence[int]
    registers_at: int
    owner: User
    organization: Organization | None = None

    def tell(self) -> dict[str, Any]:
        self.aws.control.freeze(self.life.now)
        mail.outbox.clear()
        place = min(self.registers_at, self.life.told_of_an_end(self.order))
        for turn, number in enumerate([*self.order, None]):
            if turn == place:
                self._register()
            if number is not None:
                self._deliver(self.life.messages[number], now=self.life.now)
        self._settle()
        return snapshot()

    def _register(self) -> None:
        """The buyer comes with the first purchase, and has used it before the app heard of anything."""
        now = self.life.now
        arrival = registration.arrive(
            self.aws.marketplace, token=self.life.tokens[0], free_trial_hint=False, now=now
        )
        with suppress(registration.PurchaseOver):
            agreement = registration.claim(arrival, by=self.owner, new_name="Acme", now=now)
            for ago in (3 * HOUR, 90 * MINUTE, 10 * MINUTE):
                usage_at = now - ago
                if not self.life.was_active(agreement.agreement_id, usage_at):
                    continue
                with suppress(usage.UsageRefused):
                    usage.record(
                        agreement.organization, "pages", 7, key=str(ago), occurred_at=usage_at,
                        agreement=agreement, now=now,
                    )  # fmt: skip

    def _deliver(self, message: QueueMessage, *, now: datetime) -> None:
        event = events.store(message, now=now)
        events.apply_received(now=now)
        event.refresh_from_db()
        assert not event.error, event.error

    def _settle(self) -> None:
        """Time goes on, and the jobs run, until everything is over that began."""
        for later in (timedelta(), 11 * MINUTE, 62 * MINUTE, 26 * HOUR):
            now = self.life.now + later
            self.aws.control.freeze(now)
            if later >= 62 * MINUTE:
                for message in self.life.later:
                    self._deliver(message, now=now)
            for _ in range(3):
                clock.advance(now=now)
                effects.run_due(self.aws.marketplace, now=now)
                metering.close_last_hours(region=REGION, now=now)
                metering.close_hours(region=REGION, now=now)
                submission.submit_due(self.aws.marketplace, now=now)


def make_owner(number: int) -> User:
    owner = User.objects.create_user(f"owner{number}@acme.example", PASSWORD)
    owner.emailaddress_set.create(email=owner.email, verified=True, primary=True)
    return owner


STATE = (
    "status", "activated_at", "ended_at", "end_reason", "access_until", "metering_closes_at",
    "term_starts_at", "term_ends_at", "offer_id", "free_trial", "trial_ends_at", "intent",
    "previous_agreement_id", "auto_renews", "advisory_issued_at", "flag_reason", "license_id",
)  # fmt: skip


def snapshot() -> dict[str, Any]:
    """All that must not depend on the order, by AWS's names for the purchases."""
    return {_name(agreement): _of(agreement) for agreement in Agreement.objects.order_by("pk")}


def _name(agreement: Agreement) -> str:
    return str(
        agreement.license_id or f"{agreement.customer.customer_identifier} from {agreement.activated_at}"
    )


def _of(agreement: Agreement) -> dict[str, Any]:
    previous = agreement.previous
    return {
        **{name: getattr(agreement, name) for name in STATE},
        "previous": _name(previous) if previous else None,
        "organization": agreement.organization.name if agreement.organization else None,
        "timeline": timeline(agreement),
        "mails": sorted(
            agreement.effects.filter(kind=Effect.Kind.MAIL).values_list("cause", "state", "outcome")
        ),
        "owed": list(agreement.effects.filter(state=Effect.State.DUE).exclude(kind=Effect.Kind.MAIL)
                     .values_list("kind", "cause", "error")),
        "uses": sorted(agreement.usage_events.values_list("key", "disposition")),
        "records": sorted(agreement.metering_records.values_list("hour", "used", "quantity", "state")),
    }  # fmt: skip


def timeline(agreement: Agreement) -> list[tuple[Any, ...]]:
    """What was in force from when until when: rows that say the same one after the other are one."""
    rows = [
        [row.dimension_key, row.value, row.expires_at, row.valid_from, row.valid_to]
        for row in agreement.entitlements.order_by("dimension_key", "valid_from")
    ]
    for row, following in pairwise(list(rows)):
        if row[:3] == following[:3] and row[4] == following[3]:
            following[3] = row[3]
            rows.remove(row)
    return [tuple(row) for row in rows]


def kinds(life: Life) -> list[str]:
    """For reading a failure."""
    told = []
    for message in life.messages:
        body = json.loads(message.body)
        told.append(body.get("detail-type") or json.loads(body["Message"])["action"])
    return told

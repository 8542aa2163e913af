"""Which purchase an SNS notification is about. Legacy listings name the buyer, not the purchase.

A buyer has one purchase of a legacy product at a time, and may have several one after the other. They are
told in any order, so what belongs together is found anew from all notifications whenever one comes: an
earlier answer may have rested on too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from billing import audit, clock, customers, lifecycle
from billing.fold import State, step
from billing.inbox.notifications import Notification, Type
from billing.models import Agreement, MarketplaceCustomer, MarketplaceEvent, Product

Status = Agreement.Status
Inbox = MarketplaceEvent.State


@dataclass(slots=True)
class Purchase:
    """What belongs together, in order: keys of the notifications, and the state they add up to."""

    began_at: datetime | None = None

    state: State = field(default_factory=State)
    keys: list[int] = field(default_factory=list)
    subscriptions: list[int] = field(default_factory=list)


def partition(told: Iterable[tuple[int, Notification]], *, bought_anew: bool = False) -> list[Purchase]:
    """Pure. A subscription after the last hour of the purchase before begins another one.

    After a failed payment it is the same one, paid at last; unless the buyer has ``bought_anew`` since.
    """
    purchases = [Purchase()]
    for key, notification in sorted(told, key=lambda each: each[1].order):
        if notification.type is Type.SUBSCRIBED:
            has_failed = purchases[-1].state.status == Status.FAILED and bought_anew
            if has_failed or _is_over(purchases[-1].state, notification.occurred_at):
                purchases.append(Purchase())
            purchases[-1].began_at = purchases[-1].began_at or notification.occurred_at
            purchases[-1].subscriptions.append(key)
        purchases[-1].state = step(purchases[-1].state, notification)
        purchases[-1].keys.append(key)
    return purchases


def agreement_of(
    product: Product, notification: Notification, event: MarketplaceEvent, *, now: datetime
) -> Agreement | None:
    """The notification's agreement, locked; made if it is a subscription that nobody knows of."""
    rows = _rows(product, notification.customer_identifier)
    if not rows:
        return _new(product, notification, now=now) if notification.type is Type.SUBSCRIBED else None
    channels = [MarketplaceEvent.Channel.SNS]
    if len(rows) > 1:
        # Of several, what was read at AWS tells too which is over. Of one, a subscription says: it goes on.
        channels.append(MarketplaceEvent.Channel.READING)
    told: dict[int, tuple[int | None, Notification]] = {
        pk: (agreement, Notification.from_json(payload))
        for pk, agreement, payload in MarketplaceEvent.objects.filter(
            agreement__in=rows, channel__in=channels, state=Inbox.APPLIED
        ).values_list("pk", "agreement_id", "payload")
    }
    told[event.pk] = (None, notification)
    owners = {pk: agreement for pk, (agreement, _) in told.items() if agreement is not None}
    fresh = [row for row in rows if row.status == Status.PENDING and row.pk not in owners.values()]
    purchases = partition(
        ((pk, each) for pk, (_, each) in told.items()), bought_anew=bool(fresh) and len(rows) > 1
    )
    if len(purchases) == 1 and len(rows) == 1:
        return rows[0]
    assigned = _assigned(purchases, rows, owners)
    return _settle(purchases, assigned, owners, product, notification, event, now=now)


def _is_over(state: State, at: datetime) -> bool:
    """Whether a subscription at that instant is another purchase. Within the last hour it is the same one."""
    if state.status == Status.ENDED:
        return True  # AWS says that it is, and it says "about" an hour
    return state.metering_closes_at is not None and at >= state.metering_closes_at


def _rows(product: Product, customer_identifier: str | None) -> list[Agreement]:
    """The buyer's purchases of the product, the oldest first, all locked."""
    pks = Agreement.objects.filter(
        product=product,
        customer__customer_identifier=customer_identifier,
        identity=Agreement.Identity.LEGACY,
    ).values_list("pk", flat=True)
    return sorted(
        customers.lock_many(list(pks)), key=lambda row: (row.activated_at or row.created_at, row.pk)
    )


def _assigned(
    purchases: Sequence[Purchase], rows: Sequence[Agreement], owners: Mapping[int, int]
) -> list[Agreement | None]:
    """Which row is which purchase: the one that has its subscription, its other events, else its turn."""
    free = list(rows)
    assigned: dict[int, Agreement] = {}
    # A row that was taken for several of them was made, and claimed, for the newest that had begun by then.
    for place, purchase in reversed(list(enumerate(purchases))):
        has = {owners.get(key) for key in purchase.subscriptions}
        found = next((row for row in free if row.pk in has and _had_begun(purchase, row)), None)
        if found is not None:
            assigned[place] = found
            free.remove(found)
    by_subscription = [purchase.subscriptions for purchase in purchases]
    by_any_event = [purchase.keys for purchase in purchases]
    for place, keys in [*enumerate(by_subscription), *enumerate(by_any_event)]:
        has = {owners.get(key) for key in keys}
        found = next((row for row in free if row.pk in has), None)
        if place not in assigned and found is not None:
            assigned[place] = found
            free.remove(found)
    # Rows that no event has reached yet were made by a buyer's arrival: of the purchase that is newest.
    for place in reversed(range(len(purchases))):
        fresh = next((row for row in reversed(free) if row.activated_at is None), None)
        if place not in assigned and fresh is not None:
            assigned[place] = fresh
            free.remove(fresh)
    return [assigned.get(place) for place in range(len(purchases))]


def _had_begun(purchase: Purchase, row: Agreement) -> bool:
    return purchase.began_at is not None and purchase.began_at <= row.created_at


def _settle(
    purchases: Sequence[Purchase],
    rows: Sequence[Agreement | None],
    owners: Mapping[int, int],
    product: Product,
    notification: Notification,
    event: MarketplaceEvent,
    *,
    now: datetime,
) -> Agreement:
    """Move events that turn out to be another purchase's; the older first, as only one may be live."""
    mine: Agreement | None = None
    for place, (purchase, row) in enumerate(zip(purchases, rows, strict=True)):
        is_last = place == len(purchases) - 1
        if row is None:
            row = (_new if is_last else _new_past)(product, notification, now=now)
        moved = [key for key in purchase.keys if owners.get(key, row.pk) != row.pk]
        MarketplaceEvent.objects.filter(pk__in=moved).update(agreement=row)
        if event.pk in purchase.keys:
            mine = row
            MarketplaceEvent.objects.filter(pk=event.pk).update(agreement=row, state=Inbox.APPLIED)
        if not is_last and purchase.state.status == Status.ENDING:
            _close_window(row, purchase.state, now=now)
        lifecycle.bring_up_to_date(row, by="aws", now=now)
    assert mine is not None
    return mine


def _new(product: Product, notification: Notification, *, now: datetime) -> Agreement:
    return customers.get_agreement(
        product=product,
        customer=_customer(notification),
        license_arn=None,
        agreement_id=None,
        offer_id=notification.offer_id,
        now=now,
        by="aws",
    )


def _new_past(product: Product, notification: Notification, *, now: datetime) -> Agreement:
    """Of a purchase that was over before another began that we heard of first."""
    row = Agreement.objects.create(
        product=product,
        customer=_customer(notification),
        identity=Agreement.Identity.LEGACY,
        status=Status.FAILED,  # not live, until its events are folded
        created_at=now,
    )
    audit.record(row, "agreement_created", by="aws", at=now)
    return row


def _customer(notification: Notification) -> MarketplaceCustomer:
    return customers.get_customer(aws_account_id=None, customer_identifier=notification.customer_identifier)


def _close_window(row: Agreement, state: State, *, now: datetime) -> None:
    """The buyer subscribed again after its last hour, so that is over, whatever the clock said yet."""
    assert state.metering_closes_at is not None
    said = clock.window_over(row, state.metering_closes_at)
    lifecycle.keep(said, now=now, agreement=row, state=Inbox.APPLIED)

"""The inbox: every notification is stored once before anything is done about it.

What cannot be parsed is stored as failed; what cannot be applied yet stays and is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import CharField, Model, Q

from accounts import log_context
from billing import customers, flags, legacy, lifecycle
from billing.aws.types import QueueMessage
from billing.inbox.notifications import Notification, Type, Unparsable, parse
from billing.models import Agreement, MarketplaceCustomer, MarketplaceEvent, Product
from billing.models.events import MarketplaceEventQuerySet

logger = logging.getLogger(__name__)

State = MarketplaceEvent.State

# An agreement replays what waited for it; this long a sweep looks too, for those that passed each other by.
SWEPT = timedelta(days=1)

# How long an event that failed is put off, first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=20), timedelta(hours=1)
# Every so many failures in a row alarm again: with these pauses that is more than a day apart.
_ALARM_EVERY = 32
_ALARMED_AT_ONCE = 1000
_CHUNK = 500


def store(message: QueueMessage, *, now: datetime) -> MarketplaceEvent:
    """Commit one message to the inbox; a message that is there already is left as it is."""
    # PostgreSQL keeps no NUL, and no half of a surrogate pair.
    body = message.body.replace("\x00", "\\u0000").encode(errors="backslashreplace").decode()
    try:
        notification = parse(message)
    except Unparsable as error:
        logger.error("Message %s of the event queue is unparsable: %s", message.message_id, error)
        event, _ = MarketplaceEvent.objects.get_or_create(
            channel=MarketplaceEvent.Channel.EVENTBRIDGE,
            source_id=message.message_id,
            defaults={
                "kind": "unparsable",
                "occurred_at": message.sent_at or now,
                "received_at": now,
                "body": body,
                "state": State.FAILED,
                "error": str(error),
            },
        )
        return event
    return store_read(notification, body=body, now=now)


def store_read(notification: Notification, *, body: str, now: datetime) -> MarketplaceEvent:
    """Commit what a body was read to say; a notification that is there already is left as it is."""
    if notification.offer_id and len(notification.offer_id) > _room(Agreement, "offer_id"):
        # Told, but nothing hangs on it: the body keeps it.
        logger.warning("Event %s: its offer_id is longer than our column", notification.source_id[:200])
        notification = replace(notification, offer_id=None)
    event, _ = MarketplaceEvent.objects.get_or_create(
        channel=notification.channel,
        source_id=notification.source_id[:200],
        defaults={
            "kind": notification.name[:120],
            "occurred_at": notification.occurred_at,
            "received_at": now,
            "body": body,
            "payload": notification.to_json(),
            **_names(notification),
        },
    )
    return event


def _names(notification: Notification) -> dict[str, str | None]:
    """By what the event is found again; a name that no column holds stays in the payload alone."""
    license_id = None
    if notification.license_arn:
        with suppress(ValueError):
            license_id = customers.license_id(notification.license_arn)
    names = {
        "license_id": license_id,
        "aws_agreement_id": notification.agreement_id,
        "customer_identifier": notification.customer_identifier,
    }
    return {
        column: name if name and len(name) <= _room(MarketplaceEvent, column) else None
        for column, name in names.items()
    }


def apply_received(*, now: datetime) -> None:
    """Apply every stored event that has not been, oldest first. One that fails is kept and tried again."""
    _apply_each(MarketplaceEvent.objects.filter(state=State.RECEIVED), now=now)


def apply_waiting(*, now: datetime) -> None:
    """Look once more at what waits for its agreement.

    An event and the purchase it belongs to may be stored at the same moment, each unseen by the other.
    """
    _apply_each(MarketplaceEvent.objects.filter(state=State.WAITING, received_at__gt=now - SWEPT), now=now)


def alarm_of_waiting(*, now: datetime) -> int:
    """Tell people, once of each event, what waits for longer than a day. Returns how many."""
    waiting = MarketplaceEvent.objects.filter(
        state=State.WAITING, received_at__lte=now - SWEPT, alarmed_at=None
    ).order_by("pk")
    pks = list(waiting.values_list("pk", flat=True)[:_ALARMED_AT_ONCE])
    if pks:
        logger.error(
            "%d events have waited for their agreement for more than a day, the first: %s. Their purchases "
            "were never paid, or License Updated was lost: look for the agreement ids in AWS Marketplace.",
            len(pks),
            ", ".join(str(pk) for pk in pks[:10]),
        )
        MarketplaceEvent.objects.filter(pk__in=pks).update(alarmed_at=now)
    return len(pks)


def _apply_each(events: MarketplaceEventQuerySet, *, now: datetime) -> None:
    for pk, attempts in _in_order(events.due(now)):
        try:
            apply(pk, now=now)
        except Exception as error:  # one event's trouble must not keep the others from being applied
            # An alarm is mailed: one for each try would drown the others.
            level = logging.WARNING if attempts % _ALARM_EVERY else logging.ERROR
            logger.log(level, "Event %s could not be applied", pk, exc_info=True)
            MarketplaceEvent.objects.filter(pk=pk).update(
                error=f"{type(error).__name__}: {error}",
                attempts=attempts + 1,
                next_attempt_at=now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempts, 10)),
            )


def _in_order(events: MarketplaceEventQuerySet) -> Iterator[tuple[int, int]]:
    """Key and failures so far of each, by time. Of ten thousand that waited, some hundred are in memory."""
    further = events.order_by("occurred_at", "pk").values_list("pk", "attempts", "occurred_at")
    while rows := list(further[:_CHUNK]):
        yield from ((pk, attempts) for pk, attempts, _ in rows)
        pk, _, at = rows[-1]
        further = further.filter(Q(occurred_at__gt=at) | Q(occurred_at=at, pk__gt=pk))


@transaction.atomic
def apply(event_pk: int, *, now: datetime) -> None:
    """Find or make the event's agreement and bring its state up to date."""
    open_events = MarketplaceEvent.objects.filter(state__in=[State.RECEIVED, State.WAITING])
    # Who holds it applies it: waiting for them would only find it done.
    locked = open_events.defer("body").select_for_update(
        skip_locked=connection.features.has_select_for_update_skip_locked
    )
    event = locked.filter(pk=event_pk).first()
    if event is None:
        return
    notification = Notification.from_json(event.payload)
    too_long = _too_long(notification)
    try:
        agreement = None if too_long else _agreement_of(notification, event, now=now)
    except customers.Contradicted as error:
        # Another try cannot help, and to guess would end or bill the wrong purchase.
        flagged = customers.lock(error.agreement.pk)
        flags.raise_flag(flagged, error.reason, at=now)
        _settle(event, State.FAILED, agreement=flagged, error=error.reason)
        return
    if agreement is not None:
        if notification.type is Type.OTHER:
            _settle(event, State.UNKNOWN, agreement=agreement)
            return
        with log_context.about(agreement=agreement.pk):
            lifecycle.apply(event, agreement, now=now)
            lifecycle.replay_waiting(agreement, now=now)
    elif _is_foreign(notification):
        _settle(event, State.FOREIGN)
    elif notification.type is Type.OTHER:
        _settle(event, State.UNKNOWN)
    elif too_long:
        # Another try cannot help, and a shortened id is somebody else's.
        reason = f"Longer than our column: {', '.join(too_long)}"
        logger.error("Event %s cannot be applied. %s", event.pk, reason)
        _settle(event, State.FAILED, error=reason)
    else:
        _settle(event, State.WAITING)


def _is_foreign(notification: Notification) -> bool:
    """Whether it names a product, and that is not ours."""
    if notification.product_code:
        return not Product.objects.filter(code=notification.product_code).exists()
    if notification.product_id:
        return not Product.objects.filter(product_id=notification.product_id).exists()
    return False


def reopen_foreign(products: Collection[Product]) -> None:
    """Products are in the catalog, or have ids, that they had not: what was foreign is applied when due."""
    by_code = Q(payload__product_code__in=[product.code for product in products])
    by_id = Q(
        payload__product_code__isnull=True,
        payload__product_id__in=[product.product_id for product in products],
    )
    # One that is being applied at this moment does not see the products yet: it is waited for.
    seen = MarketplaceEvent.objects.filter(state__in=[State.FOREIGN, State.RECEIVED])
    seen.filter(by_code | by_id).update(state=State.RECEIVED, next_attempt_at=None)


def _settle(
    event: MarketplaceEvent, state: State, *, agreement: Agreement | None = None, error: str = ""
) -> None:
    event.state = state
    event.agreement = agreement
    event.error = error
    event.save(update_fields=["state", "agreement", "error"])


def _room(model: type[Model], column: str) -> int:
    field = model._meta.get_field(column)
    assert isinstance(field, CharField)
    assert field.max_length is not None
    return field.max_length


def _too_long(notification: Notification) -> list[str]:
    """The ids of the event that no column of ours holds."""
    ids = {
        "agreement_id": (notification.agreement_id, _room(Agreement, "agreement_id")),
        "license_arn": (notification.license_arn, _room(Agreement, "license_arn")),
        "aws_account_id": (notification.aws_account_id, _room(MarketplaceCustomer, "aws_account_id")),
        "customer_identifier": (
            notification.customer_identifier,
            _room(MarketplaceCustomer, "customer_identifier"),
        ),
    }
    found = [name for name, (text, room) in ids.items() if text and len(text) > room]
    license_id = (notification.license_arn or "").replace("/", ":").rpartition(":")[2]
    if len(license_id) > _room(Agreement, "license_id") and "license_arn" not in found:
        found.append("license_arn")
    return found


def _agreement_of(notification: Notification, event: MarketplaceEvent, *, now: datetime) -> Agreement | None:
    """The event's agreement, locked. A purchase is made known by its first event, buyer or no buyer."""
    found = None
    if notification.license_arn:
        found = Agreement.objects.filter(license_id=customers.license_id(notification.license_arn)).first()
    if found is None and notification.agreement_id:
        found = Agreement.objects.filter(agreement_id=notification.agreement_id).first()
    if found is not None:
        locked = customers.lock(found.pk)
        if not customers.learn_from(locked, notification):
            raise customers.Contradicted(locked, customers.OTHER_LICENSE)
        return locked
    product = Product.objects.filter(code=notification.product_code).first()
    if product is None:
        return None
    if notification.type is Type.LICENSE_UPDATED and notification.license_arn and notification.aws_account_id:
        return customers.get_agreement(
            product=product,
            customer=customers.get_customer(
                aws_account_id=notification.aws_account_id, customer_identifier=None
            ),
            license_arn=notification.license_arn,
            agreement_id=notification.agreement_id,
            offer_id=notification.offer_id,
            now=now,
            by="aws",
        )
    if notification.customer_identifier:
        return legacy.agreement_of(product, notification, event, now=now)
    return None

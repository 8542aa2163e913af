"""An event of the inbox is applied once more, because an operator says so.

What AWS sent is never changed. Where a newer version of this project reads more out of it, it is stored again
as another event, and the old one says so.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from billing import audit, customers, events
from billing.aws.types import QueueMessage
from billing.decision_rules import Refused, changed_since
from billing.inbox.notifications import Notification, Type, Unparsable, parse
from billing.models import MarketplaceEvent

logger = logging.getLogger(__name__)

State = MarketplaceEvent.State
Channel = MarketplaceEvent.Channel


def check(event: MarketplaceEvent) -> bool:
    """Whether it may be applied again (False: it is applied). Raises Refused."""
    match event.state:
        case State.APPLIED | State.REPLAYED:
            return False
        case State.UNKNOWN if not _reads_more(event):
            raise Refused(
                _("This version of the software does not know its kind either. Nothing depends on it.")
            )
        case State.FAILED if not event.payload and _read(event) is None:
            raise Refused(_("Its body still cannot be read. Look at it below, as it was received."))
        case _open:
            return True


def replay(event_pk: int, *, by: User, reason: str, now: datetime, seen: str | None = None) -> bool:
    """Apply it. Returns whether anything was done; raises Refused, which also says what came of it."""
    with transaction.atomic():
        locked = MarketplaceEvent.objects.select_for_update(no_key=True)
        event = locked.get(pk=event_pk)
        if not check(event):
            return False
        if seen is not None and seen != event.state:
            raise Refused(changed_since(str(State(seen).label), event.get_state_display()))
        taken = _store_again(event, now=now) if _reads_more(event) else _reopen(event)
        stream = audit.STAFF if event.agreement_id is None else customers.lock(event.agreement_id)
        audit.record(stream, "event_replayed", by=by, at=now, reason=reason, event=event.pk, applied=taken)
    try:
        events.apply(taken, now=now)
    except Exception as error:  # it stays in the inbox, which tries it again
        logger.warning("Event %s could not be replayed", taken, exc_info=True)
        MarketplaceEvent.objects.filter(pk=taken).update(error=f"{type(error).__name__}: {error}")
        raise Refused(_("Applying it failed: it is tried again by itself. Its page says why.")) from error
    _refuse_if_still_open(MarketplaceEvent.objects.get(pk=taken))
    return True


def _refuse_if_still_open(event: MarketplaceEvent) -> None:
    match event.state:
        case State.APPLIED:
            return
        case State.WAITING:
            raise Refused(
                _("Its purchase is not known yet: it waits, and is applied as soon as the buyer comes.")
            )
        case State.FOREIGN:
            raise Refused(_("It is not about a product of the catalog."))
        case _failed:
            raise Refused(_("It still cannot be applied. Its page says why."))


def _reopen(event: MarketplaceEvent) -> int:
    event.state, event.error, event.next_attempt_at = State.RECEIVED, "", None
    event.save(update_fields=["state", "error", "next_attempt_at"])
    return event.pk


def _store_again(event: MarketplaceEvent, *, now: datetime) -> int:
    """As what it is understood to be by now; the old one stays as it came, and is done with."""
    notification = _read(event)
    assert notification is not None
    if (notification.channel, notification.source_id) == (event.channel, event.source_id):
        notification = replace(notification, source_id=f"{event.source_id[:180]}#{event.pk}")
    again = events.store_read(notification, body=event.body, now=now)
    event.state, event.error = State.REPLAYED, f"Read again as event {again.pk}"
    event.save(update_fields=["state", "error"])
    return again.pk


def _reads_more(event: MarketplaceEvent) -> bool:
    """Whether its body says more to us than it did when it came."""
    if event.state == State.FAILED and event.payload:
        return False
    if event.state not in (State.FAILED, State.UNKNOWN):
        return False
    notification = _read(event)
    return notification is not None and notification.type is not Type.OTHER


def _read(event: MarketplaceEvent) -> Notification | None:
    if event.channel not in (Channel.EVENTBRIDGE, Channel.SNS):
        return None
    message = QueueMessage("", event.source_id, "", event.body, event.occurred_at)
    try:
        return parse(message)
    except Unparsable:
        return None

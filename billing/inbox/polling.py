"""Takes messages from an event queue into the inbox: stored, committed, and only then deleted.

SQS hides what it hands out for a while and then hands it out again, to anybody. So a consumer may die at any
line: what it had in hand comes again and is recognized.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from django.db import DataError, IntegrityError

from billing import events
from billing.aws.errors import MarketplaceError
from billing.aws.types import Marketplace, QueueMessage

logger = logging.getLogger(__name__)

VISIBILITY = 60  # seconds, far beyond what ten inserts take


def poll(
    marketplace: Marketplace,
    queue_url: str,
    *,
    now: datetime,
    heard: Sequence[QueueMessage] | None = None,
    visibility_seconds: int = VISIBILITY,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Take in one queue's messages until it is empty, then apply the inbox. Returns how many came.

    ``heard`` is what a long poll brought just now: whoever listens learns what time it is only afterwards.
    Not inside a transaction: what is deleted from the queue would not be committed yet. Raises
    MarketplaceError.
    """

    def receive() -> Sequence[QueueMessage]:
        return marketplace.receive_messages(queue_url, wait_seconds=0, visibility_seconds=visibility_seconds)

    taken = 0
    try:
        messages = receive() if heard is None else heard
        while messages:
            taken += _take_in(
                marketplace, messages, now=now, visibility_seconds=visibility_seconds, clock=clock
            )
            messages = receive()
    finally:
        # What is stored does not wait for AWS to answer again.
        events.apply_received(now=now)
    return taken


def _take_in(
    marketplace: Marketplace,
    messages: Sequence[QueueMessage],
    *,
    now: datetime,
    visibility_seconds: int,
    clock: Callable[[], float],
) -> int:
    """Store one batch and delete it. Returns how many messages could be stored."""
    taken, hidden_at = 0, clock()
    undeleted: list[QueueMessage] = []
    for place, message in enumerate(messages):
        if clock() - hidden_at > visibility_seconds / 2:
            # The database is slow: nobody else is to be given what is still in hand.
            marketplace.delete_messages(undeleted)
            undeleted = []
            _keep_hidden(marketplace, messages[place:], seconds=visibility_seconds)
            hidden_at = clock()
        if _is_stored(message, now=now):
            undeleted.append(message)
            taken += 1
    marketplace.delete_messages(undeleted)
    return taken


def _keep_hidden(marketplace: Marketplace, messages: Sequence[QueueMessage], *, seconds: int) -> None:
    """Without it a message may be taken in twice, which changes nothing: so its failure stops nothing."""
    try:
        marketplace.extend_visibility(messages, seconds=seconds)
    except MarketplaceError as error:
        logger.warning("Messages in hand may be handed out twice: %s", error)


def _is_stored(message: QueueMessage, *, now: datetime) -> bool:
    """A message that cannot be stored stays for its queue's dead letters, and stops no other."""
    try:
        events.store(message, now=now)
    except (DataError, IntegrityError, ValueError):
        logger.exception("Message %s of the event queue cannot be stored", message.message_id)
        return False
    return True

"""SQS standard queues over one table of messages.

Visibility timeouts run on real time, because SDKs wait in real time; so does what a receipt handle names.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from billing.simulator.tables import Table

DEFAULT_VISIBILITY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Queue:
    """How one queue is set up, and which of AWS's channels end in it."""

    name: str
    visibility_seconds: int = DEFAULT_VISIBILITY_SECONDS
    receives: tuple[Literal["eventbridge", "sns"], ...] = ("eventbridge", "sns")
    dead_letter_queue: str | None = None
    max_receives: int = 5
    """Received this often and still not deleted, a message moves to the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class Message:
    queue: str
    body: str
    sent_at: datetime
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    visible_at: float = 0.0
    """Real epoch seconds."""
    receive_count: int = 0
    first_received_at: datetime | None = None
    moved_from: str | None = None
    """The queue it was dead-lettered from."""

    @property
    def md5(self) -> str:
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()

    def is_in_flight(self) -> bool:
        return self.visible_at > time.time()


Messages = Table[str, Message]


def send(messages: Messages, queue: str, body: str, *, sent_at: datetime) -> Message:
    message = Message(queue, body, sent_at)
    messages[message.message_id] = message
    return message


def receive(
    messages: Messages, queue: Queue, *, limit: int, visibility_seconds: int, now: datetime
) -> list[tuple[Message, str]]:
    """Up to ``limit`` visible messages with a fresh receipt handle each, in the order they were sent."""
    received: list[tuple[Message, str]] = []
    for message in list(of(messages, queue.name)):
        if len(received) == limit:
            break
        if message.is_in_flight():
            continue
        if queue.dead_letter_queue and message.receive_count >= queue.max_receives:
            _bury(messages, message, queue.dead_letter_queue)
            continue
        message = replace(
            message,
            visible_at=time.time() + visibility_seconds,
            receive_count=message.receive_count + 1,
            first_received_at=message.first_received_at or now,
        )
        messages[message.message_id] = message
        received.append((message, _handle(message)))
    return received


def of(messages: Messages, queue: str) -> Iterator[Message]:
    return (message for message in messages.data.values() if message.queue == queue)


def delete(messages: Messages, handle: str) -> bool:
    """False for a handle that was never given out; deleting twice is fine, as in SQS."""
    message_id = message_id_of(handle)
    if message_id is None:
        return False
    if message_id in messages:
        del messages[message_id]
    return True


def message_id_of(handle: str) -> str | None:
    """A receipt handle names its message, so that it outlives a restart; None for one that is not ours."""
    try:
        kind, message_id, _ = base64.urlsafe_b64decode(handle).decode().split(":")
        return str(uuid.UUID(message_id)) if kind == "receipt" else None
    except ValueError:
        return None


def hide(messages: Messages, message: Message, *, seconds: float) -> None:
    """Keep it from receivers for so long, from now."""
    messages[message.message_id] = replace(message, visible_at=time.time() + seconds)


def seconds_until_visible(messages: Messages, queue: str) -> float | None:
    """Real seconds until the next message in flight comes back; None when none is in flight."""
    waits = [message.visible_at - time.time() for message in of(messages, queue) if message.is_in_flight()]
    return min(waits, default=None)


def _bury(messages: Messages, message: Message, dead_letter_queue: str) -> None:
    """A move keeps id, body and sent time, as in SQS; the count starts anew."""
    del messages[message.message_id]
    messages[message.message_id] = replace(
        message, queue=dead_letter_queue, visible_at=0.0, receive_count=0, moved_from=message.queue
    )


def _handle(message: Message) -> str:
    receipt = f"receipt:{message.message_id}:{secrets.token_hex(8)}"
    return base64.urlsafe_b64encode(receipt.encode()).decode()

"""SQS standard queues over one table of messages.

Visibility timeouts run on real time, because SDKs wait in real time; so does what a receipt handle names.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
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
    secret: str = field(default_factory=lambda: secrets.token_hex(8))
    """What only its receipt handles can know."""

    @property
    def md5(self) -> str:
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()

    def is_in_flight(self) -> bool:
        return self.visible_at > time.time()


class Messages(Table[str, Message]):
    """The messages of all queues, and of each queue in what order they can be received."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] | None = None
        super().__init__()

    def __setitem__(self, key: str, value: Message) -> None:
        super().__setitem__(key, value)
        if self._lines is not None:
            self._line(value.queue).add(value)

    def line(self, queue: str) -> _Line:
        """Made when first needed, so that the table may be filled in any way before."""
        if self._lines is None:
            self._lines = {}
            for message in self.data.values():
                self._line(message.queue).add(message)
        return self._line(queue)

    def _line(self, queue: str) -> _Line:
        assert self._lines is not None
        if queue not in self._lines:
            self._lines[queue] = _Line(queue)
        return self._lines[queue]


class _Line:
    """Who is next in one queue. An entry left behind when its message changed is passed over when met."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._ready: list[tuple[int, str]] = []
        self._hidden: list[tuple[float, str]] = []
        self._places: dict[str, int] = {}
        self._next_place = 0

    def add(self, message: Message) -> None:
        if message.message_id not in self._places:
            self._places[message.message_id] = self._next_place
            self._next_place += 1
        if message.is_in_flight():
            heapq.heappush(self._hidden, (message.visible_at, message.message_id))
        else:
            heapq.heappush(self._ready, (self._places[message.message_id], message.message_id))

    def take(self, messages: Messages) -> Iterator[Message]:
        """Those that are visible, in the order they were sent; what is taken must be written anew."""
        while self.next_visible_at(messages) is not None and self._hidden[0][0] <= time.time():
            _, message_id = heapq.heappop(self._hidden)
            heapq.heappush(self._ready, (self._places[message_id], message_id))
        taken: set[str] = set()
        while self._ready:
            _, message_id = heapq.heappop(self._ready)
            message = self._still_here(messages, message_id)
            if message is not None and not message.is_in_flight() and message_id not in taken:
                taken.add(message_id)
                yield message

    def next_visible_at(self, messages: Messages) -> float | None:
        """When the first message in flight comes back."""
        while self._hidden:
            visible_at, message_id = self._hidden[0]
            message = self._still_here(messages, message_id)
            if message is not None and message.visible_at == visible_at:
                return visible_at
            heapq.heappop(self._hidden)
        return None

    def _still_here(self, messages: Messages, message_id: str) -> Message | None:
        message = messages.data.get(message_id)
        if message is None or message.queue != self._queue:
            self._places.pop(message_id, None)
            return None
        return message


def send(messages: Messages, queue: str, body: str, *, sent_at: datetime) -> Message:
    message = Message(queue, body, sent_at)
    messages[message.message_id] = message
    return message


def receive(
    messages: Messages, queue: Queue, *, limit: int, visibility_seconds: int, now: datetime
) -> list[tuple[Message, str]]:
    """Up to ``limit`` visible messages with a fresh receipt handle each, in the order they were sent."""
    chosen: list[Message] = []
    for message in messages.line(queue.name).take(messages):
        if queue.dead_letter_queue and message.receive_count >= queue.max_receives:
            _bury(messages, message, queue.dead_letter_queue)
            continue
        chosen.append(message)
        if len(chosen) == limit:
            break
    received = []
    for message in chosen:
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


def delete(messages: Messages, queue: str, handle: str) -> None:
    """Raises BadHandle; deleting twice is fine, as in SQS."""
    if (message := named_by(messages, queue, handle)) is not None:
        del messages[message.message_id]


def hide(messages: Messages, message: Message, *, seconds: float) -> None:
    """Keep it from receivers for so long, from now."""
    messages[message.message_id] = replace(message, visible_at=time.time() + seconds)


def redrive(messages: Messages, dead_letter_queue: str, source: str) -> int:
    """Move dead letters back to where they were dead-lettered from (else to ``source``); returns how many."""
    dead = list(of(messages, dead_letter_queue))
    for message in dead:
        _move(messages, message, message.moved_from or source, moved_from=None)
    return len(dead)


def seconds_until_visible(messages: Messages, queue: str) -> float | None:
    """Real seconds until the next message in flight comes back; None when none is in flight."""
    visible_at = messages.line(queue).next_visible_at(messages)
    return None if visible_at is None else max(0.0, visible_at - time.time())


class BadHandle(Exception):
    """``is_foreign``: it was given out by another queue. Otherwise by nobody."""

    def __init__(self, *, is_foreign: bool) -> None:
        super().__init__()
        self.is_foreign = is_foreign


def named_by(messages: Messages, queue: str, handle: str) -> Message | None:
    """A handle names its message, so that it outlives a restart. None once that is gone from the queue."""
    try:
        kind, of_queue, message_id, proof = base64.urlsafe_b64decode(handle).decode().split(":")
    except ValueError:
        raise BadHandle(is_foreign=False) from None
    if kind != "receipt":
        raise BadHandle(is_foreign=False)
    if of_queue != queue:
        raise BadHandle(is_foreign=True)
    message = messages.data.get(message_id)
    if message is None or message.queue != queue:
        return None
    if not secrets.compare_digest(proof.encode(), message.secret.encode()):
        raise BadHandle(is_foreign=False)
    return message


def _bury(messages: Messages, message: Message, dead_letter_queue: str) -> None:
    _move(messages, message, dead_letter_queue, moved_from=message.queue)


def _move(messages: Messages, message: Message, queue: str, *, moved_from: str | None) -> None:
    """A move keeps id, body and sent time, as in SQS; the count starts anew."""
    del messages[message.message_id]
    messages[message.message_id] = replace(
        message, queue=queue, visible_at=0.0, receive_count=0, moved_from=moved_from
    )


def _handle(message: Message) -> str:
    receipt = f"receipt:{message.queue}:{message.message_id}:{message.secret}"
    return base64.urlsafe_b64encode(receipt.encode()).decode()

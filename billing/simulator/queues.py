"""One SQS standard queue. Its visibility timeouts run on real time, because SDKs wait in real time."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime

DEFAULT_VISIBILITY_SECONDS = 30


@dataclass(slots=True)
class Message:
    body: str
    sent_at: datetime
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    visible_at: float = 0.0
    receive_count: int = 0
    first_received_at: datetime | None = None

    @property
    def md5(self) -> str:
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()


class Queue:
    """Not locked itself: callers hold the state's lock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.visibility_seconds = DEFAULT_VISIBILITY_SECONDS
        self._messages: dict[str, Message] = {}
        self._message_of_handle: dict[str, str] = {}

    def send(self, body: str, *, sent_at: datetime) -> Message:
        message = Message(body=body, sent_at=sent_at)
        self._messages[message.message_id] = message
        return message

    def receive(self, *, limit: int, visibility_seconds: int, now: datetime) -> list[tuple[Message, str]]:
        """Up to ``limit`` visible messages with a fresh receipt handle each, in the order they were sent."""
        moment = time.monotonic()
        received: list[tuple[Message, str]] = []
        for message in self._messages.values():
            if len(received) == limit:
                break
            if message.visible_at > moment:
                continue
            handle = secrets.token_urlsafe(48)
            message.visible_at = moment + visibility_seconds
            message.receive_count += 1
            message.first_received_at = message.first_received_at or now
            self._message_of_handle[handle] = message.message_id
            received.append((message, handle))
        return received

    def delete(self, handle: str) -> bool:
        """False for a handle that was never given out; deleting twice is fine, as in SQS."""
        message_id = self._message_of_handle.get(handle)
        if message_id is None:
            return False
        self._messages.pop(message_id, None)
        return True

    def find(self, handle: str) -> Message | None:
        return self._messages.get(self._message_of_handle.get(handle, ""))

    def is_handle(self, handle: str) -> bool:
        return handle in self._message_of_handle

    def seconds_until_visible(self) -> float | None:
        """Real seconds until the next message in flight comes back; None when none is in flight."""
        moment = time.monotonic()
        waits = [
            message.visible_at - moment for message in self._messages.values() if message.visible_at > moment
        ]
        return min(waits, default=None)

    @property
    def in_flight(self) -> int:
        moment = time.monotonic()
        return sum(message.visible_at > moment for message in self._messages.values())

    @property
    def visible(self) -> int:
        return len(self._messages) - self.in_flight

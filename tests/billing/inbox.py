"""A queue that says what no simulator does."""

from __future__ import annotations

from collections.abc import Iterable

from billing.aws.types import QueueMessage
from tests.billing.ledger import ScriptedAws


class Inbox(ScriptedAws):
    """Hands out batches, each of which may be an exception instead, and whose deleting can fail."""

    def __init__(
        self, *batches: list[QueueMessage] | BaseException, deleting: Exception | None = None
    ) -> None:
        super().__init__()
        self._batches = list(batches)
        self._deleting = deleting
        self.deleted: list[str] = []
        self.asked: list[tuple[int, int]] = []  # the wait and the visibility of each receive

    def receive_messages(
        self, queue_url: str, *, wait_seconds: int, visibility_seconds: int
    ) -> list[QueueMessage]:
        self.asked.append((wait_seconds, visibility_seconds))
        batch = self._batches.pop(0) if self._batches else []
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def delete_messages(self, messages: Iterable[QueueMessage]) -> None:
        if self._deleting:
            raise self._deleting
        self.deleted += [message.message_id for message in messages]

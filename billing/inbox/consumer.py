"""Listens to the event queues for as long as the process runs, each in a thread of its own.

What AWS says is applied within a moment of being said. Nothing here ends a listener but being told to: AWS or
the database that do not answer are asked again, less and less often.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import SimpleQueue

from django.db import Error as DatabaseTrouble
from django.db import close_old_connections, connection, connections
from django.utils import timezone

from billing import leases
from billing.aws.errors import MarketplaceError, Scope
from billing.aws.types import Marketplace, QueueMessage
from billing.inbox import polling

logger = logging.getLogger(__name__)

LONG_POLL = 20  # seconds: the longest that SQS knows
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds
# For a batch in hand when the process is told to stop: less than the 30 s after which platforms kill it.
_GRACE = 20.0
_ALARM_EVERY = timedelta(hours=1)


def consume(
    marketplace: Marketplace,
    queue_urls: Sequence[str],
    *,
    after: Callable[[], None],
    told: SimpleQueue[object],
) -> None:
    """Listen to every queue until something is put into ``told``, which a signal handler may do.

    ``after`` is called when messages were taken in. Raises what a listener died of: a process that goes on
    deaf would never be noticed.
    """
    stopped = threading.Event()
    listeners = [Listener(marketplace, queue_url, after) for queue_url in queue_urls]

    def listen(listener: Listener) -> None:
        try:
            listener.listen(stopped)
        except BaseException as error:  # taken, and raised again, by the main thread
            told.put(error)
        finally:
            connections.close_all()

    for listener in listeners:
        threading.Thread(target=listen, args=(listener,), name=listener.name, daemon=True).start()
    ending = told.get()
    stopped.set()
    until = time.monotonic() + _GRACE
    for listener in listeners:
        listener.finish(timeout=max(0.0, until - time.monotonic()))
    if isinstance(ending, BaseException):
        raise ending


def consume_once(marketplace: Marketplace, queue_urls: Sequence[str], *, after: Callable[[], None]) -> None:
    """Take in what lies in each queue now. Trouble with one is logged and keeps no other waiting."""
    for queue_url in queue_urls:
        Listener(marketplace, queue_url, after).turn(wait_seconds=0)


@dataclass(slots=True)
class Listener:
    """One queue's turns: hear, store, delete, apply."""

    marketplace: Marketplace
    queue_url: str
    after: Callable[[], None]
    now: Callable[[], datetime] = timezone.now
    _hands: threading.Lock = field(default_factory=threading.Lock)  # held while there is a batch in them

    @property
    def name(self) -> str:
        return self.queue_url.rpartition("/")[2]

    def listen(self, stopped: threading.Event, *, jitter: Callable[[], float] = random.random) -> None:
        """Turn after turn until ``stopped``; after trouble, pauses that grow and end with it."""
        failures = 0
        while not stopped.is_set():
            close_old_connections()
            if self.turn(wait_seconds=LONG_POLL):
                failures = 0
            else:
                stopped.wait(_pause(failures, jitter()))
                failures += 1

    def finish(self, *, timeout: float) -> bool:
        """Wait for the batch in hand, and let no other begin. A long poll is not waited for: it has none."""
        return self._hands.acquire(timeout=timeout)

    def turn(self, *, wait_seconds: int) -> bool:
        """Wait for messages and take them in. Returns False after trouble, which is logged."""
        try:
            return self._turn(wait_seconds)
        except DatabaseTrouble as error:
            logger.warning("Event queue %s: the database does not answer: %s", self.name, error)
            connection.close()
            return False

    def _turn(self, wait_seconds: int) -> bool:
        # Each time that SQS hands a message out brings it nearer to the dead letters: it is asked for none
        # while there is nowhere to store them.
        connection.ensure_connection()
        try:
            self._hear(wait_seconds)
        except MarketplaceError as error:
            self._tell(error)
            return False
        return True

    def _hear(self, wait_seconds: int) -> None:
        heard: Sequence[QueueMessage] = ()
        try:
            heard = self.marketplace.receive_messages(
                self.queue_url, wait_seconds=wait_seconds, visibility_seconds=polling.VISIBILITY
            )
        finally:
            # Without messages, and without AWS, too: an event that was put off may be due.
            self._take_in(heard)

    def _take_in(self, heard: Sequence[QueueMessage]) -> None:
        if not self._hands.acquire(blocking=False):
            return  # told to stop meanwhile: the messages come again
        try:
            polling.poll(self.marketplace, self.queue_url, now=self.now(), heard=heard)
        finally:
            # What was stored and applied before any trouble is owed too.
            if heard:
                self.after()
            self._hands.release()

    def _tell(self, error: MarketplaceError) -> None:
        # An error that is logged is mailed: once an hour, by whichever process is the first to meet it.
        alarms = error.scope is Scope.ACCOUNT and leases.first_in(
            f"queue:{self.name}"[:60], length=_ALARM_EVERY
        )
        logger.log(
            logging.ERROR if alarms else logging.WARNING,
            "Event queue %s: %s %s %s",
            self.name,
            error,
            error.meaning.explanation,
            error.meaning.fix,
        )


def _pause(failures: int, share: float) -> float:
    """Seconds before the next try: 1, 2, 4 … 60, of which ``share`` (0 to 1) decides the second half.

    Consumers that lost AWS together do not all come back at the same instant.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 10))
    return longest * (1 + share) / 2

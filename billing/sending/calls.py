"""Calls to AWS in flight: each in a thread that waits for its slot, calls, and does nothing else.

Threads touch no database and decide nothing; the one thread that does both takes the answers from here.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from billing import crashpoints
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable
from billing.aws.types import BatchAnswer, Marketplace
from billing.leases import Held
from billing.sending.batches import Batch
from billing.sending.pacing import Pace, Slot

logger = logging.getLogger(__name__)

MOST = 10  # at a time
_LINGER = 0.2  # seconds: for how long answers gather, until there are ENOUGH to be settled together
ENOUGH = 4 * MOST

Answer = BatchAnswer | MarketplaceError


@dataclass(slots=True)
class InFlight:
    """The calls handed in whose answers were not taken yet; those beyond MOST wait for a thread."""

    marketplace: Marketplace
    lease: Held
    pace: Pace
    count: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MOST, thread_name_prefix="metering")
    )
    _arrived: queue.SimpleQueue[tuple[Batch, Answer | BaseException]] = field(
        default_factory=queue.SimpleQueue
    )
    _refusals: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)  # one for each that arrived

    @property
    def was_refused(self) -> bool:
        """Whether AWS refused a call, and the answer was not taken yet: nothing else should leave before."""
        return not self._refusals.empty()

    def send(self, batch: Batch) -> None:
        self.count += 1
        self._threads.submit(self._run, batch, self.pace.reserve(batch.region))

    def take(self, *, timeout: float) -> list[tuple[Batch, Answer]]:
        """What has arrived: waits for the first, and a moment for others that can be settled with it."""
        found: list[tuple[Batch, Answer]] = []
        try:
            found.append(self._next(timeout))
            linger_until = time.monotonic() + _LINGER
            while self.count and isinstance(found[-1][1], BatchAnswer):  # what AWS refuses is heard at once
                patience = linger_until - time.monotonic() if len(found) < ENOUGH else 0
                found.append(self._next(max(patience, 0)))
        except queue.Empty:
            pass
        return found

    def _next(self, timeout: float) -> tuple[Batch, Answer]:
        batch, answer = self._arrived.get(timeout=timeout)
        self.count -= 1
        if isinstance(answer, MarketplaceError):
            self._refusals.get()
        if not isinstance(answer, BatchAnswer | MarketplaceError):
            raise answer  # the process is to end: its records stay in doubt
        return batch, answer

    def stop(self) -> None:
        """Let no call leave any more that has not left yet."""
        self._stopped.set()

    def close(self) -> None:
        self.stop()
        self._threads.shutdown()

    def _run(self, batch: Batch, slot: Slot) -> None:
        answer: Answer | BaseException
        try:
            answer = self._call(batch, slot)
        except MarketplaceError as error:
            answer = error
        except Exception as error:  # a defect: AWS may have taken the batch, and no other may wait for it
            logger.exception("Submission %s broke off: its records are in doubt", batch.submission)
            answer = MarketplaceUnavailable("NoAnswer", type(error).__name__)
        except BaseException as error:  # taken, and raised again, by the other thread
            answer = error
        if isinstance(answer, MarketplaceError):
            self._refusals.put(None)
        self._arrived.put((batch, answer))

    def _call(self, batch: Batch, slot: Slot) -> BatchAnswer:
        self.pace.wait_for(slot)
        while (pause := self.pace.pause_left) and not self._stopped.wait(pause):
            pass  # AWS said that the calls before this one were too many
        # A process that was stopped for long wakes up here: somebody else may be sending by now.
        if self._stopped.is_set() or not self.lease.is_fresh:
            raise MarketplaceUnavailable("NotSent", "The run ended before this call was made.")
        try:
            return self.marketplace.batch_meter_usage(batch.lines, region=batch.region)
        finally:
            crashpoints.reached("submission.sent")

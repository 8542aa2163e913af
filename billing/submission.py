"""Sending metering records to AWS: one submitter at a time, as fast as AWS's quota lets it.

A lease with a fencing token makes the one submitter. This thread alone reads and writes the database, while
up to ten calls are in flight in others. Whatever dies, the next run sends the identical bytes again and AWS
deduplicates.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from billing import audit, crashpoints, deadlines, jobs, leases
from billing.aws.errors import THROTTLED, MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.types import Marketplace
from billing.sending import batches, outcomes
from billing.sending.batches import Batch
from billing.sending.calls import MOST, Answer, InFlight
from billing.sending.pacing import Pace

logger = logging.getLogger(__name__)

LEASE = "submit_metering"
LEASE_LENGTH = timedelta(minutes=2)  # a call that begins in its first three quarters ends before it does
RUN_LENGTH = timedelta(minutes=10)  # then the next run goes on, with a fresh clock and lease

_RENEW_AFTER = LEASE_LENGTH / 8
_PATIENCE = _RENEW_AFTER.total_seconds()  # longest wait for anything before the lease is looked at
_MAX_FAILURES = 3  # in a row: AWS is down, the next run tries again
_MAX_THROTTLES = 6  # pauses in a row
_READY = 6 * MOST  # calls in flight or about to be
_AT_ONCE = 2 * MOST  # calls in a claim, at least: it costs little more than for one


@dataclass(slots=True)
class Run:
    """One submitter's turn."""

    marketplace: Marketplace
    lease: leases.Held
    started_at: datetime
    accepted: int = 0
    calls: int = 0  # that were answered, or failed
    failures: int = 0
    is_answered: bool = False
    stopped_by: MarketplaceError | None = None
    is_over: bool = False
    halves: deque[Batch] = field(default_factory=deque)
    pace: Pace = field(default_factory=lambda: Pace(settings.METERING_CALLS_PER_SECOND))
    _started: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        """A long run must see deadlines pass, on the caller's clock."""
        return self.started_at + timedelta(seconds=time.monotonic() - self._started)

    @property
    def may_go_on(self) -> bool:
        return (
            not self.is_over
            and self.stopped_by is None
            and self.failures < _MAX_FAILURES
            and self.pace.throttles < _MAX_THROTTLES
            and self.now < self.started_at + RUN_LENGTH
        )

    def room_for(self, handed_in: int) -> int:
        """How many more calls to make ready now: enough that none of the threads waits for the database.

        Few, until AWS is known to answer: what fails with it down is in doubt for nothing.
        """
        if not self.is_answered or self.failures:
            return _MAX_FAILURES - self.failures - handed_in
        room = _READY - handed_in
        return room if room >= _AT_ONCE else 0


def submit_due(marketplace: Marketplace, *, now: datetime) -> int:
    """Send what is due, soonest deadline first. Returns how many records AWS accepted.

    Returns 0 at once while another submitter is at work.
    """
    with leases.hold(LEASE, length=LEASE_LENGTH) as lease:
        if lease is None:
            return 0
        crashpoints.reached("submission.leased")
        deadlines.expire(now=now)
        run = Run(marketplace, lease, now)
        calls = InFlight(marketplace, lease, run.pace)
        try:
            _send_all(run, calls)
        except leases.LeaseLost:
            logger.warning("The submitter's lease went to another; stopping")
            run.is_over = True
            calls.stop()
            while calls.count:
                _believe(run, calls.take(timeout=_PATIENCE))
        finally:
            calls.close()
        if run.stopped_by is not None:
            error = run.stopped_by
            logger.critical(
                "Metering stopped: %s. %s %s", error.code, error.meaning.explanation, error.meaning.fix
            )
            jobs.went_past(error)
        run.pace.finish()
        if run.calls:
            _audit(run)
        return run.accepted


@transaction.atomic
def _audit(run: Run) -> None:
    """The run, not each record. The calls have its token, and say of each record what AWS said."""
    stopped = {"stopped_by": run.stopped_by.code} if run.stopped_by is not None else {}
    audit.record(
        audit.SYSTEM,
        "usage_submitted",
        by="job:submit_metering",
        at=run.now,
        token=run.lease.token,
        calls=run.calls,
        accepted=run.accepted,
        **stopped,
    )


def _send_all(run: Run, calls: InFlight) -> None:
    while True:
        if not run.may_go_on:
            calls.stop()
        elif not calls.was_refused and _send_some(run, calls):
            continue
        opens_in = run.pace.opens_in() if run.may_go_on else None
        wait = _PATIENCE if opens_in is None else min(_PATIENCE, max(opens_in, 0.001))
        if calls.count:
            _believe(run, calls.take(timeout=wait))
        elif opens_in is not None:
            time.sleep(wait)
        else:
            return
        if run.lease.age > _RENEW_AFTER:
            run.lease.renew()


def _send_some(run: Run, calls: InFlight) -> bool:
    """Claim and send what may leave now. Returns whether there may be more to send at once."""
    free = run.room_for(calls.count)
    picked = _pick(run, most=free) if free > 0 and not run.pace.is_paused else []
    if not picked:
        return False
    crashpoints.reached("submission.picked")
    claimed = batches.claim(picked, lease=run.lease, now=run.now)
    crashpoints.reached("submission.committed")
    for batch in claimed:
        calls.send(batch)
    return True


def _pick(run: Run, *, most: int) -> list[Batch]:
    """The halves of what was refused go first; then what is due soonest, read anew each time."""
    if run.halves:
        open_slots = run.pace.open_slots(run.halves[0].region, most=most)
        return [run.halves.popleft() for _ in range(min(open_slots, len(run.halves)))]
    return batches.pick(
        now=run.now,
        token=run.lease.token,
        but_regions=run.pace.closed_regions(),
        most=lambda region: run.pace.open_slots(region, most=most),
    )


def _believe(run: Run, answers: list[tuple[Batch, Answer]]) -> None:
    """Write what AWS said, and go on as it says."""
    if not answers:
        return
    crashpoints.reached("submission.answered")
    run.calls += len(answers)
    run.accepted += outcomes.believe(answers, token=run.lease.token, now=run.now)
    for batch, answer in answers:
        if isinstance(answer, MarketplaceUnavailable):
            _failed(run, answer)
            continue
        run.failures, run.is_answered = 0, True
        run.pace.answered()
        if not isinstance(answer, MarketplaceError):
            continue
        if answer.scope is Scope.ACCOUNT:
            run.stopped_by = answer
        elif len(batch.lines) > 1:
            # Somewhere in it is the offender: halve until it stands alone, and its neighbours are billed.
            run.halves.extend(batch.halves())
            crashpoints.reached("submission.halved")


def _failed(run: Run, error: MarketplaceUnavailable) -> None:
    if error.code == "NotSent":
        run.is_over = True  # this process slept for as long as its lease
    elif error.code in THROTTLED:
        run.pace.throttled()
    else:
        run.failures += 1

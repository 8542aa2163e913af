"""Sending metering records to AWS: one submitter at a time, as fast as AWS's quota lets it.

A lease with a fencing token makes the one submitter. This thread alone reads and writes the database, while
up to ten calls are in flight in others. Whatever dies, the next run sends the identical bytes again and AWS
deduplicates.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DataError, IntegrityError, transaction

from billing import audit, crashpoints, deadlines, jobs, leases
from billing.aws.errors import (
    NOT_TAKEN,
    OF_ONE_PRODUCT,
    OF_ONE_REGION,
    THROTTLED,
    MarketplaceError,
    MarketplaceUnavailable,
    Scope,
)
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
_MAX_FAILURES = 3  # in a row: AWS is down in this Region, the next run tries again
_SUSPICIOUS = 3  # sends of a record that AWS never answered: it may be what AWS stumbles over
_MAX_THROTTLES = 6  # pauses in a row
_READY = 12 * MOST  # calls in flight or about to be
_AT_ONCE = 4 * MOST  # calls in a claim, at least: it costs little more than for one


@dataclass(slots=True)
class _Region:
    """AWS in one Region, as this run has met it: what is down there keeps nothing back elsewhere."""

    in_flight: int = 0
    failures: int = 0  # in a row
    is_answered: bool = False
    is_closed: bool = False

    @property
    def is_open(self) -> bool:
        return not self.is_closed and self.failures < _MAX_FAILURES


@dataclass(slots=True)
class Run:
    """One submitter's turn."""

    marketplace: Marketplace
    lease: leases.Held
    started_at: datetime
    accepted: int = 0
    calls: int = 0  # that were answered, or failed
    regions: defaultdict[str, _Region] = field(default_factory=lambda: defaultdict(_Region))
    closed_products: set[str] = field(default_factory=set)
    # What only a person can mend, by AWS's code.
    refusals: dict[str, MarketplaceError] = field(default_factory=dict)
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
            and self.pace.throttles < _MAX_THROTTLES
            and self.now < self.started_at + RUN_LENGTH
        )

    def room(self, name: str, *, in_flight: int) -> int:
        """How many more calls to make ready for a Region: enough that no thread waits for the database.

        Few, until AWS is known to answer there: what fails with it down is in doubt for nothing.
        """
        region = self.regions[name]
        if not region.is_open:
            return 0
        if not region.is_answered or region.failures:
            room = max(0, _MAX_FAILURES - region.failures - region.in_flight)
        else:
            room = _READY - in_flight
            room = room if room >= _AT_ONCE else 0
        return self.pace.open_slots(name, most=room)


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
        for error in run.refusals.values():
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
    stopped = {"stopped_by": ", ".join(run.refusals)} if run.refusals else {}
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
    picked = _pick(run, in_flight=calls.count) if not run.pace.is_paused else []
    if not picked:
        return False
    crashpoints.reached("submission.picked")
    claimed = batches.claim(picked, lease=run.lease, now=run.now)
    crashpoints.reached("submission.committed")
    for batch in claimed:
        run.regions[batch.region].in_flight += 1
        calls.send(batch)
    return True


def _pick(run: Run, *, in_flight: int) -> list[Batch]:
    """The halves of what was refused go first; then what is due soonest, read anew each time."""
    # Those of a Region that was closed meanwhile are due like any record, in the next run.
    run.halves = deque(half for half in run.halves if run.regions[half.region].is_open)
    if run.halves:
        region = run.halves[0].region
        room = run.room(region, in_flight=in_flight)
        going: list[Batch] = []
        waiting: deque[Batch] = deque()
        for half in run.halves:
            (going if half.region == region and len(going) < room else waiting).append(half)
        run.halves = waiting
        return going
    full = [region for region in run.regions if not run.room(region, in_flight=in_flight)]
    return batches.pick(
        now=run.now,
        token=run.lease.token,
        but_regions=[*run.pace.closed_regions(), *full],
        but_products=sorted(run.closed_products),
        most=lambda region: run.room(region, in_flight=in_flight),
    )


def _believe(run: Run, answers: list[tuple[Batch, Answer]]) -> None:
    """Write what AWS said, and go on as it says."""
    if not answers:
        return
    crashpoints.reached("submission.answered")
    run.calls += len(answers)
    run.accepted += _written(run, answers)
    for batch, answer in answers:
        region = run.regions[batch.region]
        region.in_flight -= 1
        if isinstance(answer, MarketplaceUnavailable):
            _failed(run, batch, answer)
            continue
        region.failures, region.is_answered = 0, True
        run.pace.answered()
        if not isinstance(answer, MarketplaceError):
            continue
        if answer.scope is Scope.ACCOUNT:
            _refused(run, batch, answer)
        elif len(batch.lines) > 1:
            # Somewhere in it is the offender: halve until it stands alone, and its neighbours are billed.
            run.halves.extend(batch.halves())
            crashpoints.reached("submission.halved")


def _written(run: Run, answers: Sequence[tuple[Batch, Answer]]) -> int:
    """An answer that the database does not take is as good as none; those beside it are written."""
    try:
        return outcomes.believe(answers, token=run.lease.token, now=run.now)
    except (DataError, IntegrityError):
        if len(answers) > 1:
            return sum(_written(run, [one]) for one in answers)
        ((batch, _),) = answers
        logger.exception("What AWS said of submission %s cannot be stored", batch.submission)
        unreadable = MarketplaceUnavailable("UnreadableAnswer")
        return outcomes.believe([(batch, unreadable)], token=run.lease.token, now=run.now)


def _refused(run: Run, batch: Batch, error: MarketplaceError) -> None:
    """Nothing like it is sent in this run any more. Records keep their Region, and what is wrong there."""
    run.refusals.setdefault(error.code, error)
    product = batch.lines[0].product_code
    if error.code in OF_ONE_REGION:
        run.regions[batch.region].is_closed = True
    elif error.code in OF_ONE_PRODUCT and product is not None:
        run.closed_products.add(product)
    else:
        run.is_over = True


def _failed(run: Run, batch: Batch, error: MarketplaceUnavailable) -> None:
    if error.code == "NotSent":
        run.is_over = True  # this process slept for as long as its lease
    elif error.code in THROTTLED:
        run.pace.throttled()
    else:
        run.regions[batch.region].failures += 1
        tried = max((standing.attempts for standing in batch.standings.values()), default=0)
        if error.code not in NOT_TAKEN and len(batch.lines) > 1 and tried >= _SUSPICIOUS:
            # AWS may stumble over one of them each time: its neighbours must not miss their window with it.
            run.halves.extend(batch.halves())

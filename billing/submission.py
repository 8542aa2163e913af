"""Sending metering records to AWS, and believing only what it answers.

One submitter at a time (a lease with a fencing token). A record is marked in doubt before it leaves, in its
own transaction; whatever happens then, the next run sends the identical bytes again and AWS deduplicates.
Every outcome is written only if this submitter still has the record in hand.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from billing import audit, customers, leases
from billing.aws import wire
from billing.aws.errors import NOT_TAKEN, MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.limits import MAX_BYTES_PER_CALL, MAX_RECORDS_PER_CALL
from billing.aws.types import BatchAnswer, Marketplace, UsageLine, UsageOutcome
from billing.models import MeteringRecord, Submission, SubmissionLine

logger = logging.getLogger(__name__)

LEASE = "submit_metering"
LEASE_LENGTH = timedelta(minutes=2)  # longer than one call can take with its time-outs
RUN_LENGTH = timedelta(minutes=10)  # then the next run goes on, with a fresh clock and lease

State = MeteringRecord.State

_NO_ANSWER = ""
_REQUEST_FRAME = 400  # bytes of a call around its records: their list's name, the product code
_MAX_FAILURES = 3  # in a row: AWS is down, the next run tries again


class SubmissionStopped(Exception):
    """Nothing can be sent until a person acts; the code and the fix are in the log."""


@dataclass(slots=True)
class Run:
    """One submitter's turn."""

    marketplace: Marketplace
    lease: leases.Held
    started_at: datetime
    accepted: int = 0
    failures: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        """A long run must see deadlines pass, on the caller's clock."""
        return self.started_at + timedelta(seconds=time.monotonic() - self._started)

    @property
    def may_go_on(self) -> bool:
        return self.failures < _MAX_FAILURES and self.now < self.started_at + RUN_LENGTH


def submit_due(marketplace: Marketplace, *, now: datetime) -> int:
    """Send what is due, soonest deadline first. Returns how many records AWS accepted.

    Returns 0 at once while another submitter is at work.
    """
    with leases.hold(LEASE, length=LEASE_LENGTH) as lease:
        if lease is None:
            return 0
        _expire(now=now)
        run = Run(marketplace, lease, now)
        try:
            while run.may_go_on and (batch := _next_batch(now=run.now)):
                _send(run, batch)
        except leases.LeaseLost:
            logger.warning("The submitter's lease went to another; stopping")
        except SubmissionStopped as stopped:
            logger.critical("Metering stopped: %s", stopped)
        return run.accepted


def _expire(*, now: datetime) -> None:
    """Records whose window is over can no longer be sent."""
    missed = MeteringRecord.objects.sendable().filter(submit_by__lte=now)
    for record in missed.select_related("agreement"):
        with transaction.atomic():
            agreement = customers.lock(record.agreement_id)
            gone = missed.filter(pk=record.pk).update(state=State.EXPIRED, settled_at=now)
            if gone:
                logger.critical("Metering record %s missed AWS's window without an acceptance", record.pk)
                audit.record(agreement, "record_expired", by="job:submit_metering", at=now, record=record.pk)


def _next_batch(*, now: datetime) -> list[MeteringRecord]:
    """The records with the nearest deadlines that may share a call: one product, one identity, one Region."""
    due = (
        MeteringRecord.objects.sendable()
        .filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now), submit_by__gt=now)
        .select_related("agreement", "dimension")
        .order_by("submit_by", "pk")
    )
    first = due.first()
    if first is None:
        return []
    alike = due.filter(
        agreement__product=first.agreement.product_id,
        wire_product_code=first.wire_product_code,
        wire_region=first.wire_region,
    )
    batch: list[MeteringRecord] = []
    size = _REQUEST_FRAME
    for record in alike[:MAX_RECORDS_PER_CALL]:
        size += wire.size_of(line_of(record))
        if batch and size >= MAX_BYTES_PER_CALL:
            break
        batch.append(record)
    return batch


def line_of(record: MeteringRecord) -> UsageLine:
    """The record as AWS gets it, from its frozen columns alone."""
    return UsageLine(
        reference=record.pk,
        license_arn=record.wire_license_arn,
        product_code=record.wire_product_code,
        aws_account_id=record.wire_account_id,
        customer_identifier=record.wire_customer_identifier,
        dimension=record.dimension.key,
        timestamp=record.wire_timestamp,
        quantity=record.wire_quantity,
        allocations=wire.allocations_from_json(record.wire_allocations),
    )


def _send(run: Run, batch: Sequence[MeteringRecord], *, parent: Submission | None = None) -> None:
    submission = _take(run, batch, parent=parent)
    lines = [line_of(record) for record in batch]
    try:
        answer = run.marketplace.batch_meter_usage(lines, region=batch[0].wire_region)
    except MarketplaceUnavailable as error:
        run.failures += 1
        _unanswered(run, submission, batch, error)
        return
    except MarketplaceError as error:
        _refused(run, submission, batch, error)
        return
    run.failures = 0
    _answered(run, submission, batch, answer)


@transaction.atomic
def _take(run: Run, batch: Sequence[MeteringRecord], *, parent: Submission | None) -> Submission:
    """Mark the batch in doubt, under this submitter's token, before anything leaves."""
    # The lease's row stays locked until the batch is taken: nobody becomes the submitter in between.
    run.lease.renew()
    ours = MeteringRecord.objects.sendable().filter(
        Q(claimed_by=None) | Q(claimed_by__lte=run.lease.token), pk__in=[record.pk for record in batch]
    )
    # Locked in the order in which deadlines are recomputed, or the two could wait for each other.
    taken = list(ours.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    if len(taken) != len(batch):
        raise leases.LeaseLost(LEASE)
    MeteringRecord.objects.filter(pk__in=taken).update(
        state=State.IN_DOUBT, claimed_by=run.lease.token, attempts=F("attempts") + 1
    )
    submission = Submission.objects.create(
        token=run.lease.token, parent=parent, record_count=len(batch), started_at=run.now
    )
    SubmissionLine.objects.bulk_create(
        SubmissionLine(submission=submission, record=record) for record in batch
    )
    return submission


def _finish(
    run: Run, submission: Submission, outcome: Submission.Outcome, answer: BatchAnswer | MarketplaceError
) -> None:
    submission.finished_at = run.now
    submission.outcome = outcome
    submission.aws_request_id = answer.request_id
    if isinstance(answer, MarketplaceError):
        submission.error_code = answer.code
        submission.error_message = answer.message
    submission.save(update_fields=["finished_at", "outcome", "aws_request_id", "error_code", "error_message"])


@transaction.atomic
def _unanswered(
    run: Run, submission: Submission, batch: Sequence[MeteringRecord], error: MarketplaceUnavailable
) -> None:
    """No answer. AWS may have taken the batch, unless the call was throttled or never left."""
    _finish(run, submission, Submission.Outcome.FAILED, error)
    for record in _in_lock_order(batch):
        if error.code in NOT_TAKEN:
            _settle(run, submission, record, error.code, state=_before(record), again=True)
        else:
            _settle(run, submission, record, _NO_ANSWER, state=State.IN_DOUBT, again=True)


def _answered(run: Run, submission: Submission, batch: Sequence[MeteringRecord], answer: BatchAnswer) -> None:
    outcomes = {outcome.reference: outcome for outcome in answer.outcomes}
    # The whole answer or nothing of it: half an answer would have to be asked for again.
    with transaction.atomic():
        _finish(run, submission, Submission.Outcome.ANSWERED, answer)
        for record in _in_lock_order(batch):
            _apply(
                run, submission, record, outcomes.get(record.pk), unprocessed=record.pk in answer.unprocessed
            )
    for record in batch:
        outcome = outcomes.get(record.pk)
        if outcome is not None and outcome.status == "CustomerNotSubscribed":
            _flag(record.agreement_id, now=run.now)


def _apply(
    run: Run,
    submission: Submission,
    record: MeteringRecord,
    outcome: UsageOutcome | None,
    *,
    unprocessed: bool,
) -> None:
    if unprocessed:
        _settle(run, submission, record, "Unprocessed", state=_before(record), again=True)
    elif outcome is None:
        _settle(run, submission, record, _NO_ANSWER, state=State.IN_DOUBT, again=True)
    elif outcome.status == "Success":
        aws_id = outcome.metering_record_id
        run.accepted += _settle(run, submission, record, outcome.status, state=State.ACCEPTED, aws_id=aws_id)
    elif outcome.status == "DuplicateRecord":
        _duplicate(run, submission, record)
    elif outcome.status == "CustomerNotSubscribed":
        # Maybe not yet, maybe no longer: keep trying, more often as the deadline nears.
        wait = min(timedelta(hours=1), (record.submit_by - run.now) / 4)
        _settle(run, submission, record, outcome.status, state=State.WAITING, at=run.now + wait)
    else:
        # A status AWS invented since: never success. The identical record goes out again.
        logger.error("Metering record %s: AWS answered the unknown status %r", record.pk, outcome.status)
        _settle(run, submission, record, outcome.status, state=State.IN_DOUBT, again=True)


def _refused(
    run: Run, submission: Submission, batch: Sequence[MeteringRecord], error: MarketplaceError
) -> None:
    """AWS refused the whole call and took nothing of it."""
    if error.scope is Scope.ACCOUNT:
        _restore(run, submission, batch, error)
        raise SubmissionStopped(f"{error.code}. {error.meaning.explanation} {error.meaning.fix}")
    if len(batch) > 1:
        # Somewhere in it is the offender: halve until it stands alone, and its neighbours are billed.
        _restore(run, submission, batch, error)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            _send(run, half, parent=submission)
        return
    (record,) = batch
    with transaction.atomic():
        _finish(run, submission, Submission.Outcome.REFUSED, error)
        if error.scope is Scope.RECORD:
            logger.error("Metering record %s is parked: %s. %s", record.pk, error.code, error.meaning.fix)
            _settle(run, submission, record, error.code, state=State.PARKED, error=error)
        else:
            logger.error("Metering record %s: AWS answered the unknown error %r", record.pk, error.code)
            _settle(run, submission, record, error.code, state=_before(record), again=True, error=error)


@transaction.atomic
def _restore(
    run: Run, submission: Submission, batch: Sequence[MeteringRecord], error: MarketplaceError
) -> None:
    _finish(run, submission, Submission.Outcome.REFUSED, error)
    for record in _in_lock_order(batch):
        _settle(run, submission, record, error.code, state=_before(record))


def _duplicate(run: Run, submission: Submission, record: MeteringRecord) -> None:
    """AWS holds this hour already: ours, if it may have taken an earlier send of these same bytes."""
    if record.submission_lines.exclude(submission=submission).maybe_taken().exists():
        run.accepted += _settle(run, submission, record, "DuplicateRecord", state=State.ACCEPTED)
        return
    logger.critical("Metering record %s: AWS already holds another quantity for its hour", record.pk)
    _settle(run, submission, record, "DuplicateRecord", state=State.CONFLICT)


@transaction.atomic
def _flag(agreement_pk: int, *, now: datetime) -> None:
    """Tell a person once. After the outcomes: those who hold the agreement's lock wait for its records."""
    agreement = customers.lock(agreement_pk)
    if agreement.flagged_at is None:
        agreement.flagged_at = now
        agreement.flag_reason = "AWS says the customer is not subscribed."
        agreement.save(update_fields=["flagged_at", "flag_reason"])
        audit.record(agreement, "flagged", by="aws", at=now, reason="CustomerNotSubscribed")
        logger.error("Agreement %s: AWS says the customer is not subscribed", agreement.pk)


def _in_lock_order(batch: Sequence[MeteringRecord]) -> list[MeteringRecord]:
    return sorted(batch, key=lambda record: record.pk)


def _before(record: MeteringRecord) -> str:
    """The state before this send. What was in doubt stays in doubt: an earlier send may have been taken."""
    return record.state


def _settle(
    run: Run,
    submission: Submission,
    record: MeteringRecord,
    status: str,
    *,
    state: str,
    aws_id: str | None = None,
    again: bool = False,
    at: datetime | None = None,
    error: MarketplaceError | None = None,
) -> bool:
    """Write what AWS said of a record, if it is still in this submitter's hands. Returns whether it was."""
    changes: dict[str, Any] = {
        "state": state,
        "aws_record_id": aws_id,
        "error_code": error.code if error else "",
        "error_message": error.meaning.explanation if error else "",
        "next_attempt_at": at or (run.now + _pause(record.attempts) if again else None),
    }
    if state in (State.ACCEPTED, State.CONFLICT, State.PARKED):
        changes["settled_at"] = run.now
    with transaction.atomic():
        written = MeteringRecord.objects.filter(
            pk=record.pk, state=State.IN_DOUBT, claimed_by=run.lease.token
        ).update(**changes)
        if written:
            SubmissionLine.objects.filter(submission=submission, record=record).update(
                status=status, aws_record_id=aws_id
            )
    if not written:
        logger.warning("Metering record %s was taken over by another submitter", record.pk)
    return bool(written)


def _pause(attempts: int) -> timedelta:
    """Exponential, at most five minutes, with jitter so that retries of many records spread out."""
    return timedelta(seconds=min(300, 5 * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0))

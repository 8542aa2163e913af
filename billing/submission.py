"""Sending metering records to AWS, and believing only what it answers.

One submitter at a time (a lease with a fencing token). A record is marked in doubt before it leaves, in its own
transaction; whatever happens then, the next run sends the identical bytes again and AWS deduplicates. Every
outcome is written only if this submitter still has the record in hand.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from billing import audit, customers, leases
from billing.aws import wire
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.limits import MAX_BYTES_PER_CALL, MAX_RECORDS_PER_CALL
from billing.aws.types import BatchAnswer, Marketplace, UsageLine
from billing.models import MeteringRecord, Submission, SubmissionLine

logger = logging.getLogger(__name__)

LEASE = "submit_metering"
LEASE_LENGTH = timedelta(minutes=2)  # longer than one call can take with its time-outs

State = MeteringRecord.State

# Answers after which AWS may have taken the record all the same.
_NO_ANSWER = ""
_THROTTLED = {"ThrottlingException", "TooManyRequestsException"}
_MAX_FAILURES = 3  # in a row: AWS is down, the next run tries again


class SubmissionStopped(Exception):
    """Nothing can be sent until a person acts; the code and the fix are in the log."""


@dataclass(slots=True)
class Run:
    """One submitter's turn."""

    marketplace: Marketplace
    lease: leases.Held
    now: datetime
    accepted: int = 0
    failures: int = 0


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
            while run.failures < _MAX_FAILURES and (batch := _next_batch(now=now)):
                lease.renew()
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
                logger.critical("Metering record %s missed AWS's window and was not billed", record.pk)
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
    size = 0
    for record in alike[:MAX_RECORDS_PER_CALL]:
        # Keys, ids and the number itself take under 4 kB; the allocations are the rest.
        size += 4_000 + 2 * len(record.wire_allocations.encode())
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
        answer = run.marketplace.batch_meter_usage(lines)
    except MarketplaceUnavailable as error:
        run.failures += 1
        _finish(run, submission, Submission.Outcome.FAILED, error)
        for record in batch:
            # A throttled call was not looked at; after any other silence AWS may have taken it.
            state = _before(record) if error.code in _THROTTLED else State.IN_DOUBT
            _settle(run, submission, record, _NO_ANSWER if state == State.IN_DOUBT else error.code, state=state, again=True)
        return
    except MarketplaceError as error:
        _finish(run, submission, Submission.Outcome.REFUSED, error)
        _refused(run, submission, batch, error)
        return
    run.failures = 0
    _finish(run, submission, Submission.Outcome.ANSWERED, answer)
    _answered(run, submission, batch, answer)


@transaction.atomic
def _take(run: Run, batch: Sequence[MeteringRecord], *, parent: Submission | None) -> Submission:
    """Mark the batch in doubt, under this submitter's token, before anything leaves."""
    pks = [record.pk for record in batch]
    taken = (
        MeteringRecord.objects.sendable()
        .filter(Q(claimed_by=None) | Q(claimed_by__lte=run.lease.token), pk__in=pks)
        .update(state=State.IN_DOUBT, claimed_by=run.lease.token, attempts=F("attempts") + 1)
    )
    if taken != len(batch):
        raise leases.LeaseLost(LEASE)
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


def _answered(run: Run, submission: Submission, batch: Sequence[MeteringRecord], answer: BatchAnswer) -> None:
    outcomes = {outcome.reference: outcome for outcome in answer.outcomes}
    unprocessed = set(answer.unprocessed)
    for record in batch:
        outcome = outcomes.get(record.pk)
        if record.pk in unprocessed:
            _settle(run, submission, record, "Unprocessed", state=_before(record), again=True)
        elif outcome is None:
            _settle(run, submission, record, _NO_ANSWER, state=State.IN_DOUBT, again=True)
        elif outcome.status == "Success":
            run.accepted += _settle(
                run, submission, record, outcome.status, state=State.ACCEPTED, aws_id=outcome.metering_record_id
            )
        elif outcome.status == "DuplicateRecord":
            _duplicate(run, submission, record)
        elif outcome.status == "CustomerNotSubscribed":
            _not_subscribed(run, submission, record)
        else:
            # A status AWS invented since: never success. The identical record goes out again.
            logger.error("Metering record %s: AWS answered the unknown status %r", record.pk, outcome.status)
            _settle(run, submission, record, outcome.status, state=State.IN_DOUBT, again=True)


def _refused(run: Run, submission: Submission, batch: Sequence[MeteringRecord], error: MarketplaceError) -> None:
    """AWS refused the whole call and took nothing of it."""
    if error.scope is Scope.ACCOUNT:
        for record in batch:
            _settle(run, submission, record, error.code, state=_before(record))
        raise SubmissionStopped(f"{error.code}. {error.meaning.explanation} {error.meaning.fix}")
    if len(batch) > 1:
        # Somewhere in it is the offender: halve until it stands alone, and its neighbours are billed.
        for record in batch:
            _settle(run, submission, record, error.code, state=_before(record))
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            run.lease.renew()
            _send(run, half, parent=submission)
        return
    (record,) = batch
    if error.scope is Scope.RECORD:
        logger.error("Metering record %s is parked: %s. %s", record.pk, error.code, error.meaning.fix)
        _settle(run, submission, record, error.code, state=State.PARKED, error=error)
        return
    logger.error("Metering record %s: AWS answered the unknown error %r", record.pk, error.code)
    _settle(run, submission, record, error.code, state=_before(record), again=True, error=error)


def _duplicate(run: Run, submission: Submission, record: MeteringRecord) -> None:
    """AWS holds this hour already. Ours, if an earlier send of these same bytes got no answer; else not."""
    ours = record.submission_lines.filter(status=_NO_ANSWER).exclude(submission=submission).exists()
    if ours:
        run.accepted += _settle(run, submission, record, "DuplicateRecord", state=State.ACCEPTED)
        return
    logger.critical("Metering record %s: AWS already holds another quantity for its hour", record.pk)
    _settle(run, submission, record, "DuplicateRecord", state=State.CONFLICT)


def _not_subscribed(run: Run, submission: Submission, record: MeteringRecord) -> None:
    """Maybe not yet, maybe no longer: keep trying, more often as the deadline nears, and tell a person once."""
    wait = min(timedelta(hours=1), (record.submit_by - run.now) / 4)
    _settle(run, submission, record, "CustomerNotSubscribed", state=State.WAITING, at=run.now + wait)
    with transaction.atomic():
        agreement = customers.lock(record.agreement_id)
        if agreement.flagged_at is None:
            agreement.flagged_at = run.now
            agreement.flag_reason = "AWS says the customer is not subscribed."
            agreement.save(update_fields=["flagged_at", "flag_reason"])
            audit.record(agreement, "flagged", by="aws", at=run.now, reason="CustomerNotSubscribed")
            logger.error("Agreement %s: AWS says the customer is not subscribed", agreement.pk)


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

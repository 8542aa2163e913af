"""What AWS's answers mean for records, and writing it: each answer whole, or nothing of it.

A record's outcome is written only while it is in doubt under the submitter's own token: what another
submitter took over meanwhile is that one's.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from django.db import transaction

from billing import audit, crashpoints, customers, flags
from billing.aws.errors import NOT_TAKEN, MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.types import BatchAnswer
from billing.models import MeteringRecord, Submission, SubmissionLine
from billing.sending import settling
from billing.sending.batches import Batch
from billing.sending.settling import Settlement, Verdict

logger = logging.getLogger(__name__)

State = MeteringRecord.State
Answers = Sequence[tuple[Batch, BatchAnswer | MarketplaceError]]

_NO_ANSWER = ""
# After these AWS bills nothing unless a person decides: how the audit trail tells of them.
_UNBILLED: dict[str, str] = {State.PARKED: "records_parked", State.CONFLICT: "records_in_conflict"}


@dataclass(frozen=True, slots=True)
class _Known:
    """What the ledger knows of records beside the answer, read where the answer asks for it."""

    earlier_sends: Collection[int]
    deadlines: Mapping[int, datetime]


@dataclass(slots=True)
class _Reading:
    """What one call's answer says of each of its records: accepted under an id, or another verdict."""

    batch: Batch
    answer: BatchAnswer | MarketplaceError
    outcome: Submission.Outcome
    accepted: dict[int, str | None] = field(default_factory=dict)
    verdicts: dict[Verdict, list[int]] = field(default_factory=lambda: defaultdict(list))
    pauses: dict[int, timedelta] = field(default_factory=dict)

    def accepted_of(self, in_hand: Collection[int]) -> int:
        duplicates = (pks for verdict, pks in self.verdicts.items() if verdict.state == State.ACCEPTED)
        return sum(pk in in_hand for pk in chain(self.accepted, *duplicates))

    def again_at(self, pk: int, now: datetime) -> datetime:
        """One instant for all records of the call that were tried as often: they go together again."""
        attempts = self.batch.standings[pk].attempts
        return now + self.pauses.setdefault(attempts, pause(attempts))


def believe(answers: Answers, *, token: int, now: datetime) -> int:
    """Write what AWS answered. Returns how many records it accepted."""
    known = _Known(_earlier_sends(answers), _deadlines(answers))
    readings = [_read(batch, answer, known, now=now) for batch, answer in answers]
    with transaction.atomic():
        in_hand = settling.lock((pk for reading in readings for pk in reading.batch.standings), token=token)
        _finish(readings, now=now)
        settling.settle(
            [Settlement(each.batch.submission, each.accepted, each.verdicts) for each in readings],
            in_hand,
            token=token,
            now=now,
        )
        crashpoints.reached("submission.settled")
    crashpoints.reached("submission.settled_committed")
    for reading in readings:
        _tell(reading, in_hand, now=now)
    return sum(reading.accepted_of(in_hand) for reading in readings)


def _read(batch: Batch, answer: BatchAnswer | MarketplaceError, known: _Known, *, now: datetime) -> _Reading:
    if isinstance(answer, BatchAnswer):
        return _answered(batch, answer, known, now=now)
    if isinstance(answer, MarketplaceUnavailable):
        return _unanswered(batch, answer, now=now)
    return _refused(batch, answer, now=now)


def _unanswered(batch: Batch, error: MarketplaceUnavailable, *, now: datetime) -> _Reading:
    """No answer. AWS may have taken the batch, unless the call was throttled or never left."""
    reading = _Reading(batch, error, Submission.Outcome.FAILED)
    for pk, standing in batch.standings.items():
        # What was in doubt stays in doubt: an earlier send may have been taken.
        known = error.code in NOT_TAKEN
        state, status = (standing.state, error.code) if known else (State.IN_DOUBT, _NO_ANSWER)
        at = None if error.code == "NotSent" else reading.again_at(pk, now)
        reading.verdicts[Verdict(state, status, at)].append(pk)
    return reading


def _refused(batch: Batch, error: MarketplaceError, *, now: datetime) -> _Reading:
    """AWS refused the whole call and took nothing of it."""
    reading = _Reading(batch, error, Submission.Outcome.REFUSED)
    alone = len(batch.lines) == 1 and error.scope is not Scope.ACCOUNT
    for pk, standing in batch.standings.items():
        if not alone:
            verdict = Verdict(standing.state, error.code)
        elif error.scope is Scope.RECORD:
            verdict = Verdict(State.PARKED, error.code, None, error.code, error.meaning.explanation)
        else:
            at = reading.again_at(pk, now)
            verdict = Verdict(standing.state, error.code, at, error.code, error.meaning.explanation)
        reading.verdicts[verdict].append(pk)
    return reading


def _answered(batch: Batch, answer: BatchAnswer, known: _Known, *, now: datetime) -> _Reading:
    reading = _Reading(batch, answer, Submission.Outcome.ANSWERED)
    outcomes = {outcome.reference: outcome for outcome in answer.outcomes}
    for pk, standing in batch.standings.items():
        outcome = outcomes.get(pk)
        if pk in answer.unprocessed:
            verdict = Verdict(standing.state, "Unprocessed", reading.again_at(pk, now))
        elif outcome is None:
            verdict = Verdict(State.IN_DOUBT, _NO_ANSWER, reading.again_at(pk, now))
        elif outcome.status == "Success":
            reading.accepted[pk] = outcome.metering_record_id
            continue
        elif outcome.status == "DuplicateRecord":
            # AWS holds this hour: ours, if it may have taken an earlier send of these same bytes.
            verdict = Verdict(State.ACCEPTED if pk in known.earlier_sends else State.CONFLICT, outcome.status)
        elif outcome.status == "CustomerNotSubscribed":
            # Maybe not yet, maybe no longer: keep trying, more often as the deadline nears.
            wait = min(timedelta(hours=1), (known.deadlines[pk] - now) / 4)
            verdict = Verdict(State.WAITING, outcome.status, now + wait)
        else:
            # A status AWS invented since: never success. The identical record goes out again.
            verdict = Verdict(State.IN_DOUBT, outcome.status, reading.again_at(pk, now))
        reading.verdicts[verdict].append(pk)
    return reading


def _earlier_sends(answers: Answers) -> set[int]:
    """Of the records that AWS calls duplicates, those of which it may have taken an earlier send."""
    calls = _told(answers, "DuplicateRecord")
    if not calls:
        return set()
    earlier = SubmissionLine.objects.filter(record__in=list(calls)).exclude(submission__in=calls.values())
    return set(earlier.maybe_taken().values_list("record_id", flat=True))


def _deadlines(answers: Answers) -> dict[int, datetime]:
    """Of the records whose customers AWS calls not subscribed."""
    told = _told(answers, "CustomerNotSubscribed")
    return dict(MeteringRecord.objects.filter(pk__in=told).values_list("pk", "submit_by")) if told else {}


def _told(answers: Answers, status: str) -> dict[int, int]:
    """The records of which AWS says so, and in which call."""
    return {
        outcome.reference: batch.submission
        for batch, answer in answers
        if isinstance(answer, BatchAnswer)
        for outcome in answer.outcomes
        if outcome.status == status and outcome.reference in batch.standings
    }


def _finish(readings: Sequence[_Reading], *, now: datetime) -> None:
    """What became of the calls: those that were answered in one statement, the others one by one."""
    request_ids: dict[int, str] = {}
    for reading in readings:
        answer = reading.answer
        if isinstance(answer, BatchAnswer):
            request_ids[reading.batch.submission] = settling.clipped(answer.request_id)
            continue
        Submission.objects.filter(pk=reading.batch.submission).update(
            finished_at=now,
            outcome=reading.outcome,
            aws_request_id=settling.clipped(answer.request_id),
            error_code=settling.clipped(answer.code),
            error_message=answer.message,
        )
    if request_ids:
        settling.finish_answered(request_ids, now=now)


def _tell(reading: _Reading, in_hand: Collection[int], *, now: datetime) -> None:
    """Log what a person must know, once it is committed."""
    for pk in reading.batch.standings:
        if pk not in in_hand:
            logger.warning("Metering record %s was taken over by another submitter", pk)
    for verdict, pks in reading.verdicts.items():
        written = [pk for pk in pks if pk in in_hand]
        for pk in written:
            _tell_of(pk, verdict, reading.answer)
        if verdict.status == "CustomerNotSubscribed":
            for agreement in _by_agreement(written):
                _flag(agreement, now=now)
        elif verdict.state in _UNBILLED:
            for agreement, records in _by_agreement(written).items():
                _audit(agreement, records, verdict, now=now)


def _tell_of(pk: int, verdict: Verdict, answer: BatchAnswer | MarketplaceError) -> None:
    if isinstance(answer, BatchAnswer):
        if verdict.state == State.CONFLICT:
            logger.critical("Metering record %s: AWS already holds another quantity for its hour", pk)
        elif verdict.state == State.IN_DOUBT and verdict.status not in (_NO_ANSWER, "Unprocessed"):
            logger.error("Metering record %s: AWS answered the unknown status %r", pk, verdict.status)
    elif verdict.state == State.PARKED:
        logger.error("Metering record %s is parked: %s. %s", pk, answer.code, answer.meaning.fix)
    elif verdict.error_code:
        logger.error("Metering record %s: AWS answered the unknown error %r", pk, verdict.error_code)


def _by_agreement(pks: Collection[int]) -> dict[int, list[int]]:
    """In the order in which everybody locks agreements."""
    theirs: dict[int, list[int]] = defaultdict(list)
    found = MeteringRecord.objects.filter(pk__in=pks).order_by("agreement_id", "pk")
    for pk, agreement in found.values_list("pk", "agreement_id"):
        theirs[agreement].append(pk)
    return theirs


@transaction.atomic
def _audit(agreement_pk: int, records: list[int], verdict: Verdict, *, now: datetime) -> None:
    """What AWS took is audited run by run (billing.submission); what it does not bill, by its agreement."""
    agreement = customers.lock(agreement_pk)
    audit.record(agreement, _UNBILLED[verdict.state], by="aws", at=now, records=records, code=verdict.status)


@transaction.atomic
def _flag(agreement_pk: int, *, now: datetime) -> None:
    """Tell a person once. After the outcomes: those who hold the agreement's lock wait for its records."""
    flags.raise_flag(customers.lock(agreement_pk), flags.NOT_SUBSCRIBED, at=now)


def pause(attempts: int) -> timedelta:
    """Exponential, at most five minutes, with jitter so that retries of many calls spread out."""
    return timedelta(seconds=min(300, 5 * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0))

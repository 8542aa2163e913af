"""What operators decide about usage that AWS did not simply take: retry, hold, write off, void, bill late.

Each function takes one row or many: it decides row by row, does what may be done, and says of each other row
why not. Rows of one agreement change in one transaction under its lock, with one audit link. Beside a running
submitter it is safe: what is in doubt at that moment is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from accounts.models import User
from billing import audit, customers, identity
from billing.aws.window import accepted_until
from billing.models import Agreement, MeteringRecord, SubmissionLine, UsageEvent

State = MeteringRecord.State
Disposition = UsageEvent.Disposition


class DecisionRefused(ValueError):
    """The decision itself is malformed; the message says what to give. Nothing was changed."""


@dataclass(slots=True)
class Decided:
    """What became of the rows, by primary key: changed, as decided already, refused (and why)."""

    done: list[int] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


class _Refused(Exception):
    """This row stays as it is; the text says why, and what to do."""


Rule = Callable[[Agreement, MeteringRecord, bool], Mapping[str, Any] | None]
"""What changes of a record (None: it is so already), given whether AWS may hold it. Raises _Refused."""

_IN_DOUBT = "It was sent and AWS has not answered. It is sent again by itself: decide once it is answered."
_ACCEPTED = (
    "AWS has billed it. Refund it in the AWS Marketplace Management Portal (Billing → refund request)."
)


def retry(records: Iterable[MeteringRecord], *, by: User, reason: str, now: datetime) -> Decided:
    """Send parked records again, byte for byte the same, while AWS's window for them is open."""

    def rule(agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool) -> Mapping[str, Any] | None:
        match record.state:
            case State.DUE | State.WAITING:
                return None
            case State.PARKED:
                pass
            case State.CONFLICT:
                raise _Refused(
                    "AWS holds another quantity for this hour, and the first one counts: sending it again "
                    "mends nothing. Compare with AWS's usage report, then write it off."
                )
            case State.EXPIRED:
                raise _Refused(
                    "AWS's window for its hour is over. Void it and bill its usage in an open hour, or "
                    "write it off."
                )
            case _:
                raise _Refused(_why_not(record, "Only parked records can be sent again."))
        submit_by = accepted_until(record.hour, closes_at=agreement.metering_closes_at)
        if submit_by <= now:
            raise _Refused(
                f"AWS took its hour until {submit_by:%Y-%m-%d %H:%M} UTC. Void it and bill its usage in an "
                "open hour, or write it off."
            )
        return {**_again(is_maybe_taken), "submit_by": submit_by}

    return _decide(records, rule, "records_retried", by=by, reason=reason, now=now)


def hold(records: Iterable[MeteringRecord], *, by: User, reason: str, now: datetime) -> Decided:
    """Keep records from being sent, until resumed or written off. Their deadlines stay as they are."""

    def rule(agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool) -> Mapping[str, Any] | None:
        if record.state == State.HELD:
            return None
        if record.state not in (State.DUE, State.WAITING):
            raise _Refused(_why_not(record, "Only what is due or waiting can be held."))
        return {"state": State.HELD, "next_attempt_at": None}

    return _decide(records, rule, "records_held", by=by, reason=reason, now=now)


def resume(records: Iterable[MeteringRecord], *, by: User, reason: str, now: datetime) -> Decided:
    """Send held records after all. What AWS takes no longer expires with the submitter's next run."""

    def rule(agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool) -> Mapping[str, Any] | None:
        if record.state in (State.DUE, State.WAITING):
            return None
        if record.state != State.HELD:
            raise _Refused(_why_not(record, "Only held records can be resumed."))
        return _again(is_maybe_taken)

    return _decide(records, rule, "records_resumed", by=by, reason=reason, now=now)


def write_off(records: Iterable[MeteringRecord], *, by: User, reason: str, now: datetime) -> Decided:
    """Give up billing these records, for good."""
    given_up = (State.PARKED, State.EXPIRED, State.CONFLICT, State.HELD, State.WAITING)

    def rule(agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool) -> Mapping[str, Any] | None:
        if record.state == State.WRITTEN_OFF:
            return None
        if record.state not in given_up:
            raise _Refused(_why_not(record, "Hold it first: it is about to be sent."))
        return {"state": State.WRITTEN_OFF, "next_attempt_at": None, "settled_at": now}

    return _decide(records, rule, "records_written_off", by=by, reason=reason, now=now)


def void(records: Iterable[MeteringRecord], *, by: User, reason: str, now: datetime) -> Decided:
    """Undo records that AWS surely does not hold: their usage becomes too late, to be billed or written off.

    The allowance that they drew is free again. Their hours stay taken: what was sent once under an hour is
    never sent again with another quantity.
    """

    def rule(agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool) -> Mapping[str, Any] | None:
        if record.state == State.VOID:
            return None
        if record.state not in (State.PARKED, State.EXPIRED):
            raise _Refused(_why_not(record, "Only parked and expired records can be voided."))
        if is_maybe_taken:
            raise _Refused(
                "AWS may hold it: one send of it was never answered. Billing its usage again could bill the "
                "buyer twice. Compare with AWS's usage report, then write it off."
            )
        return {"state": State.VOID, "settled_at": now}

    def reopen(pks: list[int]) -> None:
        UsageEvent.objects.filter(metering_record__in=pks).update(
            metering_record=None, disposition=Disposition.TOO_LATE
        )

    return _decide(records, rule, "records_voided", by=by, reason=reason, now=now, then=reopen)


def write_off_usage(events: Iterable[UsageEvent], *, by: User, reason: str, now: datetime) -> Decided:
    """Give up billing usage that came too late, for good."""
    return _decide_usage(
        events,
        Disposition.WRITTEN_OFF,
        "usage_written_off",
        lambda agreement: "",
        by=by,
        reason=reason,
        now=now,
    )


def bill_late_usage(events: Iterable[UsageEvent], *, by: User, reason: str, now: datetime) -> Decided:
    """Bill usage that came too late with the next hour to close: the buyer sees it there, visibly late."""

    def refusal(agreement: Agreement) -> str:
        if agreement.activated_at is None:
            return "The agreement was never active: AWS takes nothing of it. Write the usage off."
        closes_at = agreement.metering_closes_at
        is_over = agreement.status in (Agreement.Status.ENDED, Agreement.Status.FAILED)
        if is_over or (closes_at is not None and closes_at <= now):
            return "The agreement is over and AWS takes nothing of it any more. Write the usage off."
        if not identity.can_be_metered(agreement):
            return "AWS has not told the whole license ARN yet. It comes with its next event; try again then."
        return ""

    return _decide_usage(
        events, Disposition.BILLABLE, "late_usage_billed", refusal, by=by, reason=reason, now=now
    )


def _again(is_maybe_taken: bool) -> Mapping[str, Any]:
    """Sendable again. What AWS may hold since an earlier send is in doubt still."""
    return {
        "state": State.IN_DOUBT if is_maybe_taken else State.DUE,
        "claimed_by": None,  # no submitter's: the one at work may take it at once
        "next_attempt_at": None,
        "error_code": "",
        "error_message": "",
        "settled_at": None,
    }


def _why_not(record: MeteringRecord, otherwise: str) -> str:
    match record.state:
        case State.IN_DOUBT:
            return _IN_DOUBT
        case State.ACCEPTED:
            return _ACCEPTED
        case _:
            return f"It is “{record.get_state_display()}”. {otherwise}"


def _decide(
    records: Iterable[MeteringRecord],
    rule: Rule,
    action: str,
    *,
    by: User,
    reason: str,
    now: datetime,
    then: Callable[[list[int]], None] | None = None,
) -> Decided:
    _check(reason)
    by_agreement: dict[int, list[int]] = defaultdict(list)
    for each in records:
        by_agreement[each.agreement_id].append(each.pk)
    decided = Decided()
    for agreement_pk in sorted(by_agreement):
        with transaction.atomic():
            agreement = customers.lock(agreement_pk)
            # In the order in which the submitter locks them. It may hold some: their state is read after it.
            locked = MeteringRecord.objects.select_for_update(no_key=True).order_by("pk")
            rows = list(locked.filter(pk__in=by_agreement[agreement_pk], agreement=agreement))
            lines = SubmissionLine.objects.maybe_taken().filter(record__in=rows)
            maybe_taken = set(lines.values_list("record_id", flat=True))
            done: list[int] = []
            for record in rows:
                try:
                    changes = rule(agreement, record, record.pk in maybe_taken)
                except _Refused as refused:
                    decided.refused[record.pk] = str(refused)
                    continue
                if changes is None:
                    decided.unchanged.append(record.pk)
                elif MeteringRecord.objects.filter(pk=record.pk, state=record.state).update(**changes):
                    done.append(record.pk)
                else:
                    decided.refused[record.pk] = "It changed at this moment. Look at it again."
            if done and then is not None:
                then(done)
            if done:
                audit.record(agreement, action, by=by, at=now, reason=reason, records=done)
        decided.done += done
    return decided


def _decide_usage(
    events: Iterable[UsageEvent],
    disposition: Disposition,
    action: str,
    refusal: Callable[[Agreement], str],
    *,
    by: User,
    reason: str,
    now: datetime,
) -> Decided:
    _check(reason)
    by_agreement: dict[int, list[int]] = defaultdict(list)
    for each in events:
        by_agreement[each.agreement_id].append(each.pk)
    decided = Decided()
    for agreement_pk in sorted(by_agreement):
        with transaction.atomic():
            agreement = customers.lock(agreement_pk)
            no = refusal(agreement)
            done: list[int] = []
            for event in UsageEvent.objects.filter(
                pk__in=by_agreement[agreement_pk], agreement=agreement
            ).order_by("pk"):
                if event.disposition == disposition and event.metering_record_id is None:
                    decided.unchanged.append(event.pk)
                elif event.disposition != Disposition.TOO_LATE:
                    decided.refused[event.pk] = (
                        f"It is “{event.get_disposition_display()}”"
                        f"{' and in a closed hour' if event.metering_record_id else ''}: not too late usage."
                    )
                elif no:
                    decided.refused[event.pk] = no
                else:
                    done.append(event.pk)
            if done:
                UsageEvent.objects.filter(
                    pk__in=done, disposition=Disposition.TOO_LATE, metering_record=None
                ).update(disposition=disposition)
                audit.record(agreement, action, by=by, at=now, reason=reason, events=done)
        decided.done += done
    return decided


def _check(reason: str) -> None:
    if not reason.strip():
        raise DecisionRefused("Say why: the reason stays in the audit trail.")

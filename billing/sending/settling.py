"""Writing verdicts on many records and their lines in a few statements, all or none of them.

PostgreSQL joins the answer as a table; elsewhere it is a CASE. Both write the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Case, CharField, Value, When

from billing.models import MeteringRecord, Submission, SubmissionLine

State = MeteringRecord.State

_LONGEST_ID = MeteringRecord._meta.get_field("aws_record_id").max_length
_SETTLED = (State.ACCEPTED, State.CONFLICT, State.PARKED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a record: its state, AWS's word for it, and when it is tried again."""

    state: str
    status: str
    next_attempt_at: datetime | None = None
    error_code: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Of one call: the records that AWS accepted, with its ids, and the verdicts on all others."""

    submission: int
    accepted: Mapping[int, str | None]
    others: Mapping[Verdict, Sequence[int]]


def lock(pks: Iterable[int], *, token: int) -> set[int]:
    """Lock those still in doubt under ``token``, in the order in which deadlines are recomputed."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_LOCK_RECORDS, [list(pks), token])
            return {pk for (pk,) in cursor.fetchall()}
    ours = MeteringRecord.objects.filter(pk__in=list(pks), state=State.IN_DOUBT, claimed_by=token)
    return set(ours.values_list("pk", flat=True))


def finish_answered(request_ids: Mapping[int, str], *, now: datetime) -> None:
    """Submissions that AWS answered, each with the id that it gave the request."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_FINISH, [now, list(request_ids), list(request_ids.values())])
        return
    Submission.objects.filter(pk__in=list(request_ids)).update(
        finished_at=now, outcome=Submission.Outcome.ANSWERED, aws_request_id=_chosen("pk", request_ids)
    )


def settle(settlements: Sequence[Settlement], in_hand: Collection[int], *, token: int, now: datetime) -> None:
    """Write the verdicts on the records that are ``in_hand``: the caller has them locked."""
    accepted: list[tuple[int, int, str | None]] = []  # submission, record, AWS's id
    others: dict[Verdict, list[int]] = {}
    for settlement in settlements:
        accepted += [
            (settlement.submission, pk, clipped_id(aws_id))
            for pk, aws_id in settlement.accepted.items()
            if pk in in_hand
        ]
        for verdict, pks in settlement.others.items():
            written = [pk for pk in pks if pk in in_hand]
            others.setdefault(verdict, []).extend(written)
            SubmissionLine.objects.filter(submission=settlement.submission, record__in=written).update(
                status=clipped(verdict.status)
            )
    for verdict, pks in others.items():
        MeteringRecord.objects.filter(pk__in=pks, state=State.IN_DOUBT, claimed_by=token).update(
            state=verdict.state,
            error_code=clipped(verdict.error_code),
            error_message=verdict.error_message,
            next_attempt_at=verdict.next_attempt_at,
            **({"settled_at": now} if verdict.state in _SETTLED else {}),
        )
    if accepted:
        _accept(accepted, token=token, now=now)


def clipped(words: str) -> str:
    """AWS's words in the column they have: a long one is no reason to lose the answer."""
    return words[:100]


def clipped_id(aws_id: str | None) -> str | None:
    return aws_id[:_LONGEST_ID] if aws_id is not None else None


def _accept(accepted: Sequence[tuple[int, int, str | None]], *, token: int, now: datetime) -> None:
    submissions, records, aws_ids = (list(column) for column in zip(*accepted, strict=True))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_ACCEPT_RECORDS, [now, records, aws_ids])
            cursor.execute(_ACCEPT_LINES, [submissions, records, aws_ids])
        return
    named = dict(zip(records, aws_ids, strict=True))
    MeteringRecord.objects.filter(pk__in=records, state=State.IN_DOUBT, claimed_by=token).update(
        state=State.ACCEPTED,
        aws_record_id=_chosen("pk", named),
        error_code="",
        error_message="",
        settled_at=now,
    )
    SubmissionLine.objects.filter(submission__in=submissions, record__in=records).update(
        status="Success", aws_record_id=_chosen("record", named)
    )


def _chosen(column: str, values: Mapping[int, str | None]) -> Case:
    whens = [When(**{column: key}, then=Value(value)) for key, value in values.items()]
    return Case(*whens, output_field=CharField())


_LOCK_RECORDS = f"""
    SELECT id FROM {MeteringRecord._meta.db_table}
    WHERE id = ANY(%s) AND state = 'in_doubt' AND claimed_by = %s ORDER BY id FOR NO KEY UPDATE"""
# The casts are of what psycopg sends as text.
_FINISH = f"""
    UPDATE {Submission._meta.db_table} call
    SET finished_at = %s, outcome = 'answered', aws_request_id = answer.request_id
    FROM unnest(%s::bigint[], %s::text[]) AS answer (id, request_id) WHERE call.id = answer.id"""
# next_attempt_at is empty since the claim. That they are in doubt under the token ``lock`` has seen to. Asked
# again, PostgreSQL would search the table for such records: there were hardly any when it last counted.
_ACCEPT_RECORDS = f"""
    UPDATE {MeteringRecord._meta.db_table} record
    SET state = 'accepted', aws_record_id = answer.aws_id, settled_at = %s,
        error_code = '', error_message = ''
    FROM unnest(%s::bigint[], %s::text[]) AS answer (id, aws_id)
    WHERE record.id = answer.id"""
_ACCEPT_LINES = f"""
    UPDATE {SubmissionLine._meta.db_table} line SET status = 'Success', aws_record_id = answer.aws_id
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS answer (submission_id, record_id, aws_id)
    WHERE line.submission_id = answer.submission_id AND line.record_id = answer.record_id"""

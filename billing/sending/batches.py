"""Which records share a call, and taking them in hand: marked in doubt, committed, before anything leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import F, Q

from billing import crashpoints
from billing.aws import wire
from billing.aws.limits import MAX_BYTES_PER_CALL, MAX_RECORDS_PER_CALL
from billing.aws.types import UsageLine
from billing.leases import Held
from billing.models import MeteringRecord, Submission, SubmissionLine

State = MeteringRecord.State

_REQUEST_FRAME = 400  # bytes of a call around its records: their list's name, the product code
# Bytes of a record whose columns are all as long as they can be, without allocations: 25 are far from 1 MB.
_PLAIN_RECORD = 6000

# What a record is sent as, and the order in which ``usage_lines`` takes it.
LINE_COLUMNS = (
    "pk",
    "wire_license_arn",
    "wire_product_code",
    "wire_account_id",
    "wire_customer_identifier",
    "dimension__key",
    "wire_timestamp",
    "wire_quantity",
    "wire_allocations",
)


_ALIKE = ("agreement__product", "wire_product_code", "wire_region")  # in all records of a call


class Standing(NamedTuple):
    """How a record stood before this send: what it goes back to if AWS took nothing."""

    state: str
    attempts: int  # this one included


@dataclass(frozen=True, slots=True)
class Batch:
    """Records for one call: of one product, one identity, one Region. Claimed once it has a submission."""

    region: str
    lines: Sequence[UsageLine]
    parent: int | None = None
    submission: int = 0
    standings: dict[int, Standing] = field(default_factory=dict)

    def halves(self) -> tuple[Batch, Batch]:
        middle = len(self.lines) // 2
        first, second = self.lines[:middle], self.lines[middle:]
        return Batch(self.region, first, self.submission), Batch(self.region, second, self.submission)


def usage_lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[UsageLine]:
    """Records in their frozen wire form."""
    for pk, arn, product, account, customer, dimension, at, quantity, allocations in rows:
        parts = wire.allocations_from_json(allocations)
        yield UsageLine(pk, arn, product, account, customer, dimension, at, quantity, parts)


def pick(
    *,
    now: datetime,
    token: int,
    but_regions: Sequence[str],
    most: Callable[[str], int],
    but_products: Sequence[str] = (),
) -> list[Batch]:
    """Batches of the records with the nearest deadlines that may share calls: at most ``most(region)``.

    ``but_products`` are product codes of legacy purchases; a license has none in its calls.
    """
    due = (
        MeteringRecord.objects.sendable()
        .filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now), submit_by__gt=now)
        # Not what this submitter has in flight.
        .exclude(state=State.IN_DOUBT, claimed_by=token, next_attempt_at=None)
        .order_by("submit_by", "pk")
    )
    due = due.exclude(wire_region__in=but_regions)
    if but_products:
        due = due.exclude(wire_product_code__in=but_products)
    first = due.values_list(*_ALIKE).first()
    if first is None:
        return []
    region = first[-1]
    calls = most(region)
    alike = due.filter(**dict(zip(_ALIKE, first, strict=True)))
    rows = alike.values_list(*LINE_COLUMNS)[: calls * MAX_RECORDS_PER_CALL]
    return [Batch(region, lines) for lines in islice(_packed(usage_lines(rows)), calls)]


def _packed(lines: Iterable[UsageLine]) -> Iterable[list[UsageLine]]:
    """Full calls in the lines' order: no more than 25 records, less than 1 MB."""
    call: list[UsageLine] = []
    size = _REQUEST_FRAME
    for line in lines:
        added = wire.size_of(line) if line.allocations else _PLAIN_RECORD
        if call and (len(call) == MAX_RECORDS_PER_CALL or size + added >= MAX_BYTES_PER_CALL):
            yield call
            call, size = [], _REQUEST_FRAME
        call.append(line)
        size += added
    if call:
        yield call


@transaction.atomic
def claim(picked: Sequence[Batch], *, lease: Held, now: datetime) -> list[Batch]:
    """Mark the batches in doubt, under this submitter's token, before anything leaves. Raises LeaseLost.

    Records that somebody settled, held or let expire meanwhile are left out.
    """
    # The lease's row stays locked until the batches are taken: nobody becomes the submitter in between.
    lease.renew()
    standings = _take(
        [line.reference for batch in picked for line in batch.lines], token=lease.token, now=now
    )
    claimed = [
        replace(batch, lines=lines, standings={line.reference: standings[line.reference] for line in lines})
        for batch in picked
        if (lines := [line for line in batch.lines if line.reference in standings])
    ]
    if not claimed:
        return []
    submissions = Submission.objects.bulk_create(
        Submission(token=lease.token, parent_id=batch.parent, record_count=len(batch.lines), started_at=now)
        for batch in claimed
    )
    _insert_lines(
        [
            (submission.pk, line.reference)
            for submission, batch in zip(submissions, claimed, strict=True)
            for line in batch.lines
        ]
    )
    crashpoints.reached("submission.taken")
    return [
        replace(batch, submission=submission.pk)
        for submission, batch in zip(submissions, claimed, strict=True)
    ]


def _insert_lines(pairs: Sequence[tuple[int, int]]) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_INSERT_LINES, [list(column) for column in zip(*pairs, strict=True)])
        return
    SubmissionLine.objects.bulk_create(
        SubmissionLine(submission_id=submission, record_id=record) for submission, record in pairs
    )


_INSERT_LINES = f"""
    INSERT INTO {SubmissionLine._meta.db_table} (submission_id, record_id, status)
    SELECT submission_id, record_id, ''
    FROM unnest(%s::bigint[], %s::bigint[]) AS line (submission_id, record_id)"""


def _take(pks: list[int], *, token: int, now: datetime) -> dict[int, Standing]:
    """Mark what may still be sent, in the order in which deadlines are recomputed: else both could wait."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, [pks, list(MeteringRecord.SENDABLE), now, token])
            return {pk: Standing(state, attempts) for pk, state, attempts in cursor.fetchall()}
    rows = (
        MeteringRecord.objects.sendable()
        .filter(pk__in=pks, submit_by__gt=now)
        .order_by("pk")
        .values_list("pk", "state", "attempts")
    )
    standings = {pk: Standing(state, attempts + 1) for pk, state, attempts in rows}
    MeteringRecord.objects.filter(pk__in=list(standings)).update(
        state=State.IN_DOUBT, claimed_by=token, attempts=F("attempts") + 1, next_attempt_at=None
    )
    return standings


_TAKE = f"""
    WITH sendable AS MATERIALIZED (
        SELECT id, state FROM {MeteringRecord._meta.db_table}
        WHERE id = ANY(%s) AND state = ANY(%s) AND submit_by > %s
        ORDER BY id FOR NO KEY UPDATE)
    UPDATE {MeteringRecord._meta.db_table} record
    SET state = 'in_doubt', claimed_by = %s, attempts = attempts + 1, next_attempt_at = NULL
    FROM sendable WHERE record.id = sendable.id
    RETURNING record.id, sendable.state, record.attempts"""

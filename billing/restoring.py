"""After a restore from a backup: what AWS may have been told since then, and nobody here remembers.

The database went back in time, AWS did not. Until the truth is known nothing may be billed under another hour
than the first time: under the same hour AWS takes it once, whatever happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from billing import audit, customers
from billing.aws.limits import MAX_RECORDS_PER_CALL
from billing.aws.window import HOUR, hour_of
from billing.closing import open_usage, taken
from billing.closing.hours import Closable, Uses, oldest
from billing.models import Agreement, MeteringRecord, Submission, SubmissionLine, UsageEvent

_AT_ONCE = 500  # agreements

State = MeteringRecord.State


@dataclass(slots=True)
class Assumed:
    records: int = 0  # that AWS may have taken since
    uses: int = 0  # that AWS may have billed under an hour that is not to be found out
    undecided: int = 0  # records that a person may have decided about since


def assume_sent(*, now: datetime) -> Assumed:
    """Take everything unsettled for sent, and late usage for billed. Again it changes nothing.

    The caller has stopped whatever closes or submits, and has recorded again what the backup does not hold.
    """
    assumed = Assumed(undecided=MeteringRecord.objects.filter(state__in=_DECIDABLE).count())
    for pks in _agreements():
        with transaction.atomic():
            locked = {agreement.pk: agreement for agreement in customers.lock_many(pks)}
            assumed.records += _doubt(pks, now=now)
            assumed.uses += _set_aside(locked, now=now)
    with transaction.atomic():
        audit.record(
            audit.SYSTEM,
            "ledger_restored",
            by="command",
            at=now,
            records=assumed.records,
            events=assumed.uses,
        )
    return assumed


_DECIDABLE = (State.PARKED, State.EXPIRED, State.CONFLICT)


def _agreements() -> Iterator[list[int]]:
    """Those with anything unsettled or open."""
    unsettled = MeteringRecord.objects.filter(agreement=OuterRef("pk"), state__in=MeteringRecord.UNSETTLED)
    is_open = UsageEvent.objects.open().filter(agreement=OuterRef("pk"))
    found = Agreement.objects.filter(Exists(unsettled) | Exists(is_open)).order_by("pk")
    pks = list(found.values_list("pk", flat=True))
    return (pks[start : start + _AT_ONCE] for start in range(0, len(pks), _AT_ONCE))


def _doubt(agreements: list[int], *, now: datetime) -> int:
    """A call for each 25 records of which nobody knows whether it was made, as after a crash in one.

    The identical record goes out again. Whatever AWS answers is right then: taken before, or taken now.
    """
    maybe_taken = SubmissionLine.objects.maybe_taken().filter(record=OuterRef("pk"))
    records = MeteringRecord.objects.filter(
        ~Exists(maybe_taken), agreement__in=agreements, state__in=MeteringRecord.UNSETTLED
    )
    pks = list(records.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(pks), MAX_RECORDS_PER_CALL):
        portion = pks[start : start + MAX_RECORDS_PER_CALL]
        call = Submission.objects.create(
            token=0,
            record_count=len(portion),
            started_at=now,
            finished_at=now,
            outcome=Submission.Outcome.FAILED,
            error_code="Restored",
            error_message="The database was restored: this may have been sent since the backup.",
        )
        SubmissionLine.objects.bulk_create(SubmissionLine(submission=call, record_id=pk) for pk in portion)
        # What a person held stays held, and is in doubt once it is resumed.
        MeteringRecord.objects.sendable().filter(pk__in=portion).update(
            state=State.IN_DOUBT, claimed_by=None, next_attempt_at=None
        )
    return len(pks)


def _set_aside(agreements: dict[int, Agreement], *, now: datetime) -> int:
    """Open usage that would move to another hour: AWS may have billed it in one that we do not know of."""
    hours = taken.TakenHours(agreements, since=oldest(now))
    moved = 0
    for pk, of in open_usage.read(agreements).items():
        agreement = agreements[pk]
        events = [
            event
            for dimension, usage in of.items()
            for uses in usage
            if not _stays(uses, agreement, hours.of(agreement, dimension), now=now)
            for event in uses.pks
        ]
        if events:
            open_usage.set_aside(events, UsageEvent.Disposition.TOO_LATE)
            audit.record(agreement, "usage_set_aside", by="command", at=now, events=len(events))
            moved += len(events)
    return moved


def _stays(uses: Uses, agreement: Agreement, closed: Collection[datetime], *, now: datetime) -> bool:
    """Whether it is closed in its own hour, as it was the first time."""
    if agreement.activated_at is None:
        return True  # never billed at all
    ended_at = agreement.ended_at
    own = uses.hour if ended_at is None else min(uses.hour, hour_of(ended_at))
    closable = Closable(
        now=now,
        end=own + HOUR,
        activated_at=agreement.activated_at,
        closes_at=agreement.metering_closes_at,
        taken=closed,
        ending=ended_at is not None,
        final=False,
    )
    return closable.is_free(own)

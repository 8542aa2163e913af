"""After a restore from a backup: what AWS may have been told since then, and nobody here remembers.

The database went back in time, AWS did not. Until the truth is known nothing may be billed under another hour
than the first time: under the same hour AWS takes it once, whatever happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from billing import audit, metering
from billing.aws.limits import MAX_RECORDS_PER_CALL
from billing.aws.window import hour_of
from billing.closing import ending, open_usage, taken
from billing.models import Agreement, MeteringRecord, Submission, SubmissionLine, UsageEvent

_AT_ONCE = 500  # agreements
_RESTORED = "Restored"  # the error code of the calls that it makes up

State = MeteringRecord.State


@dataclass(slots=True)
class Assumed:
    records: int = 0  # that AWS may have taken since
    hours: int = 0  # closed now, as AWS may have had them since
    uses: int = 0  # that AWS may have billed under an hour that is not to be found out
    undecided: int = 0  # records that a person may have decided about since
    late: int = 0  # uses that a person may have billed since


def assume_sent(*, now: datetime) -> Assumed:
    """Take everything unsettled for sent, close usage in its own hour now, and take the rest for billed.

    The caller has stopped whatever closes or submits, and has recorded again what the backup does not hold.
    Again it changes nothing.
    """
    assumed = Assumed(
        undecided=MeteringRecord.objects.filter(state__in=_DECIDABLE).count(),
        late=UsageEvent.objects.filter(disposition=UsageEvent.Disposition.TOO_LATE).count(),
    )
    for pks in _agreements(now=now):
        with transaction.atomic():
            locked = taken.lock(pks)
            assumed.records += _doubt(pks, now=now)
            assumed.hours += _close(pks, now=now)
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


def _agreements(*, now: datetime) -> Iterator[list[int]]:
    """Those with anything unsettled or open, or about to be open."""
    unsettled = MeteringRecord.objects.filter(agreement=OuterRef("pk"), state__in=MeteringRecord.UNSETTLED)
    is_open = UsageEvent.objects.open().filter(agreement=OuterRef("pk"))
    misplaced = ending.misplaced_usage(now=now).filter(agreement=OuterRef("pk"))
    waiting = Exists(unsettled) | Exists(is_open) | Exists(misplaced)
    found = Agreement.objects.filter(waiting).order_by("pk")
    pks = list(found.values_list("pk", flat=True))
    return (pks[start : start + _AT_ONCE] for start in range(0, len(pks), _AT_ONCE))


def _doubt(agreements: Sequence[int], *, now: datetime) -> int:
    """A call for each 25 records of which nobody knows whether it was made, as after a crash in one.

    The identical record goes out again. Whatever AWS answers is right then: taken before, or taken now.
    """
    pks = _unsettled(agreements)
    _make_up_calls(pks, "The database was restored: this may have been sent since the backup.", now=now)
    # What a person held stays held, and is in doubt once it is resumed.
    MeteringRecord.objects.sendable().filter(pk__in=pks).update(
        state=State.IN_DOUBT, claimed_by=None, next_attempt_at=None
    )
    return len(pks)


def _close(agreements: Sequence[int], *, now: datetime) -> int:
    """Close usage in its own hour, as the first time: AWS may not take that hour by the next closing.

    The records are not in doubt: AWS may hold other uses of the hour, and then a duplicate is an alarm. Their
    made-up call says that it took nothing. By it they are known when this runs again.
    """
    made = metering.close_in_place(agreements, region=settings.MARKETPLACE["metering_region"], now=now)
    message = "Closed after the database was restored: AWS may hold other uses of this hour."
    _make_up_calls(_unsettled(agreements), message, status=_RESTORED, now=now)
    return made


def _unsettled(agreements: Sequence[int]) -> list[int]:
    """Records of which no line says yet that they were in doubt, or were closed here."""
    lines = SubmissionLine.objects.filter(record=OuterRef("pk"))
    records = MeteringRecord.objects.filter(
        ~Exists(lines.maybe_taken()),
        ~Exists(lines.filter(status=_RESTORED)),
        agreement__in=agreements,
        state__in=MeteringRecord.UNSETTLED,
    )
    return list(records.order_by("pk").values_list("pk", flat=True))


def _make_up_calls(records: Sequence[int], message: str, *, status: str = "", now: datetime) -> None:
    for start in range(0, len(records), MAX_RECORDS_PER_CALL):
        portion = records[start : start + MAX_RECORDS_PER_CALL]
        call = Submission.objects.create(
            token=0,
            record_count=len(portion),
            started_at=now,
            finished_at=now,
            outcome=Submission.Outcome.FAILED,
            error_code=_RESTORED,
            error_message=message,
        )
        SubmissionLine.objects.bulk_create(
            SubmissionLine(submission=call, record_id=pk, status=status) for pk in portion
        )


def _set_aside(agreements: dict[int, Agreement], *, now: datetime) -> int:
    """What is open still would move to another hour: AWS may have billed it in one that we do not know of."""
    moved = 0
    for pk, of in open_usage.read(agreements).items():
        agreement = agreements[pk]
        is_over = agreement.ended_at is not None and agreement.ended_at <= now
        events = [
            event
            for usage in of.values()
            for uses in usage
            if is_over or uses.hour < hour_of(now)
            for event in uses.pks
        ]
        if events:
            open_usage.set_aside(events, UsageEvent.Disposition.TOO_LATE)
            audit.record(agreement, "usage_set_aside", by="command", at=now, events=len(events))
            moved += len(events)
    return moved

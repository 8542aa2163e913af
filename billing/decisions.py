"""What operators decide about usage that AWS did not simply take: retry, hold, write off, void, bill late.

Each decision takes one row or many: it decides row by row (billing.decision_rules), does what may be done,
and says of each other row why not. Rows of one agreement change in one transaction under its lock, with one
audit link. Beside a running submitter it is safe: what is in doubt at that moment is refused. ``foresee``
asks the same rules, and writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from billing import audit, customers
from billing import decision_rules as rules
from billing.decision_rules import RecordRule, Refused, UsageRule
from billing.models import Agreement, MeteringRecord, SubmissionLine, UsageEvent

Disposition = UsageEvent.Disposition

# What somebody saw of the rows when they decided, by primary key: one that is another by now is refused.
Seen = Mapping[int, str]


class DecisionRefused(ValueError):
    """The decision itself is malformed; the message says what to give. Nothing was changed."""


@dataclass(slots=True)
class Decided:
    """What became of the rows, by primary key: changed, as decided already, refused (and why)."""

    done: list[int] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)

    def add(self, other: Decided) -> None:
        self.done += other.done
        self.unchanged += other.unchanged
        self.refused |= other.refused


@dataclass(frozen=True, slots=True)
class OfRecords:
    """A decision about metering records. ``action`` is the audit trail's name of it."""

    rule: RecordRule
    action: str
    then: Callable[[list[int]], object] = lambda pks: None

    def __call__(
        self,
        records: Iterable[MeteringRecord],
        *,
        by: User,
        reason: str,
        now: datetime,
        seen: Seen | None = None,
    ) -> Decided:
        _check(reason)
        decided = Decided()
        for agreement_pk, pks in _by_agreement(records):
            with transaction.atomic():
                agreement = customers.lock(agreement_pk)
                changed = self._decide(agreement, pks, now=now, seen=seen)
                if changed.done:
                    self.then(changed.done)
                    audit.record(agreement, self.action, by=by, at=now, reason=reason, records=changed.done)
            decided.add(changed)
        return decided

    def foresee(self, records: Iterable[MeteringRecord], *, now: datetime) -> Decided:
        """What would become of them as they are now. Locks nothing and writes nothing."""
        found = MeteringRecord.objects.filter(pk__in=[each.pk for each in records])
        rows = list(found.select_related("agreement"))
        maybe_taken, foreseen = _maybe_taken(rows), Decided()
        for record in rows:
            self._judge(record, record.agreement, maybe_taken, foreseen, now=now, seen=None)
        return foreseen

    def _decide(
        self, agreement: Agreement, pks: Sequence[int], *, now: datetime, seen: Seen | None
    ) -> Decided:
        # In the order in which the submitter locks them. It may hold some: their state is read after it.
        locked = MeteringRecord.objects.select_for_update(no_key=True).order_by("pk")
        rows = list(locked.filter(pk__in=pks, agreement=agreement))
        maybe_taken, decided = _maybe_taken(rows), Decided()
        for record in rows:
            changes = self._judge(record, agreement, maybe_taken, decided, now=now, seen=seen)
            if changes is None:
                continue
            if not MeteringRecord.objects.filter(pk=record.pk, state=record.state).update(**changes):
                decided.done.remove(record.pk)
                decided.refused[record.pk] = _("It changed at this moment. Look at it again.")
        return decided

    def _judge(
        self,
        record: MeteringRecord,
        agreement: Agreement,
        maybe_taken: set[int],
        decided: Decided,
        *,
        now: datetime,
        seen: Seen | None,
    ) -> Mapping[str, Any] | None:
        """Note in ``decided`` what becomes of it; answers what changes, None if nothing does."""
        try:
            changes = self.rule(agreement, record, record.pk in maybe_taken, now)
            if changes is not None:
                _refuse_changed(record.state, seen, record.pk, dict(MeteringRecord.State.choices))
        except Refused as refused:
            decided.refused[record.pk] = str(refused)
            return None
        (decided.unchanged if changes is None else decided.done).append(record.pk)
        return changes


@dataclass(frozen=True, slots=True)
class OfUsage:
    """A decision about usage that came too late. ``disposition`` is what it makes of it."""

    rule: UsageRule
    action: str
    disposition: UsageEvent.Disposition

    def __call__(
        self,
        events: Iterable[UsageEvent],
        *,
        by: User,
        reason: str,
        now: datetime,
        seen: Seen | None = None,
    ) -> Decided:
        _check(reason)
        decided = Decided()
        for agreement_pk, pks in _by_agreement(events):
            with transaction.atomic():
                agreement, judged = customers.lock(agreement_pk), Decided()
                for event in UsageEvent.objects.filter(pk__in=pks, agreement=agreement).order_by("pk"):
                    self._judge(event, agreement, judged, now=now, seen=seen)
                if judged.done:
                    UsageEvent.objects.filter(
                        pk__in=judged.done, disposition=Disposition.TOO_LATE, metering_record=None
                    ).update(disposition=self.disposition)
                    audit.record(agreement, self.action, by=by, at=now, reason=reason, events=judged.done)
            decided.add(judged)
        return decided

    def foresee(self, events: Iterable[UsageEvent], *, now: datetime) -> Decided:
        """What would become of it as it is now. Locks nothing and writes nothing."""
        foreseen = Decided()
        found = UsageEvent.objects.filter(pk__in=[each.pk for each in events])
        for event in found.select_related("agreement"):
            self._judge(event, event.agreement, foreseen, now=now, seen=None)
        return foreseen

    def _judge(
        self,
        event: UsageEvent,
        agreement: Agreement,
        decided: Decided,
        *,
        now: datetime,
        seen: Seen | None,
    ) -> None:
        try:
            changes = self.rule(agreement, event, now)
            if changes:
                _refuse_changed(event.disposition, seen, event.pk, dict(Disposition.choices))
        except Refused as refused:
            decided.refused[event.pk] = str(refused)
        else:
            (decided.done if changes else decided.unchanged).append(event.pk)


def _reopen(pks: list[int]) -> None:
    UsageEvent.objects.filter(metering_record__in=pks).update(
        metering_record=None, disposition=Disposition.TOO_LATE
    )


# Send parked records again, byte for byte the same, while AWS's window for them is open.
retry = OfRecords(rules.retry, "records_retried")
# Keep records from being sent, until resumed or written off. Their deadlines stay as they are.
hold = OfRecords(rules.hold, "records_held")
# Send held records after all. What AWS takes no longer expires with the submitter's next run.
resume = OfRecords(rules.resume, "records_resumed")
# Give up billing these records, for good.
write_off = OfRecords(rules.write_off, "records_written_off")
# Undo records that AWS surely does not hold: their usage becomes too late, to be billed or written off. The
# allowance that they drew is free again. Their hours stay taken: what was sent once under an hour is never
# sent again with another quantity.
void = OfRecords(rules.void, "records_voided", _reopen)
# Give up billing usage that came too late, for good.
write_off_usage = OfUsage(rules.write_off_usage, "usage_written_off", Disposition.WRITTEN_OFF)
# Bill usage that came too late with the next hour to close: the buyer sees it there, visibly late.
bill_late_usage = OfUsage(rules.bill_late_usage, "late_usage_billed", Disposition.BILLABLE)


def _by_agreement(rows: Iterable[MeteringRecord | UsageEvent]) -> Iterable[tuple[int, list[int]]]:
    pks: dict[int, list[int]] = defaultdict(list)
    for each in rows:
        pks[each.agreement_id].append(each.pk)
    return sorted(pks.items())


def _maybe_taken(rows: Sequence[MeteringRecord]) -> set[int]:
    lines = SubmissionLine.objects.maybe_taken().filter(record__in=rows)
    return set(lines.values_list("record_id", flat=True))


def _refuse_changed(state: str, seen: Seen | None, pk: int, words: Mapping[str, Any]) -> None:
    then = seen.get(pk, state) if seen is not None else state
    if then != state:
        raise Refused(rules.changed_since(str(words.get(then, then)), str(words.get(state, state))))


def _check(reason: str) -> None:
    if not reason.strip():
        raise DecisionRefused("Say why: the reason stays in the audit trail.")

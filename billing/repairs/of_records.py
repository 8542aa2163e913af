"""Repairs of metering records and of usage that came too late: the decisions of billing.decisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from billing import decisions
from billing.decision_rules import GIVEN_UP
from billing.decisions import OfRecords, OfUsage
from billing.models import MeteringRecord, UsageEvent
from billing.repairs.kinds import Chunk, Foreseen, Parameters, Repair, Result, amount_of

State = MeteringRecord.State


class _OfRecords(Repair):
    model = MeteringRecord
    decision: ClassVar[OfRecords]
    states: ClassVar[tuple[MeteringRecord.State, ...]]

    def fits(self, row: MeteringRecord) -> bool:
        return row.state in self.states

    def seen(self, row: MeteringRecord) -> str:
        return row.state

    def in_order(self, rows: QuerySet[MeteringRecord]) -> QuerySet[MeteringRecord]:
        return rows.order_by("agreement", "pk")  # one link of an agreement's trail for many of its rows

    def foresee(self, rows: Sequence[MeteringRecord], parameters: Parameters, *, now: datetime) -> Foreseen:
        decided = self.decision.foresee(rows, now=now)
        return Foreseen(decided, _amount(decided.done))

    def carry_out(self, chunk: Chunk) -> Result:
        rows = MeteringRecord.objects.filter(pk__in=chunk.rows)
        return Result(self.decision(rows, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows))


class Retry(_OfRecords):
    name, permission = "retry", "retry_record"
    decision, states = decisions.retry, (State.PARKED,)
    title = _("Send again")
    effect = _(
        "They are sent to AWS again within five minutes, exactly as they were sent before. What AWS refused "
        "them for must be mended at AWS by then, or it refuses them once more."
    )


class Hold(_OfRecords):
    name, permission = "hold", "hold_record"
    decision, states = decisions.hold, (State.DUE, State.WAITING)
    title = _("Hold back")
    effect = _(
        "They are not sent until somebody resumes them. Their deadlines stay as they are: after those AWS "
        "takes them no more."
    )


class Resume(_OfRecords):
    name, permission = "resume", "hold_record"
    decision, states = decisions.resume, (State.HELD,)
    title = _("Resume")
    effect = _("They are sent to AWS within five minutes. Those whose deadline has passed expire.")


class Void(_OfRecords):
    name, permission, is_final = "void", "void_record", True
    decision, states = decisions.void, (State.PARKED, State.EXPIRED)
    title = _("Void")
    effect = _(
        "They are never sent. The usage in them becomes too late usage, to be billed in another hour or "
        "written off, and the allowance that they drew is free again. This cannot be taken back."
    )


class WriteOff(_OfRecords):
    name, permission, is_final = "write_off", "write_off", True
    decision, states = decisions.write_off, GIVEN_UP
    title = _("Write off")
    effect = _("They are never billed: you give up this money. This cannot be taken back.")


class _OfUsage(Repair):
    model = UsageEvent
    decision: ClassVar[OfUsage]

    def fits(self, row: UsageEvent) -> bool:
        return row.disposition == UsageEvent.Disposition.TOO_LATE

    def seen(self, row: UsageEvent) -> str:
        return row.disposition

    def in_order(self, rows: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        return rows.order_by("agreement", "pk")

    def foresee(self, rows: Sequence[UsageEvent], parameters: Parameters, *, now: datetime) -> Foreseen:
        decided = self.decision.foresee(rows, now=now)
        counted = ngettext("%(count)s use", "%(count)s uses", len(decided.done))
        uses = UsageEvent.objects.filter(pk__in=decided.done)
        amount = amount_of(uses, counted % {"count": intcomma(len(decided.done))}) if decided.done else ""
        return Foreseen(decided, amount)

    def carry_out(self, chunk: Chunk) -> Result:
        rows = UsageEvent.objects.filter(pk__in=chunk.rows)
        return Result(self.decision(rows, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows))


class BillLateUsage(_OfUsage):
    name, permission, is_final = "bill_late_usage", "bill_late_usage", True
    decision = decisions.bill_late_usage
    title = _("Bill it now")
    effect = _(
        "It is billed with the next hour that closes, at five past, and the buyer sees it there although it "
        "was used before. Once that hour is closed this cannot be taken back."
    )


class WriteOffUsage(_OfUsage):
    name, permission, is_final = "write_off_usage", "write_off", True
    decision = decisions.write_off_usage
    title = _("Write off")
    effect = _("It is never billed: you give up this money. This cannot be taken back.")


def _amount(pks: list[int]) -> str:
    if not pks:
        return ""
    counted = ngettext("%(count)s record", "%(count)s records", len(pks)) % {"count": intcomma(len(pks))}
    found: QuerySet[Any] = MeteringRecord.objects.filter(pk__in=pks)
    return amount_of(found, counted)

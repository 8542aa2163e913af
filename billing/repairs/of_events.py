"""Repairs of the inbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from billing.inbox import replays
from billing.models import MarketplaceEvent
from billing.repairs.kinds import Chunk, Foreseen, Parameters, Repair, Result, one_by_one

State = MarketplaceEvent.State


class Replay(Repair):
    name, permission = "replay", "replay_event"
    model = MarketplaceEvent
    title = _("Apply again")
    effect = _(
        "The state of their purchases is added up anew with them, and what that brings about is done: "
        "access, entitlements, mails. What AWS sent is not changed."
    )

    def fits(self, row: MarketplaceEvent) -> bool:
        return row.state not in (State.APPLIED, State.REPLAYED)

    def seen(self, row: MarketplaceEvent) -> str:
        return row.state

    def foresee(self, rows: Sequence[MarketplaceEvent], parameters: Parameters, *, now: datetime) -> Foreseen:
        by_pk = {row.pk: row for row in rows}
        decided = one_by_one(by_pk, lambda pk: replays.check(by_pk[pk]))
        count = len(decided.done)
        amount = ngettext("%(count)s event", "%(count)s events", count) % {"count": intcomma(count)}
        return Foreseen(decided, amount if count else "")

    def carry_out(self, chunk: Chunk) -> Result:
        def replay(pk: int) -> bool:
            return replays.replay(pk, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows[pk])

        return Result(one_by_one(chunk.rows, replay))

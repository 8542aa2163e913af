"""Asking for a repair, and carrying it out: in the request if it is short, else by a worker.

The row is committed first. Whoever carries it out takes it in hand by one conditional UPDATE, and notes how
far it is after each chunk on the same condition: two at once, a bell rung twice or a worker that died change
nothing, because every repair can be done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import translation
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.preferences import language_of
from billing.aws.types import Marketplace
from billing.models import OperatorTask
from billing.repairs.kinds import Chunk, Repair, Result
from billing.repairs.known import REPAIRS

logger = logging.getLogger(__name__)

State = OperatorTask.State

SHORT = 200  # rows: no more are worked on within a request
MOST = 5_000  # rows: what a person can still answer for
SHOWN = 200  # refusals kept
TURN = timedelta(minutes=5)  # then other work may come in between
_PAUSE = timedelta(minutes=1)  # after an unexpected failure
_MOST_FAILURES = 3


@dataclass(slots=True)
class _Turn:
    """One runner's hold of a task."""

    task: OperatorTask
    repair: Repair
    began_at: datetime
    _began: float = field(default_factory=monotonic)

    @property
    def now(self) -> datetime:
        """On the caller's clock: windows close during a long repair."""
        return self.began_at + timedelta(seconds=monotonic() - self._began)

    def note(self, **changes: Any) -> bool:
        """Whether the task is still this runner's."""
        mine = OperatorTask.objects.filter(pk=self.task.pk, run=self.task.run, state=State.RUNNING)
        return bool(mine.update(**changes))


def is_short(repair: Repair, count: int) -> bool:
    return not repair.asks_aws and count <= SHORT


def ask(
    repair: Repair,
    *,
    nonce: str,
    rows: Mapping[int, str],
    parameters: Mapping[str, str],
    by: User,
    reason: str,
    now: datetime,
) -> OperatorTask:
    """Keep what was confirmed. The same page's second press is the same task."""
    in_order = list(rows)
    if repair.model is not None:
        found = repair.model._default_manager.filter(pk__in=in_order)
        in_order = list(repair.in_order(found).values_list("pk", flat=True))
    try:
        with transaction.atomic():
            return OperatorTask.objects.create(
                nonce=nonce,
                kind=repair.name,
                rows=[[pk, rows[pk]] for pk in in_order],
                parameters=dict(parameters),
                asked_by=by,
                reason=reason,
                asked_at=now,
                in_hand_until=now,
            )
    except IntegrityError:
        return OperatorTask.objects.get(nonce=nonce)


def run_due(marketplace: Callable[[], Marketplace], *, now: datetime) -> None:
    """Carry out whatever nobody has in hand, oldest first."""
    began = monotonic()
    due = OperatorTask.objects.filter(state__in=OperatorTask.UNFINISHED, in_hand_until__lte=now)
    for pk in list(due.order_by("pk").values_list("pk", flat=True)):
        run(pk, marketplace, now=now + timedelta(seconds=monotonic() - began))
        if monotonic() - began > TURN.total_seconds():
            return


def run(pk: int, marketplace: Callable[[], Marketplace], *, now: datetime) -> bool:
    """Carry the task out, or go on with it. Returns whether it is finished now."""
    turn = _take_in_hand(pk, now=now)
    if turn is None:
        return False
    with translation.override(language_of(turn.task.asked_by)):
        refusal = _why_not(turn)
        if refusal:
            turn.note(state=State.FAILED, error=refusal, finished_at=now)
            return True
        try:
            return _work(turn, marketplace)
        except Exception:  # one task's trouble must not keep the others from being done
            logger.exception("Repair %s (%s) failed", pk, turn.task.kind)
            _put_off(turn)
            return False


def _take_in_hand(pk: int, *, now: datetime) -> _Turn | None:
    kind = OperatorTask.objects.filter(pk=pk).values_list("kind", flat=True).first()
    repair = REPAIRS.get(kind or "")
    if repair is None:
        return None
    free = OperatorTask.objects.filter(pk=pk, state__in=OperatorTask.UNFINISHED, in_hand_until__lte=now)
    if not free.update(state=State.RUNNING, run=F("run") + 1, in_hand_until=now + repair.patience):
        return None
    task = OperatorTask.objects.select_related("asked_by").get(pk=pk)
    if task.started_at is None:
        task.started_at = now
        OperatorTask.objects.filter(pk=pk, started_at=None).update(started_at=now)
    return _Turn(task, repair, now)


def _why_not(turn: _Turn) -> str:
    """Rights may be gone since it was asked for."""
    user = turn.task.asked_by
    if user.is_active and user.is_staff and user.has_perm(turn.repair.needs):
        return ""
    return _("Who asked for it may not do this any more.")


def _work(turn: _Turn, marketplace: Callable[[], Marketplace]) -> bool:
    task, repair = turn.task, turn.repair
    ends = monotonic() + TURN.total_seconds()
    while True:
        rows = dict(task.rows[task.position : task.position + repair.chunk])
        if not rows and (repair.model is not None or task.outcome):
            return turn.note(state=State.DONE, finished_at=turn.now, in_hand_until=turn.now)
        if monotonic() > ends:
            turn.note(state=State.WAITING, in_hand_until=turn.now)
            return False
        result = repair.carry_out(
            Chunk(rows, task.parameters, task.asked_by, task.reason, turn.now, marketplace)
        )
        if not _note_progress(turn, result, worked_on=len(rows)):
            return False  # somebody else has taken it over


def _note_progress(turn: _Turn, result: Result, *, worked_on: int) -> bool:
    task, decided = turn.task, result.decided
    gone = worked_on - len(decided.done) - len(decided.unchanged) - len(decided.refused)
    task.position += worked_on
    task.done += len(decided.done)
    task.unchanged += len(decided.unchanged)
    task.refused += len(decided.refused) + gone
    task.refusals = [*task.refusals, *([pk, why] for pk, why in decided.refused.items())][:SHOWN]
    task.outcome = result.outcome[:300] or task.outcome
    return turn.note(
        position=task.position,
        done=task.done,
        unchanged=task.unchanged,
        refused=task.refused,
        refusals=task.refusals,
        outcome=task.outcome,
        failures=0,
        in_hand_until=turn.now + turn.repair.patience,
    )


def _put_off(turn: _Turn) -> None:
    failures = turn.task.failures + 1
    if failures < _MOST_FAILURES:
        turn.note(state=State.WAITING, failures=failures, in_hand_until=turn.now + _PAUSE)
    else:
        turn.note(
            state=State.FAILED,
            failures=failures,
            error=_("It failed %(count)s times. The log says why.") % {"count": failures},
            finished_at=turn.now,
        )

"""A submission's page: the call as it was sent, what AWS said, and how a refused one was halved."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.html import format_html
from django.utils.translation import gettext as _

from billing.admin import panels_of
from billing.admin.columns import badge, instant, link, unbroken
from billing.admin.panels import Fold, Panel
from billing.admin.tones import SUBMISSION_OUTCOME
from billing.models import Submission
from billing.sending import sent

_STEP = "\u2003"  # a space that a browser keeps
_LEVELS = 6  # 25 records are single after five halvings


def panels(submission: Submission) -> list[Panel]:
    return [panels_of.lines(submission), *_halving(submission), _on_the_wire(submission)]


def _halving(submission: Submission) -> list[Panel]:
    """The whole tree that this call is part of; none, if it is neither a half nor was halved."""
    tree = _tree(_root(submission))
    if len(tree) < 2:
        return []
    rows = [
        [
            _indented(call, depth, is_this=call.pk == submission.pk),
            instant(call.started_at),
            call.record_count,
            badge("outcome", SUBMISSION_OUTCOME)(call),
            call.error_code,
            call.aws_request_id,
        ]
        for call, depth in tree
    ]
    headers = [
        _("Call"),
        _("Sent at (UTC)"),
        _("Records"),
        _("Outcome"),
        _("Error"),
        _("AWS request id"),
    ]
    return [
        Panel(
            _("How it was halved"),
            {"headers": headers, "rows": rows},
            note=_("AWS refused the whole call for one record: halves are sent until that one stands alone."),
        )
    ]


def _indented(call: Submission, depth: int, *, is_this: bool) -> str:
    name = _("#%(number)s, this one") if is_this else "#%(number)s"
    return unbroken(format_html("{}{}", _STEP * depth, link(call, name % {"number": call.pk})))


def _root(submission: Submission) -> int:
    chain = Submission.objects.select_related("__".join(["parent"] * (_LEVELS - 1))).get(pk=submission.pk)
    while chain.parent is not None:
        chain = chain.parent
    return chain.pk


def _tree(root: int) -> list[tuple[Submission, int]]:
    """Each call before its halves, with its depth; read in one statement, level by level."""
    levels: list[QuerySet[Submission]] = [
        Submission.objects.filter(**{"__".join([*["parent"] * depth, "pk"]): root}).order_by()
        for depth in range(_LEVELS)
    ]
    halves: dict[int | None, list[Submission]] = {}
    for call in sorted(levels[0].union(*levels[1:]), key=lambda call: call.pk):
        halves.setdefault(None if call.pk == root else call.parent_id, []).append(call)

    def walk(parent: int | None, depth: int) -> list[tuple[Submission, int]]:
        found: list[tuple[Submission, int]] = []
        for call in halves.get(parent, []):
            found += [(call, depth), *walk(call.pk, depth + 1)]
        return found

    return walk(None, 0)


def _on_the_wire(submission: Submission) -> Panel:
    told: list[tuple[Any, str]] = [
        (_("BatchMeterUsage, the request as it was sent"), sent.request(submission)),
        (_("The answer, as far as it is kept"), sent.response(submission)),
    ]
    return Panel(
        _("Request and answer"),
        None,
        note=_(
            "The request is built from the columns that were frozen when the hours closed. "
            "In the answer, a record is named by its number here."
        ),
        folds=tuple(Fold(title, text) for title, text in told if text),
    )

"""A metering record's page: why its buyer was billed this much for this hour."""

from __future__ import annotations

import json
from typing import Any

from django.utils.translation import gettext as _

from billing import drawn
from billing.admin import panels_of
from billing.admin.columns import EMPTY, link, list_url, plain, stamp
from billing.admin.panels import Panel
from billing.models import MeteringRecord, SubmissionLine, UsageEvent

_MOST_SETS = 50  # of tags


def panels(record: MeteringRecord) -> list[Panel]:
    return [
        _reckoning(record),
        panels_of.usage(
            record.usage_events.order_by("-pk"), more=list_url(UsageEvent, metering_record=record.pk)
        ),
        *([_allocations(record)] if record.wire_allocations else []),
        panels_of.answers(record.submission_lines.all(), more=list_url(SubmissionLine, record=record.pk)),
    ]


def _reckoning(record: MeteringRecord) -> Panel:
    """From what was used to what is billed, a line for each step."""
    rows: list[list[Any]] = [[_("Used in this hour"), plain(record.used), _("The usage events below")]]
    found = drawn.of(record)
    if found is None:
        rows.append([_("Included"), "0", _("Nothing is included in this dimension: all of it is billed")])
    else:
        rows += _allowance(found)
        rows.append([_("Included in this hour"), plain(record.included), _("Fixed when the hour was closed")])
    rows.append([_("Billed"), plain(record.quantity), _("What was used, less what is included")])
    return Panel(_("How it came to this"), {"headers": [_("Step"), _("Quantity"), _("Why")], "rows": rows})


def _allowance(found: drawn.Drawn) -> list[list[Any]]:
    left = max(found.allowance - found.earlier, found.allowance * 0)
    bought = link(found.entitlement, str(found.entitlement)) if found.entitlement is not None else EMPTY
    return [
        [_("Allowance"), plain(found.allowance), bought],
        [
            _("Drawn by earlier hours"),
            plain(found.earlier),
            _since(found),
        ],
        [_("Left for this hour"), plain(left), _("By what is known of the entitlements today")],
    ]


def _since(found: drawn.Drawn) -> str:
    if found.since is None:
        return _("Since the agreement began")
    text = (
        _("Since the month began, at %(time)s UTC")
        if found.by_month
        else _("Since the term began, at %(time)s UTC")
    )
    return text % {"time": stamp(found.since)}


def _allocations(record: MeteringRecord) -> Panel:
    parts = json.loads(record.wire_allocations)
    rows = [[_tags(part["tags"]), part["quantity"]] for part in parts[:_MOST_SETS]]
    note = _("The first %(shown)s of %(all)s sets of tags.") % {"shown": _MOST_SETS, "all": len(parts)}
    return Panel(
        _("Split by tags, as AWS is told"),
        {"headers": [_("Tags"), _("Quantity")], "rows": rows},
        note=note if len(parts) > _MOST_SETS else "",
    )


def _tags(tags: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in sorted(tags.items())) or _("Without tags")

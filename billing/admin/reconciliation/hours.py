"""A day of one purchase and dimension, hour by hour: what each record held, and what AWS billed for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta

from django.utils.translation import gettext as _

from billing.admin.columns import EMPTY, label, page_url
from billing.admin.panels import Panel
from billing.admin.reconciliation import cells
from billing.admin.tones import RECORD_STATE
from billing.models import MeteringRecord, UsageReportLine
from billing.reconciliation import months
from billing.reconciliation.comparing import Variance
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.months import Figures, Scope

_HOUR = timedelta(hours=1)


def panel(scope: Scope, until: date | None) -> Panel:
    """Why the day was billed so: a row for each hour that has anything."""
    assert scope.dimension is not None
    assert scope.day is not None
    figures = months.read(scope, "hour")
    records = {
        record.hour: record for record in MeteringRecord.objects.filter(scope.rows("hour")).order_by("hour")
    }
    billed: dict[datetime | None, int] = defaultdict(int)
    lines = UsageReportLine.objects.current().filter(
        agreement=scope.agreement, dimension=scope.dimension, day=scope.day
    )
    for line in lines:
        billed[line.hour] += millionths(line.quantity)
    is_told = until is not None and scope.day <= until
    by_hour = is_told and None not in billed
    rows = []
    for number in range(24):
        hour = scope.since + number * _HOUR
        if (hour,) in figures or hour in billed or hour in records:
            rows.append(
                _hour(scope, hour, figures.get((hour,), Figures()), records.get(hour), billed, by_hour)
            )
    headers = [_("Hour (UTC)"), *cells.headers()[:4], _("State"), _("Billed by AWS"), _("Variance")]
    note = "" if by_hour else _("AWS's report tells no hours of this day.")
    if is_told and not by_hour:
        note = _("AWS's report tells whole days: %(amount)s were billed for this one.") % {
            "amount": plain(sum(billed.values()))
        }
    title = _("Each hour of %(day)s") % {"day": scope.day}
    return Panel(title, {"headers": headers, "rows": rows}, note=note, anchor="figures")


def _hour(
    scope: Scope,
    hour: datetime,
    figures: Figures,
    record: MeteringRecord | None,
    billed: Mapping[datetime | None, int],
    by_hour: bool,
) -> list[str]:
    """A row, leading to the record that says why."""
    name = f"{hour:%H}:00"
    url = page_url(record) if record is not None else cells.events_url(scope)
    state = label(record.get_state_display(), RECORD_STATE.get(record.state, "")) if record else EMPTY
    difference = billed.get(hour, 0) - figures.accepted
    variance = Variance(
        figures.accepted,
        billed.get(hour, 0),
        missing=difference if not billed.get(hour) else 0,
        extra=difference if billed.get(hour) and not figures.accepted else 0,
        other=difference if billed.get(hour) and figures.accepted else 0,
    )
    return [
        cells.link(name, url),
        *(
            cells.linked(amount, url)
            for amount in (figures.recorded, figures.included, figures.metered, figures.accepted)
        ),
        state if record is not None else label(_("No record"), "warning"),
        cells.linked(billed.get(hour, 0), cells.lines_url(scope)) if by_hour else EMPTY,
        cells.why(variance, is_told=True) if by_hour else EMPTY,
    ]

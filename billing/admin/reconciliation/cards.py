"""The cards on top of a reconciliation page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from billing.admin.columns import page_url
from billing.admin.health.figures import Figure
from billing.admin.reconciliation import access
from billing.admin.reconciliation.tables import LISTED, Found
from billing.reconciliation.comparing import Told
from billing.reconciliation.months import Scope


def differences(rows: Sequence[Found]) -> Figure:
    count = sum(row[3].differs for row in rows)
    note = _("AWS billed something else") if count else _("All that AWS has reported is the same")
    return Figure(_("Differences"), str(count), note, "#figures", "danger" if count else "")


def reported(told: Told) -> Figure:
    url = access.upload_url()
    if told.newest is None or not told.is_any:
        return Figure(_("Reported by AWS"), _("Nothing yet"), _("Import it to compare"), url, "warning")
    until = max(told.until.values())
    note = _("Imported at %(time)s UTC") % {"time": f"{told.newest.imported_at:%Y-%m-%d %H:%M}"}
    return Figure(
        _("Reported by AWS until"), date_format(until, "MONTH_DAY_FORMAT"), note, page_url(told.newest), ""
    )


def counted(title: str, found: Sequence[Any], url: str, note: str) -> Figure:
    count = f"{LISTED}+" if len(found) > LISTED else str(len(found))
    return Figure(title, count, note, url, "danger" if found else "")


def settled(rows: Sequence[Found], scope: Scope, now: datetime) -> Figure:
    waiting = sum(not row[2].is_final for row in rows)
    if waiting:
        note = _("Usage waits for its hour to be closed, or for AWS's answer")
        return Figure(_("Settled"), _("Not yet"), note, "#figures", "")
    if now < scope.until:
        return Figure(_("Settled"), _("So far"), _("The month is not over"), "#figures", "")
    return Figure(_("Settled"), _("Yes"), _("Nothing of the month waits for anything"), "#figures", "")

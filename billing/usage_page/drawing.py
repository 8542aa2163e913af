"""A usage report in words and bars: its chart, the lines of the table beside it, and what can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import NamedTuple

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from billing import subscription_words
from billing.bar_chart import Chart, Column
from billing.bar_chart import draw as draw_bars
from billing.figures import Figures
from billing.usage_page.periods import Grain, Period, Place
from billing.usage_page.report import Report
from billing.usage_page.sums import GONE, Meter, Purchase

_MOST_HOURS = 48  # that are told apart below the chart


class Line(NamedTuple):
    """Of the table."""

    label: str
    figures: Figures
    is_open: bool
    remark: str


@dataclass(frozen=True, slots=True)
class Drawn:
    chart: Chart
    title: str
    about: str  # whose hours, days and months they are
    lines: list[Line]  # the newest first; what has no usage is left out
    left_out: str
    is_by_hour: bool


def draw(report: Report, *, zone: tzinfo) -> Drawn:
    choice = report.choice
    # A word costs more than a bar: each is made once.
    labels = [_label(place, choice.grain, zone) for place, _figures in report.places]
    columns = [
        _column(place, figures, label) for label, (place, figures) in zip(labels, report.places, strict=True)
    ]
    lines = [
        Line(label, figures, place.is_open, _remark(figures))
        for label, (place, figures) in zip(labels, report.places, strict=True)
        if figures.used or figures.moved or place.is_open
    ][::-1]
    title = {
        Grain.HOUR: _("%(what)s by hour, %(period)s. The same figures are in the table below."),
        Grain.DAY: _("%(what)s by day, %(period)s. The same figures are in the table below."),
        Grain.MONTH: _("%(what)s by month, %(period)s. The same figures are in the table below."),
    }[choice.grain]
    left_out = {
        Grain.HOUR: _("Hours without usage are left out."),
        Grain.DAY: _("Days without usage are left out."),
        Grain.MONTH: _("Months without usage are left out."),
    }[choice.grain]
    return Drawn(
        draw_bars(
            columns,
            _labelled(report, zone),
            lambda number: _short(report.places[number][0], choice.grain, zone),
        ),
        title % {"what": choice.meter.label, "period": choice.period.label},
        _about(choice.period, choice.grain, zone),
        lines,
        left_out,
        choice.grain is Grain.HOUR,
    )


def purchases(meters: list[Meter], *, zone: tzinfo) -> list[tuple[int, str]]:
    """What one can choose among, if there is more than one."""
    named: dict[int, str] = {}
    for meter in meters:
        for purchase in meter.purchases:
            named.setdefault(purchase.pk, _name(meter, purchase, zone))
    return list(named.items()) if len(named) > 1 else []


def _name(meter: Meter, purchase: Purchase, zone: tzinfo) -> str:
    is_gone = purchase.status == GONE
    status = _("in another workspace now") if is_gone else subscription_words.STATUS[purchase.status]
    words = {"product": meter.product, "status": status}
    if purchase.activated_at is None:
        return _("%(product)s (%(status)s)") % words
    words["start"] = date_format(purchase.activated_at.astimezone(zone), "DATE_FORMAT")
    return _("%(product)s, since %(start)s (%(status)s)") % words


def _about(period: Period, grain: Grain, zone: tzinfo) -> str:
    if period.is_month and zone is not UTC and str(zone) != "UTC":
        bounds = (period.start.astimezone(zone), period.full_end.astimezone(zone))
        start, end = (date_format(bound, "DATETIME_FORMAT") for bound in bounds)
        return _(
            "AWS bills by months in UTC: in your time zone (%(zone)s), this one is from %(start)s to %(end)s."
        ) % {"start": start, "end": end, "zone": zone}
    texts = {
        Grain.HOUR: _("Hours are AWS's, shown in your time zone (%(zone)s)."),
        Grain.DAY: _("Days are those of your time zone (%(zone)s). AWS bills by months in UTC."),
        Grain.MONTH: _("Months are AWS's, in UTC."),
    }
    return texts[grain] % {"zone": zone}


def _label(place: Place, grain: Grain, zone: tzinfo) -> str:
    local = place.start.astimezone(zone)
    match grain:
        case Grain.HOUR:
            return date_format(local, "DATETIME_FORMAT")
        case Grain.DAY:
            return date_format(local, "DATE_FORMAT")
        case Grain.MONTH:
            return date_format(place.start, "YEAR_MONTH_FORMAT")


def _short(place: Place, grain: Grain, zone: tzinfo) -> str:
    local = place.start.astimezone(zone)
    match grain:
        case Grain.HOUR if local.hour:
            return date_format(local, "TIME_FORMAT")
        case Grain.MONTH:
            return date_format(place.start, pgettext("date format: a month below a chart", "M Y"))
        case _:
            return date_format(local, pgettext("date format: a day below a chart", "j M"))


def _labelled(report: Report, zone: tzinfo) -> list[int]:
    """Of many hours, those with which a day begins."""
    hours = [place.start.astimezone(zone).hour for place, _figures in report.places]
    is_long = report.choice.grain is Grain.HOUR and len(hours) > _MOST_HOURS
    return [number for number, hour in enumerate(hours) if hour == 0 or not is_long]


def _remark(figures: Figures) -> str:
    if figures.late:
        return _("Late: %(amount)s, to be reported with a later hour") % {"amount": _plain(figures.late)}
    if figures.moved:
        return _("Late: %(amount)s, used in another hour") % {"amount": _plain(figures.moved)}
    return ""


def _column(place: Place, figures: Figures, label: str) -> Column:
    title = _("%(when)s: %(used)s used") % {"when": label, "used": _plain(figures.used)}
    parts = {
        "included": figures.included,
        "billed": figures.billed,
        "waiting": figures.waiting,
        "checked": figures.checked,
        "unbilled": figures.not_billed,
    }
    return Column(title, parts, place.is_open)


def _plain(amount: Decimal) -> str:
    return number_format(amount.normalize(), use_l10n=True, force_grouping=True)

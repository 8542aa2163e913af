"""What a reader of the usage page asked for. Who asks for what is not there gets the nearest, and is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from billing.usage_page import periods
from billing.usage_page.periods import USUAL, Grain, Period
from billing.usage_page.sums import Meter, Purchase


@dataclass(frozen=True, slots=True)
class Choice:
    meter: Meter
    purchase: Purchase | None  # None: all of them
    period: Period
    grain: Grain
    complaints: list[str] = field(default_factory=list)  # what could not be had, for people

    @property
    def agreements(self) -> list[int]:
        bought = [self.purchase] if self.purchase else self.meter.purchases
        return [purchase.pk for purchase in bought]

    @property
    def can_be_by_hour(self) -> bool:
        return Grain.HOUR in self.period.grains and self.grain is not Grain.HOUR

    def address(self, **instead: str) -> str:
        """The query of this choice, with some of it as in ``instead``."""
        chosen = {
            "dimension": str(self.meter.pk),
            "agreement": str(self.purchase.pk) if self.purchase else "all",
            "period": self.period.name,
            "by": self.grain.value,
        }
        return urlencode(chosen | instead)


def choose(asked: Mapping[str, str], meters: Sequence[Meter], *, now: datetime, zone: tzinfo) -> Choice:
    """``meters`` has at least one, and only what the reader may see: nothing else can be chosen."""
    complaints: list[str] = []
    purchase = _purchase(asked.get("agreement", ""), meters, complaints)
    meter = _meter(asked.get("dimension", ""), meters, purchase, complaints)
    period, grain = _span(asked.get("period", ""), asked.get("by", ""), complaints, now=now, zone=zone)
    return Choice(meter, purchase, period, grain, complaints)


def _purchase(asked: str, meters: Sequence[Meter], complaints: list[str]) -> Purchase | None:
    if asked in ("", "all"):
        return None
    for meter in meters:
        for purchase in meter.purchases:
            if str(purchase.pk) == asked:
                return purchase
    complaints.append(_("That subscription is not here. All of your subscriptions are shown."))
    return None


def _meter(asked: str, meters: Sequence[Meter], purchase: Purchase | None, complaints: list[str]) -> Meter:
    """The one asked for; without one, of a purchase its first, else the one of the newest purchase."""
    of_purchase = [meter for meter in meters if purchase is None or purchase in meter.purchases]
    for meter in of_purchase:
        if str(meter.pk) == asked:
            return meter
    if asked and any(str(meter.pk) == asked for meter in meters):
        complaints.append(_("That subscription does not count this kind of usage. Another kind is shown."))
    elif asked:
        complaints.append(_("That kind of usage is not here. Another kind is shown."))
    return max(of_purchase, key=lambda meter: meter.purchases[0].status == "active")


def _span(
    period_asked: str, grain_asked: str, complaints: list[str], *, now: datetime, zone: tzinfo
) -> tuple[Period, Grain]:
    grain = next((each for each in Grain if each.value == grain_asked), None)
    if grain is None and grain_asked:
        complaints.append(_("Usage can be shown by hour, by day or by month."))
    usual = periods.find(USUAL[grain or Grain.DAY], now=now, zone=zone)
    assert usual is not None
    period = periods.find(period_asked, now=now, zone=zone)
    if period is None:
        if period_asked:
            complaints.append(
                _("That period is not here. This is shown instead: %(period)s.") % {"period": usual.label}
            )
        period = usual
    if grain is None:
        return period, period.grains[0]
    if grain not in period.grains:
        complaints.append(_not_by(grain, period))
        return period, period.grains[0]
    return period, grain


def _not_by(grain: Grain, period: Period) -> str:
    asked = {
        Grain.HOUR: _("%(period)s: not shown by hour, because it is too long. Choose at most a month."),
        Grain.DAY: _("%(period)s: not shown by day, because it is too short. Choose at least a week."),
        Grain.MONTH: _("%(period)s: not shown by month, because it is too short. Choose twelve months."),
    }
    return asked[grain] % {"period": period.label}

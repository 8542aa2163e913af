"""An agreement's page in one column: what happened and why, what was used hour by hour, what AWS sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice

from django.utils import timezone
from django.utils.translation import gettext as _

from billing import history as billing_history
from billing.admin import panels_of
from billing.admin.charts import Bar, Chart, Series, stacked
from billing.admin.columns import dotted, instant, list_url, page_url, stamp, unbroken
from billing.admin.panels import Fold, Panel
from billing.admin.tones import DOT
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, Effect, MarketplaceEvent, MeteringRecord, UsageEvent

_ENTRIES = 40  # of a history, on one page
_HOURS = 7 * 24
_MOST_CHARTS = 4  # dimensions
_RAW = 10  # newest messages

_OURS = (MarketplaceEvent.Channel.CLOCK, MarketplaceEvent.Channel.READING)


def panels(
    agreement: Agreement, *, before: datetime | None = None, until: datetime | None = None
) -> list[Panel]:
    """Everything known of one purchase. ``before`` turns its history back, ``until`` its charts of usage."""
    pk = agreement.pk
    return [
        *_usage_by_hour(agreement, until=until),
        _history(agreement, before=before),
        panels_of.entitlements(agreement),
        panels_of.records(
            agreement.metering_records.order_by("-hour", "-pk"), more=list_url(MeteringRecord, agreement=pk)
        ),
        panels_of.usage(agreement.usage_events.order_by("-pk"), more=list_url(UsageEvent, agreement=pk)),
        panels_of.events(
            agreement.events.order_by("-occurred_at", "-pk"), more=list_url(MarketplaceEvent, agreement=pk)
        ),
        _raw(agreement),
        panels_of.effects(agreement.effects.order_by("-pk"), more=list_url(Effect, agreement=pk)),
        panels_of.registrations(agreement),
        panels_of.audit(agreement),
    ]


def _history(agreement: Agreement, *, before: datetime | None) -> Panel:
    """What happened ``before``, newest first; the way back in time is the same page, asked anew."""
    page = billing_history.page(agreement, limit=_ENTRIES, before=before)
    rows = [
        [instant(entry.at), dotted(entry.what, DOT[entry.tone], entry.link_to), entry.why, unbroken(entry.by)]
        for entry in page.entries
    ]
    return Panel(
        _("History before %(time)s") % {"time": stamp(before)} if before else _("History"),
        {"headers": [_("At (UTC)"), _("What"), _("Why"), _("By")], "rows": rows},
        f"{page_url(agreement, before=page.older.isoformat())}#history" if page.older else "",
        _("What was before that"),
        anchor="history",
    )


def _usage_by_hour(agreement: Agreement, *, until: datetime | None) -> Iterator[Panel]:
    """A chart for each dimension, as units do not add up. A bar is an hour's record: why it was billed."""
    end = hour_of(until or _last_instant(agreement)) + HOUR
    hours = [end - number * HOUR for number in range(_HOURS, 0, -1)]
    records = agreement.metering_records.filter(hour__gte=hours[0], hour__lt=end).select_related("dimension")
    found: dict[tuple[str, int], dict[datetime, MeteringRecord]] = defaultdict(dict)
    for record in records.order_by("hour"):
        found[record.dimension.label, record.dimension_id][record.hour] = record
    earlier = f"{page_url(agreement, until=(hours[0] - HOUR).isoformat())}#usage-by-hour"
    shown = list(islice(sorted(found.items()), _MOST_CHARTS)) or [((_("Usage"), 0), {})]
    for (label, _pk), of_it in shown:
        chart = _chart(agreement, label, of_it, hours)
        yield Panel(chart.title, None, earlier, _("The 7 days before"), anchor="usage-by-hour", chart=chart)


def _last_instant(agreement: Agreement) -> datetime:
    now = timezone.now()
    return min(now, agreement.ended_at) if agreement.ended_at else now


def _chart(
    agreement: Agreement, label: str, records: dict[datetime, MeteringRecord], hours: list[datetime]
) -> Chart:
    return stacked(
        _("%(dimension)s per hour") % {"dimension": label},
        [Series(_("Included"), "calm"), Series(_("Billed"), "success")],
        [_bar(agreement, hour, records.get(hour)) for hour in hours],
        place=_("Hour (UTC)"),
        table_title=_("Each hour in figures: open one to see why it was billed"),
        note=_("%(first)s to %(last)s, by the hour that AWS bills")
        % {"first": f"{hours[0]:%Y-%m-%d %H}:00", "last": f"{hours[-1]:%Y-%m-%d %H}:00"},
    )


def _bar(agreement: Agreement, hour: datetime, record: MeteringRecord | None) -> Bar:
    name = f"{hour:%Y-%m-%d %H}:00"
    if record is not None:
        return Bar(name, page_url(record), (record.included, record.quantity))
    since, before = hour.isoformat(), (hour + HOUR).isoformat()
    used_then = list_url(UsageEvent, agreement=agreement.pk, occurred_at__gte=since, occurred_at__lt=before)
    return Bar(name, used_then, (Decimal(0), Decimal(0)))


def _raw(agreement: Agreement) -> Panel:
    """AWS's own words, byte by byte as they came."""
    told = agreement.events.exclude(channel__in=_OURS).order_by("-occurred_at", "-pk")[:_RAW]
    folds = tuple(
        Fold(
            _("%(kind)s, %(time)s UTC, through %(channel)s")
            % {"kind": event.kind, "time": stamp(event.occurred_at), "channel": event.get_channel_display()},
            event.body,
        )
        for event in told
    )
    return Panel(
        _("As AWS sent it"),
        None,
        note=_("The newest messages of this purchase, as they were received.")
        if folds
        else _("AWS has sent no message of this purchase."),
        folds=folds,
    )

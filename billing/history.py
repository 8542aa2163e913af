"""Everything that happened to an agreement and why, as one list, for the console and for support.

Nothing is stored for it: the rows of the inbox, the audit trail, the entitlement timeline, the effects, the
arrivals and the ledger are read and merged. Each is asked once, for as much as a page takes, so that a page
costs the same after ten years. billing.phrases says what each row means.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, cast

from django.db.models import Count, F, Max, Model, Q, QuerySet
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import phrases
from billing.aws.window import HOUR
from billing.models import (
    Agreement,
    AuditEvent,
    Effect,
    MarketplaceEvent,
    MeteringRecord,
    Submission,
    SubmissionLine,
)
from billing.phrases import Phrase

# An effect is due every minute: one that waits for longer was tried and failed, or nobody does them.
PATIENCE = timedelta(minutes=5)

# Links that tell what another source tells better: an arrival, a row of the timeline, a day of metering, a
# refused call.
_TOLD_ELSEWHERE = (
    "buyer_arrived",
    "entitlements_changed",
    "hours_closed",
    "records_parked",
    "records_in_conflict",
)
_ANSWERS = ("", "Success", "Unprocessed")  # of a metering call, no refusals
_SPEAKERS: dict[str, str | Promise] = {
    MarketplaceEvent.Channel.CLOCK: gettext_lazy("the clock"),
    MarketplaceEvent.Channel.READING: gettext_lazy("this site"),
}
_CAUSE = re.compile(r"(eventbridge|sns|clock|reading):(.+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. ``tone`` is success, info, warning, danger or ''."""

    at: datetime
    what: str
    why: str
    by: str
    tone: str
    link_to: Model | None


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. What is older is the page before ``older``; None: this is the beginning."""

    entries: list[Entry]
    older: datetime | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every source is asked for: its newest ``limit`` rows, of those ``before``."""

    agreement: Agreement
    limit: int
    before: datetime | None
    now: datetime

    def newest(self, rows: QuerySet[Any], column: str) -> QuerySet[Any]:
        if self.before is not None:
            rows = rows.filter(**{f"{column}__lt": self.before})
        return rows.order_by(f"-{column}", "-pk")[: self.limit]


def history(
    agreement: Agreement, *, limit: int = 200, before: datetime | None = None, now: datetime | None = None
) -> list[Entry]:
    """The newest ``limit`` entries, of those before ``before``."""
    return page(agreement, limit=limit, before=before, now=now).entries


def page(
    agreement: Agreement, *, limit: int = 200, before: datetime | None = None, now: datetime | None = None
) -> Page:
    """As ``history``, and where the next page begins.

    A page ends between two instants, so that none of what happened together is lost between two pages; only
    when more than ``limit`` things happened at one instant does the page hold no more than ``limit`` of them.
    """
    known = Agreement.objects.select_related("product", "customer", "organization").get(pk=agreement.pk)
    asked = _Asked(known, limit + 1, before, now or timezone.now())
    # Where instants are equal, what follows from another thing stands above it.
    sources = (
        _effects, _closed, _opened, _metering, _refusals, _audit, _arrivals, _unapplied, _events,
    )  # fmt: skip
    merged = heapq.merge(*(source(asked) for source in sources), key=attrgetter("at"), reverse=True)
    entries = [entry for entry, _ in zip(merged, range(limit + 1), strict=False)]
    older = None
    if len(entries) > limit:
        cut = entries.pop().at
        whole = [entry for entry in entries if entry.at > cut] or entries
        entries, older = whole, whole[-1].at if whole else None
    return Page(_explained(entries), older)


def _entry(at: datetime, phrase: Phrase, *, by: str, link_to: Model | None) -> Entry:
    return Entry(at, phrase.what, phrase.why, by, phrase.tone, link_to)


def _effects(asked: _Asked) -> Iterator[Entry]:
    """What was done for the agreement, or not and why, and what is late. That it is owed is no event."""
    late = Q(due_at__lte=asked.now - PATIENCE)
    told = Q(state__in=[Effect.State.DONE, Effect.State.SKIPPED]) | late | ~Q(error="")
    effects = (
        asked.agreement.effects.filter(told)
        # One reading answers all that was announced by then, and is told once.
        .exclude(outcome__startswith="read with effect")
        .annotate(at=Coalesce("done_at", "due_at"))
    )
    for effect in asked.newest(effects, "at"):
        overdue = effect.due_at <= asked.now - PATIENCE
        yield _entry(effect.at, phrases.of_effect(effect, overdue=overdue), by=_("this site"), link_to=effect)


def _closed(asked: _Asked) -> Iterator[Entry]:
    for row in asked.newest(asked.agreement.entitlements.exclude(valid_to=None), "valid_to"):
        yield _entry(row.valid_to, phrases.of_closing(row), by="AWS", link_to=row)


def _opened(asked: _Asked) -> Iterator[Entry]:
    for row in asked.newest(asked.agreement.entitlements.all(), "valid_from"):
        yield _entry(row.valid_from, phrases.of_opening(row), by="AWS", link_to=row)


def _metering(asked: _Asked) -> Iterator[Entry]:
    """A line for each day, at the end of its last hour."""
    records = asked.agreement.metering_records.order_by()
    days = (
        records.values(day=TruncDate("hour", tzinfo=UTC))
        .annotate(last=Max("hour"), hours=Count("hour", distinct=True))
        .annotate(**{state.value: Count("pk", filter=Q(state=state)) for state in MeteringRecord.State})
    )
    if asked.before is not None:
        days = days.filter(last__lt=asked.before - HOUR)
    for day in days.order_by("-day")[: asked.limit]:
        phrase = phrases.of_metering(day["day"], day["hours"], cast(Mapping[str, int], day))
        yield _entry(day["last"] + HOUR, phrase, by=_("this site"), link_to=None)


def _refusals(asked: _Asked) -> Iterator[Entry]:
    """Metering calls that AWS refused, whole or in what is of this agreement."""
    # What was accepted at the first try, as almost all is, was never refused: its lines need not be read.
    tried_again = Q(record__attempts__gt=1) | ~Q(record__state=MeteringRecord.State.ACCEPTED)
    lines = SubmissionLine.objects.filter(tried_again, record__agreement=asked.agreement)
    lines = lines.exclude(status__in=_ANSWERS)
    if asked.before is not None:
        lines = lines.filter(submission__started_at__lt=asked.before)
    calls = (
        lines.order_by()
        .values("submission", "status")
        .annotate(
            at=F("submission__started_at"),
            records=Count("pk"),
            in_call=F("submission__record_count"),
            outcome=F("submission__outcome"),
        )
    )
    for call in calls.order_by("-at", "-submission")[: asked.limit]:
        whole = call["outcome"] == Submission.Outcome.REFUSED
        phrase = phrases.of_refusal(
            call["status"], records=call["records"], in_call=call["in_call"], whole=whole
        )
        yield _entry(call["at"], phrase, by="AWS", link_to=Submission(pk=call["submission"]))


def _audit(asked: _Asked) -> Iterator[Entry]:
    links = AuditEvent.objects.filter(stream=asked.agreement.audit_stream).exclude(action__in=_TOLD_ELSEWHERE)
    for link in asked.newest(links, "occurred_at"):
        phrase = phrases.of_link(link, asked.agreement)
        yield _entry(link.occurred_at, phrase, by=phrases.actor(link.actor), link_to=link)


def _arrivals(asked: _Asked) -> Iterator[Entry]:
    arrivals = asked.agreement.registrations.select_related("user")
    for arrival in asked.newest(arrivals, "created_at"):
        phrase = phrases.of_arrival(free_trial=arrival.free_trial_hint)
        yield _entry(arrival.created_at, phrase, by=str(arrival.user or _("a visitor")), link_to=arrival)


def _events(asked: _Asked) -> Iterator[Entry]:
    """What AWS, the clock and our readings said."""
    return _told(asked, asked.agreement.events.all())


def _unapplied(asked: _Asked) -> Iterator[Entry]:
    """Events that name the purchase and are not its own yet: they wait for it, or fail to be applied."""
    agreement = asked.agreement
    names = Q(pk=None)
    if agreement.license_id is not None:
        names |= Q(license_id=agreement.license_id)
    if agreement.agreement_id is not None:
        names |= Q(aws_agreement_id=agreement.agreement_id)
    identifier = agreement.customer.customer_identifier
    if agreement.identity == Agreement.Identity.LEGACY and identifier is not None:
        names |= Q(customer_identifier=identifier, payload__product_code=agreement.product.code)
    return _told(asked, MarketplaceEvent.objects.unsettled().filter(names, agreement=None))


def _told(asked: _Asked, events: QuerySet[MarketplaceEvent]) -> Iterator[Entry]:
    for event in asked.newest(events.defer("body", "payload"), "occurred_at"):
        by = str(_SPEAKERS.get(event.channel, "AWS"))
        yield _entry(event.occurred_at, phrases.of_event(event), by=by, link_to=event)


def _explained(entries: Sequence[Entry]) -> list[Entry]:
    """Rows name their causes by the id of an event: say what it was."""
    causes = {found[0]: found for entry in entries if (found := _CAUSE.fullmatch(entry.why))}
    told = MarketplaceEvent.objects.filter(
        channel__in={found[1] for found in causes.values()},
        source_id__in={found[2] for found in causes.values()},
    ).values_list("channel", "source_id", "kind", "occurred_at")
    words = {
        f"{channel}:{source_id}": f"{phrases.said(channel, kind)} of {phrases.moment(at)}"
        for channel, source_id, kind, at in (told if causes else ())
    }
    return [replace(entry, why=words.get(entry.why) or phrases.readable(entry.why)) for entry in entries]

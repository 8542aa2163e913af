"""Letting old links go: written to a file that proves itself, and only then removed.

A checkpoint stands for what was removed, in the same transaction: the database lets nothing else go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TextIO

from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, Subquery

from billing import audit
from billing.models import AuditCheckpoint, AuditEvent
from billing.trail import chain
from billing.trail.verification import BrokenLink, Walk, begins_rightly

# The database refuses to remove younger links, whatever the setting says: billing.triggers.
LEAST_KEPT = timedelta(days=365)

_CHUNK = 500  # streams whose links leave together
_ACTOR = "job:export_audit"


class TooYoung(ValueError):
    """Links must be kept for longer than that."""


@dataclass(frozen=True, slots=True)
class Point:
    """A link by its place and its MAC."""

    sequence: int
    mac: str


@dataclass(slots=True)
class Exported:
    """What a file holds: of each stream the links after ``begins`` up to ``heads``."""

    until: datetime
    count: int = 0
    begins: dict[str, Point] = field(default_factory=dict)  # where an earlier export ended
    heads: dict[str, Point] = field(default_factory=dict)
    broken: list[BrokenLink] = field(default_factory=list)

    def closing(self) -> dict[str, object]:
        told = {
            "count": self.count,
            "until": self.until.isoformat(),
            "begins": _told(self.begins),
            "heads": _told(self.heads),
        }
        return {**told, "seal": chain.sign("export", told)}


def _told(points: Mapping[str, Point]) -> dict[str, list[object]]:
    return {stream: [point.sequence, point.mac] for stream, point in points.items()}


def may_remove_until(now: datetime) -> datetime:
    return now - max(LEAST_KEPT, settings.AUDIT_KEPT_FOR)


def export(until: datetime, out: TextIO) -> Exported:
    """Write the links from before ``until``, one to a line, and a closing line that proves them whole.

    Of each stream those up to its first link that is not older: a chain has no holes in the file either.
    """
    exported = Exported(until.astimezone(UTC))
    links = AuditEvent.objects.filter(occurred_at__lt=until).order_by("stream", "sequence")
    for stream, group in groupby(links.iterator(chunk_size=2000), key=attrgetter("stream")):
        _export_stream(stream, group, exported, out)
    out.write(json.dumps(exported.closing(), ensure_ascii=False) + "\n")
    return exported


def _export_stream(stream: str, links: Iterable[AuditEvent], exported: Exported, out: TextIO) -> None:
    walk = Walk(stream)
    checkpoint = AuditCheckpoint.objects.filter(stream=stream).order_by("sequence").last()
    expected = None
    for link in links:
        if expected is not None and link.sequence != expected:
            break  # the one between is younger
        out.write(json.dumps(_line(link), ensure_ascii=False) + "\n")
        exported.count += 1
        exported.heads[stream] = Point(link.sequence, link.mac)
        walk.take([link])
        expected = link.sequence + 1
    if checkpoint is not None:
        exported.begins[stream] = Point(checkpoint.sequence, checkpoint.mac)
    if broken := begins_rightly(walk, checkpoint) or walk.broken:
        exported.broken.append(broken)


def _line(link: AuditEvent) -> dict[str, object]:
    return {
        "stream": link.stream,
        "sequence": link.sequence,
        "occurred_at": link.occurred_at.astimezone(UTC).isoformat(),
        "actor": link.actor,
        "action": link.action,
        "data": link.data,
        "previous_mac": link.previous_mac,
        "mac": link.mac,
    }


def remove(exported: Exported, *, now: datetime) -> int:
    """Remove the links that ``exported`` holds, leaving a checkpoint of each stream. Returns how many.

    Raises TooYoung. A chain that does not hold stays whole: it is evidence.
    """
    if exported.until > may_remove_until(now):
        raise TooYoung
    broken = {link.stream for link in exported.broken}
    streams = [stream for stream in exported.heads if stream not in broken]
    removed = 0
    for start in range(0, len(streams), _CHUNK):
        chosen = {stream: exported.heads[stream] for stream in streams[start : start + _CHUNK]}
        removed += _remove(chosen, exported.begins, now=now)
    if removed:
        with transaction.atomic():
            audit.record(
                audit.SYSTEM,
                "links_removed",
                by=_ACTOR,
                at=now,
                links=removed,
                streams=len(streams),
                until=exported.until.isoformat(),
            )
    return removed


@transaction.atomic
def _remove(heads: Mapping[str, Point], begins: Mapping[str, Point], *, now: datetime) -> int:
    checkpoints = [
        AuditCheckpoint(
            stream=stream,
            sequence=head.sequence,
            mac=head.mac,
            removed=head.sequence - (begins[stream].sequence if stream in begins else 0),
            made_at=now.astimezone(UTC),
        )
        for stream, head in heads.items()
    ]
    for checkpoint in checkpoints:
        checkpoint.seal = chain.checkpoint_seal(checkpoint)
    AuditCheckpoint.objects.bulk_create(checkpoints)
    newest = AuditCheckpoint.objects.filter(stream=OuterRef("stream")).order_by().values("stream")
    covered = AuditEvent.objects.filter(
        stream__in=list(heads), sequence__lte=Subquery(newest.annotate(last=Max("sequence")).values("last"))
    )
    return covered.order_by().delete()[0]


def verify_file(lines: Iterable[str]) -> Iterator[BrokenLink]:
    """The first broken link of each stream in an exported file; stream "" is the file itself."""
    found = Exported(datetime.min.replace(tzinfo=UTC))
    walks: dict[str, Walk] = {}
    closing = None
    for number, text in enumerate(lines, start=1):
        if closing is not None:
            yield BrokenLink("", number, "is a line after the closing one")
            return
        try:
            told = json.loads(text)
            if "seal" in told:
                closing = told
                continue
            link = _link(told)
        except (ValueError, TypeError, KeyError):
            yield BrokenLink("", number, "is a line that is no link")
            return
        found.count += 1
        walks.setdefault(link.stream, Walk(link.stream)).take([link])
    if closing is None:
        yield BrokenLink("", found.count + 1, "is missing: the file has no closing line")
        return
    yield from _compared(walks, found.count, closing)


def _compared(walks: Mapping[str, Walk], count: int, closing: Mapping[str, object]) -> Iterator[BrokenLink]:
    told = {name: value for name, value in closing.items() if name != "seal"}
    if closing["seal"] != chain.sign("export", told):
        yield BrokenLink("", count + 1, "is a closing line that was changed")
        return
    begins, heads = _points(closing["begins"]), _points(closing["heads"])
    for stream in dict.fromkeys([*walks, *heads]):
        walk = walks.get(stream, Walk(stream))
        yield from filter(None, [_problem(walk, begins.get(stream), heads.get(stream))])


def _problem(walk: Walk, begin: Point | None, head: Point | None) -> BrokenLink | None:
    start = begin or Point(0, chain.GENESIS)
    first, last = walk.first, walk.last
    if first is None or first.sequence > start.sequence + 1:
        return BrokenLink(walk.stream, start.sequence + 1, "is missing")
    if first.previous_mac != start.mac:
        return BrokenLink(walk.stream, first.sequence, "does not follow from the link before it")
    if walk.broken is not None or last is None:
        return walk.broken
    if head is None or head.sequence < last.sequence:
        return BrokenLink(walk.stream, last.sequence, "is there, and the closing line does not tell of it")
    if head.sequence > last.sequence:
        return BrokenLink(walk.stream, last.sequence + 1, "is missing")
    if head.mac != last.mac:
        return BrokenLink(walk.stream, last.sequence, "is another than the one the closing line tells of")
    return None


def _points(told: object) -> dict[str, Point]:
    assert isinstance(told, dict)
    return {stream: Point(sequence, mac) for stream, (sequence, mac) in told.items()}


def _link(told: Mapping[str, object]) -> AuditEvent:
    names = ("stream", "sequence", "occurred_at", "actor", "action", "data", "previous_mac", "mac")
    link = AuditEvent(**{name: told[name] for name in names})
    link.occurred_at = datetime.fromisoformat(str(told["occurred_at"]))
    return link

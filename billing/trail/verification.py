"""Finding what was tampered with: the first broken, missing or cut-off link of each stream."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from django.db.models import Exists, OuterRef, QuerySet

from billing.models import AuditCheckpoint, AuditEvent, AuditHead
from billing.trail import chain

HEADS_NOTED = "heads_noted"  # the daily link of stream "system", which counts the streams
_SYSTEM = "system"
_CHUNK = 500  # streams whose heads are read together
_TRIES = 5


@dataclass(frozen=True, slots=True)
class BrokenLink:
    stream: str
    sequence: int
    reason: str


@dataclass(slots=True)
class Walk:
    """Along the links of one stream, in order: where it began, how far it holds, where it breaks."""

    stream: str
    first: AuditEvent | None = None
    last: AuditEvent | None = None  # of those that hold
    broken: BrokenLink | None = None

    def take(self, links: Iterable[AuditEvent]) -> Walk:
        for link in links:
            if self.broken is None:
                self._step(link)
        return self

    def _step(self, link: AuditEvent) -> None:
        if self.first is None:
            self.first = link
        elif self.last is not None and link.sequence != self.last.sequence + 1:
            return self._break(self.last.sequence + 1, "is missing")
        elif self.last is not None and link.previous_mac != self.last.mac:
            return self._break(link.sequence, "does not follow from the link before it")
        if not chain.is_genuine(link):
            return self._break(link.sequence, "was changed")
        self.last = link

    def _break(self, sequence: int, reason: str) -> None:
        self.broken = BrokenLink(self.stream, sequence, reason)


@dataclass(slots=True)
class _Ends:
    """What is kept of streams beside their links."""

    heads: dict[str, AuditHead] = field(default_factory=dict)
    checkpoints: dict[str, AuditCheckpoint] = field(default_factory=dict)

    @classmethod
    def of(cls, streams: Collection[str]) -> _Ends:
        checkpoints = AuditCheckpoint.objects.filter(stream__in=streams).order_by("sequence")
        return cls(
            {head.stream: head for head in AuditHead.objects.filter(stream__in=streams)},
            {checkpoint.stream: checkpoint for checkpoint in checkpoints},  # the newest counts
        )

    def state(self, stream: str) -> tuple[object, ...]:
        head, checkpoint = self.heads.get(stream), self.checkpoints.get(stream)
        return (head and head.seal, checkpoint and checkpoint.pk)


def verify(stream: str | None = None) -> Iterator[BrokenLink]:
    """The first broken link of each stream (or of one). Nothing means that every chain is whole.

    Links are written meanwhile: what seems broken is looked at again, until its stream stood still.
    """
    if stream is not None:
        yield from filter(None, [_looked_at_again(stream)])
        return
    for suspect in _suspects():
        yield from filter(None, [_looked_at_again(suspect)])
    yield from _missing_streams()


def _suspects() -> Iterator[str]:
    links = AuditEvent.objects.order_by("stream", "sequence").iterator(chunk_size=2000)
    walks: list[Walk] = []
    for stream, group in groupby(links, key=attrgetter("stream")):
        walks.append(Walk(stream).take(group))
        if len(walks) == _CHUNK:
            yield from _broken_among(walks)
            walks = []
    yield from _broken_among(walks)
    # Of whose links none is there.
    none = ~Exists(AuditEvent.objects.filter(stream=OuterRef("stream")))
    names = AuditHead.objects.filter(none).values_list("stream").order_by()
    names = names.union(AuditCheckpoint.objects.filter(none).values_list("stream").order_by())
    empty = [Walk(name) for (name,) in names]
    for start in range(0, len(empty), _CHUNK):
        yield from _broken_among(empty[start : start + _CHUNK])


def _broken_among(walks: Collection[Walk]) -> Iterator[str]:
    ends = _Ends.of([walk.stream for walk in walks])
    for walk in walks:
        if _problem(walk, ends) is not None:
            yield walk.stream


def _looked_at_again(stream: str) -> BrokenLink | None:
    for _ in range(_TRIES):
        before = _Ends.of([stream])
        problem = _problem(Walk(stream).take(_links_of(stream).iterator(chunk_size=2000)), before)
        if problem is None or before.state(stream) == _Ends.of([stream]).state(stream):
            break
    return problem


def _links_of(stream: str) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(stream=stream).order_by("sequence")


def _problem(walk: Walk, ends: _Ends) -> BrokenLink | None:
    head, checkpoint = ends.heads.get(walk.stream), ends.checkpoints.get(walk.stream)
    return begins_rightly(walk, checkpoint) or walk.broken or _ends_rightly(walk, head, checkpoint)


def begins_rightly(walk: Walk, checkpoint: AuditCheckpoint | None) -> BrokenLink | None:
    def broken(sequence: int, reason: str) -> BrokenLink:
        return BrokenLink(walk.stream, sequence, reason)

    if checkpoint is not None and not chain.is_vouched_for(checkpoint):
        return broken(checkpoint.sequence, "the checkpoint was changed")
    first = walk.first
    if first is None:
        return None
    sequence, mac = (checkpoint.sequence, checkpoint.mac) if checkpoint else (0, chain.GENESIS)
    if first.sequence <= sequence:
        return broken(first.sequence, "was removed by an export and is there again")
    if first.sequence > sequence + 1:
        return broken(sequence + 1, "is missing")
    if first.previous_mac != mac:
        return broken(first.sequence, "does not follow from the link before it")
    return None


def _ends_rightly(
    walk: Walk, head: AuditHead | None, checkpoint: AuditCheckpoint | None
) -> BrokenLink | None:
    def broken(sequence: int, reason: str) -> BrokenLink:
        return BrokenLink(walk.stream, sequence, reason)

    last = walk.last or checkpoint
    sequence, mac = (last.sequence, last.mac) if last else (0, chain.GENESIS)
    if head is None and last is None:
        return None  # there is no such stream
    if head is None:
        return broken(sequence, "is the last that is there, and the stream's head is missing")
    if not chain.is_sealed(head):
        return broken(sequence, "is the last that is there, and the stream's head was changed")
    if head.sequence > sequence:
        return broken(sequence + 1, "is missing")
    if head.sequence < sequence:
        return broken(head.sequence + 1, "is there, and the stream's head does not tell of it")
    if head.mac != mac:
        return broken(sequence, "is another than the one the stream's head tells of")
    return None


def _missing_streams() -> Iterator[BrokenLink]:
    """Streams gone with their heads. No head is ever deleted: there cannot be fewer than were counted."""
    noted = _links_of(_SYSTEM).filter(action=HEADS_NOTED).last()
    if noted is None or not chain.is_genuine(noted):
        return
    left = AuditHead.objects.filter(pk__lte=noted.data["up_to"]).count()
    if left < noted.data["streams"]:
        gone = noted.data["streams"] - left
        yield BrokenLink(_SYSTEM, noted.sequence, f"tells of {gone} more streams than are there")

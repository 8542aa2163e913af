"""The ends of the audit chains: noted once a day, and vouched for where an older version left none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Subquery

from billing import audit, customers
from billing.models import Agreement, AuditCheckpoint, AuditEvent, AuditHead
from billing.trail import chain
from billing.trail.verification import HEADS_NOTED, Walk, begins_rightly

logger = logging.getLogger(__name__)

_OF_AGREEMENT = "agreement:"


@dataclass(frozen=True, slots=True)
class Standing:
    """All heads at one moment. The same streams with the same links give the same digest."""

    streams: int
    up_to: int  # the newest head's number
    digest: str


def standing() -> Standing:
    digest, streams, up_to = hashlib.sha256(), 0, 0
    heads = AuditHead.objects.order_by("pk").values_list("pk", "stream", "sequence", "mac")
    for pk, stream, sequence, mac in heads.iterator(chunk_size=2000):
        digest.update(f"{stream} {sequence} {mac}\n".encode())
        streams, up_to = streams + 1, pk
    return Standing(streams, up_to, digest.hexdigest())


def note(*, now: datetime) -> Standing:
    """Log how all chains stand, for a log that is kept elsewhere, and chain it into the stream "system".

    The link counts the streams: verify misses one that is gone with its head. The logged MAC of the link
    proves to whoever has the log what the stream "system" held at this moment, that digest included.
    """
    found = standing()
    with transaction.atomic():
        link = audit.record(
            audit.SYSTEM,
            HEADS_NOTED,
            by="job:note_audit_heads",
            at=now,
            streams=found.streams,
            up_to=found.up_to,
            digest=found.digest,
        )
    logger.info(
        "Audit heads: %d streams, digest %s, noted as %s #%d with MAC %s",
        found.streams,
        found.digest,
        link.stream,
        link.sequence,
        link.mac,
    )
    return found


def adopt(*, now: datetime) -> tuple[list[str], list[str]]:
    """Give heads to streams without one, and move those that an older version of the code left behind.

    Only chains that hold from their beginning to their end: returns the streams adopted, and those refused.
    What was cut off before nobody can tell any more: for whoever knows that an old version wrote them.
    """
    adopted: list[str] = []
    refused: list[str] = []
    for stream in _behind():
        with transaction.atomic():
            if stream.startswith(_OF_AGREEMENT):
                _lock_agreement(stream)
            else:
                audit.lock(stream)
            (adopted if _adopt(stream) else refused).append(stream)
    if adopted:
        with transaction.atomic():
            audit.record(audit.SYSTEM, "heads_adopted", by="job:verify_audit", at=now, streams=len(adopted))
    return adopted, refused


def _behind() -> Iterator[str]:
    """Streams with links of which no head tells. A head that was changed is nobody's to mend."""
    heads = AuditHead.objects.filter(stream=OuterRef("stream"))
    without = AuditEvent.objects.filter(~Exists(heads)).order_by().values_list("stream", flat=True).distinct()
    newest = AuditEvent.objects.filter(stream=OuterRef("stream")).order_by("-sequence").values("sequence")
    lagging = AuditHead.objects.annotate(newest=Subquery(newest[:1])).filter(newest__gt=F("sequence"))
    yield from list(without)
    yield from list(lagging.values_list("stream", flat=True))


def _lock_agreement(stream: str) -> None:
    number = stream.removeprefix(_OF_AGREEMENT)
    if number.isdecimal() and Agreement.objects.filter(pk=int(number)).exists():
        customers.lock(int(number))


def _adopt(stream: str) -> bool:
    links = AuditEvent.objects.filter(stream=stream).order_by("sequence")
    walk = Walk(stream).take(links.iterator(chunk_size=2000))
    checkpoint = AuditCheckpoint.objects.filter(stream=stream).order_by("sequence").last()
    if walk.broken or begins_rightly(walk, checkpoint) or walk.last is None:
        return False
    last = walk.last
    head = AuditHead.objects.filter(stream=stream).first()
    if head is None:
        head = AuditHead(stream=stream)
    elif not chain.is_sealed(head):
        return False
    head.sequence, head.mac = last.sequence, last.mac
    head.seal = chain.head_seal(stream, last.sequence, last.mac)
    head.save()
    return True


def is_known(stream: str) -> bool:
    """Whether anything tells of it: links, a head or a checkpoint."""
    return any(
        model._default_manager.filter(stream=stream).exists()
        for model in (AuditEvent, AuditHead, AuditCheckpoint)
    )

"""What holds the audit trail together: HMACs under a key that the database does not know.

Each link's covers the link and the one before it. A stream's newest link has nothing after it that would miss
it: the stream's head is sealed too, and so is the checkpoint that stands for links that were exported.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from django.conf import settings

from billing.models import AuditCheckpoint, AuditEvent, AuditHead

GENESIS = "0" * 64  # before a stream's first link


def mac_of(link: AuditEvent) -> str:
    return sign(
        link.stream,
        link.sequence,
        link.occurred_at.isoformat(),
        link.actor,
        link.action,
        link.data,
        link.previous_mac,
    )


def is_genuine(link: AuditEvent) -> bool:
    return hmac.compare_digest(link.mac, mac_of(link))


def head_seal(stream: str, sequence: int, mac: str) -> str:
    return sign("head", stream, sequence, mac)


def is_sealed(head: AuditHead) -> bool:
    return hmac.compare_digest(head.seal, head_seal(head.stream, head.sequence, head.mac))


def checkpoint_seal(checkpoint: AuditCheckpoint) -> str:
    row = checkpoint
    return sign("checkpoint", row.stream, row.sequence, row.mac, row.removed, row.made_at.isoformat())


def is_vouched_for(checkpoint: AuditCheckpoint) -> bool:
    return hmac.compare_digest(checkpoint.seal, checkpoint_seal(checkpoint))


def sign(*parts: Any) -> str:
    """A link has seven parts and a number as its second: nothing else that is signed looks like one."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hmac.new(settings.AUDIT_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()

"""What is still known of archived uses: that a key names one, and whether told content is the same."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from accounts.models import Organization
from billing.models import ArchivedUsageKey, UsageEvent

_AT_ONCE = 500

Name = tuple[int, str]  # an organization's id and its key


class Kept(NamedTuple):
    """Of an archived use."""

    content: uuid.UUID
    occurred_at: datetime


def digest(text: str) -> uuid.UUID:
    """The first 16 bytes of the SHA-256. billing.triggers says the same in SQL."""
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


def content(dimension: str, millionths: int, tags: Mapping[str, str]) -> uuid.UUID:
    """What makes two uses of one key the same, beside the time: that counts only where it is told."""
    return digest(json.dumps([dimension, millionths, sorted(tags.items())]))


def find(organization: Organization, key: str) -> ArchivedUsageKey | None:
    keys = ArchivedUsageKey.objects.select_related("total")
    return keys.filter(organization=organization, digest=digest(key)).first()


def is_same(kept: ArchivedUsageKey | Kept, told: uuid.UUID, occurred_at: datetime | None) -> bool:
    return kept.content == told and occurred_at in (None, kept.occurred_at)


def as_event(kept: ArchivedUsageKey, told: UsageEvent) -> UsageEvent:
    """The archived use as far as it is known: what was told, and where it went. It is no row any more."""
    told.pk = kept.pk
    told.agreement_id, told.dimension_id = kept.total.agreement_id, kept.total.dimension_id
    told.disposition, told.occurred_at = kept.total.disposition, kept.occurred_at
    told._state.adding = False
    return told


def known(names: Collection[Name]) -> dict[Name, Kept]:
    """Those of ``names`` that name archived uses."""
    organizations = {organization for organization, _ in names}
    of_theirs = ArchivedUsageKey.objects.filter(organization__in=organizations).order_by()
    if not names or not of_theirs.exists():
        return {}
    told = {(organization, digest(key)): (organization, key) for organization, key in names}
    found: dict[Name, Kept] = {}
    for portion in _portions(list({each for _, each in told})):
        rows = of_theirs.filter(digest__in=portion)
        for row in rows.values_list("organization_id", "digest", "content", "occurred_at"):
            name = told.get(row[:2])
            if name is not None:
                found[name] = Kept(*row[2:])
    return found


def millionths(quantity: Decimal) -> int:
    return int(quantity.scaleb(6))


def _portions(digests: Sequence[uuid.UUID]) -> list[Sequence[uuid.UUID]]:
    return [digests[start : start + _AT_ONCE] for start in range(0, len(digests), _AT_ONCE)]

"""A metering record as it is frozen when its hour closes: every retry is these bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from billing import identity
from billing.aws import wire
from billing.aws.window import accepted_until
from billing.closing import allocations
from billing.closing.hours import Uses
from billing.models import Agreement, Dimension, MeteringRecord

logger = logging.getLogger(__name__)

State = MeteringRecord.State


def freeze(
    agreement: Agreement,
    dimension: Dimension,
    hour: datetime,
    *,
    usage: Sequence[Uses],
    included: int,
    region: str,
    now: datetime,
) -> MeteringRecord:
    """The record of ``usage``, of which ``included`` millionths are not billed; not saved yet."""
    used = sum(uses.millionths for uses in usage)
    quantity = _decimal(used - included)
    tagged = ((dict(uses.tags), _decimal(uses.millionths)) for uses in usage)
    split = allocations.allocate(tagged, quantity=quantity)
    if split.folded:
        logger.warning("Agreement %s, %s: %s tag sets went untagged", agreement.pk, hour, split.folded)
    # AWS refuses an instant before the license starts, and with it the whole batch.
    assert agreement.activated_at is not None
    is_due = bool(quantity) or settings.METERING_HEARTBEAT
    return MeteringRecord(
        agreement=agreement,
        dimension=dimension,
        hour=hour,
        used=_decimal(used),
        included=_decimal(included),
        quantity=quantity,
        **identity.columns(agreement),
        wire_region=region,
        wire_timestamp=max(hour, agreement.activated_at),
        wire_quantity=wire.quantity_text(quantity),
        wire_allocations=split.json,
        state=State.DUE if is_due else State.NOT_DUE,
        submit_by=accepted_until(hour, closes_at=agreement.metering_closes_at),
        closed_at=now,
        settled_at=None if is_due else now,
    )


def _decimal(millionths: int) -> Decimal:
    return Decimal(millionths).scaleb(-6)

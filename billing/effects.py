"""What a change of state owes the world: rows written with the change, done afterwards by a task.

A crash between the two loses nothing, and doing one twice changes nothing.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db.models import F

from billing import entitlements, metering
from billing.aws.errors import MarketplaceError
from billing.aws.types import Marketplace
from billing.models import Agreement, Effect

logger = logging.getLogger(__name__)


def owe(
    agreement: Agreement,
    kind: Effect.Kind,
    *,
    cause: str,
    caused_at: datetime,
    due_at: datetime | None = None,
) -> None:
    """Owe ``kind`` once for this ``cause``. Runs inside the transaction of the change."""
    Effect.objects.get_or_create(
        agreement=agreement,
        kind=kind,
        cause=cause,
        defaults={"caused_at": caused_at, "due_at": due_at or caused_at},
    )


def run_due(marketplace: Marketplace, *, now: datetime) -> int:
    """Do what is due, oldest first; what AWS refuses now stays due. Returns how many were done."""
    done = 0
    for effect in Effect.objects.filter(state=Effect.State.DUE, due_at__lte=now).order_by("due_at", "pk"):
        try:
            _do(effect, marketplace, now=now)
        except MarketplaceError as error:
            logger.warning("Effect %s of agreement %s: %s", effect.pk, effect.agreement_id, error.code)
            _put_off(effect, f"{error.code}: {error.message}", now=now)
            continue
        except Exception as error:  # one effect's trouble must not keep the others from being done
            logger.exception("Effect %s of agreement %s failed", effect.pk, effect.agreement_id)
            _put_off(effect, f"{type(error).__name__}: {error}", now=now)
            continue
        Effect.objects.filter(pk=effect.pk, state=Effect.State.DUE).update(
            state=Effect.State.DONE, done_at=now, attempts=F("attempts") + 1, error=""
        )
        done += 1
    return done


def _put_off(effect: Effect, error: str, *, now: datetime) -> None:
    pause = min(timedelta(minutes=10), timedelta(seconds=15) * 2 ** min(effect.attempts, 10))
    Effect.objects.filter(pk=effect.pk, state=Effect.State.DUE).update(
        attempts=F("attempts") + 1, error=error, due_at=now + pause
    )


def _do(effect: Effect, marketplace: Marketplace, *, now: datetime) -> None:
    agreement = Agreement.objects.select_related("product", "customer").get(pk=effect.agreement_id)
    match Effect.Kind(effect.kind):
        case Effect.Kind.SYNC_ENTITLEMENTS:
            entitlements.sync(
                agreement, marketplace=marketplace, now=now, since=effect.caused_at, because=effect.cause
            )
        case Effect.Kind.FLUSH_USAGE:
            metering.close_agreement(agreement.pk, region=marketplace.metering_region, now=now)

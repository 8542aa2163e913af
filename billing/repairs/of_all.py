"""Jobs that an operator starts before their time: a product's walk, and the submitter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from billing import audit, submission, walk
from billing.aws.errors import MarketplaceError
from billing.decision_rules import Refused
from billing.decisions import Decided
from billing.models import MeteringRecord, Product
from billing.repairs.kinds import Chunk, Foreseen, Parameters, Repair, Result, amount_of, one_by_one

# Longer than either takes, or the worker lets it.
_LONG = timedelta(minutes=20)


class WalkProduct(Repair):
    """Every agreement of a product, 25 rows a call."""

    name, permission = "walk_product", "sync_entitlements"
    model = Product
    asks_aws, chunk, patience = True, 1, _LONG
    title = _("Read all entitlements now")
    effect = _(
        "AWS is asked for all entitlements of the product, as it is each hour. What it says opens and closes "
        "access at once. If more than a fifth of them were gone, nothing is applied."
    )

    def fits(self, row: Product) -> bool:
        return row.has_entitlements

    def foresee(self, rows: Sequence[Product], parameters: Parameters, *, now: datetime) -> Foreseen:
        by_pk = {row.pk: row for row in rows}
        decided = one_by_one(by_pk, lambda pk: _has_entitlements(by_pk[pk]))
        count = len(decided.done)
        amount = ngettext("%(count)s product", "%(count)s products", count) % {"count": count}
        return Foreseen(decided, amount if count else "")

    def carry_out(self, chunk: Chunk) -> Result:
        def read(pk: int) -> bool:
            product = Product.objects.get(pk=pk)
            _has_entitlements(product)
            _note(chunk, "product_synced", product=pk)
            try:
                is_believed = walk.walk(product, chunk.marketplace(), now=chunk.now)
            except MarketplaceError as error:
                raise Refused(
                    gettext("AWS was not read (%(code)s). %(fix)s")
                    % {"code": error.code, "fix": error.meaning.fix}
                ) from error
            if not is_believed:
                raise Refused(
                    gettext(
                        "AWS lists so few entitlements that it cannot be true: nothing was applied. Compare "
                        "with AWS Marketplace, then read single agreements."
                    )
                )
            return True

        return Result(one_by_one(chunk.rows, read))


class SubmitNow(Repair):
    """Whatever is due: which record leaves first is the submitter's business."""

    name, permission = "submit_now", "submit_usage"
    asks_aws, patience = True, _LONG
    title = _("Send usage now")
    effect = _(
        "Everything that is due is sent to AWS now, soonest deadline first, instead of within five minutes. "
        "If it is being sent already, nothing more happens."
    )

    def foresee(self, rows: Sequence[object], parameters: Parameters, *, now: datetime) -> Foreseen:
        due = self._due()
        count = due.aggregate(n=Count("pk"), total=Sum("quantity"))["n"]
        counted = ngettext("%(count)s record", "%(count)s records", count) % {"count": count}
        amount = amount_of(due, counted) if count else gettext("Nothing is due.")
        return Foreseen(Decided(), amount)

    def carry_out(self, chunk: Chunk) -> Result:
        _note(chunk, "submission_asked_for")
        accepted = submission.submit_due(chunk.marketplace(), now=chunk.now)
        return Result(
            Decided(),
            ngettext(
                "AWS accepted %(count)s record. What another run has in hand is not counted.",
                "AWS accepted %(count)s records. What another run has in hand is not counted.",
                accepted,
            )
            % {"count": accepted},
        )

    def _due(self) -> QuerySet[MeteringRecord]:
        return MeteringRecord.objects.sendable()


def _has_entitlements(product: Product) -> bool:
    if not product.has_entitlements:
        raise Refused(gettext("It is a subscription: it has no entitlements, being active is all it grants."))
    return True


def _note(chunk: Chunk, action: str, **ids: int) -> None:
    with transaction.atomic():
        audit.record(audit.STAFF, action, by=chunk.by, at=chunk.now, reason=chunk.reason, **ids)

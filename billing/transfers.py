"""A purchase moves to another organization: what an operator does when it was claimed for the wrong one.

What was used before stays the old organization's, and is billed all the same: AWS bills the license, not the
workspace. Access moves at once. Both organizations are told. billing.tenures says whose is what afterwards.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from billing import audit, customers, owed
from billing.decision_rules import Refused
from billing.mailing import transfer_mails
from billing.models import Agreement, AgreementMove

Status = Agreement.Status


def check(agreement: Agreement, *, to: Organization) -> bool:
    """Whether it moves (False: it is there already). Raises Refused."""
    if agreement.organization_id is None:
        raise Refused(
            _(
                "Nobody has set it up yet. The buyer does, with “Set up your account” in AWS Marketplace, "
                "and chooses the workspace."
            )
        )
    if agreement.organization_id == to.pk:
        return False
    if to.closed_at is not None:
        raise Refused(_("This workspace is closed: nobody is in it."))
    match agreement.status:
        case Status.ACTIVE:
            return True
        case Status.PENDING:
            raise Refused(_("AWS has not confirmed it yet. Move it once it is active."))
        case _over:
            raise Refused(
                _("It is “%(status)s”: there is no access left to move.")
                % {"status": agreement.get_status_display()}
            )


def transfer(
    agreement_pk: int,
    *,
    to: Organization,
    by: User,
    reason: str,
    now: datetime,
    seen: str | None = None,
) -> bool:
    """Move it, and with it what it renews and what renews it as far as that is not over.

    ``seen`` is the organization (its key) from which somebody decided to move it. Returns whether anything
    changed. Raises Refused.
    """
    with transaction.atomic():
        chain = customers.lock_many(_chain(agreement_pk))
        agreement = next(each for each in chain if each.pk == agreement_pk)
        # Closing a workspace holds this row and looks for purchases: one of the two comes first.
        target = Organization.objects.select_for_update(no_key=True).get(pk=to.pk)
        if not check(agreement, to=target):
            return False
        old = agreement.organization
        assert old is not None
        if seen is not None and seen != str(old.pk):
            raise Refused(_("Somebody else has moved it since you looked at it. Look at it again."))
        for each in chain:
            if each.organization_id == old.pk:
                each.organization = target
                each.save(update_fields=["organization"])
                AgreementMove.objects.create(
                    agreement=each, from_organization=old, to_organization=target, moved_at=now, moved_by=by
                )
                ids = {"organization": target.pk, "before": old.pk}
                audit.record(each, "transferred", by=by, at=now, reason=reason, **ids)
        owed.owe(agreement, transfer_mails.moved(old, target, at=now))
    return True


def _chain(agreement_pk: int) -> list[int]:
    """It, and those before and after it that still count for the same buyer."""
    found = {agreement_pk}
    while True:
        beside = Agreement.objects.filter(previous__in=found) | Agreement.objects.filter(successor__in=found)
        live = beside.exclude(status__in=[Status.ENDED, Status.FAILED])
        more = set(live.values_list("pk", flat=True)) - found
        if not more:
            return sorted(found)
        found |= more

"""Under which identity a purchase is metered: its license, or its product code and customer.

AWS bills an hour twice that is metered under both. So a record has exactly one, a purchase changes over once,
and a trigger refuses a record where the other identity has one.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from accounts.models import User
from billing import audit, customers
from billing.models import Agreement, MeteringRecord

State = MeteringRecord.State

# What may still be sent, or sent again: under the identity that it was frozen with.
_UNSETTLED = (*MeteringRecord.UNSETTLED, State.PARKED)


class SwitchRefused(Exception):
    """The purchase cannot change over now; the text says what must happen first."""


def columns(agreement: Agreement) -> dict[str, str | None]:
    """The identity of a record that closes now, as its columns: exactly one."""
    customer = agreement.customer
    if agreement.identity == Agreement.Identity.LICENSE:
        return {"wire_license_arn": agreement.license_arn, "wire_account_id": customer.aws_account_id}
    if customer.aws_account_id is not None:
        return {"wire_product_code": agreement.product.code, "wire_account_id": customer.aws_account_id}
    return {
        "wire_product_code": agreement.product.code,
        "wire_customer_identifier": customer.customer_identifier,
    }


def can_be_metered(agreement: Agreement) -> bool:
    """Whether AWS has told all that the agreement's identity needs."""
    if agreement.identity == Agreement.Identity.LEGACY:
        return True
    return agreement.license_arn is not None and agreement.customer.aws_account_id is not None


@transaction.atomic
def switch_to_license(agreement_pk: int, *, by: User | str, reason: str, now: datetime) -> Agreement:
    """Meter a legacy purchase under its license from the next hour to close on. Twice changes nothing.

    For listings that opted in to Concurrent Agreements. Raises SwitchRefused.
    """
    agreement = customers.lock(agreement_pk)
    if agreement.identity == Agreement.Identity.LICENSE:
        return agreement
    if agreement.license_arn is None:
        raise SwitchRefused(
            "AWS has not told the license of this purchase yet. It comes with its next event (License "
            "Updated) or when the buyer opens “Set up your account”."
        )
    if agreement.customer.aws_account_id is None:
        raise SwitchRefused("AWS has not told the buyer's account yet. It comes when the buyer registers.")
    unsettled = agreement.metering_records.filter(state__in=_UNSETTLED).count()
    if unsettled:
        raise SwitchRefused(
            f"{unsettled} records of this purchase are not settled. Wait until AWS has them, or decide about "
            "the parked and held ones: sent under the new identity too, they would be billed twice."
        )
    agreement.identity = Agreement.Identity.LICENSE
    agreement.save(update_fields=["identity"])
    audit.record(agreement, "switched_to_license", by=by, at=now, reason=reason)
    return agreement

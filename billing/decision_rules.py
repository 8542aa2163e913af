"""Which decision changes what of a row, and why not of another: rules over one row, that write nothing.

billing.decisions applies them under the lock; the console asks them first, to say what would happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from billing import identity
from billing.aws.window import accepted_until
from billing.models import Agreement, MeteringRecord, UsageEvent

State = MeteringRecord.State
Disposition = UsageEvent.Disposition

GIVEN_UP = (State.PARKED, State.EXPIRED, State.CONFLICT, State.HELD, State.WAITING)


class Refused(Exception):
    """This row stays as it is; the text says why, and what to do."""


RecordRule = Callable[[Agreement, MeteringRecord, bool, datetime], Mapping[str, Any] | None]
"""What changes of a record (None: it is so already), given whether AWS may hold it. Raises Refused."""

UsageRule = Callable[[Agreement, UsageEvent, datetime], bool]
"""Whether the use changes (False: it is so already). Raises Refused."""


def retry(
    agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool, now: datetime
) -> Mapping[str, Any] | None:
    match record.state:
        case State.DUE | State.WAITING:
            return None
        case State.PARKED:
            pass
        case State.CONFLICT:
            raise Refused(
                _(
                    "AWS holds another quantity for this hour, and the first one counts: sending it again "
                    "mends nothing. Compare with AWS's usage report, then write it off."
                )
            )
        case State.EXPIRED:
            raise Refused(
                _(
                    "AWS's window for its hour is over. Void it and bill its usage in an open hour, or "
                    "write it off."
                )
            )
        case _other:
            raise Refused(_why_not(record, _("Only parked records can be sent again.")))
    submit_by = accepted_until(record.hour, closes_at=agreement.metering_closes_at)
    if submit_by <= now:
        raise Refused(
            _(
                "AWS took its hour until %(until)s UTC. Void it and bill its usage in an open hour, or "
                "write it off."
            )
            % {"until": f"{submit_by:%Y-%m-%d %H:%M}"}
        )
    return {**_again(is_maybe_taken), "submit_by": submit_by}


def hold(
    agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool, now: datetime
) -> Mapping[str, Any] | None:
    if record.state == State.HELD:
        return None
    if record.state not in (State.DUE, State.WAITING):
        raise Refused(_why_not(record, _("Only what is due or waiting can be held.")))
    return {"state": State.HELD, "next_attempt_at": None}


def resume(
    agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool, now: datetime
) -> Mapping[str, Any] | None:
    if record.state in (State.DUE, State.WAITING):
        return None
    if record.state != State.HELD:
        raise Refused(_why_not(record, _("Only held records can be resumed.")))
    return _again(is_maybe_taken)


def write_off(
    agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool, now: datetime
) -> Mapping[str, Any] | None:
    if record.state == State.WRITTEN_OFF:
        return None
    if record.state not in GIVEN_UP:
        raise Refused(_why_not(record, _("Hold it first: it is about to be sent.")))
    return {"state": State.WRITTEN_OFF, "next_attempt_at": None, "settled_at": now}


def void(
    agreement: Agreement, record: MeteringRecord, is_maybe_taken: bool, now: datetime
) -> Mapping[str, Any] | None:
    if record.state == State.VOID:
        return None
    if record.state not in (State.PARKED, State.EXPIRED):
        raise Refused(_why_not(record, _("Only parked and expired records can be voided.")))
    if is_maybe_taken:
        raise Refused(
            _(
                "AWS may hold it: one send of it was never answered. Billing its usage again could bill the "
                "buyer twice. Compare with AWS's usage report, then write it off."
            )
        )
    return {"state": State.VOID, "settled_at": now}


def write_off_usage(agreement: Agreement, event: UsageEvent, now: datetime) -> bool:
    return _is_to_change(event, Disposition.WRITTEN_OFF)


def bill_late_usage(agreement: Agreement, event: UsageEvent, now: datetime) -> bool:
    if not _is_to_change(event, Disposition.BILLABLE):
        return False
    if agreement.activated_at is None:
        raise Refused(_("The agreement was never active: AWS takes nothing of it. Write the usage off."))
    closes_at = agreement.metering_closes_at
    is_over = agreement.status in (Agreement.Status.ENDED, Agreement.Status.FAILED)
    if is_over or (closes_at is not None and closes_at <= now):
        raise Refused(_("The agreement is over and AWS takes nothing of it any more. Write the usage off."))
    if not identity.can_be_metered(agreement):
        raise Refused(
            _(
                "AWS has not told the whole license ARN or the buyer's account yet. It comes with its next "
                "event; try again then."
            )
        )
    return True


def changed_since(then: str, now: str) -> str:
    """Why nothing was done to a row that is not what the person saw any more."""
    return _(
        "It has changed since you looked at it: it was “%(then)s” and is “%(now)s” now. Look at it again."
    ) % {"then": then, "now": now}


def _is_to_change(event: UsageEvent, disposition: Disposition) -> bool:
    if event.disposition == disposition and event.metering_record_id is None:
        return False
    if event.disposition != Disposition.TOO_LATE:
        what = {"disposition": event.get_disposition_display()}
        raise Refused(
            _("It is “%(disposition)s” and in a closed hour: not too late usage.") % what
            if event.metering_record_id
            else _("It is “%(disposition)s”: not too late usage.") % what
        )
    return True


def _again(is_maybe_taken: bool) -> Mapping[str, Any]:
    """Sendable again. What AWS may hold since an earlier send is in doubt still."""
    return {
        "state": State.IN_DOUBT if is_maybe_taken else State.DUE,
        "claimed_by": None,  # no submitter's: the one at work may take it at once
        "next_attempt_at": None,
        "error_code": "",
        "error_message": "",
        "settled_at": None,
    }


def _why_not(record: MeteringRecord, otherwise: str) -> str:
    match record.state:
        case State.IN_DOUBT:
            return _(
                "It was sent and AWS has not answered. It is sent again by itself: decide once it is "
                "answered."
            )
        case State.ACCEPTED:
            return _(
                "AWS has billed it. Refund it in the AWS Marketplace Management Portal (Billing → refund "
                "request)."
            )
        case _other:
            return _("It is “%(state)s”. %(otherwise)s") % {
                "state": record.get_state_display(),
                "otherwise": otherwise,
            }

"""A record's state against what AWS answered, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from billing.models import MeteringRecord
from billing.reconciliation.breach import Breach
from billing.reconciliation.reading import Account, Line


def check(account: Account) -> Iterator[Breach]:
    for record in account.checked():
        lines = account.lines.get(record.pk, [])
        wrong = _wrong(record, lines)
        if wrong:
            yield account.breach(
                "state",
                record,
                f"is {record.state}, but {wrong}",
                expected=record.state,
                found=", ".join(line.status or "no answer" for line in lines) or "no line",
            )


def _wrong(record: MeteringRecord, lines: Sequence[Line]) -> str:
    """Why the lines cannot have led to the state; '' if they can."""
    last = lines[-1] if lines else None
    successes = [line for line in lines if line.status == "Success"]
    if record.state == "accepted":
        return _wrong_acceptance(record, lines, successes)
    if successes:
        return f"line {successes[0].pk} says that AWS accepted it"
    taken = any(line.maybe_taken for line in lines)
    duplicate = any(line.status == "DuplicateRecord" for line in lines)
    match record.state:
        case "not_due" if lines or record.quantity:
            return "it was sent or has something to bill"
        case "in_doubt" if not taken:
            return "no line leaves it in doubt"
        case "due" if taken:
            return "AWS may hold it since a line without a known answer"
        case "due" | "in_doubt" | "waiting" | "parked" | "void" if duplicate:
            return "AWS called it a duplicate"
        case "waiting" if not any(line.status == "CustomerNotSubscribed" for line in lines):
            return "AWS never said that the customer is not subscribed"
        case "conflict" if last is None or last.status != "DuplicateRecord":
            return "its last line is no DuplicateRecord"
        case "conflict" if taken:
            return "the duplicate may be its own earlier send"
        case "parked" if last is None or last.status != record.error_code or last.outcome != "refused":
            return f"its last line is not a refusal with {record.error_code or 'a code'}"
        case "void" if taken:
            return "AWS may hold it since a line without a known answer"
    return ""


def _wrong_acceptance(record: MeteringRecord, lines: Sequence[Line], successes: Sequence[Line]) -> str:
    if successes:
        if any(line.aws_record_id == record.aws_record_id for line in successes):
            return ""
        return f"AWS's id is {successes[-1].aws_record_id}, not {record.aws_record_id}"
    maybe = False
    for line in lines:
        if line.status == "DuplicateRecord" and maybe:
            return "" if record.aws_record_id is None else "a duplicate has no id of AWS's"
        maybe = maybe or line.maybe_taken
    return "no line says that AWS accepted it"
